"""Showing the work: which of the displays fits, and the plain one for pipes and files."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console

from limner.adapters.cli.progress_state import ProgressState
from limner.adapters.cli.terminal import TerminalDisplay
from limner.adapters.sniffing import one_line
from limner.adapters.visible import VisiblePiece
from limner.text import describe
from limner.workflows.progress_events import ProgressEvent, PromptProgress, SessionEnded, SessionProgress


class Display(Protocol):
    """Shows what happens. A context manager; `run` is a task that redraws."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""

    async def run(self) -> None:
        """Redraw until cancelled."""

    def take(self, event: ProgressEvent) -> None:
        """Note what has happened to the images."""

    def text(self, piece: VisiblePiece) -> None:
        """Show a piece of the streamed text."""

    def note(self, line: str) -> None:
        """A line that stays."""


def display_for(console: Console, *, quiet: bool = False, with_text: bool = True) -> Display:
    """The display for this console; without `with_text` a pipe gets no streamed text, only what happens."""
    if quiet:
        return QuietDisplay()
    if console.is_terminal and not console.is_dumb_terminal:
        return TerminalDisplay(console)
    return PlainDisplay(console, with_text=with_text)


class QuietDisplay:
    """Shows nothing."""

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""

    async def run(self) -> None:
        """There is nothing to redraw."""

    def take(self, event: ProgressEvent) -> None:
        """Nothing."""

    def text(self, piece: VisiblePiece) -> None:
        """Nothing."""

    def note(self, line: str) -> None:
        """Nothing."""


class PlainDisplay(QuietDisplay):
    """One line for everything that changes for good, with the seconds since the beginning."""

    def __init__(
        self, console: Console, *, with_text: bool = True, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._with_text = with_text
        self._now = now
        self._began = now()
        self._state = ProgressState()
        self._told: dict[str, str] = {}
        self._headline = ""
        self._held_headline = ""
        self._painted = 0
        self._session_id = ""
        self._line = ""

    def take(self, event: ProgressEvent) -> None:
        """Tell what is new about an image or the session."""
        self._state.take(event)
        if event.session_id != self._session_id:
            self._session_id = event.session_id
            self._painted, self._headline = 0, ""
        if isinstance(event, PromptProgress):
            self._tell_prompt(event)
        elif isinstance(event, SessionProgress) and self._is_worth_a_line(event):
            headline, self._headline = self._headline, self._state.headline
            if headline != self._headline:
                self._tell_held()
                self._held_headline = self._headline
        # Of a prompt and its session only the newest is told, in any order: the write may be heard of
        # before the last images that are in it.
        ended = isinstance(event, SessionEnded)
        if ended or self._state.state != "inserting" or self._painted >= self._state.counts.completed:
            self._tell_held()

    def text(self, piece: VisiblePiece) -> None:
        """Print the lines of the text that are complete."""
        if not self._with_text:
            return
        if piece.is_prompt:
            self._line += f"[picture: {piece.text}]"
            return
        *complete, self._line = (self._line + piece.text).split("\n")
        for line in complete:
            self._print(line)

    def note(self, line: str) -> None:
        """A line that stays."""
        self._tell_held()
        if self._line:
            self._print(self._line)
            self._line = ""
        self._print(line)

    def _tell_held(self) -> None:
        if self._held_headline:
            self._tell(self._held_headline)
            self._held_headline = ""
            if self._state.state == "inserting":
                self._painted = 0

    @staticmethod
    def _is_worth_a_line(event: SessionProgress) -> bool:
        return event.state == "debouncing" or (event.state == "inserting" and event.counts.completed > 0)

    def _tell_prompt(self, prompt: PromptProgress) -> None:
        if self._told.get(prompt.prompt_id) == prompt.state:
            return
        self._told[prompt.prompt_id] = prompt.state
        number = self._state.number_of(prompt.prompt_id)
        words = describe(prompt.prompt)
        why = (
            ""
            if prompt.problem is None
            else f": {one_line(prompt.problem.message or prompt.problem.kind, 300)}"
        )
        if prompt.state == "generating" and prompt.attempt == 1:
            self._tell(f"painting {number}: {words}")
        elif prompt.state == "completed":
            self._painted += 1
            self._tell(f"painted {number}: {words}")
        elif prompt.state == "waiting":
            self._tell(f"{number} will be tried again{why}")
        elif prompt.state == "failed":
            self._tell(f"{number} failed{why}")

    def _tell(self, line: str) -> None:
        self._print(f"[{self._now() - self._began:5.1f} s] {line}")

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
