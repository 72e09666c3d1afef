"""Watching messages from afar: their progress and their text, by number, so that a reader can come back.

A page that shows a chat holds one such stream for all its messages. Every event has an id; who lost the
connection asks for what changed behind the last id that was read, and gets each thing once, as it is now.

Of a message without a session only the store knows, so it has no number of its own. Its text is told to who
has read nothing yet. Later changes of it are the host's, and Limner does not hear of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

from limner.errors import UnknownMessage
from limner.workflows.mailbox import Mailbox
from limner.workflows.progress import TEXT, ProgressManager
from limner.workflows.progress_events import ProgressEvent, TextChanged, Update, as_event


@dataclass(frozen=True, slots=True)
class TextProgress:
    """A message's text: from character `start` on it is `text`, and ends there.

    `start` is 0 for the whole of it, which comes first, and again when the text was written anew. `final`: no
    more will be streamed.
    """

    message_id: str
    start: int
    text: str
    final: bool


class Watched(NamedTuple):
    """One event, and the id that says how far the reader has come."""

    id: str
    event: ProgressEvent | TextProgress


class StreamedText(Protocol):
    """A text that arrives. `rewrites` counts how often it was not only added to."""

    @property
    def text(self) -> str:
        """The text so far."""

    @property
    def rewrites(self) -> int:
        """How often the text was replaced."""


class _Known(NamedTuple):
    """How much of a stream's text a reader has."""

    stream: StreamedText
    rewrites: int
    length: int


class Watch:
    """An iterator over what happens to some messages; it does not end by itself.

    Not a generator: there is nothing to close, so a reader may let go of it at any step.
    """

    def __init__(
        self,
        progress: ProgressManager,
        message_ids: Sequence[str],
        *,
        epoch: str,
        after: str | None,
        text: bool,
        remember: Callable[[str], Awaitable[object]],
        stream_of: Callable[[str], StreamedText | None],
        read_text: Callable[[str], Awaitable[str]],
    ) -> None:
        self._progress = progress
        self._message_ids = message_ids
        self._epoch = epoch
        self._after = number_after(after, epoch, progress.last_number)
        self._remember = remember
        self._stream_of = stream_of
        self._read_text = read_text
        self._known: dict[str, _Known] = {}
        self._told: dict[str, bytes] = {}  # digests of the final texts that this reader was told last
        self._mailbox: Mailbox[Update] = Mailbox(wants_text=text)
        self._begun = False

    def __aiter__(self) -> Self:
        """The watch is its own iterator."""
        return self

    async def __anext__(self) -> Watched:
        """The next event. Raises `NotRunning` once Limner is closed.

        `StorageError` at the first step, and where a text cannot be read: it is the next step's then.
        """
        if not self._begun:
            for message_id in self._message_ids:
                await self._remember(message_id)
            self._begin()
        while True:
            number, update = await self._mailbox.get()
            if not isinstance(update, TextChanged):
                return Watched(f"{self._epoch}-{number}", as_event(update))
            try:
                text = await self._text_of(update.message_id)
            except BaseException:
                self._mailbox.put_back(update.message_id, TEXT, number, update)
                raise
            if text is not None:
                return Watched(f"{self._epoch}-{number}", text)

    def _begin(self) -> None:
        self._begun = True
        if self._mailbox.wants_text and not self._after:
            unknown = [each for each in self._message_ids if not self._progress.is_tracking(each)]
            for message_id in unknown:
                # Only the last of all that stands says that all was read.
                is_last = message_id == unknown[-1] and len(unknown) == len(self._message_ids)
                number = self._progress.last_number if is_last else 0
                self._mailbox.put(message_id, TEXT, number, TextChanged(message_id))
        self._progress.add(self._mailbox, *self._message_ids, after=self._after)

    async def _text_of(self, message_id: str) -> TextProgress | None:
        stream = self._stream_of(message_id)
        if stream is None:
            self._known.pop(message_id, None)
            try:
                text = await self._read_text(message_id)
            except UnknownMessage:
                return None
            digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            if self._told.get(message_id) == digest:
                return None  # nothing was written since the stream ended
            self._told[message_id] = digest
            return TextProgress(message_id, 0, text, final=True)
        text = stream.text
        told = self._told.pop(message_id, None)
        known = self._known.get(message_id)
        start = 0
        if known is not None and known.stream is stream and known.rewrites == stream.rewrites:
            start = known.length
        self._known[message_id] = _Known(stream, stream.rewrites, len(text))
        if start == len(text) and (known is not None or told is None):
            return None
        return TextProgress(message_id, start, text[start:], final=False)


def number_after(event_id: str | None, epoch: str, newest: int) -> int:
    """The number in an id that a reader brought; 0, for all anew, where it is none of this epoch's."""
    mark, _, number = (event_id or "").rpartition("-")
    if mark != epoch or not number.isascii() or not number.isdecimal() or len(number) > 18:
        return 0
    return int(number) if int(number) <= newest else 0
