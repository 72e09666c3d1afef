"""
title: Limner
description: Paints the pictures that a reply asks for while it is written, and puts them into it.
author: The Limner contributors
version: 0.1.0
license: MIT
required_open_webui_version: 0.6.0
"""

# Paste this into Open WebUI: Admin Panel, Functions, Create. It needs Limner installed where Open WebUI runs:
# docs/chats.md says how. (A line `requirements:` above would do it, once Limner is on a package index.)

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

from pydantic import BaseModel, Field

from limner.adapters.sinks.open_webui import OpenWebUIFilter, OpenWebUISettings

INSTRUCTION = """\
Where a picture would help or delight the reader, write an image prompt on a line of its own, exactly so:

<!--img-prompt="DESCRIPTION"-->

Replace DESCRIPTION by one or two English sentences for a painter who has not read your text: what is to be \
seen, in what light, in what style. Never mention the prompts, and write no other pictures."""

Emitter = Callable[[dict[str, Any]], Awaitable[object]]


class Filter:
    """Open WebUI calls `inlet`, `stream` and `outlet`, and sets `valves` before it does."""

    class Valves(BaseModel):
        """What an administrator can set."""

        priority: int = Field(default=0, description="Filters with a higher number run later.")
        generator: str = Field(
            default="sketch",
            description="Who paints: 'sketch', the address of an A1111, Forge or SD.Next server, "
            "'openai=URL', 'comfyui=URL', 'horde' …",
        )
        pictures: Literal["files", "thumbnails", "folder"] = Field(
            default="files",
            description="'files': in Open WebUI's cache folder. 'thumbnails': small, in the message itself. "
            "'folder': in the folder below, which a server of yours hands out at the address below.",
        )
        folder: str = Field(default="", description="Only for pictures = 'folder'.")
        base_url: str = Field(default="", description="Only for pictures = 'folder': the folder's address.")
        max_concurrent: int = Field(
            default=4, description="How many pictures are painted at once, of all chats."
        )
        max_per_message: int = Field(default=3, description="How many of them for one reply.")
        min_interval_ms: int = Field(
            default=0, description="The least time between two starts, in milliseconds."
        )
        wait_seconds: int = Field(
            default=300, description="How long a finished reply waits for its pictures."
        )
        instruction: str = Field(default=INSTRUCTION, description="What the model is told; empty: nothing.")

    def __init__(self) -> None:
        self.valves = self.Valves()
        self._limner = OpenWebUIFilter(self._settings)

    def _settings(self) -> OpenWebUISettings:
        return OpenWebUISettings(**self.valves.model_dump(exclude={"priority"}))

    async def inlet(
        self,
        body: dict[str, Any],
        __metadata__: dict[str, Any] | None = None,
        __event_emitter__: Emitter | None = None,
    ) -> dict[str, Any]:
        """The request on its way to the model."""
        return await self._limner.inlet(body, __metadata__, __event_emitter__)

    async def stream(
        self,
        event: dict[str, Any],
        __metadata__: dict[str, Any] | None = None,
        __event_emitter__: Emitter | None = None,
    ) -> dict[str, Any]:
        """An event of the reply."""
        return await self._limner.stream(event, __metadata__, __event_emitter__)

    async def outlet(
        self,
        body: dict[str, Any],
        __metadata__: dict[str, Any] | None = None,
        __event_emitter__: Emitter | None = None,
    ) -> dict[str, Any]:
        """The finished reply."""
        return await self._limner.outlet(body, __metadata__, __event_emitter__)
