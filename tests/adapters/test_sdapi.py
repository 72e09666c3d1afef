"""AUTOMATIC1111's interface: settings, progress by task, cancelling."""

from __future__ import annotations

import base64
import json
from typing import Any

import anyio
import pytest
from starlette.responses import JSONResponse, Response

from limner.adapters.http import HttpClient
from limner.adapters.sdapi import SdapiGenerator
from limner.adapters.sdapi_progress import ProgressWatch, SdapiProgress
from limner.errors import BadRequest, InvalidSetting, Unavailable
from limner.testing import ProgressRecorder
from tests.adapters.conftest import RequestMaker
from tests.adapters.servers.local import PATIENCE_S, Received, WebServer, happened
from tests.adapters.servers.sdapi import KINDS, SdapiServer

pytestmark = pytest.mark.anyio

TASK_PROGRESS = ("POST", "/internal/progress")


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
        scheduler="karras",
        cfg_scale=6.5,
        styles=["oil", "night"],
        auth=("user", "pass"),
        poll_interval_ms=60_000,
    )
    await generator.generate(request_for("a fox", seed=2_147_483_647), progress)
    await generator.aclose()
    plain = SdapiGenerator(web.url, poll_interval_ms=60_000)
    await plain.generate(request_for("a fox"), progress)
    await plain.aclose()
    first, second = (got for got in web.received if got.path == "/sdapi/v1/txt2img")
    task = first.json.pop("force_task_id")
    assert first.json == {
        "prompt": "a fox",
        "negative_prompt": "blurry",
        "seed": 2_147_483_647,
        "steps": 20,
        "width": 512,
        "height": 768,
        "sampler_name": "Euler a",
        "scheduler": "karras",
        "cfg_scale": 6.5,
        "styles": ["oil", "night"],
        "batch_size": 1,
        "n_iter": 1,
        "send_images": True,
        "save_images": False,
    }
    assert first.headers["authorization"].startswith("Basic ")
    assert task != second.json["force_task_id"]
    assert {"steps", "width", "sampler_name", "styles", "override_settings"}.isdisjoint(second.json)


async def body_of(
    web: WebServer, request_for: RequestMaker, progress: ProgressRecorder, **settings: Any
) -> Any:
    SdapiServer(web, "iVBORw0KGgo=")
    generator = SdapiGenerator(web.url, poll_interval_ms=60_000, **settings)
    await generator.generate(request_for("a fox"), progress)
    await generator.aclose()
    return web.received[-1].json


async def test_model_and_clip_skip_are_set_for_this_image_only(web, request_for, progress):
    body = await body_of(web, request_for, progress, checkpoint="sdxl.safetensors", clip_skip=2)
    # The first of the two is for KoboldCpp, stable-diffusion.cpp and SD.Next, the second for AUTOMATIC1111.
    assert body["clip_skip"] == 2
    assert body["override_settings"] == {
        "sd_model_checkpoint": "sdxl.safetensors",
        "CLIP_stop_at_last_layers": 2,
    }


