"""A table takes the first transition whose guards hold, runs its actions, and refuses everything else."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from limner.errors import EventRefused
from limner.states.table import Row, Table


def is_big(subject: list[Any], cause: Any) -> bool:
    return len(subject) > 1


def is_named(subject: list[Any], cause: Any) -> bool:
    return cause is not None


def keep(subject: list[Any], cause: Any) -> None:
    subject.append(cause)


def mark(subject: list[Any], cause: Any) -> None:
    subject.append("mark")


TABLE = Table(
    name="Box",
    initial="shut",
    states=("shut", "open"),
    events=("fill", "lift"),
    final=frozenset({"open"}),
    rows=MappingProxyType(
        {
            ("shut", "fill"): (
                Row("shut", "fill", ((is_big, True), (is_named, True)), "open", False, (keep, mark)),
                Row("shut", "fill", ((is_big, False),), "shut", True, (keep,)),
            ),
            ("shut", "lift"): (
                Row("shut", "lift", (), "open", False, ()),
                Row("shut", "lift", (), "shut", False, (mark,)),
            ),
        }
    ),
)


def test_the_first_transition_whose_guards_hold_is_taken_and_its_actions_run_in_order():
    subject = [1, 2]
    assert TABLE.step("shut", "fill", subject, "x") == "open"
    assert subject == [1, 2, "x", "mark"]


def test_a_later_transition_is_taken_where_an_earlier_ones_guard_says_no():
    subject: list[Any] = []
    assert TABLE.step("shut", "fill", subject, "x") == "shut"
    assert subject == ["x"]


def test_of_two_open_transitions_only_the_first_is_taken():
    subject: list[Any] = []
    assert TABLE.step("shut", "lift", subject, None) == "open"
    assert subject == []


def test_an_event_that_no_guard_lets_through_is_refused_and_no_action_runs():
    subject = [1, 2]
    with pytest.raises(EventRefused) as refusal:
        TABLE.step("shut", "fill", subject, None)
    assert (refusal.value.machine, refusal.value.state, refusal.value.event) == ("Box", "shut", "fill")
    assert subject == [1, 2]


@pytest.mark.parametrize(("state", "event"), [("open", "fill"), ("shut", "unheard"), ("nowhere", "fill")])
def test_a_pair_that_is_not_declared_is_refused(state: str, event: str):
    with pytest.raises(EventRefused, match=f"Box: {event} is not accepted in state {state}"):
        TABLE.step(state, event, [], None)


def test_accepts_tells_what_is_declared_whatever_the_guards_say():
    assert TABLE.accepts("shut", "fill")
    assert not TABLE.accepts("open", "fill")
    assert not TABLE.accepts("shut", "unheard")
