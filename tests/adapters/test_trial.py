"""A trial says what it has found out, and no more than that."""

from __future__ import annotations

import base64

import pytest
from starlette.responses import Response

from limner.adapters.callable import CallableGenerator
from limner.adapters.openai_images import OpenAIImagesGenerator
from limner.adapters.pollinations import PollinationsGenerator
from limner.adapters.sdapi import SdapiGenerator
from limner.adapters.trial import Trial, try_out
from limner.errors import BackendError, Moderated
from limner.testing import make_request
from limner.workflows.ports import Capabilities, GenerationRequest, Generator, ProgressCallback
from tests.adapters.servers.local import RawServer, Wire, head
from tests.adapters.servers.sdapi import KINDS, SdapiServer

pytestmark = pytest.mark.anyio

PATH = "/v1/images/generations"


async def trial_of(generator: Generator, prompt: str = "a fox", time_limit_s: float = 20) -> Trial:
    try:
        return await try_out(generator, "it", prompt, time_limit_s)
    finally:
        await generator.aclose()


async def openai_trial(url: str, time_limit_s: float = 20) -> Trial:
    return await trial_of(OpenAIImagesGenerator(url, model="m", api_key="a key"), time_limit_s=time_limit_s)


@pytest.mark.parametrize(
    ("status", "code", "authorised"),
    [
        (401, "", False),
        (403, "", False),
        (402, "", True),
        (400, "moderation_blocked", True),
        (400, "", None),
        (404, "", None),
        (405, "", None),
        (429, "", None),
        (429, "queue_full", None),
        (500, "", None),
        (502, "", None),
        (503, "", None),
        (307, "", None),
    ],
)
async def test_who_answers_is_reachable_and_only_some_answers_tell_who_may_ask(web, status, code, authorised):
    web.answer_json(PATH, {"error": {"message": "x", "code": code}}, status)
    trial = await openai_trial(web.url)
    assert (trial.reachable, trial.authorised, trial.image) == (True, authorised, None)
    assert isinstance(trial.error, BackendError)


@pytest.mark.parametrize(
    ("answer", "authorised"),
    [
        (b'{"data": [{"b64_json": "bm90aGluZw=="}]}', True),
        (b'{"data": []}', True),
        (b'{"error": {"message": "no"}}', None),
        (b"<html>Welcome to this hotel</html>", None),
    ],
)
async def test_an_answer_without_a_picture_is_an_answer(web, answer, authorised):
    web.answer(PATH, Response(answer, media_type="application/json"))
    trial = await openai_trial(web.url)
    assert (trial.reachable, trial.authorised) == (True, authorised)
    assert trial.error is not None


async def test_a_picture_tells_both(web, png):
    web.answer_json(PATH, {"data": [{"b64_json": base64.b64encode(png).decode()}]})
    trial = await openai_trial(web.url)
    assert (trial.reachable, trial.authorised, trial.error) == (True, True, None)
    assert trial.image is not None


async def test_nobody_there_is_not_reachable_and_nothing_is_known_of_the_key():
    with RawServer(lambda wire: None) as server:
        url = server.url
    trial = await openai_trial(url)
    assert (trial.reachable, trial.authorised) == (False, None)


async def test_an_answer_that_breaks_off_was_an_answer():
    def script(wire: Wire) -> None:
        wire.send(head(content_length="1000") + b'{"half')

    with RawServer(script) as server:
        trial = await openai_trial(server.url)
    assert (trial.reachable, trial.authorised) == (True, None)


async def test_where_nothing_was_sent_nothing_is_known():
    trial = await trial_of(PollinationsGenerator("http://127.0.0.1:9"), "x" * 20_000)
    assert (trial.reachable, trial.authorised) == (None, None)
    assert "too long" in str(trial.error)


async def test_where_time_ran_out_in_silence_nothing_is_known(web):
    web.hold(PATH)
    trial = await openai_trial(web.url, time_limit_s=0.001)
    assert (trial.reachable, trial.authorised) == (None, None)
    assert str(trial.error) == "no image within 0.001 s"


async def test_who_has_reported_something_was_there():
    async def paint(_: GenerationRequest, report: ProgressCallback) -> bytes:
        report(0.5)
        raise BackendError("and then the graphics card fell out")

    trial = await trial_of(CallableGenerator.with_request(paint, capabilities=Capabilities(progress=True)))
    assert (trial.reachable, trial.authorised, trial.reports) == (True, None, 1)


async def test_whoever_refuses_has_looked_at_who_asks():
    async def paint(_: str) -> bytes:
        raise Moderated("not this one")

    trial = await trial_of(CallableGenerator(paint))
    assert (trial.reachable, trial.authorised) == (True, True)


FINDINGS = {
    "AUTOMATIC1111": "tells of our image by its id, and can be told to stop it",
    "Forge": "tells of our image by its id, and can be told to stop it",
    "AUTOMATIC1111 without its page": "tells only of whatever it is doing, and is not told to stop",
    "SD.Next": "tells only of whatever it is doing, and is not told to stop",
    "KoboldCpp": "tells only of whatever it is doing, and is not told to stop",
}


@pytest.mark.parametrize("kind", FINDINGS)
async def test_what_an_sdapi_server_turned_out_to_be_able_to_is_found_out(web, png, kind):
    server = SdapiServer(web, base64.b64encode(png).decode(), kind)
    server.previews = [None, None, None]
    trial = await trial_of(SdapiGenerator(web.url, poll_interval_ms=0))
    assert trial.error is None
    assert trial.findings == FINDINGS[kind]
    assert trial.capabilities == SdapiGenerator.capabilities
    assert trial.reports > 0


@pytest.mark.parametrize("kind", sorted(set(KINDS) - set(FINDINGS)))
async def test_a_server_that_tells_nothing_is_told_from_one_that_was_not_asked(web, png, kind):
    server = SdapiServer(web, base64.b64encode(png).decode(), kind)
    generator = SdapiGenerator(web.url)
    assert generator.findings == ""
    assert (await try_out(generator, "it", "a fox", 20)).findings == ""  # before the first look
    assert server.seeds
    await generator._progress.of_task("ours")
    await generator._progress.of_the_server()
    assert generator.findings == "tells of no progress, and is not told to stop"
    assert (await generator.generate(make_request(), lambda *_: None)) == png
    await generator.aclose()
