"""Which image belongs to which prompt, and what replaced what."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.errors import UnknownImage
from limner.states import Image, PlacedImage, Prompt, Session, SessionKind, SessionSettings
from limner.text import compile_patterns
from limner.workflows.ports import Engine
from limner.workflows.prompts import PromptRegistry, prompt_id, seed_of
from tests.studio import tag

PATTERNS = compile_patterns()


@given(st.lists(st.tuples(st.text(), st.text(), st.integers(0, 5)), unique=True, min_size=2, max_size=20))
def test_two_prompts_have_the_same_id_only_if_message_text_and_occurrence_are_the_same(
    prompts: list[tuple[str, str, int]],
):
    assert len({prompt_id(*prompt) for prompt in prompts}) == len(prompts)
    assert [prompt_id(*prompt) for prompt in prompts] == [prompt_id(*prompt) for prompt in prompts]


def test_what_belongs_to_the_message_and_what_to_the_prompt_is_not_confused():
    assert prompt_id("ab", "c", 0) != prompt_id("a", "bc", 0)


def test_broken_unicode_has_an_id_too():
    assert len(prompt_id("m", "a \ud83d cat", 0)) == 32


def test_a_seed_is_a_number_of_32_bits_that_differs_between_images():
    seeds = {seed_of(f"image {number}") for number in range(1_000)}
    assert len(seeds) == 1_000
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_finding_a_prompt_again_finds_the_same_node():
    registry = PromptRegistry()
    text = f"{tag('a cat')} {tag('a cat')} {tag('a dog')}"
    first = registry.detect_prompts_in_message("m", text, PATTERNS)
    again = registry.detect_prompts_in_message("m", f"Preface. {text}", PATTERNS)
    assert [node.text for node in first] == ["a cat", "a cat", "a dog"]
    assert [node.occurrence for node in first] == [0, 1, 0]
    assert all(one is other for one, other in zip(first, again, strict=True))


def test_an_image_that_was_linked_leads_back_to_its_prompt_however_its_address_is_written():
    registry = PromptRegistry()
    [node] = registry.detect_prompts_in_message("m", tag("a cat"), PATTERNS)
    registry.link_image_to_prompt("m", node.id, "https://Images.test/c%C3%A4t.png?a=1&b=2")
    assert registry.get_prompt_for_image("m", "https://images.test/cät.png?a=1&amp;b=2") is node
    assert registry.get_prompt_for_image("m", "https://images.test/dog.png") is None
    assert registry.get_prompt_for_image("n", "https://images.test/cät.png?a=1&b=2") is None


def test_a_prompt_keeps_the_history_of_its_images_oldest_first_and_each_once():
    registry = PromptRegistry()
    for url in ("1.png", "2.png", "1.png"):
        node = registry.keep_image("m", "a cat", 0, url)
    assert node.images == ["1.png", "2.png"]


def test_linking_to_a_prompt_that_is_not_registered_is_refused():
    registry = PromptRegistry()
    registry.detect_prompts_in_message("m", tag("a cat"), PATTERNS)
    with pytest.raises(KeyError):
        registry.link_image_to_prompt("m", "no such node", "1.png")


def test_successors_are_followed_to_the_last_one():
    registry = PromptRegistry()
    registry.link_successor("m", "1.png", "2.png")
    registry.link_successor("m", "2.png", "3.png")
    assert registry.successor_of("m", "1.png") == "3.png"
    assert registry.successor_of("m", "9.png") == "9.png"
    assert registry.successors("m") == {"1.png": "2.png", "2.png": "3.png"}


def test_a_circle_of_successors_ends():
    registry = PromptRegistry()
    registry.link_successor("m", "1.png", "2.png")
    registry.link_successor("m", "2.png", "1.png")
    assert registry.successor_of("m", "1.png") in {"1.png", "2.png"}
    registry.link_successor("m", "1.png", "1.png")
    assert registry.successors("m")["1.png"] == "2.png"


def test_an_image_is_adopted_by_the_prompt_that_it_follows():
    registry = PromptRegistry()
    text = f'{tag("a cat")} ![](old.png) <img src="older.png"> words {tag("a dog")}\n\n<img src=dog.png>'
    for url, prompt in (("old.png", "a cat"), ("older.png", "a cat"), ("dog.png", "a dog")):
        assert registry.adopt_image("m", url, text, PATTERNS).text == prompt
        node = registry.get_prompt_for_image("m", url)
        assert node is not None
        assert node.text == prompt


def test_an_image_that_was_adopted_counts_as_made_only_once_a_session_has_made_it():
    registry = PromptRegistry()
    assert not registry.is_made("m", "old.png")
    node = registry.adopt_image("m", "old.png", f"{tag('a cat')} ![](old.png)", PATTERNS)
    assert not registry.is_made("m", "old.png")
    registry.link_image_to_prompt("m", node.id, "new.png")
    assert registry.is_made("m", "new.png")
    registry.link_image_to_prompt("m", node.id, "old.png")
    assert registry.is_made("m", "old.png")


def test_an_image_is_adopted_by_the_very_occurrence_that_it_follows():
    registry = PromptRegistry()
    text = f'{tag("a cat")}<img src="1.png">{tag("a cat")}<img src="2.png">'
    assert registry.adopt_image("m", "2.png", text, PATTERNS).occurrence == 1


def steps_to_adopt(text: str, url: str) -> int:
    """How many lines of `adopt_image` run until the image is found, or is not."""
    steps = 0

    def count(frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        nonlocal steps
        steps += event == "line"
        return count if frame.f_code is PromptRegistry.adopt_image.__code__ else None

    before = sys.gettrace()
    sys.settrace(count)
    try:
        with suppress(UnknownImage):
            PromptRegistry().adopt_image("m", url, text, PATTERNS)
    finally:
        sys.settrace(before)
    return steps


@pytest.mark.parametrize(
    ("prompts", "words", "images"),
    [
        pytest.param(1, "", 1, id="each prompt has its image"),
        pytest.param(1, " words ", 1, id="no image follows a prompt"),
        pytest.param(400, "", 400, id="prompts first, images then"),
    ],
)
def test_an_image_is_looked_for_in_one_pass_over_prompts_and_images(prompts: int, words: str, images: int):
    def steps(times: int) -> int:
        repeat = times * 400 // prompts
        text = (tag("a cat") * prompts + words + '<img src="1.png">' * images) * repeat
        return steps_to_adopt(text + tag("a dog") + '<img src="last.png">', "last.png")

    assert 0 < steps(2) < 2.2 * steps(1)


@pytest.mark.parametrize("url", ["portrait.png", "far.png", "missing.png"])
def test_an_image_that_follows_no_prompt_is_not_adopted(url: str):
    text = f'<img src="portrait.png">{tag("a cat")} words <img src="far.png">'
    with pytest.raises(UnknownImage):
        PromptRegistry().adopt_image("m", url, text, PATTERNS)


def test_in_one_message_no_two_images_have_the_same_address():
    registry = PromptRegistry()
    urls = []
    for occurrence in range(3):
        url = registry.unique_url("m", "https://images.test/same.png")
        registry.keep_image("m", "a cat", occurrence, url)
        urls.append(url)
    assert urls == [
        "https://images.test/same.png",
        "https://images.test/same.png#2",
        "https://images.test/same.png#3",
    ]
    assert registry.unique_url("n", "https://images.test/same.png") == "https://images.test/same.png"


def test_only_so_many_messages_are_remembered_and_those_that_were_used_last():
    registry = PromptRegistry(keep_messages=2)
    registry.keep_image("a", "a cat", 0, "a.png")
    registry.keep_image("b", "a cat", 0, "b.png")
    registry.successors("a")  # used again
    registry.keep_image("c", "a cat", 0, "c.png")
    known = [
        registry.get_prompt_for_image(message_id, f"{message_id}.png") is not None for message_id in "abc"
    ]
    assert known == [True, False, True]


def test_a_message_can_be_forgotten():
    registry = PromptRegistry()
    registry.keep_image("m", "a cat", 0, "1.png")
    registry.forget(["m", "never known"])
    assert registry.get_prompt_for_image("m", "1.png") is None


# --- what an earlier process knew


class Past:
    """An engine that only remembers; counts how often it is asked."""

    def __init__(self, *sessions: Session, live: Session | None = None) -> None:
        self.sessions = sessions
        self.live = live
        self.asked = 0

    def live_session(self, message_id: str) -> Session | None:
        return self.live

    async def past_sessions(self, message_id: str) -> list[Session]:
        self.asked += 1
        return [session for session in self.sessions if session.message_id == message_id]


def replaced(old: str, new: str, session_id: str = "s", batch: int = 1) -> Session:
    """A session that has put `new` in the place of `old`."""
    prompt = Prompt(
        f"{session_id}.1",
        prompt_id("m", "a cat", 0),
        "a cat",
        0,
        batch,
        "completed",
        image=Image(new),
        placed=PlacedImage(f"{session_id}.1", new, old),
    )
    return Session(
        session_id, "m", SessionKind.REGENERATION, SessionSettings(), 0, "done", {prompt.id: prompt}
    )


@pytest.mark.anyio
async def test_images_and_their_successors_are_recalled_from_past_sessions():
    registry = PromptRegistry()
    await registry.recall("m", as_engine(Past(replaced("a.png", "b.png"), replaced("b.png", "c.png", "t"))))
    assert registry.successor_of("m", "a.png") == "c.png"
    node = registry.get_prompt_for_image("m", "b.png")
    assert node is not None
    assert (node.text, node.images) == ("a cat", ["b.png", "c.png"])


@pytest.mark.anyio
async def test_an_address_that_an_earlier_process_gave_away_is_not_given_away_again():
    registry = PromptRegistry()
    assert registry.unique_url("m", "b.png") == "b.png"
    await registry.recall("m", as_engine(Past(replaced("a.png", "b.png"))))
    assert registry.unique_url("m", "b.png") == "b.png#2"


@pytest.mark.anyio
async def test_what_is_known_already_is_newer_than_what_is_recalled():
    registry = PromptRegistry()
    registry.link_successor("m", "a.png", "new.png")
    await registry.recall("m", as_engine(Past(replaced("a.png", "old.png"))))
    assert registry.successor_of("m", "a.png") == "new.png"


@pytest.mark.anyio
async def test_a_message_is_recalled_once_and_again_when_it_was_dropped_meanwhile():
    registry, past = PromptRegistry(), Past(replaced("a.png", "b.png"))
    for _ in range(3):
        await registry.recall("m", as_engine(past))
    assert past.asked == 1
    registry.forget(["m"])
    await registry.recall("m", as_engine(past))
    assert past.asked == 2
    assert registry.successor_of("m", "a.png") == "b.png"


@pytest.mark.anyio
async def test_what_the_live_session_has_made_is_recalled_too_if_it_was_dropped():
    registry, live = PromptRegistry(), replaced("a.png", "b.png")
    await registry.recall("m", as_engine(Past(live=live)))
    assert registry.unique_url("m", "b.png") == "b.png#2"


def as_engine(past: Past) -> Engine:
    return cast("Engine", past)
