"""One prompt's life: its place in the line, its attempts, its one time limit, and its settled result."""

from __future__ import annotations

import pytest

from limner.errors import EventRefused
from limner.states import (
    PROMPT,
    SETTLED,
    Abort,
    CancelRequested,
    Event,
    Generate,
    Problem,
    SessionSettings,
    StreamEnded,
    Timer,
    TimerKind,
)
from limner.states.retry import backoff_ms
from tests.states.story import LASTING, PASSING, Story, draining, failed, started, streaming, succeeded


def pause_after(attempt: int, problem: Problem = PASSING, settings: SessionSettings | None = None) -> int:
    """How long prompt `a` waits after this attempt, in ms."""
    return backoff_ms(settings or SessionSettings(), "a", attempt, problem)


def test_settled_means_completed_failed_or_cancelled_and_nothing_leads_out_of_them():
    assert {"completed", "failed", "cancelled"} == SETTLED
    assert not [state for state, _ in PROMPT.rows if state in SETTLED]


def test_the_hoped_for_path_is_queued_generating_completed():
    story = streaming("a")
    assert story.commands == [Generate("a")]
    assert story.states() == {"a": "queued"}
    story.at(1, started("a"))
    assert story.states() == {"a": "generating"}
    story.at(2, succeeded("a"))
    assert story.states() == {"a": "completed"}
    image = story.prompt("a").image
    assert image is not None
    assert image.url == "img-a"
    assert story.session.timers == ()


@pytest.mark.parametrize("settle", [succeeded("a"), failed("a"), CancelRequested()])
@pytest.mark.parametrize("late", [started("a"), succeeded("a"), failed("a"), failed("a", PASSING)])
def test_a_result_for_a_settled_prompt_is_refused(settle: Event, late: Event):
    story = streaming("a", "b")
    story.at(1, started("a"), settle)
    settled = story.session
    with pytest.raises(EventRefused) as refusal:
        story.at(2, late)
    assert refusal.value.machine == "PromptMachine"
    assert refusal.value.state in SETTLED
    assert story.session is settled


def test_a_result_before_the_start_is_refused():
    story = streaming("a")
    with pytest.raises(EventRefused, match="generation_succeeded is not accepted in state queued"):
        story.at(1, succeeded("a"))


def test_a_result_for_a_prompt_that_nobody_knows_is_refused_by_its_id():
    with pytest.raises(EventRefused, match="no prompt 'stranger' in this session"):
        streaming("a").at(1, succeeded("stranger"))


def test_a_failure_that_passes_waits_and_goes_back_to_the_end_of_the_line():
    story = streaming("a")
    story.at(100, started("a"), failed("a", PASSING))
    assert story.states() == {"a": "waiting"}
    assert story.deadline == 100 + pause_after(1)
    assert story.at(story.deadline - 1) == ()
    assert story.at(story.deadline) == (Generate("a"),)
    assert story.states() == {"a": "queued"}
    assert story.prompt("a").problem == PASSING


def test_a_failure_that_will_come_again_settles_the_prompt_at_once():
    story = streaming("a")
    story.at(100, started("a"), failed("a", LASTING))
    assert story.states() == {"a": "failed"}
    assert story.prompt("a").problem == LASTING


def test_the_last_attempts_failure_is_final():
    story = streaming("a", settings=SessionSettings(max_attempts=2))
    story.at(0, started("a"), failed("a", PASSING))
    story.at(pause_after(1))
    story.at(5_000, started("a"), failed("a", PASSING))
    assert story.states() == {"a": "failed"}
    assert story.prompt("a").attempt == 2


def test_an_image_that_comes_in_the_end_forgets_the_failures_before_it():
    story = streaming("a")
    story.at(0, started("a"), failed("a", PASSING))
    story.at(pause_after(1))
    story.at(5_000, started("a"), succeeded("a"))
    assert story.prompt("a").problem is None


# --- the time limit


def test_a_pause_that_does_not_fit_into_the_limit_is_told_as_the_reason():
    story = streaming("a")
    long = Problem("rate_limited", "slow down", 3_600_000)
    story.at(100, started("a"), failed("a", long))
    assert story.states() == {"a": "failed"}
    assert story.prompt("a").problem == Problem(
        "rate_limited", "slow down; a pause of 3600 s would pass the time limit of 120 s", 3_600_000
    )


