"""How each adapter is brought into the situations of the contract, with the stand-ins for its server."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote

import anyio
from starlette.responses import JSONResponse, Response

from limner.adapters.callable import CallableGenerator
from limner.adapters.comfyui import ComfyUIGenerator
from limner.adapters.gemini import GeminiGenerator
from limner.adapters.horde import HordeGenerator
from limner.adapters.json_generator import JSONGenerator
from limner.adapters.openai_images import OpenAIImagesGenerator
from limner.adapters.pollinations import PollinationsGenerator
from limner.adapters.sdapi import SdapiGenerator
from limner.adapters.sketch import SketchGenerator
from limner.errors import (
    AuthFailed,
    BackendError,
    BadRequest,
    Moderated,
    NoBalance,
    NoImage,
    QueueFull,
    RateLimited,
    Unavailable,
)
from limner.testing import GeneratorCase, ResumableWork, SlowWork
from limner.workflows.ports import GenerationRequest, Generator, ProgressCallback
from tests.adapters.pipelines import ScriptedPipeline, Unseeded
from tests.adapters.servers.comfyui import WORKFLOW, ComfyServer
from tests.adapters.servers.horde import HordeServer
from tests.adapters.servers.local import Received, WebServer
from tests.adapters.servers.openai_images import OpenAIImagesServer, completed
from tests.adapters.servers.sdapi import SdapiServer

PATHS = {
    "sdapi": "/sdapi/v1/txt2img",
    "openai": "/v1/images/generations",
    "comfyui": "/prompt",
    "horde": "/api/v2/generate/async",
    "gemini": "/v1beta/models/m:generateContent",
    "pollinations": "/image/a red fox in the snow",
    "json": "/paint",
}
KEY = "secret-key+1"
SECRETS = [KEY, "secret-key%2B1", base64.b64encode(f"user:{KEY}".encode()).decode()]
"""The key that every adapter is given, as it stands and as a server may give it back."""
HTML = "<html>Cloudflare</html>"
PIECE_SIZE = 7
"""Bytes. Small enough to cut a chunk's head, a number and an escape in two."""

# A status and a code by which every server says so.
_REFUSALS: dict[type[BackendError], tuple[int, str]] = {
    BadRequest: (400, ""),
    AuthFailed: (401, ""),
    NoBalance: (402, ""),
    RateLimited: (429, ""),
    QueueFull: (429, "queue_full"),
    Moderated: (400, "moderation_blocked"),
    Unavailable: (503, ""),
    BackendError: (500, ""),
}


def backend(name: str, url: str) -> Generator:
    """The adapter for a server at `url`."""
    key = KEY
    body = {"prompt": "%prompt%"}
    kinds: dict[str, Callable[[], Generator]] = {
        "sdapi": lambda: SdapiGenerator(url, poll_interval_ms=0, auth=("user", key)),
        "openai": lambda: OpenAIImagesGenerator(url, model="m", api_key=key),
        "openai streaming": lambda: OpenAIImagesGenerator(url, model="m", api_key=key, partial_images=2),
        "comfyui": lambda: ComfyUIGenerator(url, WORKFLOW, api_key=key, poll_interval_ms=0),
        "horde": lambda: HordeGenerator(url, api_key=key, poll_interval_ms=0, submit_interval_ms=0),
        "gemini": lambda: GeminiGenerator(url, model="m", api_key=key),
        "pollinations": lambda: PollinationsGenerator(url, api_key=key),
        "json": lambda: JSONGenerator(
            f"{url}{PATHS['json']}", body=body, image="$.image", headers={"authorization": f"Bearer {key}"}
        ),
    }
    return kinds[name]()


def image_answer(name: str, image: object) -> object:
    """The answer of a textual backend's server."""
    answers: dict[str, object] = {
        "sdapi": {"images": [image]},
        "openai": {"data": [{"b64_json": image}]},
        "gemini": {"candidates": [{"content": {"parts": [{"inlineData": {"data": image}}]}}]},
        "json": {"image": image},
    }
    return answers[name]


