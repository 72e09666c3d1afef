"""Steps around the painting: they rewrite, refuse and work over, and a fault in one costs no picture."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from limner.adapters.limner import Limner
from limner.errors import InvalidSetting, Refused, StepFailed
from limner.states.outcome import Result
from limner.workflows.ports import GenerationRequest, ProgressCallback
from limner.workflows.progress_events import PromptProgress
from limner.workflows.steps import CommonTags, Steps
from tests.studio import FakeInspector, Studio, tag
from tests.support import FakePainter, png, settle

pytestmark = pytest.mark.anyio

CAT = tag("a cat")
REQUEST = GenerationRequest("p", "m", "a cat", 7)


def why(result: Result) -> list[tuple[str, str]]:
    """Why prompts have no image: the kinds and the words."""
    return [(failed.problem.kind, failed.problem.message) for failed in result.failed]


# --- before


async def test_a_step_may_rewrite_the_prompt_and_the_text_keeps_its_own():
    async def translate(request: GenerationRequest) -> str:
        return request.prompt.upper()

    async with Studio(before_generation=translate) as studio:
        result = await studio.illustrate("m", CAT)
        assert studio.painter.prompts == ["A CAT"]
        assert list(result.prompts.values()) == ["a cat"]
        assert 'alt="a cat"' in await studio.text("m")


async def test_steps_come_one_after_the_other_and_none_leaves_the_prompt_as_it_is():
    async def add(request: GenerationRequest) -> str:
        return f"{request.prompt}!"

    async def look(request: GenerationRequest) -> None:
        assert request.prompt == "a cat!"

    async with Studio(before_generation=[add, look, add]) as studio:
        await studio.illustrate("m", CAT)
        assert studio.painter.prompts == ["a cat!!"]


async def test_a_step_may_refuse_a_prompt_with_its_reason_and_the_others_are_painted():
    async def no_dogs(request: GenerationRequest) -> None:
        if "dog" in request.prompt:
            raise Refused("no dogs in this house")

    async with Studio(before_generation=no_dogs) as studio:
        result = await studio.illustrate("m", CAT + tag("a dog"))
        assert why(result) == [("refused", "no dogs in this house")]
        assert studio.painter.prompts == ["a cat"]
        assert len(result.placed) == 1


@pytest.mark.parametrize("answer", ["", "  ", 7, b"a cat"])
async def test_a_step_that_returns_no_prompt_has_failed_and_is_named(answer: Any):
    async def odd(request: GenerationRequest) -> Any:
        return answer

    async with Studio(before_generation=odd, max_attempts=1) as studio:
        [(kind, words)] = why(await studio.illustrate("m", CAT))
        assert kind == "step_failed"
        assert "odd returned" in words
        assert studio.painter.requests == []


async def test_a_step_that_raises_is_asked_again_like_any_passing_failure():
    calls: list[int] = []

    async def shaky(request: GenerationRequest) -> None:
        calls.append(request.attempt)
        if len(calls) == 1:
            raise ConnectionResetError("the moderation service hung up")

    async with Studio(before_generation=shaky) as studio:
        async for _ in studio.limner.illustrate("m", [CAT]):
            pass
        await studio.tick(2_000)
        assert len((await studio.limner.finished("m")).placed) == 1
        assert calls == [1, 2]
        assert len(studio.painter.requests) == 1


async def test_a_plain_function_is_told_from_a_coroutine_function_by_one_line():
    def plain(request: GenerationRequest) -> str:
        return "a cat"

    with pytest.raises(StepFailed, match="plain"):
        await Steps([plain]).before(REQUEST)  # type: ignore[list-item]


# --- the same words for all


@pytest.mark.parametrize(
    ("tags", "position", "prompt"),
    [
        ("oil painting", "prefix", "oil painting, a cat"),
        ("oil painting", "suffix", "a cat, oil painting"),
        (" oil painting, ", "prefix", "oil painting, a cat"),
        ("", "prefix", None),
        (" , ", "suffix", None),
    ],
)
async def test_common_tags_stand_before_or_behind_the_prompt(tags: str, position: Any, prompt: str | None):
    assert await CommonTags(tags, position)(REQUEST) == prompt


async def test_common_tags_are_added_after_the_hosts_steps():
    async def translate(request: GenerationRequest) -> str:
        return request.prompt.upper()

    async with Studio(before_generation=translate, common_tags="ink", tags_position="suffix") as studio:
        await studio.illustrate("m", CAT)
        assert studio.painter.prompts == ["A CAT, ink"]


# --- after


async def test_a_step_may_work_over_the_image():
    async def watermark(request: GenerationRequest, image: bytes) -> bytes:
        return image + request.prompt.encode()

    async with Studio(after_generation=watermark) as studio:
        await studio.illustrate("m", CAT)
        [stored] = studio.images.images.values()
        assert stored.endswith(b"a cat")


async def test_what_a_step_makes_of_an_image_has_to_be_one():
    async def spoil(request: GenerationRequest, image: bytes) -> bytes:
        return b"<html>"

    async with Studio(after_generation=spoil) as studio:
        assert [kind for kind, _ in why(await studio.illustrate("m", CAT))] == ["not_an_image"]
        assert studio.images.images == {}


async def test_a_step_may_refuse_an_image_and_nobody_sees_anything_of_it():
    async def moderate(request: GenerationRequest, image: bytes) -> None:
        raise Refused("not in a chat for children")

    class Previewing(FakePainter):
        async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
            report(0.5, png(1))
            await settle()
            return png(2)

    async with Studio(painter=Previewing(), after_generation=moderate) as studio:
        async for _ in studio.limner.illustrate("m", [CAT]):
            pass
        seen = [event async for event in studio.limner.events("m")]
        result = await studio.limner.finished("m")
        assert why(result) == [("refused", "not in a chat for children")]
        assert studio.images.images == {}
        shown = {event.thumbnail for event in seen if isinstance(event, PromptProgress)}
        assert shown == {None}


async def test_previews_are_kept_back_while_a_step_may_still_refuse_and_the_fraction_is_not():
    async def look(request: GenerationRequest, image: bytes) -> None:
        return None

    class Previewing(FakePainter):
        async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
            report(0.5, png(1))
            await anyio.sleep_forever()
            return b""

    async with Studio(painter=Previewing(), after_generation=look) as studio:
        async for _ in studio.limner.illustrate("m", [CAT]):
            pass
        await settle()
        progress = studio.limner.manager.progress._tracks["m"].prompts
        assert [(p.fraction, p.thumbnail) for p in progress.values()] == [(0.5, None)]


async def test_a_step_that_goes_wrong_costs_no_second_picture():
    calls: list[bytes] = []

    async def upscale(request: GenerationRequest, image: bytes) -> bytes:
        calls.append(image)
        if len(calls) == 1:
            raise TimeoutError("the upscaler is busy")
        return image + b"big"

    async with Studio(after_generation=upscale) as studio:
        async for _ in studio.limner.illustrate("m", [CAT]):
            pass
        await studio.tick(2_000)
        assert len((await studio.limner.finished("m")).placed) == 1
        assert len(studio.painter.requests) == 1
        assert calls[0] == calls[1]


async def test_an_image_that_could_not_be_stored_is_not_worked_over_twice():
    async def watermark(request: GenerationRequest, image: bytes) -> bytes:
        return image + b"mark"

    async with Studio(after_generation=watermark) as studio:
        studio.images.failures[1] = OSError("disk full")
        async for _ in studio.limner.illustrate("m", [CAT]):
            pass
        await studio.tick(2_000)
        await studio.limner.finished("m")
        [stored] = studio.images.images.values()
        assert stored.count(b"mark") == 1


async def test_a_step_that_returns_no_bytes_has_failed():
    async def odd(request: GenerationRequest, image: bytes) -> Any:
        return "picture"

    found = await FakeInspector().inspect(png(1))
    with pytest.raises(StepFailed, match="returned str instead of an image's bytes"):
        await Steps([], [odd]).after(REQUEST, found, FakeInspector())


async def test_a_cancellation_passes_through_a_step():
    async def hang(request: GenerationRequest) -> None:
        await anyio.sleep_forever()

    async with Studio(before_generation=hang) as studio:
        async for _ in studio.limner.illustrate("m", [CAT]):
            pass
        await settle()
        result = await studio.limner.cancel("m")
        assert len(result.cancelled) == 1


# --- what cannot be meant


@pytest.mark.parametrize(
    "setting",
    [
        {"common_tags": 7},
        {"tags_position": "middle"},
        {"before_generation": ["translate"]},
        {"after_generation": [None]},
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_meant_is_refused(setting: dict[str, Any]):
    with pytest.raises(InvalidSetting, match=next(iter(setting))):
        Limner(FakePainter(), **setting)
