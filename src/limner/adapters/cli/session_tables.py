"""Sessions and their histories as a person reads them: tables on a terminal, in local time.

Ids, prompts and addresses are somebody else's text, so each passes through `one_line`, which leaves nothing
that a terminal would obey.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise, takewhile

from rich.console import Console
from rich.table import Table
from rich.text import Text

from limner.adapters.journal_format import EventRow
from limner.adapters.journal_reader import SessionHistory, SessionSummary
from limner.adapters.sniffing import one_line
from limner.states import (
    CancelRequested,
    Event,
    GenerationAccepted,
    GenerationFailed,
    GenerationStarted,
    GenerationSucceeded,
    InsertionFailed,
    InsertionWritten,
    Problem,
    Prompt,
    PromptFound,
    RegenerationRequested,
    StreamEnded,
)

_SHORT_ID = 8
_LONGEST, _LONGEST_ADDRESS = 400, 4_000
_LEAST = 8
_GAP = "  "
_NUMBERS = {"images", "took", "tries"}
_NARROW = 110
"""Characters; a narrower terminal is shown fewer things, and those whole."""
_STYLES = {
    "done": "green",
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
}
_UNDER_WAY = "cyan"
_EXACT = "%Y-%m-%d %H:%M:%S.%f"


def print_sessions(console: Console, sessions: Sequence[SessionSummary], show_one: str) -> None:
    """A line for each session, and their number. `show_one` is the command that shows one of them."""
    if not sessions:
        console.print("no sessions")
        return
    narrow = console.width < _NARROW
    columns = ["session", "message", "kind", "state", "images", "began", "took", "problem"]
    if narrow:
        columns.remove("kind")
    length = _telling([session.id for session in sessions]) if console.is_terminal else _LONGEST
    rows = [_row(session, id_length=length, narrow=narrow) for session in sessions]
    _print_table(console, columns, rows, cut={"message", "problem"})
    live = sum(session.live for session in sessions)
    number = f"{len(sessions):,} session" + ("" if len(sessions) == 1 else "s")
    console.print(f"{number}, {live:,} live. One of them: {show_one}", style="dim", soft_wrap=True)


def _telling(ids: Sequence[str]) -> int:
    """How many characters of each id it takes to tell them all apart, and not fewer than look like an id."""
    # In order, those that are most alike stand side by side.
    alike = (
        sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
        for one, other in pairwise(sorted(ids))
    )
    return max(_SHORT_ID, 1 + max(alike, default=0))


def _row(session: SessionSummary, *, id_length: int, narrow: bool) -> list[Text]:
    counts = session.prompts
    failed = [f"{counts.failed} failed"] if counts.failed else []
    lost = [f"lost: {', '.join(session.missing)}"] if session.missing else []
    kind = [] if narrow else [_plain(session.kind)]
    return [
        _plain(session.id[:id_length]),
        _plain(session.message_id),
        *kind,
        _state(session.state),
        Text(f"{counts.completed}/{counts.total}"),
        Text(_moment(session.opened_at, "%m-%d %H:%M" if narrow else "%Y-%m-%d %H:%M:%S")),
        Text(_length(session)),
        _plain("; ".join((*_problem(session.problem), *failed, *lost))),
    ]


def print_history(console: Console, history: SessionHistory) -> None:
    """A session's head, its prompts, and its events in order."""
    summary = history.summary
    head = Table.grid(padding=(0, 2))
    head.add_column(style="dim")
    head.add_column(no_wrap=True, overflow="ellipsis")
    head.add_row("session", _plain(summary.id))
    head.add_row("message", _plain(summary.message_id))
    head.add_row("state", Text.assemble(_state(summary.state), f" ({summary.kind})"))
    head.add_row("began", _moment(summary.opened_at, _EXACT))
    if summary.ended_at is not None:
        head.add_row("ended", f"{_moment(summary.ended_at, _EXACT)}, after {_length(summary)}")
    for problem in _problem(summary.problem):
        head.add_row("problem", _plain(problem))
    for missing in summary.missing:
        head.add_row("lost", Text(missing, style="red"))
    console.print(head)
    if history.prompts:
        console.print()
        _print_prompts(console, history.prompts)
    console.print()
    _print_events(console, history.events)


def _print_prompts(console: Console, prompts: Sequence[Prompt]) -> None:
    columns = ["prompt", "text", "state", "tries"]
    rows = [
        [Text(_short(prompt.id)), _plain(prompt.text), _state(prompt.state), Text(str(prompt.attempt))]
        for prompt in prompts
    ]
    # An address is there to be copied, so it is never cut.
    indent = " " * (max(len(columns[0]), *(row[0].cell_len for row in rows)) + len(_GAP))
    notes = [[Text(one_line(text, _LONGEST_ADDRESS)) for text in _became(prompt)] for prompt in prompts]
    _print_table(console, columns, rows, cut={"text"}, notes=[(indent, lines) for lines in notes])


def _became(prompt: Prompt) -> Iterator[str]:
    """What became of a prompt, besides its state."""
    if prompt.target_url is not None:
        yield f"{prompt.mode.value} {prompt.target_url}"
    if prompt.image is not None:
        yield prompt.image.url
    if prompt.unplaced_reason:
        yield f"not in the message: {prompt.unplaced_reason}"
    yield from _problem(prompt.problem)
    if prompt.job_id:
        yield f"job {prompt.job_id}"
    cut_off_too_often = prompt.problem is not None and prompt.problem.kind == "process_ended"
    if prompt.restarts and not cut_off_too_often:  # the problem says it already
        yield f"cut off {prompt.restarts} × by the end of a process"