@dataclass
class Stage:
    """The servers that the cases are played on, and the image that they paint."""

    web: WebServer
    comfy: ComfyServer
    png: bytes
    begun: threading.Event = field(default_factory=threading.Event)

    @property
    def text(self) -> str:
        return base64.b64encode(self.png).decode()

    @property
    def half(self) -> bytes:
        return self.png[: len(self.png) // 2]

    def over_http(
        self,
        name: str,
        *,
        working: Callable[[], Generator],
        slow: Callable[[], SlowWork],
        no_image: Callable[[], Generator],
        broken_image: Callable[[], Generator],
        resumable: Callable[[], ResumableWork] | None = None,
    ) -> GeneratorCase:
        """A case of an adapter whose server answers by HTTP."""
        path = PATHS["openai" if name == "openai streaming" else name]

        def refusing(kind: type[BackendError]) -> Generator:
            if kind is NoImage:
                return no_image()
            status, code = _REFUSALS[kind]

            async def refuse(request: Received) -> Response:
                sent = [
                    request.headers.get(name, "") for name in ("authorization", "x-goog-api-key", "apikey")
                ]
                words = f"the reason; got {' '.join(filter(None, sent))}, that is {quote(KEY)}"
                return JSONResponse({"error": {"message": words, "code": code}}, status)

            self.web.on(path, refuse)
            return backend(name, self.web.url)

        def drip_fed() -> Generator:
            self.web.piece_size = self.comfy.piece_size = PIECE_SIZE
            return working()

        def page() -> Generator:
            self.web.answer(path, Response(HTML, media_type="text/html"))
            return backend(name, self.web.url)

        return GeneratorCase(
            working=working,
            slow=slow,
            refusing=refusing,
            drip_fed=drip_fed,
            broken_image=broken_image,
            wrong_content_type=page,
            resumable=resumable,
            secrets=SECRETS,
        )


def case_of(name: str, stage: Stage) -> GeneratorCase:
    """The case of one adapter."""
    return _CASES[name](stage)


def _sketch(stage: Stage) -> GeneratorCase:
    def slow() -> SlowWork:
        gate, stopped = anyio.Event(), threading.Event()

        class Waiting(SketchGenerator):
            async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
                stage.begun.set()
                try:
                    await gate.wait()
                    return await super().generate(request, report)
                finally:
                    stopped.set()

        return SlowWork(
            generator=Waiting(64, 64, steps=3), begun=stage.begun, finish=gate.set, stopped=stopped
        )

    return GeneratorCase(
        working=lambda: SketchGenerator(64, 64, steps=3),
        slow=slow,
        refusing=lambda kind: None,
        drip_fed=None,
        broken_image=None,
        wrong_content_type=None,
        resumable=None,
        secrets=[],
    )


def _callable(stage: Stage) -> GeneratorCase:
    def returning(answer: object) -> Generator:
        async def paint(_: str) -> bytes:
            return answer  # type: ignore[return-value]  # a host's function may return anything

        return CallableGenerator(paint)

    def slow() -> SlowWork:
        gate = anyio.Event()

        async def paint(_: str) -> bytes:
            stage.begun.set()
            await gate.wait()
            return stage.png

        return SlowWork(generator=CallableGenerator(paint), begun=stage.begun, finish=gate.set, stopped=None)

    def refusing(kind: type[BackendError]) -> Generator:
        async def paint(_: str) -> bytes:
            raise kind("the reason")

        return CallableGenerator(paint)

    return GeneratorCase(
        working=lambda: returning(stage.png),
        slow=slow,
        refusing=refusing,
        drip_fed=None,
        broken_image=lambda: returning(stage.half),
        wrong_content_type=lambda: returning(HTML),
        resumable=None,
        secrets=[],
    )


def _sdapi(stage: Stage) -> GeneratorCase:
    def server(image: str) -> SdapiServer:
        server = SdapiServer(stage.web, image)
        server.begun = stage.begun
        return server

    def working() -> Generator:
        server(stage.text).previews = [stage.text, None, stage.text]
        return backend("sdapi", stage.web.url)

    def slow() -> SlowWork:
        at_work = server(stage.text)
        at_work.endless = True
        return SlowWork(
            generator=backend("sdapi", stage.web.url),
            begun=stage.begun,
            finish=at_work.finish,
            stopped=at_work.interrupted,
        )

    def sending(image: str) -> Generator:
        server(image)
        return backend("sdapi", stage.web.url)

    return stage.over_http(
        "sdapi",
        working=working,
        slow=slow,
        no_image=lambda: sending(""),
        broken_image=lambda: sending(base64.b64encode(stage.half).decode()),
    )


def _horde(stage: Stage) -> GeneratorCase:
    def server(image: str, *, endless: bool = False) -> HordeServer:
        server = HordeServer(stage.web, image)
        server.keys.add(KEY)
        server.endless, server.looked_at = endless, stage.begun
        server.states = [{"queue_position": 3}, {"queue_position": 1}, {"waiting": 0, "processing": 1}]
        return server

    def sending(image: str) -> Generator:
        server(image)
        return backend("horde", stage.web.url)

    def finishing(server: HordeServer) -> Callable[[], None]:
        def finish() -> None:
            server.endless = False

        return finish

    def slow() -> SlowWork:
        at_work = server(stage.text, endless=True)
        return SlowWork(
            generator=backend("horde", stage.web.url),
            begun=stage.begun,
            finish=finishing(at_work),
            stopped=at_work.withdrawn,
        )

    def resumable() -> ResumableWork:
        at_work = server(stage.text, endless=True)
        return ResumableWork(
            generator=lambda: backend("horde", stage.web.url),
            begun=stage.begun,
            finish=finishing(at_work),
            jobs=lambda: len(at_work.jobs),
        )

    return stage.over_http(
        "horde",
        working=lambda: sending(stage.text),
        slow=slow,
        no_image=lambda: sending(""),
        broken_image=lambda: sending(base64.b64encode(stage.half).decode()),
        resumable=resumable,
    )


def _comfyui(stage: Stage) -> GeneratorCase:
    comfy = stage.comfy

    def working() -> Generator:
        comfy.previews = [stage.png, stage.png]
        return backend("comfyui", comfy.url)

    def held() -> None:
        comfy.hold_at, comfy.reached = "sampling", stage.begun

    def slow() -> SlowWork:
        held()
        return SlowWork(generator=working(), begun=stage.begun, finish=comfy.release, stopped=comfy.stopped)

    def resumable() -> ResumableWork:
        held()
        return ResumableWork(
            generator=working,
            begun=stage.begun,
            finish=comfy.release,
            jobs=lambda: len(comfy.asked("/prompt")),
        )

    def saving_nothing() -> Generator:
        comfy.saved = []
        return working()

    def painting_half() -> Generator:
        comfy.paint = lambda graph: stage.half
        return working()

    return stage.over_http(
        "comfyui",
        working=working,
        slow=slow,
        no_image=saving_nothing,
        broken_image=painting_half,
        resumable=resumable,
    )


def _openai_streaming(stage: Stage) -> GeneratorCase:
    def streaming(image: str) -> Generator:
        OpenAIImagesServer(stage.web, image)
        return backend("openai streaming", stage.web.url)

    def at_last() -> Response:
        return Response(completed(stage.text), media_type="text/event-stream")

    return stage.over_http(
        "openai streaming",
        working=lambda: streaming(stage.text),
        slow=lambda: _held(stage, "openai streaming", PATHS["openai"], at_last()),
        no_image=lambda: streaming(""),
        broken_image=lambda: streaming(base64.b64encode(stage.half).decode()),
    )


def _in_one_answer(name: str) -> Callable[[Stage], GeneratorCase]:
    """An adapter that asks once, and is answered with the image."""

    def case(stage: Stage) -> GeneratorCase:
        def answer(image: bytes) -> Response:
            if name == "pollinations":
                return Response(image, media_type="image/png")
            return JSONResponse(image_answer(name, base64.b64encode(image).decode()))

        def sending(image: bytes) -> Generator:
            stage.web.answer(PATHS[name], answer(image))
            return backend(name, stage.web.url)

        return stage.over_http(
            name,
            working=lambda: sending(stage.png),
            slow=lambda: _held(stage, name, PATHS[name], answer(stage.png)),
            no_image=lambda: sending(b""),
            broken_image=lambda: sending(stage.half),
        )

    return case


def _held(stage: Stage, name: str, path: str, answer: Response) -> SlowWork:
    stage.web.arrived = stage.begun
    stage.web.hold(path, answer)
    return SlowWork(
        generator=backend(name, stage.web.url),
        begun=stage.begun,
        finish=stage.web.released.set,
        stopped=None,
    )


def _diffusers(stage: Stage) -> GeneratorCase:
    def slow() -> SlowWork:
        pipeline = ScriptedPipeline(endless=True)
        pipeline.begun = stage.begun
        return SlowWork(
            generator=Unseeded(pipeline),
            begun=stage.begun,
            finish=pipeline.finish,
            stopped=pipeline.interrupted,
        )

    def refusing(kind: type[BackendError]) -> Generator | None:
        pipeline = ScriptedPipeline()
        if kind is Moderated:
            pipeline.held_back = [True]
        elif kind is NoImage:
            pipeline.images = []
        elif kind is BackendError:
            pipeline.error = RuntimeError("the reason")
        else:
            return None
        return Unseeded(pipeline)

    return GeneratorCase(
        working=lambda: Unseeded(ScriptedPipeline()),
        slow=slow,
        refusing=refusing,
        drip_fed=None,
        broken_image=None,
        wrong_content_type=None,
        resumable=None,
        secrets=[],
    )


_CASES: dict[str, Callable[[Stage], GeneratorCase]] = {
    "sketch": _sketch,
    "callable": _callable,
    "openai streaming": _openai_streaming,
    "sdapi": _sdapi,
    "openai": _in_one_answer("openai"),
    "comfyui": _comfyui,
    "horde": _horde,
    "gemini": _in_one_answer("gemini"),
    "pollinations": _in_one_answer("pollinations"),
    "json": _in_one_answer("json"),
    "diffusers": _diffusers,
}
BACKENDS = list(_CASES)
