"""The compiler carries over what a strict flat chart may use, and refuses everything else by name."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from statemachine import Event, HistoryState, State

from limner.errors import ChartNotCompilable
from limner.states.compiler import StrictChart, compile_chart
from limner.states.table import Row

# The charts below are declared inside the tests, since a faulty one has to be refused there.


def is_open(subject: Any, cause: Any) -> bool:
    """A guard."""
    return bool(subject["open"])


def note(subject: Any, cause: Any) -> None:
    """An action."""
    subject["notes"].append(cause)


def count(subject: Any, cause: Any) -> None:
    """A second action."""
    subject["notes"].append("counted")


class Door(StrictChart):
    """A chart with everything that is carried over."""

    shut = State(initial=True)
    ajar = State()
    broken = State(final=True)

    push = shut.to(ajar, cond=is_open, on=[note, count]) | shut.to(shut, internal=True, unless=is_open)
    kick = shut.to(broken) | ajar.to(broken, on=note)


def refusal(chart: type[Any]) -> str:
    """The message with which the compiler refuses a chart."""
    with pytest.raises(ChartNotCompilable) as caught:
        compile_chart(chart)
    return str(caught.value)


def test_states_events_and_ends_are_carried_over():
    table = compile_chart(Door)
    assert table.name == "Door"
    assert table.initial == "shut"
    assert table.states == ("shut", "ajar", "broken")
    assert table.events == ("push", "kick")
    assert table.final == {"broken"}


def test_guards_actions_and_internal_transitions_are_carried_over_in_their_order():
    assert compile_chart(Door).rows == {
        ("shut", "push"): (
            Row("shut", "push", ((is_open, True),), "ajar", False, (note, count)),
            Row("shut", "push", ((is_open, False),), "shut", True, ()),
        ),
        ("shut", "kick"): (Row("shut", "kick", (), "broken", False, ()),),
        ("ajar", "kick"): (Row("ajar", "kick", (), "broken", False, (note,)),),
    }


def test_a_guard_given_by_name_is_refused():
    class Chart(StrictChart):
        a = State(initial=True)
        b = State(final=True)
        go = a.to(b, cond="ready and willing")
        ready = willing = True

    assert "guard 'ready and willing' must be a function object" in refusal(Chart)


def test_an_action_given_by_name_is_refused():
    class Chart(StrictChart):
        a = State(initial=True)
        b = State(final=True)
        go = a.to(b, on="shout")

        def shout(self) -> None:
            """Never called."""

    assert "action 'shout' must be a function object" in refusal(Chart)


def test_a_partial_function_is_refused():
    class Chart(StrictChart):
        a = State(initial=True)
        b = State(final=True)
        go = a.to(b, on=functools.partial(note, cause=1))

    assert "must be a function object" in refusal(Chart)


@pytest.mark.parametrize(
    "function",
    [
        lambda subject: True,
        lambda subject, event: True,
        lambda cause, subject: True,
        lambda subject, cause, more: True,
        lambda *subject, **cause: True,
        lambda subject, *, cause: True,
    ],
    ids=["missing", "renamed", "swapped", "more", "packed", "keyword-only"],
)
@pytest.mark.parametrize("role", ["cond", "on"])
def test_a_function_that_does_not_take_exactly_subject_and_cause_is_refused(function: Any, role: str):
    class Chart(StrictChart):
        a = State(initial=True)
        b = State(final=True)
        go = a.to(b, **{role: function})

    assert "<lambda> must take exactly (subject, cause)" in refusal(Chart)


def test_a_coroutine_function_is_refused_since_the_table_would_never_run_it():
    async def later(subject: Any, cause: Any) -> None:
        """Never awaited."""

    class Chart(StrictChart):
        a = State(initial=True)
        b = State(final=True)
        go = a.to(b, on=later)

    assert "action later must not be asynchronous" in refusal(Chart)


@pytest.mark.parametrize("group", ["before", "after", "validators"])
def test_callbacks_around_a_transition_are_refused(group: str):
    class Chart(StrictChart):
        a = State(initial=True)
        b = State(final=True)
        go = a.to(b, **{group: note})

    message = refusal(Chart)
    assert "from A to B" in message
    assert "has before, after or validator callbacks" in message


@pytest.mark.parametrize("group", ["enter", "exit", "invoke"])
def test_callbacks_of_a_state_are_refused(group: str):
    callbacks: dict[str, Any] = {group: note}

    class Chart(StrictChart):
        a = State(initial=True, **callbacks)
        b = State(final=True)
        go = a.to(b)

    assert refusal(Chart) == "Chart.a: entry, exit and invoke callbacks are not compiled"


def test_data_of_a_final_state_is_refused():
    class Chart(StrictChart):
        a = State(initial=True)
        b = State(final=True, donedata=note)
        go = a.to(b)

    assert "Chart.b: entry, exit" in refusal(Chart)


def test_nested_states_are_refused():
    class Chart(StrictChart):
        class a(State.Compound):
            inner = State(initial=True)
            other = State(final=True)
            step = inner.to(other)

        b = State(final=True)
        go = a.to(b)

    assert refusal(Chart) == "Chart.a: only flat states are compiled"


def test_parallel_states_are_refused():
    class Chart(StrictChart):
        class both(State.Parallel):
            class left(State.Compound):
                l1 = State(initial=True)
                l2 = State(final=True)
                step_left = l1.to(l2)

            class right(State.Compound):
                r1 = State(initial=True)
                r2 = State(final=True)
                step_right = r1.to(r2)

        end = State(final=True)
        go = both.to(end)

    assert refusal(Chart) == "Chart.both: only flat states are compiled"


def test_history_is_refused():
    class Chart(StrictChart):
        class a(State.Compound):
            inner = State(initial=True)
            other = State()
            step = inner.to(other)
            memory = HistoryState()

        away = State()
        end = State(final=True)
        leave = a.to(away)
        back = away.to(a.memory)
        stop = away.to(end)

    assert refusal(Chart) == "Chart.a: only flat states are compiled"


def test_an_eventless_transition_is_refused():
    class Chart(StrictChart):
        a = State(initial=True)
        b = State()
        c = State(final=True)
        a.to(b)
        go = b.to(c)

    assert "is eventless" in refusal(Chart)


def test_a_transition_without_a_target_is_refused():
    class Chart(StrictChart):
        a = State(initial=True)
        b = State(final=True)
        stay = a.to(None)
        go = a.to(b)

    assert "transition stay from A" in refusal(Chart)


def test_a_delayed_event_is_refused():
    class Chart(StrictChart):
        a = State(initial=True)
        b = State(final=True)
        go = Event(a.to(b), delay=50)

    assert "event 'go' is delayed" in refusal(Chart)


def test_a_wildcard_event_is_refused():
    class Chart(StrictChart):
        a = State(initial=True)
        b = State(final=True)
        a.to(b, event="*")

    assert "event '*' is delayed, internal or not a plain identifier" in refusal(Chart)


@pytest.mark.parametrize(
    "name", ["on_go", "before_go", "after_go", "on_enter_a", "on_exit_a", "on_transition", "prepare_event"]
)
def test_a_callback_by_naming_convention_is_refused(name: str):
    def hidden(self: Any) -> None:
        """Called by nobody here, but by the library's engine."""

    class Mixin:
        """Where it hides: the library looks at inherited names as well."""

    setattr(Mixin, name, hidden)

    class Chart(Mixin, StrictChart):
        a = State(initial=True)
        b = State(final=True)
        go = a.to(b)

    assert refusal(Chart) == f"Chart: callbacks by naming convention are not compiled: ['{name}']"


def test_listeners_are_refused():
    class Chart(StrictChart):
        listeners = [object]  # noqa: RUF012 - this is how the library declares them
        a = State(initial=True)
        b = State(final=True)
        go = a.to(b)

    assert refusal(Chart) == "Chart: listeners are not compiled"


@pytest.mark.parametrize(
    "flag",
    [
        "allow_event_without_transition",
        "catch_errors_as_events",
        "atomic_configuration_update",
        "enable_self_transition_entries",
    ],
)
def test_a_loosened_flag_is_refused(flag: str):
    wanted = getattr(StrictChart, flag)
    loose = type(f"Loose_{flag}", (StrictChart,), {flag: not wanted})

    class Chart(loose):  # type: ignore[valid-type, misc]
        a = State(initial=True)
        b = State(final=True)
        go = a.to(b)

    assert refusal(Chart) == f"Chart: {flag} must be {wanted}"