def _print_events(console: Console, events: Sequence[EventRow]) -> None:
    columns = ["time", "event", "what it brought", "then"]
    rows: list[list[Text]] = []
    day = None
    for row in events:
        today = _moment(row.at, "%Y-%m-%d")
        if day not in (None, today):
            rows.append([Text(today, style="dim"), Text(), Text(), Text()])
        day = today
        time = Text(_moment(row.at, "%H:%M:%S.%f"))
        rows.append([time, Text(row.event.name), _plain(_brought(row.event)), _state(row.state)])
    _print_table(console, columns, rows, cut={"what it brought"})


def _brought(event: Event) -> str:
    """What an event carries, in brief."""
    if isinstance(event, PromptFound):
        return f"{_short(event.prompt.id)} {event.prompt.text}"
    if isinstance(event, StreamEnded):
        return f"{len(event.prompts)} prompts in the final text"
    if isinstance(event, RegenerationRequested):
        return f"{event.mode.value} {event.target_url}: {event.text}"
    if isinstance(event, GenerationStarted):
        return _short(event.prompt_id)
    if isinstance(event, GenerationAccepted):
        return f"{_short(event.prompt_id)} is job {event.job_id}"
    if isinstance(event, GenerationSucceeded):
        image = event.image
        return f"{_short(event.prompt_id)} {image.width} × {image.height}, {image.size:,} bytes: {image.url}"
    if isinstance(event, GenerationFailed):
        return f"{_short(event.prompt_id)} {'; '.join(_problem(event.problem))}"
    if isinstance(event, InsertionWritten):
        left = [f"{_short(image.prompt_id)} {image.reason}" for image in event.unplaced]
        return "; ".join([f"{len(event.placed)} placed", *left])
    if isinstance(event, InsertionFailed):
        return "; ".join(_problem(event.problem))
    return event.reason if isinstance(event, CancelRequested) else ""


def _problem(problem: Problem | None) -> list[str]:
    if problem is None:
        return []
    return [f"{problem.kind}: {problem.message}" if problem.message else problem.kind]


def _print_table(
    console: Console,
    columns: Sequence[str],
    rows: Sequence[Sequence[Text]],
    *,
    cut: set[str],
    notes: Sequence[tuple[str, Sequence[Text]]] = (),
) -> None:
    """Print the rows in columns; what is too long for the width is cut in the columns of `cut`.

    `notes` are lines below each row, whole and indented. (rich's own table takes several times as long, which
    tells in a journal of many thousand sessions.)
    """
    widest = [
        max([len(name), *(row[number].cell_len for row in rows)]) for number, name in enumerate(columns)
    ]
    elastic = [number for number, name in enumerate(columns) if name in cut]
    taken = sum(widest) + len(_GAP) * (len(columns) - 1)
    room = console.width - taken + sum(widest[number] for number in elastic)
    # The shorter one first: what it does not need is the others'.
    for done, number in enumerate(sorted(elastic, key=lambda number: widest[number])):
        widest[number] = min(widest[number], max(room // (len(elastic) - done), _LEAST))
        room -= widest[number]
    _print_line(console, [Text(name, style="dim") for name in columns], columns, widest)
    for index, row in enumerate(rows):
        _print_line(console, row, columns, widest)
        for indent, lines in notes[index : index + 1]:
            for line in lines:
                console.print(Text.assemble(indent, line), soft_wrap=True)


def _print_line(
    console: Console, cells: Sequence[Text], columns: Sequence[str], widths: Sequence[int]
) -> None:
    fitted = []
    for cell, name, width in zip(cells, columns, widths, strict=True):
        text = cell.copy()
        if name in _NUMBERS:
            text.pad_left(width - cell.cell_len)
        text.truncate(width, overflow="ellipsis", pad=True)
        fitted.append(text)
    line = Text(_GAP).join(fitted)
    line.rstrip()
    # What does not fit at all is cut like the rest, so that a line stays one.
    line.truncate(console.width, overflow="ellipsis")
    console.print(line, soft_wrap=True)


def _state(state: str | None) -> Text:
    return Text("?", style="red") if state is None else Text(state, style=_STYLES.get(state, _UNDER_WAY))


def _plain(text: str | None) -> Text:
    return Text("lost", style="red") if text is None else Text(one_line(text, _LONGEST))


def _short(prompt_id: str) -> str:
    """A prompt's id as far as it tells the prompts of one session apart."""
    _, dot, number = prompt_id.rpartition(".")
    return one_line(f".{number}" if dot else prompt_id[:_SHORT_ID], 20)


def _moment(moment: int | None, form: str) -> str:
    """A time in ms since 1970, in local time; the number itself where a host's clock is beyond any year."""
    if moment is None:
        return "?"
    try:
        shown = datetime.fromtimestamp(moment / 1000).strftime(form)
    except (ValueError, OverflowError, OSError):
        return f"{moment} ms"
    return shown[:-3] if form.endswith("%f") else shown


def _length(session: SessionSummary) -> str:
    """From the beginning to the end, or to the last event of one that is live."""
    end = session.ended_at if session.ended_at is not None else session.changed_at
    if session.opened_at is None or end is None:
        return "?"
    seconds = (end - session.opened_at) / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} m" if hours else f"{minutes} m {rest:02} s"
