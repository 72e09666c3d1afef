"""The example filter in a stand-in for Open WebUI (`open_webui_host`). Who paints is a fake, but in one test.

Open WebUI runs on asyncio only, and so do these tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from limner.adapters.factory import generator_from
from limner.adapters.limner import Limner
from limner.adapters.message_memory import MemoryMessageStore
from limner.adapters.sinks.open_webui import (
    _WORKERS,
    QUIET_MS,
    OpenWebUISettings,
    OpenWebUISink,
    stop_workers,
)
from limner.errors import InvalidSetting, Moderated
from limner.text import find_images
from limner.workflows.streaming import IDLE_LIMIT_MS
from limner.workflows.telling import StatusLine
from tests.adapters.sinks.open_webui_host import OpenWebUI, chunk
from tests.studio import split
from tests.support import FakePainter, ManualClock, settle

pytestmark = pytest.mark.anyio

SOURCE = (Path(__file__).parents[3] / "examples" / "open_webui_filter.py").read_text()
LAMP, SEA = '<!--img-prompt="a lighthouse"-->', '<!--img-prompt="a calm \\"sea\\""-->'
STORY = f"The lamp.\n\n{LAMP}\n\nThe sea.\n\n{SEA}\n\nThe end."


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, Any]]:
    def quick(name: str) -> Any:
        return FakePainter() if name == "sketch" else generator_from(name)

    monkeypatch.setattr("limner.adapters.limner.generator_from", quick)
    yield {"pictures": "folder", "folder": str(tmp_path), "base_url": "https://pictures.test/"}
    await stop_workers()


def streamed(text: str) -> Iterator[dict[str, Any]]:
    """What a model sends, with what Open WebUI adds to it."""
    yield {"selected_model_id": "m"}
    yield chunk(role="assistant", content="")
    yield chunk(reasoning_content="hm")
    for piece in split(text, 7):
        yield chunk(content=piece)
    yield {"id": "c", "choices": []}
    yield {"sources": []}


async def test_a_reply_gets_each_image_in_the_place_of_its_prompt(settings):
    chat = OpenWebUI(SOURCE, **settings)
    await chat.ask("tell me", streamed(STORY))
    lamp, sea = find_images(chat.shown)
    assert chat.shown == (
        f"The lamp.\n\n![a lighthouse]({lamp.src})\n\nThe sea.\n\n![a calm sea]({sea.src})\n\nThe end."
    ).replace("calm sea", sea.alt.removeprefix("a "))
    for image in (lamp, sea):
        assert await (anyio.Path(settings["folder"]) / image.src.rsplit("/", 1)[1]).exists()


async def test_the_status_counts_and_is_hidden_when_all_is_painted(settings):
    chat = OpenWebUI(SOURCE, **settings)
    await chat.ask("tell me", streamed(STORY))
    assert chat.statuses[0]["description"].startswith("Generating 0/")
    assert chat.statuses[-1] == {"description": "Painted 2 images", "done": True, "hidden": True}
    assert not any(status["done"] for status in chat.statuses[:-1])


async def test_a_reply_without_prompts_is_left_alone(settings):
    chat = OpenWebUI(SOURCE, **settings)
    await chat.ask("tell me", streamed("No pictures."))
    assert chat.shown == "No pictures."
    assert chat.events == []


async def test_a_reply_around_a_tool_call_keeps_its_parts(settings):
    chat = OpenWebUI(SOURCE, **settings)
    await chat.ask("tell me", streamed(f"First {LAMP}"), streamed(f"{LAMP}\n\nthen"))
    first, call, second = chat.history[-1]["output"]
    assert call["type"] == "function_call"
    [one], [two] = (find_images(item["content"][0]["text"]) for item in (first, second))
    assert first["content"][0]["text"].startswith("First ![a lighthouse](")
    assert second["content"][0]["text"].endswith(")\n\nthen")
    assert one.src != two.src


async def test_a_version_without_structured_output_is_told_the_text_too(settings):
    chat = OpenWebUI(SOURCE, structured=False, **settings)
    await chat.ask("tell me", streamed(STORY))
    [replace] = [event for event in chat.events if event["type"] == "replace"]
    assert replace["data"]["content"] == chat.shown
    assert len(find_images(chat.shown)) == 2


async def test_a_reply_that_did_not_stream_is_illustrated_too(settings):
    chat = OpenWebUI(SOURCE, **settings)
    chat.history.append({"id": "m9", "role": "assistant", "content": STORY})
    await chat.outlet("m9")
    assert len(find_images(chat.shown)) == 2


async def test_the_model_sees_its_prompts_again_and_no_image(settings):
    chat = OpenWebUI(SOURCE, **settings)
    await chat.ask("tell me", streamed(STORY))
    await chat.ask("and then?", streamed("Nothing."))
    system, question, reply, _ = chat.requests[-1]
    assert system["role"] == "system"
    assert "<!--img-prompt=" in system["content"]
    assert question["content"] == "tell me"
    assert LAMP in reply["content"]
    assert find_images(reply["content"]) == []


async def test_an_empty_instruction_tells_the_model_nothing(settings):
    chat = OpenWebUI(SOURCE, instruction="", **settings)
    await chat.ask("tell me", streamed("Nothing."))
    assert [message["role"] for message in chat.requests[0]] == ["user"]


async def test_the_instruction_is_added_to_a_system_message_that_is_there(settings):
    chat = OpenWebUI(SOURCE, instruction="Paint.", **settings)
    chat.history.append({"id": "s", "role": "system", "content": "Be brief."})
    await chat.ask("tell me", streamed("Nothing."))
    assert chat.requests[0][0] == {"role": "system", "content": "Be brief.\n\nPaint."}


async def test_thumbnails_are_kept_in_the_message(settings, monkeypatch):
    monkeypatch.setattr("limner.adapters.limner.generator_from", generator_from)
    chat = OpenWebUI(SOURCE, pictures="thumbnails")
    await chat.ask("tell me", streamed(f"Look: {LAMP}"))
    [image] = find_images(chat.shown)
    assert image.src.startswith("data:image/")
    await chat.ask("and then?", streamed("Nothing."))
    assert chat.requests[-1][2]["content"] == f"Look: {LAMP}"


@pytest.mark.parametrize(
    ("valves", "problem"),
    [
        ({"generator": "nobody", "pictures": "thumbnails"}, "nobody"),
        ({"pictures": "files"}, "inside of Open WebUI only"),
        ({"pictures": "folder"}, "needs a folder"),
    ],
)
async def test_valves_that_cannot_be_meant_are_a_status_and_cost_no_reply(settings, valves, problem):
    chat = OpenWebUI(SOURCE, **valves)
    await chat.ask("tell me", streamed(STORY))
    assert chat.shown == STORY
    assert problem in chat.statuses[0]["description"]
    assert chat.statuses[0]["done"]


async def test_valves_that_change_take_effect_with_the_next_reply(settings):
    chat = OpenWebUI(SOURCE, **settings)
    await chat.ask("tell me", streamed(f"A {LAMP}"))
    chat.valves["pictures"] = "thumbnails"
    await chat.ask("again", streamed(f"A {LAMP}"))
    assert find_images(chat.shown)[0].src.startswith("data:image/")


async def test_saving_the_function_anew_keeps_what_runs(settings):
    chat = OpenWebUI(SOURCE, **settings)
    await chat.ask("tell me", streamed(f"A {LAMP}"))
    again = OpenWebUI(SOURCE, **settings)
    await again.ask("tell me", streamed(f"A {LAMP}"))
    assert len(find_images(again.shown)) == 1


async def test_a_stopped_reply_is_left_as_it_is(settings):
    chat = OpenWebUI(SOURCE, **settings)
    await chat.ask("tell me", streamed(f"A {LAMP} and"), stop=True)
    await chat.ask("go on", streamed(f"B {LAMP}"))
    assert chat.history[1]["output"][0]["content"][0]["text"] == f"A {LAMP} and"
    assert len(find_images(chat.shown)) == 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    clock = ManualClock()
    monkeypatch.setattr("limner.adapters.sinks.open_webui.Limner", partial(Limner, clock=clock))
    return clock


async def running() -> Limner:
    [worker] = _WORKERS.values()
    return await worker.background.start()


async def pass_time(clock: ManualClock, milliseconds: int) -> None:
    clock.tick(milliseconds)
    (await running()).alarm.ring()
    await settle()


async def all_settled(message_id: str = "message-0") -> None:
    """Wait until all images found are painted or failed, which takes no time of the clock's."""
    await settle()
    await (await running()).manager.progress.wait_all_complete(message_id)
    await settle()


