"""What a person reads of the pictures while waiting."""

from __future__ import annotations

from typing import Any

from limner.adapters.proxy.progress import ProgressLines
from limner.states import Problem
from limner.workflows.progress_events import PromptProgress


def step(prompt_id: str, state: str, **more: Any) -> PromptProgress:
    return PromptProgress("m", "s", prompt_id, f"prompt {prompt_id}", state, **more)


def test_each_step_of_a_picture_is_told_once():
    lines = ProgressLines(["a"])
    assert list(lines.take(step("a", "queued"))) == []
    assert list(lines.take(step("a", "generating"))) == ["[limner] painting: prompt a\n"]
    assert list(lines.take(step("a", "generating", fraction=0.5))) == []
    assert list(lines.take(step("a", "completed"))) == ["[limner] 1/1 painted: prompt a\n"]


def test_pictures_count_before_they_are_heard_of():
    # The first one is often ready when the text ends; of the others nothing is known then.
    lines = ProgressLines(["a", "b"])
    assert list(lines.take(step("a", "completed"))) == ["[limner] 1/2 painted: prompt a\n"]
    assert lines.summary == "1/2"


def test_a_picture_that_is_found_later_counts_from_then_on():
    lines = ProgressLines(["a"])
    list(lines.take(step("b", "generating")))
    assert lines.summary == "0/2"


def test_what_waits_is_told_once_with_the_reason_where_there_is_one():
    lines = ProgressLines(["a", "b", "c", "d"])
    busy = Problem("rate_limited", "it has\nenough to do")
    for event in (
        step("a", "generating"),
        step("b", "queued"),
        step("c", "waiting", problem=busy),
    ):
        list(lines.take(event))
    assert list(lines.held_back()) == [
        "[limner] waiting: prompt b\n",
        "[limner] waiting: prompt c (it has enough to do)\n",
    ]
    assert list(lines.held_back()) == []
    list(lines.take(step("d", "queued")))
    assert list(lines.held_back()) == ["[limner] waiting: prompt d\n"]


def test_what_comes_to_nothing_is_told_with_the_reason():
    lines = ProgressLines(["a", "b"])
    refused = Problem("moderated", "the picture was refused")
    assert list(lines.take(step("a", "failed", problem=refused))) == [
        "[limner] 1/2 no picture of: prompt a (the picture was refused)\n"
    ]
    assert list(lines.take(step("b", "cancelled"))) == ["[limner] 2/2 no picture of: prompt b (cancelled)\n"]
