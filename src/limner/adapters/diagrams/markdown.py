"""A machine as a Markdown page: the picture, every transition, what each state answers, what words mean."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import get_args

from limner.adapters.diagrams.drawing import all_rows, guard_text
from limner.adapters.diagrams.mermaid import to_mermaid
from limner.adapters.diagrams.sheets import Sheet
from limner.errors import InternalError
from limner.states.events import Event
from limner.states.table import Row, Table

HOW_TO_READ = "How to read it: [docs/machines.md](../docs/machines.md)."
HOW_TRANSITIONS_WORK = (
    "Transitions of one state and event are tried from top to bottom; the first whose guard holds is taken. "
    "An internal one stays in its state. Actions run in order, before the state changes."
)
REFUSED = "✗"
STAYS = "stays"


def to_markdown(sheet: Sheet) -> str:
    """The page. Raises `InternalError` where a guard, an action or an event's class has no docstring."""
    table = sheet.table
    rows = list(all_rows(table))
    blocks = [
        f"# {sheet.title}",
        f"Written by `limner diagrams` from `{table.name}`; do not edit. {HOW_TO_READ}",
        f"```mermaid\n{to_mermaid(sheet)}```",
        f"## All {len(rows)} transitions",
        HOW_TRANSITIONS_WORK,
        _grid(
            ["State", "Event", "Guard", "Next state", "Kind", "Actions"],
            [_transition(table, row) for row in rows],
        ),
        "## What each state makes of each event",
        f"*{STAYS}*: an internal transition. {REFUSED}: refused with `EventRefused`; nothing changes.",
        _grid(["", *map(_code, table.states)], _answers(table)),
        "## States",
        _grid(["State", "Meaning"], _states(sheet)),
        "## Events",
        _grid(["Event", "Meaning"], _events(table)),
        "## Guards",
        _grid(["Guard", "Meaning"], _functions(guard for row in rows for guard, _ in row.guards)),
        "## Actions",
        _grid(["Action", "Meaning"], _functions(action for row in rows for action in row.actions)),
    ]
    return "\n\n".join(blocks) + "\n"


def _transition(table: Table, row: Row) -> list[str]:
    return [
        _code(row.source),
        _code(row.event),
        _guard(table, row),
        _code(row.target),
        "internal" if row.internal else "external",
        ", ".join(_code(action.__name__) for action in row.actions),
    ]


def _guard(table: Table, row: Row) -> str:
    text = guard_text(table, row)
    return _code(text) if row.guards else text


def _answers(table: Table) -> Iterator[list[str]]:
    for event in table.events:
        yield [_code(event), *(_answer(table, state, event) for state in table.states)]


def _answer(table: Table, state: str, event: str) -> str:
    ways: list[str] = []
    for row in table.rows.get((state, event), ()):
        target = f"*{STAYS}*" if row.internal else _code(row.target)
        if not row.guards:
            return "<br>".join([*ways, f"else {target}" if ways else target])
        ways.append(f"{target} if {_guard(table, row)}")
    return "<br>".join([*ways, f"else {REFUSED}"]) if ways else REFUSED


def _states(sheet: Sheet) -> Iterator[list[str]]:
    table = sheet.table
    for state in table.states:
        mark = " (initial)" if state == table.initial else " (final)" if state in table.final else ""
        yield [_code(state) + mark, sheet.meanings[state]]


def _events(table: Table) -> Iterator[list[str]]:
    from_outside = {kind.name: kind for kind in get_args(Event)}
    for event in table.events:
        kind = from_outside.get(event)
        if kind is None:
            yield [_code(event), "Raised by the core itself: a timer, or what follows from another event."]
        else:
            yield [_code(event), f"`{kind.__name__}`: {_first_line(kind)}"]


def _functions(functions: Iterable[Callable[..., object]]) -> Iterator[list[str]]:
    for function in sorted(set(functions), key=lambda function: function.__name__):
        yield [_code(function.__name__), _first_line(function)]


def _first_line(thing: Callable[..., object]) -> str:
    text = inspect.getdoc(thing)
    if not text:
        raise InternalError(f"{thing.__name__} has no docstring, so the diagrams cannot say what it means")
    return text.splitlines()[0]


def _code(name: str) -> str:
    return f"`{name}`"


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join([_line(head), _line(["---"] * len(head)), *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
