"""The offline painter."""

from __future__ import annotations

import io

import anyio
import pytest
from PIL import Image

from limner.adapters.sketch import SketchGenerator
from limner.errors import InvalidSetting
from tests.adapters.servers.local import PATIENCE_S

pytestmark = pytest.mark.anyio

PROMPTS = [
    "A dragon above a burning castle at dusk",
    "a lighthouse and a ship on a stormy sea at night, thunder and lightning",
    "a snowy village in the pine forest, winter evening, fog",
    "balloons over the desert, a wizard and a cat under an oak tree among flowers",
    "neon city in the rain, aurora, fairies",
    "森の中の古い城、夜",
    "Старый замок у моря",
    "",
    "\ud800\x00\u202e<script>",
    "x" * 100_000,
]


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


async def paint(prompt: str, request_for, *, seed: int = 7, width: int = 192, height: int = 128) -> bytes:
    return await SketchGenerator(width, height, steps=1).generate(request_for(prompt, seed), lambda *_: None)


@pytest.mark.parametrize("prompt", PROMPTS, ids=range(len(PROMPTS)))
async def test_every_prompt_becomes_a_card_of_the_size_asked_for(prompt, request_for):
    image = opened(await paint(prompt, request_for, width=240, height=200))
    assert (image.format, image.size) == ("JPEG", (240, 200))
    # A painting, and no even surface: its brightness is spread out.
    darkest, brightest = image.convert("L").getextrema()
    assert isinstance(darkest, int)
    assert isinstance(brightest, int)
    assert brightest - darkest > 100


@pytest.mark.parametrize(("width", "height"), [(64, 64), (64, 300), (300, 64), (200, 200)])
async def test_every_format_can_be_painted(width, height, request_for):
    image = opened(await paint("a castle by the sea at night", request_for, width=width, height=height))
    assert image.size == (width, height)


async def test_the_same_prompt_and_seed_make_the_same_picture(request_for):
    assert await paint("a fox", request_for) == await paint("a fox", request_for)


async def test_another_seed_or_another_prompt_makes_another_picture(request_for):
    pictures = {await paint("a fox", request_for, seed=seed) for seed in (1, 2)}
    assert len(pictures | {await paint("a fix", request_for, seed=1)}) == 3


async def test_pictures_painted_at_the_same_time_are_those_painted_one_by_one(request_for):
    generator = SketchGenerator(192, 128, steps=3)
    painted: dict[str, bytes] = {}

    async def work(prompt: str) -> None:
        painted[prompt] = await generator.generate(request_for(prompt), lambda *_: None)

    async with anyio.create_task_group() as group:
        for prompt in ("one", "two", "three"):
            group.start_soon(work, prompt)
    for prompt, picture in painted.items():
        assert picture == await paint(prompt, request_for)


async def test_progress_comes_in_equal_steps_with_a_small_preview_each(request_for, progress):
    await SketchGenerator(300, 200, steps=4).generate(request_for(), progress)
    assert progress.fractions == [0.25, 0.5, 0.75, 1.0]
    assert [opened(preview).size for preview in progress.previews] == [(240, 160)] * 4
    assert all(len(preview) < 20_000 for preview in progress.previews)


async def test_more_steps_than_layers_are_fine(request_for, progress):
    await SketchGenerator(64, 64, steps=60).generate(request_for(), progress)
    assert len(progress.fractions) == 60


async def test_the_number_of_steps_does_not_change_the_picture(request_for):
    few = await SketchGenerator(192, 128, steps=2).generate(request_for(), lambda *_: None)
    many = await SketchGenerator(192, 128, steps=9).generate(request_for(), lambda *_: None)
    assert few == many


async def test_a_pause_lies_between_the_steps_and_none_behind_the_last(request_for, monkeypatch):
    pauses: list[float] = []

    class AnyioThatTakesNotes:
        """Stands in this module's place only: other tests' servers sleep in their own threads."""

        def __getattr__(self, name: str) -> object:
            return getattr(anyio, name)

        async def sleep(self, seconds: float) -> None:
            pauses.append(seconds)

    monkeypatch.setattr("limner.adapters.sketch.anyio", AnyioThatTakesNotes())
    await SketchGenerator(64, 64, steps=3, step_ms=250).generate(request_for(), lambda *_: None)
    assert pauses == [0.25, 0.25]


async def test_a_painter_is_cancelled_in_the_pause_between_two_steps(request_for, progress):
    generator = SketchGenerator(64, 64, steps=3, step_ms=10**9)
    with anyio.fail_after(PATIENCE_S), anyio.CancelScope() as scope:

        def cancel_after_one(
            fraction: float | None = None, preview: bytes | None = None, job_id: str | None = None
        ) -> None:
            progress(fraction, preview, job_id)
            scope.cancel()

        await generator.generate(request_for(), cancel_after_one)
    assert scope.cancelled_caught
    assert progress.fractions == [1 / 3]


@pytest.mark.parametrize(
    "setting", [{"width": 63}, {"width": 2049}, {"height": 0}, {"steps": 0}, {"step_ms": -1}]
)
def test_a_setting_that_cannot_be_meant_is_refused(setting):
    with pytest.raises(InvalidSetting, match=next(iter(setting))):
        SketchGenerator(**setting)
