"""The end of a process, as the machines see it: what was under way is done again, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from limner.errors import EventRefused
from limner.states import (
    PROCESS_RESTARTED,
    SESSION,
    Abort,
    CancelRequested,
    Generate,
    GenerationAccepted,
    InsertImages,
    Problem,
    SealStored,
    SessionKind,
    SessionSettings,
    StreamEnded,
    Timer,
    TimerKind,
)
from limner.states.message import replay, resume
from tests.states.scripts import KINDS, SCRIPTS, SETTINGS, new, write_down
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

LATER = 3_600_000
"""An hour, in ms: longer than every limit, as after a crash at night."""

# --- the text


def test_a_stream_has_died_with_its_process_so_its_text_is_sealed_as_it_is_stored():
    story = streaming("a")
    assert story.at(LATER, PROCESS_RESTARTED) == (Generate("a"), SealStored())
    assert story.state == "streaming"
    story.at(LATER, StreamEnded(found("a")))
    assert story.state == "draining"


def test_a_dead_stream_without_a_message_is_cancelled_like_any_other():
    story = streaming("a")
    story.at(LATER, PROCESS_RESTARTED)
    assert story.at(LATER, CancelRequested("gone")) == (Abort("a"),)
    assert story.state == "cancelled"


# --- the images


def test_what_stood_in_the_line_and_what_was_being_made_goes_back_to_the_line_once():
    story = draining("queued", "made", "done")
    story.at(1, started("made"), started("done"), succeeded("done"))
    assert story.at(LATER, PROCESS_RESTARTED) == (Generate("queued"), Generate("made"))
    assert story.states() == {"queued": "queued", "made": "queued", "done": "completed"}


def test_a_finished_image_is_not_made_again():
    story = draining("a", "b")
    story.at(1, started("a"), succeeded("a"))
    image = story.prompt("a").image
    assert Generate("a") not in story.at(LATER, PROCESS_RESTARTED)
    assert story.prompt("a").image == image


def test_an_attempt_that_was_cut_off_is_made_again_with_its_number_and_all_of_its_time():
    story = draining("a")
    story.at(0, started("a"))
    story.at(119_000, PROCESS_RESTARTED)
    prompt = story.prompt("a")
    assert (prompt.state, prompt.attempt, prompt.spent_ms, prompt.restarts) == ("queued", 0, 0, 1)
    story.at(119_500, started("a"))
    assert story.prompt("a").attempt == 1
    assert Timer(239_500, TimerKind.IMAGE, "a") in story.session.timers


def test_failed_attempts_before_the_cut_still_count():
    story = draining("a")
    story.at(0, started("a"))
    story.at(1_000, failed("a", PASSING))
    story.at(3_000)
    story.at(3_000, started("a"), PROCESS_RESTARTED, started("a"))
    assert story.prompt("a").attempt == 2
    assert story.prompt("a").spent_ms > 1_000


def test_an_image_that_takes_the_process_down_again_and_again_fails_in_the_end():
    story = draining("a", "b", settings=SessionSettings(max_restarts=2))
    story.at(1, started("b"), succeeded("b"))
    for _ in range(2):
        story.at(1, started("a"))
        assert story.at(1, PROCESS_RESTARTED) == (Generate("a"),)
    story.at(1, started("a"))
    # The last one that was waited for: the others' images are written.
    assert story.at(1, PROCESS_RESTARTED) == (InsertImages(("b",)),)
    assert story.prompt("a").state == "failed"
    assert story.prompt("a").problem == Problem(
        "process_ended", "the process ended 3 times while the image was made"
    )


def test_waiting_in_the_line_through_many_restarts_costs_an_image_nothing():
    story = draining("a")
    for _ in range(10):
        assert story.at(1, PROCESS_RESTARTED) == (Generate("a"),)
    assert story.prompt("a").restarts == 0


def test_a_pause_that_has_passed_meanwhile_is_over_and_one_that_has_not_goes_on():
    story = draining("a")
    story.at(0, started("a"))
    story.at(0, failed("a", Problem("rate_limited", "", 60_000)))
    assert story.at(1_000, PROCESS_RESTARTED) == ()
    assert story.deadline == 60_000
    assert story.at(LATER, PROCESS_RESTARTED) == ()
    assert story.at(LATER) == (Generate("a"),)


# --- jobs


def test_the_id_of_a_job_outlives_the_process_and_the_image_limit_starts_again():
    story = draining("a")
    story.at(0, started("a"), GenerationAccepted("a", "job-7"))
    story.at(LATER, PROCESS_RESTARTED, started("a"))
    assert story.prompt("a").job_id == "job-7"
    assert story.prompt("a").attempt == 1


def test_a_job_that_failed_is_not_asked_for_again():
    story = draining("a")
    story.at(0, started("a"), GenerationAccepted("a", "job-7"), failed("a", Problem("job_lost")))
    assert story.states() == {"a": "waiting"}
    assert story.prompt("a").job_id is None


def test_a_job_is_told_of_only_while_its_image_is_made():
    story = draining("a")
    with pytest.raises(EventRefused):
        story.at(0, GenerationAccepted("a", "job-7"))
    story.at(0, started("a"), succeeded("a"))
    with pytest.raises(EventRefused):
        story.at(0, GenerationAccepted("a", "job-7"))


# --- time: what nobody was there to see does not count


def test_the_wait_for_the_images_starts_again():
    story = draining("a")
    story.at(LATER, PROCESS_RESTARTED)
    assert story.deadline == LATER + 300_000
    assert story.at(LATER + 299_999) == ()
    story.at(LATER + 300_000)
    assert story.state == "failed"


def test_the_rest_of_the_quiet_time_is_waited_for():
    story = regenerating("old")
    story.at(500, PROCESS_RESTARTED)
    story.at(1_999)
    assert story.state == "debouncing"
    story.at(2_000)
    assert story.state == "draining"


def test_a_quiet_time_that_passed_meanwhile_ends_at_the_restart_and_the_images_get_all_of_their_time():
    story = regenerating("old")
    story.at(LATER, PROCESS_RESTARTED)
    assert story.deadline == LATER
    story.at(LATER)
    assert story.state == "draining"
    assert story.deadline == LATER + 300_000


def test_a_click_after_the_restart_starts_the_quiet_time_again():
    story = regenerating("old")
    story.at(500, PROCESS_RESTARTED, click("other"))
    assert story.deadline == 2_500


# --- the write


def test_a_write_that_was_under_way_is_commanded_again_as_one_that_may_have_happened():
    story = inserting("a", "b")
    assert story.at(LATER, PROCESS_RESTARTED) == (InsertImages(("a", "b"), may_be_written=True),)
    assert story.state == "inserting"
    story.at(LATER, written(story.session))
    assert story.state == "done"


def test_clicks_that_came_during_the_write_are_still_there_after_it():
    story = rewriting("old")
    story.at(2_100, click("other"), started("s.2"))
    assert story.at(LATER, PROCESS_RESTARTED) == (
        Generate("s.2"),
        InsertImages(("s.1",), may_be_written=True),
    )
    story.at(LATER, written(story.session))
    assert story.state == "debouncing"
    assert story.deadline == LATER


def test_it_is_too_late_to_cancel_a_write_even_after_a_restart():
    story = inserting("a")
    story.at(LATER, PROCESS_RESTARTED)
    with pytest.raises(EventRefused):
        story.at(LATER, CancelRequested())


# --- where there is nothing to take up


@pytest.mark.parametrize("kind", SessionKind)
def test_a_session_that_has_not_begun_has_no_process_to_lose(kind: SessionKind):
    with pytest.raises(EventRefused):
        Story(kind).at(0, PROCESS_RESTARTED)


def test_a_session_that_has_ended_is_not_taken_up_again():
    story = inserting("a")
    story.at(1, written(story.session))
    assert story.state in SESSION.final
    with pytest.raises(EventRefused):
        resume(story.session, LATER)


# --- the next process


def test_to_resume_is_one_step_with_the_commands_that_are_due_again():
    left = draining("a").session
    step = resume(left, LATER)
    assert (step.event, step.commands) == (PROCESS_RESTARTED, (Generate("a"),))
    assert step.session.id == left.id


@settings(max_examples=100, deadline=None)
@given(KINDS, SETTINGS, SCRIPTS)
def test_replaying_the_events_gives_each_session_in_turn(
    kind: SessionKind, chosen: SessionSettings, script: list[tuple[int, int]]
):
    story = Story(kind, chosen)
    events, sessions = [], []
    for now, event in write_down(kind, chosen, script):
        try:
            story.at(now, event)
        except EventRefused:
            continue
        events.append((event, now))
        sessions.append(story.session)
    assert list(replay(new(kind, chosen), events)) == sessions


def test_events_that_cannot_have_happened_are_refused_by_a_replay():
    with pytest.raises(EventRefused):
        list(replay(new(SessionKind.STREAMING, SessionSettings()), [(StreamEnded(()), 0)]))
