"""Where a text is code: fenced blocks and code spans (CommonMark 0.31, 4.5 and 6.1).

What stands there was written to be read as it is. Fences are also looked for in lists and block quotes, as
models write them, without following how those end.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator

_FENCE = re.compile(
    r"^([ \t>]*+(?:(?:[-*+]|[0-9]{1,9}[.)])[ \t]++[ \t>]*+)*+)(`{3,}+(?=[^`\n]*$)|~{3,}+)(.*)$", re.MULTILINE
)
_ALONE = re.compile(r" {0,3}\Z")
_RUN_OR_BLANK_LINE = re.compile(r"`++|\n[ \t\r]*+(?=\n)")


def open_fence(text: str) -> str:
    """The mark that would close a fenced code block in which `text` ends; empty where it ends in none.

    Without it the pictures would be shown as code. Only for fences that stand in no list.
    """
    opened = ""
    for fence in _FENCE.finditer(text):
        prefix, mark, rest = fence.groups()
        if not _ALONE.match(prefix):
            continue
        if not opened:
            opened = mark
        elif _closes(mark, opened) and not rest.strip():
            opened = ""
    return opened


class Code:
    """The code in a text, but for what stands in the given spans (prompt tags), which come in order."""

    def __init__(self, text: str, spans: Iterable[tuple[int, int]] = ()) -> None:
        masked = _masked(text, spans)
        self._starts: list[int] = []
        self._ends: list[int] = []
        done = 0
        for start, end in [*_fenced(masked), (len(text), len(text))]:
            for span in _code_spans(masked, done, start):
                self._add(*span)
            self._add(start, end)
            done = end

    def __contains__(self, position: int) -> bool:
        index = bisect_right(self._starts, position) - 1
        return index >= 0 and position < self._ends[index]

    def _add(self, start: int, end: int) -> None:
        self._starts.append(start)
        self._ends.append(end)


def _masked(text: str, spans: Iterable[tuple[int, int]]) -> str:
    pieces: list[str] = []
    done = 0
    for start, end in spans:
        pieces += (text[done:start], " " * (end - start))
        done = end
    return "".join((*pieces, text[done:]))


def _fenced(text: str) -> Iterator[tuple[int, int]]:
    """The fenced blocks. One that is never closed is one up to the end, or none where it stands in a list."""
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        prefix, mark, rest = fence.groups()
        if opened is None:
            opened = fence
        elif _closes(mark, opened.group(2)) and not rest.strip() and not prefix.strip(" \t>"):
            yield opened.start(), fence.end()
            opened = None
    if opened is not None and _ALONE.match(opened.group(1)):
        yield opened.start(), len(text)


def _closes(mark: str, opened: str) -> bool:
    return mark[0] == opened[0] and len(mark) >= len(opened)


def _code_spans(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The code spans of a part of the text: from a run of backticks to the next as long a one.

    None reaches across a blank line.
    """
    runs: list[tuple[int, int]] = []
    for token in _RUN_OR_BLANK_LINE.finditer(text, start, end):
        if token.group()[0] == "`":
            runs.append(token.span())
        else:
            yield from _paired(text, runs)
            runs = []
    yield from _paired(text, runs)


def _paired(text: str, runs: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    of_length: dict[int, list[int]] = {}
    for index, (start, end) in enumerate(runs):
        of_length.setdefault(end - start, []).append(index)
    index = 0
    while index < len(runs):
        start, end = runs[index]
        if _is_escaped(text, start):
            start += 1
        same = of_length.get(end - start, [])
        later = bisect_right(same, index)
        if later == len(same):
            index += 1
            continue
        index = same[later]
        yield start, runs[index][1]
        index += 1


def _is_escaped(text: str, position: int) -> bool:
    behind = position
    while behind and text[behind - 1] == "\\":
        behind -= 1
    return (position - behind) % 2 == 1
