"""Looking through a whole text for prompts: at a seal, and after a restart."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from limner.errors import PatternTooSlow
from limner.text import ImageMatch, PromptMatch, PromptPatterns, extract_image_prompts
from limner.workflows.logs import log


def without_images(
    text: str, matches: Sequence[PromptMatch], images: Sequence[ImageMatch]
) -> list[PromptMatch]:
    """The prompts that no image follows yet: in a message that arrives whole, the others are done already."""
    starts = sorted(image.start for image in images)

    def has_image(match: PromptMatch) -> bool:
        index = bisect_left(starts, match.end)
        return index < len(starts) and not text[match.end : starts[index]].strip()

    return [match for match in matches if not has_image(match)]


def scan(text: str, patterns: PromptPatterns) -> list[PromptMatch]:
    """All prompts in a text; where one of the host's patterns is too slow, what the tags alone find."""
    try:
        return extract_image_prompts(text, patterns)
    except PatternTooSlow as error:
        log.warning("pattern_too_slow", pattern=error.pattern, limit_ms=error.limit_ms)
        return extract_image_prompts(text, patterns.without_regexes())
