"""What a display knows of the work under way."""

from __future__ import annotations

from limner.states import SETTLED, SessionKind
from limner.states.outcome import Counts
from limner.workflows.progress_events import ProgressEvent, PromptProgress, SessionEnded, SessionProgress


class ProgressState:
    """The newest progress of one session, kept from its events.

    A picture that is made anew keeps the number it had: what an earlier session called 4 stays 4.
    """

    def __init__(self) -> None:
        self.kind = SessionKind.STREAMING
        self.state = "idle"
        self.counts = Counts()
        self.prompts: dict[str, PromptProgress] = {}
        self._numbers: dict[str, int] = {}
        self._earlier: dict[str, int] = {}
        self._session_id = ""

    def take(self, event: ProgressEvent) -> None:
        """Note an event. Another session's first one begins anew."""
        if event.session_id != self._session_id:
            self._session_id = event.session_id
            self._earlier |= self._numbers_by_words()
            self.prompts = {}
            self._numbers = {}
        if isinstance(event, SessionProgress):
            self.kind, self.state, self.counts = event.kind, event.state, event.counts
        elif isinstance(event, PromptProgress):
            self.prompts[event.prompt_id] = event
            number = self._earlier.get(event.prompt, len(self.prompts))
            self._numbers.setdefault(event.prompt_id, number)
        elif isinstance(event, SessionEnded):
            self.state = event.result.state

    def number_of(self, prompt_id: str) -> int:
        """Which of the text's prompts this is, from 1, in the order in which they were found."""
        return self._numbers[prompt_id]

    @property
    def headline(self) -> str:
        """One line on the whole, such as `Generating 3/5 images…`."""
        counts = self.counts
        if self.state == "idle" or (self.state == "streaming" and not counts.total):
            return "Waiting for a prompt…"
        if self.state == "debouncing":
            return f"Regenerating {counts.settled}/{_images(counts.total)}, waiting for more clicks…"
        if self.state == "inserting" and counts.completed:
            return f"Writing {_images(counts.completed)} in one write…"
        if self.state in ("done", "failed", "cancelled"):
            return f"{counts.completed}/{_images(counts.total)}, {self.state}"
        verb = "Generating" if self.kind is SessionKind.STREAMING else "Regenerating"
        return f"{verb} {counts.settled}/{_images(counts.total)}…"

    def fraction_done(self) -> float:
        """How much of all images is done, 0.0 to 1.0."""
        if not self.prompts:
            return 0.0
        done = sum(
            1.0 if prompt.state in SETTLED else (prompt.fraction or 0.0) for prompt in self.prompts.values()
        )
        return done / len(self.prompts)

    def window(self, size: int) -> list[tuple[int, PromptProgress]]:
        """At most `size` prompts with their numbers: those being worked on, then the ones around them."""
        numbered = [(self._numbers[prompt_id], prompt) for prompt_id, prompt in self.prompts.items()]
        first_open = next((i for i, (_, p) in enumerate(numbered) if p.state not in SETTLED), len(numbered))
        start = max(0, min(first_open - 1, len(numbered) - size))
        return numbered[start : start + size]

    def _numbers_by_words(self) -> dict[str, int]:
        """The numbers of the prompts whose words no other has; words are all that two sessions share."""
        numbers: dict[str, set[int]] = {}
        for prompt_id, prompt in self.prompts.items():
            numbers.setdefault(prompt.prompt, set()).add(self._numbers[prompt_id])
        return {words: found.pop() for words, found in numbers.items() if len(found) == 1}


def _images(number: int) -> str:
    return f"{number} image" if number == 1 else f"{number} images"
