"""The displays: what a pipe reads, and what a terminal shows."""

from __future__ import annotations

import io
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from limner.adapters.cli.display import PlainDisplay, QuietDisplay, display_for
from limner.adapters.cli.gallery import TILE_HEIGHT, TILE_WIDTH, tile
from limner.adapters.cli.progress_state import ProgressState
from limner.adapters.cli.terminal import TerminalDisplay
from limner.adapters.visible import VisiblePiece
from limner.states import Problem, SessionKind
from limner.states.outcome import Counts, Result
from limner.workflows.progress_events import PromptProgress, SessionEnded, SessionProgress, Thumbnail
from tests.adapters.cli.screen import Screen
from tests.support import png


def session(state: str, kind: SessionKind = SessionKind.STREAMING, **counts: int) -> SessionProgress:
    return SessionProgress("m", f"{kind}", kind, state, Counts(total=sum(counts.values()), **counts))


def prompt(number: int, state: str, kind: SessionKind = SessionKind.STREAMING, **settings) -> PromptProgress:
    return PromptProgress("m", f"{kind}", f"p{number}", f"fox {number}", state, **settings)


def terminal(width: int = 80, **settings) -> Console:
    return Console(
        file=io.StringIO(), force_terminal=True, width=width, height=24, legacy_windows=False, **settings
    )


def output(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("event", "headline"),
    [
        (session("idle"), "Waiting for a prompt…"),
        (session("streaming"), "Waiting for a prompt…"),
        (session("streaming", completed=3, generating=1, queued=1), "Generating 3/5 images…"),
        (session("streaming", generating=1), "Generating 0/1 image…"),
        (session("draining", completed=3, failed=1, waiting=1), "Generating 4/5 images…"),
        (session("draining", SessionKind.REGENERATION, completed=2), "Regenerating 2/2 images…"),
        (session("inserting", completed=5), "Writing 5 images in one write…"),
        (session("done", completed=4, failed=1), "4/5 images, done"),
    ],
)
def test_the_headline_counts(event, headline):
    state = ProgressState()
    state.take(event)
    assert state.headline == headline


def test_clicks_are_counted_while_more_may_come():
    state = ProgressState()
    state.take(session("debouncing", SessionKind.REGENERATION, queued=1))
    state.take(prompt(1, "queued", SessionKind.REGENERATION))
    assert state.headline == "Regenerating 0/1 image, waiting for more clicks…"


def test_the_next_session_begins_anew():
    state = ProgressState()
    state.take(prompt(1, "completed"))
    state.take(prompt(7, "queued", SessionKind.REGENERATION))
    assert list(state.prompts) == ["p7"]
    assert state.number_of("p7") == 1


def test_a_picture_that_is_made_anew_keeps_its_number():
    state = ProgressState()
    for number in range(1, 6):
        state.take(prompt(number, "completed"))
    for number in (2, 4):
        again = replace(prompt(number, "queued", SessionKind.REGENERATION), prompt_id=f"click {number}")
        state.take(again)
        assert state.number_of(f"click {number}") == number
    assert [number for number, _ in state.window(5)] == [2, 4]


def test_of_many_prompts_those_being_worked_on_are_shown():
    state = ProgressState()
    for number in range(1, 101):
        state.take(prompt(number, "completed" if number < 50 else "queued"))
    assert [number for number, _ in state.window(5)] == [49, 50, 51, 52, 53]
    assert [number for number, _ in ProgressState().window(5)] == []
    for number in range(50, 101):
        state.take(prompt(number, "completed"))
    assert [number for number, _ in state.window(5)] == [96, 97, 98, 99, 100]


def test_a_pipe_reads_one_line_for_each_thing_that_happened():
    seconds = iter([0.0, 1.0, 2.25, 3.0, 4.0, 5.0])
    console = Console(file=io.StringIO(), width=20)
    display = PlainDisplay(console, now=lambda: next(seconds))
    problem = Problem("unavailable", "down\x1b[2J\nfor now")
    for event in (
        prompt(1, "queued"),
        prompt(1, "generating", attempt=1),
        prompt(1, "generating", attempt=1, fraction=0.5),
        prompt(1, "waiting", attempt=1, problem=problem),
        prompt(1, "generating", attempt=2),
        prompt(1, "completed", attempt=2),
        prompt(2, "failed", attempt=1, problem=problem),
        session("inserting", completed=1, failed=1),
        session("inserting", completed=1, failed=1),
    ):
        display.take(event)
    assert output(console) == (
        "[  1.0 s] painting 1: fox 1\n"
        "[  2.2 s] 1 will be tried again: down [2J for now\n"
        "[  3.0 s] painted 1: fox 1\n"
        "[  4.0 s] 2 failed: down [2J for now\n"
        "[  5.0 s] Writing 1 image in one write…\n"
    )


