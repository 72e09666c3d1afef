"""The demo's pages and requests, as a Starlette application.

It is meant for one person at the machine that it runs on: a request must name this machine as its host, and
what changes anything must come from the page itself.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from limner.adapters.demo.chat import LONGEST_LINE, Busy, Chat
from limner.adapters.demo.conversation import Entry
from limner.adapters.painting.easel import Easel
from limner.adapters.web.access import is_cross_site
from limner.adapters.web.answers import JSONAnswer, bytes_answer
from limner.adapters.web.incoming import fields_of, text_field
from limner.adapters.web.problems import RequestRefused, problem_answer
from limner.adapters.web.shutdown import server_is_stopping
from limner.errors import UnknownMessage

MOST_SHOWN = 60
"""How many entries of the conversation the page shows, the newest."""

KEEP_ALIVE_LOOKS = 30
"""A comment is sent after so many looks, each half a second, without a change."""
_LOOK_S = 0.5

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_FILES = {
    "demo.css": "text/css; charset=utf-8",
    "demo.js": "text/javascript; charset=utf-8",
    "machine.js": "text/javascript; charset=utf-8",
    "leaf.svg": "image/svg+xml",
}

SUGGESTIONS = (
    "a night at the lighthouse",
    "the dragon who was afraid of snow",
    "an orchard in October",
    "the last tram through the old town",
)
"""What the empty page offers. Each has a picture, which the offline painter makes."""


@dataclass(frozen=True, slots=True)
class Cast:
    """Who writes and who paints, for the page. `captions`: whether the pictures need some below them."""

    writer: str
    painter: str
    captions: bool = True


def demo_app(chat: Chat, cast: Cast, *, own_port: Callable[[], int]) -> ASGIApp:
    """The application. `own_port` is asked for the port that a request must have come to."""
    return _Guard(
        Starlette(
            routes=[
                Route("/", _page),
                Route("/static/{name}", _static),
                Route("/suggestions/{number:int}.jpg", _suggestion),
                Route("/api/conversation", _told(functools.partial(_conversation, chat, cast))),
                Route("/api/changes", functools.partial(_changes, chat, cast)),
                Route("/api/say", _told(functools.partial(_say, chat)), methods=["POST"]),
                Route("/api/again", _told(functools.partial(_again, chat)), methods=["POST"]),
                Route("/api/stop", _told(functools.partial(_stop, chat)), methods=["POST"]),
                Route("/api/clear", _told(functools.partial(_clear, chat)), methods=["POST"]),
                Mount("/limner", chat.limner.asgi()),
            ]
        ),
        own_port,
    )


class _Guard:
    """Refuses what does not name this machine as its host, and changes that another site asks for."""

    def __init__(self, app: ASGIApp, own_port: Callable[[], int]) -> None:
        self._app = app
        self._own_port = own_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        refusal = _refusal(scope["method"], Headers(scope=scope), self._own_port())
        if refusal is not None:
            await refusal(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_guarded)


def _refusal(method: str, headers: Headers, port: int) -> Response | None:
    own = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}
    host = headers.get("host", "").casefold()
    # A page of another name that points here (DNS rebinding) has that name as its host.
    if host not in own and not (port == 80 and f"{host}:80" in own):
        return problem_answer(RequestRefused(421, "wrong_host", "this server answers to localhost only"))
    if method not in ("GET", "HEAD") and is_cross_site(headers, frozenset()):
        return problem_answer(RequestRefused(403, "cross_site", "a page of another site may not do this"))
    return None


def _told(answer: Callable[[Request], Awaitable[object]]) -> Callable[[Request], Awaitable[Response]]:
    """Answers with JSON, also where it ends in an error."""

    async def told(request: Request) -> Response:
        try:
            content = await answer(request)
        except ClientDisconnect:
            return Response(status_code=400)  # to nobody
        except Busy as error:
            return problem_answer(RequestRefused(409, error.kind, str(error), error.hint))
        except UnknownMessage as error:
            return problem_answer(
                RequestRefused(404, error.kind, "there is no such reply", "Reload the page.")
            )
        except Exception as error:  # noqa: BLE001 - every request is answered
            return problem_answer(error, request.url.path)
        return JSONAnswer(content, 202 if request.method == "POST" else 200)

    return told


async def _posted(request: Request, field: str) -> str:
    return text_field(await fields_of(request), field)


# --- what the page asks for


async def _conversation(chat: Chat, cast: Cast, _: Request) -> Mapping[str, Any]:
    return _told_of(chat, cast, after=0)


async def _say(chat: Chat, request: Request) -> Mapping[str, Any]:
    return {"message": (await chat.say(await _posted(request, "text"))).id}


async def _again(chat: Chat, request: Request) -> Mapping[str, Any]:
    return {"message": (await chat.again(await _posted(request, "message"))).id}


async def _stop(chat: Chat, request: Request) -> Mapping[str, Any]:
    await chat.stop(await _posted(request, "message"))
    return {}


async def _clear(chat: Chat, request: Request) -> Mapping[str, Any]:
    await _posted(request, "conversation")
    await chat.clear()
    return {}


def _told_of(chat: Chat, cast: Cast, after: int) -> dict[str, Any]:
    """What is newer than revision `after`; all of it for 0, or where the conversation began anew since."""
    conversation = chat.conversation
    whole = after < conversation.cleared_at
    shown = conversation.entries[-MOST_SHOWN:]
    told: dict[str, Any] = {
        "revision": conversation.revision,
        "whole": whole,
        "entries": [_entry(chat, entry) for entry in shown if whole or entry.revision > after],
    }
    if after == 0:
        told |= {"cast": asdict(cast), "suggestions": SUGGESTIONS, "longest_line": LONGEST_LINE}
    return told


def _entry(chat: Chat, entry: Entry) -> dict[str, Any]:
    told: dict[str, Any] = {"id": entry.id, "state": entry.state}
    if entry.is_reply:
        told["token"] = chat.limner.message_token(entry.id)
        told["problem"] = None if entry.problem is None else asdict(entry.problem)
    else:
        told["text"] = entry.text
    return told


async def _changes(chat: Chat, cast: Cast, _: Request) -> Response:
    """A stream of events: the conversation, then its changes. Each connection begins with all of it."""

    async def events() -> AsyncIterator[str]:
        after = 0
        while True:
            changed = chat.conversation.changed
            told = _told_of(chat, cast, after)
            if after == 0 or told["entries"] or told["whole"]:
                yield f"data: {json.dumps(told, separators=(',', ':'))}\n\n"
            after = told["revision"]
            for _ in range(KEEP_ALIVE_LOOKS):
                with anyio.move_on_after(_LOOK_S):
                    await changed.wait()
                    break
                if server_is_stopping():
                    return
            else:
                yield ": keep-alive\n\n"

    return StreamingResponse(
        events(),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


# --- files


@functools.cache
def _file(name: str) -> tuple[bytes, str]:
    return _with_tag((files("limner.adapters.demo") / "static" / name).read_bytes())


@functools.cache
def _miniature(words: str) -> tuple[bytes, str]:
    return _with_tag(Easel(words, 7, 480, 380).unmounted())


def _with_tag(data: bytes) -> tuple[bytes, str]:
    return data, f'"{hashlib.sha256(data).hexdigest()[:32]}"'


def _sent(request: Request, file: tuple[bytes, str], media_type: str) -> Response:
    return bytes_answer(request, file[0], media_type, file[1], "no-cache")


async def _page(request: Request) -> Response:
    answer = _sent(request, _file("index.html"), "text/html; charset=utf-8")
    answer.headers["content-security-policy"] = CONTENT_SECURITY_POLICY
    return answer


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _FILES:
        return _no_such_file()
    return _sent(request, _file(name), _FILES[name])


async def _suggestion(request: Request) -> Response:
    number = request.path_params["number"]
    if not 0 <= number < len(SUGGESTIONS):
        return _no_such_file()
    picture = await anyio.to_thread.run_sync(_miniature, SUGGESTIONS[number])
    return _sent(request, picture, "image/jpeg")


def _no_such_file() -> Response:
    return problem_answer(RequestRefused(404, "not_found", "there is no such file"))
