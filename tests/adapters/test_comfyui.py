"""ComfyUI: filling in and queueing, progress, previews, the end, cancelling, picking jobs up again."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any

import anyio
import httpx
import pytest
from starlette.responses import JSONResponse, Response

from limner.adapters.comfyui import ComfyUIGenerator
from limner.adapters.image_folder import FolderImageStore
from limner.adapters.inspection import PillowInspector
from limner.adapters.journal_memory import MemoryJournal
from limner.adapters.limner import Limner
from limner.adapters.message_memory import MemoryMessageStore
from limner.errors import (
    AuthFailed,
    BackendError,
    BadRequest,
    InvalidSetting,
    JobLost,
    NoBalance,
    NoImage,
    NotAnImage,
    Unavailable,
)
from limner.states.retry import is_retryable
from limner.testing import ProgressRecorder
from limner.workflows.ports import GenerationRequest
from tests.adapters.servers.comfyui import WORKFLOW, ComfyServer, picture_of
from tests.adapters.servers.local import PATIENCE_S, RawServer, happened

pytestmark = pytest.mark.anyio

UNHURRIED_MS = 60_000
"""A poll interval that no test lives to see the end of: what happens, happens by the websocket."""


def workflow(**changes: dict[str, Any]) -> dict[str, Any]:
    """The usual workflow with other inputs, or with more nodes: `workflow(n3={"steps": 8})`."""
    graph = deepcopy(WORKFLOW)
    for node, change in changes.items():
        id_ = node.removeprefix("n")
        if "class_type" in change:
            graph[id_] = change
        else:
            graph[id_]["inputs"] |= change
    return graph


@asynccontextmanager
async def generator_for(server: ComfyServer, **options: Any) -> AsyncIterator[ComfyUIGenerator]:
    """A generator that does not poll, but where the websocket is gone or a job is missed."""
    options = {"workflow": WORKFLOW, "poll_interval_ms": UNHURRIED_MS, **options}
    generator = ComfyUIGenerator(server.url, **options)
    try:
        with anyio.fail_after(PATIENCE_S):
            yield generator
    finally:
        with anyio.CancelScope(shield=True):
            await generator.aclose()


def asking(
    prompt: str = "a fox", seed: int = 7, attempt: int = 1, job_id: str | None = None
) -> GenerationRequest:
    return GenerationRequest(f"prompt of {prompt}", "message", prompt, seed, attempt, job_id)


def painted(prompt: str = "a fox", seed: int = 7) -> bytes:
    """What the server paints for the usual workflow."""
    graph = workflow(n6={"text": prompt}, n3={"seed": seed})
    return picture_of(graph)


async def seed_painted(server: ComfyServer, generator: ComfyUIGenerator, request: GenerationRequest) -> int:
    """Have the image painted, and return the seed that went to the server."""
    image = await generator.generate(request, ProgressRecorder())
    seed = server.asked("/prompt")[-1]["prompt"]["3"]["inputs"]["seed"]
    assert image == painted(request.prompt, seed)
    return int(seed)


async def settled() -> None:
    """Let the other tasks do all that they can do without more from the server."""
    for _ in range(100):
        await anyio.lowlevel.checkpoint()
    await anyio.wait_all_tasks_blocked()


async def queue_of_somebody_else(server: ComfyServer, **extra: Any) -> str:
    """A job of another program; without a client id its messages go to everybody."""
    graph = workflow(n6={"text": "somebody else's"}, n3={"seed": 1})
    async with httpx.AsyncClient(verify=False) as client:
        answer = await client.post(f"{server.url}/prompt", json={"prompt": graph, **extra})
    return str(answer.json()["prompt_id"])


# --- queueing


async def test_the_places_are_filled_in_and_the_rest_goes_out_as_it_is(comfy, progress):
    graph = workflow(
        n5={"width": "%width%", "height": "%height%"}, n7={"text": "%negative_prompt%, %negative%"}
    )
    options = {"negative": "blur", "width": 640, "height": 480}
    async with generator_for(comfy, workflow=graph, **options) as generator:
        await generator.generate(asking('"a" \\ fox\n%seed%', seed=4_294_967_295), progress)
    (sent,) = comfy.asked("/prompt")
    expected = deepcopy(WORKFLOW)
    expected["6"]["inputs"]["text"] = '"a" \\ fox\n%seed%'
    expected["3"]["inputs"]["seed"] = 4_294_967_295
    expected["5"]["inputs"] |= {"width": 640, "height": 480}
    expected["7"]["inputs"]["text"] = "blur, blur"
    assert sent["prompt"] == expected


@pytest.mark.parametrize("prompt", ["\x00 '\"<&> {{}} \n", "p" * 100_000, "🐉", "%prompt%"])
async def test_hostile_prompts_reach_the_server_whole(prompt, comfy, progress):
    async with generator_for(comfy) as generator:
        await generator.generate(asking(prompt), progress)
    (sent,) = comfy.asked("/prompt")
    assert sent["prompt"]["6"]["inputs"]["text"] == prompt


@pytest.mark.parametrize(
    ("options", "extra"),
    [
        ({}, {"preview_method": "auto"}),
        ({"preview_method": "taesd"}, {"preview_method": "taesd"}),
        ({"preview_method": None}, {}),
    ],
)
async def test_previews_are_asked_for_since_servers_make_none_by_themselves(options, extra, comfy, progress):
    async with generator_for(comfy, **options) as generator:
        await generator.generate(asking(), progress)
    assert comfy.asked("/prompt")[0]["extra_data"] == extra


async def test_a_size_that_is_not_given_is_1024_and_a_negative_prompt_is_empty(comfy, progress):
    graph = workflow(n5={"width": "%width%", "height": "%height%"}, n7={"text": "%negative%"})
    async with generator_for(comfy, workflow=graph) as generator:
        await generator.generate(asking(), progress)
    (sent,) = comfy.asked("/prompt")
    assert sent["prompt"]["5"]["inputs"] == {"width": 1024, "height": 1024, "batch_size": 1}
    assert sent["prompt"]["7"]["inputs"]["text"] == ""


async def test_the_image_is_that_of_the_prompt_and_the_seed(comfy, progress):
    async with generator_for(comfy) as generator:
        assert await generator.generate(asking("a fox", 7), progress) == painted("a fox", 7)
        assert await generator.generate(asking("a fox", 8), progress) == painted("a fox", 8)


async def test_every_attempt_is_a_job_and_a_graph_of_its_own(comfy, progress):
    # The server keeps the results of equal graphs and puts out nothing for them.
    async with generator_for(comfy) as generator:
        assert await generator.generate(asking(seed=4_294_967_295), progress)
        assert await generator.generate(asking(seed=4_294_967_295, attempt=2), progress)
    first, second = comfy.asked("/prompt")
    assert first["prompt"]["3"]["inputs"]["seed"] == 4_294_967_295
    assert second["prompt"]["3"]["inputs"]["seed"] in range(4_294_967_295)
    assert first["prompt_id"] != second["prompt_id"]
    assert first["client_id"] != second["client_id"]


async def test_every_regeneration_is_a_graph_of_its_own(comfy, tmp_path):
    store = MemoryMessageStore({"m": '<!--img-prompt="a fox"-->'})
    images = FolderImageStore(tmp_path)
    async with (
        generator_for(comfy) as generator,
        Limner(generator, store=store, images=images, journal=MemoryJournal(), debounce_ms=1) as limner,
    ):
        await limner.seal("m")
        (placed,) = (await limner.finished("m")).placed
        for _ in range(2):
            await limner.regenerate("m", placed.image_url)
            (placed,) = (await limner.finished("m")).placed
    seeds = {sent["prompt"]["3"]["inputs"]["seed"] for sent in comfy.asked("/prompt")}
    assert len(seeds) == len(comfy.asked("/prompt")) == len(comfy.files) == 3


@pytest.mark.parametrize("has_websockets", [True, False])
@pytest.mark.parametrize("is_new", [True, False])
async def test_an_equal_graph_that_is_answered_from_memory_without_its_image_is_painted_by_the_next_attempt(
    is_new, has_websockets, comfy, progress
):
    # A process that is killed before its job's id is written down leaves the next one to send an equal graph.
    comfy.is_new, comfy.has_websockets = is_new, has_websockets
    async with generator_for(comfy, poll_interval_ms=1) as generator:
        assert await generator.generate(asking(), progress)
        with pytest.raises(JobLost, match="painted this before") as caught:
            await generator.generate(asking(), progress)
        assert is_retryable(caught.value.kind)
        seeds = [await seed_painted(comfy, generator, asking(attempt=2)) for _ in range(3)]
    # However often that happens: no further attempt has a seed that an earlier one has used up.
    assert len({7, *seeds}) == 4


@pytest.mark.parametrize("has_websockets", [True, False])
async def test_an_equal_graph_that_is_answered_with_its_image_is_not_painted_again(
    has_websockets, comfy, progress
):
    comfy.gives_again, comfy.has_websockets = True, has_websockets
    async with generator_for(comfy, poll_interval_ms=1) as generator:
        for _ in range(2):
            assert await generator.generate(asking(), progress) == painted()
    assert len(comfy.asked("/prompt")) == 2
    assert len(comfy.files) == 1


async def test_an_image_from_memory_whose_file_was_cleared_away_is_painted_by_the_next_attempt(
    comfy, progress
):
    comfy.gives_again = True
    async with generator_for(comfy) as generator:
        assert await generator.generate(asking(), progress) == painted()
        comfy.files.clear()
        with pytest.raises(JobLost, match=r"the file 'limner_00000_\.png' is gone"):
            await generator.generate(asking(), progress)
        assert await generator.generate(asking(attempt=2), progress)


async def test_a_node_that_does_not_count_may_be_answered_from_memory(comfy, progress):
    comfy.saved = []
    both = workflow(n10={"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}})
    async with generator_for(comfy, workflow=both, output_node="8") as generator:
        for _ in range(2):
            with pytest.raises(NoImage, match="node 8 has put out no image"):
                await generator.generate(asking(), progress)


async def test_the_job_is_told_by_the_id_that_the_client_chose(comfy, progress):
    async with generator_for(comfy) as generator:
        await generator.generate(asking(), progress)
    assert progress.job_ids == [comfy.asked("/prompt")[0]["prompt_id"]] == list(comfy.history)


async def test_an_older_server_has_an_id_of_its_own(comfy, progress):
    comfy.is_new = False
    async with generator_for(comfy) as generator:
        assert await generator.generate(asking(), progress) == painted()
    assert progress.job_ids == list(comfy.history)
    assert progress.job_ids != [comfy.asked("/prompt")[0]["prompt_id"]]
    assert progress.fractions[-1] == pytest.approx(1)


async def test_a_workflow_that_the_server_refuses_is_a_bad_request_with_its_words(comfy, progress):
    graph = workflow(n5={"width": "wide"}, n10={"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}})
    async with generator_for(comfy, workflow=graph) as generator:
        with pytest.raises(
            BadRequest, match=r"node 5 \(EmptyLatentImage\): Failed to convert an input value"
        ):
            await generator.generate(asking(), progress)
    async with generator_for(comfy, workflow=workflow(n10={"class_type": "Rare", "inputs": {}})) as generator:
        with pytest.raises(BadRequest, match=r"Node 'Rare' not found\. .* Node ID '#10'"):
            await generator.generate(asking(), progress)
    assert progress.job_ids == []
    assert comfy.asked("/queue") == []


@pytest.mark.parametrize("answer", [{}, {"prompt_id": 7}, [], {"prompt_id": ""}])
async def test_an_answer_without_an_id_is_an_error_of_the_backend(answer, comfy, progress):
    comfy.answers["/prompt"] = JSONResponse(answer)
    async with generator_for(comfy) as generator:
        with pytest.raises(BackendError, match="answered without a prompt_id"):
            await generator.generate(asking(), progress)


# --- progress


async def test_progress_and_previews_come_by_the_websocket(comfy, progress, png):
    comfy.previews = [png, b"second", b"third"]
    async with generator_for(comfy) as generator:
        await generator.generate(asking(), progress)
    assert progress.previews == [png, b"second", b"third"]
    assert len(progress.fractions) > 4
    assert progress.fractions == sorted(set(progress.fractions))
    assert progress.fractions[-1] == pytest.approx(1)
    # Everything was told; the history was looked at once, when it had something to say.
    assert len(comfy.asked("/history")) == 1


async def test_previews_of_an_older_server_have_no_name_and_come_all_the_same(comfy, progress):
    comfy.is_new = False
    comfy.previews = [b"first", b"second"]
    async with generator_for(comfy) as generator:
        await generator.generate(asking(), progress)
    assert progress.previews == [b"first", b"second"]


async def test_two_generators_at_once_do_not_mix_up_what_is_theirs(comfy):
    def previews_of(graph: dict[str, Any]) -> bytes:
        comfy.previews = [b"preview of " + graph["6"]["inputs"]["text"].encode()]
        return picture_of(graph)

    comfy.hold_at = "queue"
    comfy.previews = [b"unfinished"]
    images: dict[str, bytes] = {}
    reports = {name: ProgressRecorder() for name in ("a fox", "a hen", "a cat")}

    async def paint(name: str) -> None:
        async with generator_for(comfy) as generator:
            images[name] = await generator.generate(asking(name), reports[name])

    async with anyio.create_task_group() as group:
        for name in reports:
            group.start_soon(paint, name)
        await comfy.until(lambda: len(comfy.asked("/prompt")) == 3)
        await queue_of_somebody_else(comfy)
        comfy.release()
    assert images == {name: painted(name) for name in reports}
    assert [report.previews for report in reports.values()] == [[b"unfinished"]] * 3
    ids = [report.job_ids[0] for report in reports.values()]
    assert len(set(ids)) == 3
    for report in reports.values():
        assert report.fractions == sorted(set(report.fractions))


@pytest.mark.parametrize("is_new", [True, False])
async def test_the_work_of_others_that_everybody_hears_of_is_not_reported(is_new, comfy, progress):
    comfy.is_new = is_new
    comfy.previews = [b"theirs"]
    comfy.hold_at = "sampling"
    await queue_of_somebody_else(comfy)
    await happened(comfy.reached)
    async with generator_for(comfy) as generator, anyio.create_task_group() as group:
        group.start_soon(generator.generate, asking(), progress)
        await comfy.until(lambda: len(comfy.queue) == 1)
        comfy.previews = [b"ours"]
        comfy.release()
    assert progress.previews == [b"ours"]


async def test_what_is_told_before_the_id_is_known_is_not_lost(comfy, progress):
    # An older server may have painted the image before its answer, which has the id, is read.
    comfy.is_new = False
    comfy.hold_at = "answer"
    comfy.previews = [b"first", b"second"]
    images: list[bytes] = []
    async with generator_for(comfy) as generator, anyio.create_task_group() as group:

        async def paint() -> None:
            images.append(await generator.generate(asking(), progress))

        group.start_soon(paint)
        await comfy.until(lambda: bool(comfy.history))
        await settled()
        comfy.release()
    assert images == [painted()]
    assert progress.previews == [b"first", b"second"]
    assert progress.fractions[-1] == pytest.approx(1)


# --- without a websocket


async def test_without_a_websocket_the_job_is_polled(comfy, progress):
    comfy.has_websockets = False
    comfy.previews = [b"nobody sees it"]
    async with generator_for(comfy, poll_interval_ms=0) as generator:
        assert await generator.generate(asking(), progress) == painted()
    assert (progress.fractions, progress.previews) == ([], [])
    assert progress.job_ids == list(comfy.history)


async def test_a_websocket_that_breaks_in_the_middle_costs_the_reports_and_not_the_image(comfy, progress):
    comfy.hang_up_after = 12
    comfy.previews = [b"seen", b"seen", b"unseen", b"unseen"]
    async with generator_for(comfy, poll_interval_ms=0) as generator:
        assert await generator.generate(asking(), progress) == painted()
    assert 0 < len(progress.fractions) < 8
    assert b"unseen" not in progress.previews


async def test_once_the_websocket_is_gone_the_server_is_asked_at_every_interval(comfy, progress, monkeypatch):
    monkeypatch.setattr("limner.adapters.comfyui._RARELY", 10**9)
    comfy.hang_up_after = 6
    comfy.hold_at = "sampling"
    async with generator_for(comfy, poll_interval_ms=1) as generator, anyio.create_task_group() as group:
        group.start_soon(generator.generate, asking(), progress)
        await happened(comfy.reached)
        await comfy.until(lambda: len(comfy.asked("/history")) > 2)
        comfy.release()


async def test_a_websocket_that_says_nothing_of_the_end_is_made_up_for_by_a_look(comfy, progress):
    comfy.hold_at = "sampling"
    async with generator_for(comfy, poll_interval_ms=1) as generator, anyio.create_task_group() as group:
        group.start_soon(generator.generate, asking(), progress)
        await happened(comfy.reached)
        # The server still holds the connection, but has lost it from its list, as it does in a reconnection.
        comfy._sockets.clear()
        comfy.release()
    assert len(comfy.asked("/history")) > 0


async def test_a_message_too_large_for_a_preview_ends_the_websocket_only(comfy, progress, monkeypatch):
    monkeypatch.setattr("limner.adapters.comfyui._MAX_MESSAGE_BYTES", 10_000)
    comfy.previews = [b"x" * 20_000]
    async with generator_for(comfy, poll_interval_ms=0) as generator:
        assert await generator.generate(asking(), progress) == painted()
    assert progress.previews == []


# --- the end


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("late_looks", [1, 4])
async def test_a_history_that_is_empty_for_a_moment_is_waited_for(is_new, late_looks, comfy, progress):
    comfy.is_new = is_new
    comfy.late_history = late_looks
    async with generator_for(comfy, poll_interval_ms=1) as generator:
        assert await generator.generate(asking(), progress) == painted()
    assert len(comfy.asked("/history")) > late_looks


async def test_a_history_that_somebody_has_cleared_is_made_up_for_by_what_was_told(comfy, progress):
    comfy.hold_at = "history"
    async with generator_for(comfy, poll_interval_ms=1) as generator, anyio.create_task_group() as group:
        images: list[bytes] = []

        async def paint() -> None:
            images.append(await generator.generate(asking(), progress))

        group.start_soon(paint)
        await happened(comfy.reached)
        comfy.forget()
        comfy.release()
    assert images == [painted()]


async def test_of_several_images_the_first_saved_one_is_taken(comfy, progress):
    saved = [
        {"filename": "draft.png", "subfolder": "", "type": "temp"},
        {"filename": "clip.mp4", "subfolder": "", "type": "output"},
        {"filename": "one two&.png", "subfolder": "a/b", "type": "output"},
        {"filename": "other.png", "subfolder": "", "type": "output"},
    ]
    comfy.saved = saved
    comfy.files = {
        (file["filename"], file["subfolder"], file["type"]): file["filename"].encode() for file in saved
    }
    async with generator_for(comfy) as generator:
        assert await generator.generate(asking(), progress) == b"one two&.png"


async def test_a_preview_node_counts_where_there_is_nothing_better(comfy, progress):
    preview = {"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}}
    both = workflow(n1=preview)
    async with generator_for(comfy, workflow=both) as generator:
        await generator.generate(asking(), progress)
    assert comfy.asked("/view")[-1]["type"] == "output"
    only = {id_: node for id_, node in both.items() if id_ != "9"}
    async with generator_for(comfy, workflow=only) as generator:
        await generator.generate(asking(), progress)
    assert comfy.asked("/view")[-1]["type"] == "temp"


async def test_the_host_says_which_nodes_image_counts(comfy, progress):
    both = workflow(n10={"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}})
    async with generator_for(comfy, workflow=both, output_node=10) as generator:
        await generator.generate(asking(), progress)
    assert comfy.asked("/view")[-1]["type"] == "temp"
    async with generator_for(comfy, workflow=both, output_node="8") as generator:
        with pytest.raises(NoImage, match="node 8 has put out no image"):
            await generator.generate(asking(seed=8), progress)


@pytest.mark.parametrize("is_new", [True, False])
async def test_an_image_that_is_sent_over_the_websocket_is_taken_from_there(is_new, comfy, progress):
    comfy.is_new = is_new
    comfy.previews = [b"a preview"]
    graph = workflow(n9={"class_type": "SaveImageWebsocket", "inputs": {"images": ["8", 0]}})
    async with generator_for(comfy, workflow=graph) as generator:
        assert await generator.generate(asking(), progress) == painted()
    assert progress.previews == [b"a preview"]
    assert comfy.asked("/view") == []


async def test_an_image_that_was_sent_over_a_websocket_that_broke_is_lost_and_not_missing(comfy, progress):
    # Another attempt can mend it; a workflow without an image cannot be mended so.
    comfy.has_websockets = False
    graph = workflow(n9={"class_type": "SaveImageWebsocket", "inputs": {"images": ["8", 0]}})
    async with generator_for(comfy, workflow=graph, poll_interval_ms=0) as generator:
        with pytest.raises(JobLost, match="sent over a websocket that was not there"):
            await generator.generate(asking(), progress)


async def test_a_node_that_saves_a_file_goes_before_one_that_sends_its_image(comfy, progress):
    sender = {"class_type": "SaveImageWebsocket", "inputs": {"images": ["8", 0]}}
    comfy.paint = lambda _: b"by websocket"
    comfy.saved = [{"filename": "a.png", "subfolder": "", "type": "output"}]
    comfy.files = {("a.png", "", "output"): b"by file"}
    for node, image in ((None, b"by file"), ("9", b"by file"), ("10", b"by websocket")):
        async with generator_for(comfy, workflow=workflow(n10=sender), output_node=node) as generator:
            request = asking(seed=len(comfy.history))
            assert await generator.generate(request, progress) == image


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        ([], "the workflow has put out no image"),
        ([{"filename": "clip.mp4", "subfolder": "", "type": "output"}], "only 'clip.mp4', which is no image"),
        ([{"filename": "a.png", "subfolder": "", "type": "input"}], "only 'a.png', which is no image"),
    ],
)
async def test_a_success_without_an_image_is_no_image(saved, words, comfy, progress):
    comfy.saved = saved
    async with generator_for(comfy) as generator:
        with pytest.raises(NoImage, match=words):
            await generator.generate(asking(), progress)


async def test_a_file_that_is_gone_is_no_image(comfy, progress):
    comfy.saved = [{"filename": "gone.png", "subfolder": "", "type": "output"}]
    async with generator_for(comfy) as generator:
        with pytest.raises(NoImage, match=r"answered 404: the file 'gone\.png' is gone"):
            await generator.generate(asking(), progress)


async def test_what_is_no_image_inside_passes_through_to_the_inspection(comfy, progress):
    comfy.answers["/view"] = Response("<html>Sign in</html>", media_type="text/html")
    async with generator_for(comfy) as generator:
        data = await generator.generate(asking(), progress)
    with pytest.raises(NotAnImage, match="it is an HTML page"):
        await PillowInspector().inspect(data)
    comfy.answers["/view"] = Response(painted()[:40], media_type="image/png")
    async with generator_for(comfy) as generator:
        data = await generator.generate(asking(seed=8), progress)
    with pytest.raises(NotAnImage, match="a PNG file that is damaged or cut short"):
        await PillowInspector().inspect(data)


@pytest.mark.parametrize("has_websockets", [True, False])
@pytest.mark.parametrize(
    ("words", "kind"),
    [("CUDA out of memory", BackendError), ("Payment Required: Please add credits", NoBalance)],
)
async def test_a_node_that_fails_is_an_error_with_its_words(has_websockets, words, kind, comfy, progress):
    comfy.has_websockets = has_websockets
    comfy.failure = {"exception_type": "RuntimeError", "exception_message": f"{words}\n"}
    async with generator_for(comfy, poll_interval_ms=0) as generator:
        with pytest.raises(BackendError, match=rf"node 3 \(KSampler\): RuntimeError: {words}") as caught:
            await generator.generate(asking(), progress)
    assert type(caught.value) is kind
    # The job is over: there is nothing to take out of the queue or to stop.
    assert comfy.interrupted == []


async def test_a_job_that_somebody_interrupts_is_an_error_of_the_backend(comfy, progress):
    comfy.hold_at = "sampling"
    async with generator_for(comfy) as generator, anyio.create_task_group() as group:

        async def paint() -> None:
            with pytest.raises(BackendError, match="the job was interrupted in node 3") as caught:
                await generator.generate(asking(), progress)
            assert type(caught.value) is BackendError

        group.start_soon(paint)
        await happened(comfy.reached)
        async with httpx.AsyncClient(verify=False) as client:
            await client.post(f"{comfy.url}/interrupt")


@pytest.mark.parametrize("has_websockets", [True, False])
async def test_a_job_that_somebody_takes_out_of_the_queue_is_lost(has_websockets, comfy, progress):
    comfy.has_websockets = has_websockets
    comfy.hold_at = "queue"
    async with generator_for(comfy, poll_interval_ms=1) as generator, anyio.create_task_group() as group:

        async def paint() -> None:
            with pytest.raises(JobLost, match="neither in its queue nor in its history"):
                await generator.generate(asking(), progress)

        group.start_soon(paint)
        await happened(comfy.reached)
        comfy.queue.clear()


# --- a server in trouble


async def test_a_server_that_stumbles_while_it_is_asked_is_asked_again(comfy, progress):
    comfy.has_websockets = False
    comfy.answers["/history"] = JSONResponse({}, 503)
    images: list[bytes] = []
    async with generator_for(comfy, poll_interval_ms=1) as generator, anyio.create_task_group() as group:

        async def paint() -> None:
            images.append(await generator.generate(asking(), progress))

        group.start_soon(paint)
        await comfy.until(lambda: len(comfy.asked("/history")) == 2)
        del comfy.answers["/history"]
    assert images == [painted()]


async def test_a_server_that_stays_in_trouble_is_given_up_and_the_job_withdrawn(comfy, progress):
    comfy.has_websockets = False
    comfy.hold_at = "sampling"
    comfy.answers["/history"] = JSONResponse({}, 503)
    async with generator_for(comfy, poll_interval_ms=0) as generator:
        with pytest.raises(Unavailable, match="answered 503"):
            await generator.generate(asking(), progress)
    assert len(comfy.asked("/history")) == 5
    assert comfy.interrupted == progress.job_ids


async def test_a_server_that_will_not_be_asked_is_given_up_at_once(comfy, progress):
    comfy.has_websockets = False
    comfy.answers["/history"] = JSONResponse({"error": "who are you?"}, 401)
    async with generator_for(comfy, poll_interval_ms=0) as generator:
        with pytest.raises(AuthFailed, match=r"who are you\?"):
            await generator.generate(asking(), progress)
    assert len(comfy.asked("/history")) == 1


# --- cancelling


async def at_work(comfy: ComfyServer, progress: ProgressRecorder) -> None:
    """Wait until the server has begun our job and we know its id."""
    await happened(comfy.reached)
    while not progress.job_ids:
        await anyio.lowlevel.checkpoint()


async def cancelled_when(
    comfy: ComfyServer,
    generator: ComfyUIGenerator,
    progress: ProgressRecorder,
    reached: Any,
    *,
    keeps_job: bool = False,
    **request: Any,
) -> None:
    asked = replace(asking(**request), keeps_job=lambda: keeps_job)
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(generator.generate, asked, progress)
            await reached()
            group.cancel_scope.cancel()


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("has_websockets", [True, False])
async def test_cancelling_a_job_at_work_interrupts_it(is_new, has_websockets, comfy, progress):
    comfy.is_new, comfy.has_websockets = is_new, has_websockets
    comfy.hold_at = "sampling"
    async with generator_for(comfy) as generator:
        await cancelled_when(comfy, generator, progress, lambda: at_work(comfy, progress))
    assert comfy.interrupted == progress.job_ids
    assert comfy.asked("/interrupt") == [{"prompt_id": progress.job_ids[0]}]


@pytest.mark.parametrize("is_new", [True, False])
async def test_cancelling_a_job_that_waits_takes_it_out_of_the_queue(is_new, comfy, progress):
    comfy.is_new = is_new
    comfy.hold_at = "sampling"
    theirs = await queue_of_somebody_else(comfy)
    await happened(comfy.reached)

    async def known() -> None:
        await comfy.until(lambda: len(comfy.queue) == 1)
        await at_work(comfy, progress)

    async with generator_for(comfy) as generator:
        await cancelled_when(comfy, generator, progress, known)
    assert comfy.queue == []
    assert {"delete": progress.job_ids} in comfy.asked("/queue")
    # An older server would have stopped the other one's job.
    assert comfy.asked("/interrupt") == []
    assert comfy.running is not None
    assert comfy.running.id == theirs


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("has_websockets", [True, False])
async def test_a_job_at_work_that_the_next_process_will_ask_for_goes_on(
    is_new, has_websockets, comfy, progress
):
    comfy.is_new, comfy.has_websockets = is_new, has_websockets
    comfy.hold_at = "sampling"
    async with generator_for(comfy) as generator:
        await cancelled_when(comfy, generator, progress, lambda: at_work(comfy, progress), keeps_job=True)
    assert comfy.asked("/interrupt") == []
    comfy.release()
    async with generator_for(comfy, poll_interval_ms=1) as generator:
        again = asking(job_id=progress.job_ids[0])
        assert await generator.generate(again, ProgressRecorder()) == painted()
    assert len(comfy.asked("/prompt")) == 1


@pytest.mark.parametrize("is_new", [True, False])
async def test_a_job_that_waits_and_that_the_next_process_will_ask_for_keeps_its_place(
    is_new, comfy, progress
):
    comfy.is_new = is_new
    comfy.hold_at = "sampling"
    await queue_of_somebody_else(comfy)
    await happened(comfy.reached)

    async def known() -> None:
        await comfy.until(lambda: len(comfy.queue) == 1)
        await at_work(comfy, progress)

    async with generator_for(comfy) as generator:
        await cancelled_when(comfy, generator, progress, known, keeps_job=True)
    assert [job.id for job in comfy.queue] == progress.job_ids
    assert [asked for asked in comfy.asked("/queue") if asked] == []
    comfy.release()
    async with generator_for(comfy, poll_interval_ms=1) as generator:
        again = asking(job_id=progress.job_ids[0])
        assert await generator.generate(again, ProgressRecorder()) == painted()
    assert len(comfy.asked("/prompt")) == 2


async def test_a_job_that_was_picked_up_can_be_left_to_yet_another_process(comfy, progress):
    job_id = await job_left_behind(comfy, "sampling")

    async def listening() -> None:
        await comfy.until(lambda: "the process before" in comfy.greeted)

    async with generator_for(comfy) as generator:
        await cancelled_when(comfy, generator, progress, listening, keeps_job=True, job_id=job_id)
    assert comfy.asked("/interrupt") == []
    assert comfy.running is not None
    assert comfy.running.id == job_id


async def test_a_job_whose_id_did_not_come_is_withdrawn_since_nobody_could_ask_for_it(
    comfy, progress, monkeypatch
):
    monkeypatch.setattr("limner.adapters.comfyui._CANCEL_TIME_S", 0.2)
    comfy.hold_at = "answer queue"
    async with generator_for(comfy) as generator:
        await cancelled_when(comfy, generator, progress, lambda: happened(comfy.reached), keeps_job=True)
    assert progress.job_ids == []
    assert len(comfy.asked("/prompt")) == 1
    assert comfy.queue == []


async def test_cancelling_while_the_image_is_fetched_leaves_the_next_job_alone(comfy, progress):
    comfy.is_new = False
    comfy.hold_at = "view"
    async with generator_for(comfy) as generator:
        await cancelled_when(comfy, generator, progress, lambda: happened(comfy.reached))
    assert comfy.asked("/interrupt") == []
    assert len(comfy.asked("/queue")) == 0


async def test_cancelling_before_the_job_is_queued_queues_none(progress):
    # The handshake of the websocket is never answered, so nothing has been queued yet.
    with RawServer(lambda wire: wire.wait_until_cut()) as server:
        generator = ComfyUIGenerator(server.url, WORKFLOW)
        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as group:
                group.start_soon(generator.generate, asking(), progress)
                while not server.heads:
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
        await generator.aclose()
        assert [head.split()[1].partition(b"?")[0] for head in server.heads] == [b"/ws"]
    assert progress.job_ids == []


@pytest.mark.parametrize("is_new", [True, False])
async def test_cancelling_while_the_server_takes_the_job_waits_for_its_id_and_withdraws_it(
    is_new, comfy, progress
):
    comfy.is_new = is_new
    comfy.hold_at = "queue"
    async with generator_for(comfy) as generator:

        async def sent() -> None:
            await comfy.until(lambda: bool(comfy.asked("/prompt")))

        await cancelled_when(comfy, generator, progress, sent)
    assert comfy.queue == []


async def test_a_request_that_was_on_its_way_when_the_call_is_cancelled_leaves_no_job(comfy, progress):
    comfy.hold_at = "prompt"
    async with generator_for(comfy) as generator, anyio.create_task_group() as group:
        group.start_soon(generator.generate, asking(), progress)
        await happened(comfy.reached)
        group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await settled()
            # Only now the server takes the job.
            comfy.reached.clear()
            comfy.release(hold_at="queue")
    await happened(comfy.reached)
    assert len(comfy.asked("/queue")) > 0
    assert comfy.queue == []
    assert comfy.history == {}


@pytest.mark.parametrize("held", ["prompt", "answer queue"])
async def test_cancelling_at_a_server_that_does_not_answer_is_bounded_and_leaves_no_job(
    held, comfy, progress, monkeypatch
):
    monkeypatch.setattr("limner.adapters.comfyui._CANCEL_TIME_S", 0.2)
    comfy.is_new = False
    comfy.hold_at = held
    async with generator_for(comfy) as generator:
        await cancelled_when(comfy, generator, progress, lambda: happened(comfy.reached))
    # Nobody was told the job's id. It is found by the client's.
    assert len(comfy.asked("/prompt")) == 1
    assert progress.job_ids == []
    assert comfy.queue == []


async def test_cancelling_at_a_server_that_is_in_trouble_is_quiet(comfy, progress):
    comfy.hold_at = "sampling"
    comfy.answers["/queue"] = JSONResponse({}, 500)
    async with generator_for(comfy) as generator:
        await cancelled_when(comfy, generator, progress, lambda: happened(comfy.reached))
    assert comfy.asked("/interrupt") == []


# --- picking a job up again


async def job_left_behind(comfy: ComfyServer, at: str, prompt: str = "a fox") -> str:
    """A job whose process is gone: it was queued with a client id, and nobody listens any more."""
    comfy.hold_at = at
    graph = workflow(n6={"text": prompt}, n3={"seed": 7})
    async with httpx.AsyncClient(verify=False) as client:
        body = {"prompt": graph, "client_id": "the process before"}
        answer = await client.post(f"{comfy.url}/prompt", json=body)
    if at:
        await happened(comfy.reached)
    return str(answer.json()["prompt_id"])


@pytest.mark.parametrize("is_new", [True, False])
async def test_a_job_at_work_is_picked_up_with_its_progress(is_new, comfy, progress):
    comfy.is_new = is_new
    comfy.previews = [b"1", b"2", b"3", b"4"]
    job_id = await job_left_behind(comfy, "sampling")
    images: list[bytes] = []
    async with generator_for(comfy) as generator, anyio.create_task_group() as group:

        async def resume() -> None:
            images.append(await generator.generate(asking(job_id=job_id), progress))

        group.start_soon(resume)
        await comfy.until(lambda: "the process before" in comfy.greeted)
        comfy.release()
    assert images == [painted()]
    assert len(comfy.asked("/prompt")) == 1
    assert progress.previews == [b"3", b"4"]
    assert progress.fractions == sorted(progress.fractions) != []


async def test_a_job_that_waits_is_picked_up(comfy, progress):
    job_id = await job_left_behind(comfy, "queue")
    images: list[bytes] = []
    async with generator_for(comfy) as generator, anyio.create_task_group() as group:

        async def resume() -> None:
            images.append(await generator.generate(asking(job_id=job_id), progress))

        group.start_soon(resume)
        await comfy.until(lambda: "the process before" in comfy.greeted)
        comfy.release()
    assert images == [painted()]
    assert len(comfy.asked("/prompt")) == 1


async def test_a_job_that_is_done_is_fetched(comfy, progress):
    async with generator_for(comfy) as generator:
        await generator.generate(asking(), progress)
        (job_id,) = progress.job_ids
        sockets = len(comfy.greeted)
        again = ProgressRecorder()
        assert await generator.generate(asking(job_id=job_id), again) == painted()
    assert len(comfy.asked("/prompt")) == 1
    assert len(comfy.greeted) == sockets


async def test_a_job_that_failed_meanwhile_is_that_failure(comfy, progress):
    comfy.failure = {"exception_type": "RuntimeError", "exception_message": "CUDA out of memory"}
    job_id = await job_left_behind(comfy, "")
    await comfy.until(lambda: job_id in comfy.history)
    async with generator_for(comfy) as generator:
        with pytest.raises(BackendError, match="CUDA out of memory") as caught:
            await generator.generate(asking(job_id=job_id), progress)
    assert type(caught.value) is BackendError


async def test_a_job_that_was_stopped_while_no_process_waited_for_it_is_lost(comfy, progress):
    comfy.hold_at = "sampling"
    async with generator_for(comfy) as generator:
        await cancelled_when(comfy, generator, progress, lambda: at_work(comfy, progress))
        await comfy.until(lambda: bool(comfy.history))
        with pytest.raises(JobLost, match="was interrupted"):
            await generator.generate(asking(job_id=progress.job_ids[0]), progress)


@pytest.mark.parametrize("job_id", ["3f2c8a86-0000-4000-8000-000000000000", "a b?c#d%"])
async def test_a_job_that_the_server_does_not_know_is_lost_after_some_looks(job_id, comfy, progress):
    async with generator_for(comfy, poll_interval_ms=1) as generator:
        with pytest.raises(JobLost, match="neither in its queue nor in its history"):
            await generator.generate(asking(job_id=job_id), progress)
    assert comfy.asked("/history") == [{}] * 3
    assert comfy.asked("/prompt") == []


async def test_a_job_that_moves_from_the_queue_to_the_history_between_two_looks_is_not_lost(comfy, progress):
    job_id = await job_left_behind(comfy, "")
    await comfy.until(lambda: job_id in comfy.history)
    entry = comfy.history.pop(job_id)
    images: list[bytes] = []
    async with generator_for(comfy, poll_interval_ms=1) as generator, anyio.create_task_group() as group:

        async def resume() -> None:
            images.append(await generator.generate(asking(job_id=job_id), progress))

        group.start_soon(resume)
        await comfy.until(lambda: bool(comfy.asked("/queue")))
        comfy.history[job_id] = entry
    assert images == [painted()]


async def test_cancelling_a_job_that_was_picked_up_stops_it(comfy, progress):
    job_id = await job_left_behind(comfy, "sampling")

    async def listening() -> None:
        await comfy.until(lambda: "the process before" in comfy.greeted)

    async with generator_for(comfy) as generator:
        await cancelled_when(comfy, generator, progress, listening, job_id=job_id)
    assert comfy.interrupted == [job_id]


# --- settings and keys


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"workflow": workflow(n6={"text": "a fox"})}, 'no place for the prompt .* write "%prompt%"'),
        ({"workflow": workflow(n3={"seed": 7})}, 'no place for the seed .* write "%seed%"'),
        ({"negative": "blur"}, "no place for the negative prompt"),
        ({"width": 512}, "no place for the width"),
        ({"height": 512}, "no place for the height"),
        ({"workflow": {"nodes": [], "links": []}}, r"Save \(API Format\)"),
        ({"workflow": "missing.json"}, "missing.json: no such file"),
        ({"output_node": 77}, "no node '77'"),
        ({"preview_method": "full"}, "preview_method must be one of None, 'auto', .* but is 'full'"),
        ({"width": 0}, "width must be a whole number, at least 1"),
        ({"height": -1}, "height must be a whole number, at least 1"),
        ({"poll_interval_ms": -1}, "poll_interval_ms must be a whole number, at least 0"),
        ({"request_timeout_ms": 0}, "request_timeout_ms must be a whole number, at least 1"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_painted(options, words):
    with pytest.raises(InvalidSetting, match=words):
        ComfyUIGenerator("http://127.0.0.1:8188", **{"workflow": WORKFLOW, **options})


async def test_keys_go_along_everywhere_and_are_shown_nowhere(comfy, progress, caplog):
    caplog.set_level(logging.DEBUG)
    key, other = "sesame-open", "second-secret"
    options: dict[str, Any] = {"api_key": f" {key} ", "headers": {"x-proxy-key": other}}
    async with generator_for(comfy, **options) as generator:
        await generator.generate(asking(), progress)
        assert all(sent["authorization"] == f"Bearer {key}" for sent in comfy.headers)
        assert all(sent["x-proxy-key"] == other for sent in comfy.headers)
        comfy.failure = {"exception_type": "E", "exception_message": f"bad key {key}, {other}"}
        with pytest.raises(BackendError, match=r"bad key \*\*\*, \*\*\*") as failed:
            await generator.generate(asking(seed=8), progress)
        comfy.answers["/prompt"] = JSONResponse({"error": {"message": f"bad key {key}"}}, 401)
        with pytest.raises(AuthFailed) as refused:
            await generator.generate(asking(seed=9), progress)
        del comfy.answers["/prompt"]
        comfy.failure = None
        comfy.saved = [{"filename": f"{key}.png", "subfolder": "", "type": "output"}]
        with pytest.raises(NoImage, match=r"the file '\*\*\*\.png' is gone") as gone:
            await generator.generate(asking(seed=10), progress)
        shown = f"{generator!r} {failed.value!r} {refused.value!r} {gone.value!r} {vars(generator)!r}"
    # The stand-in's own log, which names the file that was asked for, is none of ours.
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("uvicorn")]
    assert any("HTTP Request: POST" in line for line in ours)
    shown += "".join(ours)
    assert key not in shown
    assert other not in shown
    assert key not in json.dumps(comfy.asked("/prompt"))


def test_the_address_is_shown_and_the_password_is_not():
    generator = ComfyUIGenerator("http://user:hunter22@host:8188", WORKFLOW)
    assert repr(generator) == "ComfyUIGenerator('http://host:8188/')"
