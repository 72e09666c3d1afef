"""Pollinations: the prompt in the address, the key in a header, the image as the answer."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import unquote

import pytest
from starlette.responses import JSONResponse, RedirectResponse, Response

from limner.adapters.pollinations import PollinationsGenerator
from limner.errors import (
    AnswerTooLarge,
    AuthFailed,
    BackendError,
    BadRequest,
    InvalidSetting,
    Moderated,
    NoBalance,
    NoImage,
    NotAnImage,
    RateLimited,
    Unavailable,
)
from limner.workflows.ports import GenerationRequest
from tests.adapters.servers.local import RawServer, chunk, head
from tests.adapters.servers.pollinations import PollinationsServer, refused

pytestmark = pytest.mark.anyio


@pytest.fixture
def server(web, png):
    return PollinationsServer(web, png)


async def painted(url: str, request: GenerationRequest, **settings: Any) -> bytes:
    generator = PollinationsGenerator(url, **{"api_key": "secret-key", **settings})
    try:
        return await generator.generate(request, lambda *_: None)
    finally:
        await generator.aclose()


async def test_the_prompt_is_the_path_and_the_settings_are_the_query(web, png, server, request_for):
    settings = {"model": "flux", "width": 768, "height": 512, "safe": "nsfw"}
    assert await painted(web.url, request_for("a fox"), api_key=" secret-key\n", **settings) == png
    await painted(web.url, request_for("a fox"))
    first, second = web.received
    assert (first.method, first.raw_path) == ("GET", "/image/a%20fox")
    assert first.query == {
        "model": "flux",
        "width": "768",
        "height": "512",
        "safe": "nsfw",
        "seed": "7",
        "nologo": "true",
    }
    assert first.headers["authorization"] == "Bearer secret-key"
    assert second.query == {"seed": "7", "nologo": "true"}


@pytest.mark.parametrize(
    "prompt",
    [
        "cats/dogs and ?query #hash",
        "../../etc/passwd",
        "http://elsewhere/x",
        "//elsewhere/x",
        "50% of a 100%25 fox + tail",
        "a\\b\n'\"<&>;:@",
        "ein Füchslein 🦊 雪",
        "%2e%2e",
        "...",
    ],
)
async def test_whatever_stands_in_the_prompt_it_stays_one_part_of_the_path(prompt, web, server, request_for):
    await painted(web.url, request_for(prompt))
    path = web.received[0].raw_path
    assert path.count("/") == 2
    assert unquote(path.removeprefix("/image/")) == prompt


@pytest.mark.parametrize("prompt", [".", ".."])
async def test_a_prompt_of_dots_is_no_step_up(prompt, web, png, server, request_for):
    assert await painted(web.url, request_for(prompt)) == png
    assert web.received[0].raw_path == f"/image/{prompt}%20"


async def test_half_a_character_is_a_question_mark(web, png, server, request_for):
    assert await painted(web.url, request_for("x\ud800")) == png
    assert web.received[0].raw_path == "/image/x%3F"


async def test_a_long_prompt_fits_and_one_too_long_for_an_address_is_refused_before_it_is_sent(
    web, png, server, request_for
):
    assert await painted(web.url, request_for("snow " * 1500)) == png
    with pytest.raises(BadRequest, match=r"too long for an address.*openai=https://gen\.pollinations\.ai"):
        await painted(web.url, request_for("雪" * 2000))
    assert len(web.received) == 1


async def test_a_seed_fits_into_the_31_bits_that_are_taken(web, png, server, request_for):
    assert await painted(web.url, request_for(seed=4_294_967_295)) == png
    assert web.received[0].query["seed"] == "2147483647"


async def test_a_repeated_attempt_asks_for_the_same_address(web, server, request_for):
    for _ in range(2):
        await painted(web.url, request_for())
    assert len(server.painted) == 1


async def test_an_image_at_another_address_is_fetched_without_the_key(web, png, server, request_for):
    with RawServer(lambda wire: wire.send(head(content_type="image/webp") + png)) as store:
        server.answer = RedirectResponse(f"{store.url}/1.webp?sig=x")
        assert await painted(web.url, request_for()) == png
    assert b"secret-key" not in store.heads[0]


async def test_an_empty_purse_is_no_balance(web, server, request_for):
    server.balance = 0
    with pytest.raises(NoBalance) as caught:
        await painted(web.url, request_for("my secret diary"))
    # The prompt is in the address, and does not belong into a message.
    assert str(caught.value) == f"{web.url}/image/... answered 402: your pollen balance is 0.0"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refused(400, "BAD_REQUEST", "no such model"), BadRequest),
        (refused(403, "FORBIDDEN", "not with this key"), AuthFailed),
        (refused(422, "content_policy_violation", "rejected"), Moderated),
        (JSONResponse({"error": {"type": "safety_error", "message": "blocked"}}, 400), Moderated),
        (refused(429, "RATE_LIMITED", "slow down"), RateLimited),
        (JSONResponse({"error": "Too Many Requests", "message": "queue full for your IP"}, 429), RateLimited),
        (refused(500, "INTERNAL_ERROR", "oh"), BackendError),
        (refused(502, "BAD_GATEWAY", "upstream 401"), Unavailable),
        (Response("URI Too Long", 414), BadRequest),
        (JSONResponse({"error": {"code": "content_policy_violation", "message": "late"}}), Moderated),
        (JSONResponse({"odd": 1}), BackendError),
        (Response("<html>Sorry</html>", media_type="text/html"), NotAnImage),
        (Response(b"\0\0\0\x20ftypisom", media_type="video/mp4"), NotAnImage),
        (Response(b"", media_type="text/plain"), NoImage),
        (Response(b"", media_type="image/jpeg"), NoImage),
    ],
)
async def test_an_answer_without_an_image_is_called_by_what_it_says(answer, kind, web, server, request_for):
    server.answer = answer
    with pytest.raises(BackendError) as caught:
        await painted(web.url, request_for())
    assert type(caught.value) is kind


async def test_a_wrong_key_is_told_and_shown_nowhere(web, server, request_for, caplog):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(AuthFailed, match="an API key is needed") as caught:
        await painted(web.url, request_for(), api_key="wrong-key-123")
    server.key = "wrong-key-123"
    server.answer = JSONResponse({"error": {"message": "not with wrong-key-123"}})
    with pytest.raises(BackendError, match=r"not with \*\*\*") as again:
        await painted(web.url, request_for(), api_key="wrong-key-123")
    generator = PollinationsGenerator(api_key="wrong-key-123")
    await generator.aclose()
    assert "/image/" in caplog.text
    assert "wrong-key-123" not in f"{caught.value!r} {again.value!r} {generator!r} {caplog.text}"


async def test_a_body_that_drips_is_read_to_its_end_and_an_endless_one_is_not(png, request_for):
    def drip(wire):
        wire.send(head(content_type="image/png", transfer_encoding="chunked"))
        for at in range(0, len(png), 5):
            wire.send(chunk(png[at : at + 5]))
        wire.send(chunk(b""))

    with RawServer(drip) as server:
        assert await painted(server.url, request_for()) == png
    announced = head(content_type="image/png", content_length=str(10**10))
    with RawServer(lambda wire: wire.send(announced)) as server, pytest.raises(AnswerTooLarge):
        await painted(server.url, request_for())


@pytest.mark.parametrize(
    ("url", "key", "used"),
    [
        (None, "secret-key", "https://gen.pollinations.ai/image/"),
        (None, None, "https://image.pollinations.ai/prompt/"),
        (None, " ", "https://image.pollinations.ai/prompt/"),
        ("https://image.pollinations.ai/", "secret-key", "https://image.pollinations.ai/prompt/"),
        ("https://gen.pollinations.ai", None, "https://gen.pollinations.ai/image/"),
        (" http://h/prompt/ ", None, "http://h/prompt/"),
        ("http://h/api", None, "http://h/api/image/"),
    ],
)
def test_the_key_chooses_the_address_unless_it_is_given(url, key, used):
    assert repr(PollinationsGenerator(url, api_key=key)) == f"PollinationsGenerator({used!r})"


@pytest.mark.parametrize("setting", [{"width": 0}, {"height": -1}])
def test_a_setting_that_cannot_be_meant_is_refused(setting):
    with pytest.raises(InvalidSetting, match=next(iter(setting))):
        PollinationsGenerator(**setting)
