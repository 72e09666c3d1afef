"""What a picture of a machine shows, before it is put in any language.

The Mermaid and the DOT text are two spellings of one `Drawing`, so they cannot show different machines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from limner.adapters.diagrams.sheets import Sheet
from limner.states.table import Row, Table

ELSE = "else"
"""The UML's word for a transition that is taken when no guarded one before it was."""

GROUP_FROM = 3
"""From this many equal ways out on, drawing each of them would bury the rest."""


# Light boxes with dark text and visible frames, because the page behind may be light or dark.
INK = "#1f2733"
FAINT_INK = "#6b7480"
HAPPY_FILL = "#e3edfb"
HAPPY_LINE = "#1d4f9c"
OTHER_FILL = "#f1f3f6"
OTHER_LINE = "#6b7480"


class ArrowKind(Enum):
    """How an arrow is drawn."""

    HAPPY = "happy"
    PLAIN = "plain"
    TROUBLE = "trouble"
    """Leads to an end that is not the happy one."""


@dataclass(frozen=True, slots=True)
class Arrow:
    """Transitions that one arrow stands for: all with this target, each with one of these sources.

    `labels` are what stands at it, `notes` one full line for each transition, with its actions.
    """

    sources: tuple[str, ...]
    target: str
    kind: ArrowKind
    labels: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Box:
    """A state, with the labels of the internal transitions listed in it and one full line for each."""

    state: str
    final: bool
    happy: bool
    internal: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """States that the same events lead out of, to the same targets, without a guard.

    They stand in one frame, and `arrows` leave the frame instead of each state.
    """

    title: str
    members: tuple[str, ...]
    arrows: tuple[Arrow, ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """Boxes in the order of declaration, the arrows between them, and the frame, if there is one."""

    initial: str
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    group: Group | None


def all_rows(table: Table) -> Iterator[Row]:
    """Every transition: by state, then by event, then in the order in which they are tried."""
    for state in table.states:
        for event in table.events:
            yield from table.rows.get((state, event), ())


def guard_text(table: Table, row: Row) -> str:
    """What must hold for the transition, in words; empty where it is always taken."""
    if not row.guards:
        return ELSE if table.rows[row.source, row.event][0] is not row else ""
    return " and ".join(
        guard.__name__ if expected else f"not {guard.__name__}" for guard, expected in row.guards
    )


def label(table: Table, row: Row) -> str:
    """The transition as `event [guard]`."""
    guard = guard_text(table, row)
    return f"{row.event} [{guard}]" if guard else row.event


def note(table: Table, row: Row) -> str:
    """The transition in full: `state: event [guard] → target (actions)`."""
    actions = ", ".join(action.__name__ for action in row.actions)
    return f"{row.source}: {label(table, row)} → {row.target}" + (f" ({actions})" if actions else "")


def draw(sheet: Sheet) -> Drawing:
    """The picture of the sheet's machine."""
    table = sheet.table
    group = _group(sheet)
    ways_out = {(arrow.labels[0], arrow.target) for arrow in group.arrows} if group else set()
    members = group.members if group else ()
    lone = [
        row
        for row in all_rows(table)
        if not _stays(row) and not (row.source in members and (row.event, row.target) in ways_out)
    ]
    boxes = tuple(_box(sheet, state) for state in table.states)
    return Drawing(table.initial, boxes, tuple(_merged(sheet, lone)), group)


def _box(sheet: Sheet, state: str) -> Box:
    table = sheet.table
    internal = [row for row in all_rows(table) if row.source == state and _stays(row)]
    return Box(
        state,
        state in table.final,
        state in sheet.happy_path,
        tuple(label(table, row) for row in internal),
        tuple(note(table, row) for row in internal),
    )


def _stays(row: Row) -> bool:
    return row.internal and row.source == row.target


def _kind(sheet: Sheet, row: Row) -> ArrowKind:
    path = sheet.happy_path
    if (row.source, row.event, row.target) in zip(path[::2], path[1::2], path[2::2], strict=False):
        return ArrowKind.HAPPY
    if row.target in sheet.table.final and row.target not in path:
        return ArrowKind.TROUBLE
    return ArrowKind.PLAIN


def _merged(sheet: Sheet, rows: Sequence[Row]) -> Iterator[Arrow]:
    bundles: dict[tuple[str, str, ArrowKind], list[Row]] = {}
    for row in rows:
        bundles.setdefault((row.source, row.target, _kind(sheet, row)), []).append(row)
    for (source, target, kind), bundle in bundles.items():
        labels = tuple(label(sheet.table, row) for row in bundle)
        yield Arrow((source,), target, kind, labels, tuple(note(sheet.table, row) for row in bundle))


def _group(sheet: Sheet) -> Group | None:
    table = sheet.table
    ways: dict[tuple[str, str], list[Row]] = {}
    for row in all_rows(table):
        alone = len(table.rows[row.source, row.event]) == 1
        if alone and not row.guards and not _stays(row):
            ways.setdefault((row.event, row.target), []).append(row)
    frames = [tuple(row.source for row in way) for way in ways.values()]
    members = max(frames, key=len, default=())
    if len(members) < GROUP_FROM:
        return None
    # Frames that overlap cannot be drawn, so there is one; whoever shares it leaves it by its own arrow.
    arrows = tuple(
        Arrow(members, target, _kind(sheet, way[0]), (event,), tuple(note(table, row) for row in way))
        for ((event, target), way), frame in zip(ways.items(), frames, strict=True)
        if frame == members
    )
    return Group(sheet.group_title, members, arrows)
