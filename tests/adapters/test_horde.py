"""AI Horde: submitting, waiting, resuming, withdrawing, and what its errors are called."""

from __future__ import annotations

import base64
import logging
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from starlette.responses import JSONResponse, Response

from limner.adapters import horde
from limner.adapters.horde import DEFAULT_POLL_INTERVAL_MS, HordeGenerator
from limner.errors import (
    AuthFailed,
    BackendError,
    BadRequest,
    InvalidSetting,
    JobLost,
    Moderated,
    NoBalance,
    NoImage,
    NotAnImage,
    QueueFull,
    RateLimited,
    Unavailable,
)
from limner.testing import ProgressRecorder
from limner.workflows.ports import GenerationRequest
from tests.adapters.servers.horde import API, HordeServer, refused
from tests.adapters.servers.local import PATIENCE_S, RawServer, WebServer, happened, head

pytestmark = pytest.mark.anyio


@pytest.fixture
def server(web, png):
    """A horde that sends its image as base64."""
    return HordeServer(web, base64.b64encode(png).decode())


async def painted(
    web: WebServer, request: GenerationRequest, progress: ProgressRecorder, **settings: Any
) -> bytes:
    generator = HordeGenerator(web.url, **{"poll_interval_ms": 0, "submit_interval_ms": 0, **settings})
    try:
        return await generator.generate(request, progress)
    finally:
        await generator.aclose()


def paths(web: WebServer, method: str = "GET") -> list[str]:
    return [got.path.removeprefix(API) for got in web.received if got.method == method]


async def test_settings_go_along_and_what_is_not_set_is_left_to_the_horde(web, server, request_for, progress):
    settings = {
        "api_key": " secret-key\n",
        "model": "Deliberate",
        "width": 512,
        "height": 768,
        "steps": 25,
        "sampler": "k_euler",
        "negative_prompt": "blurry, text",
        "params": {"karras": True},
        "client_agent": "tavern:1.2:someone",
        "trusted_workers": True,
        "allow_downgrade": True,
    }
    await painted(web, request_for("a fox", seed=4_294_967_295), progress, **settings)
    await painted(web, request_for("a fox"), progress, model=["one", "two"], nsfw=True)
    first, second = (got for got in web.received if got.path == f"{API}async")
    assert first.json == {
        "prompt": "a fox ### blurry, text",
        "params": {
            "n": 1,
            "seed": "4294967295",
            "width": 512,
            "height": 768,
            "steps": 25,
            "sampler_name": "k_euler",
            "karras": True,
        },
        "models": ["Deliberate"],
        "r2": True,
        "nsfw": False,
        "censor_nsfw": True,
        "trusted_workers": True,
        "allow_downgrade": True,
    }
    assert first.headers["apikey"] == "secret-key"
    assert first.headers["client-agent"] == "tavern:1.2:someone"
    assert second.json["prompt"] == "a fox"
    assert second.json["params"] == {"n": 1, "seed": "7"}
    assert second.json["models"] == ["one", "two"]
    assert (second.json["nsfw"], second.json["censor_nsfw"]) == (True, False)


async def test_without_a_key_requests_are_anonymous_and_name_the_client(web, server, request_for, progress):
    await painted(web, request_for(), progress)
    assert web.received[0].headers["apikey"] == "0000000000"
    assert web.received[0].headers["client-agent"].startswith("limner:")
    assert web.received[0].headers["client-agent"].count(":") == 2


@pytest.mark.parametrize("tail", ["", "/", "/api", "/api/v2/"])
async def test_the_address_is_understood_however_much_of_it_is_given(
    tail, web, server, request_for, progress
):
    assert await painted(web, request_for(), progress, api_key="secret-key")
    generator = HordeGenerator(f"{web.url}{tail}")
    assert repr(generator) == f"HordeGenerator('{web.url}/api/v2/')"
    await generator.aclose()


async def test_the_job_is_looked_at_until_it_is_done_and_fetched_once(
    web, png, server, request_for, progress
):
    server.states = [{"queue_position": 2}, {"queue_position": 1}, {"waiting": 0, "processing": 1}]
    assert await painted(web, request_for(), progress) == png
    assert paths(web) == ["check/0000-0"] * 4 + ["status/0000-0"]
    assert paths(web, "DELETE") == []
    assert progress.job_ids == ["0000-0"]


async def test_the_jobs_id_is_told_before_it_is_first_looked_at(web, server, request_for, progress):
    told: list[str | None] = []
    looks: list[int] = []

    def report(fraction=None, preview=None, job_id=None):
        if job_id is not None:
            told.append(job_id)
            looks.append(server.jobs[job_id].looks)

    generator = HordeGenerator(web.url, poll_interval_ms=0)
    await generator.generate(request_for(), report)
    await generator.aclose()
    assert told == ["0000-0"]
    assert looks == [0]


