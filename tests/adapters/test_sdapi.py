"""AUTOMATIC1111's interface: settings, progress by task, cancelling."""

from __future__ import annotations

import base64

import anyio
import pytest

from limner.adapters.sdapi import SdapiGenerator
from limner.errors import BadRequest, InvalidSetting
from tests.adapters.conftest import Progress, RequestMaker
from tests.adapters.servers.local import WebServer, happened
from tests.adapters.servers.sdapi import SdapiServer

pytestmark = pytest.mark.anyio


@pytest.fixture
def text(png):
    return base64.b64encode(png).decode()


async def test_settings_go_along_and_what_is_not_set_is_left_to_the_server(web, text, request_for, progress):
    SdapiServer(web, text)
    generator = SdapiGenerator(
        f"{web.url}/",
        steps=20,
        width=512,
        height=768,
        negative_prompt="blurry",
        sampler="Euler a",
        auth=("user", "pass"),
        poll_interval_ms=60_000,
    )
    await generator.generate(request_for("a fox", seed=4_294_967_295), progress)
    await generator.aclose()
    plain = SdapiGenerator(web.url, poll_interval_ms=60_000)
    await plain.generate(request_for("a fox"), progress)
    await plain.aclose()
    first, second = (got for got in web.received if got.path == "/sdapi/v1/txt2img")
    task = first.json.pop("force_task_id")
    assert first.json == {
        "prompt": "a fox",
        "negative_prompt": "blurry",
        "seed": 4_294_967_295,
        "steps": 20,
        "width": 512,
        "height": 768,
        "sampler_name": "Euler a",
        "batch_size": 1,
        "n_iter": 1,
        "send_images": True,
        "save_images": False,
    }
    assert first.headers["authorization"].startswith("Basic ")
    assert task != second.json["force_task_id"]
    assert {"steps", "width", "sampler_name"}.isdisjoint(second.json)


async def test_a_data_prefix_before_the_image_is_understood(web, png, text, request_for, progress):
    SdapiServer(web, f"data:image/png;base64,{text}")
    generator = SdapiGenerator(web.url)
    assert await generator.generate(request_for(), progress) == png
    await generator.aclose()


async def test_progress_and_previews_are_those_of_our_own_task(web, png, text, request_for, progress):
    server = SdapiServer(web, text)
    server.previews = [text, None, text]
    generator = SdapiGenerator(web.url, poll_interval_ms=0)
    await generator.generate(request_for(), progress)
    await generator.aclose()
    assert progress.fractions[:3] == [0.25, 0.5, 0.75]
    assert progress.previews == [png, png]
    asked = [got.json for got in web.received if got.path == "/internal/progress"]
    assert asked[0]["id_live_preview"] == -1
    assert asked[-1]["id_live_preview"] != -1


async def test_a_server_without_task_progress_is_asked_for_its_own(web, png, text, request_for, progress):
    server = SdapiServer(web, text)
    server.previews = [text, None]
    web.answer_json("/internal/progress", {"detail": "Not Found"}, 404)
    generator = SdapiGenerator(web.url, poll_interval_ms=0)
    await generator.generate(request_for(), progress)
    await generator.aclose()
    assert progress.fractions[:2] == [pytest.approx(1 / 3), pytest.approx(2 / 3)]
    assert progress.previews == [png]
    assert [got.path for got in web.received].count("/internal/progress") == 1


async def test_progress_that_cannot_be_told_costs_the_image_nothing(web, png, text, request_for, progress):
    server = SdapiServer(web, text)
    web.answer_json("/internal/progress", {"active": True, "progress": "?", "live_preview": "%%%"})
    assert await _painted(web, request_for, progress) == png
    web.answer_json("/internal/progress", ["nonsense"])
    assert await _painted(web, request_for, progress) == png
    web.answer_json("/internal/progress", {}, 500)
    assert await _painted(web, request_for, progress) == png
    for path in ("/internal/progress", "/sdapi/v1/progress"):
        web.answer_json(path, {}, 404)
    assert await _painted(web, request_for, progress) == png
    assert server.current is None
    assert progress.fractions == []


async def _painted(web: WebServer, request_for: RequestMaker, progress: Progress) -> bytes:
    generator = SdapiGenerator(web.url, poll_interval_ms=0)
    try:
        return await generator.generate(request_for(), progress)
    finally:
        await generator.aclose()


async def cancel_once_begun(
    web: WebServer, server: SdapiServer, request_for: RequestMaker, progress: Progress
) -> None:
    generator = SdapiGenerator(web.url, poll_interval_ms=60_000)
    async with anyio.create_task_group() as group:
        group.start_soon(generator.generate, request_for(), progress)
        await happened(server.begun)
        group.cancel_scope.cancel()
    await generator.aclose()


async def test_cancelling_interrupts_our_own_task_at_the_server(web, text, request_for, progress):
    server = SdapiServer(web, text)
    server.endless = True
    await cancel_once_begun(web, server, request_for, progress)
    assert server.interrupted.is_set()


async def test_cancelling_leaves_the_work_of_others_alone(web, text, request_for, progress):
    server = SdapiServer(web, text)
    server.endless = True
    ours = "/internal/progress"
    web.answer_json(ours, {"active": False, "queued": True, "completed": False, "id_live_preview": -1})
    await cancel_once_begun(web, server, request_for, progress)
    assert not server.interrupted.is_set()
    assert [got.path for got in web.received].count(ours) == 1
    server._done.set()


async def test_cancelling_at_a_server_that_is_in_trouble_is_quiet(web, text, request_for, progress):
    server = SdapiServer(web, text)
    server.endless = True
    web.answer_json("/internal/progress", {}, 500)
    await cancel_once_begun(web, server, request_for, progress)
    assert not server.interrupted.is_set()
    server._done.set()


async def test_a_server_without_the_interface_gets_a_hint(web, request_for, progress):
    generator = SdapiGenerator(web.url)
    with pytest.raises(BadRequest, match=r"404: Not Found \(was the server started with --api\?\)"):
        await generator.generate(request_for(), progress)
    await generator.aclose()


async def test_a_model_that_is_not_found_gets_no_such_hint(web, request_for, progress):
    web.answer_json("/sdapi/v1/txt2img", {"detail": "Sampler not found"}, 404)
    generator = SdapiGenerator(web.url)
    with pytest.raises(BadRequest) as caught:
        await generator.generate(request_for(), progress)
    await generator.aclose()
    assert str(caught.value).endswith("Sampler not found")


@pytest.mark.parametrize("setting", [{"steps": 0}, {"width": 0}, {"height": -1}, {"poll_interval_ms": -1}])
def test_a_setting_that_cannot_be_meant_is_refused(setting):
    with pytest.raises(InvalidSetting, match=next(iter(setting))):
        SdapiGenerator("http://127.0.0.1:7860", **setting)


def test_the_address_is_shown_and_the_password_is_not():
    assert repr(SdapiGenerator("http://user:hunter22@host:7860")) == "SdapiGenerator('http://host:7860/')"
