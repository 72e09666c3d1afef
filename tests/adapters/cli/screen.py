"""A small terminal: turns what a program prints into what a person sees."""

from __future__ import annotations

import re

from rich.cells import cell_len

_TOKEN = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b|\r|\n|[^\x1b\r\n]")


class Screen:
    """Of unlimited height, so that nothing scrolls out of sight.

    Knows what a redrawing display uses: carriage return, line feed, cursor up, erase line; colours are
    ignored. Anything else is an error, so that a test notices it.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._cells: list[list[str]] = [[]]
        self._row = self._column = 0

    def show(self, printed: str) -> list[str]:
        """The lines that stand there in the end, without blanks at their ends."""
        for found in _TOKEN.finditer(printed):
            self._take(found)
        return ["".join(line).rstrip() for line in self._cells]

    def _take(self, found: re.Match[str]) -> None:
        token = found.group()
        if token == "\n":
            self._line_feed()
        elif token == "\r":
            self._column = 0
        elif found[2] == "A":
            self._row = max(0, self._row - int(found[1] or 1))
        elif found[2] == "K":
            assert found[1] == "2", f"unknown kind of erasing: {token!r}"
            self._cells[self._row] = []
        elif found[2] is not None:
            assert found[2] in "mhl", f"unknown control sequence: {token!r}"
        else:
            assert token.isprintable(), f"a control character: {token!r}"
            self._put(token)

    def _line_feed(self) -> None:
        self._row += 1
        self._column = 0
        if self._row == len(self._cells):
            self._cells.append([])

    def _put(self, character: str) -> None:
        width = cell_len(character)
        if self._column + width > self._width:
            self._line_feed()
        line = self._cells[self._row]
        line.extend(" " * (self._column - len(line)))
        # A wide character stands in two cells; the second is empty, so that columns count right.
        line[self._column : self._column + width] = [character, *[""] * (width - 1)]
        self._column += width