@pytest.mark.parametrize(
    ("problem", "settings"),
    [
        (Problem("rate_limited", "slow down", 3_600_000), SessionSettings(max_attempts=1)),
        (Problem("auth", "no", 3_600_000), SessionSettings()),
        (PASSING, SessionSettings(image_timeout_ms=1_000)),
    ],
)
def test_where_the_pause_is_not_the_reason_nothing_is_said_of_it(problem, settings):
    story = streaming("a", settings=settings)
    story.at(100, started("a"), failed("a", problem))
    assert (story.states(), story.prompt("a").problem) == ({"a": "failed"}, problem)


def test_an_image_fails_alone_120_seconds_after_its_start():
    story = streaming("a", "b")
    story.at(1_000, started("a"))
    assert story.deadline == 121_000
    story.at(120_999)
    assert story.states() == {"a": "generating", "b": "queued"}
    assert story.at(121_000) == (Abort("a"),)
    assert story.states() == {"a": "failed", "b": "queued"}
    problem = story.prompt("a").problem
    assert problem == Problem("image_timeout", "not finished within 120 s")
    assert story.state == "streaming"


def test_time_in_the_line_does_not_count():
    story = streaming("a")
    story.at(10_000_000, started("a"))
    assert story.deadline == 10_120_000


def test_all_attempts_and_the_pauses_between_them_share_one_limit():
    story = streaming("a")
    story.at(0, started("a"))
    story.at(50_000, failed("a", PASSING))
    pause = pause_after(1)
    story.at(50_000 + pause)
    # Ten seconds in the line between the attempts cost nothing.
    story.at(60_000 + pause, started("a"))
    used = 50_000 + pause
    assert story.deadline == 60_000 + pause + 120_000 - used
    story.at(story.deadline)
    assert story.states() == {"a": "failed"}


def test_a_pause_that_would_not_fit_the_limit_is_not_waited_for():
    fitting, too_long = (120_000 - 1_000 - rest for rest in (1, 0))
    for pause, state in ((fitting, "waiting"), (too_long, "failed")):
        story = streaming("a")
        story.at(0, started("a"))
        story.at(1_000, failed("a", Problem("rate_limited", "", pause)))
        assert story.states() == {"a": state}


def test_the_shortest_rest_of_the_limit_is_still_a_timer_of_one_millisecond():
    story = streaming("a")
    story.at(0, started("a"))
    story.at(1_000, failed("a", Problem("rate_limited", "", 118_999)))
    story.at(119_999)
    story.at(500_000, started("a"))
    assert story.session.timers == (Timer(500_001, TimerKind.IMAGE, "a"),)


# --- giving up and cancelling, in each state


def queued_generating_waiting() -> Story:
    """A draining session with a prompt in each unsettled state."""
    story = draining("q", "g", "w", settings=SessionSettings(drain_timeout_ms=500))
    story.at(0, started("g"), started("w"), failed("w", PASSING))
    assert story.states() == {"q": "queued", "g": "generating", "w": "waiting"}
    return story


def test_a_cancel_stops_the_line_the_call_and_the_pause():
    story = queued_generating_waiting()
    assert story.at(1, CancelRequested()) == (Abort("q"), Abort("g"))
    assert set(story.states().values()) == {"cancelled"}
    assert story.session.timers == ()


def test_giving_up_fails_what_is_not_settled_and_an_earlier_problem_stays():
    story = queued_generating_waiting()
    assert story.at(500) == (Abort("q"), Abort("g"))
    assert set(story.states().values()) == {"failed"}
    kinds = {prompt.id: prompt.problem and prompt.problem.kind for prompt in story.session.prompts.values()}
    assert kinds == {"q": "drain_timeout", "g": "drain_timeout", "w": "unavailable"}
    assert story.session.timers == ()


def test_a_prompt_that_is_gone_from_the_final_text_is_stopped_in_the_same_ways():
    story = streaming("q", "g", "w")
    story.at(0, started("g"), started("w"), failed("w", PASSING))
    commands = story.at(1, StreamEnded(()))
    assert commands[:2] == (Abort("q"), Abort("g"))
    assert set(story.states().values()) == {"cancelled"}
