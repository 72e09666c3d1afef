"""What a person sees of a text that streams: prose as it comes, prompt tags only once they are complete."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from limner.text import TagPattern, describe

LONGEST_HELD = 4_000
"""Characters of an open tag that are held back; an opener that is no tag must not hide a whole text."""


class VisiblePiece(NamedTuple):
    """A piece of prose, or the prompt of a tag that stood in its place."""

    text: str
    is_prompt: bool = False


class VisibleText:
    """Cuts a streamed text into prose and prompts. Only for the eye: what counts is `limner.text`.

    Unless the text is not `for_terminal`, control characters are dropped, since a model's text must not be
    able to steer the terminal.
    """

    def __init__(self, patterns: Iterable[str | TagPattern], *, for_terminal: bool = True) -> None:
        self._for_terminal = for_terminal
        self._tags = [pattern for pattern in patterns if isinstance(pattern, TagPattern)]
        self._held = ""

    def feed(self, chunk: str) -> list[VisiblePiece]:
        """What can be shown now."""
        if self._for_terminal:
            chunk = "".join(ch for ch in chunk if ch.isprintable() or ch == "\n")
        self._held += chunk
        pieces: list[VisiblePiece] = []
        while self._held:
            start, tag = self._first_opener()
            if start:
                pieces.append(VisiblePiece(self._held[:start]))
                self._held = self._held[start:]
            if tag is None:
                break
            body = self._held[len(tag.opener) :]
            end = _closer(body, tag)
            if end < 0:
                if len(self._held) > LONGEST_HELD:
                    pieces.append(VisiblePiece(self._held))
                    self._held = ""
                break
            pieces.append(VisiblePiece(describe(body[:end].replace('\\"', '"')), is_prompt=True))
            self._held = body[end + len(tag.closer) :]
        return pieces

    def finish(self) -> list[VisiblePiece]:
        """What is left at the end of the text."""
        rest, self._held = self._held, ""
        return [VisiblePiece(rest)] if rest else []

    def _first_opener(self) -> tuple[int, TagPattern | None]:
        """Where the first tag opens; without one, from where on the text could still become one."""
        found = [(at, tag) for tag in self._tags if (at := self._held.find(tag.opener)) >= 0]
        if found:
            return min(found, key=lambda place: place[0])
        longest = max((len(tag.opener) for tag in self._tags), default=1) - 1
        for start in range(max(0, len(self._held) - longest), len(self._held)):
            if any(tag.opener.startswith(self._held[start:]) for tag in self._tags):
                return start, None
        return len(self._held), None


def _closer(body: str, tag: TagPattern) -> int:
    """The offset of the tag's end in `body`, -1 if it has not come yet; `\\"` ends no quoted tag."""
    at = body.find(tag.closer)
    while tag.quoted and at > 0 and body[at - 1] == "\\":
        at = body.find(tag.closer, at + 1)
    return at
