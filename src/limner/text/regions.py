"""The regions of a text that are found by exact delimiters: prompt tags, reasoning blocks, code fences.

A text is read from left to right; what begins first wins, and what stands inside a region begins nothing. A
decision is made only when no further text could change it: an opener that may still be completed, or a region
that is not closed yet, holds back everything behind it. Hence a text read in pieces gives exactly what the
whole gives, and what was found once stays found.

Each region knows how to look for its own end, from any position and with a position to resume from, so that
no character of a long unclosed region is looked at again for every new piece of text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

# The body between double quotes. Possessive, so that a megabyte without a closing quote is read once.
_QUOTED_BODY = re.compile(r'(?:[^"\\]++|\\.)*+', re.DOTALL)

# What begins a code fence: up to three spaces, three or more of the same mark (CommonMark 0.31, 4.5).
_FENCE_OPENER = r"(?:\A|(?<=[\r\n])) {0,3}(?:`{3}|~{3})"
_FENCE_OPENER_PART = re.compile(r"(?:\A|(?<=[\r\n]))(?: {1,3}| {0,3}(?:`{1,2}|~{1,2}))\Z")
_FENCE_OPENER_LONGEST = 6


class Ending(Enum):
    """What looking for the end of a region came to."""

    CLOSED = "closed"
    """The region ends; the position is the one behind it."""
    PENDING = "pending"
    """More text is needed; the position is where to resume."""
    FAILED = "failed"
    """It is no such region after all; the position is where that was seen."""


class Closing(Protocol):
    """Looks for the end of one region that has begun."""

    def close(self, text: str, at: int) -> tuple[Ending, int]:
        """Look for the end from `at` on; where PENDING, call again with the text from the position on."""


@dataclass(frozen=True, slots=True)
class QuotedTag:
    """A tag whose body stands between double quotes and may hold escaped ones."""

    opener: str
    closer: str
    order: int

    def close(self, text: str, at: int) -> tuple[Ending, int]:
        """See `Closing`."""
        match = _QUOTED_BODY.match(text, at)
        quote = match.end() if match else at
        if text.startswith(self.closer, quote):
            return Ending.CLOSED, quote + len(self.closer)
        # At the end of the text stand: nothing, a lone backslash, or a part of the closer.
        rest = len(text) - quote
        if rest == 0 or text[quote] == "\\":
            return Ending.PENDING, quote
        if rest < len(self.closer) and self.closer.startswith(text[quote:]):
            return Ending.PENDING, quote
        return Ending.FAILED, quote

    def missing(self, rest: str) -> str:
        """What would end the tag; `rest` is the text from where `close` said to resume."""
        # A lone backslash takes the next character along, so that must not be the quote.
        return f"\\{self.closer}" if rest == "\\" else self.closer[len(rest) :]

    def prompt(self, body: str) -> str:
        """The prompt that the body spells."""
        return body.replace('\\"', '"')


@dataclass(frozen=True, slots=True)
class PlainTag:
    """A tag whose body runs to the first closer."""

    opener: str
    closer: str
    order: int

    def close(self, text: str, at: int) -> tuple[Ending, int]:
        """See `Closing`."""
        found = text.find(self.closer, at)
        if found >= 0:
            return Ending.CLOSED, found + len(self.closer)
        return Ending.PENDING, max(at, len(text) - len(self.closer) + 1)

    def missing(self, rest: str) -> str:
        """What would end the tag; `rest` is the text from where `close` said to resume."""
        begun = next(
            size for size in range(len(rest), -1, -1) if self.closer.startswith(rest[len(rest) - size :])
        )
        return self.closer[begun:]

    def prompt(self, body: str) -> str:
        """The prompt that the body spells."""
        return body


class Reasoning(PlainTag):
    """A block in which a model thinks aloud; nothing in it is a prompt."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class CodeFence:
    """A fenced code block, where prompts in code are not wanted. `OpenFence` has its rules."""

    order: int = -1
    opener: str = ""


