"""A coroutine function as a generator."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Any

import pytest

from limner.adapters.callable import CallableGenerator
from limner.errors import BackendError, BadRequest, InvalidSetting, Moderated, NoImage, NotAnImage
from limner.workflows.ports import Capabilities, GenerationRequest

pytestmark = pytest.mark.anyio


async def result_of(paint: Callable[[str], Awaitable[Any]], request: GenerationRequest) -> bytes:
    return await CallableGenerator(paint).generate(request, lambda *_: None)


async def test_the_function_gets_the_prompt(request_for):
    async def paint(prompt: str) -> bytes:
        return prompt.encode()

    assert await result_of(paint, request_for("fox")) == b"fox"


async def test_the_function_may_ask_for_the_whole_request_and_report(request_for, progress):
    async def paint(request, report) -> bytes:
        report(0.5)
        return str(request.seed).encode()

    generator = CallableGenerator.with_request(paint, capabilities=Capabilities(progress=True))
    assert generator.capabilities.progress
    assert await generator.generate(request_for(seed=9), progress) == b"9"
    assert progress.fractions == [0.5]
    await generator.aclose()


async def test_bytes_of_any_kind_become_bytes(request_for):
    async def paint(_: str) -> bytearray:
        return bytearray(b"x")

    assert type(await result_of(paint, request_for())) is bytes


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("several\nlines"), "paint failed: ValueError: several lines"),
        (KeyError(3), "paint failed: KeyError: 3"),
        (TimeoutError(), "paint failed: TimeoutError"),
    ],
    ids=repr,
)
async def test_what_the_function_raises_is_an_error_of_the_backend(error, told, request_for):
    async def paint(_: str) -> bytes:
        raise error

    with pytest.raises(BackendError) as caught:
        await result_of(paint, request_for())
    assert str(caught.value) == told


async def test_what_goes_wrong_in_a_task_group_is_told_without_the_group(request_for):
    async def paint(_: str) -> bytes:
        raise ExceptionGroup("unhandled errors in a TaskGroup", [KeyError(3)])

    with pytest.raises(BackendError, match="paint failed: KeyError: 3"):
        await result_of(paint, request_for())


async def test_a_typed_error_passes_as_it_is(request_for):
    async def paint(_: str) -> bytes:
        raise Moderated("not this one")

    with pytest.raises(Moderated, match="not this one"):
        await result_of(paint, request_for())


@pytest.mark.parametrize(("returned", "kind"), [(None, NoImage), ("text", NotAnImage), (7, NotAnImage)])
async def test_what_is_no_bytes_is_no_image(returned, kind, request_for):
    async def paint(_: str) -> object:
        return returned

    with pytest.raises(kind, match="paint returned"):
        await result_of(paint, request_for())


async def test_a_plain_function_is_told_to_become_a_coroutine_function(request_for):
    def paint(_: str):
        return b"x"

    with pytest.raises(BadRequest, match="write it as `async def paint"):
        await result_of(paint, request_for())


async def test_a_call_that_fails_before_it_runs_is_not_worth_another(request_for):
    def paint(*_: str):
        raise TypeError("paint() missing 1 required positional argument: 'size'")

    with pytest.raises(BadRequest, match="paint cannot be called: paint\\(\\) missing 1 required"):
        await result_of(paint, request_for())


async def two(prompt: str, size: int) -> bytes:
    return b""


def plain(prompt: str) -> bytes:
    return b""


def yields(prompt: str):
    yield b""


async def yields_too(prompt: str):
    yield b""


@pytest.mark.parametrize(
    ("paint", "told"),
    [
        (two, r"two cannot be called as two\(prompt\): missing a required argument: 'size'; for the request"),
        (
            lambda: b"",
            r"cannot be called as <lambda>\(prompt\): too many .*write `async def paint\(prompt\)`",
        ),
        (plain, r"plain is a plain function; write `async def plain\(prompt\)`"),
        (yields, "yields yields, and does not return an image"),
        (yields_too, "yields_too yields, and does not return an image"),
        (7, "int is not a function"),
    ],
)
def test_a_function_that_cannot_be_meant_is_refused_when_it_is_given(paint, told):
    with pytest.raises(InvalidSetting, match=told):
        CallableGenerator(paint)


def test_one_that_wants_the_request_must_take_the_reports_too():
    async def paint(request: GenerationRequest) -> bytes:
        return b""

    with pytest.raises(InvalidSetting, match=r"as paint\(request, report\): too many positional"):
        CallableGenerator.with_request(paint)  # type: ignore[arg-type]


class Painter:
    async def __call__(self, prompt: str) -> bytes:
        return prompt.encode()

    async def paint(self, prompt: str, size: int = 7) -> bytes:
        return prompt.encode()


@wraps(two)
def decorated(prompt: str) -> Awaitable[bytes]:
    return two(prompt, 7)


@pytest.mark.parametrize(
    "paint",
    [Painter(), Painter().paint, partial(two, size=7), decorated, lambda prompt: two(prompt, 7)],
    ids=["object", "method", "partial", "decorated", "lambda"],
)
async def test_whatever_gives_a_coroutine_is_taken(paint, request_for):
    assert isinstance(await result_of(paint, request_for("fox")), bytes)
