"""A message for the eye of a chat that shows pictures beside the text: no prompt tags, no images in it."""

from __future__ import annotations

import re

from limner.adapters.visible import VisibleText
from limner.text import PromptPatterns, extract_image_prompts, strip_illustrations

_GAP = re.compile(r"\n[ \t]*(?:\n[ \t]*){2,}")


class ReadableStream:
    """What can be shown of a text while it streams. An open tag is held back until it is complete."""

    def __init__(self, patterns: PromptPatterns) -> None:
        self._visible = VisibleText(patterns.patterns, for_terminal=False)

    def feed(self, piece: str) -> str:
        """What can be shown now that it could not before."""
        return "".join(part.text for part in self._visible.feed(piece) if not part.is_prompt)

    def finish(self) -> str:
        """What is left at the end of the text."""
        return "".join(part.text for part in self._visible.finish())


def readable(text: str, patterns: PromptPatterns) -> str:
    """A whole text without its prompt tags and the images behind them, and without the gaps they leave.

    Raises `PatternTooSlow`.
    """
    plain = strip_illustrations(text, patterns=patterns)
    kept: list[str] = []
    done = 0
    for prompt in extract_image_prompts(plain, patterns):
        kept.append(plain[done : prompt.start])
        done = prompt.end
    kept.append(plain[done:])
    return _GAP.sub("\n\n", "".join(kept)).strip()
