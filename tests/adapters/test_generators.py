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
from limner.adapters.inspection import PillowInspector
from limner.adapters.openai_images import OpenAIImagesGenerator
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
from tests.adapters.servers.local import PATIENCE_S, RawServer, WebServer, happened
from tests.adapters.servers.sdapi import SdapiServer

pytestmark = pytest.mark.anyio

PATHS = {"sdapi": "/sdapi/v1/txt2img", "openai": "/v1/images/generations", "comfyui": "/prompt"}
BACKENDS = ["sketch", "callable", "sdapi", "openai", "comfyui"]


def backend(name: str, url: str) -> Generator:
    """The adapter for a server at `url`."""
    if name == "sdapi":
        return SdapiGenerator(url, poll_interval_ms=0)
    if name == "comfyui":
        return ComfyUIGenerator(url, WORKFLOW, api_key="secret-key", poll_interval_ms=0)
    return OpenAIImagesGenerator(url, model="m", api_key="secret-key")


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

    def openai(*, endless: bool) -> Generator:
        if endless:
            web.arrived = begun
            web.hold(PATHS["openai"])
        else:
            web.answer_json(PATHS["openai"], {"data": [{"b64_json": text}]})
        return backend("openai", web.url)

    def comfyui(*, endless: bool) -> Generator:
        comfy.previews = [png, png]
        if endless:
            comfy.hold_at, comfy.reached = "sampling", begun
        return backend("comfyui", comfy.url)

    class Signalling(SketchGenerator):
        async def generate(self, request, report):
            begun.set()
            return await super().generate(request, report)

    return {
        "sketch": Case(
            lambda: SketchGenerator(64, 64, steps=3), lambda: Signalling(64, 64, step_ms=10**9), begun
        ),
        "callable": Case(lambda: CallableGenerator(at_once), lambda: CallableGenerator(never), begun),
        "sdapi": Case(lambda: sdapi(endless=False), lambda: sdapi(endless=True), begun),
        "openai": Case(lambda: openai(endless=False), lambda: openai(endless=True), begun),
        "comfyui": Case(lambda: comfyui(endless=False), lambda: comfyui(endless=True), begun),
    }[str(request.param)]


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


def image_answer(name: str, image: object) -> object:
    return {"images": [image]} if name == "sdapi" else {"data": [{"b64_json": image}]}


@pytest.mark.parametrize("name", ["sdapi", "openai"])
@pytest.mark.parametrize("broken", ["not base64!", 17, ["list"]])
async def test_image_text_that_is_broken_is_not_an_image(name, broken, web, request_for, progress):
    web.answer_json(PATHS[name], image_answer(name, broken))
    generator = backend(name, web.url)
    with pytest.raises(NotAnImage):
        await generator.generate(request_for(), progress)
    await generator.aclose()


@pytest.mark.parametrize("name", ["sdapi", "openai"])
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


@pytest.mark.parametrize("name", ["sdapi", "openai"])
async def test_hostile_prompts_reach_the_server_whole(name, web, png, request_for, progress):
    web.answer_json(PATHS[name], image_answer(name, base64.b64encode(png).decode()))
    generator = backend(name, web.url)
    for prompt in ("\x00 '\"<&> {{}} \n", "p" * 100_000, "🐉"):
        await generator.generate(request_for(prompt), progress)
        sent = [got for got in web.received if got.path == PATHS[name]][-1]
        assert sent.json["prompt"] == prompt
    await generator.aclose()
