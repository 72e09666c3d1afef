"""Sessions and their histories as a person reads them: tables on a terminal, in local time.

Ids, prompts and addresses are somebody else's text, so each passes through `one_line`, which leaves nothing
that a terminal would obey.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

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
_LONGEST = 400
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


def print_sessions(console: Console, sessions: Sequence[SessionSummary]) -> None:
    """A line for each session, and their number."""
    if not sessions:
        console.print("no sessions")
        return
    narrow = console.width < _NARROW
    columns = ["session", "message", "kind", "state", "images", "began", "took", "problem"]
    if narrow:
        columns.remove("kind")
    rows = [_row(session, short_id=console.is_terminal, narrow=narrow) for session in sessions]
    console.print(_table(columns, rows, console.width, cut={"message", "problem"}))
    live = sum(session.live for session in sessions)
    number = f"{len(sessions):,} session" + ("" if len(sessions) == 1 else "s")
    console.print(f"{number}, {live:,} live. One of them: limner sessions show ID", style="dim")


def _row(session: SessionSummary, *, short_id: bool, narrow: bool) -> list[Text]:
    counts = session.prompts
    kind = [] if narrow else [_plain(session.kind)]
    return [
        _plain(session.id[:_SHORT_ID] if short_id else session.id),
        _plain(session.message_id),
        *kind,
        _state(session.state),
        Text(f"{counts.completed}/{counts.total}"),
        Text(_moment(session.opened_at, "%m-%d %H:%M" if narrow else "%Y-%m-%d %H:%M:%S")),
        Text(_length(session)),
        _plain("; ".join((*_problem(session.problem), *session.missing))),
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
        console.print(_prompts(history.prompts, console.width))
    console.print()
    console.print(_events(history.events, console.width))


def _prompts(prompts: Sequence[Prompt], width: int) -> Table:
    columns = ["prompt", "text", "state", "tries", "image, or why there is none"]
    rows = []
    for prompt in prompts:
        told = [prompt.image.url] if prompt.image is not None else []
        told += [f"not in the message: {prompt.unplaced_reason}"] if prompt.unplaced_reason else []
        told += _problem(prompt.problem)
        told += [f"job {prompt.job_id}"] if prompt.job_id else []
        told += [f"cut off {prompt.restarts} ×"] if prompt.restarts else []
        rows.append(
            [
                Text(_short(prompt.id)),
                _plain(prompt.text),
                _state(prompt.state),
                Text(str(prompt.attempt)),
                _plain("; ".join(told)),
            ]
        )
    return _table(columns, rows, width, cut={"text", "image, or why there is none"})


def _events(events: Sequence[EventRow], width: int) -> Table:
    columns = ["time", "event", "what it brought", "then"]
    rows: list[list[Text]] = []
    day = None
    for row in events:
        moment = datetime.fromtimestamp(row.at / 1000)
        if day is not None and moment.date() != day:
            rows.append([Text(moment.strftime("%Y-%m-%d"), style="dim"), Text(), Text(), Text()])
        day = moment.date()
        time = Text(moment.strftime("%H:%M:%S.%f")[:-3])
        rows.append([time, Text(row.event.name), _plain(_brought(row.event)), _state(row.state)])
    return _table(columns, rows, width, cut={"what it brought"})


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


def _table(columns: Sequence[str], rows: Sequence[Sequence[Text]], width: int, *, cut: set[str]) -> Table:
    """The rows as a table of at most `width` characters; what is too long is cut in the columns of `cut`."""
    widest = [
        max([len(name), *(row[number].cell_len for row in rows)]) for number, name in enumerate(columns)
    ]
    elastic = [number for number, name in enumerate(columns) if name in cut]
    room = width - sum(widest) - len(_GAP) * (len(columns) - 1) + sum(widest[number] for number in elastic)
    # The shorter one first: what it does not need is the others'.
    for done, number in enumerate(sorted(elastic, key=lambda number: widest[number])):
        widest[number] = min(widest[number], max(room // (len(elastic) - done), _LEAST))
        room -= widest[number]
        for row in rows:
            row[number].truncate(widest[number], overflow="ellipsis")
    table = Table(box=None, pad_edge=False, padding=(0, len(_GAP), 0, 0), header_style="dim")
    for name in columns:
        table.add_column(name, justify="right" if name in _NUMBERS else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _state(state: str | None) -> Text:
    return Text("?", style="red") if state is None else Text(state, style=_STYLES.get(state, _UNDER_WAY))


def _plain(text: str | None) -> Text:
    return Text("lost", style="red") if text is None else Text(one_line(text, _LONGEST))


def _short(prompt_id: str) -> str:
    """A prompt's id as far as it tells the prompts of one session apart."""
    _, dot, number = prompt_id.rpartition(".")
    return one_line(f".{number}" if dot else prompt_id[:_SHORT_ID], 20)


def _moment(moment: int | None, form: str) -> str:
    if moment is None:
        return "?"
    shown = datetime.fromtimestamp(moment / 1000).strftime(form)
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
