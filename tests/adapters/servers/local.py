"""Servers in a thread: one that runs an ASGI application, one that sends whatever bytes it likes."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

import anyio.lowlevel
import anyio.to_thread
import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATIENCE_S = 20
"""How long a test waits for something that should come at once, before it is given up as failed."""


async def happened(event: threading.Event) -> None:
    """Wait for something that another thread does."""
    assert await anyio.to_thread.run_sync(event.wait, PATIENCE_S), "what the test waits for did not happen"


@dataclass(frozen=True)
class Received:
    """A request as the server got it. `raw_path` is the path before its percent signs were resolved."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    json: dict[str, Any] = field(default_factory=dict)
    port: int = 0
    """The client's, by which its connections can be told apart."""
    query: dict[str, str] = field(default_factory=dict)
    raw_path: str = ""


Handler = Callable[[Received], Awaitable[Response]]


class RunningApp:
    """An ASGI application behind a real server in a thread. `ws` and `lifespan` are uvicorn's words."""

    def __init__(
        self,
        app: ASGIApp,
        ws: Literal["none", "wsproto"] = "none",
        lifespan: Literal["on", "off"] = "off",
    ) -> None:
        # Listening before the thread runs: a connection made meanwhile waits, and nobody has to poll.
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(app, log_config=None, lifespan=lifespan, ws=ws, timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})
        self._thread.start()

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(PATIENCE_S)
        self._socket.close()


class WebServer:
    """A web server whose behaviour a test sets by path; everything else is 404.

    `received` lists the requests. With `piece_size` every body is sent in pieces of so many bytes. `close()`
    ends it, and lets go of whatever waits on `released`.
    """

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.piece_size: int | None = None
        self.arrived = threading.Event()
        self.released = threading.Event()
        self._handlers: dict[str, Handler] = {}
        self._below: dict[str, Handler] = {}
        # Listening before the thread runs: a connection made meanwhile waits, and nobody has to poll.
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            self._app,
            interface="asgi3",
            log_config=None,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})
        self._thread.start()

    def reset(self) -> None:
        """Forget everything that the last test set up."""
        self.released.set()
        self.received.clear()
        self.piece_size = None
        self._handlers.clear()
        self._below.clear()
        self.arrived = threading.Event()
        self.released = threading.Event()

    def close(self) -> None:
        self.released.set()
        self._server.should_exit = True
        self._thread.join(PATIENCE_S)
        self._socket.close()

    def on(self, path: str, handler: Handler) -> None:
        """Let `handler` answer requests for `path`."""
        self._handlers[path] = handler

    def on_below(self, path: str, handler: Handler) -> None:
        """Let `handler` answer requests for whatever lies below `path`, which ends in a slash."""
        self._below[path] = handler

    def answer(self, path: str, response: Response) -> None:
        """Answer every request for `path` alike."""

        async def handler(_: Received) -> Response:
            return response

        self.on(path, handler)

    def answer_json(
        self, path: str, content: object, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        """Answer every request for `path` with this JSON."""
        self.answer(path, JSONResponse(content, status, headers))

    def hold(self, path: str, then: Response | None = None) -> None:
        """Take requests for `path` and do not answer them, with `then` or a 503, until `released` is set."""

        async def held(_: Received) -> Response:
            released = self.released
            self.arrived.set()
            await anyio.to_thread.run_sync(released.wait, PATIENCE_S)
            return then or Response(status_code=503)

        self.on(path, held)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Not by way of a route: none matches a path with a line break in it.
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send if self.piece_size is None else in_pieces(send, self.piece_size))

    async def _answer(self, request: Request) -> Response:
        try:
            body = await request.body()
        except ClientDisconnect:
            return Response(status_code=400)
        is_json = request.headers.get("content-type") == "application/json" and body
        received = Received(
            request.method,
            request.url.path,
            dict(request.headers),
            body,
            await request.json() if is_json else {},
            request.client.port if request.client is not None else 0,
            dict(request.query_params),
            request.scope["raw_path"].decode("ascii"),
        )
        self.received.append(received)
        handler = self._handlers.get(request.url.path)
        if handler is None:
            below = (kept for path, kept in self._below.items() if request.url.path.startswith(path))
            handler = next(below, None)
        if handler is None:
            return JSONResponse({"detail": "Not Found"}, 404)
        return await handler(received)


def in_pieces(send: Send, size: int) -> Send:
    """Sends what `send` does, a body in pieces of `size` bytes.

    Its length is not told before, so each piece is a chunk of its own: whoever reads gets them one by one,
    however many of them the network has put together.
    """

    async def send_pieces(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [(name, value) for name, value in message["headers"] if name != b"content-length"]
            await send({**message, "headers": headers})
            return
        body = message.get("body", b"")
        while message["type"] == "http.response.body" and len(body) > size:
            await send({**message, "body": body[:size], "more_body": True})
            await anyio.lowlevel.checkpoint()
            body = body[size:]
        await send({**message, "body": body} if "body" in message else message)

    return send_pieces


Script = Callable[["Wire"], None]


class Wire:
    """One connection to a `RawServer`, after the request has been read."""

    def __init__(self, connection: socket.socket, server: RawServer) -> None:
        self._connection = connection
        self.server = server

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)
        self.server.sent += len(data)

    def receive(self, size: int) -> bytes:
        """Exactly `size` bytes from the client; fewer where it hangs up before."""
        data = b""
        while len(data) < size and (part := self._connection.recv(size - len(data))):
            data += part
        return data

    def send_until_cut(self, piece: bytes) -> None:
        """Send without end; returns when the client has had enough."""
        try:
            while True:
                self.send(piece)
        except OSError:
            self.server.was_cut.set()

    def wait_until_cut(self) -> None:
        """Send nothing more; returns when the client hangs up."""
        try:
            while self._connection.recv(1024):
                pass
        except OSError:
            pass
        self.server.was_cut.set()

    def reset(self) -> None:
        """Drop the connection the hard way: the client gets ECONNRESET."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class RawServer:
    """Answers every connection with what `script` sends, then closes it. Use as a context manager.

    `sent` counts the bytes, `heads` lists the heads of the requests; `was_cut` is set when the client hung
    up first.
    """

    def __init__(self, script: Script) -> None:
        self.sent = 0
        self.was_cut = threading.Event()
        self.heads: list[bytes] = []
        self._script = script
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # shutdown() wakes the thread that waits in accept(); close() alone would leave it there.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE_S)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(PATIENCE_S)
                self.heads.append(_read_request(connection))
                self._script(Wire(connection, self))


def _read_request(connection: socket.socket) -> bytes:
    """Read one request; return its head."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return data
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        body += connection.recv(65536)
    return head


def head(status: str = "200 OK", **headers: str) -> bytes:
    """The head of an HTTP/1.1 answer."""
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    """One piece of a body with `transfer-encoding: chunked`."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"
