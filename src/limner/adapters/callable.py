"""Any coroutine function as a generator."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Self

from limner.errors import BackendError, BadRequest, InvalidSetting, LimnerError, NoImage, NotAnImage
from limner.workflows.host import call_host
from limner.workflows.ports import Capabilities, GenerationRequest, ProgressCallback

PromptPainter = Callable[[str], Awaitable[bytes]]
RequestPainter = Callable[[GenerationRequest, ProgressCallback], Awaitable[bytes]]


class CallableGenerator:
    """A `Generator` made of `paint`, a coroutine function from a prompt to the bytes of an image file.

    What it raises reaches the session as `BackendError`, unless it is a `LimnerError` already: raise
    `RateLimited` or `Moderated` to say more. For the seed, the ids or progress, see `with_request`.

    Raises `InvalidSetting` for a function that cannot be called so, or is seen to be none of coroutines.
    """

    def __init__(self, paint: PromptPainter) -> None:
        _check(paint, "prompt", "; for the request and reports there is CallableGenerator.with_request")
        self._paint: RequestPainter = lambda request, _: paint(request.prompt)
        self._name = _name_of(paint)
        self.capabilities = Capabilities()

    @classmethod
    def with_request(cls, paint: RequestPainter, *, capabilities: Capabilities | None = None) -> Self:
        """A generator from `paint(request, report)`; `capabilities` says what it reports.

        Raises `InvalidSetting` as the class does.
        """
        _check(paint, "request, report")
        generator = cls.__new__(cls)
        generator._paint = paint
        generator._name = _name_of(paint)
        generator.capabilities = capabilities or Capabilities()
        return generator

    async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        """Call the function. Raises `BackendError`, `NoImage` (None came) or `NotAnImage` (no bytes)."""
        try:
            image: object = await call_host(self._called(request, report))
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

    def _called(self, request: GenerationRequest, report: ProgressCallback) -> Awaitable[object]:
        """The call under way. What goes wrong before that would go wrong again: it is `BadRequest`."""
        try:
            answer: object = self._paint(request, report)
        except TypeError as error:
            raise BadRequest(f"{self._name} cannot be called: {error}") from error
        if not inspect.isawaitable(answer):
            raise BadRequest(f"{self._name} is a plain function: write it as `async def {self._name}(…)`")
        return answer

    async def aclose(self) -> None:
        """Nothing to release: the function is the caller's."""


def _check(paint: object, parameters: str, otherwise: str = "") -> None:
    """Raise `InvalidSetting` where it can be seen that awaiting `paint(…)` cannot give an image."""
    name = _name_of(paint)
    if not callable(paint):
        raise InvalidSetting(f"{name} is not a function: write `async def paint({parameters})`")
    fault = ""
    try:
        # Not what it wraps: a decorator may well add or take away parameters.
        signature = inspect.signature(paint, follow_wrapped=False)
        signature.bind(*parameters.split(", "))
    except ValueError:
        return  # of some that are not written in Python nothing is known
    except TypeError as error:
        fault = f"cannot be called as {name}({parameters}): {error}{otherwise}"
    else:
        if inspect.isgeneratorfunction(paint) or inspect.isasyncgenfunction(paint):
            fault = "yields, and does not return an image"
        elif signature.return_annotation in (bytes, "bytes") and not _may_be_awaited(paint):
            fault = "is a plain function"
    if fault:
        written = name if name.isidentifier() else "paint"
        raise InvalidSetting(f"{name} {fault}; write `async def {written}({parameters})`")


def _may_be_awaited(paint: Callable[..., object]) -> bool:
    """Whether it is a coroutine function, or one by a decorator, which may return anything."""
    called = getattr(paint, "__call__", None)  # noqa: B004 - not whether it is there, but of what kind
    return any(map(inspect.iscoroutinefunction, (paint, called))) or hasattr(paint, "__wrapped__")


def _name_of(paint: object) -> str:
    name = getattr(paint, "__name__", type(paint).__name__)
    return str(name)
