"""The offline painter: a card with a painted scene for every prompt, without a model or a network.

It is what `generator="sketch"` stands for: good enough to look at, quick enough for a demonstration,
and deterministic enough for a test. It understands a few hundred English words (night, sea, castle,
dragon …) and paints a landscape that fits them; it draws no likeness of anything else.
"""

from __future__ import annotations

import os

import anyio
import anyio.to_thread

from limner.adapters.options import checked
from limner.adapters.painting.easel import Easel
from limner.errors import InvalidSetting
from limner.states.values import check_whole_number
from limner.workflows.ports import Capabilities, GenerationRequest, ProgressCallback

SMALLEST_SIDE = 64
LARGEST_SIDE = 2048


class SketchGenerator:
    """A `Generator` that paints with Pillow on this machine.

    `width` and `height` are the card's size in pixels (64 to 2048 each). The work is cut into `steps`
    pieces of about the same number of brush layers; after each, progress and a small preview are
    reported. `step_ms` is a pause in milliseconds between two steps, for a demonstration that should
    look like a model at work; 0 paints as fast as the machine can.

    The same prompt, seed and size give the same bytes, with the same Pillow and the same fonts.
    Painting happens in worker threads, at most one for each processor. A cancelled call stops after the
    step that it is in.
    """

    capabilities = Capabilities(progress=True, preview=True, cancel=True)

    @checked
    def __init__(self, width: int = 768, height: int = 512, *, steps: int = 16, step_ms: int = 0) -> None:
        for name, side in (("width", width), ("height", height)):
            check_whole_number(name, side, 1)
            if not SMALLEST_SIDE <= side <= LARGEST_SIDE:
                raise InvalidSetting(f"{name} must be {SMALLEST_SIDE} to {LARGEST_SIDE} px, but is {side}")
        check_whole_number("steps", steps, 1)
        check_whole_number("step_ms", step_ms, 0)
        self._width = width
        self._height = height
        self._steps = steps
        self._step_ms = step_ms
        self._limiter = anyio.CapacityLimiter(os.cpu_count() or 1)

    async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        """Paint the card and return it as the bytes of a JPEG file. Raises nothing of its own."""
        width, height = (
            min(max(own or usual, SMALLEST_SIDE), LARGEST_SIDE)
            for own, usual in (
                (request.settings.width, self._width),
                (request.settings.height, self._height),
            )
        )
        easel = await anyio.to_thread.run_sync(
            Easel, request.prompt, request.seed, width, height, limiter=self._limiter
        )
        for step in range(1, self._steps + 1):
            fraction = step / self._steps
            preview = await anyio.to_thread.run_sync(easel.paint_until, fraction, limiter=self._limiter)
            report(fraction, preview)
            if self._step_ms and step < self._steps:
                await anyio.sleep(self._step_ms / 1000)
        return await anyio.to_thread.run_sync(easel.finished, limiter=self._limiter)

    async def aclose(self) -> None:
        """Nothing to release."""
