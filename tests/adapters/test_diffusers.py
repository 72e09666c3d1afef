"""A pipeline of diffusers as a generator, held to a stand-in; the real ones are in tests/with_diffusers."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from dataclasses import replace

import anyio
import pytest
from PIL import Image

from limner.adapters import diffusers
from limner.adapters.diffusers import DiffusersGenerator
from limner.adapters.factory import generator_from
from limner.errors import BackendError, InvalidSetting
from limner.testing import ProgressRecorder, make_request
from limner.workflows.ports import PromptSettings
from tests.adapters.pipelines import Libraries, ScriptedPipeline, Unseeded
from tests.adapters.servers.local import happened

pytestmark = pytest.mark.anyio


async def test_the_pipeline_is_called_with_the_prompt_the_seed_and_what_was_set():
    pipeline = ScriptedPipeline()
    generator = Unseeded(
        pipeline,
        width=640,
        height=320,
        steps=3,
        guidance_scale=2.5,
        negative_prompt="blurry",
        options={"clip_skip": 2},
    )
    progress = ProgressRecorder()
    data = await generator.generate(make_request("a fox", seed=11), progress)
    assert Image.open(io.BytesIO(data)).format == "PNG"
    [call] = pipeline.calls
    call.pop("callback_on_step_end")
    assert call == {
        "prompt": "a fox",
        "generator": 11,
        "width": 640,
        "height": 320,
        "num_inference_steps": 3,
        "guidance_scale": 2.5,
        "negative_prompt": "blurry",
        "clip_skip": 2,
    }
    assert progress.fractions == pytest.approx([1 / 3, 2 / 3, 1])
    assert pipeline.threads != [threading.get_ident()]


async def test_without_steps_progress_goes_by_those_of_the_pipeline():
    progress = ProgressRecorder()
    await Unseeded(ScriptedPipeline()).generate(make_request(), progress)
    assert progress.fractions == [0.25, 0.5, 0.75, 1]


async def test_what_a_prompt_asks_for_itself_goes_before_what_was_set():
    pipeline = ScriptedPipeline()
    own = PromptSettings(width=128, steps=2, negative_prompt="cats")
    generator = Unseeded(pipeline, width=640, height=320)
    await generator.generate(replace(make_request(), settings=own), ProgressRecorder())
    [call] = pipeline.calls
    taken = {name: call[name] for name in ("width", "height", "num_inference_steps", "negative_prompt")}
    assert taken == {"width": 128, "height": 320, "num_inference_steps": 2, "negative_prompt": "cats"}


async def test_a_setting_that_the_pipeline_does_not_know_is_named_and_one_of_a_prompt_is_left_out():
    def pipeline(prompt: str, generator: object, callback_on_step_end: object) -> object:
        return ScriptedPipeline()(prompt)

    with pytest.raises(BackendError, match="function has no setting negative_prompt"):
        await Unseeded(pipeline, negative_prompt="blurry").generate(make_request(), ProgressRecorder())
    own = PromptSettings(width=128, negative_prompt="cats")
    assert await Unseeded(pipeline).generate(replace(make_request(), settings=own), ProgressRecorder())


async def test_a_pipeline_paints_one_image_at_a_time():
    pipeline = ScriptedPipeline()
    generator = Unseeded(pipeline)
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(generator.generate, make_request(), ProgressRecorder())
    assert (len(pipeline.calls), pipeline.most_at_once) == (5, 1)


async def test_who_is_cancelled_while_it_waits_for_the_pipeline_leaves_the_one_at_work_alone():
    pipeline = ScriptedPipeline(endless=True)
    generator = Unseeded(pipeline)
    images: list[bytes] = []

    async def paint() -> None:
        images.append(await generator.generate(make_request(), ProgressRecorder()))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(paint)
        await happened(pipeline.begun)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await generator.generate(make_request(), ProgressRecorder())
        assert not pipeline.interrupted.is_set()
        pipeline.finish()
    assert (len(images), len(pipeline.calls)) == (1, 1)


async def test_a_pipeline_is_stopped_by_its_callback_and_tidied_up_after_that():
    pipeline = ScriptedPipeline(endless=True)
    generator = Unseeded(pipeline)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(generator.generate, make_request(), ProgressRecorder())
        await happened(pipeline.begun)
        tasks.cancel_scope.cancel()
    assert pipeline.interrupted.is_set()
    assert pipeline.freed.is_set()
    pipeline.finish()
    assert await generator.generate(make_request(), ProgressRecorder())


def test_a_call_that_was_cancelled_before_its_turn_in_the_thread_does_not_call_the_pipeline():
    pipeline, stopped = ScriptedPipeline(), threading.Event()
    stopped.set()
    assert Unseeded(pipeline)._paint(pipeline, make_request(), ProgressRecorder(), stopped) == b""
    assert pipeline.calls == []


# --- loading a model by its name


@pytest.fixture
def pipeline() -> ScriptedPipeline:
    return ScriptedPipeline()


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch, pipeline: ScriptedPipeline) -> Iterator[Libraries]:
    libraries = Libraries(monkeypatch, pipeline)
    yield libraries
    libraries.gate.set()


async def test_a_call_that_is_cancelled_while_the_model_loads_ends_at_once(libraries, pipeline):
    generator = Unseeded("some/model")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(generator.generate, make_request(), ProgressRecorder())
        await happened(libraries.begun)
        tasks.cancel_scope.cancel()
    assert not libraries.over.is_set()
    assert pipeline.calls == []
    # The load goes on by itself, and whoever comes next has the benefit. It does not hold up the process.
    libraries.gate.set()
    assert await generator.generate(make_request(), ProgressRecorder())
    assert libraries.loads == ["some/model"]
    assert libraries.daemons == [True]
    assert len(pipeline.calls) == 1


async def test_all_calls_wait_for_one_load(libraries, pipeline):
    generator = Unseeded("some/model")
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(generator.generate, make_request(), ProgressRecorder())
        await happened(libraries.begun)
        libraries.gate.set()
    assert libraries.loads == ["some/model"]
    assert (len(pipeline.calls), pipeline.most_at_once) == (3, 1)


async def test_a_model_can_be_loaded_before_the_first_image(libraries, pipeline):
    libraries.gate.set()
    generator = Unseeded("some/model")
    await generator.load()
    assert (libraries.loads, pipeline.calls) == (["some/model"], [])
    await generator.load()
    await generator.generate(make_request(), ProgressRecorder())
    assert libraries.loads == ["some/model"]
    await Unseeded(pipeline).load()


async def test_a_load_that_fails_is_told_to_all_who_wait_and_tried_again_by_the_next(libraries):
    libraries.error = OSError("no such model")
    generator = Unseeded("some/model")
    told: list[str] = []

    async def load() -> None:
        with pytest.raises(BackendError) as caught:
            await generator.load()
        told.append(str(caught.value))

    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(load)
        await happened(libraries.begun)
        libraries.gate.set()
    assert told == ["some/model cannot be loaded: OSError: no such model"] * 2
    libraries.error = None
    await generator.load()
    assert libraries.loads == ["some/model"] * 2


async def test_closing_waits_for_no_load(libraries, pipeline):
    generator = Unseeded("some/model")
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(generator.load)
            await happened(libraries.begun)
            scope.cancel()
    await generator.aclose()
    assert not libraries.over.is_set()
    libraries.gate.set()
    await happened(libraries.over)
    assert generator._pipeline is None


async def test_a_dtype_that_torch_does_not_have_is_named(libraries):
    libraries.gate.set()
    with pytest.raises(BackendError, match="torch has no dtype 'float7'"):
        await Unseeded("some/model", dtype="float7").load()


async def test_what_the_pipeline_raises_is_an_error_of_the_backend_with_its_words():
    pipeline = ScriptedPipeline()
    pipeline.error = MemoryError("CUDA out of memory")
    with pytest.raises(BackendError, match="ScriptedPipeline failed: MemoryError: CUDA out of memory"):
        await Unseeded(pipeline).generate(make_request(), ProgressRecorder())


def test_a_named_model_needs_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(diffusers, "find_spec", lambda name: None)
    with pytest.raises(
        InvalidSetting, match=r"not installed; .*: pip install '/path/to/limner\[diffusers\]'"
    ):
        generator_from("diffusers=stabilityai/sdxl-turbo")


@pytest.mark.parametrize("name", ["diffusers", "diffusers="])
def test_a_model_must_be_named(name: str):
    with pytest.raises(InvalidSetting, match="diffusers needs a model: diffusers=MODEL"):
        generator_from(name)


@pytest.mark.parametrize(
    ("pipeline", "settings", "told"),
    [
        (" ", {}, "diffusers needs a model"),
        (7, {}, "pipeline must be a model's name or a pipeline, not 7"),
        (ScriptedPipeline(), {"device": "cuda"}, "device and dtype are for a model that is named"),
        (ScriptedPipeline(), {"steps": 0}, "steps must be a whole number, at least 1"),
        (ScriptedPipeline(), {"width": "wide"}, "width must be a whole number"),
        (ScriptedPipeline(), {"guidance_scale": "much"}, "guidance_scale must be a number"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(pipeline, settings, told):
    with pytest.raises(InvalidSetting, match=told):
        DiffusersGenerator(pipeline, **settings)
