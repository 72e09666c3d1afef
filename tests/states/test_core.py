"""The core in time: every deadline to the millisecond, and the laws that make it safe to store and replay."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.errors import EventRefused
from limner.states import (
    PROCESS_RESTARTED,
    TIME_PASSED,
    Abort,
    CancelRequested,
    Command,
    Generate,
    InsertImages,
    MessageVanished,
    OnDrainTimeout,
    Session,
    SessionKind,
    SessionSettings,
    StreamEnded,
    TimerKind,
    handle,
    is_final,
    next_deadline,
)
from tests.states.scripts import GAPS, KINDS, SCRIPTS, SETTINGS, Timed, new, write_down
from tests.states.story import (
    PASSING,
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
)

# --- deadlines


@pytest.mark.parametrize("gap", [0, 1, 1_000, 1_999])
def test_the_debounce_starts_again_at_each_click_and_ends_2000_ms_after_the_last(gap: int):
    story = regenerating("old-0")
    last = 0
    for n in range(1, 6):
        last += gap
        story.at(last, click(f"old-{n % 3}"))
        assert story.deadline == last + 2_000
    story.at(last + 1_999)
    assert story.state == "debouncing"
    story.at(last + 2_000)
    assert story.state == "draining"


def test_a_click_in_the_millisecond_of_the_deadline_comes_after_it_and_opens_the_batch_again():
    story = regenerating("old")
    story.at(2_000, click("other"))
    assert (story.state, story.deadline, story.session.batch) == ("debouncing", 4_000, 1)


def test_the_drain_times_out_at_300_000_ms_after_the_seal():
    story = streaming("a")
    story.at(5_000, StreamEnded(found("a")))
    assert story.deadline == 305_000
    story.at(304_999)
    assert story.state == "draining"
    story.at(305_000)
    assert story.state == "failed"


def test_the_drain_timeout_covers_the_time_in_the_line_that_an_images_limit_does_not():
    story = draining("a")
    story.at(200_000, started("a"))
    assert story.deadline == 300_000


def test_a_session_that_is_told_late_ends_at_its_own_deadline():
    story = draining("a")
    story.at(900_000)
    assert (story.state, story.session.ended_at) == ("failed", 300_000)


def test_an_ended_session_keeps_its_end_however_often_time_passes():
    story = draining("a")
    story.at(300_000)
    ended = story.session
    story.at(400_000)
    assert story.session == ended


def test_several_deadlines_that_passed_at_once_run_each_at_its_own_time():
    story = regenerating("old", settings=SessionSettings(drain_timeout_ms=50_000))
    story.at(1_000, started("s.1"))
    story.at(1_000_000)
    # Quiet at 2 000, so the drain ends at 52 000, before the image's own limit at 121 000.
    assert (story.state, story.session.ended_at) == ("failed", 52_000)


def test_there_is_no_deadline_where_nothing_is_waited_for():
    for story in (streaming("a"), inserting("a")):
        assert next_deadline(story.session) is None
    story = streaming()
    story.at(1, CancelRequested())
    assert next_deadline(story.session) is None


# --- what happens at one instant


@pytest.mark.parametrize("on_drain_timeout", OnDrainTimeout)
def test_at_one_instant_an_images_limit_runs_before_the_drain_timeout(on_drain_timeout: OnDrainTimeout):
    story = draining("a", "b", settings=SessionSettings(on_drain_timeout=on_drain_timeout))
    story.at(0, started("a"), succeeded("a"))
    story.at(180_000, started("b"))
    assert [timer.deadline for timer in story.session.timers] == [300_000, 300_000]
    assert story.at(300_000) == (Abort("b"), InsertImages(("a",)))
    problem = story.prompt("b").problem
    assert problem is not None
    assert problem.kind == "image_timeout"


def test_timers_run_before_an_event_of_the_same_instant():
    story = streaming("a")
    story.at(0, started("a"))
    with pytest.raises(EventRefused, match="generation_succeeded is not accepted in state failed"):
        story.at(120_000, succeeded("a"))
    story.at(119_999, succeeded("a"))
    assert story.states() == {"a": "completed"}


def test_a_refused_event_leaves_due_timers_due():
    story = draining("a")
    before = story.session
    with pytest.raises(EventRefused):
        story.at(300_000, MessageVanished())
    assert story.session is before
    assert story.deadline == 300_000
    assert story.at(300_000) == (Abort("a"),)
    assert story.state == "failed"


def test_what_was_due_is_done_before_what_the_event_asks_for():
    story = draining("a", "b", settings=SessionSettings(max_attempts=3, backoff_ms=0))
    story.at(5, started("a"), failed("a", PASSING))
    assert story.deadline == 5
    assert story.at(6, CancelRequested()) == (Generate("a"), Abort("a"), Abort("b"))


def test_a_pause_of_nothing_is_still_a_turn_of_its_own():
    story = streaming("a", settings=SessionSettings(backoff_ms=0))
    assert story.at(5, started("a"), failed("a", PASSING)) == ()
    assert story.states() == {"a": "waiting"}
    assert story.at(5) == (Generate("a"),)


def test_the_debounce_of_the_next_batch_may_be_due_at_once():
    story = rewriting("old")
    story.at(2_001, click("other"))
    story.at(10_000, MessageVanished())
    assert is_final(story.session)


# --- laws


def play(session: Session, events: list[Timed]) -> tuple[Session, list[Command]]:
    """Handle all events that are accepted; the session and the commands in the end."""
    commands: list[Command] = []
    for now, event in events:
        try:
            session, more = handle(session, event, now)
        except EventRefused:
            continue
        commands.extend(more)
    return session, commands


@settings(max_examples=150, deadline=None)
@given(KINDS, SETTINGS, SCRIPTS, st.lists(GAPS, max_size=12), GAPS)
def test_splitting_a_wait_changes_nothing(
    kind: SessionKind,
    chosen: SessionSettings,
    script: list[tuple[int, int]],
    pauses: list[int],
    rest: int,
):
    # The wait before a restart is nobody's: no timer runs in it, so it cannot be split.
    events = [timed for timed in write_down(kind, chosen, script) if timed[1] is not PROCESS_RESTARTED]
    end = events[-1][0] + rest
    whole = play(new(kind, chosen), [*events, (end, TIME_PASSED)])
    # Wake it at arbitrary moments in between; sorted() is stable, so these come before an event's own.
    moments, now = [], 0
    for pause in pauses:
        now += pause
        moments.append((min(now, end), TIME_PASSED))
    split = sorted([*moments, *events], key=lambda timed: timed[0])
    assert play(new(kind, chosen), [*split, (end, TIME_PASSED)]) == whole


@settings(max_examples=100, deadline=None)
@given(KINDS, SETTINGS, SCRIPTS)
def test_waking_a_session_at_each_of_its_deadlines_is_the_same_as_waking_it_late(
    kind: SessionKind, chosen: SessionSettings, script: list[tuple[int, int]]
):
    session, _ = play(new(kind, chosen), write_down(kind, chosen, script))
    late, late_commands = handle(session, TIME_PASSED, 10**9)
    commands: list[Command] = []
    wakings = 0
    while (deadline := next_deadline(session)) is not None:
        assert handle(session, TIME_PASSED, deadline - 1)[1] == ()
        session, more = handle(session, TIME_PASSED, deadline)
        commands.extend(more)
        wakings += 1
        assert wakings < 100
    assert (session, commands) == (late, list(late_commands))


@settings(max_examples=100, deadline=None)
@given(KINDS, SETTINGS, SCRIPTS)
def test_handle_never_changes_the_session_it_is_given(
    kind: SessionKind, chosen: SessionSettings, script: list[tuple[int, int]]
):
    session = new(kind, chosen)
    for now, event in write_down(kind, chosen, script):
        given_copy = copy.deepcopy(session)
        try:
            after, _ = handle(session, event, now)
        except EventRefused:
            after = session
        assert session == given_copy
        assert list(session.prompts) == list(given_copy.prompts), "the order of the prompts changed"
        session = after


@settings(max_examples=100, deadline=None)
@given(KINDS, SETTINGS, SCRIPTS)
def test_replaying_the_same_events_gives_the_same_session_even_through_storage(
    kind: SessionKind, chosen: SessionSettings, script: list[tuple[int, int]]
):
    events = write_down(kind, chosen, script)
    session, commands = play(new(kind, chosen), events)
    stored, again = new(kind, chosen), []
    for timed in events:
        stored, more = play(pickle.loads(pickle.dumps(stored)), [pickle.loads(pickle.dumps(timed))])
        again.extend(more)
    assert (stored, again) == (session, commands)
    assert list(stored.prompts) == list(session.prompts)


# --- much of everything


def test_a_thousand_prompts_of_100_kb_pass_through():
    ids = [f"p{n}" for n in range(1_000)]
    text = "x" * 100_000
    prompts = tuple(prompt._replace(text=text) for prompt in found(*ids))
    story = streaming()
    story.at(0, StreamEnded(prompts))
    for prompt_id in ids:
        story.at(1, started(prompt_id))
    assert [timer.kind for timer in story.session.timers].count(TimerKind.IMAGE) == 1_000
    for prompt_id in ids:
        story.at(2, succeeded(prompt_id))
    assert story.writes == [tuple(ids)]


def test_prompts_with_lone_surrogates_pass_through():
    story = draining("\ud800")
    story.at(1, started("\ud800"), failed("\ud800", PASSING))
    assert story.states() == {"\ud800": "waiting"}
