"""The display on a terminal: the text runs, and below it stay the pictures and bars.

The text's last, unfinished line belongs to the part that is redrawn, so that it can grow by a token at a
time; lines that are complete are printed above it and scroll away like any output.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

import anyio
from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from limner.adapters.cli.gallery import TILE_WIDTH, tile
from limner.adapters.cli.progress_state import ProgressState
from limner.adapters.visible import VisiblePiece
from limner.text import describe
from limner.workflows.progress_events import ProgressEvent, PromptProgress

REFRESH_S = 1 / 15
MOST_ROWS = 5
_TEXT_WIDTH = 84
_STATE_WORDS = {"waiting": "will retry", "completed": "done"}
_STATE_STYLES = {"completed": "green", "failed": "red", "cancelled": "yellow", "waiting": "yellow"}


class TerminalDisplay:
    """Redraws at most 15 times a second, from `run`. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._state = ProgressState()
        self._line = ""
        self._after_prompt = False
        self._show_gallery = console.color_system in ("truecolor", "256") and not console.no_color
        self._live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            vertical_overflow="crop",
            get_renderable=self._render,
        )

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_line()
        self._live.__exit__(kind, error, trace)

    def redraw(self) -> None:
        """Draw the pictures and bars as they are now."""
        self._live.refresh()

    async def run(self) -> None:
        """Redraw until cancelled."""
        while True:
            self.redraw()
            await anyio.sleep(REFRESH_S)

    def take(self, event: ProgressEvent) -> None:
        """Note what has happened."""
        self._state.take(event)

    def note(self, line: str) -> None:
        """A line that stays."""
        self._end_line()
        self._print(Text(line, "bold"))

    def text(self, piece: VisiblePiece) -> None:
        """Show a piece of the streamed text."""
        if piece.is_prompt:
            self._end_line()
            shown = Text("▸ ", "magenta").append(piece.text, "magenta italic")
            shown.truncate(self._width, overflow="ellipsis")
            self._print(shown)
            self._after_prompt = True
            return
        self._line += piece.text
        while (cut := _line_end(self._line, self._width)) is not None:
            end, rest = cut
            line, self._line = self._line[:end], self._line[rest:]
            # The line break behind a tag that has a line of its own is the tag's.
            if line.strip() or not self._after_prompt:
                self._print(Text(line.rstrip(), "bold" if line.startswith("#") else ""))
            self._after_prompt = False

    @property
    def _width(self) -> int:
        return min(_TEXT_WIDTH, self._console.width) - 1

    def _end_line(self) -> None:
        if self._line.strip():
            self._print(Text(self._line))
        self._line = ""

    def _print(self, line: Text) -> None:
        self._console.print(line, soft_wrap=True)

    def _render(self) -> RenderableType:
        parts: list[RenderableType] = [Text(self._line, no_wrap=True)] if self._line else []
        parts.append(Text())
        if self._state.prompts:
            parts += self._gallery() if self._show_gallery else [self._rows()]
        parts.append(self._headline())
        return Group(*parts)

    def _headline(self) -> RenderableType:
        grid = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=1.0, completed=self._state.fraction_done(), width=24)
        grid.add_row(Text(self._state.headline, "bold"), bar)
        return grid

    def _rows(self) -> Table:
        grid = Table.grid(padding=(0, 1))
        room = max(10, self._console.width - 38)
        for number, prompt in self._state.window(MOST_ROWS):
            words = Text(describe(prompt.prompt), no_wrap=True)
            words.truncate(room, overflow="ellipsis", pad=True)
            grid.add_row(Text(f"{number:>3}", "dim"), words, *_bar(prompt, 16))
        return grid

    def _gallery(self) -> list[RenderableType]:
        columns = max(1, (self._console.width + 1) // (TILE_WIDTH + 1))
        shown = self._state.window(columns)
        grid = Table.grid(padding=(0, 1, 0, 0))
        tiles = [tile(prompt.thumbnail.data if prompt.thumbnail else None) for _, prompt in shown]
        for lines in zip(*tiles, strict=True):
            grid.add_row(*lines)
        grid.add_row(*(_caption(number, prompt) for number, prompt in shown))
        return [grid]


def _bar(prompt: PromptProgress, width: int) -> tuple[RenderableType, Text]:
    return _progress_bar(prompt, width), Text(_state_word(prompt), _STATE_STYLES.get(prompt.state, ""))


def _caption(number: int, prompt: PromptProgress) -> RenderableType:
    word = _state_word(prompt)
    line = Text(f"{number} ", "dim").append(word, _STATE_STYLES.get(prompt.state, ""))
    if prompt.state != "generating":
        return line
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_row(
        Text(f"{number}", "dim"),
        _progress_bar(prompt, TILE_WIDTH - 7),
        Text(f"{word:>4}"),
    )
    return grid


def _progress_bar(prompt: PromptProgress, width: int) -> ProgressBar:
    """A bar that pulses where the generator does not tell how far it is."""
    unknown = prompt.state == "generating" and prompt.fraction is None
    return ProgressBar(total=None if unknown else 1.0, completed=prompt.fraction or 0.0, width=width)


def _state_word(prompt: PromptProgress) -> str:
    if prompt.state == "generating":
        return "" if prompt.fraction is None else f"{prompt.fraction:.0%}"
    return _STATE_WORDS.get(prompt.state, prompt.state)


def _line_end(text: str, width: int) -> tuple[int, int] | None:
    """Where the first line of `text` ends and the next one begins, None while the line may still grow."""
    newline = text.find("\n")
    head = text if newline < 0 else text[:newline]
    if cell_len(head) <= width:
        return None if newline < 0 else (newline, newline + 1)
    fitting = len(set_cell_size(head, width).rstrip()) or 1
    space = head.rfind(" ", 0, fitting + 1)
    return (space, space + 1) if space > 0 else (fitting, fitting)