async def test_other_options_go_along_beside_those_that_have_a_name_here(web, request_for, progress):
    options = {"enable_hr": True, "save_images": True, "override_settings": {"eta_noise_seed_delta": 31337}}
    body = await body_of(web, request_for, progress, checkpoint="m", steps=8, options=options)
    assert body["enable_hr"] is True
    assert body["save_images"] is True
    assert body["steps"] == 8
    assert body["override_settings"] == {"eta_noise_seed_delta": 31337, "sd_model_checkpoint": "m"}
    assert body["prompt"] == "a fox"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"options": {"prompt": "another"}}, "prompt"),
        ({"options": {"n_iter": 4}}, "n_iter"),
        ({"options": {"steps": 4}, "steps": 5}, "steps is set twice"),
        ({"options": {"override_settings": "x"}}, "override_settings"),
        ({"options": {"script": object()}}, "JSON"),
        ({"styles": "oil"}, "list of texts"),
        ({"clip_skip": 0}, "clip_skip"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(settings, reason):
    with pytest.raises(InvalidSetting, match=reason):
        SdapiGenerator("http://127.0.0.1:7860", **settings)


@pytest.mark.parametrize("pasted", ["", "/", "/sdapi/v1", "/sdapi/v1/", "/sdapi/v1/txt2img"])
def test_the_address_is_understood_however_much_of_it_is_given(pasted):
    assert repr(SdapiGenerator(f"http://h:1/sub{pasted}")) == "SdapiGenerator('http://h:1/sub/')"


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_server_paints_with_a_seed_that_it_takes_as_it_is(
    web, png, text, request_for, progress, kind
):
    server = SdapiServer(web, text, kind)
    generator = SdapiGenerator(web.url, poll_interval_ms=0)
    for seed in (7, 2**32 - 1):
        assert await generator.generate(request_for(seed=seed), progress) == png
    await generator.aclose()
    assert server.seeds == [7, 2**31 - 1]


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
    asked = [got.json for got in web.received if (got.method, got.path) == TASK_PROGRESS]
    assert asked[0]["id_live_preview"] == -1
    assert asked[-1]["id_live_preview"] != -1


@pytest.mark.parametrize("kind", ["AUTOMATIC1111 without its page", "SD.Next", "KoboldCpp"])
async def test_a_server_that_does_not_know_our_task_is_asked_for_its_own_work(
    web, png, text, request_for, progress, kind
):
    server = SdapiServer(web, text, kind)
    server.previews = [text, text, None]  # the same picture twice is one preview
    generator = SdapiGenerator(web.url, poll_interval_ms=0)
    with anyio.fail_after(PATIENCE_S):
        await generator.generate(request_for(), progress)
    await generator.aclose()
    assert progress.fractions[:3] == [0.25, 0.5, 0.75]
    assert progress.previews == [png]


@pytest.mark.parametrize("kind", ["KoboldCpp", "older KoboldCpp", "stable-diffusion.cpp"])
async def test_a_server_without_task_progress_is_never_asked_for_it_by_post(
    web, text, request_for, progress, kind
):
    server = SdapiServer(web, text, kind)
    server.previews = [text]
    generator = SdapiGenerator(web.url, poll_interval_ms=0)
    for _ in range(2):
        await generator.generate(request_for(), progress)
    await generator.aclose()
    asked = [got.method for got in web.received if got.path == "/internal/progress"]
    assert set(asked) <= {"GET"}
    assert ("POST", "/sdapi/v1/interrupt") not in [(got.method, got.path) for got in web.received]


async def test_progress_that_the_key_does_not_open_is_left_alone(web, png, text, request_for, progress):
    server = SdapiServer(web, text)
    server.previews = [text]
    web.answer_json("/internal/progress", {"detail": "Unauthorized"}, 401)
    generator = SdapiGenerator(web.url, poll_interval_ms=0)
    assert await generator.generate(request_for(), progress) == png
    await generator.aclose()
    assert progress.fractions[:1] == [0.5]
    assert server.current is None


async def test_progress_that_goes_back_is_not_reported(web, text, request_for, progress):
    server = SdapiServer(web, text)
    server.endless = True
    steps = iter([0.5, 0.2, 0.6, float("nan")])

    async def told(request: Received) -> Response:
        if request.method != "POST":
            return JSONResponse({}, 405)
        share = next(steps, None)
        if share is None:
            server.finish()
        return Response(json.dumps({"active": True, "completed": False, "progress": share}))

    web.on("/internal/progress", told)
    generator = SdapiGenerator(web.url, poll_interval_ms=0)
    await generator.generate(request_for(), progress)
    await generator.aclose()
    assert progress.fractions == [0.5, 0.6]


async def test_the_servers_own_work_is_asked_for_only_while_one_image_is_under_way(web, text, progress):
    server = SdapiServer(web, text, "KoboldCpp")
    server.current, server.previews = "somebody's", [text]
    client = HttpClient(web.url)
    watch = ProgressWatch(SdapiProgress(client), "ours", progress)
    await watch.look(alone=False)
    assert progress.fractions == []
    await watch.look(alone=True)
    assert progress.fractions == [0.5]
    await client.aclose()


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


async def _painted(web: WebServer, request_for: RequestMaker, progress: ProgressRecorder) -> bytes:
    generator = SdapiGenerator(web.url, poll_interval_ms=0)
    try:
        return await generator.generate(request_for(), progress)
    finally:
        await generator.aclose()


async def cancel_once_begun(
    web: WebServer, server: SdapiServer, request_for: RequestMaker, progress: ProgressRecorder
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
    assert [(got.method, got.path) for got in web.received].count(TASK_PROGRESS) == 1
    server.finish()


@pytest.mark.parametrize("kind", ["SD.Next", "KoboldCpp", "older KoboldCpp", "stable-diffusion.cpp"])
async def test_cancelling_where_tasks_have_no_ids_interrupts_nobody_and_waits_for_nothing(
    web, text, request_for, progress, kind
):
    server = SdapiServer(web, text, kind)
    server.endless = True
    with anyio.fail_after(2):  # less than what a cancelled call may take
        await cancel_once_begun(web, server, request_for, progress)
    assert not server.interrupted.is_set()
    server.finish()


async def test_cancelling_before_the_request_is_taken_interrupts_nothing(web, text, request_for, progress):
    server = SdapiServer(web, text)
    with anyio.CancelScope() as scope:
        scope.cancel()
        generator = SdapiGenerator(web.url)
        await generator.generate(request_for(), progress)
    await generator.aclose()
    assert scope.cancelled_caught
    assert not server.interrupted.is_set()


async def test_cancelling_at_a_server_that_is_in_trouble_is_quiet(web, text, request_for, progress):
    server = SdapiServer(web, text)
    server.endless = True
    web.answer_json("/internal/progress", {}, 500)
    await cancel_once_begun(web, server, request_for, progress)
    assert not server.interrupted.is_set()
    server.finish()


@pytest.mark.parametrize("is_ours", [True, False])
async def test_work_that_a_proxy_has_given_up_is_interrupted_if_it_is_ours(
    web, text, request_for, progress, is_ours
):
    server = SdapiServer(web, text)
    server.endless = True

    async def given_up(got: Received) -> Response:
        server.current = got.json["force_task_id"] if is_ours else "somebody else's"
        return Response(status_code=504)

    web.on("/sdapi/v1/txt2img", given_up)
    generator = SdapiGenerator(web.url)
    with pytest.raises(Unavailable, match="answered 504"):
        await generator.generate(request_for(), progress)
    await generator.aclose()
    assert server.interrupted.is_set() == is_ours


async def test_a_server_without_the_interface_gets_a_hint(web, request_for, progress):
    generator = SdapiGenerator(web.url)
    with pytest.raises(BadRequest, match=r"404: Not Found \(was the server started with --api\?\)"):
        await generator.generate(request_for(), progress)
    await generator.aclose()


async def test_a_server_that_hangs_does_not_hold_up_a_cancellation(web, request_for, progress, monkeypatch):
    monkeypatch.setattr("limner.adapters.sdapi._STOP_TIME_S", 0.01)
    for path in ("/sdapi/v1/txt2img", "/internal/progress"):
        web.hold(path)
    generator = SdapiGenerator(web.url, poll_interval_ms=3_600_000)
    async with anyio.create_task_group() as group:
        group.start_soon(generator.generate, request_for(), progress)
        await happened(web.arrived)
        began = anyio.current_time()
        group.cancel_scope.cancel()
    assert anyio.current_time() - began < PATIENCE_S / 2, "it waited for the server"
    web.released.set()
    await generator.aclose()


async def test_a_model_that_is_not_found_gets_no_such_hint(web, request_for, progress):
    web.answer_json("/sdapi/v1/txt2img", {"detail": "Sampler not found"}, 404)
    generator = SdapiGenerator(web.url)
    with pytest.raises(BadRequest) as caught:
        await generator.generate(request_for(), progress)
    await generator.aclose()
    assert str(caught.value).endswith("Sampler not found")


@pytest.mark.parametrize(
    "setting", [{"steps": 0}, {"width": 0}, {"height": -1}, {"width": 99_999_999}, {"poll_interval_ms": -1}]
)
def test_a_setting_that_cannot_be_meant_is_refused(setting):
    with pytest.raises(InvalidSetting, match=next(iter(setting))):
        SdapiGenerator("http://127.0.0.1:7860", **setting)


def test_the_address_is_shown_and_the_password_is_not():
    assert repr(SdapiGenerator("http://user:hunter22@host:7860")) == "SdapiGenerator('http://host:7860/')"
