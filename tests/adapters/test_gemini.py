"""Gemini and Imagen: what is asked for, what comes back, and the many ways of not getting an image."""

from __future__ import annotations

import base64
import logging
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from limner.adapters.gemini import GeminiGenerator
from limner.errors import (
    AuthFailed,
    BackendError,
    BadRequest,
    InvalidSetting,
    Moderated,
    NoBalance,
    NoImage,
    NotAnImage,
    RateLimited,
)
from limner.workflows.ports import GenerationRequest
from tests.adapters.servers.gemini import RPC, GeminiServer, content, google_error
from tests.adapters.servers.local import RawServer, chunk, head

pytestmark = pytest.mark.anyio


@pytest.fixture
def text(png):
    return base64.b64encode(png).decode()


@pytest.fixture
def server(web, text):
    return GeminiServer(web, text)


async def painted(url: str, request: GenerationRequest, **settings: Any) -> bytes:
    generator = GeminiGenerator(url, **{"model": "gemini-image", "api_key": "secret-key", **settings})
    try:
        return await generator.generate(request, lambda *_: None)
    finally:
        await generator.aclose()


async def test_gemini_is_asked_for_content_with_an_image_in_it(web, png, server, request_for):
    assert await painted(web.url, request_for("a fox"), api_key=" secret-key\n") == png
    settings = {"aspect_ratio": "16:9", "image_size": "2K", "options": {"temperature": 0.5, "seed": None}}
    await painted(web.url, request_for("a fox"), **settings)
    first, second = web.received
    assert first.path == "/v1beta/models/gemini-image:generateContent"
    assert first.query == {}
    assert first.headers["x-goog-api-key"] == "secret-key"
    assert first.json == {
        "contents": [{"role": "user", "parts": [{"text": "a fox"}]}],
        "generationConfig": {"responseModalities": ["TEXT", "IMAGE"], "seed": 7},
    }
    assert second.json["generationConfig"] == {
        "responseModalities": ["TEXT", "IMAGE"],
        "imageConfig": {"aspectRatio": "16:9", "imageSize": "2K"},
        "temperature": 0.5,
    }


async def test_imagen_is_asked_for_a_prediction(web, png, server, request_for):
    assert await painted(web.url, request_for("a fox"), model="imagen-4", aspect_ratio="3:4") == png
    options = {"personGeneration": "dont_allow"}
    await painted(web.url, request_for("a fox"), model="models/imagen-4", image_size="2K", options=options)
    first, second = web.received
    assert first.path == second.path == "/v1beta/models/imagen-4:predict"
    assert first.json == {
        "instances": [{"prompt": "a fox"}],
        "parameters": {"sampleCount": 1, "includeRaiReason": True, "aspectRatio": "3:4"},
    }
    assert second.json["parameters"]["sampleImageSize"] == "2K"
    assert second.json["parameters"]["personGeneration"] == "dont_allow"


async def test_a_seed_fits_into_the_31_bits_that_gemini_takes(web, png, server, request_for):
    assert await painted(web.url, request_for(seed=4_294_967_295)) == png
    assert web.received[0].json["generationConfig"]["seed"] == 2_147_483_647


async def test_sketches_made_while_thinking_are_not_the_image(web, png, text, server, request_for):
    sketch = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}, "thought": True}
    image = {"inlineData": {"mimeType": "image/png", "data": text}, "thoughtSignature": "x"}
    thought = {"text": "Let me see …", "thought": True}
    server.answer = JSONResponse(content(thought, sketch, {"text": "Here."}, image))
    assert await painted(web.url, request_for()) == png
    server.answer = JSONResponse(content(thought, sketch, finish="IMAGE_SAFETY"))
    with pytest.raises(Moderated):
        await painted(web.url, request_for())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}},
            "refused the prompt (PROHIBITED_CONTENT)",
        ),
        (
            {"promptFeedback": {"blockReason": "SAFETY", "blockReasonMessage": "Not this."}},
            "refused the prompt (SAFETY): Not this.",
        ),
        (content(finish="IMAGE_SAFETY"), "refused the prompt (IMAGE_SAFETY)"),
        (
            content(finish="IMAGE_PROHIBITED_CONTENT", finishMessage="The image was filtered out."),
            "refused the prompt (IMAGE_PROHIBITED_CONTENT): The image was filtered out.",
        ),
        ({"candidates": [{"finishReason": "RECITATION"}]}, "refused the prompt (RECITATION)"),
        (
            content({"text": "I can't paint that."}, finish="SAFETY"),
            "refused the prompt (SAFETY): I can't paint that.",
        ),
        (
            content({"text": "I'd rather"}, {"text": "not."}),
            "answered with words instead of an image: I'd rather not.",
        ),
    ],
)
async def test_a_refusal_is_an_answer_without_an_image_and_keeps_its_words(
    answer, words, web, server, request_for
):
    server.answer = JSONResponse(answer)
    with pytest.raises(Moderated) as caught:
        await painted(web.url, request_for())
    assert str(caught.value) == f"{web.url}/v1beta/models/gemini-image:generateContent {words}"