async def test_the_queue_and_the_wait_are_the_progress_and_it_never_goes_back(
    web, server, request_for, progress
):
    server.states = [
        {"queue_position": 10, "wait_time": 100},
        {"queue_position": 5, "wait_time": 90},
        # Somebody with more kudos came.
        {"queue_position": 20, "wait_time": 200},
        {"queue_position": 1, "wait_time": 20},
        {"waiting": 0, "processing": 1, "queue_position": 0, "wait_time": 10},
        {"waiting": 0, "processing": 1, "queue_position": 0, "wait_time": 2},
        # The worker gave it back.
        {"waiting": 1, "processing": 0, "restarted": 1, "queue_position": 1, "wait_time": 15},
        {"waiting": 0, "processing": 1, "queue_position": 0, "wait_time": 0},
    ]
    await painted(web, request_for(), progress)
    assert progress.fractions == pytest.approx([0, 0.25, 0.25, 0.475, 0.5, 0.86, 0.86, 0.95])


async def test_an_image_at_an_address_is_fetched_without_the_key(web, png, request_for, progress):
    with RawServer(lambda wire: wire.send(head(content_length=str(len(png))) + png)) as store:
        HordeServer(web, f"{store.url}/1.webp?X-Amz-Signature=abc")
        assert await painted(web, request_for(), progress, api_key="secret-key") == png
    (sent,) = store.heads
    assert sent.startswith(b"GET /1.webp?X-Amz-Signature=abc ")
    assert b"secret-key" not in sent


async def test_a_kept_job_is_asked_for_instead_of_being_submitted_again(
    web, png, server, request_for, progress
):
    await painted(web, request_for(), progress)
    web.received.clear()
    assert await painted(web, request_for(job_id="0000-0"), progress) == png
    assert paths(web, "POST") == []
    assert paths(web) == ["check/0000-0", "status/0000-0"]


async def test_a_kept_job_that_the_horde_has_forgotten_is_lost(web, server, request_for, progress):
    with pytest.raises(JobLost, match="there is no request gone"):
        await painted(web, request_for(job_id="gone"), progress)
    assert paths(web) == ["check/gone"]
    assert paths(web, "DELETE") == []


async def test_a_404_without_the_hordes_own_code_means_a_lost_job_too(web, server, request_for, progress):
    server.failures = [Response("not here", 404)]
    with pytest.raises(JobLost, match="not here"):
        await painted(web, request_for(job_id="x"), progress)


async def test_a_job_that_was_withdrawn_before_the_restart_is_lost(web, server, request_for, progress):
    await painted(web, request_for(), progress)
    server.jobs["0000-0"].withdrawn = True
    server.jobs["0000-0"].generations.clear()
    with pytest.raises(JobLost, match="done, without an image"):
        await painted(web, request_for(job_id="0000-0"), progress)


async def test_a_strange_job_id_stays_one_part_of_the_address(web, server, request_for, progress):
    with pytest.raises(JobLost):
        await painted(web, request_for(job_id="../../../x?y#z"), progress)
    assert web.received[0].raw_path == f"{API}check/..%2F..%2F..%2Fx%3Fy%23z"


async def cancelled_when(
    web: WebServer,
    request: GenerationRequest,
    progress: ProgressRecorder,
    event: threading.Event,
    then: Callable[[], None] = lambda: None,
) -> None:
    generator = HordeGenerator(web.url, poll_interval_ms=60_000)
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(generator.generate, request, progress)
            await happened(event)
            group.cancel_scope.cancel()
            then()
    await generator.aclose()


async def test_cancelling_while_the_job_waits_withdraws_it(web, server, request_for, progress):
    server.endless = True
    await cancelled_when(web, request_for(), progress, server.looked_at)
    assert paths(web, "DELETE") == ["status/0000-0"]


async def test_cancelling_a_kept_job_withdraws_it_too(web, server, request_for, progress):
    await painted(web, request_for(), progress)
    server.endless = True
    server.looked_at.clear()
    await cancelled_when(web, request_for(job_id="0000-0"), progress, server.looked_at)
    assert paths(web, "DELETE") == ["status/0000-0"]


async def test_cancelling_while_the_job_is_submitted_withdraws_it_once_its_id_is_known(
    web, server, request_for, progress
):
    server.take_it.clear()
    await cancelled_when(web, request_for(), progress, server.submitting, server.take_it.set)
    assert list(server.jobs) == ["0000-0"]
    assert paths(web, "DELETE") == ["status/0000-0"]


async def test_a_horde_that_does_not_answer_does_not_hold_up_a_cancellation(
    web, server, request_for, progress, monkeypatch
):
    monkeypatch.setattr(horde, "_CANCEL_TIME_S", 0.01)
    server.take_it.clear()
    await cancelled_when(web, request_for(), progress, server.submitting)
    server.take_it.set()
    assert paths(web, "DELETE") == []


