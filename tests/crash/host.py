"""The host of one message: streams it, has its images clicked, and remembers what it was told.

A host that starts again does what hosts do: it streams a message (again) that the store does not have,
because then the user saw nothing that stayed; and its user clicks whatever has not been clicked yet.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import anyio

from limner.adapters.limner import Limner
from limner.errors import StorageError, UnknownMessage
from limner.states import Session, SessionKind
from limner.states.outcome import Result, result_of
from limner.text import normalise_url, strip_illustrations
from limner.workflows.ports import MessageStore
from tests.crash.place import add_row, rows_of
from tests.crash.server import Reach

PIECE = 20
"""How many characters come at once."""


class Script(NamedTuple):
    """What happens to one message.

    The host saves the first `saved` characters of its text when they have come (0: it saves nothing); if
    `clicks`, each image is clicked once.
    """

    message_id: str
    text: str
    saved: int = 0
    clicks: bool = True


class Pace(NamedTuple):
    """How long the pauses are, in seconds.

    `before_stream` is not 0, so that what is done for a stream that died, and for the one after it, can be
    told apart by its time.
    """

    before_stream: float
    between_pieces: float
    between_clicks: float


class Told(NamedTuple):
    """Something that the host was told: that a click was "accepted" (on `what`, an image's address), or that
    a session (its id in `what`) has "ended", and which images it has `placed`."""

    how: str
    message_id: str
    what: str
    placed: tuple[str, ...] = ()


def told_of(file: Path) -> tuple[Told, ...]:
    """All that hosts were told so far."""
    return tuple(
        Told(how, message_id, what, tuple(placed)) for how, message_id, what, placed in rows_of(file)
    )


@dataclass(frozen=True)
class Host:
    """One message's host in one life. `store` is what Limner has, `messages` the same without witnesses.

    `clicked` are the images whose clicks are in the journal from earlier lives: those that a user sees to be
    under way, or done. It grows. `owed` are messages whose text came while no session could be opened.
    """

    script: Script
    pace: Pace
    clicked: set[str]
    limner: Limner
    store: MessageStore
    messages: MessageStore
    told: Path
    reach: Reach
    owed: set[str] = field(default_factory=set)

    async def play(self, *, stream_again: bool = True) -> None:
        """Do what is still to be done, and wait for the end of it."""
        if await self.messages.read(self.script.message_id) is None and stream_again:
            await anyio.sleep(self.pace.before_stream)
            await self._stream()
        if self.owed:
            await self.limner.seal(self.script.message_id, self.script.text)
            self.owed.clear()
        live = self.limner.manager.get_session(self.script.message_id)
        if live is None or live.kind is SessionKind.STREAMING:
            # Also where none is live: one that has just ended may not be written down yet.
            try:
                await self._finished()
            except UnknownMessage:
                return
        if self.script.clicks:
            await self._click(await self.limner.manager.engine.past_sessions(self.script.message_id))
        await self._finished()

    async def _stream(self) -> None:
        begun = False
        try:
            async for _ in self.limner.illustrate(self.script.message_id, self._tokens()):
                begun = True
        except StorageError:
            if not begun:
                raise
            # Told that the text could not be saved, or no session be opened, the host brings it once more.
            try:
                await self._finished()
            except UnknownMessage:
                self.owed.add(self.script.message_id)
                return
            stored = await self.messages.read(self.script.message_id)
            if stored is None or strip_illustrations(stored.text) != self.script.text:
                await self.limner.seal(self.script.message_id, self.script.text)

    async def _tokens(self) -> AsyncIterator[str]:
        text, saved = self.script.text, self.script.saved
        ends = sorted({*range(PIECE, len(text), PIECE), saved, len(text)} - {0})
        start = 0
        for end in ends:
            await anyio.sleep(self.pace.between_pieces)
            yield text[start:end]
            start = end
            if end == saved:
                await self.store.write(self.script.message_id, text[:saved], expected=None)

    async def _click(self, past: Sequence[Session]) -> None:
        streamed = [session for session in past if session.kind is SessionKind.STREAMING]
        for image in result_of(streamed[-1]).placed:
            url = normalise_url(image.image_url)
            if url not in self.clicked:
                await self.limner.regenerate(self.script.message_id, url)
                self.clicked.add(url)
                self._note(Told("accepted", self.script.message_id, url))
                await anyio.sleep(self.pace.between_clicks)

    async def _finished(self) -> None:
        result: Result = await self.limner.finished(self.script.message_id)
        placed = tuple(image.image_url for image in result.placed)
        self._note(Told("ended", self.script.message_id, result.session_id, placed))

    def _note(self, told: Told) -> None:
        add_row(self.told, told)
        self.reach(f"host: told that {told.how}")
