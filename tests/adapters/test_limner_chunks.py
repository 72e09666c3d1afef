"""Streams of a client's chunks: they pass through as they are, and their text is illustrated."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from limner.errors import InvalidSetting
from tests.studio import Studio, tag

pytestmark = pytest.mark.anyio


def chunk(text: str | None, **more: object) -> dict[str, object]:
    """What an OpenAI-compatible server streams."""
    return {"choices": [{"index": 0, "delta": {"content": text, **more}}]}


async def test_chunks_pass_through_unchanged_and_their_text_is_illustrated():
    chunks = [chunk("Once "), chunk(None, tool_calls=[]), chunk(tag("a cat")), {"choices": [], "usage": {}}]
    async with Studio() as studio:
        passed = [piece async for piece in studio.limner.illustrate("m", chunks, text_of="openai")]
        assert all(one is other for one, other in zip(passed, chunks, strict=True))
        assert len((await studio.limner.finished("m")).placed) == 1
        assert (await studio.text("m")).startswith("Once " + tag("a cat"))


async def test_a_host_may_bring_its_own_way_to_the_text():
    pieces = [SimpleNamespace(words="Once "), SimpleNamespace(words=tag("a cat"))]
    async with Studio() as studio:
        async for _ in studio.limner.illustrate("m", pieces, text_of=lambda piece: str(piece.words)):
            pass
        assert len((await studio.limner.finished("m")).placed) == 1


async def test_a_chunk_that_is_not_known_names_the_ways_out_and_what_came_before_is_kept():
    async with Studio() as studio:
        with pytest.raises(InvalidSetting, match="text_of='openai', 'anthropic'"):
            async for _ in studio.limner.illustrate("m", [tag("a cat"), {"text": "?"}]):
                pass
        assert len((await studio.limner.finished("m")).placed) == 1


async def test_an_unknown_client_is_refused_before_anything_begins():
    async with Studio() as studio:
        with pytest.raises(InvalidSetting, match="text_of must be"):
            await anext(studio.limner.illustrate("m", ["Once"], text_of="opnai"))  # type: ignore[arg-type]
        assert studio.limner.sessions() == ()


@pytest.mark.parametrize("given", [None, "openai"])
async def test_a_whole_reply_is_refused_before_anything_begins(given: Any):
    reply = {"choices": [{"index": 0, "message": {"role": "assistant", "content": tag("a cat")}}]}
    async with Studio() as studio:
        with pytest.raises(
            InvalidSetting, match="whole reply; ask for it with stream=True, or pass its text"
        ):
            await anext(studio.limner.illustrate("m", reply, text_of=given))
        with pytest.raises(InvalidSetting, match="iterable of text, not dict"):
            await anext(studio.limner.illustrate("m", {"text": "Once"}, text_of=given))
        assert studio.limner.sessions() == ()


@pytest.mark.parametrize("given", [None, "openai", "anthropic", "langchain", "pydantic-ai"])
async def test_a_text_is_text_whatever_the_client(given: Any):
    async with Studio() as studio:
        async for _ in studio.limner.illustrate("m", [tag("a cat")], text_of=given):
            pass
        assert len((await studio.limner.finished("m")).placed) == 1
