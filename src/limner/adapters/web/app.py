"""The routes of `Limner.asgi`: what a page needs to show a message that is being illustrated.

Message ids are any text, so they stand in the query or in the body, never in the path. See docs/web.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from limner.adapters.web import incoming, packaged, wire
from limner.adapters.web.access import TOKEN_HEADER, Access, Authorise, MessageToken, origins_from
from limner.adapters.web.answers import PRIVATE, PUBLIC, JSONAnswer, bytes_answer
from limner.adapters.web.event_stream import EventStream, OpenStreams
from limner.adapters.web.problems import RequestRefused, problem_answer
from limner.adapters.web.stored import StoredPictures
from limner.errors import UnknownMessage
from limner.states import InsertionMode, Session, is_final
from limner.states.outcome import result_of
from limner.workflows.progress_events import SessionProgress

if TYPE_CHECKING:
    from limner.adapters.limner import Limner

_PREFLIGHT_S = 600
_Endpoint = Callable[[Request], Awaitable[ASGIApp]]


def asgi_app(
    limner: Limner, *, authorise: Authorise | None = None, allowed_origins: Iterable[str] = ()
) -> Starlette:
    """The app. It may be mounted anywhere, and answers as long as `limner` runs.

    `authorise` is asked for every request (see `limner.adapters.web.access`); without one reading is open,
    and a change takes the message's token. Pages of `allowed_origins` may do what the app's own may.

    Raises `InvalidSetting` where an origin is none, and where images have addresses that no page can show.
    """
    origins = origins_from(allowed_origins)
    access = Access(authorise or MessageToken(limner), origins)
    cross_origin = Middleware(
        CORSMiddleware,
        allow_origins=sorted(origins),
        allow_methods=["GET", "HEAD", "POST"],
        allow_headers=["authorization", "content-type", "last-event-id", TOKEN_HEADER],
        max_age=_PREFLIGHT_S,
    )
    app = Starlette(
        routes=_Pages(limner, access).routes(),
        middleware=[cross_origin] if origins else [],
        exception_handlers={HTTPException: _no_such_route},
    )
    app.router.redirect_slashes = False
    return app


async def _no_such_route(request: Request, error: Exception) -> Response:
    return problem_answer(error, request.scope["path"])


def _answering(endpoint: _Endpoint) -> _Endpoint:
    """The endpoint, with an answer to every request, also to one that ends in an error."""

    async def answer(request: Request) -> ASGIApp:
        try:
            return await endpoint(request)
        except ClientDisconnect:
            return Response(status_code=400)  # to nobody
        except Exception as error:  # noqa: BLE001 - a host's own parts may raise anything
            return problem_answer(error, request.scope["path"])

    return answer


class _Pages:
    """What each route answers."""

    def __init__(self, limner: Limner, access: Access) -> None:
        self._limner = limner
        self._access = access
        self._stored = StoredPictures(
            limner.images, limner.inspector, cache_control=PUBLIC if access.is_open else PRIVATE
        )
        self._streams = OpenStreams(limner.alarm)

    def routes(self) -> list[BaseRoute]:
        reading: dict[str, _Endpoint] = {
            "/images/{name}": self._image,
            "/thumbnails/{name}": self._thumbnail,
            "/preview": self._preview,
            "/status": self._status,
            "/text": self._text,
            "/events": self._events,
            "/machine": self._machine,
            "/machine.svg": self._machine_picture,
            "/tags": self._tags,
            "/limner-message.js": self._element,
            "/limner-message/{name}": self._element_module,
        }
        changing: dict[str, _Endpoint] = {
            "/regenerate": self._regenerate,
            "/retry": self._retry,
            "/cancel": self._cancel,
        }
        return [
            *(Route(path, _answering(endpoint), methods=["GET"]) for path, endpoint in reading.items()),
            *(Route(path, _answering(endpoint), methods=["POST"]) for path, endpoint in changing.items()),
        ]

    # --- pictures

    async def _image(self, request: Request) -> ASGIApp:
        await self._access.check(request, "images")
        return await self._stored.image(request, request.path_params["name"])

    async def _thumbnail(self, request: Request) -> ASGIApp:
        await self._access.check(request, "images")
        return await self._stored.thumbnail(request, request.path_params["name"])

    async def _preview(self, request: Request) -> ASGIApp:
        message_id = incoming.message_of(request)
        await self._access.check(request, "read", message_id)
        thumbnail = self._limner.thumbnail(message_id, request.query_params.get("prompt", ""))
        if thumbnail is None:
            raise RequestRefused(404, "not_found", "there is no picture of that prompt yet, or no more")
        version = wire.version_of(thumbnail)
        asked = request.query_params.get("v")
        cache = PRIVATE if asked == version else "no-cache"
        return bytes_answer(request, thumbnail.data, thumbnail.media_type, f'"{version}"', cache)

    # --- a message

    async def _status(self, request: Request) -> ASGIApp:
        message_id = incoming.message_of(request)
        await self._access.check(request, "read", message_id)
        progress, session = await self._standing(message_id)
        prompts = self._limner.progress(message_id)
        result = wire.result_form(result_of(session)) if is_final(session) else None
        return JSONAnswer(
            {
                **wire.session_form(progress),
                "prompts": [wire.prompt_form(prompt) for prompt in prompts],
                "result": result,
            }
        )

    async def _text(self, request: Request) -> ASGIApp:
        message_id = incoming.message_of(request)
        await self._access.check(request, "read", message_id)
        text = await self._limner.text(message_id)
        streaming = self._limner.manager.stream(message_id) is not None
        return JSONAnswer({"message": message_id, "text": text, "streaming": streaming})

    async def _events(self, request: Request) -> ASGIApp:
        message_ids = incoming.messages_of(request)
        with_text = incoming.flag_of(request, "text")
        for message_id in message_ids:
            await self._access.check(request, "read", message_id)
        after = incoming.last_event_of(request)
        return EventStream(self._limner.watch(message_ids, after=after, text=with_text), self._streams)

    async def _machine(self, request: Request) -> ASGIApp:
        message_id = incoming.message_of(request)
        await self._access.check(request, "read", message_id)
        progress, _ = await self._standing(message_id)
        history = wire.history_form(self._limner.history(message_id))
        return JSONAnswer({"message": message_id, "state": progress.state, "history": history})

    async def _standing(self, message_id: str) -> tuple[SessionProgress, Session]:
        """Where the message's session stands. Raises `UnknownMessage`, `NotRunning`, `StorageError`."""
        async for progress in self._limner.events(message_id):
            session = self._limner.manager.progress.session(message_id)
            if isinstance(progress, SessionProgress) and session is not None:
                return progress, session
        raise UnknownMessage(message_id)

    # --- what belongs to no message

    async def _machine_picture(self, request: Request) -> ASGIApp:
        await self._access.check(request, "read")
        return packaged.picture_answer(request)

    async def _element(self, request: Request) -> ASGIApp:
        await self._access.check(request, "read")
        return packaged.element_answer(request)

    async def _element_module(self, request: Request) -> ASGIApp:
        await self._access.check(request, "read")
        return packaged.module_answer(request, request.path_params["name"])

    async def _tags(self, request: Request) -> ASGIApp:
        await self._access.check(request, "read")
        return JSONAnswer(wire.tags_form(self._limner.manager.patterns.patterns))

    # --- what changes something

    async def _regenerate(self, request: Request) -> ASGIApp:
        self._access.check_site(request)
        fields = await incoming.fields_of(request)
        message_id, image_url, mode = (
            incoming.text_field(fields, "message"),
            incoming.text_field(fields, "image"),
            incoming.text_field(fields, "mode", InsertionMode.REPLACE_IMAGE),
        )
        await self._access.check(request, "regenerate", message_id)
        if mode not in set(InsertionMode):
            raise RequestRefused(400, "invalid_setting", f"mode is one of {', '.join(InsertionMode)}")
        await self._limner.regenerate(message_id, image_url, mode=InsertionMode(mode))
        return self._accepted(message_id)

    async def _retry(self, request: Request) -> ASGIApp:
        self._access.check_site(request)
        fields = await incoming.fields_of(request)
        message_id = incoming.text_field(fields, "message")
        prompt_id = incoming.text_field(fields, "prompt")
        await self._access.check(request, "retry", message_id)
        await self._limner.retry(message_id, prompt_id)
        return self._accepted(message_id)

    async def _cancel(self, request: Request) -> ASGIApp:
        self._access.check_site(request)
        fields = await incoming.fields_of(request)
        message_id = incoming.text_field(fields, "message")
        await self._access.check(request, "cancel", message_id)
        return JSONAnswer(wire.ended_form(await self._limner.cancel(message_id)))

    def _accepted(self, message_id: str) -> JSONAnswer:
        counts = wire.counts_form(self._limner.counts(message_id))
        return JSONAnswer({"message": message_id, "counts": counts}, 202)
