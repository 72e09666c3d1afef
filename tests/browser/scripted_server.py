"""A server that speaks the HTTP of `Limner.asgi` and says what the test tells it to say, when it says so.

It keeps the promises of the real one about events: each has an id that grows; who connects without an id
gets everything as it stands, who brings one gets what changed since, each thing once and in its newest
state; unknown messages are waited for.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Hashable
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import uvicorn
from PIL import Image, ImageDraw
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

import limner
from limner.adapters.demo.serving import listening_socket

STATIC = Path(limner.__file__).parent / "adapters" / "web" / "static"
TOKEN = "secret-of-m1"
TAGS = [
    {"opener": '<!--img-prompt="', "closer": '"-->', "quoted": True},
    {"opener": '<img_prompt="', "closer": '">', "quoted": True},
]
_STATES = ("queued", "generating", "waiting", "completed", "failed", "cancelled")


@dataclass
class _Message:
    text: str = ""
    final: bool = False
    session: str = ""
    kind: str = "streaming"
    prompts: dict[str, dict[str, Any]] = field(default_factory=dict)
    news: dict[Hashable, tuple[int, str, dict[str, Any]]] = field(default_factory=dict)


@dataclass(eq=False)
class _Stream:
    messages: frozenset[str]
    after: int
    queue: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)


@dataclass(frozen=True)
class Posted:
    """A request that was to change something."""

    route: str
    content: dict[str, Any]
    token: str


class ScriptedServer:
    """Runs in a thread of its own. All methods may be called from the test's."""

    def __init__(self) -> None:
        self._socket = listening_socket(0)
        self.port: int = self._socket.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        routes = [
            Route("/", self._page),
            Route("/limner/limner-message.js", self._script),
            Route("/limner/limner-message/{name}", self._script),
            Route("/limner/tags", self._tags),
            Route("/limner/events", self._events),
            Route("/limner/status", self._status),
            Route("/limner/text", self._text),
            Route("/limner/preview", self._picture),
            Route("/limner/images/{name}", self._picture),
            *(
                Route(f"/limner/{name}", self._post, methods=["POST"])
                for name in ("regenerate", "retry", "cancel")
            ),
        ]
        self._server = uvicorn.Server(
            uvicorn.Config(Starlette(routes=routes), port=0, log_level="critical", lifespan="off", ws="none")
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.reset()

    def reset(self) -> None:
        """Forget everything, for the next test."""
        self._messages: dict[str, _Message] = {}
        self._streams: set[_Stream] = set()
        self._number = 0
        self.html = "<limner-message message='m1'></limner-message>"
        self.tags = TAGS
        self.posted: list[Posted] = []
        self.connections: list[dict[str, Any]] = []
        """Every request for events: its messages, and the id it came with."""
        self.requested: list[str] = []
        """The path of every other request."""
        self.answers: dict[str, tuple[int, dict[str, Any]]] = {}
        """What a POST is answered, where it is not taken: status and problem, by route."""
        self.refused: set[str] = set()
        self.refusal = (403, "refused", "not yours")
        """Messages that may not be read."""
        self.lost: set[str] = set()
        """Messages whose text the server has not, although a reader has some of it."""
        self.is_down = False

    # --- its life

    def start(self) -> None:
        """Serve, on a port of the system's choice. Who connects at once is only waited on."""
        self._thread.start()

    def stop(self) -> None:
        """End every connection and the thread."""
        self.drop_connections()
        self._server.should_exit = True
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._server.serve(sockets=[self._socket]))
        self._loop.close()

    @property
    def url(self) -> str:
        """The page with the elements."""
        return f"http://127.0.0.1:{self.port}/"

    # --- what the test lets happen

    def stream(self, message: str, text: str, *, final: bool = False) -> None:
        """More text of a message arrives."""

        def add() -> None:
            known = self._message(message)
            start = len(known.text)
            known.text += text
            known.final = final
            self._tell(message, "text", "text", {"start": start, "text": text, "final": final})

        self._do(add)

    def write(self, message: str, text: str, *, final: bool = True) -> None:
        """The message's text is written anew: saved, or with images in it."""

        def write() -> None:
            known = self._message(message)
            known.text, known.final = text, final
            self._tell(message, "text", "text", {"start": 0, "text": text, "final": final})

        self._do(write)

    def session(self, message: str, state: str, *, kind: str = "streaming", session: str = "s1") -> None:
        """The message's session is in this state now; another id begins the next one."""

        def change() -> None:
            self._turn_to(message, session, kind)
            self._tell_session(message, state)

        self._do(change)

    def prompt(
        self,
        message: str,
        prompt_id: str,
        prompt: str,
        state: str,
        *,
        session: str = "s1",
        kind: str = "streaming",
        session_state: str | None = "streaming",
        preview: str | None = None,
        problem: str | None = None,
        **more: Any,
    ) -> None:
        """A prompt is in this state now, and with it the session, unless `session_state` is None."""

        def change() -> None:
            known = self._turn_to(message, session, kind)
            query = urlencode({"message": message, "prompt": prompt_id, "v": preview})
            known.prompts[prompt_id] = {
                "session": session,
                "prompt_id": prompt_id,
                "prompt": prompt,
                "state": state,
                "attempt": 1,
                "fraction": None,
                "image_url": None,
                "target_url": None,
                **more,
                "preview": f"preview?{query}" if preview else None,
                "problem": {"kind": "backend_error", "message": problem} if problem else None,
            }
            self._tell(message, ("prompt", prompt_id), "prompt", known.prompts[prompt_id])
            if session_state is not None:
                self._tell_session(message, session_state)

        self._do(change)

    def ended(
        self,
        message: str,
        state: str = "done",
        *,
        placed: tuple[tuple[str, str, str | None], ...] = (),
        unplaced: tuple[tuple[str, str, str], ...] = (),
        problem: str | None = None,
    ) -> None:
        """The session is over. What failed, and what was cancelled, is known from its prompts."""

        def end() -> None:
            known = self._message(message)
            result = {
                "placed": [
                    {"prompt_id": prompt, "image_url": image, "replaced_url": old}
                    for prompt, image, old in placed
                ],
                "unplaced": [
                    {"prompt_id": prompt, "image_url": image, "reason": reason}
                    for prompt, image, reason in unplaced
                ],
                "failed": [
                    {name: prompt[name] for name in ("prompt_id", "prompt", "problem")}
                    for prompt in known.prompts.values()
                    if prompt["state"] == "failed"
                ],
                "cancelled": [
                    prompt["prompt_id"] for prompt in known.prompts.values() if prompt["state"] == "cancelled"
                ],
                "problem": {"kind": "drain_timeout", "message": problem} if problem else None,
            }
            self._tell_session(message, state)
            content = {"session": known.session, "kind": known.kind, "state": state, "result": result}
            self._tell(message, "ended", "ended", content)

        self._do(end)

    def drop_connections(self) -> None:
        """Cut every event stream, as a proxy or a bad line does."""

        def drop() -> None:
            for stream in self._streams:
                stream.queue.put_nowait(None)

        self._do(drop)

    @property
    def open_streams(self) -> int:
        """How many event streams are open now."""
        return len(self._streams)

    def _do(self, action: Callable[[], None]) -> None:
        done = threading.Event()

        def run() -> None:
            try:
                action()
            finally:
                done.set()

        self._loop.call_soon_threadsafe(run)
        assert done.wait(10)

    # --- events

    def _message(self, message: str) -> _Message:
        return self._messages.setdefault(message, _Message())

    def _turn_to(self, message: str, session: str, kind: str) -> _Message:
        known = self._message(message)
        if known.session != session:
            known.session, known.kind = session, kind
            known.prompts.clear()
            text = known.news.get("text")
            known.news = {"text": text} if text else {}
        return known

    def _tell_session(self, message: str, state: str) -> None:
        known = self._message(message)
        states = [prompt["state"] for prompt in known.prompts.values()]
        counts = {"total": len(states), **{name: states.count(name) for name in _STATES}}
        content = {"session": known.session, "kind": known.kind, "state": state, "counts": counts}
        self._tell(message, "session", "session", content)

    def _tell(self, message: str, key: Hashable, name: str, content: dict[str, Any]) -> None:
        self._number += 1
        data = {"message": message, **content}
        self._message(message).news[key] = (self._number, name, data)
        for stream in self._streams:
            if message in stream.messages:
                stream.queue.put_nowait(_encode(self._number, name, data))

    async def _events(self, request: Request) -> Response:
        messages = request.query_params.getlist("message")
        last_id = request.headers.get("last-event-id") or request.query_params.get("last_event_id")
        self.connections.append({"messages": sorted(messages), "last_event_id": last_id})
        if self.is_down:
            return _problem(503, "not_running", "Limner is not running")
        if self.refused.intersection(messages):
            return _problem(*self.refusal)
        after = int(last_id.split("-")[1]) if last_id else 0
        stream = _Stream(frozenset(messages), after)
        for data in self._as_it_stands(stream):
            stream.queue.put_nowait(data)
        self._streams.add(stream)
        return StreamingResponse(self._follow(stream), media_type="text/event-stream")

    def _as_it_stands(self, stream: _Stream) -> list[bytes]:
        found = []
        for message in stream.messages:
            known = self._messages.get(message, _Message())
            for number, name, data in known.news.values():
                if number > stream.after:
                    if name == "text":
                        data = {"message": message, "start": 0, "text": known.text, "final": known.final}
                    found.append((number, name, data))
        return [_encode(*item) for item in sorted(found, key=lambda item: item[0])]

    async def _follow(self, stream: _Stream) -> AsyncIterator[bytes]:
        try:
            yield b": hello\n\n"
            while (data := await stream.queue.get()) is not None:
                yield data
        finally:
            self._streams.discard(stream)

    # --- the other routes

    async def _page(self, request: Request) -> Response:
        return HTMLResponse(PAGE.replace("CONTENT", self.html))

    async def _script(self, request: Request) -> Response:
        script = STATIC / request.url.path.removeprefix("/limner/")
        return Response(
            script.read_bytes(), media_type="text/javascript", headers={"cache-control": "no-cache"}
        )

    async def _tags(self, request: Request) -> Response:
        return JSONResponse(self.tags)

    async def _status(self, request: Request) -> Response:
        message = request.query_params["message"]
        self.requested.append(f"status {message}")
        if message in self.refused:
            return _problem(*self.refusal)
        return _problem(404, "unknown_message", f"message {message!r} is not known")

    async def _text(self, request: Request) -> Response:
        message = request.query_params["message"]
        self.requested.append(f"text {message}")
        known = self._messages.get(message)
        if known is None or message in self.lost:
            return _problem(404, "unknown_message", f"message {message!r} is not known")
        return JSONResponse({"message": message, "text": known.text, "streaming": not known.final})

    async def _picture(self, request: Request) -> Response:
        name = request.path_params.get("name") or request.query_params["v"]
        self.requested.append(request.url.path)
        return Response(picture(name), media_type="image/png")

    async def _post(self, request: Request) -> Response:
        route = request.url.path.rpartition("/")[2]
        content = json.loads(await request.body())
        self.posted.append(Posted(route, content, request.headers.get("limner-token", "")))
        if route in self.answers:
            return _problem(*self.answers[route])
        return JSONResponse({"message": content["message"]}, status_code=200 if route == "cancel" else 202)