@pytest.mark.parametrize("finish", ["NO_IMAGE", "IMAGE_OTHER", "OTHER"])
async def test_a_mishap_may_be_tried_again(finish, web, server, request_for):
    server.answer = JSONResponse(content({"text": "Hm."}, finish=finish))
    with pytest.raises(BackendError, match=rf"made no image \({finish}\): Hm\.") as caught:
        await painted(web.url, request_for())
    assert type(caught.value) is BackendError


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        None,
        "x",
        {"candidates": []},
        {"candidates": ["x"]},
        {"candidates": [{"content": "x"}]},
        {"candidates": [{"content": {"parts": "x"}}]},
        content(finish="MAX_TOKENS"),
        content({"inlineData": "x"}, {"inlineData": {}}),
    ],
)
async def test_an_answer_without_image_and_reason_is_no_image(answer, web, server, request_for):
    server.answer = JSONResponse(answer)
    with pytest.raises(NoImage):
        await painted(web.url, request_for())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            {"predictions": [{"raiFilteredReason": "Filtered: 58061214"}]},
            "refused the prompt: Filtered: 58061214",
        ),
        ({}, "refused the prompt: it gave no reason"),
        ({"predictions": []}, "refused the prompt: it gave no reason"),
    ],
)
async def test_imagen_refuses_with_a_reason_or_with_nothing(answer, words, web, server, request_for):
    server.answer = JSONResponse(answer)
    with pytest.raises(Moderated) as caught:
        await painted(web.url, request_for(), model="imagen-4")
    assert str(caught.value).endswith(words)


@pytest.mark.parametrize("model", ["gemini-image", "imagen-4"])
@pytest.mark.parametrize("broken", ["not base64!", 17, ["list"]])
async def test_image_text_that_is_broken_is_not_an_image(model, broken, web, request_for):
    GeminiServer(web, broken)
    with pytest.raises(NotAnImage):
        await painted(web.url, request_for(), model=model)


async def test_the_pause_that_the_body_asks_for_is_kept(web, server, request_for):
    violation = {"quotaId": "GenerateRequestsPerMinutePerProjectPerModel", "quotaValue": "10"}
    server.answer = google_error(
        429,
        "RESOURCE_EXHAUSTED",
        "Quota exceeded for metric: requests, limit: 10. Please retry in 37.4s.",
        {"@type": f"{RPC}Help", "links": [{"description": "Learn more", "url": "https://ai.google.dev"}]},
        {"@type": f"{RPC}QuotaFailure", "violations": [violation]},
        {"@type": f"{RPC}RetryInfo", "retryDelay": "37s"},
    )
    with pytest.raises(RateLimited, match="limit: 10") as caught:
        await painted(web.url, request_for())
    assert caught.value.retry_after_ms == 37_000


@pytest.mark.parametrize(
    ("words", "violation"),
    [
        (
            "Quota exceeded",
            {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quotaValue": "20"},
        ),
        ("Quota exceeded for metric: requests, limit: 0", {"quotaId": "GenerateRequestsPerMinute"}),
        ("Your prepayment credits are depleted.", {}),
    ],
)
async def test_a_quota_that_no_waiting_mends_is_no_balance(words, violation, web, server, request_for):
    details = {"@type": f"{RPC}QuotaFailure", "violations": [violation]}
    server.answer = google_error(429, "RESOURCE_EXHAUSTED", words, details)
    with pytest.raises(NoBalance, match=words):
        await painted(web.url, request_for())


async def test_a_model_that_is_not_there_is_a_bad_request(web, server, request_for):
    with pytest.raises(BadRequest, match="there is no model nano that can generateContent"):
        await painted(web.url, request_for(), model="nano")


async def test_an_error_that_comes_with_status_200_is_an_error(web, server, request_for):
    server.answer = JSONResponse({"error": {"code": 429, "message": "busy secret-key", "status": "X"}})
    with pytest.raises(RateLimited, match=r"reports an error: busy \*\*\*"):
        await painted(web.url, request_for())


async def test_a_wrong_key_is_told_and_shown_nowhere(web, server, request_for, caplog):
    caplog.set_level(logging.DEBUG)
    server.answer = None
    with pytest.raises(AuthFailed, match="the key is not valid") as caught:
        await painted(web.url, request_for(), api_key="wrong-key-123")
    generator = GeminiGenerator(model="m", api_key="wrong-key-123")
    await generator.aclose()
    assert (
        repr(generator) == "GeminiGenerator('https://generativelanguage.googleapis.com/v1beta/', model='m')"
    )
    assert ":generateContent" in caplog.text
    assert "wrong-key-123" not in f"{caught.value!r} {caplog.text}"


async def test_a_body_that_drips_is_read_to_its_end(png, text, request_for):
    body = JSONResponse(content({"inlineData": {"mimeType": "image/png", "data": text}})).body

    def drip(wire):
        wire.send(head(content_type="application/json", transfer_encoding="chunked"))
        for at in range(0, len(body), 7):
            wire.send(chunk(bytes(body)[at : at + 7]))
        wire.send(chunk(b""))

    with RawServer(drip) as server:
        assert await painted(server.url, request_for()) == png


async def test_an_html_page_is_told_from_an_answer(web, server, request_for):
    server.answer = Response("<html>Sorry</html>", media_type="text/html")
    with pytest.raises(BackendError, match="it is an HTML page"):
        await painted(web.url, request_for())


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://h:1", "http://h:1/v1beta/"),
        (" http://h/ ", "http://h/v1beta/"),
        ("http://h/v1beta", "http://h/v1beta/"),
        ("http://h/v1beta/models/x:generateContent?key=y", "http://h/v1beta/"),
        ("https://h/v1/publishers/google", "https://h/v1/publishers/google/"),
        ("https://h/gemini", "https://h/gemini/v1beta/"),
    ],
)
def test_the_address_is_understood_however_much_of_it_is_given(given, used):
    assert repr(GeminiGenerator(given, model="m")) == f"GeminiGenerator({used!r}, model='m')"


def test_google_wants_a_key_and_a_model_is_never_empty():
    with pytest.raises(InvalidSetting, match="LIMNER_GEMINI_KEY"):
        GeminiGenerator()
    with pytest.raises(InvalidSetting, match="model"):
        GeminiGenerator(model=" ", api_key="x")
