"""Incremental detection: prompts are found while the text arrives, at the cost of what arrives."""

from __future__ import annotations

from collections.abc import Iterable

from limner.errors import PatternTooSlow
from limner.text.matches import MatchCollector, PromptMatch
from limner.text.patterns import PromptPatterns, TagPattern, as_patterns
from limner.text.regex_scan import RegexStream, scan_all
from limner.text.regions import (
    Clear,
    Closed,
    Ending,
    Open,
    OpenFence,
    PlainTag,
    QuotedTag,
    Reasoning,
    Region,
    RegionTable,
)


class _RegionStream:
    """Reads a text in pieces and keeps no more of it than what is undecided."""

    __slots__ = ("_at", "_before", "_context", "_length", "_open", "_pieces", "_rest", "_table", "collector")

    def __init__(self, table: RegionTable) -> None:
        self.collector = MatchCollector()
        self._table = table
        self._length = 0
        self._rest = ""  # the end of the text so far, as far as it is undecided, …
        self._at = 0  # … behind this position; before it stands one character, where lines matter
        self._open: Open | None = None  # positions in it count from its own start
        self._before = 0  # where the open region begins in the whole text
        self._pieces: list[str] = []  # the open region up to `_rest`
        self._context = ""  # the character before it

    @property
    def quiet(self) -> bool:
        """Whether a piece of text in which nothing alerts the table may be passed by with `skip`."""
        if self._open is not None or len(self._rest) > self._at:
            return False
        return not self._table.needs_line_starts or (self._rest != "" and self._rest[-1] not in "\r\n")

    def feed(self, chunk: str, skipped: int) -> list[PromptMatch]:
        """Add text, after `skipped` characters that were passed by; the newly completed matches."""
        self._length += skipped
        if self._open is None:
            text = self._rest + chunk
            base = self._length - len(self._rest)
            self._length += len(chunk)
            return self._search(text, self._at, base, [])
        return self._resume(self._open, chunk)

    def _search(self, text: str, pos: int, base: int, found: list[PromptMatch]) -> list[PromptMatch]:
        """Read on from `pos`, outside of any region; `base` is where `text` begins in the whole text."""
        table = self._table
        while True:
            region = table.next(text, pos)
            if isinstance(region, Closed):
                full_match = text[region.start : region.end]
                found += self._report(
                    region.region, full_match, region.body - region.start, base + region.start
                )
                pos = region.end
                continue
            if isinstance(region, Clear):
                keep = max(0, region.hold - 1) if table.needs_line_starts else region.hold
                self._rest, self._at = text[keep:], region.hold - keep
                self._open = None
                return found
            self._before = base + region.start
            self._context = text[max(0, region.start - 1) : region.start]
            self._pieces = []
            self._open = Open(region.region, 0, region.body - region.start, 0, region.closing)
            self._hold(self._open, text[region.start : region.resume])
            self._rest = text[region.resume :]
            return found

    def _resume(self, region: Open, chunk: str) -> list[PromptMatch]:
        """Look on for the end of the open region."""
        text = self._rest + chunk
        self._length += len(chunk)
        ending, at = region.closing.close(text, 0)
        if ending is Ending.PENDING:
            self._hold(region, text[:at])
            self._rest = text[at:]
            return []
        base = self._length - len(text)
        if ending is Ending.CLOSED:
            full_match = "".join((*self._pieces, text[:at]))
            self._drop()
            found = self._report(region.region, full_match, region.body, self._before)
            return self._search(text, at, base, found)
        # It was no such region: what it held is read again, from its own place, where another may begin.
        text = "".join((self._context, *self._pieces, text))
        self._drop()
        return self._search(text, len(self._context), self._before - len(self._context), [])

    def _hold(self, region: Open, piece: str) -> None:
        """Keep a piece of the open region, unless its text can never be needed."""
        if isinstance(region.region, Reasoning) or (
            isinstance(region.closing, OpenFence) and region.closing.certain
        ):
            self._pieces.clear()
        elif piece:
            self._pieces.append(piece)

    def _drop(self) -> None:
        self._open = None
        self._pieces = []

    def _report(self, region: Region, full_match: str, body: int, start: int) -> list[PromptMatch]:
        """Collect the match, if the region is a tag with a prompt."""
        if isinstance(region, QuotedTag | PlainTag) and region.order >= 0:
            prompt = region.prompt(full_match[body : len(full_match) - len(region.closer)])
            match = self.collector.add(prompt, full_match, start)
            if match is not None:
                return [match]
        return []


