"""A client that speaks ASGI to an app, without a server: it sends exactly what it is told to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlencode

import anyio
from starlette.types import ASGIApp, Message, Scope

from tests.support import settle


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def kind(self) -> str:
        """The kind of the error that the answer tells of."""
        assert set(self.json["error"]) == {"kind", "message", "hint"}
        return str(self.json["error"]["kind"])


@dataclass
class Event:
    """A server-sent event."""

    id: str
    name: str
    data: dict[str, Any]


@dataclass
class Reader:
    """The reader of a stream that is open. `blocks()` is what came since it was asked last."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    ended: bool = False
    """The answer is complete."""
    returned: bool = False
    """The app has nothing more to do with it."""
    _text: str = ""
    _left: anyio.Event = field(default_factory=anyio.Event)
    _takes: anyio.Event = field(default_factory=anyio.Event)

    def leave(self) -> None:
        """Close the connection."""
        self._left.set()

    def stop_reading(self) -> None:
        """From now on nothing is taken off the connection."""
        self._takes = anyio.Event()

    def read_on(self) -> None:
        self._takes.set()

    async def blocks(self) -> list[str]:
        """What came since, once nothing more comes by itself."""
        await settle()
        *whole, self._text = self._text.split("\n\n")
        assert self._text == ""
        return whole

    async def events(self) -> list[Event]:
        """The events that came since; comments and the like are left out."""
        return [_event(block) for block in await self.blocks() if block.startswith("id:")]

    async def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = _headers(message)
            return
        await self._takes.wait()
        self._text += message.get("body", b"").decode()
        self.ended = not message.get("more_body", False)

    async def wait_left(self) -> None:
        await self._left.wait()


class Browser:
    """Asks an app. `headers` go with every request; `root_path` is where the app is mounted."""

    def __init__(
        self, app: ASGIApp, headers: Mapping[str, str] | None = None, *, root_path: str = ""
    ) -> None:
        self._app = app
        self._headers = {"host": "chat.test", **(headers or {})}
        self._root_path = root_path

    async def get(self, path: str, method: str = "GET", /, **query: str) -> Answer:
        """Get a path as it is, percent signs included."""
        return await self.ask(method, path, query=urlencode(query))

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        pieces: list[bytes] | None = None,
    ) -> Answer:
        """Send a request, its body in `pieces`; without an end where the last piece is missing."""
        left = [*(pieces or [])]
        started: list[Message] = []
        body = b""

        async def receive() -> Message:
            await anyio.lowlevel.checkpoint()
            if len(left) > 1:
                return {"type": "http.request", "body": left.pop(0), "more_body": True}
            if left or not pieces:
                return {"type": "http.request", "body": left.pop() if left else b"", "more_body": False}
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            nonlocal body
            await anyio.lowlevel.checkpoint()
            if message["type"] == "http.response.start":
                started.append(message)
            else:
                assert started, "a body before its head"
                body += message.get("body", b"")

        await self._app(self._scope(method, path, query, headers), receive, send)
        [start] = started
        return Answer(start["status"], _headers(start), body)

    async def post(self, path: str, fields: object, headers: Mapping[str, str] | None = None) -> Answer:
        """Post JSON."""
        return await self.ask(
            "POST",
            path,
            headers={"content-type": "application/json", **(headers or {})},
            pieces=[json.dumps(fields).encode()],
        )

    @asynccontextmanager
    async def reading(
        self, path: str, query: str = "", headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Reader]:
        """Read a stream during the block. It is over when the block is, or the test fails."""
        reader = Reader()
        reader.read_on()
        asked = False

        async def receive() -> Message:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await reader.wait_left()
            return {"type": "http.disconnect"}

        async def run() -> None:
            await self._app(self._scope("GET", path, query, headers), receive, reader.take)
            reader.returned = True

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await settle()
            yield reader
            reader.read_on()
            reader.leave()
            await settle()
            assert reader.returned, "the app still works for a reader that has left"

    def _scope(self, method: str, path: str, query: str, headers: Mapping[str, str] | None) -> Scope:
        all_headers = {**self._headers, **(headers or {})}
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "server": ("chat.test", 80),
            "client": ("192.0.2.1", 1234),
            "root_path": self._root_path,
            "path": self._root_path + unquote(path),
            "raw_path": (self._root_path + path).encode(),
            "query_string": query.encode(),
            "headers": [
                (name.lower().encode(), value.encode("latin-1")) for name, value in all_headers.items()
            ],
        }


def _headers(message: Message) -> dict[str, str]:
    return {name.decode().lower(): value.decode("latin-1") for name, value in message.get("headers", [])}


def _event(block: str) -> Event:
    number, name, data = block.split("\n")
    return Event(
        number.removeprefix("id: "), name.removeprefix("event: "), json.loads(data.removeprefix("data: "))
    )