Region = QuotedTag | PlainTag | CodeFence
"""`order` is the index of the pattern, which decides between tags at one place; -1: never a prompt."""


class OpenFence:
    """Looks for the end of a code fence by the rules of CommonMark 4.5, a run of characters at a time."""

    __slots__ = ("_count", "_mark", "_opened", "_step")

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._opened = 3  # marks in the opening run; the opener has seen three
        self._count = 0
        self._step = self._opening_run

    def close(self, text: str, at: int) -> tuple[Ending, int]:
        """See `Closing`."""
        while at < len(text):
            ending, at = self._step(text, at)
            if ending is not Ending.PENDING:
                return ending, at
        return Ending.PENDING, at

    @property
    def certain(self) -> bool:
        """Whether the opening line is complete, so that this can fail no more."""
        return self._step not in (self._opening_run, self._info)

    def _opening_run(self, text: str, at: int) -> tuple[Ending, int]:
        end = _run(text, at, self._mark)
        self._opened += end - at
        if end < len(text):
            self._step = self._info
        return Ending.PENDING, end

    def _info(self, text: str, at: int) -> tuple[Ending, int]:
        # The info string of a backtick fence has no backticks: such a line is inline code.
        stop = (_BREAK_OR_BACKTICK if self._mark == "`" else _BREAK).search(text, at)
        if stop is None:
            return Ending.PENDING, len(text)
        if stop.group() == "`":
            return Ending.FAILED, stop.start()
        self._step = self._line
        return Ending.PENDING, stop.start()

    def _line(self, text: str, at: int) -> tuple[Ending, int]:
        stop = _BREAK.search(text, at)
        if stop is None:
            return Ending.PENDING, len(text)
        self._count = 0
        self._step = self._indent
        return Ending.PENDING, stop.end()

    def _indent(self, text: str, at: int) -> tuple[Ending, int]:
        end = _run(text, at, " ")
        self._count += end - at
        if end < len(text) or self._count > 3:
            self._step = self._closing_run if self._count <= 3 else self._line
            self._count = 0
        return Ending.PENDING, end

    def _closing_run(self, text: str, at: int) -> tuple[Ending, int]:
        end = _run(text, at, self._mark)
        self._count += end - at
        if end < len(text):
            self._step = self._closing_rest if self._count >= self._opened else self._line
        return Ending.PENDING, end

    def _closing_rest(self, text: str, at: int) -> tuple[Ending, int]:
        match = _BLANKS.match(text, at)
        end = match.end() if match else at
        if end < len(text):
            if text[end] in "\r\n":
                return Ending.CLOSED, end
            self._step = self._line
        return Ending.PENDING, end


_BREAK = re.compile(r"[\r\n]")
_BREAK_OR_BACKTICK = re.compile(r"[\r\n`]")
_BLANKS = re.compile(r"[ \t]*+")
_RUNS = {mark: re.compile(f"{mark}*+") for mark in " `~"}


def _run(text: str, at: int, mark: str) -> int:
    """The end of the run of `mark` that begins at `at`."""
    match = _RUNS[mark].match(text, at)
    return match.end() if match else at


@dataclass(frozen=True, slots=True)
class Closed:
    """A complete region: `text[start:end]`, its body beginning at `body`."""

    region: Region
    start: int
    body: int
    end: int


@dataclass(frozen=True, slots=True)
class Open:
    """A region that has begun at `start` and is not closed; go on with `closing` at `resume`."""

    region: Region
    start: int
    body: int
    resume: int
    closing: Closing


@dataclass(frozen=True, slots=True)
class Clear:
    """No region begins before `hold`; from there on it depends on text to come."""

    hold: int


