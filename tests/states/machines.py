"""Runs the core with other tables than its own: recording ones, and ones that are broken on purpose."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from limner.states.prompt import PROMPT
from limner.states.session import SESSION
from limner.states.table import Row, Table

Spot = tuple[str, str, str, int]
"""A row's place: machine, state, event, and which of the pair's rows it is."""


def spots(table: Table) -> Iterator[tuple[Spot, Row]]:
    """Every row of a table with its place."""
    for (state, event), rows in table.rows.items():
        for index, row in enumerate(rows):
            yield (table.name, state, event, index), row


def describe(spot: Spot) -> str:
    """A row's place in words."""
    machine, state, event, index = spot
    return f"{machine} {state}: {event}" + (f" #{index + 1}" if index else "")


def with_row(table: Table, spot: Spot, row: Row | None) -> Table:
    """The table with one row put in place of the one at `spot`, or without it (None)."""
    _, state, event, index = spot
    rows = list(table.rows[state, event])
    rows[index : index + 1] = [] if row is None else [row]
    changed = {**table.rows, (state, event): tuple(rows)}
    if not rows:
        del changed[state, event]
    return replace(table, rows=MappingProxyType(changed))


def recording(table: Table, taken: set[Spot]) -> Table:
    """The table with every row noting in `taken` that it was taken."""
    rows: dict[tuple[str, str], tuple[Row, ...]] = {}
    for spot, row in spots(table):

        def note(subject: Any, cause: Any, spot: Spot = spot) -> None:
            taken.add(spot)

        pair = (row.source, row.event)
        rows[pair] = (*rows.get(pair, ()), replace(row, actions=(*row.actions, note)))
    return replace(table, rows=MappingProxyType(rows))


@dataclass(frozen=True)
class _Binding:
    module: Any
    name: str
    table: Table


@contextmanager
def machines(session: Table = SESSION, prompt: Table = PROMPT) -> Iterator[None]:
    """Let the core run these tables instead of its own, wherever it has bound them."""
    substitutes = {id(SESSION): session, id(PROMPT): prompt}
    bindings = [
        _Binding(module, name, value)
        for module_name, module in list(sys.modules.items())
        if module_name.partition(".states")[0] == "limner"
        for name, value in vars(module).items()
        if isinstance(value, Table) and id(value) in substitutes
    ]
    try:
        for binding in bindings:
            setattr(binding.module, binding.name, substitutes[id(binding.table)])
        yield
    finally:
        for binding in bindings:
            setattr(binding.module, binding.name, binding.table)
