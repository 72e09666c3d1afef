"""The answer of an HTTP server, before its body has come. The client library hands it out as a `Response`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, suppress
from typing import Any, Protocol

import anyio

from limner.adapters.http_parts import Fetched, parse_json
from limner.errors import AnswerTooLarge, BackendError

_CLOSING_TIME_S = 2
_WAIT_FOR_WORDS_S = 10

Translated = Callable[[str, int | None], AbstractContextManager[None]]
"""Turns the client library's errors into ours, given the address and the status of the answer."""

JsonIn = Callable[[Fetched], Awaitable[object]]


class Headers(Protocol):
    """Headers by their names in any case, and as they came."""

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        """Names and values as they came."""

    def get(self, name: str, default: str) -> str:
        """The value of a header."""


class Response(Protocol):
    """What an answer needs of the client library's."""

    status_code: int
    extensions: Any

    @property
    def headers(self) -> Headers:
        """Its headers."""

    def aiter_bytes(self) -> AsyncIterator[bytes]:
        """The body as it was meant."""

    def aiter_raw(self) -> AsyncIterator[bytes]:
        """The body as it came."""

    async def aclose(self) -> None:
        """Close it."""


class Answer:
    """An answer whose body has not been read yet. Belongs to the `async with` that handed it out."""

    def __init__(
        self,
        response: Response,
        where: str,
        translated: Translated,
        json_in: JsonIn | None = None,
        *,
        raw: bool = False,
    ) -> None:
        self.where = where
        self.response = response
        self.status = response.status_code
        self.headers = response.headers.raw
        self.media_type = response.headers.get("content-type", "").partition(";")[0].strip().casefold()
        self.accept_header = response.headers.get("sec-websocket-accept", "")
        self.redirect: str | None = None
        self._translated = translated
        self._json_in = json_in
        self._raw = raw
        self._body: AsyncGenerator[bytes, None] | None = None

    async def chunk(self) -> bytes | None:
        """The next bytes of the body, or None at its end. Raises `Unavailable` where it is cut off."""
        if self._body is None:
            # The library types it as an iterator; it is a generator, which has to be closed by hand:
            # left to the garbage collector it would run its clean-up outside of any task.
            body = self.response.aiter_raw() if self._raw else self.response.aiter_bytes()
            assert isinstance(body, AsyncGenerator), "the library's bodies are generators"  # noqa: S101 - see above
            self._body = body
        with self._translated(self.where, self.response.status_code):
            return await anext(self._body, None)

    async def read(self, max_bytes: int) -> bytes:
        """The whole body. Raises `AnswerTooLarge` as soon as it is clear that it has more bytes."""
        length = self.response.headers.get("content-length", "")
        if length.isdecimal() and len(length) < 30 and int(length) > max_bytes:
            raise AnswerTooLarge(f"{self.where} answers with {length} bytes, more than {max_bytes}")
        body = bytearray()
        while (chunk := await self.chunk()) is not None:
            body += chunk
            if len(body) > max_bytes:
                raise AnswerTooLarge(f"{self.where} answers with more than {max_bytes} bytes")
        return bytes(body)

    async def json(self, max_bytes: int, already: bytes = b"") -> object:
        """The whole body as JSON; `already` are bytes of it that were read before."""
        whole = Fetched(self.where, self.media_type, already + await self.read(max_bytes))
        if self._json_in is not None:
            return await self._json_in(whole)
        return await parse_json(whole.where, whole.data)

    async def beginning(self, size: int) -> bytes:
        """Some bytes from the beginning of the body, about `size` at most, and none where it breaks off."""
        body = bytearray()
        # The status has told already that there is an error: its words are worth waiting for, not long.
        with suppress(BackendError), anyio.move_on_after(_WAIT_FOR_WORDS_S):
            while len(body) < size and (chunk := await self.chunk()) is not None:
                body += chunk
        return bytes(body[:size])

    async def aclose(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        # Shielded: a connection that is not given back stays open until the program ends.
        with anyio.move_on_after(_CLOSING_TIME_S, shield=True):
            await self.response.aclose()
            if self._body is None:
                return
            # Below `_body` lie five more generators of the client library, one inside the other, and closing
            # the outermost leaves the others to the garbage collector. Now that the socket is closed, reading
            # on gives what was buffered and then an error, which runs through all of them and ends them.
            with suppress(Exception):
                while await anext(self._body, None) is not None:
                    pass
            await self._body.aclose()
