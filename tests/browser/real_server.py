"""The real app in front of a real Limner, with a painter that paints when the test says so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route

from limner import Limner
from limner.adapters.callable import CallableGenerator
from limner.adapters.demo.serving import listening_socket
from limner.adapters.image_folder import FolderImageStore
from limner.adapters.journal_memory import MemoryJournal
from limner.adapters.message_memory import MemoryMessageStore
from limner.errors import Moderated
from limner.states.outcome import Result
from limner.workflows.ports import Capabilities, GenerationRequest, ProgressCallback
from tests.browser.scripted_server import PAGE, picture

T = TypeVar("T")

DEBOUNCE_MS = 400
"""Long enough for two clicks of the test to be one batch, and short enough not to be waited for."""


class RealServer:
    """A chat server on a port of its own, in a thread of its own. All methods may be called from the test's.

    Images are painted when `paint` says so; each shows half of its progress and a preview before.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        self._socket = listening_socket(0)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/"
        self.messages: tuple[str, ...] = ("m1",)
        self._brushes: dict[str, asyncio.Semaphore] = {}
        self._painted = 0
        self._tokens: asyncio.Queue[str | None] = asyncio.Queue()
        self._refused: set[str] = set()
        self._up = threading.Event()
        self._thread = threading.Thread(
            target=lambda: self._loop.run_until_complete(self._serve()), daemon=True
        )
        self.store = MemoryMessageStore()

    def __enter__(self) -> RealServer:
        self._thread.start()
        assert self._up.wait(20)
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(20)
        self._loop.close()

    def _stop(self) -> None:
        self._server.force_exit = self._server.should_exit = True

    async def _serve(self) -> None:
        generator = CallableGenerator.with_request(
            self._paint, capabilities=Capabilities(progress=True, preview=True)
        )
        async with Limner(
            generator,
            store=self.store,
            journal=MemoryJournal(),
            images=FolderImageStore(self._folder, base_url="/limner/images"),
            data_dir=self._folder,
            debounce_ms=DEBOUNCE_MS,
            shutdown_timeout_ms=0,
        ) as self.limner:
            app = Starlette(routes=[Route("/", self._page), Mount("/limner", self.limner.asgi())])
            config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none")
            self._server = uvicorn.Server(config)
            self._up.set()
            await self._server.serve(sockets=[self._socket])

    async def _page(self, request: Request) -> HTMLResponse:
        elements = "".join(
            f"<limner-message message='{message}' token='{token}'></limner-message>"
            for message, token in ((m, self.limner.message_token(m)) for m in self.messages)
        )
        return HTMLResponse(PAGE.replace("CONTENT", elements))

    # --- what the test lets happen

    def begin(self, message: str = "m1") -> Future[None]:
        """Stream a message; `say` gives its text."""

        async def tokens() -> AsyncIterator[str]:
            while (token := await self._tokens.get()) is not None:
                yield token

        async def illustrate() -> None:
            async for _ in self.limner.illustrate(message, tokens()):
                pass

        return self._soon(illustrate())

    def say(self, *tokens: str | None) -> None:
        """More text of the message; None ends it."""
        for token in tokens:
            self._loop.call_soon_threadsafe(self._tokens.put_nowait, token)

    def paint(self, *prompts: str) -> None:
        """Let one image of each of these prompts be finished."""
        for prompt in prompts:
            self._loop.call_soon_threadsafe(self._brush(prompt).release)

    def refuse(self, prompt: str) -> None:
        """Let the backend refuse the prompt from now on."""
        self._refused.add(prompt)

    def take(self, prompt: str) -> None:
        """Let the backend take the prompt again."""
        self._refused.discard(prompt)

    def finished(self, message: str = "m1") -> Result:
        """Wait for the end of the message's session."""

        async def finished() -> Result:
            return await self.limner.finished(message)

        return self._soon(finished()).result(20)

    def text(self, message: str = "m1") -> str:
        """The message as it is stored."""

        async def text() -> str:
            return await self.limner.text(message)

        return self._soon(text()).result(20)

    def _soon(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    # --- the painter

    def _brush(self, prompt: str) -> asyncio.Semaphore:
        return self._brushes.setdefault(prompt, asyncio.Semaphore(0))

    async def _paint(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        if request.prompt in self._refused:
            raise Moderated("the model refused this prompt")
        self._painted += 1
        name = f"{request.prompt} {self._painted}"
        report(0.5, picture(f"preview of {name}"))
        await self._brush(request.prompt).acquire()
        return picture(name)
