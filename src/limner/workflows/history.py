"""The events of a message, as its machines took them: for whoever looks at a session while it runs."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Literal, NamedTuple

from limner.states import (
    CancelRequested,
    GenerationFailed,
    GenerationStarted,
    GenerationSucceeded,
    InsertionFailed,
    PromptFound,
    RegenerationRequested,
    Session,
    StreamEnded,
)
from limner.states.events import Event, GenerationAccepted
from limner.states.message import Step

_OF_PROMPTS = (GenerationStarted, GenerationAccepted, GenerationSucceeded, GenerationFailed)


class HistoryEntry(NamedTuple):
    """One event at `at_ms` (wall clock, ms): what it was, and what it made of a machine's state.

    `machine` says whether `before` and `after` are states of the session or of a prompt. `detail` is what a
    person makes of the event: a prompt's text, a reason.
    """

    at_ms: int
    session_id: str
    machine: Literal["session", "prompt"]
    event: str
    before: str
    after: str
    detail: str


class History:
    """The last `keep_entries` events of each of the last `keep_messages` messages."""

    def __init__(self, keep_entries: int = 200, keep_messages: int = 500) -> None:
        self._keep_entries = keep_entries
        self._keep_messages = keep_messages
        self._entries: OrderedDict[str, deque[HistoryEntry]] = OrderedDict()
        self._last: dict[str, Session] = {}

    def committed(self, step: Step, at_ms: int) -> None:
        """Take note of a committed step."""
        session = step.session
        message_id = session.message_id
        entries = self._entries.get(message_id)
        if entries is None:
            entries = self._entries[message_id] = deque(maxlen=self._keep_entries)
            while len(self._entries) > self._keep_messages:
                forgotten, _ = self._entries.popitem(last=False)
                del self._last[forgotten]
        self._entries.move_to_end(message_id)
        last = self._last.get(message_id)
        entries.extend(_entries_of(None if last is None or last.id != session.id else last, step, at_ms))
        self._last[message_id] = session

    def forget(self, message_id: str) -> None:
        """Drop what is kept of a message."""
        self._entries.pop(message_id, None)
        self._last.pop(message_id, None)

    def of(self, message_id: str) -> tuple[HistoryEntry, ...]:
        """What is kept of a message, oldest first."""
        return tuple(self._entries.get(message_id, ()))


def _entries_of(last: Session | None, step: Step, at_ms: int) -> Iterator[HistoryEntry]:
    session, event = step.session, step.event
    before = "idle" if last is None else last.state
    if isinstance(event, _OF_PROMPTS):
        prompt = session.prompts[event.prompt_id]
        was = prompt.state if last is None else last.prompts[event.prompt_id].state
        yield HistoryEntry(
            at_ms, session.id, "prompt", event.name, was, prompt.state, _detail(event, session)
        )
        if before == session.state:
            return
    yield HistoryEntry(
        at_ms, session.id, "session", event.name, before, session.state, _detail(event, session)
    )


def _detail(event: Event, session: Session) -> str:
    if isinstance(event, PromptFound):
        return event.prompt.text
    if isinstance(event, RegenerationRequested):
        return event.text
    if isinstance(event, StreamEnded):
        count = len(event.prompts)
        return f"{count} prompt" if count == 1 else f"{count} prompts"
    if isinstance(event, (GenerationFailed, InsertionFailed)):
        return event.problem.message
    if isinstance(event, (GenerationStarted, GenerationAccepted, GenerationSucceeded)):
        return session.prompts[event.prompt_id].text
    if isinstance(event, CancelRequested):
        return event.reason
    return ""
