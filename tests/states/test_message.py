"""One message over time: at most one live session, and which session an event is for."""

from __future__ import annotations

import pytest

from limner.errors import CancelTooLate, EventRefused, MessageBusy, RegenerationDuringStreaming
from limner.states import (
    TIME_PASSED,
    Abort,
    CancelRequested,
    Event,
    Generate,
    InsertImages,
    OnDrainTimeout,
    PromptFound,
    SessionKind,
    SessionSettings,
    StreamEnded,
    StreamStarted,
)
from limner.states.message import SUPERSEDED, Opening, deliver, refuse_regeneration_during_streaming
from tests.states.story import (
    click,
    draining,
    found,
    inserting,
    regenerating,
    rewriting,
    started,
    streaming,
    succeeded,
    written,
)

OPENING = Opening("next", "m", SessionSettings(debounce_ms=77))


def test_a_stream_opens_a_streaming_session_with_the_settings_of_the_day():
    (step,) = deliver(None, StreamStarted(), 9, OPENING)
    assert (step.session.id, step.session.message_id, step.session.opened_at) == ("next", "m", 9)
    assert (step.session.kind, step.session.state) == (SessionKind.STREAMING, "streaming")
    assert step.session.settings == OPENING.settings
    assert step.event == StreamStarted()


def test_a_click_opens_a_regeneration_session_where_none_is_live():
    (step,) = deliver(None, click("old"), 9, OPENING)
    assert (step.session.id, step.session.kind) == ("next", SessionKind.REGENERATION)
    assert step.session.state == "debouncing"
    assert step.commands == (Generate("next.1"),)


def test_a_click_joins_the_regeneration_session_that_is_live():
    live = regenerating("old").session
    (step,) = deliver(live, click("other"), 9, OPENING)
    assert step.session.id == "s"
    assert list(step.session.prompts) == ["s.1", "s.2"]
    assert step.session.settings.debounce_ms == 2_000


@pytest.mark.parametrize("make", [streaming, draining, inserting])
def test_a_click_on_a_message_that_is_streamed_is_refused(make):
    with pytest.raises(RegenerationDuringStreaming):
        deliver(make("a").session, click("old"), 1, OPENING)


@pytest.mark.parametrize("make", [streaming, draining])
def test_a_new_stream_cancels_the_session_before_it(make):
    cancelled, opened = deliver(make("a").session, StreamStarted(), 4, OPENING)
    assert (cancelled.session.id, cancelled.session.state) == ("s", "cancelled")
    assert cancelled.event == CancelRequested(SUPERSEDED)
    assert cancelled.commands == (Abort("a"),)
    assert (opened.session.id, opened.session.state) == ("next", "streaming")
    assert opened.event == StreamStarted()


def test_a_new_stream_cancels_a_regeneration_too():
    cancelled, opened = deliver(regenerating("old").session, StreamStarted(), 4, OPENING)
    assert cancelled.session.state == "cancelled"
    assert opened.session.kind is SessionKind.STREAMING


@pytest.mark.parametrize("make", [inserting, rewriting])
def test_a_new_stream_has_to_wait_for_the_write(make):
    with pytest.raises(MessageBusy) as refusal:
        deliver(make("a").session, StreamStarted(), 4, OPENING)
    assert (refusal.value.state, refusal.value.event) == ("inserting", "stream_started")


def test_after_the_end_a_stream_and_a_click_open_a_new_session():
    story = inserting("a")
    story.at(1, written(story.session))
    for event in (StreamStarted(), click("old")):
        (step,) = deliver(story.session, event, 2, OPENING)
        assert step.session.id == "next"


LATE: list[Event] = [PromptFound(found("a")[0]), StreamEnded(()), started("a"), succeeded("a")]


@pytest.mark.parametrize("event", LATE)
def test_an_event_for_a_message_without_a_live_session_is_refused(event: Event):
    with pytest.raises(EventRefused, match=f"{event.name} is not accepted in state ended"):
        deliver(None, event, 1, OPENING)


def test_a_cancel_where_nothing_is_live_comes_too_late():
    story = inserting("a")
    with pytest.raises(CancelTooLate):
        deliver(story.session, CancelRequested(), 1, OPENING)
    story.at(1, written(story.session))
    for ended in (None, story.session):
        with pytest.raises(CancelTooLate):
            deliver(ended, CancelRequested(), 1, OPENING)


# --- timers that are due


def test_a_timer_that_ends_the_session_comes_before_the_event_which_then_opens_a_new_one():
    live = draining("a").session
    timed_out, opened = deliver(live, StreamStarted(), 300_000, OPENING)
    assert (timed_out.session.state, timed_out.event) == ("failed", TIME_PASSED)
    assert timed_out.commands == (Abort("a"),)
    assert opened.session.id == "next"
    with pytest.raises(CancelTooLate):
        deliver(live, CancelRequested(), 300_000, OPENING)


def test_a_timer_that_does_not_end_the_session_is_a_step_of_its_own():
    live = regenerating("old").session
    quiet, clicked = deliver(live, click("other"), 2_000, OPENING)
    assert (quiet.session.state, clicked.session.state) == ("draining", "debouncing")
    assert clicked.session.id == "s"


def test_a_due_timer_that_begins_a_write_makes_the_message_busy():
    live = draining("a", settings=SessionSettings(on_drain_timeout=OnDrainTimeout.INSERT)).session
    with pytest.raises(MessageBusy):
        deliver(live, StreamStarted(), 300_000, OPENING)
    (step,) = deliver(live, TIME_PASSED, 300_000, OPENING)
    assert step.commands == (Abort("a"), InsertImages(()))


def test_time_that_passes_where_nothing_is_due_gives_no_step():
    assert deliver(None, TIME_PASSED, 5, OPENING) == ()
    assert deliver(draining("a").session, TIME_PASSED, 299_999, OPENING) == ()
    (step,) = deliver(draining("a").session, TIME_PASSED, 300_000, OPENING)
    assert step.session.state == "failed"


def test_a_caller_can_ask_first_whether_a_click_would_be_refused_whatever_the_image():
    refuse_regeneration_during_streaming(None)
    refuse_regeneration_during_streaming(regenerating("old").session)
    with pytest.raises(RegenerationDuringStreaming) as refusal:
        refuse_regeneration_during_streaming(draining("a").session)
    assert refusal.value.state == "draining"
