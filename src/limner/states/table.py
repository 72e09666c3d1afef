"""The compiled form of a state chart: one dictionary look-up an event, and nothing else.

A chart (`SessionMachine`, `PromptMachine`) is what people read; a `Table` is what the core runs.
`compile_chart` makes the one from the other at import, so there is no second list of transitions to keep in
step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from limner.errors import EventRefused

Guard = Callable[[Any, Any], bool]
Action = Callable[[Any, Any], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One transition: taken when every guard gives the expected value.

    `guards` holds (function, expected value) pairs, tried in order; `actions` run in order before the
    state changes. An `internal` transition stays where it is and restarts nothing by itself.
    """

    source: str
    event: str
    guards: tuple[tuple[Guard, bool], ...]
    target: str
    internal: bool
    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """All transitions of one machine, by (state, event), in the order in which they are tried."""

    name: str
    initial: str
    states: tuple[str, ...]
    events: tuple[str, ...]
    final: frozenset[str]
    rows: Mapping[tuple[str, str], tuple[Row, ...]]

    def step(self, state: str, event: str, subject: Any, cause: Any) -> str:
        """Run one event: take the first transition whose guards hold, run its actions, return its target.

        `subject` is what the guards look at and the actions change, `cause` the event's data. Raises
        `EventRefused` where nothing is declared or no guard lets the event through; then no action
        has run.
        """
        for row in self.rows.get((state, event), ()):
            for guard, expected in row.guards:
                if guard(subject, cause) is not expected:
                    break
            else:
                for action in row.actions:
                    action(subject, cause)
                return row.target
        raise EventRefused(self.name, state, event)

    def accepts(self, state: str, event: str) -> bool:
        """Whether some transition is declared for the pair, whatever its guards say."""
        return (state, event) in self.rows
