"""What every generator keeps to, whatever is behind it."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest
from starlette.responses import Response

from limner.adapters.http import HttpClient
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
from limner.testing import GeneratorCase, GeneratorContract
from tests.adapters.generator_cases import (
    BACKENDS,
    HTML,
    PATHS,
    PIECE_SIZE,
    SECRETS,
    Stage,
    backend,
    case_of,
    image_answer,
)
from tests.adapters.servers.comfyui import ComfyServer
from tests.adapters.servers.local import PATIENCE_S, RawServer, WebServer

pytestmark = pytest.mark.anyio

# Those whose image is a text within one JSON answer.
TEXTUAL = ["sdapi", "openai", "gemini", "json"]


class TestEveryGenerator(GeneratorContract):
    patience_s = PATIENCE_S

    @pytest.fixture(params=BACKENDS)
    def case(
        self, request: pytest.FixtureRequest, web: WebServer, comfy: ComfyServer, png: bytes
    ) -> GeneratorCase:
        return case_of(str(request.param), Stage(web, comfy, png))


async def test_the_drips_that_the_adapters_are_fed_are_read_one_by_one(web):
    web.piece_size = PIECE_SIZE
    web.answer("/x", Response(b"x" * (PIECE_SIZE * 2 + 1)))
    client = HttpClient(web.url)
    async with client.stream("/x", {}) as answer:
        pieces = [await answer.chunk() for _ in range(4)]
    await client.aclose()
    assert pieces == [b"x" * PIECE_SIZE, b"x" * PIECE_SIZE, b"x", None]


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
    assert caught.value.status == status
    assert not any(secret in str(caught.value) for secret in SECRETS)


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
    web.answer(PATHS[name], Response(HTML, media_type="text/html"))
    generator = backend(name, web.url)
    with pytest.raises(BackendError, match="it is an HTML page") as caught:
        await generator.generate(request_for(), progress)
    await generator.aclose()
    assert caught.value.status == 200 or isinstance(caught.value, NotAnImage | NoImage)


@pytest.mark.parametrize("name", PATHS)
async def test_a_server_that_is_not_there_is_unavailable(name, request_for, progress):
    with RawServer(lambda wire: None) as server:
        url = server.url
    generator = backend(name, url)
    with pytest.raises(Unavailable, match=r"cannot reach .* connection refused") as caught:
        await generator.generate(request_for(), progress)
    await generator.aclose()
    assert caught.value.status is None


@pytest.mark.parametrize("name", ["sdapi", "openai", "openai streaming", "gemini", "pollinations", "json"])
async def test_the_call_that_paints_has_no_time_limit_but_that_of_the_image(
    name, web, comfy, png, request_for, progress
):
    if name == "sdapi":
        # The stage's paints on until its progress was asked for, which this test does not let happen.
        web.answer_json(PATHS[name], image_answer(name, base64.b64encode(png).decode()))
        generator: Any = backend(name, web.url)
    else:
        generator = case_of(name, Stage(web, comfy, png)).working()
    # Whatever else is asked ends at once: it keeps the client's limits.
    generator._client._timeout_ms = 0
    generator._client._client.timeout = httpx.Timeout(None, read=0)
    assert await generator.generate(request_for(), progress) == png
    with pytest.raises(Unavailable, match="did not finish its answer within 0 s"):
        await generator._client.get_json("anything")
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
