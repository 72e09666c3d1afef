"""What a user is told: counts while it runs, and in the end each image in exactly one list."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from limner.errors import EventRefused
from limner.states import (
    CancelRequested,
    MessageVanished,
    PlacedImage,
    Problem,
    SessionKind,
    SessionSettings,
    StreamEnded,
    UnplacedImage,
    handle,
    is_final,
)
from limner.states.outcome import Counts, FailedPrompt, Result, count_batch, result_of
from tests.states.scripts import KINDS, SCRIPTS, SETTINGS, new, write_down
from tests.states.story import (
    LASTING,
    PASSING,
    click,
    draining,
    failed,
    found,
    inserting,
    rewriting,
    started,
    streaming,
    succeeded,
    written,
)


def test_the_counts_tell_how_many_prompts_are_in_which_state():
    story = streaming("a", "b", "c", "d", "e", "f")
    story.at(0, *(started(prompt_id) for prompt_id in "bcdef"))
    story.at(0, failed("c", PASSING), succeeded("d"), failed("e"))
    counts = count_batch(story.session)
    assert counts == Counts(total=6, queued=1, generating=2, waiting=1, completed=1, failed=1)
    assert (counts.settled, counts.outstanding) == (2, 4)


def test_a_click_that_waits_for_the_next_batch_is_not_counted_yet():
    story = rewriting("old")
    story.at(2_000, click("other"))
    assert count_batch(story.session) == Counts(total=1, completed=1)
    story.at(2_000, written(story.session))
    assert count_batch(story.session) == Counts(total=1, queued=1)


def test_a_session_without_prompts_counts_nothing():
    assert count_batch(streaming().session) == Counts()


def test_the_result_lists_what_was_placed_what_was_not_and_what_failed_with_the_reasons():
    story = streaming("a", "b", "c", "d")
    story.at(1, started("a"), succeeded("a"), started("b"), succeeded("b"), started("c"), failed("c"))
    story.at(2, StreamEnded(found("a", "c")))
    story.at(3, written(story.session))
    assert result_of(story.session) == Result(
        session_id="s",
        message_id="m",
        kind=SessionKind.STREAMING,
        state="done",
        placed=(PlacedImage("a", "img-a"),),
        unplaced=(UnplacedImage("b", "img-b", "prompt-gone"),),
        failed=(FailedPrompt("c", "text of c", LASTING),),
        cancelled=("d",),
        problem=None,
        prompts={name: f"text of {name}" for name in "abcd"},
    )


def test_the_result_of_a_cancelled_session_says_why_and_lists_its_finished_images():
    story = draining("a", "b")
    story.at(1, started("a"), succeeded("a"), CancelRequested("enough"))
    result = result_of(story.session)
    assert (result.state, result.problem) == ("cancelled", Problem("cancelled", "enough"))
    assert result.unplaced == (UnplacedImage("a", "img-a", "session-cancelled"),)
    assert result.cancelled == ("b",)


def test_the_result_for_a_message_that_vanished_is_done_with_a_problem():
    story = inserting("a")
    story.at(1, MessageVanished())
    result = result_of(story.session)
    assert result.state == "done"
    assert result.problem is not None
    assert result.problem.kind == "message_gone"
    assert result.unplaced == (UnplacedImage("a", "img-a", "message-gone"),)


def test_the_result_covers_all_batches_of_a_regeneration_session():
    story = rewriting("old")
    story.at(2_000, click("old"), started("s.2"), succeeded("s.2"))
    story.at(2_000, written(story.session))
    story.at(4_000)
    story.at(4_000, written(story.session))
    assert result_of(story.session).placed == (
        PlacedImage("s.1", "img-s.1", "old"),
        PlacedImage("s.2", "img-s.2", "img-s.1"),
    )


def test_there_is_no_result_before_the_end():
    with pytest.raises(ValueError, match="session 's' has not ended, it is draining"):
        result_of(draining("a").session)


@settings(max_examples=150, deadline=None)
@given(KINDS, SETTINGS, SCRIPTS)
def test_every_prompt_of_an_ended_session_is_in_exactly_one_list(
    kind: SessionKind, chosen: SessionSettings, script: list[tuple[int, int]]
):
    session = new(kind, chosen)
    for now, event in write_down(kind, chosen, script):
        try:
            session, _ = handle(session, event, now)
        except EventRefused:
            continue
        counts = count_batch(session)
        assert counts.outstanding == session.outstanding
        assert counts.settled + counts.outstanding == counts.total
    if not is_final(session):
        with pytest.raises(ValueError):
            result_of(session)
        return
    result = result_of(session)
    listed = [
        *(placed.prompt_id for placed in result.placed),
        *(unplaced.prompt_id for unplaced in result.unplaced),
        *(failure.prompt_id for failure in result.failed),
        *result.cancelled,
    ]
    assert sorted(listed) == sorted(session.prompts)
    assert all(unplaced.reason != "no reason was kept" for unplaced in result.unplaced)
    assert all(failure.problem.kind != "internal_error" for failure in result.failed)