async def test_a_call_that_is_cancelled_before_it_begins_submits_nothing(web, server, request_for, progress):
    generator = HordeGenerator(web.url)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await generator.generate(request_for(), progress)
    await generator.aclose()
    assert scope.cancelled_caught
    assert web.received == []


async def test_cancelling_after_the_job_is_done_withdraws_nothing(web, request_for, progress):
    with RawServer(lambda wire: wire.wait_until_cut()) as store:
        server = HordeServer(web, f"{store.url}/1.webp")
        generator = HordeGenerator(web.url, poll_interval_ms=0)
        async with anyio.create_task_group() as group:
            group.start_soon(generator.generate, request_for(), progress)
            while not store.heads:
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        await generator.aclose()
    assert server.jobs["0000-0"].fetched == 1
    assert paths(web, "DELETE") == []


async def test_a_withdrawal_that_fails_is_passed_over(web, server, request_for, progress):
    server.endless = True
    web.on_below(f"{API}status/", server._check)  # which answers with a failure, as set below
    server.failures = [JSONResponse({"is_possible": True, "waiting": 1}), Response("down", 503)]
    await cancelled_when(web, request_for(), progress, server.looked_at)
    assert paths(web, "DELETE") == ["status/0000-0"]


async def test_a_look_that_fails_in_passing_costs_the_job_nothing(web, png, server, request_for, progress):
    server.states = [{}]
    limited = JSONResponse({"message": "10 per 1 second"}, 429, {"retry-after": "0"})
    server.failures = [
        limited,
        Response("<html>", 502),
        JSONResponse({"message": "oops"}, 500),
        Response("?"),
    ]
    assert await painted(web, request_for(), progress) == png
    assert paths(web, "POST") == ["async"]


async def test_a_horde_that_answers_no_more_is_given_up_and_told_so(web, server, request_for, progress):
    server.failures = [Response("down", 503) for _ in range(5)]
    with pytest.raises(Unavailable, match="answered 503: down"):
        await painted(web, request_for(), progress)
    assert paths(web) == ["check/0000-0"] * 5
    assert paths(web, "DELETE") == ["status/0000-0"]


async def test_looks_are_no_more_frequent_than_the_horde_updates_and_wait_as_long_as_it_asks(
    web, server, request_for, progress, monkeypatch
):
    pauses: list[float] = []

    async def sleep(seconds):
        pauses.append(seconds)
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr("limner.adapters.horde.anyio.sleep", sleep)
    server.states = [{}, {}]
    server.failures = [JSONResponse({}, 429, {"retry-after": "7"}), Response("", 503), Response("", 503)]
    await painted(web, request_for(), progress, poll_interval_ms=DEFAULT_POLL_INTERVAL_MS)
    assert pauses == [0, 7, 4, 8, 1, 1]
    assert server.jobs["0000-0"].fetched == 1


async def test_jobs_are_submitted_no_faster_than_the_horde_takes_them(
    web, server, request_for, progress, monkeypatch
):
    pauses: list[float] = []

    async def sleep(seconds):
        pauses.append(seconds)
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr("limner.adapters.horde.anyio.sleep", sleep)
    monkeypatch.setattr("limner.adapters.horde.monotonic", lambda: 1000.0)
    generator = HordeGenerator(web.url)
    for _ in range(3):
        await generator.generate(request_for(), progress)
    await generator.aclose()
    assert pauses == pytest.approx([0, 0.7, 1.4])


async def test_a_job_that_no_worker_can_do_is_refused_clearly_and_withdrawn(
    web, server, request_for, progress
):
    server.warning = "no workers with this model"
    server.states = [{"is_possible": False}] * 20
    with pytest.raises(BadRequest, match=r"model, size or steps.*: no workers with this model"):
        await painted(web, request_for(), progress)
    assert paths(web, "DELETE") == ["status/0000-0"]


async def test_a_worker_that_is_away_for_a_moment_is_waited_for(web, png, server, request_for, progress):
    gone, there = {"is_possible": False}, {"is_possible": True}
    # Being worked on counts more than a worker count that lags behind.
    working = {"is_possible": False, "waiting": 0, "processing": 1}
    server.states = [gone] * 9 + [there] + [gone] * 9 + [working] * 20
    assert await painted(web, request_for(), progress) == png


async def test_a_faulted_job_is_an_error_of_the_backend(web, server, request_for, progress):
    server.states = [{"done": True, "faulted": True, "waiting": 0}]
    with pytest.raises(BackendError, match="faulted") as caught:
        await painted(web, request_for(), progress)
    assert type(caught.value) is BackendError
    assert paths(web, "DELETE") == []


