"""What every generator keeps to, whatever is behind it."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Callable
from dataclasses import dataclass

import anyio
import pytest
from PIL import Image
from starlette.responses import Response

from limner.adapters.callable import CallableGenerator
from limner.adapters.comfyui import ComfyUIGenerator
from limner.adapters.gemini import GeminiGenerator
from limner.adapters.horde import HordeGenerator
from limner.adapters.inspection import PillowInspector
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
    NotAnImage,
    RateLimited,
    Unavailable,
)
from limner.workflows.ports import Generator
from tests.adapters.servers.comfyui import WORKFLOW, ComfyServer
from tests.adapters.servers.horde import HordeServer
from tests.adapters.servers.local import PATIENCE_S, RawServer, WebServer, happened
from tests.adapters.servers.openai_images import OpenAIImagesServer
from tests.adapters.servers.sdapi import SdapiServer

pytestmark = pytest.mark.anyio

PATHS = {
    "sdapi": "/sdapi/v1/txt2img",
    "openai": "/v1/images/generations",
    "comfyui": "/prompt",
    "horde": "/api/v2/generate/async",
    "gemini": "/v1beta/models/m:generateContent",
    "pollinations": "/image/a red fox in the snow",
    "json": "/paint",
}
BACKENDS = ["sketch", "callable", "openai streaming", *PATHS]
# Those whose image is a text within one JSON answer.
TEXTUAL = ["sdapi", "openai", "gemini", "json"]


def backend(name: str, url: str) -> Generator:
    """The adapter for a server at `url`."""
    key = "secret-key"
    body = {"prompt": "%prompt%"}
    kinds: dict[str, Callable[[], Generator]] = {
        "sdapi": lambda: SdapiGenerator(url, poll_interval_ms=0),
        "openai": lambda: OpenAIImagesGenerator(url, model="m", api_key=key),
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
class Case:
    """A generator that works, and one whose work never ends."""

    working: Callable[[], Generator]
    endless: Callable[[], Generator]
    begun: threading.Event


@pytest.fixture(params=BACKENDS)
def case(request: pytest.FixtureRequest, web: WebServer, comfy: ComfyServer, png: bytes) -> Case:
    text = base64.b64encode(png).decode()
    begun = threading.Event()

    async def at_once(_: str) -> bytes:
        return png

    async def never(_: str) -> bytes:
        begun.set()
        await anyio.sleep_forever()
        return b""

    def sdapi(*, endless: bool) -> Generator:
        server = SdapiServer(web, text)
        server.endless, server.begun = endless, begun
        server.previews = [text, None, text]
        return backend("sdapi", web.url)

    def horde(*, endless: bool) -> Generator:
        server = HordeServer(web, text)
        server.endless, server.looked_at = endless, begun
        server.states = [{"queue_position": 3}, {"queue_position": 1}, {"waiting": 0, "processing": 1}]
        return backend("horde", web.url)

    def openai_streaming(*, endless: bool) -> Generator:
        OpenAIImagesServer(web, text)
        if endless:
            web.arrived = begun
            web.hold(PATHS["openai"])
        return OpenAIImagesGenerator(web.url, model="m", partial_images=2)

    def at_once_over_http(name: str, *, endless: bool) -> Generator:
        if endless:
            web.arrived = begun
            web.hold(PATHS[name])
        elif name == "pollinations":
            web.answer(PATHS[name], Response(png, media_type="image/png"))
        else:
            web.answer_json(PATHS[name], image_answer(name, text))
        return backend(name, web.url)

    def comfyui(*, endless: bool) -> Generator:
        comfy.previews = [png, png]
        if endless:
            comfy.hold_at, comfy.reached = "sampling", begun
        return backend("comfyui", comfy.url)

    class Signalling(SketchGenerator):
        async def generate(self, request, report):
            begun.set()
            return await super().generate(request, report)

    def over_http(name: str) -> Case:
        return Case(
            lambda: at_once_over_http(name, endless=False),
            lambda: at_once_over_http(name, endless=True),
            begun,
        )

    cases = {
        "sketch": Case(
            lambda: SketchGenerator(64, 64, steps=3), lambda: Signalling(64, 64, step_ms=10**9), begun
        ),
        "callable": Case(lambda: CallableGenerator(at_once), lambda: CallableGenerator(never), begun),
        "sdapi": Case(lambda: sdapi(endless=False), lambda: sdapi(endless=True), begun),
        "openai streaming": Case(
            lambda: openai_streaming(endless=False), lambda: openai_streaming(endless=True), begun
        ),
        "comfyui": Case(lambda: comfyui(endless=False), lambda: comfyui(endless=True), begun),
        "horde": Case(lambda: horde(endless=False), lambda: horde(endless=True), begun),
    }
    name = str(request.param)
    return cases.get(name) or over_http(name)


async def test_it_is_a_generator_and_returns_an_image_file(case, request_for, progress):
    generator = case.working()
    assert isinstance(generator, Generator)
    data = await generator.generate(request_for(), progress)
    await generator.aclose()
    assert isinstance(data, bytes)
    info = await PillowInspector().inspect(data)
    assert info.width > 0


async def test_it_serves_several_calls_one_after_the_other(case, request_for, progress):
    generator = case.working()
    for seed in (1, 2):
        assert await generator.generate(request_for(seed=seed), progress)
    await generator.aclose()


async def test_progress_never_goes_back_and_stays_between_0_and_1(case, request_for, progress):
    generator = case.working()
    await generator.generate(request_for(), progress)
    await generator.aclose()
    assert progress.fractions == sorted(progress.fractions)
    assert all(0 <= fraction <= 1 for fraction in progress.fractions)
    assert bool(progress.fractions) == generator.capabilities.progress
    assert bool(progress.previews) == generator.capabilities.preview
    assert bool(progress.job_ids) == generator.capabilities.resume
    for preview in progress.previews:
        Image.open(io.BytesIO(preview)).load()


async def test_a_call_that_takes_too_long_can_be_cancelled(case, request_for, progress):
    generator = case.endless()
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(generator.generate, request_for(), progress)
            await happened(case.begun)
            group.cancel_scope.cancel()
    await generator.aclose()


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequest),
        (401, AuthFailed),
        (402, NoBalance),
        (403, AuthFailed),
        (404, BadRequest),
        (422, BadRequest),
        (429, RateLimited),
        (500, BackendError),
        (503, Unavailable),
    ],
)
async def test_every_refusal_is_a_typed_error_with_the_servers_words(
    name, status, kind, web, request_for, progress
):
    web.answer_json(PATHS[name], {"error": {"message": "the reason"}}, status, {"retry-after": "2"})
    generator = backend(name, web.url)
    with pytest.raises(BackendError, match="the reason") as caught:
        await generator.generate(request_for(), progress)
    await generator.aclose()
    assert type(caught.value) is kind
    assert caught.value.retry_after_ms == 2000
    assert "secret-key" not in str(caught.value)


@pytest.mark.parametrize("name", PATHS)
async def test_moderation_is_told_from_other_bad_requests(name, web, request_for, progress):
    web.answer_json(PATHS[name], {"error": {"message": "unsafe", "code": "moderation_blocked"}}, 400)
    generator = backend(name, web.url)
    with pytest.raises(Moderated, match="unsafe"):
        await generator.generate(request_for(), progress)
    await generator.aclose()


@pytest.mark.parametrize("name", TEXTUAL)
@pytest.mark.parametrize("broken", ["not base64!", 17, ["list"]])
async def test_image_text_that_is_broken_is_not_an_image(name, broken, web, request_for, progress):
    web.answer_json(PATHS[name], image_answer(name, broken))
    generator = backend(name, web.url)
    with pytest.raises(NotAnImage):
        await generator.generate(request_for(), progress)
    await generator.aclose()


@pytest.mark.parametrize("name", TEXTUAL)
@pytest.mark.parametrize(
    "empty", [{}, {"images": [], "data": []}, {"images": None}, {"images": [""], "data": [{}]}]
)
async def test_an_answer_without_an_image_is_no_image(name, empty, web, request_for, progress):
    web.answer_json(PATHS[name], empty)
    generator = backend(name, web.url)
    with pytest.raises(NoImage):
        await generator.generate(request_for(), progress)
    await generator.aclose()


@pytest.mark.parametrize("name", PATHS)
async def test_an_answer_that_is_no_json_is_an_error_of_the_backend(name, web, request_for, progress):
    web.answer(PATHS[name], Response("<html>Cloudflare</html>", media_type="text/html"))
    generator = backend(name, web.url)
    with pytest.raises(BackendError, match="it is an HTML page"):
        await generator.generate(request_for(), progress)
    await generator.aclose()


@pytest.mark.parametrize("name", PATHS)
async def test_a_server_that_is_not_there_is_unavailable(name, request_for, progress):
    with RawServer(lambda wire: None) as server:
        url = server.url
    generator = backend(name, url)
    with pytest.raises(Unavailable, match=r"cannot reach .* connection refused"):
        await generator.generate(request_for(), progress)
    await generator.aclose()


@pytest.mark.parametrize("name", TEXTUAL)
async def test_hostile_prompts_reach_the_server_whole(name, web, png, request_for, progress):
    web.answer_json(PATHS[name], image_answer(name, base64.b64encode(png).decode()))
    generator = backend(name, web.url)
    for prompt in ("\x00 '\"<&> {{}} \n", "p" * 100_000, "🐉"):
        await generator.generate(request_for(prompt), progress)
        sent = [got for got in web.received if got.path == PATHS[name]][-1]
        told = sent.json["contents"][0]["parts"][0]["text"] if name == "gemini" else sent.json["prompt"]
        assert told == prompt
    await generator.aclose()
