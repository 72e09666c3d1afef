"""A stream of events cut where one event ends and the next begins, byte for byte.

`limner.adapters.sse` reads what events say; a proxy passes them on exactly as they came, and only then looks
into them. So here the bytes are kept, comments and blank lines included, and what is broken passes as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from limner.adapters.sse import EventParser
from limner.errors import AnswerTooLarge

MAX_EVENT_BYTES = 4 * 1024 * 1024
"""An event up to this size is looked into, a larger one only passed on."""

DONE = "[DONE]"

# An event ends with a blank line; a line ends with CR LF, LF or CR (HTML, 9.2.5).
_END = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LONGEST_END = 4


class EventCutter:
    """Feed it bytes as they come; it gives back whole events, and pieces of those that are too large.

    Joined, all that it gave back and `rest` are what it was fed.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        # The open event in pieces: joining them for each new one would cost the square of its length.
        self._open: list[bytes] = []
        self._open_bytes = 0
        self._tail = b""
        self._skipping = False

    def feed(self, chunk: bytes) -> list[tuple[bytes, bool]]:
        """The pieces that can be passed on now, each with whether it is a whole event."""
        if (
            not self._open
            and not self._skipping
            and chunk.endswith(b"\n\n")
            and chunk.find(b"\n\n") == len(chunk) - 2
            and b"\r" not in chunk
        ):
            # How nearly every token comes: one event, with a line end that needs no second look.
            return [(chunk, True)]
        pieces: list[tuple[bytes, bool]] = []
        if _END.search(self._tail + chunk) is None:
            self._keep(chunk)
            self._let_go(pieces)
            return pieces
        search = max(0, self._open_bytes - _LONGEST_END)
        data = self.rest() + chunk
        start = 0
        while (end := _END.search(data, search)) is not None:
            pieces.append((data[start : end.end()], not self._skipping))
            self._skipping = False
            start = search = end.end()
        self._keep(data[start:])
        self._let_go(pieces)
        return pieces

    def _keep(self, part: bytes) -> None:
        if part:
            self._open.append(part)
            self._open_bytes += len(part)
            self._tail = (self._tail + part)[-_LONGEST_END:]

    def _let_go(self, pieces: list[tuple[bytes, bool]]) -> None:
        """Pass on what is open of an event that is too large, but for its last bytes.

        Those may belong to the blank line that ends it.
        """
        if self._open_bytes <= self._max and not self._skipping:
            return
        self._skipping = True
        if self._open_bytes > _LONGEST_END:
            rest = self.rest()
            pieces.append((rest[:-_LONGEST_END], False))
            self._keep(rest[-_LONGEST_END:])

    def rest(self) -> bytes:
        """What is left at the end of the stream: an event without its blank line, or nothing."""
        rest = b"".join(self._open)
        self._open, self._open_bytes, self._tail = [], 0, b""
        return rest


def data_of(event: bytes) -> str:
    """The data of an event; empty where it has none."""
    if event.startswith(b"data:"):
        data = event[5:].strip(b" \r\n")
        if b"\n" not in data and b"\r" not in data:
            return data.decode("utf-8", "replace")
    parser = EventParser(MAX_EVENT_BYTES)
    try:
        events = parser.feed(event) or parser.flush()
    except AnswerTooLarge:
        return ""
    return events[0].data.strip() if events else ""


def parsed(data: str) -> Mapping[str, Any] | None:
    """A chunk of a reply; None for what is none, which passes without being looked into."""
    try:
        chunk = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return chunk if isinstance(chunk, dict) else None


def event_of(chunk: Mapping[str, Any]) -> bytes:
    """A chunk as an event. In ASCII, so that half a surrogate pair, which models write, goes through."""
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode("ascii") + b"\n\n"
