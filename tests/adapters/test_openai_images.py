"""The OpenAI Images interface, and the address and key that go with it."""

from __future__ import annotations

import base64

import pytest
from starlette.responses import Response

from limner.adapters.openai_api import openai_base_url
from limner.adapters.openai_images import OpenAIImagesGenerator
from limner.errors import AnswerTooLarge, BackendError, InvalidSetting, NoImage, RateLimited
from tests.adapters.servers.local import RawServer, head

pytestmark = pytest.mark.anyio

PATH = "/v1/images/generations"


async def generated(url: str, request, **settings) -> bytes:
    generator = OpenAIImagesGenerator(url, **{"model": "gpt-image-1", **settings})
    try:
        return await generator.generate(request, lambda *_: None)
    finally:
        await generator.aclose()


async def test_the_request_says_what_was_set_and_carries_the_key(web, png, request_for):
    web.answer_json(PATH, {"data": [{"b64_json": base64.b64encode(png).decode()}]})
    chosen = {
        "size": "1024x1024",
        "quality": "low",
        "background": "transparent",
        "output_format": "webp",
        "output_compression": 80,
        "moderation": "low",
    }
    settings = {"api_key": " sk-test\n", **chosen}
    assert await generated(web.url, request_for("a fox"), **settings) == png
    await generated(web.url, request_for("a fox"), model="dall-e-3")
    first, second = web.received
    assert first.json == {"model": "gpt-image-1", "n": 1, "prompt": "a fox", **chosen}
    assert first.headers["authorization"] == "Bearer sk-test"
    assert second.json == {"model": "dall-e-3", "n": 1, "prompt": "a fox", "response_format": "b64_json"}
    assert "authorization" not in second.headers


async def test_an_image_at_an_address_is_fetched(web, png, request_for):
    web.answer("/files/1.png", Response(png))
    for url in (f"{web.url}/files/1.png", "/files/1.png"):
        web.answer_json(PATH, {"data": [{"url": url}]})
        assert await generated(web.url, request_for(), api_key="secret") == png
    fetched = [got for got in web.received if got.path == "/files/1.png"]
    assert [got.headers["authorization"] for got in fetched] == ["Bearer secret"] * 2


async def test_the_key_does_not_go_to_another_host(web, png, request_for):
    with RawServer(lambda wire: wire.send(head(content_length=str(len(png))) + png)) as other:
        # Another port is another origin.
        web.answer_json(PATH, {"data": [{"url": f"{other.url}/1.png?sig=x"}]})
        assert await generated(web.url, request_for(), api_key="secret") == png
    (sent,) = other.heads
    assert sent.startswith(b"GET /1.png?sig=x ")
    assert b"secret" not in sent


async def test_an_image_in_a_data_uri_is_understood(web, png, request_for):
    uri = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    web.answer_json(PATH, {"data": [{"url": uri}]})
    assert await generated(web.url, request_for()) == png


async def test_an_image_that_is_too_large_is_given_up(web, request_for):
    with RawServer(lambda wire: wire.send(head(content_length=str(10**10)))) as other:
        web.answer_json(PATH, {"data": [{"url": other.url}]})
        with pytest.raises(AnswerTooLarge):
            await generated(web.url, request_for())


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "http://[", "\x00"])
async def test_only_web_addresses_are_fetched(web, url, request_for):
    web.answer_json(PATH, {"data": [{"url": url}]})
    with pytest.raises(BackendError):
        await generated(web.url, request_for())


async def test_an_error_that_comes_with_status_200_is_an_error(web, request_for):
    web.answer_json(PATH, {"error": {"message": "busy", "code": "rate_limit_exceeded"}})
    with pytest.raises(RateLimited, match="busy"):
        await generated(web.url, request_for())


async def test_the_key_is_not_in_an_error_that_comes_with_status_200(web, request_for):
    web.answer_json(PATH, {"error": {"message": "Incorrect API key provided: sk-secret."}})
    with pytest.raises(BackendError, match=r"provided: \*\*\*") as caught:
        await generated(web.url, request_for(), api_key="sk-secret")
    assert "sk-secret" not in str(caught.value)


async def test_the_exact_pause_goes_before_the_rounded_one(web, request_for):
    pauses = {"retry-after-ms": "250", "retry-after": "1"}
    web.answer_json(PATH, {"error": {"message": "slow down"}}, 429, pauses)
    with pytest.raises(RateLimited) as caught:
        await generated(web.url, request_for())
    assert caught.value.retry_after_ms == 250


@pytest.mark.parametrize("answer", [[], "x", None, {"data": "x"}, {"data": [None]}, {"data": [{"url": 3}]}])
async def test_an_answer_of_another_shape_is_no_image(web, answer, request_for):
    web.answer_json(PATH, answer)
    with pytest.raises(NoImage):
        await generated(web.url, request_for())


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://h:1", "http://h:1/v1"),
        ("http://h:1/", "http://h:1/v1"),
        ("http://h/v1", "http://h/v1"),
        (" http://h/v1/ ", "http://h/v1"),
        ("http://h/v1/images/generations", "http://h/v1"),
        ("http://h/v1/chat/completions/", "http://h/v1"),
        ("https://openrouter.ai/api", "https://openrouter.ai/api/v1"),
        ("https://h/v1beta/openai/", "https://h/v1beta/openai"),
        ("https://h/api/paas/v4", "https://h/api/paas/v4"),
        ("https://v1.example", "https://v1.example/v1"),
    ],
)
def test_the_address_is_understood_however_much_of_it_is_given(given, used):
    assert openai_base_url(given) == used


def test_an_empty_address_or_model_is_refused():
    with pytest.raises(InvalidSetting, match="address"):
        openai_base_url("  ")
    with pytest.raises(InvalidSetting, match="model"):
        OpenAIImagesGenerator("http://h", model="")


def test_the_key_is_not_shown():
    generator = OpenAIImagesGenerator("http://h", model="m", api_key="sk-secret")
    assert repr(generator) == "OpenAIImagesGenerator('http://h/v1/', model='m')"
