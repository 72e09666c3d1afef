"""Server-sent events, from any chunks of bytes to whole events.

The format is that of the HTML standard, section 9.2 "Server-sent events". Own code and not a package,
because a server that sends one endless line must not fill memory, and because an event is due when
its last byte has come: a parser that waits for the byte after a CR delivers a token late.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from limner.errors import AnswerTooLarge

_LINE_END = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"


class ServerSentEvent(NamedTuple):
    """One event: its name ("message" unless the server said otherwise) and its data."""

    event: str
    data: str


class EventParser:
    """Feed it bytes as they come; it returns the events that they complete.

    `max_event_bytes` bounds one line as well as all the data of one event. How the bytes are cut into
    chunks makes no difference, not even inside a character or a line end. Bytes that are no UTF-8
    become U+FFFD, as the standard asks.
    """

    def __init__(self, max_event_bytes: int = 1024 * 1024) -> None:
        self._max = max_event_bytes
        self._line = bytearray()
        self._first_line = True
        self._after_cr = False
        self._event = ""
        self._data: list[str] = []
        self._data_bytes = 0

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """The events that `chunk` completes. Raises `AnswerTooLarge`."""
        if self._after_cr and chunk:
            # The CR has ended its line already; a LF right behind it belongs to the same line end.
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        events: list[ServerSentEvent] = []
        start = 0
        for end in _LINE_END.finditer(chunk):
            self._extend(chunk[start : end.start()])
            start = end.end()
            event = self._take_line()
            if event is not None:
                events.append(event)
        self._extend(chunk[start:])
        if chunk.endswith(b"\r"):
            self._after_cr = True
        return events

    def flush(self) -> list[ServerSentEvent]:
        """The event that the end of the stream has cut off, if its data are there.

        The standard drops it. Servers exist that close right behind their last line, without the empty
        line that would end the event, so what it says is offered; a half event shows in its data.
        """
        if self._line:
            self._take_line()
        event = self._dispatch()
        return [] if event is None else [event]

    def _extend(self, part: bytes) -> None:
        if len(self._line) + len(part) > self._max:
            raise AnswerTooLarge(f"a line of the event stream has more than {self._max} bytes")
        self._line += part

    def _take_line(self) -> ServerSentEvent | None:
        raw = bytes(self._line)
        self._line.clear()
        if self._first_line:
            raw = raw.removeprefix(_BOM)
            self._first_line = False
        if not raw:
            return self._dispatch()
        name, _, value = raw.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data_bytes += len(value)
            if self._data_bytes > self._max:
                raise AnswerTooLarge(f"an event of the stream has more than {self._max} bytes")
            self._data.append(value.decode("utf-8", "replace"))
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        # Comments (an empty name), ids and retry times mean nothing to a stream that is read once.
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        event = ServerSentEvent(self._event or "message", "\n".join(self._data)) if self._data else None
        self._event = ""
        self._data = []
        self._data_bytes = 0
        return event
