"""The client's side of a request as ASGI has it: the body that comes in, the answer that goes out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Iterable
from typing import Self

import anyio
from starlette.types import Receive, Send

from limner.errors import BackendError, LimnerError

Headers = list[tuple[bytes, bytes]]

# RFC 9110, 7.6.1: what concerns one connection only; the names beyond it are what proxies of old have sent.
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# A browser sends a host's cookies to each of its ports, so they are those of other programs on this machine.
_COOKIES = frozenset({b"cookie", b"cookie2", b"set-cookie", b"set-cookie2"})


class ClientGone(Exception):
    """The client hung up while its request was still being read."""


def passed_on(headers: Iterable[tuple[bytes, bytes]], *without: bytes) -> Headers:
    """The headers that go on to the other side, in lower case; `without` those named, and without cookies."""
    lower = [(name.lower(), value) for name, value in headers]
    dropped: Collection[bytes] = {*_HOP_BY_HOP, *_COOKIES, *without}
    for name, value in lower:
        if name == b"connection":
            dropped = {*dropped, *(each.strip().lower() for each in value.split(b","))}
    return [(name, value) for name, value in lower if name not in dropped]


class RequestBody:
    """The request's body, piece by piece as it comes. An asynchronous iterator that is no generator."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._first = b""
        self._ended = False
        self._read = anyio.Event()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """The next piece, never empty. Raises `ClientGone`."""
        piece, self._first = self._first, b""
        while not piece:
            if self._ended:
                raise StopAsyncIteration
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece = message.get("body", b"")
            if not message.get("more_body", False):
                self._ended = True
                self._read.set()
        return piece

    async def whole(self, max_bytes: int) -> bytes | None:
        """All of it; None where it is longer than `max_bytes`, and can still be read, from its start."""
        body = bytearray()
        async for piece in self:
            body += piece
            if len(body) > max_bytes:
                self._first = bytes(body)
                return None
        return bytes(body)

    def done(self) -> None:
        """Nobody reads the rest."""
        self._read.set()

    async def client_gone(self) -> None:
        """Wait until the client hangs up. Begins once the body was read: only one may receive at a time."""
        await self._read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


class Client:
    """Whom the answer goes to."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False
        self.ended = False

    async def start(self, status: int, headers: Headers) -> None:
        """Send the head of the answer."""
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes) -> None:
        """Send some of the body. Waits where the client reads more slowly than that."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """Send the last of the body. An answer that is not ended is cut off, and looks so to the client."""
        self.ended = True
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def answer(self, status: int, body: bytes, media_type: bytes = b"application/json") -> Self:
        """Send a whole answer of our own."""
        headers = [(b"content-type", media_type), (b"content-length", str(len(body)).encode())]
        await self.start(status, headers)
        await self.end(body)
        return self


def error_body(error: LimnerError) -> bytes:
    """An error of ours in the shape that OpenAI's clients read.

    What to do about it is told where that is more than to write something else.
    """
    hint = f". {error.hint}" if isinstance(error, BackendError) and error.hint else ""
    told = {"message": f"{error}{hint}", "type": "limner_error", "param": None, "code": error.kind}
    return json.dumps({"error": told}).encode()
