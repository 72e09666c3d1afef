"""Any coroutine function as a generator."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Self

from limner.errors import BackendError, BadRequest, LimnerError, NoImage, NotAnImage
from limner.workflows.ports import Capabilities, GenerationRequest, ProgressCallback

PromptPainter = Callable[[str], Awaitable[bytes]]
RequestPainter = Callable[[GenerationRequest, ProgressCallback], Awaitable[bytes]]


class CallableGenerator:
    """A `Generator` made of `paint`, a coroutine function from a prompt to the bytes of an image file.

    What it raises reaches the session as `BackendError`, unless it is a `LimnerError` already: raise
    `RateLimited` or `Moderated` to say more. For the seed, the ids or progress, see `with_request`.
    """

    def __init__(self, paint: PromptPainter) -> None:
        self._paint: RequestPainter = lambda request, _: paint(request.prompt)
        self._name = _name_of(paint)
        self.capabilities = Capabilities()

    @classmethod
    def with_request(cls, paint: RequestPainter, *, capabilities: Capabilities | None = None) -> Self:
        """A generator from `paint(request, report)`; `capabilities` says what it reports."""
        generator = cls.__new__(cls)
        generator._paint = paint
        generator._name = _name_of(paint)
        generator.capabilities = capabilities or Capabilities()
        return generator

    async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        """Call the function. Raises `BackendError`, `NoImage` (None came) or `NotAnImage` (no bytes)."""
        try:
            answer: object = self._paint(request, report)
            if not isawaitable(answer):
                raise BadRequest(
                    f"{self._name} is a plain function: write it as `async def {self._name}(prompt)`"
                )
            image: object = await answer
        except LimnerError:
            raise
        except Exception as error:  # somebody else's code may raise anything; the port promises BackendError
            # With the type: of a KeyError's own words there is the key alone.
            kind, words = type(error).__name__, " ".join(str(error).split())[:300]
            raise BackendError(f"{self._name} failed: {kind}{words and ': '}{words}") from error
        if image is None:
            raise NoImage(f"{self._name} returned no image")
        if not isinstance(image, (bytes, bytearray, memoryview)):
            raise NotAnImage(f"{self._name} returned {type(image).__name__} where bytes were expected")
        return bytes(image)

    async def aclose(self) -> None:
        """Nothing to release: the function is the caller's."""


def _name_of(paint: object) -> str:
    name = getattr(paint, "__name__", type(paint).__name__)
    return str(name)
