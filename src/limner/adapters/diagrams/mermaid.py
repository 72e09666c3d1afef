"""A drawing as a Mermaid state diagram, which GitHub and many editors show in place of the text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from limner.adapters.diagrams.drawing import (
    FAINT_INK,
    HAPPY_FILL,
    HAPPY_LINE,
    INK,
    OTHER_FILL,
    OTHER_LINE,
    Arrow,
    Box,
    Drawing,
    draw,
)
from limner.adapters.diagrams.sheets import Sheet

SEVERAL = "several_states"

_HAPPY = f"fill:{HAPPY_FILL},stroke:{HAPPY_LINE},color:{INK}"
_OTHER = f"fill:{OTHER_FILL},stroke:{OTHER_LINE},color:{INK}"
_END = "stroke-width:4px"
_SEVERAL = f"fill:{OTHER_FILL},stroke:{OTHER_LINE},color:{FAINT_INK},stroke-dasharray:4 3"


def to_mermaid(sheet: Sheet) -> str:
    """The sheet's machine as `stateDiagram-v2`."""
    drawing = draw(sheet)
    lines = [
        f"%% {sheet.title}",
        "stateDiagram-v2",
        f"    classDef happy {_HAPPY}",
        f"    classDef happyEnd {_HAPPY},{_END}",
        f"    classDef other {_OTHER}",
        f"    classDef otherEnd {_OTHER},{_END}",
        f"    classDef several {_SEVERAL}",
        f"    [*] --> {drawing.initial}",
        *_arrows(_side_roads_first(drawing)),
    ]
    if drawing.group:
        lines += [
            f'    state "{",<br>".join(drawing.group.members)}" as {SEVERAL}',
            f"    class {SEVERAL} several",
            *(f"    {SEVERAL} --> {arrow.target} : {arrow.labels[0]}" for arrow in drawing.group.arrows),
        ]
    for box in drawing.boxes:
        lines += _box(box)
    return "\n".join([*lines, ""])


def _side_roads_first(drawing: Drawing) -> list[Arrow]:
    # Mermaid walks the arrows in this order and takes those that close a circle for the ones that lead back.
    main_road = {box.state for box in drawing.boxes if box.happy or box.final}
    return sorted(drawing.arrows, key=lambda arrow: arrow.target in main_road)


def _arrows(arrows: Iterable[Arrow]) -> Iterator[str]:
    for arrow in arrows:
        for label in arrow.labels:
            yield f"    {arrow.sources[0]} --> {arrow.target} : {label.replace(' [', '<br>[')}"


def _box(box: Box) -> Iterator[str]:
    yield f"    class {box.state} {'happy' if box.happy else 'other'}{'End' if box.final else ''}"
    if box.internal:
        yield f"    {box.state} : {box.state}"
        yield from (f"    {box.state} : {text}" for text in box.internal)
