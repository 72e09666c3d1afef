"""The core: one event in, the next session and the commands out. Nothing else decides anything.

`handle` performs nothing, reads no clock and never changes the session it is given, so the same call gives
the same answer for ever: an engine can store the session and go on elsewhere, replay a journal, or drop the
answer if it cannot commit it.
"""

from __future__ import annotations

from limner.errors import CancelTooLate, EventRefused, RegenerationDuringStreaming
from limner.states.commands import Command
from limner.states.draft import SessionDraft
from limner.states.events import (
    CancelRequested,
    Event,
    GenerationAccepted,
    GenerationFailed,
    GenerationStarted,
    GenerationSucceeded,
    ProcessRestarted,
    RegenerationRequested,
    TimePassed,
)
from limner.states.session import SESSION
from limner.states.values import Session, SessionKind, TimerKind

PROMPT_TIMERS = {TimerKind.IMAGE: "image_timed_out", TimerKind.BACKOFF: "backoff_elapsed"}
SESSION_TIMERS = {TimerKind.DEBOUNCE: "debounce_elapsed", TimerKind.DRAIN: "drain_timed_out"}


def handle(session: Session, event: Event, now: int) -> tuple[Session, tuple[Command, ...]]:
    """The session after `event` at `now` (ms), and what to do about it, in order.

    Timers that are due by `now` run first, each at its own deadline; so it makes no difference into how
    many calls a stretch of time is split. `TIME_PASSED` runs only those. `PROCESS_RESTARTED` alone comes
    before them: in the time that no process ran no timer ran either.

    Raises `EventRefused` (or its subclass that says more) if the machine has no transition for the event;
    then the given session is still the valid one, and what was due in it is still due.
    """
    draft = SessionDraft(session, now)
    if not isinstance(event, ProcessRestarted):
        _run_due_timers(draft, now)
    if not isinstance(event, TimePassed):
        draft.now = now
        try:
            _run(draft, event)
        except EventRefused as refusal:
            raise _explained(refusal, draft, event) from None
    # A session that has ended stays as it ended, however often it is told that time passes.
    if draft.ended_at is None and draft.state in SESSION.final:
        draft.ended_at = draft.now
    return draft.result(), tuple(draft.commands)


def next_deadline(session: Session) -> int | None:
    """When to call `handle` with `TIME_PASSED` at the latest, in ms; None: never."""
    return session.timers[0].deadline if session.timers else None


def is_final(session: Session) -> bool:
    """Whether the session has ended."""
    return session.state in SESSION.final


def _run(draft: SessionDraft, event: Event) -> None:
    if isinstance(event, (GenerationStarted, GenerationAccepted, GenerationSucceeded, GenerationFailed)):
        if draft.change_prompt(event.prompt_id, event.name, event):
            _step(draft, "prompt_settled", event)
        return
    if isinstance(event, ProcessRestarted) and draft.state not in SESSION.final:
        draft.tell_unsettled(event.name, event)
    _step(draft, event.name, event)


def _step(draft: SessionDraft, name: str, cause: object) -> None:
    draft.state = SESSION.step(draft.state, name, draft, cause)
    if draft.state == "sealed":
        draft.state = SESSION.step("sealed", "total_fixed", draft, cause)


def _run_due_timers(draft: SessionDraft, now: int) -> None:
    timers = draft.timers
    while timers and timers[0].deadline <= now:
        timer = timers.pop(0)
        draft.now = timer.deadline
        if timer.kind in SESSION_TIMERS:
            _step(draft, SESSION_TIMERS[timer.kind], timer)
        elif draft.change_prompt(timer.prompt_id, PROMPT_TIMERS[timer.kind], timer):
            _step(draft, "prompt_settled", timer)


def _explained(refusal: EventRefused, draft: SessionDraft, event: Event) -> EventRefused:
    if isinstance(event, CancelRequested):
        told = f"message {draft.session.message_id!r}: its images are being written or the session has ended"
        return CancelTooLate(refusal.machine, refusal.state, refusal.event, told)
    streaming = draft.session.kind is SessionKind.STREAMING and draft.state not in SESSION.final
    if isinstance(event, RegenerationRequested) and streaming:
        told = f"message {draft.session.message_id!r} is still being streamed or illustrated"
        return RegenerationDuringStreaming(refusal.machine, refusal.state, refusal.event, told)
    return refusal
