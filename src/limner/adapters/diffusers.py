"""A pipeline of Hugging Face's diffusers, in this process: no server at all.

Nothing of diffusers or torch is imported here before it is needed, and a pipeline that the host has made is
only called: by the interface that all of them share (`callback_on_step_end`:
https://huggingface.co/docs/diffusers/using-diffusers/callback). To stop it, the callback raises; not every
pipeline looks at `_interrupt`, which is meant for that.
"""

from __future__ import annotations

import inspect
import io
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from time import monotonic
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread

from limner.adapters.diffusers_load import Load
from limner.adapters.options import checked
from limner.errors import BackendError, InvalidSetting, LimnerError, Moderated, NoImage
from limner.states.values import check_whole_number
from limner.workflows.logs import brief, log
from limner.workflows.ports import Capabilities, GenerationRequest, ProgressCallback


class _Stopped(BaseException):
    """Whoever asked for the image wants it no more. No `except Exception` of a pipeline's keeps it."""


Pipeline = Callable[..., Any]
"""A text-to-image pipeline, for instance `diffusers.StableDiffusionXLPipeline`."""


class DiffusersGenerator:
    """A `Generator` that paints with a pipeline of diffusers, in a worker thread.

    `pipeline` is a text-to-image pipeline that you have made, or the name or folder of a model, which is
    loaded when the first image is made. `device` and `dtype` are for that: by default what torch finds
    (`cuda`, `mps`, `cpu`), with `float16` on a graphics card and `float32` without. `width` and `height`
    (px), `steps`, `guidance_scale` and `negative_prompt` are the pipeline's own unless they are given;
    `options` go to the pipeline's call as they are.

    A pipeline paints one image at a time; others wait. Being cancelled, it stops after the present step, and
    the call ends once it has. A model that is being loaded cannot be stopped, and holds up nobody: a call
    that is cancelled meanwhile ends at once, and the next one finds the model loaded. Loading counts as part
    of the image that waits for it; `load` does it before.

    Raises `InvalidSetting`, also where a model is named and diffusers is not installed.
    """

    capabilities = Capabilities(progress=True, cancel=True)

    @checked
    def __init__(
        self,
        pipeline: str | Pipeline,
        *,
        device: str | None = None,
        dtype: str | None = None,
        width: int | None = None,
        height: int | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        for name, value in (("width", width), ("height", height), ("steps", steps)):
            if value is not None:
                check_whole_number(name, value, 1)
        if isinstance(pipeline, str):
            if not pipeline.strip():
                raise InvalidSetting("diffusers needs a model, for example stabilityai/sdxl-turbo")
            if find_spec("diffusers") is None or find_spec("torch") is None:
                raise InvalidSetting(
                    "diffusers is not installed; it is an extra: pip install '/path/to/limner[diffusers]'"
                )
        elif not callable(pipeline):
            raise InvalidSetting(f"pipeline must be a model's name or a pipeline, not {pipeline!r:.60}")
        elif device is not None or dtype is not None:
            raise InvalidSetting("device and dtype are for a model that is named; a pipeline has its own")
        self._given = pipeline
        self._pipeline: Pipeline | None = None if isinstance(pipeline, str) else pipeline
        self._load: Load[Pipeline] | None = None
        self._device, self._dtype = device, dtype
        settings = {
            "width": width,
            "height": height,
            "num_inference_steps": steps,
            "guidance_scale": guidance_scale,
            "negative_prompt": negative_prompt,
        }
        self._settings = {name: value for name, value in settings.items() if value is not None}
        self._options = dict(options or {})
        self._one_at_a_time = anyio.Lock()

    def __repr__(self) -> str:
        """The model, or the kind of pipeline."""
        given = self._given
        return (
            f"DiffusersGenerator({given!r})"
            if isinstance(given, str)
            else f"DiffusersGenerator({_kind(given)})"
        )

    async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        """Paint one image and return it as the bytes of a PNG file.

        Raises `Moderated` where the pipeline's safety checker holds it back, `NoImage`, `BackendError`.
        """
        pipeline = await self._loaded()
        async with self._one_at_a_time:
            return await _in_thread(lambda stopped: self._paint(pipeline, request, report, stopped))

    async def load(self) -> None:
        """Load the model now, so that no image has to wait for it. Raises `BackendError`.

        Without it the first image waits, within its own time limit. A pipeline that was given is there
        already.
        """
        await self._loaded()

    async def aclose(self) -> None:
        """Let go of a pipeline that was loaded here; one that was given is the host's.

        A load that is under way is not waited for.
        """
        if isinstance(self._given, str):
            self._pipeline = self._load = None

    async def _loaded(self) -> Pipeline:
        """The pipeline, once it is there. All calls wait for the same load."""
        if self._pipeline is not None:
            return self._pipeline
        load = self._load = self._load or Load(self._loaded_by_name)
        try:
            pipeline = await load.wait()
        except Exception as error:
            if self._load is load:
                self._load = None  # the next attempt may do better
            if isinstance(error, LimnerError):
                raise
            raise BackendError(f"{self._given} cannot be loaded: {brief(error)}") from error
        if self._load is load:
            self._pipeline, self._load = pipeline, None
        return pipeline

    def _paint(
        self,
        pipeline: Pipeline,
        request: GenerationRequest,
        report: ProgressCallback,
        stopped: threading.Event,
    ) -> bytes:
        try:
            call = self._call_of(pipeline, request)
            steps = call.get("num_inference_steps")

            def after_step(running: Any, step: int, _timestep: Any, tensors: Any) -> Any:
                if stopped.is_set():
                    raise _Stopped
                total = steps or getattr(running, "num_timesteps", None)
                fraction = min(1.0, (step + 1) / total) if total else None
                anyio.from_thread.run_sync(report, fraction)
                return tensors

            # Cancelled before it came to its turn in the thread.
            answer = None if stopped.is_set() else pipeline(**call, callback_on_step_end=after_step)
            return b"" if stopped.is_set() else _image_of(answer)
        except _Stopped:
            _tidy_up(pipeline)
            return b""
        except LimnerError:
            raise
        except Exception as error:  # torch and its back ends raise anything
            raise BackendError(f"{_kind(self._given)} failed: {brief(error)}") from error

    def _call_of(self, pipeline: Pipeline, request: GenerationRequest) -> dict[str, Any]:
        own = request.settings.given("width", "height", "negative_prompt")
        if request.settings.steps is not None:
            own["num_inference_steps"] = request.settings.steps
        parameters = inspect.signature(pipeline).parameters
        takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
        for name in self._settings:
            if name not in parameters and not takes_all:
                raise BackendError(f"{_kind(self._given)} has no setting {name}")
        known = {name: value for name, value in own.items() if name in parameters}
        return {
            **self._settings,
            **known,
            "prompt": request.prompt,
            "generator": self._seeded(request.seed),
            **self._options,
        }

    def _seeded(self, seed: int) -> Any:
        import torch

        # On the processor, so that one seed gives the same image whatever paints it.
        return torch.Generator("cpu").manual_seed(seed)

    def _loaded_by_name(self) -> Pipeline:
        import diffusers
        import torch

        device = self._device or _best_device(torch)
        usual = "float32" if device.startswith("cpu") else "float16"
        dtype = getattr(torch, self._dtype or usual, None)
        if not isinstance(dtype, torch.dtype):
            raise BackendError(f"torch has no dtype {self._dtype!r}")
        log.info("model_loading", model=self._given, device=device)
        began = monotonic()
        loaded = diffusers.AutoPipelineForText2Image.from_pretrained(self._given, dtype=dtype)
        loaded.set_progress_bar_config(disable=True)
        pipeline: Pipeline = loaded.to(device)
        log.info("model_loaded", model=self._given, seconds=round(monotonic() - began, 1))
        return pipeline


async def _in_thread(work: Callable[[threading.Event], bytes]) -> bytes:
    """Run `work` in a thread and wait for its end, in any case: being cancelled only asks it to stop."""
    stopped, done = threading.Event(), anyio.Event()
    outcome: list[bytes | BackendError] = []

    async def run() -> None:
        with anyio.CancelScope(shield=True):
            try:
                outcome.append(await anyio.to_thread.run_sync(work, stopped))
            except BackendError as error:
                outcome.append(error)  # raised below, since the task group would wrap it into a group
            done.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        try:
            await done.wait()
        except anyio.get_cancelled_exc_class():
            stopped.set()
            raise
    [result] = outcome
    if isinstance(result, BackendError):
        raise result
    return result


def _tidy_up(pipeline: Pipeline) -> None:
    """What a pipeline does at its end: take a model off the graphics card that is there step by step only."""
    with suppress(Exception):
        free = getattr(pipeline, "maybe_free_model_hooks", None)
        if free is not None:
            free()


def _best_device(torch: Any) -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _image_of(answer: Any) -> bytes:
    held_back = getattr(answer, "nsfw_content_detected", None)
    if held_back and held_back[0]:
        raise Moderated("the pipeline's safety checker held the picture back")
    images = getattr(answer, "images", None)
    if not images:
        raise NoImage("the pipeline returned no image")
    file = io.BytesIO()
    images[0].save(file, "PNG")
    return file.getvalue()


def _kind(given: object) -> str:
    return given if isinstance(given, str) else type(given).__name__
