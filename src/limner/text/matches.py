"""What detection reports: one `PromptMatch` per image prompt."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PromptMatch:
    """An image prompt found in a text.

    `prompt` is what to paint: unescaped, white space trimmed from both ends. `full_match` is the whole tag as
    it stands in the text, `start` and `end` are its offsets there in characters (`text[start:end]`).
    `occurrence` counts, from 0, the earlier matches of the same text that have the same `prompt`: together
    the two name a prompt independently of where it stands.
    """

    prompt: str
    full_match: str
    start: int
    end: int
    occurrence: int


class MatchCollector:
    """Gathers matches in the order of the text and numbers equal prompts."""

    __slots__ = ("_seen", "matches")

    def __init__(self) -> None:
        self.matches: list[PromptMatch] = []
        self._seen: dict[str, int] = {}

    def add(self, prompt: str, full_match: str, start: int) -> PromptMatch | None:
        """Add a match; None for a blank prompt, which is skipped and not counted."""
        prompt = prompt.strip()
        if not prompt:
            return None
        occurrence = self._seen.get(prompt, 0)
        self._seen[prompt] = occurrence + 1
        match = PromptMatch(prompt, full_match, start, start + len(full_match), occurrence)
        self.matches.append(match)
        return match
