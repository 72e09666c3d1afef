"""What has to stand around an image so that the rest of a Markdown text is read as before.

Two rules of CommonMark (0.31, section 4.6, HTML blocks) make this necessary:

* A line that begins with an HTML comment is raw HTML up to its end, so a Markdown image on it would not be
  shown. A line break is put before the image, with the block quote marks and the indentation of the line.
* A line that consists of one HTML tag, and does not continue a paragraph, makes raw HTML of it and of all
  lines up to the next blank one. So an `<img>` stays on the line of its prompt tag. Where the tag may be
  hidden before the Markdown is read, or a Markdown image stood, and a line follows, the comment `GUARD` is
  put behind the image: then the line has more than the one tag and is a paragraph.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from functools import cached_property

GUARD = "<!--limner-->"

_COMMENT = "<!--"
# Block quotes and list items that a line begins with.
_CONTAINERS = re.compile(r"[ \t]*+(?:(?:>|(?:[-+*]|[0-9]{1,9}[.)])(?=[ \t]))[ \t]*+)*+")
# Deeper ones are left alone: repeated before each image, they would let a short text grow without bound.
_LONGEST_CONTAINERS = 100
# A block quote mark or list marker has at most 10 characters: within these it shows which are deeper.
_CONTAINERS_WINDOW = _LONGEST_CONTAINERS + 12
_MOST_TAGS = 20
_BLANKS = re.compile(r"[ \t]*+")
_COMMENT_MARKS = re.compile("<!--|-->")
_BREAK = re.compile(r"\r\n?|\n")
_BREAK_CHAR = re.compile(r"[\r\n]")
_LINE_FOLLOWS = re.compile(r"(?>\r\n?|\n)[ \t]*+[^ \t\r\n]")


class Lines:
    """The lines of a text, where what stands inside the given spans (prompt tags) ends no line.

    `spans` are start and end of each, in order; more may be added behind them with `add`. The
    text's line breaks are looked for once, so that asking about each of many tags stays cheap.
    """

    def __init__(self, text: str, spans: Iterable[tuple[int, int]]) -> None:
        self._text = text
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._lines_of_spans: list[int] = []  # where the line begins in which each span begins
        for start, end in spans:
            self.add(start, end)

    def add(self, start: int, end: int) -> None:
        """Add a span behind the others."""
        self._lines_of_spans.append(self._line_start(start))
        self._starts.append(start)
        self._ends.append(end)

    def extend(self, end: int) -> None:
        """Move the end of the last span."""
        self._ends[-1] = end

    def separator(self, pos: int) -> str:
        """What must stand before a Markdown image at `pos`: a line break on a raw line, else nothing."""
        start = self._line_start(pos)
        containers = self._containers(start, pos)
        behind = start + len(containers)
        if len(containers) > _LONGEST_CONTAINERS:
            return ""
        if behind + len(_COMMENT) > pos or not self._text.startswith(_COMMENT, behind):
            return ""
        return self._newline + "".join(char if char in "> \t" else " " for char in containers)

    def needs_guard(self, start: int, end: int) -> bool:
        """Whether an `<img>` in place of `text[start:end]` needs `GUARD` behind it.

        That is where it would stand alone on its line, but for prompt tags, and a line follows; not inside
        a comment, which the guard would end.
        """
        line = self._line_start(start)
        content = line + len(self._containers(line, start))
        if bisect_left(self._starts, start) - bisect_left(self._starts, content) > _MOST_TAGS:
            return False
        before = self._pass_tags(content, start)
        if before != start or self._in_comment(start):
            return False
        behind = self._pass_tags(end, len(self._text))
        return _LINE_FOLLOWS.match(self._text, behind) is not None

    def _in_comment(self, pos: int) -> bool:
        index = bisect_right(self._comment_marks, pos - 1) - 1
        return index >= 0 and self._text.startswith(_COMMENT, self._comment_marks[index])

    @cached_property
    def _comment_marks(self) -> list[int]:
        return [mark.start() for mark in _COMMENT_MARKS.finditer(self._text)]

    @cached_property
    def _newline(self) -> str:
        """The line break to write: as the text's first, which stays so when images are put before it."""
        first = _BREAK.search(self._text)
        return "\r\n" if first is not None and first.group() == "\r\n" else "\n"

    @cached_property
    def _behind_breaks(self) -> array[int]:
        return array("Q", (found.end() for found in _BREAK_CHAR.finditer(self._text)))

    def _containers(self, start: int, end: int) -> str:
        found = _CONTAINERS.match(self._text, start, min(end, start + _CONTAINERS_WINDOW))
        return found.group() if found else ""

    def _line_start(self, pos: int) -> int:
        breaks = bisect_right(self._behind_breaks, pos)
        start = self._behind_breaks[breaks - 1] if breaks else 0
        index = bisect_right(self._starts, start) - 1
        if index >= 0 and self._starts[index] < start < self._ends[index]:
            # Broken inside a span: the line is that in which the span begins, seen when it was added.
            return self._lines_of_spans[index]
        return start

    def _pass_tags(self, pos: int, end: int) -> int:
        """The position behind the blanks and spans that stand at `pos`."""
        for _ in range(_MOST_TAGS):
            blanks = _BLANKS.match(self._text, pos, end)
            pos = blanks.end() if blanks else pos
            index = bisect_right(self._starts, pos) - 1
            if index < 0 or self._starts[index] != pos or self._ends[index] > end:
                return pos
            pos = self._ends[index]
        return pos
