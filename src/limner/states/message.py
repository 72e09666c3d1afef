"""One message over time: at most one live session, and which session an event is for.

An engine holds, per message, the live session or nothing, and asks `deliver` what an event means for it. So
the rule "a message has at most one live session" is decided here, once, for every engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from limner.errors import CancelTooLate, EventRefused, MessageBusy, RegenerationDuringStreaming
from limner.states.commands import Command
from limner.states.core import handle, is_final
from limner.states.events import (
    PROCESS_RESTARTED,
    TIME_PASSED,
    CancelRequested,
    Event,
    ProcessRestarted,
    RegenerationRequested,
    StreamStarted,
    TimePassed,
)
from limner.states.session import SESSION
from limner.states.values import Session, SessionKind, SessionSettings

SUPERSEDED = "superseded by a new stream for the same message"

REQUESTS = (StreamStarted, RegenerationRequested, CancelRequested, ProcessRestarted)
"""The events by which somebody asks for something. Where one cannot be written down, it did not happen, and
whoever asked is told so. All others are facts: an image is finished, be the journal's disk full or not.
"""


class Opening(NamedTuple):
    """What a new session is made from, if the event opens one. `session_id` must not have been used."""

    session_id: str
    message_id: str
    settings: SessionSettings


class Step(NamedTuple):
    """One event as it was handled: the session after it, and the commands to perform."""

    session: Session
    event: Event
    commands: tuple[Command, ...]


def deliver(live: Session | None, event: Event, now: int, opening: Opening) -> tuple[Step, ...]:
    """Handle an event for a message whose live session is `live`; the last step is the event's own.

    A new stream cancels the session before it, which makes two steps. A click opens a regeneration session
    where none is live. `TIME_PASSED` gives no step where nothing was due.

    Raises `EventRefused`; `MessageBusy` where a new stream meets a session that is writing, which it has to
    wait for.
    """
    steps: list[Step] = []
    if live is not None and live.timers and live.timers[0].deadline <= now:
        # A due timer may end the session, and that comes before the event.
        live, commands = handle(live, TIME_PASSED, now)
        steps.append(Step(live, TIME_PASSED, commands))
    if isinstance(event, TimePassed):
        return tuple(steps)
    if live is not None and is_final(live):
        live = None
    if isinstance(event, StreamStarted):
        if live is not None:
            steps.append(_supersede(live, now))
        live = _open(SessionKind.STREAMING, opening, now)
    elif live is None:
        if isinstance(event, CancelRequested):
            told = f"message {opening.message_id!r} has no live session; its last one has ended"
            raise CancelTooLate(SESSION.name, "ended", event.name, told)
        if not isinstance(event, RegenerationRequested):
            raise EventRefused(SESSION.name, "ended", event.name, "the message has no live session")
        live = _open(SessionKind.REGENERATION, opening, now)
    after, commands = handle(live, event, now)
    return (*steps, Step(after, event, commands))


def resume(left: Session, now: int) -> Step:
    """Take a session over that another process left behind, and have what was under way done again.

    Raises `EventRefused` for one that has ended.
    """
    session, commands = handle(left, PROCESS_RESTARTED, now)
    return Step(session, PROCESS_RESTARTED, commands)


def replay(opened: Session, events: Iterable[tuple[Event, int]]) -> Iterator[Session]:
    """The session after each event, from the one that was `opened` (idle) and the journal's events and times.

    The core has no clock and no dice, so these are the sessions as they were. Raises `EventRefused` for
    events that cannot have happened.
    """
    session = opened
    for event, now in events:
        session, _ = handle(session, event, now)
        yield session


def refuse_regeneration_during_streaming(live: Session | None) -> None:
    """Raise `RegenerationDuringStreaming` if the live session would refuse a click whatever the image.

    So that a caller learns the real reason before the image is looked for in a text that is not stored yet.
    """
    if live is not None and live.kind is SessionKind.STREAMING:
        told = f"message {live.message_id!r} is still being streamed or illustrated"
        raise RegenerationDuringStreaming(SESSION.name, live.state, RegenerationRequested.name, told)


def refuse_late_text(live: Session | None) -> None:
    """Raise `MessageBusy` if the message's own text is being illustrated, so that it takes no more of it.

    For snapshots and seals, which may come late or twice; a new stream says that it is one, and supersedes.
    """
    if live is not None and live.kind is SessionKind.STREAMING:
        told = f"message {live.message_id!r}: its text is sealed and its images are under way"
        raise MessageBusy(SESSION.name, live.state, StreamStarted.name, told)


def _open(kind: SessionKind, opening: Opening, now: int) -> Session:
    return Session(opening.session_id, opening.message_id, kind, opening.settings, now)


def _supersede(live: Session, now: int) -> Step:
    event = CancelRequested(SUPERSEDED)
    try:
        session, commands = handle(live, event, now)
    except CancelTooLate as refusal:
        told = f"message {live.message_id!r}: its images are being written"
        raise MessageBusy(refusal.machine, refusal.state, StreamStarted.name, told) from None
    return Step(session, event, commands)
