"""Lives of sessions as journal records, for tests of journals and of what reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from limner.states import (
    PROCESS_RESTARTED,
    TIME_PASSED,
    CancelRequested,
    Event,
    FoundPrompt,
    GenerationAccepted,
    GenerationFailed,
    GenerationStarted,
    GenerationSucceeded,
    Image,
    InsertionFailed,
    InsertionWritten,
    MessageVanished,
    PlacedImage,
    Problem,
    PromptFound,
    RegenerationRequested,
    Session,
    SessionKind,
    SessionSettings,
    StreamEnded,
    StreamStarted,
    UnplacedImage,
    handle,
    next_deadline,
)
from limner.workflows.ports import JournalRecord

AWKWARD = 'a "cat" \\ in\nthe \x00 snow, 猫 🐈 \ud83d'
"""A prompt as a broken stream may bring it, with half a character at its end."""

Timed = tuple[int, Event]


def records(opened: Session, events: Iterable[Timed]) -> Iterator[JournalRecord]:
    """The records of one session that is told these events."""
    before: Session | None = None
    session = opened
    for now, event in events:
        session, _ = handle(session, event, now)
        yield JournalRecord(session, event, now, before)
        before = session


def opened(session_id: str, message_id: str = "m", kind: SessionKind = SessionKind.STREAMING) -> Session:
    """An idle session."""
    return Session(session_id, message_id, kind, SessionSettings(), 0)


def streamed(session_id: str, message_id: str = "m", start: int = 0, prompts: int = 2) -> list[JournalRecord]:
    """A stream with so many prompts, all of them finished but the last, which is being made."""
    found = [FoundPrompt(f"{session_id}-{n}", f"{AWKWARD} {n}", n % 2) for n in range(prompts)]
    events: list[Timed] = [(start, StreamStarted())]
    events += [(start + 1, PromptFound(prompt)) for prompt in found]
    events += [(start + 2, GenerationStarted(prompt.id)) for prompt in found]
    events += [(start + 3, GenerationAccepted(found[-1].id, "job-1"))] if found else []
    events += [
        (start + 4, GenerationSucceeded(prompt.id, Image(f"https://images.test/{prompt.id}.png")))
        for prompt in found[:-1]
    ]
    events.append((start + 5, StreamEnded(tuple(reversed(found)))))
    return list(records(opened(session_id, message_id), events))


def finished(session_id: str, message_id: str = "m", start: int = 0) -> list[JournalRecord]:
    """A stream of two prompts from its beginning to its end: one placed, one failed for good."""
    life = streamed(session_id, message_id, start)
    last = life[-1].session
    made = next(prompt for prompt in last.prompts.values() if prompt.image is not None)
    failed = next(prompt for prompt in last.prompts.values() if prompt.image is None)
    assert made.image is not None
    events: list[Timed] = [
        (start + 6, GenerationFailed(failed.id, Problem("moderated", "the server will not paint this"))),
        (start + 7, InsertionWritten((PlacedImage(made.id, made.image.url),))),
    ]
    return [*life, *going_on(life[-1], events)]


def cancelled(session_id: str, message_id: str = "m", start: int = 0) -> list[JournalRecord]:
    """A stream that was cancelled with one image finished."""
    life = streamed(session_id, message_id, start)
    return [*life, *going_on(life[-1], [(start + 6, CancelRequested(AWKWARD))])]


def regenerated(session_id: str, message_id: str = "m", start: int = 0) -> list[JournalRecord]:
    """Two clicks, one of whose images found no place in the end."""
    clicks = [
        RegenerationRequested(f"node-{n}", f"{AWKWARD} {n}", 0, f"https://images.test/old-{n}.png")
        for n in range(2)
    ]
    life = list(
        records(opened(session_id, message_id, SessionKind.REGENERATION), ((start, c) for c in clicks))
    )
    ids = [f"{session_id}.1", f"{session_id}.2"]
    events: list[Timed] = [(start + 1, GenerationStarted(prompt_id)) for prompt_id in ids]
    events += [
        (start + 100, GenerationSucceeded(prompt_id, Image(f"https://images.test/{prompt_id}.png", size=9)))
        for prompt_id in ids
    ]
    life += going_on(life[-1], events)
    images = [f"https://images.test/{prompt_id}.png" for prompt_id in ids]
    placed = PlacedImage(ids[0], images[0], "https://images.test/old-0.png")
    unplaced = UnplacedImage(ids[1], images[1], "image-gone")
    return [*life, *going_on(life[-1], [(start + 2_000, InsertionWritten((placed,), (unplaced,)))])]


def vanished(session_id: str, message_id: str = "m", start: int = 0) -> list[JournalRecord]:
    """A stream whose process ended during the write, and whose message was gone after the restart."""
    life = streamed(session_id, message_id, start)
    last = next(prompt.id for prompt in life[-1].session.prompts.values() if prompt.image is None)
    events: list[Timed] = [
        (start + 6, GenerationFailed(last, Problem("rate_limited", "slow down", 500))),
        (start + 2_000, GenerationStarted(last)),
        (start + 2_001, GenerationFailed(last, Problem("no_balance", "nothing left"))),
        (start + 3_000, PROCESS_RESTARTED),
        (start + 3_001, MessageVanished()),
    ]
    return [*life, *going_on(life[-1], events)]


def unwritten(session_id: str, message_id: str = "m", start: int = 0) -> list[JournalRecord]:
    """A stream whose image could not be written into the message."""
    life = streamed(session_id, message_id, start, prompts=0)
    problem = Problem("storage_error", "disk full")
    return [*life, *going_on(life[-1], [(start + 6, InsertionFailed(problem))])]


def going_on(last: JournalRecord, events: Iterable[Timed]) -> list[JournalRecord]:
    """The records that follow; the timers that are due before an event are steps of their own."""
    session, more = last.session, []
    for now, event in events:
        due = next_deadline(session)
        steps = [(now, TIME_PASSED), (now, event)] if due is not None and due <= now else [(now, event)]
        for at, step in steps:
            before = session
            session, _ = handle(before, step, at)
            more.append(JournalRecord(session, step, at, before))
    return more
