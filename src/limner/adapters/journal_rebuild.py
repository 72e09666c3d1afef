"""One session put together from the rows that are left of it, and what they do not tell any more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from limner.adapters.journal_format import BadRow, EventRow, to_session
from limner.adapters.journal_reader import SessionHistory, SessionSummary, count_states, summary_of
from limner.errors import LimnerError
from limner.states import (
    SESSION,
    GenerationAccepted,
    GenerationFailed,
    GenerationStarted,
    GenerationSucceeded,
    Prompt,
    PromptFound,
    RegenerationRequested,
    Session,
    SessionKind,
    StreamEnded,
    StreamStarted,
    is_final,
)
from limner.states.message import replay
from limner.states.values import NO_PROMPTS

OWN_ROW = "its own row, with its message and settings"
NEWEST_ROW = "the newest version of its row"
SOME_EVENTS = "some of its events"
PERHAPS_EVENTS = "perhaps some of its events"
ALL_EVENTS = "all of its events"

_PROMPT_EVENTS = (GenerationStarted, GenerationAccepted, GenerationSucceeded, GenerationFailed)


class Remains(NamedTuple):
    """The rows that are left of a session: its own, its prompts with their places, its events in order.

    `unbroken` says that between the first and the last of these events there certainly was no other.
    """

    id: str
    number: int | None
    row: Mapping[str, Any] | None
    prompts: Sequence[tuple[int, Prompt]]
    events: Sequence[EventRow]
    unbroken: bool


def put_together(left: Remains) -> SessionHistory:
    """The session as far as its rows tell it.

    Where its events are all there, they tell everything: what was lost of its prompts, too.
    """
    stored = _stored(left)
    if stored is None or left.row is None:
        return _without_row(left)
    replayed = _replayed(left, stored)
    missing = _lost_events(left, int(left.row["changed_at"]), leads_to_row=replayed is not None)
    if replayed is None or missing:
        # An event of which only a lost row told may be lost, too: what is left is shown, and nothing made up.
        prompts = {prompt.id: prompt for _, prompt in sorted(left.prompts, key=lambda placed: placed[0])}
        replayed = stored._replace(prompts=prompts)
        missing += _lost_prompts(left)
    known = tuple(replayed.prompts.values())
    states = (prompt.state for prompt in known)
    live = not is_final(replayed)
    summary = summary_of(left.row, states, number=left.number, live=live, missing=missing)
    return SessionHistory(summary, replayed, known, tuple(left.events))


def _stored(left: Remains) -> Session | None:
    if left.row is None:
        return None
    try:
        return to_session(left.row, ())
    except BadRow:
        return None


def _replayed(left: Remains, stored: Session) -> Session | None:
    """The session as its events make it, if they lead to its row by way of what its prompts' rows say."""
    session = Session(stored.id, stored.message_id, stored.kind, stored.settings, stored.opened_at)
    unseen = {prompt.id: prompt for _, prompt in left.prompts}
    try:
        for after in replay(session, ((row.event, row.at) for row in left.events)):
            for prompt in after.prompts.values():
                if session.prompts.get(prompt.id) is not prompt and unseen.get(prompt.id) == prompt:
                    del unseen[prompt.id]
            session = after
    except (LimnerError, LookupError, AssertionError):
        # It cannot have happened like this: something in between is lost.
        return None
    return session if not unseen and session._replace(prompts=NO_PROMPTS) == stored else None


def _lost_events(left: Remains, changed_at: int, *, leads_to_row: bool) -> tuple[str, ...]:
    if not left.events:
        return (ALL_EVENTS,)
    last_at = left.events[-1].at
    if last_at > changed_at:
        return (NEWEST_ROW,)
    if not leads_to_row:
        return (SOME_EVENTS,)
    # Some events leave no trace when they are lost: a prompt was found that the final scan found again.
    return () if left.unbroken and last_at == changed_at else (PERHAPS_EVENTS,)


def _without_row(left: Remains) -> SessionHistory:
    prompts = tuple(prompt for _, prompt in sorted(left.prompts, key=lambda placed: placed[0]))
    first, last = (left.events[0], left.events[-1]) if left.events else (None, None)
    ended = last is not None and last.state in SESSION.final
    summary = SessionSummary(
        id=left.id,
        number=left.number,
        message_id=None,
        kind=_kind(left.events),
        state=None if last is None else last.state,
        live=not ended,
        opened_at=None if first is None else first.at,
        changed_at=None if last is None else last.at,
        ended_at=last.at if last is not None and ended else None,
        prompts=count_states(prompt.state for prompt in prompts),
        missing=(OWN_ROW, *(() if left.events else (ALL_EVENTS,)), *_lost_prompts(left)),
    )
    return SessionHistory(summary, None, prompts, tuple(left.events))


def _kind(events: Iterable[EventRow]) -> SessionKind | None:
    for row in events:
        if isinstance(row.event, (StreamStarted, PromptFound, StreamEnded)):
            return SessionKind.STREAMING
        if isinstance(row.event, RegenerationRequested):
            return SessionKind.REGENERATION
    return None


def _lost_prompts(left: Remains) -> tuple[str, ...]:
    """How many prompts the events speak of, or the others' places leave room for, that have no row."""
    known = {prompt.id for _, prompt in left.prompts}
    mentioned: set[str] = set()
    for row in left.events:
        if isinstance(row.event, PromptFound):
            mentioned.add(row.event.prompt.id)
        elif isinstance(row.event, StreamEnded):
            mentioned.update(prompt.id for prompt in row.event.prompts)
        elif isinstance(row.event, _PROMPT_EVENTS):
            mentioned.add(row.event.prompt_id)
    places = 1 + max((place for place, _ in left.prompts), default=-1)
    lost = max(len(mentioned | known), places) - len(known)
    if lost <= 0:
        return ()
    return (f"{lost} of its prompts" if lost > 1 else "one of its prompts",)
