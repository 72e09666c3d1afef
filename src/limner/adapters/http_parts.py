"""What the HTTP client is made of and that needs no HTTP library: bodies, addresses, headers, JSON."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import anyio
import anyio.to_thread

from limner.adapters.http_errors import error_from_broken_json
from limner.errors import BackendError, InvalidSetting, Unavailable, WrongAddress

# JSON up to this size is parsed where it is; more would hold up the event loop for a noticeable time.
PARSE_IN_PLACE_BYTES = 256 * 1024
# https://www.rfc-editor.org/rfc/rfc9110#name-tokens
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Fetched(NamedTuple):
    """A whole answer: the address it came from, fit for a message, its media type, and its body."""

    where: str
    media_type: str
    data: bytes


def checked_headers(headers: Mapping[Any, Any]) -> dict[str, str]:
    """The headers as they are sent. Raises `InvalidSetting` for what HTTP does not allow."""
    for name, value in headers.items():
        if not isinstance(name, str) or _HEADER_NAME.fullmatch(name) is None:
            raise InvalidSetting(f"HTTP does not allow a header with the name {name!r:.60}")
        # The value may be a key, so the message must not show it.
        if not isinstance(value, str):
            raise InvalidSetting(f"the value of the header {name} must be a text")
        if not value.isascii() or not value.isprintable():
            raise InvalidSetting(f"the value of the header {name} has characters that HTTP does not allow")
    return dict(headers)


def address_fault(scheme: str, host: str, port: int | None) -> str:
    """What is wrong with an address; empty where nothing is. (The library takes any number for a port.)"""
    if scheme not in ("http", "https") or not host:
        return "not an http or https address"
    return "" if port is None or 0 < port < 65_536 else "no port from 1 to 65535"


@contextmanager
def time_limit(where: str, limit_ms: int | None) -> Iterator[None]:
    """Bound what is done in the block. Raises `Unavailable` after `limit_ms`; None: no bound."""
    with anyio.move_on_after(None if limit_ms is None else limit_ms / 1000) as scope:
        yield
    if scope.cancelled_caught:
        raise Unavailable(f"{where} did not finish its answer within {(limit_ms or 0) / 1000:g} s")


@contextmanager
def pages_pass() -> Iterator[None]:
    """A page for people is no wrong address here.

    Work is asked after that was begun at the same address, so the page is a proxy's and will pass.
    """
    try:
        yield
    except WrongAddress as error:
        if error.status != 200:
            raise
        raise BackendError(str(error), status=200) from error


async def parse_json(where: str, body: bytes) -> object:
    """The body of an answer as JSON, off the event loop if it is large. Raises `BackendError`."""
    if len(body) <= PARSE_IN_PLACE_BYTES:
        return _parsed(where, body)
    return await anyio.to_thread.run_sync(_parsed, where, body)


def _parsed(where: str, body: bytes) -> object:
    try:
        parsed: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise error_from_broken_json(where, body, error) from error
    return parsed


def basic_authorization(userinfo: bytes) -> bytes | None:
    """The header that a user and password in an address stand for; None where there are none."""
    return b"Basic " + base64.b64encode(unquote_to_bytes(userinfo)) if userinfo else None


class InOnePiece:
    """A body that is there already, as an asynchronous iterator; an empty one has no piece."""

    def __init__(self, content: bytes) -> None:
        self._rest = [content] if content else []

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._rest:
            raise StopAsyncIteration
        return self._rest.pop()
