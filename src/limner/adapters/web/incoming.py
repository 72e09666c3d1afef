"""What a request asks for: read with bounds, and refused by one clear line where it cannot be meant."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import Any

from starlette.requests import Request

from limner.adapters.web.problems import RequestRefused

MAX_BODY = 64 * 1024
"""How long a request's body may be, in bytes."""
MAX_MESSAGES = 100
"""How many messages one event stream may follow."""


def message_of(request: Request) -> str:
    """The one message in the address. Raises `RequestRefused`."""
    given = request.query_params.getlist("message")
    if len(given) != 1 or not given[0]:
        raise _bad("the address has to name one message: ?message=ID")
    return given[0]


def messages_of(request: Request) -> list[str]:
    """The messages in the address, each once. Raises `RequestRefused`."""
    given = list(dict.fromkeys(request.query_params.getlist("message")))
    if not given or not all(given):
        raise _bad("the address has to name the messages: ?message=ID&message=ID2")
    if len(given) > MAX_MESSAGES:
        raise _bad(f"one stream follows at most {MAX_MESSAGES} messages, not {len(given)}")
    return given


def last_event_of(request: Request) -> str | None:
    """The id of the last event that the reader got: a browser's word, else the address's."""
    return request.headers.get("last-event-id") or request.query_params.get("last_event_id") or None


def flag_of(request: Request, name: str) -> bool:
    """Whether the address has `name=1`. Raises `RequestRefused` for anything but 1 and 0."""
    given = request.query_params.get(name, "0")
    if given not in {"0", "1"}:
        raise _bad(f"{name} is 0 or 1")
    return given == "1"


async def fields_of(request: Request) -> dict[str, Any]:
    """The body, one JSON object. Raises `RequestRefused`, `ClientDisconnect`."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    # A form can be sent from any site's page without a question; JSON cannot.
    if content_type != "application/json":
        raise RequestRefused(415, "unsupported_media_type", "the body has to be application/json")
    body = await _body(request)
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise _bad("the body is not JSON") from None
    if not isinstance(fields, dict):
        raise _bad("the body has to be a JSON object")
    return fields


def text_field(fields: dict[str, Any], name: str, default: str | None = None) -> str:
    """A field that is a text, and not an empty one. Raises `RequestRefused`."""
    given = fields.get(name, default)
    if not isinstance(given, str) or not given:
        raise _bad(f"the field {name!r} has to be a text that is not empty")
    return given


async def _body(request: Request) -> bytes:
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced[:20]) > MAX_BODY:
        raise _too_large()
    body = b""
    async with aclosing(request.stream()) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) > MAX_BODY:
                raise _too_large()
    return body


def _too_large() -> RequestRefused:
    return RequestRefused(413, "too_large", f"the body may have {MAX_BODY} bytes")


def _bad(message: str) -> RequestRefused:
    return RequestRefused(400, "invalid_setting", message)
