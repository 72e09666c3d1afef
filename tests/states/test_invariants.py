"""Each invariant finds what it is there to find, in a session that is broken by hand."""

from __future__ import annotations

from typing import Any

import pytest

from limner.states import (
    SESSION,
    TIME_PASSED,
    Abort,
    CancelRequested,
    Command,
    Event,
    Generate,
    InsertImages,
    InsertionWritten,
    MessageVanished,
    OnDrainTimeout,
    PlacedImage,
    Problem,
    PromptFound,
    Session,
    SessionKind,
    StreamEnded,
    StreamStarted,
    Timer,
    TimerKind,
)
from limner.states.invariants import check_state, check_step, must_take
from tests.states.story import (
    PASSING,
    Story,
    click,
    draining,
    failed,
    found,
    inserting,
    regenerating,
    rewriting,
    started,
    streaming,
    succeeded,
    written,
)


def broken(session: Session, prompt_id: str = "", **changes: Any) -> Session:
    """The session with fields of its own, or of one of its prompts, put wrong."""
    if not prompt_id:
        return session._replace(**changes)
    prompt = session.prompts[prompt_id]._replace(**changes)
    return session._replace(prompts={**session.prompts, prompt_id: prompt})


def generating() -> Session:
    """A draining session with one prompt that is generated."""
    story = draining("a")
    story.at(1, started("a"))
    return story.session


def cancelled() -> Session:
    """A cancelled session with one finished image."""
    story = streaming("a")
    story.at(1, started("a"), succeeded("a"), CancelRequested())
    return story.session


GOOD = [streaming("a").session, generating(), inserting("a").session, cancelled(), regenerating("x").session]


@pytest.mark.parametrize("session", GOOD, ids=[session.state for session in GOOD])
def test_nothing_is_found_in_a_sound_session(session: Session):
    assert list(check_state(session)) == []


INSERTS = generating().settings._replace(on_drain_timeout=OnDrainTimeout.INSERT)
GAVE_UP = Problem("drain_timeout")
BROKEN_STATES = {
    "settled + outstanding is not the total": (3, broken(generating(), outstanding=2)),
    "inserting too early": (1, broken(generating(), state="inserting")),
    "stopped at the seal": (2, broken(generating(), state="sealed")),
    "waiting for nothing": (2, broken(inserting("a").session, state="draining")),
    "completed without an image": (5, broken(inserting("a").session, "a", image=None)),
    "an image of a queued prompt": (5, broken(inserting("a").session, "a", state="queued")),
    "placed and unplaced": (
        5,
        broken(inserting("a").session, "a", placed=PlacedImage("a", "u"), unplaced_reason="?"),
    ),
    "too many attempts": (2, broken(generating(), "a", attempt=4)),
    "failed without a reason": (5, broken(streaming("a").session, "a", state="failed")),
    "ended with work under way": (5, broken(generating(), state="done")),
    "an image that is not listed": (5, broken(cancelled(), "a", unplaced_reason=None)),
    "no image timer": (6, broken(generating(), timers=(Timer(300_000, TimerKind.DRAIN),))),
    "a timer too many": (6, broken(cancelled(), timers=(Timer(5, TimerKind.DEBOUNCE),))),
    "timers out of order": (6, broken(generating(), timers=generating().timers[::-1])),
    "ended without a time": (2, broken(cancelled(), ended_at=None)),
    "a time without an end": (2, broken(generating(), ended_at=5)),
    "cancelled without a reason": (5, broken(cancelled(), problem=None)),
    "failed though it was to insert": (1, broken(cancelled(), problem=GAVE_UP, settings=INSERTS)),
    "inserting though it was to fail": (1, broken(inserting("a").session, "a", problem=GAVE_UP)),
}


@pytest.mark.parametrize("what", BROKEN_STATES)
def test_a_broken_state_is_found_under_its_invariants_number(what: str):
    invariant, session = BROKEN_STATES[what]
    assert invariant in {number for number, _ in check_state(session)}


# --- steps


def step(story: Story, event: Event, now: int = 5) -> tuple[Session, Event, Session, tuple[Command, ...]]:
    """A sound step."""
    before = story.session
    commands = story.at(now, event)
    return before, event, story.session, commands


def findings(
    before: Session, event: Event, after: Session, commands: tuple[Command, ...], written: int = 0
) -> set[int]:
    """The numbers of the invariants that the step breaks."""
    return {number for number, _ in check_step(before, event, after, commands, written)}


def test_nothing_is_found_in_sound_steps():
    assert findings(*step(streaming("a"), StreamEnded(found("b")))) == set()
    assert findings(*step(regenerating("x"), click("y"))) == set()
    assert findings(*step(regenerating("x"), TIME_PASSED, 2_000)) == set()
    assert findings(*step(draining("a"), CancelRequested())) == set()
    last = draining("a")
    last.at(1, started("a"))
    assert findings(*step(last, succeeded("a"))) == set()


