"""Scanning with user regexes, which cannot be read incrementally, together with the exact regions."""

from __future__ import annotations

import time
from collections.abc import Iterator

from limner.errors import PatternTooSlow
from limner.text.matches import MatchCollector, PromptMatch
from limner.text.patterns import PromptPatterns
from limner.text.regions import Clear, Closed, Open, PlainTag, QuotedTag
from limner.text.user_regex import Deadline, RegexMatch

# How often, on average, a character of a streamed text may be looked at again, and what is free.
_RESCANS = 16
_FREE = 1 << 16
# How many time limits all scans of one stream together may take; then the rest is left to `finish`.
_LIMITS = 10
# What a scan of the rest sees of the text before it, for lookbehinds and line starts.
_CONTEXT = 256


def scan(text: str, patterns: PromptPatterns, pos: int = 0) -> Iterator[tuple[int, int, str]]:
    """Start, end and raw prompt of each tag from `pos` on: leftmost first, then the order of the patterns.

    Raises `PatternTooSlow`.
    """
    deadline = Deadline(patterns.time_limit_ms, len(text) - pos)
    regexes = patterns.regexes
    hits: list[RegexMatch | None] = [regex.find(text, pos, deadline) for regex in regexes]
    region = patterns.table.next(text, pos)
    while True:
        best: tuple[int, int] | None = None
        if not isinstance(region, Clear):
            best = region.start, region.region.order
        chosen = -1
        for index, hit in enumerate(hits):
            if hit is not None and (best is None or (hit.start(), regexes[index].order) < best):
                best, chosen = (hit.start(), regexes[index].order), index
        if best is None:
            return
        if chosen >= 0:
            hit = hits[chosen]
            assert hit is not None  # noqa: S101  # for the type checker: it was just chosen
            yield hit.start(), hit.end(), regexes[chosen].prompt(text, hit)
            pos = hit.end()
        elif isinstance(region, Closed):
            pos = region.end
            tag = region.region
            if isinstance(tag, QuotedTag | PlainTag) and tag.order >= 0:
                yield region.start, region.end, tag.prompt(text[region.body : region.end - len(tag.closer)])
        else:
            return  # what has begun and is not closed holds back the rest
        for index, hit in enumerate(hits):
            if hit is not None and hit.start() < pos:
                hits[index] = regexes[index].find(text, pos, deadline)
        if isinstance(region, Closed | Open) and region.start < pos:
            if regexes and deadline.seconds_left <= 0:
                raise PatternTooSlow(regexes[max(chosen, 0)].source, deadline.limit_ms)
            region = patterns.table.next(text, pos)


def scan_all(text: str, patterns: PromptPatterns) -> list[PromptMatch]:
    """All prompts of a whole text. Raises `PatternTooSlow`."""
    collector = MatchCollector()
    for start, end, prompt in scan(text, patterns):
        collector.add(prompt, text[start:end], start)
    return collector.matches


class RegexStream:
    """A streamed text with user regexes: the rest behind the last match is scanned now and then.

    The work stays proportional to the text: in a long message a prompt is found late, at the latest by
    `finish`. A match that reaches the end of the text so far waits for more text, as it may grow.
    """

    def __init__(self, patterns: PromptPatterns) -> None:
        self.error: PatternTooSlow | None = None
        self._patterns = patterns
        self._pieces: list[str] = []  # everything
        self._context = ""
        self._rest: list[str] = []  # what stands behind the last match
        self._rest_length = 0
        self._length = 0
        self._scanned = 0
        self._seconds = 0.0
        self._collector = MatchCollector()

    @property
    def matches(self) -> list[PromptMatch]:
        """All matches so far, in order."""
        return self._collector.matches

    def feed(self, chunk: str) -> list[PromptMatch]:
        """Add text; the newly found matches."""
        self._pieces.append(chunk)
        self._rest.append(chunk)
        self._rest_length += len(chunk)
        self._length += len(chunk)
        if self._scanned + self._rest_length > _RESCANS * self._length + _FREE:
            return []
        limits = Deadline(self._patterns.time_limit_ms, self._length).limit_ms * _LIMITS
        if self._seconds * 1000 > limits:
            return []
        self._scanned += self._rest_length
        known = len(self.matches)
        try:
            self._scan_rest()
        except PatternTooSlow as error:
            self.error = error
        return self.matches[known:]

    def _scan_rest(self) -> None:
        rest = "".join(self._rest)
        text = self._context + rest
        shift = self._length - len(text)
        done = len(self._context)
        began = time.thread_time()
        try:
            for start, end, prompt in scan(text, self._patterns, done):
                if end == len(text):
                    break
                self._collector.add(prompt, text[start:end], start + shift)
                done = end
        finally:
            self._seconds += time.thread_time() - began
            self._context = text[max(0, done - _CONTEXT) : done]
            self._rest = [text[done:]]
            self._rest_length = len(text) - done

    def text(self) -> str:
        """The whole text so far."""
        self._pieces = ["".join(self._pieces)]
        return self._pieces[0]

    def settle(self, matches: list[PromptMatch]) -> None:
        """Take the result of a whole scan in place of what was found on the way."""
        text = self.text()
        self._collector = MatchCollector()
        done = 0
        for match in matches:
            self._collector.add(match.prompt, match.full_match, match.start)
            done = match.end
        self._context = text[max(0, done - _CONTEXT) : done]
        self._rest = [text[done:]]
        self._rest_length = len(text) - done

    def forget(self) -> None:
        """Let go of the text."""
        self._pieces, self._rest, self._rest_length = [], [], 0
