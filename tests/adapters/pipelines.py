"""A stand-in for a pipeline of diffusers, with the interface that all of those share."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from limner.adapters.diffusers import DiffusersGenerator
from tests.adapters.servers.local import PATIENCE_S

StepCallback = Callable[[Any, int, int, dict[str, Any]], dict[str, Any]]


class ScriptedPipeline:
    """Paints in `num_inference_steps` steps, or with `endless` until `finish` is called.

    It does not look at `_interrupt`, as some of them do not. `begun` is set after the first step,
    `interrupted` when the callback has stopped it, and `freed` when it has been tidied up after that. `error`
    is raised instead; `images` and `held_back` are what it answers.
    """

    def __init__(self, images: Sequence[Image.Image] | None = None, *, endless: bool = False) -> None:
        self.images = [Image.new("RGB", (16, 16), "teal")] if images is None else list(images)
        self.held_back: list[bool] | None = None
        self.error: Exception | None = None
        self.calls: list[dict[str, Any]] = []
        self.threads: list[int] = []
        self.at_once = self.most_at_once = 0
        self.begun, self.interrupted, self.freed = (threading.Event() for _ in range(3))
        self.num_timesteps = 0
        self._endless, self._finished = endless, threading.Event()

    def maybe_free_model_hooks(self) -> None:
        """Take what is left off the graphics card, as a pipeline does at its end."""
        self.freed.set()

    def finish(self) -> None:
        """Let an endless call come to its end."""
        self._finished.set()

    def __call__(
        self,
        prompt: str | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 4,
        guidance_scale: float = 7.5,
        negative_prompt: str | None = None,
        generator: Any = None,
        callback_on_step_end: StepCallback | None = None,
        clip_skip: int | None = None,
    ) -> Any:
        given = {**locals()}
        self.calls.append({name: value for name, value in given.items() if name not in ("self", "given")})
        self.threads.append(threading.get_ident())
        if self.error is not None:
            raise self.error
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.num_timesteps = num_inference_steps
        try:
            for step in count() if self._endless else range(num_inference_steps):
                if self._endless and self._finished.is_set():
                    break
                if callback_on_step_end is not None:
                    callback_on_step_end(self, step, 1_000 - step, {"latents": None})
                self.begun.set()
        except BaseException:
            self.interrupted.set()
            raise
        finally:
            self.at_once -= 1
        return SimpleNamespace(images=self.images, nsfw_content_detected=self.held_back)


class Libraries:
    """Stands for torch and diffusers, as far as loading a model by its name goes.

    `loads` lists the names; each load waits until `gate` is set. `error` is raised instead.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pipeline: Any) -> None:
        self.loads: list[str] = []
        self.daemons: list[bool] = []
        self.begun, self.gate, self.over = (threading.Event() for _ in range(3))
        self.error: Exception | None = None
        self._pipeline = pipeline
        torch, diffusers = types.ModuleType("torch"), types.ModuleType("diffusers")
        for module in (torch, diffusers):
            module.__spec__ = ModuleSpec(module.__name__, None)
            monkeypatch.setitem(sys.modules, module.__name__, module)
        kind = type("dtype", (), {})
        absent = SimpleNamespace(is_available=lambda: False)
        vars(torch).update(dtype=kind, float32=kind(), cuda=absent, backends=SimpleNamespace(mps=absent))
        vars(diffusers).update(AutoPipelineForText2Image=SimpleNamespace(from_pretrained=self._load))

    def _load(self, name: str, dtype: object) -> Any:
        self.loads.append(name)
        self.daemons.append(threading.current_thread().daemon)
        self.begun.set()
        try:
            assert self.gate.wait(PATIENCE_S)
            if self.error is not None:
                raise self.error
        finally:
            self.over.set()
        return SimpleNamespace(set_progress_bar_config=lambda **_: None, to=lambda _: self._pipeline)


class Unseeded(DiffusersGenerator):
    """Without torch: what the pipeline gets for a generator of torch's is the bare seed."""

    def _seeded(self, seed: int) -> Any:
        return seed
