"""A whole Limner with fakes around it, for tests that look at what happens and not at who does it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.lowlevel

from limner.adapters.journal_memory import MemoryJournal
from limner.adapters.limner import Limner
from limner.adapters.message_memory import MemoryMessageStore
from limner.errors import NotAnImage
from limner.states.outcome import Result
from limner.text import find_images
from limner.workflows.ports import Generator, ImageInfo, StoredMessage
from tests.support import FakeImageStore, FakePainter, ManualClock, settle


class FakeInspector:
    """Takes every PNG for a picture of 8 × 8 pixels and anything else for none, without a thread."""

    async def inspect(self, data: bytes) -> ImageInfo:
        await anyio.lowlevel.checkpoint()
        if not data.startswith(b"\x89PNG"):
            raise NotAnImage("no PNG")
        return ImageInfo(data, "image/png", 8, 8, b"small " + data, "image/png")

    async def thumbnail(self, data: bytes) -> tuple[bytes, str] | None:
        await anyio.lowlevel.checkpoint()
        return (b"small " + data, "image/png") if data.startswith(b"\x89PNG") else None


class ScriptedStore(MemoryMessageStore):
    """A real store in memory that fails, waits and is edited when the test says so.

    `read_errors` and `write_errors` are raised by the next calls, one each. `after_read` is called after
    each read with the number of reads so far, before the reader has the answer: an editor who is quick.
    `reads_held` and `writes_held` make calls wait until they are set to None and `release` is called.
    """

    def __init__(self, messages: dict[str, str] | None = None) -> None:
        super().__init__(messages)
        self.reads = 0
        self.attempts = 0
        self.read_errors: list[Exception] = []
        self.write_errors: list[Exception] = []
        self.after_read: Callable[[int], Awaitable[object]] | None = None
        self.reads_held: anyio.Event | None = None
        self.writes_held: anyio.Event | None = None
        self.written: list[tuple[str, str]] = []

    def hold_reads(self) -> None:
        self.reads_held = anyio.Event()

    def hold_writes(self) -> None:
        self.writes_held = anyio.Event()

    def release(self) -> None:
        """Let go on whatever waits."""
        for gate in (self.reads_held, self.writes_held):
            if gate is not None:
                gate.set()
        self.reads_held = self.writes_held = None

    def image_writes(self, message_id: str) -> list[str]:
        """The texts with images in them that were written into the message."""
        return [text for written, text in self.written if written == message_id and find_images(text)]

    async def edit(self, message_id: str, text: str) -> None:
        """What a person does who edits the message: not counted as a write."""
        present = await MemoryMessageStore.read(self, message_id)
        await super().write(message_id, text, expected=None if present is None else present.version)

    async def read(self, message_id: str) -> StoredMessage | None:
        if self.reads_held is not None:
            await self.reads_held.wait()
        self.reads += 1
        if self.read_errors:
            raise self.read_errors.pop(0)
        found = await super().read(message_id)
        if self.after_read is not None:
            await self.after_read(self.reads)
        return found

    async def write(self, message_id: str, text: str, *, expected: str | None) -> str:
        if self.writes_held is not None:
            await self.writes_held.wait()
        self.attempts += 1
        if self.write_errors:
            raise self.write_errors.pop(0)
        version = await super().write(message_id, text, expected=expected)
        self.written.append((message_id, text))
        return version


class Studio:
    """A running `Limner` whose clock stands still: `tick` moves it and rings what is due.

    Anything in `settings` goes to `Limner`. Leaving the block does not wait for sessions.
    """

    def __init__(
        self,
        *,
        hold: bool = False,
        store: ScriptedStore | None = None,
        painter: Generator | None = None,
        **settings: Any,
    ) -> None:
        self.clock = ManualClock()
        self.painter = FakePainter(hold=hold)
        self.store = store or ScriptedStore()
        self.images = FakeImageStore()
        self.limner = Limner(
            painter or self.painter,
            **{
                "store": self.store,
                "images": self.images,
                "inspector": FakeInspector(),
                "clock": self.clock,
                "journal": MemoryJournal(),
                "shutdown_timeout_ms": 0,
                **settings,
            },
        )

    async def __aenter__(self) -> Self:
        await self.limner.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.limner.__aexit__(kind, error, traceback)

    async def tick(self, milliseconds: int) -> None:
        """Let everything happen that needs no time, then let time pass, and again."""
        await settle()
        self.clock.tick(milliseconds)
        self.limner.alarm.ring()
        await settle()

    async def illustrate(self, message_id: str, text: str, size: int = 4) -> Result:
        """Stream a text and wait for the end of its session."""
        async for _ in self.limner.illustrate(message_id, split(text, size)):
            pass
        return await self.limner.finished(message_id)

    def state(self, message_id: str) -> str | None:
        """The state of the message's live session; None where none is live."""
        session = self.limner.manager.get_session(message_id)
        return None if session is None else session.state

    async def text(self, message_id: str) -> str:
        """The message as it is stored."""
        stored = await MemoryMessageStore.read(self.store, message_id)
        assert stored is not None
        return stored.text

    async def urls(self, message_id: str) -> list[str]:
        """The addresses of the images that stand in the message."""
        return [image.src for image in find_images(await self.text(message_id))]


def split(text: str, size: int = 4) -> list[str]:
    """The text in pieces of `size` characters."""
    return [text[start : start + size] for start in range(0, len(text), size)]


def tag(prompt: str) -> str:
    """A prompt as a model marks it."""
    return f'<img_prompt="{prompt}">'
