"""A coroutine function as a generator."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from limner.adapters.callable import CallableGenerator
from limner.errors import BackendError, BadRequest, Moderated, NoImage, NotAnImage
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
    def paint(_: str) -> bytes:
        return b"x"

    with pytest.raises(BadRequest, match="write it as `async def paint"):
        await result_of(paint, request_for())  # type: ignore[arg-type]
