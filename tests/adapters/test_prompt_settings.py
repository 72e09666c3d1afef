"""What a prompt asks for itself reaches the server, as far as the server knows it."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image
from starlette.responses import Response

from limner.adapters.comfyui import ComfyUIGenerator
from limner.adapters.horde import HordeGenerator
from limner.adapters.json_generator import JSONGenerator
from limner.adapters.openai_images import OpenAIImagesGenerator
from limner.adapters.pollinations import PollinationsGenerator
from limner.adapters.sdapi import SdapiGenerator
from limner.adapters.sketch import SketchGenerator
from limner.testing import ProgressRecorder, make_request
from limner.workflows.ports import Generator, PromptSettings
from tests.adapters.servers.comfyui import WORKFLOW, ComfyServer
from tests.adapters.servers.horde import HordeServer
from tests.adapters.servers.local import WebServer
from tests.adapters.servers.sdapi import SdapiServer

pytestmark = pytest.mark.anyio

OWN = PromptSettings(negative_prompt="blurry", width=200, height=130, steps=9)


async def paint(generator: Generator, settings: PromptSettings = OWN) -> bytes:
    try:
        return await generator.generate(replace(make_request(), settings=settings), ProgressRecorder())
    finally:
        await generator.aclose()


def sent_to(web: WebServer, path: str) -> Any:
    [received] = [received for received in web.received if received.path.endswith(path)]
    return received.json


async def test_sdapi_takes_all_of_them(web: WebServer, png: bytes):
    SdapiServer(web, base64.b64encode(png).decode())
    await paint(SdapiGenerator(web.url, width=64, negative_prompt="usual", poll_interval_ms=0))
    sent = sent_to(web, "/txt2img")
    taken = {name: sent[name] for name in ("negative_prompt", "width", "height", "steps")}
    assert taken == {"negative_prompt": "blurry", "width": 200, "height": 130, "steps": 9}


async def test_what_a_prompt_does_not_ask_for_stays_as_it_was_set_up(web: WebServer, png: bytes):
    SdapiServer(web, base64.b64encode(png).decode())
    usual = SdapiGenerator(web.url, width=64, steps=3, negative_prompt="usual", poll_interval_ms=0)
    await paint(usual, PromptSettings(height=130))
    sent = sent_to(web, "/txt2img")
    assert (sent["negative_prompt"], sent["width"], sent["height"], sent["steps"]) == ("usual", 64, 130, 3)


async def test_comfyui_takes_those_that_have_a_place(comfy: ComfyServer):
    sized = {
        **WORKFLOW,
        "5": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": "%width%", "height": "%height%", "batch_size": 1},
        },
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "%negative%", "clip": ["4", 1]}},
    }
    await paint(ComfyUIGenerator(comfy.url, sized, negative="usual", poll_interval_ms=0))
    [sent] = comfy.asked("/prompt")
    inputs = {node: sent["prompt"][node]["inputs"] for node in ("5", "7")}
    assert (inputs["5"]["width"], inputs["5"]["height"], inputs["7"]["text"]) == (200, 130, "blurry")


async def test_horde_takes_all_of_them_and_sides_down_to_the_next_multiple_of_64(web: WebServer, png: bytes):
    HordeServer(web, base64.b64encode(png).decode())
    await paint(HordeGenerator(web.url, negative_prompt="usual", poll_interval_ms=0, submit_interval_ms=0))
    sent = sent_to(web, "/generate/async")
    assert sent["prompt"].endswith(" ### blurry")
    assert (sent["params"]["width"], sent["params"]["height"], sent["params"]["steps"]) == (192, 128, 9)


async def test_openai_takes_a_size_where_both_sides_are_asked_for(web: WebServer, png: bytes):
    web.answer_json("/v1/images/generations", {"data": [{"b64_json": base64.b64encode(png).decode()}]})
    await paint(OpenAIImagesGenerator(web.url, model="m", size="1024x1024"))
    assert sent_to(web, "/generations")["size"] == "200x130"
    web.received.clear()
    await paint(OpenAIImagesGenerator(web.url, model="m", size="1024x1024"), PromptSettings(width=200))
    assert sent_to(web, "/generations")["size"] == "1024x1024"


async def test_pollinations_takes_the_size(web: WebServer, png: bytes):
    path = "/image/a red fox in the snow"
    web.answer(path, Response(png, media_type="image/png"))
    await paint(PollinationsGenerator(web.url, width=64))
    [received] = [received for received in web.received if received.path == path]
    assert (received.query["width"], received.query["height"]) == ("200", "130")


async def test_a_described_server_takes_those_that_have_a_place(web: WebServer, png: bytes):
    web.answer("/paint", Response(png, media_type="image/png"))
    places = {name: f"%{name}%" for name in ("prompt", "negative_prompt", "width", "height")}
    await paint(JSONGenerator(f"{web.url}/paint", body=places, width=64, height=64))
    sent = sent_to(web, "/paint")
    assert (sent["negative_prompt"], sent["width"], sent["height"]) == ("blurry", 200, 130)


async def test_the_sketch_takes_the_size_within_its_bounds():
    assert Image.open(io.BytesIO(await paint(SketchGenerator(steps=1)))).size == (200, 130)
    large = await paint(SketchGenerator(64, 64, steps=1), PromptSettings(height=4_000))
    assert Image.open(io.BytesIO(large)).size == (64, 2_048)
