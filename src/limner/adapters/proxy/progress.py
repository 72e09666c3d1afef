"""How far the pictures of a reply are, as lines that a person reads while waiting."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from limner.adapters.proxy.history import PROGRESS_MARK
from limner.adapters.sniffing import one_line
from limner.states import SETTLED
from limner.workflows.progress_events import PromptProgress

_LONGEST_PROMPT = 80
_LONGEST_REASON = 160
_HELD_BACK = ("queued", "waiting")


class ProgressLines:
    """Takes the steps of each picture and gives a line for those that are news.

    `prompt_ids` are the pictures that there are, so that they count from the first line on.
    """

    def __init__(self, prompt_ids: Iterable[str] = ()) -> None:
        self._pictures: dict[str, PromptProgress | None] = dict.fromkeys(prompt_ids)
        self._told_to_wait: set[str] = set()

    @property
    def summary(self) -> str:
        """How many are settled, of how many: `1/3`."""
        settled = sum(known is not None and known.state in SETTLED for known in self._pictures.values())
        return f"{settled}/{len(self._pictures)}"

    def take(self, event: PromptProgress) -> Iterator[str]:
        """The lines that this step is worth."""
        before, self._pictures[event.prompt_id] = self._pictures.get(event.prompt_id), event
        if (before is not None and before.state == event.state) or event.state in _HELD_BACK:
            return
        prompt = one_line(event.prompt, _LONGEST_PROMPT)
        if event.state == "generating":
            yield f"{PROGRESS_MARK}painting: {prompt}\n"
        elif event.state == "completed":
            yield f"{PROGRESS_MARK}{self.summary} painted: {prompt}\n"
        else:
            yield f"{PROGRESS_MARK}{self.summary} no picture of: {prompt} ({_reason(event) or event.state})\n"

    def held_back(self) -> Iterator[str]:
        """A line for each picture that waits in the line or for its next attempt, once."""
        for known in self._pictures.values():
            if known is None or known.state not in _HELD_BACK or known.prompt_id in self._told_to_wait:
                continue
            self._told_to_wait.add(known.prompt_id)
            reason = _reason(known)
            why = f" ({reason})" if reason else ""
            yield f"{PROGRESS_MARK}waiting: {one_line(known.prompt, _LONGEST_PROMPT)}{why}\n"


def _reason(event: PromptProgress) -> str:
    return one_line(event.problem.message, _LONGEST_REASON) if event.problem else ""
