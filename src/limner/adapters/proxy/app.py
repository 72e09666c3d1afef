"""The proxy as an ASGI application: what passes as it is, and what is looked at.

Chat completions are followed; everything else below `/v1` passes through, whatever it is. Below `/limner` is
the web app of `Limner.asgi`, which has the pictures.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from limner.adapters.http import MIB, Relay
from limner.adapters.http_answer import Answer
from limner.adapters.http_parts import PARSE_IN_PLACE_BYTES, InOnePiece
from limner.adapters.limner import Limner
from limner.adapters.message_memory import MemoryMessageStore
from limner.adapters.proxy.history import TagMemory
from limner.adapters.proxy.illustration import Illustrator
from limner.adapters.proxy.page import Page
from limner.adapters.proxy.requests import ChatRequest, ChatRequests
from limner.adapters.proxy.setting import ReplySetting
from limner.adapters.proxy.streamed import StreamedReply
from limner.adapters.proxy.whole import WholeReply, pass_on
from limner.adapters.proxy.wire import Client, ClientGone, RequestBody, error_body, passed_on
from limner.adapters.proxy.wishes import HEADER, Wishes
from limner.adapters.web.shutdown import server_is_stopping
from limner.errors import BackendError, CallerError
from limner.text import PromptPatterns, compile_patterns
from limner.workflows.logs import brief, log
from limner.workflows.ports import Generator

MAX_REQUEST_BYTES = 64 * MIB
"""A chat request up to this size is looked into; a larger one passes as it is."""

_CHAT = "/chat/completions"
_EVENTS = ("text/event-stream", "text/plain", "")
_LAST_WORD_S = 0.5
_STOPPED = b'{"error":{"message":"the proxy was stopped; ask again","type":"limner_error","code":"stopped"}}'
_NOT_OURS = (b"host", b"expect", HEADER)


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """How the proxy behaves.

    `defaults` is what holds where a client asks for nothing; `instruction` what teaches the model the tags.
    `public_url` is what clients know the proxy by; without it, the host that each of them has asked for.
    `keep_alive_ms` is how long a connection may be silent while pictures are made. `about` is what its page
    says of it. `is_stopping` tells when the server is on its way out: replies end with the pictures that are
    there.
    """

    patterns: PromptPatterns = field(default_factory=compile_patterns)
    defaults: Wishes = field(default_factory=Wishes)
    instruction: str | None = None
    public_url: str | None = None
    keep_alive_ms: int = 5_000
    about: Mapping[str, str] = field(default_factory=dict)
    is_stopping: Callable[[], bool] = server_is_stopping


def proxy_app(
    limner: Limner,
    store: MemoryMessageStore,
    relay: Relay,
    settings: ProxySettings,
    closing: Sequence[Generator] = (),
) -> Starlette:
    """The application. It starts and stops `limner`, whose messages are in `store`, and closes `relay`.

    `closing` is what else it closes at the end.
    """
    proxy = Proxy(limner, store, relay, settings)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(relay.aclose)
            for part in closing:
                stack.push_async_callback(part.aclose)
            await stack.enter_async_context(limner)
            yield

    return Starlette(
        routes=[
            Route("/", Page(settings.about, settings.public_url).answer),
            Mount("/v1", app=proxy),
            Mount("/limner", app=limner.asgi()),
        ],
        exception_handlers={404: _nothing_here},
        lifespan=lifespan,
    )


async def _nothing_here(_: Request, __: Exception) -> Response:
    told = {
        "message": "Limner serves /v1/… and /limner/…",
        "type": "invalid_request_error",
        "code": "not_found",
    }
    return Response(json.dumps({"error": told}), 404, media_type="application/json")


class Proxy:
    """What is below `/v1`."""

    def __init__(
        self, limner: Limner, store: MemoryMessageStore, relay: Relay, settings: ProxySettings
    ) -> None:
        self._relay = relay
        self._settings = settings
        self._alarm = limner.alarm
        self._memory = TagMemory()
        self._illustrator = Illustrator(limner, store, settings.patterns, settings.is_stopping)
        self._requests = ChatRequests(
            settings.patterns, self._memory, settings.defaults, settings.instruction
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. A client that hangs up ends all that is under way for it."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008, "reason": "no websockets here"})
            return
        body, client = RequestBody(receive), Client(send)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_cancel_when_gone, body, tasks.cancel_scope)
                await self._answer(scope, body, client)
                tasks.cancel_scope.cancel()
        except anyio.get_cancelled_exc_class():
            # By the server, which waits no longer. Left to itself it would say that there was a fault.
            with anyio.move_on_after(_LAST_WORD_S, shield=True):
                await _refuse(client, 503, _STOPPED)
            raise

    async def _answer(self, scope: Scope, body: RequestBody, client: Client) -> None:
        try:
            await self._pass(scope, body, client)
        except ClientGone:
            pass
        except CallerError as error:
            await _refuse(client, 400, error_body(error))
        except BackendError as error:
            await _refuse(client, 502, error_body(error))
        except Exception as error:  # noqa: BLE001 - one conversation's fault must not become a traceback
            log.critical("proxy_failed", error=brief(error))
            await _refuse(client, 500, b'{"error":{"message":"a fault in Limner","type":"limner_error"}}')

    async def _pass(self, scope: Scope, body: RequestBody, client: Client) -> None:
        target = _target(scope)
        if target is None:
            await _refuse(client, 404, b'{"error":{"message":"no such path","type":"invalid_request_error"}}')
            return
        if scope["method"] == "POST" and target.partition("?")[0] == _CHAT:
            whole = await body.whole(MAX_REQUEST_BYTES)
            if whole is not None:
                await self._chat(scope, target, whole, client)
                return
        headers = passed_on(scope["headers"], *_NOT_OURS)
        names = {name for name, _ in scope["headers"]}
        if b"content-length" not in names and b"transfer-encoding" in names:
            headers.append((b"transfer-encoding", b"chunked"))
        async with self._relay.send(scope["method"], target, headers, body) as answer:
            body.done()
            await client.start(answer.status, passed_on(answer.headers))
            await pass_on(answer, client)

    async def _chat(self, scope: Scope, target: str, body: bytes, client: Client) -> None:
        request = await self._prepare(scope, body)
        headers = passed_on(scope["headers"], *_NOT_OURS, b"content-length")
        headers.append((b"content-length", str(len(request.body)).encode()))
        if request.follows:
            # What cannot be read cannot be followed.
            headers = [*passed_on(headers, b"accept-encoding"), (b"accept-encoding", b"identity")]
        async with self._relay.send("POST", target, headers, InOnePiece(request.body)) as answer:
            if not request.follows or not _can_be_followed(answer):
                await client.start(answer.status, passed_on(answer.headers))
                await pass_on(answer, client)
                return
            setting = ReplySetting(
                request.wishes,
                self._settings.public_url or _address_of(scope),
                self._settings.patterns,
                self._memory,
                self._alarm,
                self._settings.keep_alive_ms,
            )
            async with self._illustrator.begin() as illustration:
                if answer.media_type == "application/json":
                    await WholeReply(answer, client, illustration, setting).run()
                    return
                await client.start(answer.status, passed_on(answer.headers, b"content-length"))
                await StreamedReply(answer, client, illustration, setting).run()

    async def _prepare(self, scope: Scope, body: bytes) -> ChatRequest:
        given = [value for name, value in scope["headers"] if name == HEADER]
        header = b"; ".join(given).decode("latin-1") if given else None
        if len(body) <= PARSE_IN_PLACE_BYTES:
            return self._requests.prepare(body, header)
        return await anyio.to_thread.run_sync(partial(self._requests.prepare, body, header))


async def _cancel_when_gone(body: RequestBody, scope: anyio.CancelScope) -> None:
    await body.client_gone()
    scope.cancel()


async def _refuse(client: Client, status: int, body: bytes) -> None:
    """Say what is wrong. An answer that has begun is left without its end, which cuts it off."""
    if not client.started:
        await client.answer(status, body)


def _can_be_followed(answer: Answer) -> bool:
    encoding = next((value for name, value in passed_on(answer.headers) if name == b"content-encoding"), b"")
    kinds = (*_EVENTS, "application/json")
    return answer.status == 200 and encoding in (b"", b"identity") and answer.media_type in kinds


def _target(scope: Scope) -> str | None:
    """The path behind `/v1` as the client wrote it, and the query; None for one that leads out of it."""
    raw: Any = scope.get("raw_path") or quote(scope["path"]).encode("ascii")
    whole: str = raw.decode("ascii", "replace")
    # Literally, since what is written otherwise (`/%761/`) could not be cut off by its length.
    if not whole.startswith(f"{scope['root_path']}/"):
        return None
    path = whole[len(scope["root_path"]) :]
    if {b".", b".."} & set(unquote_to_bytes(path).replace(b"\\", b"/").split(b"/")):
        return None
    query = scope["query_string"].decode("ascii", "replace")
    return f"{path}?{query}" if query else path


def _address_of(scope: Scope) -> str:
    """What the client has called this server."""
    host = next((value for name, value in scope["headers"] if name == b"host"), b"")
    root = scope["root_path"].removesuffix("/v1")
    return f"{scope['scheme']}://{host.decode('latin-1')}{root}" if host else root