@pytest.fixture
def painter(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> FakePainter:
    painter = FakePainter()
    monkeypatch.setattr("limner.adapters.limner.generator_from", lambda name: painter)
    return painter


ONE_OF_ONE = {"description": "Generating 1/1 image…", "done": False, "hidden": False}
HIDDEN = {**ONE_OF_ONE, "done": True, "hidden": True}


async def test_the_line_of_a_stopped_reply_is_hidden_when_no_text_has_come_for_ten_seconds(settings, clock):
    chat = OpenWebUI(SOURCE, **settings)
    await chat.ask("tell me", streamed(f"A {LAMP} and"), stop=True)
    await all_settled()
    await pass_time(clock, 1_000)  # lines keep their distance
    assert chat.statuses[-1] == ONE_OF_ONE
    await pass_time(clock, QUIET_MS - 1_001)
    assert chat.statuses[-1] == ONE_OF_ONE
    await pass_time(clock, 1)
    assert chat.statuses[-2:] == [ONE_OF_ONE, HIDDEN]
    lines = len(chat.statuses)
    await pass_time(clock, 60_000)
    assert len(chat.statuses) == lines


async def test_the_line_stands_while_text_comes(settings, clock):
    chat = OpenWebUI(SOURCE, **settings)
    await chat.ask("tell me", streamed(f"A {LAMP} and"), stop=True)
    await all_settled()
    for _ in range(5):
        await pass_time(clock, QUIET_MS - 1)
        await chat.go_on(streamed("."), stop=True)
    assert chat.statuses[-1] == ONE_OF_ONE


async def test_the_line_stands_until_the_last_image_is_painted(settings, clock, painter):
    painter.hold()
    chat = OpenWebUI(SOURCE, **settings)
    await chat.ask("tell me", streamed(f"A {LAMP} and"), stop=True)
    await settle()
    await pass_time(clock, 60_000)
    assert chat.statuses == [{**ONE_OF_ONE, "description": "Generating 0/1 image…"}]
    painter.release_all()
    await all_settled()
    assert chat.statuses[1:] == [ONE_OF_ONE]
    await pass_time(clock, 1_000)
    assert chat.statuses[1:] == [ONE_OF_ONE, HIDDEN]


async def test_the_line_on_an_image_that_failed_is_hidden_too(settings, clock, painter):
    painter.answers["a lighthouse"] = [Moderated("not this one")]
    chat = OpenWebUI(SOURCE, **settings)
    await chat.ask("tell me", streamed(f"A {LAMP} and"), stop=True)
    await all_settled()
    await pass_time(clock, 1_000)
    await pass_time(clock, QUIET_MS)
    assert chat.statuses[-1] == HIDDEN


async def test_the_line_is_back_when_the_reply_goes_on_to_its_next_image(settings, clock, painter):
    chat = OpenWebUI(SOURCE, **settings)
    await chat.ask("tell me", streamed(f"A {LAMP} and"), stop=True)
    await all_settled()
    await pass_time(clock, 1_000)
    await pass_time(clock, QUIET_MS)
    assert chat.statuses[-1] == HIDDEN
    painter.hold()
    await chat.go_on(streamed(f" B {SEA}"), stop=True)
    await pass_time(clock, 1_000)
    assert chat.statuses[-1] == {**ONE_OF_ONE, "description": "Generating 1/2 images…"}
    painter.release_all()
    await all_settled()
    await pass_time(clock, 1_000)
    await pass_time(clock, QUIET_MS)
    assert chat.statuses[-1] == {**HIDDEN, "description": "Generating 2/2 images…"}


async def test_a_line_that_is_the_last_one_is_not_hidden():
    events: list[dict[str, Any]] = []

    async def emit(event: dict[str, Any]) -> None:
        events.append(event["data"])

    sink = OpenWebUISink(emit)
    await sink.hide_status()
    await sink.show_status(StatusLine("Painted 0/1 image. No.", done=True, failed=True))
    await sink.hide_status()
    assert events == [{"description": "Painted 0/1 image. No.", "done": True, "hidden": False}]


async def test_an_emitter_that_fails_costs_the_line_only():
    async def emit(event: dict[str, Any]) -> None:
        if event["data"]["hidden"]:
            raise ConnectionError("gone")

    sink = OpenWebUISink(emit)
    await sink.show_status(StatusLine("Generating 1/1 image…"))
    await sink.hide_status()
    assert not sink.line_stands.is_set()


async def test_a_stopped_reply_is_forgotten_when_its_stream_counts_as_abandoned(settings, clock):
    chat = OpenWebUI(SOURCE, **settings)
    await chat.ask("tell me", streamed(f"A {LAMP} and"), stop=True)
    await settle()
    [worker] = _WORKERS.values()
    limner = await worker.background.start()
    assert isinstance(limner.store, MemoryMessageStore)
    assert set(worker._texts) == set(worker._sinks) == {"message-0"}
    assert len(limner.sessions()) == 1
    # A stream is looked at every ten minutes, and sealed where nothing came since the time before.
    for _ in range(2):
        assert worker._tasks
        clock.tick(IDLE_LIMIT_MS)
        limner.alarm.ring()
        await settle()
    while (
        worker._tasks
    ):  # the image's file is written in a thread, and lines of the status keep their distance
        clock.tick(1_000)
        limner.alarm.ring()
        await asyncio.wait(worker._tasks, timeout=0.01)
    assert limner.sessions() == ()
    assert (worker._texts, worker._sinks) == ({}, {})
    assert limner.store._messages == {}
    assert chat.history[1]["output"][0]["content"][0]["text"] == f"A {LAMP} and"


def parts_of(chat: OpenWebUI) -> list[str]:
    [item] = chat.history[-1]["output"]
    return [part["text"] for part in item["content"]]


async def test_a_word_that_a_stop_divided_is_one_in_the_text_that_is_kept(settings):
    chat = OpenWebUI(SOURCE, **settings)
    await chat.ask("tell me", streamed(f"A {LAMP}\n\nThen all w"), stop=True)
    await chat.go_on(streamed("as quiet."))
    [image] = find_images(chat.shown)
    assert chat.history[-1]["content"] == f"A ![a lighthouse]({image.src})\n\nThen all was quiet."
    assert parts_of(chat) == [f"A ![a lighthouse]({image.src})\n\nThen all w", "as quiet."]


async def test_a_prompt_that_a_stop_divided_is_one_and_gives_one_image(settings, painter):
    chat = OpenWebUI(SOURCE, **settings)
    await chat.ask("tell me", streamed(f"One. {LAMP[:25]}"), stop=True)
    await chat.go_on(streamed(f"{LAMP[25:]} Two."))
    [image] = find_images(chat.shown)
    assert painter.prompts == [image.alt] == ["a lighthouse"]
    assert parts_of(chat) == [f"One. ![a lighthouse]({image.src})", " Two."]


async def test_a_call_that_is_no_reply_in_a_chat_is_left_alone(settings):
    host = OpenWebUI(SOURCE, **settings)
    host.filter.valves = host.filter.Valves(**settings)
    body = {"messages": [{"role": "user", "content": "a title, please"}]}
    for metadata in (None, {}, {"chat_id": "c", "message_id": "m", "task": "title_generation"}):
        assert await host.filter.inlet(dict(body), __metadata__=metadata) == body
        event = chunk(content=STORY)
        assert await host.filter.stream(event, __metadata__=metadata) is event


def test_the_frontmatter_says_what_the_function_is():
    _, frontmatter = OpenWebUI(SOURCE).filter, OpenWebUI(SOURCE).frontmatter
    assert frontmatter["title"] == "Limner"
    assert frontmatter["license"] == "MIT"


def test_the_valves_of_the_example_are_the_settings():
    filter_object = OpenWebUI(SOURCE).filter
    given = filter_object.Valves().model_dump(exclude={"priority", "instruction"})
    assert OpenWebUISettings(**given) == OpenWebUISettings()


def test_pictures_must_be_one_of_three():
    with pytest.raises(InvalidSetting, match="'files', 'thumbnails' or 'folder'"):
        OpenWebUISettings(pictures="cloud").limner()  # type: ignore[arg-type]
