"""Prompt patterns that users write as regular expressions, and the time they may take.

They are run by the `regex` module, whose syntax contains that of `re`, because it can give up after a time.
"""

from __future__ import annotations

import time
from typing import Protocol, cast

import regex  # type: ignore[import-untyped]  # its stubs are a package of their own

from limner.errors import InvalidPattern, PatternTooSlow

_TEXT_PER_LIMIT = 100_000


class RegexMatch(Protocol):
    """What is used of a match of the `regex` module."""

    def start(self, group: int = 0) -> int:
        """The offset at which the group begins, -1 where it took no part."""

    def end(self, group: int = 0) -> int:
        """The offset at which the group ends."""


class _Compiled(Protocol):
    groups: int
    flags: int

    def search(self, string: str, pos: int = ..., *, timeout: float | None = ...) -> RegexMatch | None: ...


class Deadline:
    """The time that one scan of a text may spend in user patterns.

    `limit_ms` is for texts of up to 100 000 characters; a longer text gets as much more as it is longer. This
    is the only clock in `limner.text`, and no result depends on it but the refusal. Processor time is
    counted, so that a busy machine does not make a good pattern look bad.
    """

    def __init__(self, limit_ms: int, length: int) -> None:
        self.limit_ms = limit_ms * max(1, -(-length // _TEXT_PER_LIMIT))
        self._end = time.thread_time() + self.limit_ms / 1000

    @property
    def seconds_left(self) -> float:
        """What is left, in seconds; never more than the limit, zero or less when it is used up."""
        return self._end - time.thread_time()


class UserRegex:
    """A compiled user pattern. `order` is its index among the patterns."""

    def __init__(self, source: str, order: int) -> None:
        self.source = source
        self.order = order
        self._compiled = _compile(source)

    def find(self, text: str, pos: int, deadline: Deadline) -> RegexMatch | None:
        """The first match of at least one character that begins at `pos` or behind it.

        Raises `PatternTooSlow` when the deadline passes.
        """
        while True:
            left = deadline.seconds_left
            if left <= 0:
                raise PatternTooSlow(self.source, deadline.limit_ms)
            try:
                match = self._compiled.search(text, pos, timeout=left)
            except TimeoutError:
                raise PatternTooSlow(self.source, deadline.limit_ms) from None
            if match is None or match.end() > match.start() >= pos:
                return match
            # Empty only through assertions, which compilation cannot see. Such a match is no tag.
            pos = max(pos, match.start()) + 1
            if pos > len(text):
                return None

    def prompt(self, text: str, match: RegexMatch) -> str:
        r"""The first group that took part in the match; `""` where none did.

        A group that stands directly between double quotes is unescaped as in the built-in quoted tags.
        """
        for group in range(1, self._compiled.groups + 1):
            start, end = match.start(group), match.end(group)
            if start < 0:
                continue
            body = text[start:end]
            if text[start - 1 : start] == '"' == text[end : end + 1]:
                return body.replace('\\"', '"')
            return body
        return ""


def _compile(source: str) -> _Compiled:
    try:
        compiled = cast("_Compiled", regex.compile(source))
    except regex.error as error:
        raise InvalidPattern(source, error.msg, error.pos) from None
    except (OverflowError, RecursionError, MemoryError, ValueError, KeyError) as error:
        # What `regex` raises for patterns that are too large or name things that do not exist.
        raise InvalidPattern(source, str(error) or type(error).__name__) from None
    if compiled.flags & regex.REVERSE:
        raise InvalidPattern(source, "it searches backwards (the flag r)")
    if compiled.groups == 0:
        raise InvalidPattern(source, "it has no group (…) that captures the prompt")
    try:
        empty = compiled.search("", timeout=1.0)
    except TimeoutError:
        raise InvalidPattern(source, "it is too slow even on an empty text") from None
    if empty is not None:
        raise InvalidPattern(source, "it matches the empty text")
    return compiled
