"""What a prompt asks for itself: understood where the host allows it, and only there."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from limner.adapters.limner import Limner
from limner.errors import InvalidSetting, Refused
from limner.testing import make_request
from limner.workflows.overrides import Override, PromptOverrides
from limner.workflows.ports import GenerationRequest, PromptSettings
from tests.studio import Studio, tag

ALL: tuple[Override, ...] = ("negative", "seed", "width", "height", "steps")


def asked(prompt: str, allowed: Collection[Override] = ALL) -> tuple[str, PromptSettings]:
    request = PromptOverrides(allowed).apply(make_request(prompt))
    return request.prompt, request.settings


@pytest.mark.parametrize(
    ("prompt", "plain", "settings"),
    [
        ("a fox", "a fox", PromptSettings()),
        ("a fox --width 768 --height=512", "a fox", PromptSettings(width=768, height=512)),
        ("a fox, oil —steps 20", "a fox, oil", PromptSettings(steps=20)),
        ("a fox --negative blurry, text", "a fox", PromptSettings(negative_prompt="blurry, text")),
        ("a fox --negative 'cats' --steps 4", "a fox", PromptSettings(negative_prompt="cats", steps=4)),
        ("a fox --negative", "a fox", PromptSettings(negative_prompt="")),
        ("a fox\n--width 64\n--height 4096", "a fox", PromptSettings(width=64, height=4096)),
    ],
)
def test_what_stands_behind_the_prompt_are_settings(prompt: str, plain: str, settings: PromptSettings):
    assert asked(prompt) == (plain, settings)


@pytest.mark.parametrize(
    "prompt", ["a --widthless fox", "pre--width 7", "a -- fox", "--unknown 7 fox", "--width7"]
)
def test_other_dashes_are_the_prompts_own(prompt: str):
    assert asked(prompt) == (prompt, PromptSettings())


def test_where_nothing_is_allowed_all_is_left_in_the_text():
    prompt = "a fox --width 4000 --steps 20"
    assert asked(prompt, ()) == (prompt, PromptSettings())


@pytest.mark.parametrize(
    "settings",
    [
        "--width 128 --height 96",
        "--height 96 --width 128",
        "--height=tall --width=128",
        "--width 128 --stepz 20",
        "--stepz 20 --width 128",
        "--ar=16:9 --tiled --v 6 --width 128",
        "--Width 128 --HEIGHT 96",
        "--height 96",
    ],
)
def test_what_is_not_allowed_or_unknown_is_taken_out_and_ignored_in_any_order(settings: str):
    only: tuple[Override] = ("width",)
    width = 128 if "128" in settings else None
    assert asked(f"a fox {settings}", only) == ("a fox", PromptSettings(width=width))


def test_a_setting_ends_where_one_with_a_typing_error_begins():
    assert asked("a fox --negative blurry --stepz 20") == ("a fox", PromptSettings(negative_prompt="blurry"))


def test_dashes_in_the_prompt_itself_end_it_only_right_before_its_settings():
    assert asked("a man --tired and old --width 128") == (
        "a man --tired and old",
        PromptSettings(width=128),
    )


def test_what_is_ignored_is_told_in_the_log():
    with capture_logs() as logs:
        asked("a fox --width 128 --height 96 --stepz 20", ["width"])
    assert [(line["event"], line["ignored"]) for line in logs] == [
        ("prompt_settings_ignored", "--height, --stepz")
    ]


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("a fox --width wide", "--width must be a whole number from 64 to 4096, not 'wide'"),
        ("a fox --width 100000", "--width must be a whole number from 64 to 4096, not '100000'"),
        ("a fox --steps 0", "--steps must be a whole number from 1 to 150, not '0'"),
        ("a fox --steps 4 and a dog", "--steps must be a whole number from 1 to 150, not '4 and a dog'"),
        ("a fox --seed ²", "--seed must be a whole number from 0 to 4294967295, not '²'"),
        ("a fox --steps 4 --steps 5", "the prompt says --steps twice"),
        (" --steps 4", "the prompt says nothing but settings"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_can(prompt: str, told: str):
    with pytest.raises(Refused) as caught:
        asked(prompt)
    assert str(caught.value).endswith(told)


def test_a_seed_counts_for_the_first_image_and_not_for_a_regeneration():
    overrides = PromptOverrides(ALL)
    first = make_request("a fox --seed 11", seed=7)
    assert overrides.apply(first).seed == 11
    again = overrides.apply(replace(first, is_regeneration=True))
    assert (again.prompt, again.seed) == ("a fox", 7)


@pytest.mark.parametrize("allowed", ["width", ["colour"], [7]])
def test_a_name_that_there_is_not_is_refused_at_once(allowed):
    with pytest.raises(InvalidSetting, match="prompt_overrides must be some of 'negative', 'seed'"):
        Limner(prompt_overrides=allowed)


@pytest.mark.anyio
async def test_the_generator_is_asked_with_them_and_the_text_keeps_the_prompt_as_it_was():
    prompt = "a fox --width 128 --seed 5"
    async with Studio(prompt_overrides=ALL, common_tags="oil") as studio:
        result = await studio.illustrate("m", tag(prompt))
        [url] = await studio.urls("m")
        await studio.limner.regenerate("m", url)
        await studio.tick(2_000)
        await studio.limner.finished("m")
        first, second = studio.painter.requests
        assert (first.prompt, first.settings.width, first.seed) == ("oil, a fox", 128, 5)
        assert (second.prompt, second.settings.width) == ("oil, a fox", 128)
        assert second.seed != 5
        assert list(result.prompts.values()) == [prompt]
        assert tag(prompt) in await studio.text("m")


class Watermark:
    """A step after the painting that notes what it is told; it goes wrong as often as `faults` says."""

    def __init__(self, faults: int = 0) -> None:
        self.faults = faults
        self.seen: list[tuple[str, int, int | None]] = []

    async def __call__(self, request: GenerationRequest, image: bytes) -> bytes:
        self.seen.append((request.prompt, request.seed, request.settings.width))
        if len(self.seen) <= self.faults:
            raise TimeoutError("the step is busy")
        return image


ASKING = tag("a fox --width 128 --seed 5")
MEANT = ("a fox", 5, 128)


@pytest.mark.anyio
async def test_a_step_after_the_painting_sees_what_was_painted():
    step = Watermark()
    async with Studio(prompt_overrides=ALL, after_generation=step) as studio:
        await studio.illustrate("m", ASKING)
    assert step.seen == [MEANT]


@pytest.mark.anyio
async def test_a_step_that_is_asked_again_about_a_picture_sees_the_same():
    step = Watermark(faults=1)
    async with Studio(prompt_overrides=ALL, after_generation=step) as studio:
        async for _ in studio.limner.illustrate("m", [ASKING]):
            pass
        await studio.tick(2_000)
        await studio.limner.finished("m")
        assert len(studio.painter.requests) == 1
    assert step.seen == [MEANT, MEANT]


@pytest.mark.anyio
async def test_a_prompt_that_asks_for_too_much_fails_alone_and_at_once():
    async with Studio(prompt_overrides=["width"]) as studio:
        result = await studio.illustrate("m", tag("a fox --width 9999") + tag("a dog"))
        assert len(result.placed) == 1
        [failed] = result.failed
        assert (failed.problem.kind, studio.painter.prompts) == ("refused", ["a dog"])