def test_a_second_write_of_a_batch_is_found():
    story = draining("a")
    story.at(1, started("a"))
    before, event, after, commands = step(story, succeeded("a"))
    assert findings(before, event, after, commands, 1) == {1}
    assert 1 in findings(before, event, after, commands * 2)


def test_a_write_on_the_way_to_another_state_and_a_missing_one_are_found():
    before, event, after, commands = step(draining("a"), CancelRequested())
    assert findings(before, event, after, (*commands, InsertImages(()))) == {1}
    story = draining("a")
    story.at(1, started("a"))
    before, event, after, _ = step(story, succeeded("a"))
    assert findings(before, event, after, ()) == {1}
    assert findings(before, event, after, (InsertImages(()),)) == {5}


def test_an_event_that_was_taken_and_must_not_be_is_found():
    before = inserting("a").session
    assert 4 in findings(before, CancelRequested(), before, ())


def test_what_is_swallowed_is_found():
    before = streaming("a").session
    assert findings(before, PromptFound(found("b")[0]), before, ()) == {4}
    assert findings(before, StreamEnded(found("b")), before, ()) == {4, 5}
    before = draining("a").session._replace(kind=SessionKind.REGENERATION)
    assert findings(before, click("old"), before, ()) == {4}


def test_a_total_that_changes_after_the_seal_is_found():
    before = draining("a").session
    after = draining("a", "b").session
    assert findings(before, TIME_PASSED, after, (Generate("b"),)) == {3}


@pytest.mark.parametrize("changes", [{"state": "queued", "image": None}, {"image": None}])
def test_a_settled_prompt_that_changes_is_found(changes: dict[str, Any]):
    before = inserting("a").session
    assert 5 in findings(before, TIME_PASSED, broken(before, "a", **changes), ())


def test_a_settled_prompt_that_is_generated_again_is_found():
    before = inserting("a").session
    assert findings(before, TIME_PASSED, before, (Generate("a"),)) == {5}


def test_a_prompt_or_its_place_that_is_forgotten_is_found():
    before = generating()
    assert 5 in findings(before, TIME_PASSED, before._replace(prompts={}), ())
    placed = broken(inserting("a").session, "a", placed=PlacedImage("a", "u"))
    assert findings(placed, TIME_PASSED, broken(placed, "a", placed=None), ()) == {5}


def test_work_that_goes_on_for_nobody_is_found():
    before, event, after, commands = step(draining("a"), CancelRequested())
    assert commands == (Abort("a"),)
    assert findings(before, event, after, ()) == {5}


def test_a_retry_that_is_not_lined_up_and_one_that_is_not_granted_are_found():
    story = draining("a")
    story.at(1, started("a"), failed("a", PASSING))
    before, event, after, commands = step(story, TIME_PASSED, 2_000)
    assert commands == (Generate("a"),)
    assert findings(before, event, after, ()) == {2}
    before = generating()
    refused = broken(before, "a", state="failed", problem=PASSING)
    assert findings(before, failed("a", PASSING), refused, ()) == {2}
    assert findings(before, failed("a"), refused, ()) == set()


def test_a_new_prompt_that_is_not_lined_up_is_found():
    before, event, after, _ = step(streaming(), PromptFound(found("a")[0]))
    assert findings(before, event, after, ()) == {2}


# --- what has to be taken


@pytest.mark.parametrize(
    ("event", "states", "kinds"),
    [
        (StreamStarted(), {"idle"}, {SessionKind.STREAMING}),
        (PromptFound(found("a")[0]), {"streaming"}, {SessionKind.STREAMING}),
        (click("old"), {"idle", "debouncing", "draining", "inserting"}, {SessionKind.REGENERATION}),
        (CancelRequested(), {"idle", "streaming", "debouncing", "draining"}, set(SessionKind)),
        (MessageVanished(), {"inserting"}, set(SessionKind)),
        (InsertionWritten(), {"inserting"}, set(SessionKind)),
        (TIME_PASSED, set(SESSION.states), set(SessionKind)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_where_an_event_must_be_taken(event: Event, states: set[str], kinds: set[SessionKind]):
    taken = {
        (state, kind)
        for state in SESSION.states
        for kind in SessionKind
        if must_take(generating()._replace(state=state, kind=kind), event)
    }
    assert taken == {(state, kind) for state in states for kind in kinds}


def test_an_answer_must_be_taken_as_long_as_the_command_stands():
    assert must_take(draining("a").session, started("a"))
    assert not must_take(generating(), started("a"))
    assert must_take(generating(), failed("a"))
    assert not must_take(inserting("a").session, succeeded("a"))
    assert not must_take(generating(), succeeded("stranger"))
    next_batch = rewriting("old")
    next_batch.at(2_000, click("other"))
    assert must_take(next_batch.session, started("s.2"))
    next_batch.at(2_000, written(next_batch.session))
    assert must_take(next_batch.session, started("s.2"))
