"""Detection in a whole text."""

from __future__ import annotations

from collections.abc import Iterable

from limner.text.matches import PromptMatch
from limner.text.patterns import PromptPatterns, TagPattern, as_patterns
from limner.text.regex_scan import scan_all
from limner.text.scanner import PromptScanner


def extract_image_prompts(
    text: str, patterns: PromptPatterns | Iterable[str | TagPattern] | None = None
) -> list[PromptMatch]:
    """The image prompts in `text`, in its order; None stands for `DEFAULT_PATTERNS`.

    The leftmost tag comes first; of several at one place, the one whose pattern comes first. Tags do not
    overlap. Blank prompts are skipped. What stands in a reasoning block is no prompt, nor is what stands in
    a fenced code block, where the patterns say so. A tag that is not closed holds back what follows it.

    Raises `InvalidPattern` for a bad pattern, `PatternTooSlow` for a user regex that takes too long.
    """
    compiled = as_patterns(patterns)
    if compiled.regexes:
        return scan_all(text, compiled)
    scanner = PromptScanner(compiled)
    scanner.feed(text)
    return scanner.finish()
