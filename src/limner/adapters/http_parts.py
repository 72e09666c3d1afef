"""What the HTTP client is made of and that needs no HTTP library: its answers, JSON, headers."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import anyio.to_thread

from limner.adapters.sniffing import describe
from limner.errors import BackendError, InvalidSetting

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


async def parse_json(where: str, body: bytes) -> object:
    """The body of an answer as JSON, off the event loop if it is large. Raises `BackendError`."""
    if len(body) <= PARSE_IN_PLACE_BYTES:
        return _parsed(where, body)
    return await anyio.to_thread.run_sync(_parsed, where, body)


def _parsed(where: str, body: bytes) -> object:
    try:
        parsed: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BackendError(f"{where} answered without usable JSON: {describe(body)}", status=200) from error
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
