"""Writers that say what a test wants, when it wants, and a chat around them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel

from limner.adapters.demo.chat import Chat, ChatStore
from limner.adapters.demo.conversation import Conversation
from limner.adapters.demo.writers import Turn, Writer
from limner.adapters.limner import Limner
from limner.errors import BackendError
from limner.workflows.ports import Generator, ImageStore
from tests.studio import FakeInspector
from tests.support import FakeImageStore, FakePainter


class ScriptedWriter:
    """Writes the replies that it was given, one after the other; `turns` are those of each call.

    A piece that is an event is waited for, one that is an error is raised.
    """

    name = "a scripted writer"

    def __init__(self, *replies: Sequence[str | anyio.Event | BackendError]) -> None:
        self.replies = list(replies)
        self.turns: list[list[Turn]] = []
        self.closed = 0

    @asynccontextmanager
    async def reply(self, turns: Sequence[Turn]) -> AsyncIterator[AsyncIterator[str]]:
        self.turns.append(list(turns))
        pieces = _pieces(self.replies.pop(0))
        try:
            yield pieces
        finally:
            await pieces.aclose()
            self.closed += 1


async def _pieces(script: Sequence[str | anyio.Event | BackendError]):
    for piece in script:
        await anyio.lowlevel.checkpoint()
        if isinstance(piece, BackendError):
            raise piece
        if isinstance(piece, str):
            yield piece
        else:
            await piece.wait()


class Left(Exception):
    """Leaves the block as Ctrl-C does."""


@asynccontextmanager
async def opened(
    folder: Path, writer: Writer, *, painter: Generator | None = None, images: ImageStore | None = None
) -> AsyncIterator[Chat]:
    """A chat on a folder; leaving it leaves everything as it stands, as the end of the process does."""
    store = ChatStore(folder / "messages.sqlite3")
    try:
        async with (
            Limner(
                painter or FakePainter(),
                store=store,
                images=images or FakeImageStore(),
                inspector=FakeInspector(),
                data_dir=folder,
                durability="process-death",
                profile="markdown",
                debounce_ms=1,
            ) as limner,
            Chat(limner, store, Conversation(folder / "chat.sqlite3"), writer) as chat,
        ):
            yield chat
            raise Left
    except Left:
        pass
    finally:
        await store.aclose()
