"""A drawing in DOT, graphviz' language, laid out so that the happy path is one straight line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

from limner.adapters.diagrams.drawing import (
    FAINT_INK,
    HAPPY_FILL,
    HAPPY_LINE,
    INK,
    OTHER_FILL,
    OTHER_LINE,
    Arrow,
    ArrowKind,
    Box,
    Drawing,
    draw,
)
from limner.adapters.diagrams.sheets import Sheet

FONT = "Helvetica,Arial,sans-serif"
START = '"(start)"'

_ARROW_STYLES = {
    ArrowKind.HAPPY: f'color="{HAPPY_LINE}" fontcolor="{INK}" penwidth=2.2 weight=100',
    ArrowKind.PLAIN: f'color="#4a5a70" fontcolor="{INK}"',
    ArrowKind.TROUBLE: f'color="#8a929c" fontcolor="{FAINT_INK}" style=dashed',
}


def to_dot(sheet: Sheet) -> str:
    """The sheet's machine as the source of a directed graph."""
    drawing = draw(sheet)
    columns = _columns(drawing)
    lines = [
        f"digraph {_quoted(sheet.name)} {{",
        "  graph [rankdir=LR compound=true nodesep=0.3 ranksep=0.08 pad=0.15",
        f'    bgcolor="#ffffff" fontname="{FONT}" fontsize=11 fontcolor="{FAINT_INK}"',
        f"    tooltip={_quoted(sheet.title)}];",
        f'  node [shape=box style="rounded,filled" fontname="{FONT}" fontsize=13 fontcolor="{INK}"',
        '    margin="0.09,0.06" width=0.4 height=0.4];',
        f'  edge [fontname="{FONT}" fontsize=11 arrowsize=0.7];',
        f'  {START} [shape=circle label="" fillcolor="{INK}" group=happy',
        "    width=0.13 height=0.13 fixedsize=true];",
        *_boxes(sheet, drawing),
        f'  {START} -> {_quoted(drawing.initial)} [color="{INK}" weight=100];',
        *(_arrow(arrow, columns, sheet.label_width) for arrow in drawing.arrows),
        *_twins(drawing),
    ]
    if drawing.group:
        lines += [_way_out(arrow, columns, sheet.label_width) for arrow in drawing.group.arrows]
    return "\n".join([*lines, "}", ""])


def _boxes(sheet: Sheet, drawing: Drawing) -> Iterator[str]:
    members = drawing.group.members if drawing.group else ()
    if drawing.group:
        yield "  subgraph cluster_group {"
        yield f"    label={_quoted(drawing.group.title)} labeljust=l labelloc=b"
        yield '    style="rounded,dashed" color="#b4bac2" bgcolor="#fafbfc"'
        yield from (f"    {_node(box, sheet)}" for box in drawing.boxes if box.state in members)
        yield "  }"
    yield from (f"  {_node(box, sheet)}" for box in drawing.boxes if box.state not in members)


def _node(box: Box, sheet: Sheet) -> str:
    name = f"<b>{escape(box.state)}</b>" if box.happy else escape(box.state)
    internal = "".join(
        f'{escape(line)}<br align="left"/>'
        for text in box.internal
        for line in _listed(text, sheet.label_width)
    )
    small = f'<br/><font point-size="10.5">{internal}</font>' if internal else ""
    style = (
        f'fillcolor="{HAPPY_FILL}" color="{HAPPY_LINE}" group=happy'
        if box.happy
        else f'fillcolor="{OTHER_FILL}" color="{OTHER_LINE}"'
    )
    border = " peripheries=2" if box.final else ""
    tooltip = _quoted("\n".join([f"{box.state}: {sheet.meanings[box.state]}", *box.notes]))
    return f"{_quoted(box.state)} [label=<{name}{small}> {style}{border} tooltip={tooltip}];"


def _columns(drawing: Drawing) -> dict[str, float]:
    """Each state's place from left to right: as declared, but a detour stands before what it starts from."""
    columns = {box.state: float(place) for place, box in enumerate(drawing.boxes)}
    for box in drawing.boxes:
        sources = [columns[arrow.sources[0]] for arrow in drawing.arrows if arrow.target == box.state]
        targets = [columns[arrow.target] for arrow in drawing.arrows if arrow.sources[0] == box.state]
        if not box.happy and sources and targets and max(targets) < min(sources):
            columns[box.state] = min(sources) - 0.5
    return columns


def _arrow(arrow: Arrow, columns: dict[str, float], width: int) -> str:
    source, target = arrow.sources[0], arrow.target
    # An arrow back is declared forwards and drawn backwards, or it would pull its target to the right.
    if columns[target] < columns[source]:
        return f"  {_quoted(target)} -> {_quoted(source)} [dir=back {_style(arrow, width)}];"
    return f"  {_quoted(source)} -> {_quoted(target)} [{_style(arrow, width)}];"


def _twins(drawing: Drawing) -> Iterator[str]:
    # Crossing the happy path shall cost more than crossing another arrow; an unseen twin makes it so.
    for arrow in drawing.arrows:
        if arrow.kind is ArrowKind.HAPPY:
            yield f"  {_quoted(arrow.sources[0])} -> {_quoted(arrow.target)} [style=invis];"


def _way_out(arrow: Arrow, columns: dict[str, float], width: int) -> str:
    # The arrow starts in the frame's last column, so that its target comes to stand behind the frame.
    tail = max(arrow.sources, key=columns.__getitem__)
    return f"  {_quoted(tail)} -> {_quoted(arrow.target)} [ltail=cluster_group {_style(arrow, width)}];"


def _style(arrow: Arrow, width: int) -> str:
    shown = "<br/>".join(escape(line) for text in arrow.labels for line in _broken(text, width))
    # The table is there for its padding: a bare label touches its line.
    table = (
        f'<table border="0" cellborder="0" cellspacing="0" cellpadding="2"><tr><td>{shown}</td></tr></table>'
    )
    notes = _quoted("\n".join(arrow.notes))
    return f"{_ARROW_STYLES[arrow.kind]} label=<{table}> tooltip={notes} labeltooltip={notes}"


def _listed(text: str, width: int) -> list[str]:
    first, *more = _broken(text, width)
    return [f"· {first}", *(f"\u00a0\u00a0{line}" for line in more)]


def _broken(text: str, width: int) -> list[str]:
    """The text in lines of about `width` characters: the guard in its own, long names after an underscore."""
    lines = [""]
    for word in re.findall(r" ?[^ ]+", text):
        pieces = [word] if len(word) <= width + 1 else re.findall(r" ?[^_ ]+_?", word)
        for piece in pieces:
            if piece.startswith(" [") or len(lines[-1]) + len(piece) > width:
                lines.append("")
            lines[-1] += piece if lines[-1] else piece.lstrip()
    return lines


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