def test_a_pipe_reads_of_the_write_after_the_images_that_are_in_it():
    console = Console(file=io.StringIO(), width=80)
    display = PlainDisplay(console, now=lambda: 0.0)
    for kind in SessionKind:
        one, two = (replace(prompt(n, "completed", kind), prompt_id=f"{kind} {n}") for n in (1, 2))
        display.take(one)
        display.take(session("inserting", kind, completed=2))
        display.take(two)
        display.take(session("done", kind, completed=2))
    batch = ["painted 1: fox 1", "painted 2: fox 2", "Writing 2 images in one write…"]
    assert [line[10:] for line in output(console).splitlines()] == batch * 2


def test_a_pipe_reads_of_the_write_even_if_an_image_was_never_heard_of():
    console = Console(file=io.StringIO(), width=80)
    display = PlainDisplay(console, now=lambda: 0.0)
    display.take(session("inserting", completed=1))
    assert output(console) == ""
    display.take(
        SessionEnded(
            "m",
            f"{SessionKind.STREAMING}",
            Result("s", "m", SessionKind.STREAMING, "done", (), (), (), (), None, {}),
        )
    )
    assert output(console) == "[  0.0 s] Writing 1 image in one write…\n"


def test_a_pipe_gets_the_text_only_where_it_is_wanted():
    for wanted, read in ((True, "a [b] [picture: fox]\nc\n"), (False, "c\n")):
        console = Console(file=io.StringIO())
        display = PlainDisplay(console, with_text=wanted)
        for piece in (VisiblePiece("a [b] "), VisiblePiece("fox", is_prompt=True), VisiblePiece("\n")):
            display.text(piece)
        display.note("c")
        assert output(console) == read


def test_the_display_fits_the_console():
    assert isinstance(display_for(Console(file=io.StringIO())), PlainDisplay)
    assert isinstance(display_for(terminal()), TerminalDisplay)
    assert isinstance(display_for(terminal(), quiet=True), QuietDisplay)


@pytest.mark.parametrize("width", [100, 80, 40, 24])
@pytest.mark.parametrize("colours", [{"color_system": "truecolor"}, {"no_color": True}])
def test_on_a_terminal_no_word_is_lost_or_torn_however_often_the_bars_are_redrawn(width, colours):
    words = [f"word{number}" for number in range(60)] + ["漢字", "x" * 14, "end"]
    console = terminal(width, **colours)
    with TerminalDisplay(console) as display:
        display.note("A note.")
        for number, word in enumerate(words):
            display.text(VisiblePiece(word[:3]))
            display.text(VisiblePiece(f"{word[3:]} "))
            thumbnail = Thumbnail(png(number), "image/png")
            display.take(prompt(1, "generating", fraction=number / 100, thumbnail=thumbnail))
            display.redraw()
    lines = Screen(width).show(output(console))
    assert lines[0] == "A note."
    assert " ".join(lines[1:]).split() == words


@pytest.mark.parametrize("letter", ["x", "漢"])
def test_a_word_longer_than_the_line_is_cut_and_complete(letter):
    console = terminal(40)
    with TerminalDisplay(console) as display:
        display.text(VisiblePiece(letter * 200))
        display.redraw()
    assert "".join(Screen(40).show(output(console))) == letter * 200


def test_a_prompt_has_a_line_of_its_own_and_a_blank_line_is_not_doubled():
    console = terminal()
    with TerminalDisplay(console) as display:
        for piece in ("# A\n\none\n\n", "two\n"):
            display.text(VisiblePiece(piece))
            display.text(VisiblePiece("a fox " * 40, is_prompt=True))
            display.text(VisiblePiece("\n"))
            display.redraw()
    lines = Screen(80).show(output(console))
    assert [line[:7] for line in lines[:7]] == ["# A", "", "one", "", "▸ a fox", "two", "▸ a fox"]
    assert not any(lines[7:])
    assert max(map(len, lines)) < 80


def test_log_lines_stand_above_the_bars_and_stay():
    console = terminal()
    with TerminalDisplay(console) as display:
        display.text(VisiblePiece("A sentence that"))
        display.take(prompt(1, "generating", fraction=0.3))
        display.redraw()
        print("odd: a log line", file=sys.stderr)
        display.redraw()
        display.text(VisiblePiece(" goes on."))
    assert Screen(80).show(output(console))[:2] == ["odd: a log line", "A sentence that goes on."]


def test_thumbnails_are_shown_where_there_are_colours_and_bars_elsewhere():
    event = prompt(1, "generating", fraction=0.3, thumbnail=Thumbnail(png(), "image/png"))
    for settings, has_pictures in (({"color_system": "256"}, True), ({"no_color": True}, False)):
        console = terminal(**settings)
        with TerminalDisplay(console) as display:
            display.take(event)
            display.redraw()
            lines = Screen(80).show(output(console))
        assert any("▀▀▀" in line for line in lines) is has_pictures
        assert any("30%" in line for line in lines)


def test_a_tile_has_its_size_whatever_the_picture_is():
    for data in (png(), b"no picture", None):
        lines = tile(data)
        assert len(lines) == TILE_HEIGHT
        assert {line.cell_len for line in lines} == {TILE_WIDTH}
