"""A websocket for the adapters: whole messages, bounded in size, and a peer that falls silent is noticed.

The frames are wsproto's; the connection is one that `limner.adapters.http` has made and upgraded, so
addresses, proxies, certificates and keys are dealt with there, and no HTTP client is imported here.

One task reads. Nothing runs in the background: what the peer is owed (pongs, the answer to its close) is sent
while the next message is awaited.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import Protocol

import anyio
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.utilities import LocalProtocolError, generate_accept_token, generate_nonce

from limner.adapters.sniffing import one_line
from limner.errors import AnswerTooLarge, BackendError, Unavailable

_READ_BYTES = 64 * 1024
_WRITE_TIME_S = 10
_CLOSING_TIME_S = 2


class ByteStream(Protocol):
    """A connection after its upgrade. Each method raises `Unavailable` where the connection is broken."""

    async def read(self, max_bytes: int, timeout_s: float) -> bytes | None:
        """Some bytes, none at the connection's end; None where nothing came for `timeout_s` seconds."""

    async def write(self, data: bytes, timeout_s: float) -> None:
        """Send all of `data`."""


def upgrade_headers() -> dict[str, str]:
    """The headers of a GET that asks for a websocket, with a key that is used once."""
    return {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": generate_nonce().decode(),
    }


def is_accepted(sent: dict[str, str], accept_header: str) -> bool:
    """Whether the server's `sec-websocket-accept` answers the key that was `sent` (RFC 6455, 4.1)."""
    return accept_header.strip() == generate_accept_token(sent["sec-websocket-key"].encode()).decode()


class WebSocket:
    """A websocket's client side.

    `max_message_bytes` bounds a message (of a text, its characters). After `ping_interval_ms` without a
    byte from the peer a ping is sent; after as long again the peer counts as gone. That also keeps
    proxies from closing a connection that is idle for good reason.
    """

    def __init__(
        self, stream: ByteStream, where: str, *, max_message_bytes: int, ping_interval_ms: int = 20_000
    ) -> None:
        self._stream = stream
        self._where = where
        self._max_message_bytes = max_message_bytes
        self._ping_interval_s = ping_interval_ms / 1000
        self._protocol = Connection(ConnectionType.CLIENT)
        self._complete: deque[str | bytes] = deque()
        self._texts: list[str] = []
        self._chunks: list[bytes] = []
        self._size = 0
        self._end: BackendError | None = None

    async def receive(self) -> str | bytes:
        """The next whole message.

        Raises `Unavailable` where the peer closes the websocket, falls silent or is cut off, and
        `AnswerTooLarge`; after either, every further call raises the same.
        """
        awaiting_pong = False
        while not self._complete:
            if self._end is not None:
                raise self._end
            data = await self._stream.read(_READ_BYTES, self._ping_interval_s)
            if data:
                awaiting_pong = False
                await self._take(data)
            elif data is not None:
                self._end = Unavailable(f"{self._where} cut the websocket")
            elif awaiting_pong:
                self._end = Unavailable(f"{self._where} fell silent")
            else:
                awaiting_pong = True
                await self._stream.write(self._protocol.send(Ping()), _WRITE_TIME_S)
        return self._complete.popleft()

    async def send(self, text: str) -> None:
        """Send a text message. Raises `Unavailable`."""
        if self._protocol.state is not ConnectionState.OPEN:
            raise self._end or Unavailable(f"{self._where} has closed the websocket")
        await self._stream.write(self._protocol.send(TextMessage(text)), _WRITE_TIME_S)

    async def aclose(self) -> None:
        """Tell the peer, as far as it still listens. The connection itself belongs to who made it."""
        with suppress(LocalProtocolError, Unavailable), anyio.move_on_after(_CLOSING_TIME_S, shield=True):
            await self._stream.write(self._protocol.send(CloseConnection(1000)), _WRITE_TIME_S)

    async def _take(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        for event in self._protocol.events():
            if isinstance(event, TextMessage):
                self._texts.append(event.data)
                self._grown(len(event.data))
                if event.message_finished:
                    self._complete.append("".join(self._texts))
                    self._begin()
            elif isinstance(event, BytesMessage):
                self._chunks.append(bytes(event.data))
                self._grown(len(event.data))
                if event.message_finished:
                    self._complete.append(b"".join(self._chunks))
                    self._begin()
            elif isinstance(event, Ping):
                await self._stream.write(self._protocol.send(event.response()), _WRITE_TIME_S)
            elif isinstance(event, CloseConnection):
                self._end = self._closed_by(event)
            if self._end is not None:
                return

    def _grown(self, size: int) -> None:
        self._size += size
        if self._size > self._max_message_bytes:
            self._begin()
            self._end = AnswerTooLarge(
                f"{self._where} sends a message of more than {self._max_message_bytes} bytes"
            )

    def _begin(self) -> None:
        self._texts, self._chunks, self._size = [], [], 0

    def _closed_by(self, event: CloseConnection) -> Unavailable:
        why = f": {one_line(event.reason, 200)}" if event.reason else ""
        return Unavailable(f"{self._where} closed the websocket ({int(event.code)}){why}")