def _encode(number: int, name: str, data: dict[str, Any]) -> bytes:
    return f"id: e1-{number}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()


def _problem(status: int, kind: str | dict[str, Any], message: str = "") -> Response:
    problem = kind if isinstance(kind, dict) else {"kind": kind, "message": message, "hint": ""}
    return JSONResponse({"error": problem}, status_code=status)


@lru_cache
def picture(name: str) -> bytes:
    """A picture that looks different for every name."""
    hue = sum(name.encode()) * 37 % 360
    image = Image.new("HSV", (384, 256))
    draw = ImageDraw.Draw(image)
    for line in range(256):
        draw.line((0, line, 384, line), fill=(hue * 255 // 360, 150 - line // 3, 120 + line // 3))
    draw.ellipse((250, 40, 310, 100), fill=((hue + 30) * 255 // 360 % 256, 60, 245))
    draw.polygon(
        [(0, 256), (0, 190), (120, 140), (240, 210), (384, 160), (384, 256)], fill=(hue * 255 // 360, 170, 70)
    )
    buffer = BytesIO()
    image.convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>A chat</title>
<link rel="icon" href="data:,">
<style>
  :root { color-scheme: light dark; }
  body { margin: 2rem auto; max-width: 44rem; padding: 0 1rem; font: 1.05rem/1.6 Georgia, serif;
         color: light-dark(#26221d, #e6e0d6); background: light-dark(#fbf9f5, #191714); }
</style>
<body>CONTENT
<script>
  window.heard = [];
  for (const name of ["limner-progress", "limner-ended", "limner-error"])
    addEventListener(name, (event) => heard.push([name, event.detail]));
</script>
<script type="module" src="/limner/limner-message.js"></script>
</body>
</html>
"""
