"""Compiles a python-statemachine chart into a `Table`, and refuses whatever it would not carry over.

Why not run the library's own engine: it costs about 0.5 ms and 60 kB to make an instance and 0.2 ms an
event, and its asynchronous form needs asyncio. A chat server has thousands of sessions. The engine
stays the oracle: tests run every state, event and guard outcome through both.

What a chart may use: flat states, one initial state, events, internal transitions, `cond` and `unless`
given as function objects, `on` actions given as function objects. Each function takes exactly
`(subject, cause)`. Everything else (nesting, history, parallel regions, eventless or delayed
transitions, entry and exit callbacks, validators, callbacks by naming convention, listeners) raises
`ChartNotCompilable` at import, which is when the author is looking.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from types import MappingProxyType
from typing import Any

from statemachine import StateChart
from statemachine.transition import Transition

from limner.errors import ChartNotCompilable
from limner.states.table import Row, Table

PARAMETERS = ["subject", "cause"]
CONVENTION_PREFIXES = ("on_", "before_", "after_", "prepare_")


class StrictChart(StateChart[Any]):
    """The base of every chart here: unknown events raise, errors are not turned into events."""

    allow_event_without_transition = False
    catch_errors_as_events = False
    atomic_configuration_update = True
    enable_self_transition_entries = False


def compile_chart(chart: type[StateChart[Any]]) -> Table:
    """The table of `chart`. Raises `ChartNotCompilable` with the offending part's name."""
    name = chart.__name__
    _refuse_loose_flags(chart)
    _refuse_hidden_callbacks(chart)
    rows: dict[tuple[str, str], list[Row]] = {}
    for state in chart.states:
        if state.states or state.history or state.parallel:
            raise ChartNotCompilable(f"{name}.{state.id}: only flat states are compiled")
        if _declared([*state.enter, *state.exit, *state.invoke]):
            raise ChartNotCompilable(f"{name}.{state.id}: entry, exit and invoke callbacks are not compiled")
        for transition in state.transitions:
            for row in _rows_of(name, transition):
                rows.setdefault((row.source, row.event), []).append(row)
    return Table(
        name=name,
        initial=chart.initial_state.id,
        states=tuple(state.id for state in chart.states),
        events=tuple(dict.fromkeys(event for _, event in rows)),
        final=frozenset(state.id for state in chart.states if state.final),
        rows=MappingProxyType({pair: tuple(found) for pair, found in rows.items()}),
    )


def _rows_of(name: str, transition: Transition) -> Iterable[Row]:
    if transition.is_eventless or transition.target is None or len(transition.targets) != 1:
        raise ChartNotCompilable(f"{name}: {transition} is eventless or has not exactly one target")
    if _declared([*transition.before, *transition.after, *transition.validators]):
        raise ChartNotCompilable(f"{name}: {transition} has before, after or validator callbacks")
    guards = tuple((_function(name, spec, "guard"), bool(spec.expected_value)) for spec in transition.cond)
    actions = tuple(_function(name, spec, "action") for spec in _declared(transition.on))
    for event in transition.events:
        if event.delay or event.internal or not event.id.isidentifier():
            raise ChartNotCompilable(
                f"{name}: event {event.id!r} is delayed, internal or not a plain identifier"
            )
        yield Row(
            source=transition.source.id,
            event=event.id,
            guards=guards,
            target=transition.target.id,
            internal=transition.internal,
            actions=actions,
        )


def _declared(specs: Iterable[Any]) -> list[Any]:
    # The library adds a by-name entry for each naming convention, whether or not such a method exists.
    return [spec for spec in specs if not spec.is_convention]


def _function(name: str, spec: Any, what: str) -> Any:
    if not inspect.isfunction(spec.func):
        raise ChartNotCompilable(f"{name}: {what} {spec.func!r} must be a function object, not a name")
    if inspect.iscoroutinefunction(spec.func):
        raise ChartNotCompilable(f"{name}: {what} {spec.func.__name__} must not be asynchronous")
    parameters = inspect.signature(spec.func).parameters.values()
    if [parameter.name for parameter in parameters] != PARAMETERS or any(
        parameter.kind is not parameter.POSITIONAL_OR_KEYWORD for parameter in parameters
    ):
        raise ChartNotCompilable(f"{name}: {what} {spec.func.__name__} must take exactly (subject, cause)")
    return spec.func


def _refuse_loose_flags(chart: type[StateChart[Any]]) -> None:
    for flag in (
        "allow_event_without_transition",
        "catch_errors_as_events",
        "atomic_configuration_update",
        "enable_self_transition_entries",
    ):
        if getattr(chart, flag) is not getattr(StrictChart, flag):
            raise ChartNotCompilable(f"{chart.__name__}: {flag} must be {getattr(StrictChart, flag)}")


def _refuse_hidden_callbacks(chart: type[StateChart[Any]]) -> None:
    own = [base for base in chart.__mro__ if base not in StateChart.__mro__]
    hidden = sorted(
        name
        for base in own
        for name, value in vars(base).items()
        if name.startswith(CONVENTION_PREFIXES) and callable(value)
    )
    if hidden:
        raise ChartNotCompilable(
            f"{chart.__name__}: callbacks by naming convention are not compiled: {hidden}"
        )
    # The library has no public name for listeners that are declared on the class (3.2.2).
    if getattr(chart, "_class_listeners", None):
        raise ChartNotCompilable(f"{chart.__name__}: listeners are not compiled")
