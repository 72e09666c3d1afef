"""A text that breaks off inside of a tag, and what would end that tag."""

from __future__ import annotations

from collections.abc import Iterable

from limner.text.patterns import PromptPatterns, TagPattern, as_patterns
from limner.text.regions import Clear, Closed, PlainTag, QuotedTag, Reasoning

_COMMENT = "<!--"
_END_OF_COMMENT = "-->"


def missing_end(text: str, patterns: PromptPatterns | Iterable[str | TagPattern] | None = None) -> str:
    """What has to follow `text` to close the prompt tag that it breaks off in; empty where it is in none.

    Where it breaks off in the opener already, that is the end of the HTML comment, if the opener begins one.
    Only `TagPattern`s have an end that is known; what a regex has begun to match is not looked at, nor are
    reasoning blocks and code fences. Takes time in proportion to the text.
    """
    table = as_patterns(patterns).table
    region = table.next(text, 0)
    while isinstance(region, Closed):
        region = table.next(text, region.end)
    if isinstance(region, Clear):
        return _END_OF_COMMENT if text.startswith(_COMMENT, region.hold) else ""
    tag = region.region
    if isinstance(tag, QuotedTag | PlainTag) and not isinstance(tag, Reasoning):
        return tag.missing(text[region.resume :])
    return ""
