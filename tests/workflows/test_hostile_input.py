"""Texts that nobody should send: the whole path does a bounded amount of work and loses nothing.

Work is counted in function calls, not in seconds: a busy machine must not fail a test.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from types import FrameType

import pytest

from limner.text import DEFAULT_PATTERNS, strip_illustrations
from tests.studio import Studio, split, tag
from tests.support import settle

pytestmark = pytest.mark.anyio

MEGABYTE = 1_000_000


async def calls_during(work: Callable[[], Awaitable[object]]) -> int:
    """How many functions, Python's and C's, are called while `work` runs."""
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        await work()
    finally:
        sys.setprofile(before)
    return calls


async def calls_to_illustrate(text: str, size: int) -> int:
    async with Studio() as studio:

        async def pieces() -> AsyncIterator[str]:
            yield "."
            await settle()  # a piece costs less while the session is opened, and how many come then is chance
            for piece in split(text, size):
                yield piece

        async def illustrate() -> None:
            async for _ in studio.limner.illustrate("m", pieces()):
                pass
            await studio.limner.finished("m")

        return await calls_during(illustrate)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("word and " * (MEGABYTE // 9), id="a megabyte of prose"),
        pytest.param('<img_prompt="' + "x" * MEGABYTE, id="a tag that never closes"),
        pytest.param("<!--img-prompt=" * (MEGABYTE // 15), id="beginnings without an end"),
        pytest.param("<think>" + tag("a cat") * (MEGABYTE // 20), id="reasoning that never ends"),
        pytest.param("![" * (MEGABYTE // 2), id="nested images that never close"),
        pytest.param("\ud83d" * (MEGABYTE // 4), id="broken Unicode"),
    ],
)
async def test_a_text_of_a_megabyte_costs_twice_what_half_of_it_costs(text: str):
    half = await calls_to_illustrate(text[: len(text) // 2], 1_000)
    whole = await calls_to_illustrate(text, 1_000)
    assert whole < 2.2 * half


async def test_a_tag_that_never_closes_is_no_prompt_and_the_text_is_kept():
    text = '<img_prompt="' + "x" * MEGABYTE
    async with Studio() as studio:
        result = await studio.illustrate("m", text, 10_000)
        assert (result.state, result.placed) == ("done", ())
        assert studio.painter.requests == []
        assert await studio.text("m") == text


async def test_a_prompt_of_a_hundred_kilobytes_is_painted_like_any_other():
    prompt = "a very detailed cat, " * 5_000
    async with Studio() as studio:
        [placed] = (await studio.illustrate("m", f"Once {tag(prompt)} end", 500)).placed
        assert studio.painter.prompts == [prompt.strip()]
        assert await studio.urls("m") == [placed.image_url]
        # The description of the image is cut, or each write would double the message.
        assert len(await studio.text("m")) < 1.5 * len(prompt)


async def test_ten_times_the_prompts_cost_far_from_a_hundred_times_the_work():
    async def cost(count: int) -> int:
        text = " ".join(tag(f"picture {number}") for number in range(count))
        return await calls_to_illustrate(text, 1_000)

    assert await cost(800) < 20 * await cost(80)


async def test_lone_surrogates_pass_through_unharmed_and_can_be_painted():
    text = "broken \ud83d here " + tag("a \udc00 cat") + " and \udfff there"
    async with Studio() as studio:
        assert "".join([piece async for piece in studio.limner.illustrate("m", split(text, 3))]) == text
        assert len((await studio.limner.finished("m")).placed) == 1
        assert studio.painter.prompts == ["a \udc00 cat"]
        assert strip_illustrations(await studio.text("m")) == text
        [url] = await studio.urls("m")
        await studio.limner.regenerate("m", url)
        await studio.tick(2_000)
        assert len((await studio.limner.finished("m")).placed) == 1


async def test_a_pair_of_surrogates_that_is_split_between_two_pieces_does_not_break_the_prompt():
    async with Studio() as studio:
        result = await studio.illustrate("m", tag("a cat 🐈 and NUL \x00"), 1)
        assert studio.painter.prompts == ["a cat 🐈 and NUL \x00"]
        assert len(result.placed) == 1


@pytest.mark.parametrize(
    "prompt",
    [
        r"\" onerror=\"alert(1)",
        "</title><script>alert(1)</script>",
        r"$1 \1 \g<0> {0} %s",
        "![x](javascript:alert(1))",
        "]]> --> --!>",
        "  \n\n  two lines \n\n ",
    ],
)
async def test_nothing_in_a_prompt_can_act_as_markup_or_as_a_replacement(prompt: str):
    async with Studio() as studio:
        text = f"before {tag(prompt)} after"
        [placed] = (await studio.illustrate("m", text)).placed
        assert await studio.urls("m") == [placed.image_url]
        assert strip_illustrations(await studio.text("m")) == text


@pytest.mark.parametrize("message_id", [" ", "a/b?c=d", "\ud83d", "'; DROP TABLE messages; --", "x" * 10_000])
async def test_any_text_can_be_a_message_id(message_id: str):
    async with Studio() as studio:
        assert len((await studio.illustrate(message_id, tag("a cat"))).placed) == 1
        [url] = await studio.urls(message_id)
        await studio.limner.regenerate(message_id, url)
        await studio.tick(2_000)
        assert len((await studio.limner.finished(message_id)).placed) == 1


async def test_a_users_pattern_that_backtracks_without_bound_does_not_hang_the_server():
    patterns = [*DEFAULT_PATTERNS, "(?:a|a|a|aa|aaa)+b(prompt)"]
    async with Studio(patterns=patterns) as studio:
        result = await studio.illustrate("m", f"{'a' * 5_000} {tag('a cat')}", 1_000)
        assert len(result.placed) == 1


async def test_a_slow_pattern_of_the_hosts_does_not_stop_a_seal_or_a_click():
    text = "<p:" + "a" * 40 + ' <img_prompt="a cat">'
    async with Studio(patterns=[*DEFAULT_PATTERNS, r"<p:((?:a|a)*)>"]) as studio:
        await studio.limner.seal("m", text)
        assert len((await studio.limner.finished("m")).placed) == 1
        await studio.limner.regenerate("m", (await studio.urls("m"))[0])
        await studio.tick(2_000)
        assert len((await studio.limner.finished("m")).placed) == 1


async def test_a_stored_message_with_very_many_tags_is_looked_through_in_one_pass():
    text = "".join(f"{tag(str(number))}" for number in range(20_000))
    async with Studio(max_concurrent=50, max_per_message=50, hold=True) as studio:
        await studio.limner.seal("m", text)
        assert studio.limner.counts("m").total == 1_000
        await studio.limner.cancel("m")
