"""A chat server with a Limner in it, and a browser that asks its app."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limner.adapters.image_folder import FolderImageStore
from limner.adapters.inspection import PillowInspector
from tests.adapters.web.browser import Answer, Browser
from tests.studio import Studio, tag
from tests.support import settle

SECRET = b"a secret that every test knows"


@dataclass
class Chat:
    """`fox` is the message that most tests are about."""

    studio: Studio
    browser: Browser

    async def post(self, path: str, **fields: object) -> Answer:
        """Post what the page of a reader posts who was given the message."""
        token = self.studio.limner.message_token(str(fields.get("message", "fox")))
        return await self.browser.post(path, fields, {"limner-token": token})

    async def start(self, *prompts: str, message_id: str = "fox") -> None:
        """Stream a text with these prompts, and go on before its images are done."""
        text = "".join(f"Look: {tag(prompt)}\n" for prompt in prompts)
        async for _ in self.studio.limner.illustrate(message_id, text):
            pass
        await settle()

    async def finish(self) -> None:
        """Let every image be painted."""
        self.studio.painter.release_all()
        await self.studio.tick(0)


@asynccontextmanager
async def chat(
    *,
    hold: bool = False,
    folder: Path | None = None,
    app: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
    **settings: Any,
) -> AsyncIterator[Chat]:
    """A running Limner and its app. With `folder` images are real files in it."""
    if folder is not None:
        settings = {
            "images": FolderImageStore(folder, "/limner/images"),
            "inspector": PillowInspector(),
            **settings,
        }
    async with Studio(hold=hold, web_secret=SECRET, **settings) as studio:
        yield Chat(studio, Browser(studio.limner.asgi(**(app or {})), headers))