class RegionTable:
    """The regions to look for, earlier ones first where several begin at the same place."""

    def __init__(self, regions: Sequence[Region]) -> None:
        self._regions = tuple(regions)
        self._ranks: dict[str, int] = {}
        self._parts: dict[str, int] = {}  # proper beginnings of openers: the first region they may become
        self._fence = -1
        for rank, region in enumerate(self._regions):
            if isinstance(region, CodeFence):
                self._fence = rank
                continue
            self._ranks.setdefault(region.opener, rank)
            for length in range(1, len(region.opener)):
                self._parts.setdefault(region.opener[:length], rank)
        self._longest = max((len(opener) for opener in self._ranks), default=1)
        openers = [
            _FENCE_OPENER if isinstance(region, CodeFence) else re.escape(region.opener)
            for region in self._regions
        ]
        # No groups: `re` looks for the first characters of plain alternatives at the speed of C.
        self._opener = re.compile("|".join(openers) if openers else "(?!)")
        firsts = {re.escape(opener[0]) for opener in self._ranks}
        first_class = f"[{''.join(sorted(firsts))}]" if firsts else "(?!)"
        self._first = re.compile(first_class)
        self.alert = re.compile(first_class if self._fence < 0 else f"{first_class}|[\\r\\n]")
        """Finds nothing in a piece of text in which no region can begin (nor a line, where lines matter)."""

    @property
    def needs_line_starts(self) -> bool:
        """Whether the character before a position matters: it does for code fences."""
        return self._fence >= 0

    def next(self, text: str, pos: int) -> Closed | Open | Clear:
        """The first region at `pos` or behind it. Linear in the text, also where openers fail."""
        # An unescaped quote ends the body of every quoted tag that begins between the start of a failed
        # body and that quote, since an opener's own quote is never the first half of an escape.
        quoted_from = quoted_to = -1
        while True:
            start, body, rank = self._next_opener(text, pos)
            while rank >= 0:
                region = self._regions[rank]
                closing = OpenFence(text[body - 1]) if isinstance(region, CodeFence) else region
                quoted = isinstance(region, QuotedTag)
                known = quoted and quoted_from <= body <= quoted_to
                ending, at = closing.close(text, quoted_to if known else body)
                if ending is Ending.CLOSED:
                    return Closed(region, start, body, at)
                if ending is Ending.PENDING:
                    return Open(region, start, body, at, closing)
                if quoted and not known:
                    quoted_from, quoted_to = body, at
                body, rank = self._alternative(text, start, rank)
            if body < 0:
                return Clear(start)
            pos = start + 1

    def _next_opener(self, text: str, pos: int) -> tuple[int, int, int]:
        """Start, end and rank of the next opener; where none is sure: the hold position, -1, -1."""
        found = self._opener.search(text, pos)
        size = len(text)
        if found is None:
            start, rank = size, len(self._regions)
        else:
            start, rank = found.start(), self._ranks.get(found.group(), self._fence)
        # Near the end an opener may stand half, begin earlier than the one found, or outrank it.
        if start > size - self._longest:
            for first in self._first.finditer(text, max(pos, size - self._longest + 1)):
                at = first.start()
                if at > start:
                    break
                part = self._parts.get(text[at:])
                if part is not None and (at < start or part < rank):
                    start, rank, found = at, part, None
                    break
        if self._fence >= 0 and start > size - _FENCE_OPENER_LONGEST:
            part_of_fence = _FENCE_OPENER_PART.search(text, max(pos, size - _FENCE_OPENER_LONGEST + 1))
            if part_of_fence is not None:
                at = part_of_fence.start()
                if at < start or (at == start and self._fence < rank):
                    start, found = at, None
        return (start, found.end(), rank) if found is not None else (start, -1, -1)

    def _alternative(self, text: str, start: int, after: int) -> tuple[int, int]:
        """The next region in order that begins at `start`: its body and rank.

        Where an opener may yet be completed: -1, -1. Where there is none: 0, -1.
        """
        for rank in range(after + 1, len(self._regions)):
            opener = self._regions[rank].opener
            if opener and text.startswith(opener, start):
                return start + len(opener), rank
            if len(text) - start < len(opener) and opener.startswith(text[start:]):
                return -1, -1
        return 0, -1