class PromptScanner:
    """Finds the image prompts of one text while it arrives.

    For sets of `TagPattern`s the result is exact at any time: `matches` is what `extract_image_prompts` gives
    for the text so far, however it was cut into chunks; what was found stays found. A small chunk of ordinary
    text costs about a microsecond, whatever the length of the text before it, and no more of the text is kept
    than what is undecided.

    With user regexes the text is kept, and its end is scanned now and then, at a total cost in proportion to
    the text: in a long text a prompt may be found late, and a match may be found that more text undoes.
    `finish` scans the whole and puts that right. A regex that takes too long does not break the stream:
    `error` is set, the regexes are left out from then on, and `matches` is what the `TagPattern`s give.
    """

    __slots__ = ("_alerts", "_patterns", "_quiet", "_regexes", "_regions", "_skipped", "length")

    def __init__(self, patterns: PromptPatterns | Iterable[str | TagPattern] | None = None) -> None:
        self._patterns = as_patterns(patterns)
        self._regions = _RegionStream(self._patterns.table)
        self._regexes = RegexStream(self._patterns) if self._patterns.regexes else None
        self._alerts = self._patterns.table.alert.search
        self._quiet = False
        self._skipped = 0
        self.length = 0
        """Characters fed so far."""

    def feed(self, chunk: str) -> list[PromptMatch]:
        """Add the next piece of text; the matches that it completes, with offsets in the whole text."""
        self.length += len(chunk)
        if self._quiet and self._alerts(chunk) is None:
            self._skipped += len(chunk)
            return []
        if self._regexes is not None:
            return self._feed_regexes(self._regexes, chunk)
        found = self._regions.feed(chunk, self._skipped)
        self._skipped = 0
        self._quiet = self._regions.quiet
        return found

    def finish(self) -> list[PromptMatch]:
        """All matches of the whole text: what `extract_image_prompts` gives for it.

        After a `PatternTooSlow` (then `error` is set, here or earlier) only those of the `TagPattern`s. More
        text may be fed afterwards.
        """
        if self._regexes is not None and self._regexes.error is None:
            try:
                self._regexes.settle(scan_all(self._regexes.text(), self._patterns))
            except PatternTooSlow as error:
                self._regexes.error = error
                self._fall_back(self._regexes)
        return self.matches

    @property
    def matches(self) -> list[PromptMatch]:
        """All matches so far, in the order of the text."""
        if self._regexes is not None and self._regexes.error is None:
            return list(self._regexes.matches)
        return list(self._regions.collector.matches)

    @property
    def error(self) -> PatternTooSlow | None:
        """The user regex that was left out because it took too long."""
        return None if self._regexes is None else self._regexes.error

    def _feed_regexes(self, regexes: RegexStream, chunk: str) -> list[PromptMatch]:
        if regexes.error is not None:
            return self._regions.feed(chunk, 0)
        found = regexes.feed(chunk)
        if regexes.error is None:
            return found
        return found + self._fall_back(regexes)

    def _fall_back(self, regexes: RegexStream) -> list[PromptMatch]:
        """Go on with the tags alone; those of their matches that were not reported yet."""
        reported = {(match.start, match.prompt) for match in regexes.matches}
        found = self._regions.feed(regexes.text(), 0)
        regexes.forget()
        return [match for match in found if (match.start, match.prompt) not in reported]
