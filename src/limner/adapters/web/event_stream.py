"""Server-sent events: one answer that does not end by itself, for as long as its reader stays.

Nothing is kept for a reader who is slow. The next event is taken from the watch when the one before it has
been sent, and what happens meanwhile is overwritten in the watch by what is newer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import anyio
import anyio.lowlevel
from starlette.types import Receive, Scope, Send

from limner.adapters.web.answers import as_json
from limner.adapters.web.shutdown import server_is_stopping
from limner.adapters.web.wire import event_form
from limner.errors import LimnerError, NotRunning
from limner.workflows.clock import Alarm
from limner.workflows.logs import brief, log
from limner.workflows.watching import Watched

KEEP_ALIVE_MS = 15_000
"""After so long without a word a comment is sent, in ms: proxies cut a connection that says nothing."""
LOOK_MS = 500
"""How often to look whether the server is told to stop, and whose turn a comment is, in ms."""
RECONNECT_MS = 2_000
"""How long an `EventSource` is to wait before it comes back, in ms."""
LAST_WORD_S = 1
"""How long the end of an answer may take to be sent, where its reader does not read."""

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    # nginx and what understands its language pass each event on at once then.
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]


def encode(watched: Watched) -> bytes:
    """One event as it goes over the wire."""
    name, data = event_form(watched.event)
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (watched.id.encode(), name.encode(), as_json(data))


class OpenStreams:
    """All event streams of one app: who is to be kept alive, and who must end. A timed source."""

    def __init__(self, alarm: Alarm) -> None:
        self._alarm = alarm
        self._streams: set[EventStream] = set()
        self._next_look = 0
        alarm.add(self)

    def __len__(self) -> int:
        """How many are open."""
        return len(self._streams)

    @contextmanager
    def holding(self, stream: EventStream) -> Iterator[None]:
        """Look after the stream during the block."""
        if not self._streams:
            self._next_look = self.now() + LOOK_MS
        self._streams.add(stream)
        self._alarm.reschedule()
        try:
            yield
        finally:
            self._streams.discard(stream)

    def now(self) -> int:
        """The alarm's time, in ms."""
        return self._alarm.clock()

    def next_deadline(self) -> int | None:
        """When to look again; None where nobody is there."""
        return self._next_look if self._streams else None

    def wake(self, now: int) -> None:
        """Look after every stream."""
        self._next_look = now + LOOK_MS
        stopping = server_is_stopping()
        for stream in self._streams:
            if stopping:
                stream.end()
            elif stream.silent_since <= now - KEEP_ALIVE_MS:
                stream.keep_alive()


class EventStream:
    """An ASGI answer that sends what a watch tells. `silent_since`: when it sent something last, in ms."""

    def __init__(self, watch: AsyncIterator[Watched], streams: OpenStreams) -> None:
        self._watch = watch
        self._streams = streams
        self._sending = anyio.Lock()
        self._comment_due = anyio.Event()
        self._scope = anyio.CancelScope()
        self._reader_gone = False
        self.silent_since = streams.now()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the reader goes, the server stops or Limner is closed."""
        await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
        if scope["method"] != "HEAD":
            await self._stream(receive, send)
        if not self._reader_gone:
            with anyio.move_on_after(LAST_WORD_S):
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    def end(self) -> None:
        """Let the answer end now."""
        self._scope.cancel()

    def keep_alive(self) -> None:
        """Send a comment, unless something is being sent anyway."""
        self._comment_due.set()

    async def _stream(self, receive: Receive, send: Send) -> None:
        with self._streams.holding(self), self._scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._notice_leaving, receive)
                tasks.start_soon(self._comment, send)
                await self._tell(send)
                self._scope.cancel()

    async def _tell(self, send: Send) -> None:
        try:
            await self._send(send, f"retry: {RECONNECT_MS}\n\n".encode())
            async for watched in self._watch:
                await self._send(send, encode(watched))
                # A send that need not wait and a watch with much to tell would keep everybody else waiting.
                await anyio.lowlevel.checkpoint()
        except NotRunning:
            return
        except LimnerError as error:
            log.warning("request_not_served", path="events", error=brief(error))
        except Exception as error:  # noqa: BLE001 - the answer has begun, so nobody can be told but the log
            log.critical("request_failed", path="events", error=brief(error))

    async def _comment(self, send: Send) -> None:
        while True:
            await self._comment_due.wait()
            self._comment_due = anyio.Event()
            if not self._sending.locked():
                await self._send(send, b": keep-alive\n\n")

    async def _notice_leaving(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._reader_gone = True
        self._scope.cancel()

    async def _send(self, send: Send, data: bytes) -> None:
        async with self._sending:
            try:
                await send({"type": "http.response.body", "body": data, "more_body": True})
            except OSError:  # what a server raises where the reader has gone
                self._reader_gone = True
                self._scope.cancel()
        self.silent_since = self._streams.now()