@pytest.mark.parametrize(
    ("generation", "why"),
    [
        ({"censored": True}, "safety filter"),
        ({"state": "censored"}, "safety filter"),
        ({"gen_metadata": [{"type": "censorship", "value": "nsfw"}]}, "safety filter (nsfw)"),
    ],
)
async def test_a_censored_picture_is_a_refusal_and_not_an_image(
    generation, why, web, server, request_for, progress
):
    server.generation = generation
    with pytest.raises(Moderated) as caught:
        await painted(web, request_for(), progress)
    assert str(caught.value).endswith(why)


async def test_other_remarks_on_a_picture_are_none(web, png, server, request_for, progress):
    server.generation = {"gen_metadata": [{"type": "lora", "value": "download_failed"}, "odd"]}
    assert await painted(web, request_for(), progress) == png


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refused(400, "CorruptPrompt", "this is against the terms"), Moderated),
        (refused(403, "KudosUpfront", "needs 40 kudos"), NoBalance),
        (refused(403, "SharedKeyEmpty", "the key is used up"), NoBalance),
        (refused(403, "TimeoutIP", "your address is in timeout"), AuthFailed),
        (refused(429, "TooManyPrompts", "5 parallel requests"), QueueFull),
        (JSONResponse({"message": "2 per 1 second"}, 429, {"retry-after": "1"}), RateLimited),
        (refused(400, "MaintenanceMode", "back soon"), Unavailable),
        (refused(400, "UnsupportedModel", "not this one"), BadRequest),
        (JSONResponse({"message": "Internal Server Error"}, 500), BackendError),
    ],
)
async def test_a_refusal_is_called_by_the_hordes_own_code(answer, kind, web, server, request_for, progress):
    server.refusal = answer
    with pytest.raises(BackendError) as caught:
        await painted(web, request_for(), progress)
    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"{web.url}{API}async answered {answer.status_code}")
    assert paths(web, "DELETE") == []


async def test_a_fault_in_the_request_is_told_with_the_field(web, server, request_for, progress):
    with pytest.raises(BadRequest, match=r"prompt.*too short.*Input payload validation failed"):
        await painted(web, request_for(""), progress)


async def test_a_wrong_key_is_told_and_shown_nowhere(web, server, request_for, progress, caplog):
    caplog.set_level(logging.DEBUG)
    server.refusal = refused(401, "InvalidAPIKey", "nobody has the key wrong-key-123")
    with pytest.raises(AuthFailed, match=r"nobody has the key \*\*\*") as caught:
        await painted(web, request_for(), progress, api_key="wrong-key-123")
    generator = HordeGenerator(api_key="wrong-key-123")
    await generator.aclose()
    told = f"{caught.value!r} {generator!r} {caplog.text}"
    assert "HordeGenerator('https://aihorde.net/api/v2/')" in told
    assert "generate/async" in caplog.text
    assert "wrong-key-123" not in told


@pytest.mark.parametrize("answer", [{}, {"id": None}, {"id": 3}, ["x"], None])
async def test_an_answer_without_a_jobs_id_is_an_error_of_the_backend(answer, web, request_for, progress):
    web.answer_json(f"{API}async", answer, 202)
    with pytest.raises(BackendError, match="without a job's id"):
        await painted(web, request_for(), progress)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ({"done": True, "generations": ["x"]}, NoImage),
        ({"done": True, "generations": [{"img": ""}]}, NoImage),
        ({"done": True, "generations": [{"img": "%%%"}]}, NotAnImage),
        ({"done": True, "generations": [{"img": 3}]}, NotAnImage),
        ({"done": True, "generations": []}, JobLost),
        ({"done": True}, JobLost),
        ([], NoImage),
    ],
)
async def test_a_result_of_another_shape_is_no_image(status, kind, web, server, request_for, progress):
    async def answer(_):
        return JSONResponse(status)

    web.on_below(f"{API}status/", answer)
    with pytest.raises(BackendError) as caught:
        await painted(web, request_for(), progress)
    assert type(caught.value) is kind


async def test_numbers_that_are_none_do_not_upset_the_progress(web, png, server, request_for, progress):
    server.states = [{"queue_position": None, "wait_time": "soon"}, {"queue_position": -3, "wait_time": True}]
    assert await painted(web, request_for(), progress) == png
    assert progress.fractions == [0, 0]


@pytest.mark.parametrize(
    "setting",
    [
        {"width": 500},
        {"width": 0},
        {"height": 4096},
        {"height": -64},
        {"steps": 0},
        {"poll_interval_ms": -1},
        {"submit_interval_ms": -1},
        {"client_agent": "ünnamed"},
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(setting):
    with pytest.raises(InvalidSetting, match=next(iter(setting)).replace("_", "[_-]")):
        HordeGenerator(**setting)
