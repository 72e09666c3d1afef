"""A stand-in for a pipeline of diffusers, with the interface that all of those share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import count
from types import SimpleNamespace
from typing import Any

from PIL import Image

from limner.adapters.diffusers import DiffusersGenerator

StepCallback = Callable[[Any, int, int, dict[str, Any]], dict[str, Any]]


class ScriptedPipeline:
    """Paints in `num_inference_steps` steps, or with `endless` until `finish` is called.

    `begun` is set after the first step, `interrupted` when it leaves out its steps because `_interrupt` was
    set. `error` is raised instead; `images` and `held_back` are what it answers.
    """

    def __init__(self, images: Sequence[Image.Image] | None = None, *, endless: bool = False) -> None:
        self.images = [Image.new("RGB", (16, 16), "teal")] if images is None else list(images)
        self.held_back: list[bool] | None = None
        self.error: Exception | None = None
        self.calls: list[dict[str, Any]] = []
        self.threads: list[int] = []
        self.at_once = self.most_at_once = 0
        self.begun, self.interrupted = threading.Event(), threading.Event()
        self.num_timesteps = 0
        self._endless, self._finished = endless, threading.Event()
        self._interrupt = False

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
        self._interrupt = False
        self.num_timesteps = num_inference_steps
        for step in count() if self._endless else range(num_inference_steps):
            if self._interrupt or (self._endless and self._finished.is_set()):
                break
            if callback_on_step_end is not None:
                callback_on_step_end(self, step, 1_000 - step, {"latents": None})
            self.begun.set()
        if self._interrupt:
            self.interrupted.set()
        self.at_once -= 1
        return SimpleNamespace(images=self.images, nsfw_content_detected=self.held_back)


class Unseeded(DiffusersGenerator):
    """Without torch: what the pipeline gets for a generator of torch's is the bare seed."""

    def _seeded(self, seed: int) -> Any:
        return seed
