"""Steps that a host puts around the painting.

Before it, to rewrite a prompt or refuse it; after it, to work over an image or refuse it. Each is awaited, in
the order given, and raises `Refused` with its reason for what shall not be painted or not be shown. The
prompt in the text, in events and in the history stays the one that was found.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, Protocol, TypeVar

from limner.errors import LimnerError, StepFailed
from limner.workflows.host import call_host
from limner.workflows.logs import brief
from limner.workflows.overrides import PromptOverrides
from limner.workflows.ports import GenerationRequest, ImageInfo, ImageInspector

STEP_TIME_LIMIT_MS = 120_000
"""How long one step may take before it counts as failed: as long as an image."""

TagsPosition = Literal["prefix", "suffix"]
T = TypeVar("T")


class PromptStep(Protocol):
    """What is asked before an image is made."""

    async def __call__(self, request: GenerationRequest, /) -> str | None:
        """The prompt to paint instead of `request.prompt`, or None to leave it. Raises `Refused`."""


class ImageStep(Protocol):
    """What is asked once an image is made, and before anybody sees it."""

    async def __call__(self, request: GenerationRequest, image: bytes, /) -> bytes | None:
        """An image file to show instead of `image`, or None to leave it. Raises `Refused`.

        `image` is the file as the inspector passed it on (in general as the generator gave it), and is
        certainly an image.
        """


class CommonTags:
    """A `PromptStep` that puts the same words before or behind every prompt, with a comma between."""

    def __init__(self, tags: str, position: TagsPosition = "prefix") -> None:
        self._tags = tags.strip().strip(",").strip()
        self._position = position

    async def __call__(self, request: GenerationRequest, /) -> str | None:
        """The prompt with the tags."""
        if not self._tags:
            return None
        parts = [self._tags, request.prompt]
        return ", ".join(parts if self._position == "prefix" else reversed(parts))


class Steps:
    """All steps of a Limner."""

    def __init__(
        self,
        before: Sequence[PromptStep] = (),
        after: Sequence[ImageStep] = (),
        overrides: PromptOverrides | None = None,
    ) -> None:
        self._overrides = overrides or PromptOverrides()
        self._before = tuple(before)
        self._after = tuple(after)

    @property
    def looks_at_images(self) -> bool:
        """Whether an image may be refused or changed before anybody sees it; so nobody sees its previews."""
        return bool(self._after)

    def read(self, request: GenerationRequest) -> GenerationRequest:
        """The request with what its prompt asks for itself, as all steps see it. Raises `Refused`."""
        return self._overrides.apply(request)

    async def before(self, request: GenerationRequest) -> GenerationRequest:
        """The request as it goes to the generator. Raises `Refused`, `StepFailed`."""
        for step in self._before:
            prompt: object = await _call(step, partial(step, request))
            if prompt is None:
                continue
            if not isinstance(prompt, str) or not prompt.strip():
                raise StepFailed(f"{_name(step)} returned {type(prompt).__name__} instead of a prompt")
            request = replace(request, prompt=prompt)
        return request

    async def after(
        self, request: GenerationRequest, found: ImageInfo, inspector: ImageInspector
    ) -> ImageInfo:
        """The image as it is to be stored, inspected anew where a step has changed it.

        Raises `Refused`, `StepFailed`, and what `ImageInspector.inspect` raises.
        """
        for step in self._after:
            image: object = await _call(step, partial(step, request, found.data))
            if image is None:
                continue
            if not isinstance(image, (bytes, bytearray, memoryview)):
                raise StepFailed(f"{_name(step)} returned {type(image).__name__} instead of an image's bytes")
            found = await inspector.inspect(bytes(image))
        return found


async def _call(step: object, ask: Callable[[], Awaitable[T]]) -> T:
    try:
        return await call_host(ask(), STEP_TIME_LIMIT_MS)
    except LimnerError:
        raise
    except Exception as error:  # a host's own step may raise anything
        raise StepFailed(f"{_name(step)}: {brief(error)}") from error


def _name(step: object) -> str:
    return getattr(step, "__qualname__", None) or type(step).__name__
