"""How far the pictures of a reply are, as lines that a person reads while waiting."""

from __future__ import annotations

from collections.abc import Iterator

from limner.adapters.proxy.history import PROGRESS_MARK
from limner.adapters.sniffing import one_line
from limner.states import SETTLED
from limner.workflows.progress_events import PromptProgress

_LONGEST_PROMPT = 80
_LONGEST_REASON = 160


class ProgressLines:
    """Takes the steps of each picture and gives a line for those that are news."""

    def __init__(self) -> None:
        self._states: dict[str, str] = {}

    @property
    def summary(self) -> str:
        """How many are settled, of how many: `1/3`."""
        settled = sum(state in SETTLED for state in self._states.values())
        return f"{settled}/{len(self._states)}"

    def take(self, event: PromptProgress) -> Iterator[str]:
        """The lines that this step is worth."""
        before, self._states[event.prompt_id] = self._states.get(event.prompt_id), event.state
        if before == event.state or event.state not in {*SETTLED, "generating"}:
            return
        prompt = one_line(event.prompt, _LONGEST_PROMPT)
        if event.state == "generating":
            yield f"{PROGRESS_MARK}painting: {prompt}\n"
        elif event.state == "completed":
            yield f"{PROGRESS_MARK}{self.summary} painted: {prompt}\n"
        else:
            reason = one_line(event.problem.message, _LONGEST_REASON) if event.problem else event.state
            yield f"{PROGRESS_MARK}{self.summary} no picture of: {prompt} ({reason})\n"
