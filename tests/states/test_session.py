"""One message's session: what each event does in each state, and what a user is told in the end."""

from __future__ import annotations

import pytest

from limner.errors import CancelTooLate, EventRefused, InternalError, RegenerationDuringStreaming
from limner.states import (
    Abort,
    CancelRequested,
    Event,
    FoundPrompt,
    Generate,
    InsertImages,
    InsertionFailed,
    InsertionMode,
    InsertionWritten,
    MessageVanished,
    OnDrainTimeout,
    PlacedImage,
    Problem,
    PromptFound,
    SessionKind,
    SessionSettings,
    StreamEnded,
    StreamStarted,
    UnplacedImage,
)
from tests.states.story import (
    LASTING,
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

# --- streaming


def test_a_found_prompt_is_generated_at_once_while_the_text_still_runs():
    story = streaming()
    assert story.at(1, PromptFound(FoundPrompt("a", "a fox", 1))) == (Generate("a"),)
    prompt = story.prompt("a")
    assert (prompt.state, prompt.text, prompt.occurrence, prompt.node_id) == ("queued", "a fox", 1, "a")
    assert prompt.mode is InsertionMode.APPEND_AFTER_PROMPT
    assert story.state == "streaming"


def test_finding_a_prompt_again_changes_nothing():
    story = streaming("a")
    story.at(1, started("a"))
    before = story.session
    assert story.at(2, PromptFound(found("a")[0])) == ()
    assert story.session == before


def test_a_text_without_prompts_is_written_as_nothing_and_done():
    story = streaming()
    assert story.at(5, StreamEnded(())) == (InsertImages(()),)
    story.at(6, InsertionWritten())
    assert story.state == "done"
    assert story.session.ended_at == 6


def test_nothing_is_written_before_the_text_ended_even_if_all_images_are_there():
    story = streaming("a")
    story.at(1, started("a"), succeeded("a"))
    assert story.state == "streaming"
    assert story.writes == []
    assert story.at(2, StreamEnded(found("a"))) == (InsertImages(("a",)),)


def test_the_last_prompt_to_settle_starts_the_one_write_with_all_finished_images():
    story = draining("a", "b", "c")
    story.at(1, started("a"), started("b"), started("c"))
    story.at(2, succeeded("c"), failed("b"))
    assert story.state == "draining"
    assert story.at(3, succeeded("a")) == (InsertImages(("a", "c")),)
    assert story.state == "inserting"
    story.at(4, written(story.session))
    assert story.state == "done"
    assert story.writes == [("a", "c")]


def test_a_session_whose_prompts_all_failed_still_ends_by_a_write_of_nothing():
    story = draining("a")
    assert story.at(1, started("a"), failed("a")) == (InsertImages(()),)


# --- the end of the stream: the final text counts


def test_the_prompts_take_the_order_of_the_final_text():
    story = streaming("a", "b", "c")
    story.at(1, *(started(i) for i in "abc"), *(succeeded(i) for i in "abc"))
    assert story.at(2, StreamEnded(found("c", "a", "b"))) == (InsertImages(("c", "a", "b")),)


def test_a_prompt_that_is_new_in_the_final_text_is_generated():
    story = streaming("b")
    assert story.at(1, StreamEnded(found("a", "b"))) == (Generate("a"),)
    assert list(story.states()) == ["a", "b"]
    assert story.session.outstanding == 2


def test_an_unsettled_prompt_that_is_gone_is_cancelled_and_not_waited_for():
    story = streaming("a", "b")
    story.at(1, started("a"), started("b"), succeeded("b"))
    assert story.at(2, StreamEnded(found("b"))) == (Abort("a"), InsertImages(("b",)))
    assert story.states() == {"b": "completed", "a": "cancelled"}


def test_a_finished_image_whose_prompt_is_gone_is_listed_and_not_written():
    story = streaming("a", "b")
    story.at(1, *(started(i) for i in "ab"), *(succeeded(i) for i in "ab"))
    assert story.at(2, StreamEnded(found("b"))) == (InsertImages(("b",)),)
    gone = story.prompt("a")
    assert gone.image is not None
    assert gone.unplaced_reason == "prompt-gone"
    story.at(3, written(story.session))
    assert story.prompt("a").unplaced_reason == "prompt-gone"


def test_a_failed_prompt_that_is_gone_stays_failed():
    story = streaming("a")
    story.at(1, started("a"), failed("a"), StreamEnded(()))
    assert (story.prompt("a").state, story.prompt("a").problem) == ("failed", LASTING)


def test_a_prompt_that_a_scan_names_twice_is_one_prompt():
    story = streaming()
    assert story.at(1, StreamEnded(found("a", "a"))) == (Generate("a"),)
    assert story.session.outstanding == 1


def test_nothing_is_found_any_more_after_the_end():
    for event in (PromptFound(found("z")[0]), StreamEnded(()), StreamStarted()):
        with pytest.raises(EventRefused):
            draining("a").at(1, event)


# --- clicks


def test_a_click_is_generated_at_once_and_written_after_the_debounce():
    story = regenerating("old")
    assert story.commands == [Generate("s.1")]
    prompt = story.prompt("s.1")
    assert (prompt.node_id, prompt.target_url, prompt.mode) == ("node", "old", InsertionMode.REPLACE_IMAGE)
    story.at(1, started("s.1"), succeeded("s.1"))
    assert story.state == "debouncing"
    assert story.at(2_000) == (InsertImages(("s.1",)),)


def test_clicks_on_several_images_are_one_batch_and_one_write():
    story = regenerating("old-1", "old-2")
    for prompt_id in ("s.2", "s.1"):
        story.at(1, started(prompt_id), succeeded(prompt_id))
    story.at(2_000)
    assert story.writes == [("s.1", "s.2")]


def test_two_clicks_on_one_image_to_be_replaced_are_one_regeneration():
    story = regenerating("old", "old")
    assert list(story.states()) == ["s.1"]
    story.at(1, started("s.1"), succeeded("s.1"))
    assert story.at(2, click("old")) == ()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (InsertionMode.APPEND_AFTER_IMAGE, InsertionMode.APPEND_AFTER_IMAGE),
        (InsertionMode.APPEND_AFTER_PROMPT, InsertionMode.APPEND_AFTER_PROMPT),
        (InsertionMode.APPEND_AFTER_IMAGE, InsertionMode.REPLACE_IMAGE),
        (InsertionMode.REPLACE_IMAGE, InsertionMode.APPEND_AFTER_IMAGE),
    ],
)
def test_clicks_that_add_an_image_each_make_one(first: InsertionMode, second: InsertionMode):
    story = Story(SessionKind.REGENERATION)
    story.at(0, click("old", first), click("old", second))
    assert [prompt.mode for prompt in story.session.prompts.values()] == [first, second]


def test_a_click_after_a_failure_means_try_again():
    story = regenerating("old")
    story.at(1, started("s.1"), failed("s.1"))
    assert story.at(2, click("old")) == (Generate("s.2"),)
    assert story.states() == {"s.1": "failed", "s.2": "queued"}


def test_a_click_while_the_batch_drains_opens_it_again():
    story = regenerating("old")
    story.at(2_000)
    assert story.state == "draining"
    assert story.at(10_000, click("other")) == (Generate("s.2"),)
    assert story.state == "debouncing"
    assert (story.session.batch, story.session.outstanding) == (1, 2)
    story.at(12_000)
    assert story.state == "draining"
    assert story.deadline == 12_000 + 300_000


def test_a_click_that_joins_another_opens_a_draining_batch_too():
    story = regenerating("old")
    story.at(2_000)
    assert story.at(3_000, click("old")) == ()
    assert (story.state, story.deadline) == ("debouncing", 5_000)


def test_a_click_while_the_write_is_under_way_is_generated_at_once_and_written_after_it():
    story = rewriting("old")
    assert story.at(2_100, click("other")) == (Generate("s.2"),)
    assert story.session.outstanding == 0
    story.at(2_200, started("s.2"), succeeded("s.2"))
    assert story.state == "inserting"
    story.at(2_300, written(story.session))
    assert (story.state, story.session.batch, story.session.outstanding) == ("debouncing", 2, 0)
    assert story.at(4_100) == (InsertImages(("s.2",)),)
    story.at(4_200, written(story.session))
    assert story.state == "done"
    assert story.writes == [("s.1",), ("s.2",)]


def test_the_next_batchs_debounce_ends_two_seconds_after_the_last_click_not_after_the_write():
    story = rewriting("old")
    story.at(2_100, click("other"))
    story.at(3_000, click("other"))
    story.at(3_500, written(story.session))
    assert story.deadline == 5_000


def test_the_next_batch_does_not_wait_again_where_the_two_seconds_are_over():
    story = rewriting("old")
    story.at(2_100, click("other"))
    story.at(9_000, written(story.session))
    assert (story.state, story.deadline) == ("debouncing", 9_000)
    story.at(9_000)
    assert story.state == "draining"


def test_two_clicks_on_one_image_during_a_write_are_one_regeneration_of_the_next_batch():
    story = rewriting("old")
    story.at(2_100, click("old"), click("old"))
    assert story.states() == {"s.1": "completed", "s.2": "queued"}


def test_a_click_during_the_write_is_meant_for_the_image_that_the_write_puts_there():
    story = rewriting("old")
    story.at(2_100, click("old"))
    story.at(2_200, written(story.session))
    assert story.prompt("s.2").target_url == "img-s.1"
    assert story.at(2_300, click("img-s.1")) == ()
    assert story.at(2_400, click("old")) == ()


def test_a_click_on_an_image_that_was_replaced_twice_is_meant_for_the_last_one():
    story = rewriting("old")
    story.at(2_000, click("old"), started("s.2"), succeeded("s.2"))
    story.at(2_000, written(story.session))
    story.at(4_000, click("old"))
    story.at(4_000, written(story.session))
    assert story.prompt("s.3").target_url == "img-s.2"


def test_a_url_that_came_back_stands_for_itself():
    # A content-addressed store gives the same bytes the same URL: a was replaced by b, then b by a.
    story = rewriting("a")
    story.at(2_000, click("a"), click("other"))
    story.at(2_000, InsertionWritten((PlacedImage("s.1", "b", "a"),)))
    assert story.prompt("s.2").target_url == "b"
    for prompt_id in ("s.2", "s.3"):
        story.at(2_000, started(prompt_id), succeeded(prompt_id))
    story.at(4_000, click("b"), click("a"))
    story.at(4_000, InsertionWritten((PlacedImage("s.2", "a", "b"), PlacedImage("s.3", "c", "other"))))
    assert {prompt.target_url for prompt in story.session.prompts.values() if prompt.batch == 3} == {"a"}


def test_two_images_that_take_over_each_others_url_in_one_write_are_not_followed_further():
    story = rewriting("a", "b")
    story.at(2_000, click("a"))
    story.at(2_000, InsertionWritten((PlacedImage("s.1", "b", "a"), PlacedImage("s.2", "c", "b"))))
    assert story.prompt("s.3").target_url == "b"


def test_clicks_on_an_image_and_on_what_the_write_puts_there_are_one_regeneration_of_the_next_batch():
    story = regenerating("a")
    story.at(0, started("s.1"), succeeded("s.1"))
    story.at(2_000)
    story.at(2_001, click("a"), click("img-s.1"))
    assert story.states() == {"s.1": "completed", "s.2": "queued", "s.3": "queued"}
    story.at(2_002, written(story.session))
    assert story.states() == {"s.1": "completed", "s.2": "queued", "s.3": "cancelled"}
    assert story.session.outstanding == 1
    assert story.prompt("s.2").target_url == "img-s.1"


def test_an_image_that_the_writer_did_not_speak_of_is_listed_all_the_same():
    story = inserting("a")
    story.at(1, InsertionWritten())
    assert story.state == "done"
    assert story.prompt("a").unplaced_reason == "not-reported"


def test_a_writer_that_speaks_of_an_unknown_image_is_a_fault_of_ours():
    story = inserting("a")
    with pytest.raises(InternalError, match="unknown prompt 'nobody'"):
        story.at(1, InsertionWritten((PlacedImage("nobody", "u"),)))


def test_an_image_that_was_added_is_no_successor():
    story = Story(SessionKind.REGENERATION)
    story.at(0, click("old", InsertionMode.APPEND_AFTER_IMAGE), started("s.1"), succeeded("s.1"))
    story.at(2_000)
    story.at(2_000, click("old"))
    story.at(2_000, written(story.session))
    assert story.prompt("s.2").target_url == "old"


@pytest.mark.parametrize("make", [streaming, draining, inserting])
def test_a_click_on_a_message_that_is_still_streamed_is_refused_with_its_own_error(make):
    story = make("a")
    before = story.session
    with pytest.raises(RegenerationDuringStreaming):
        story.at(1, click("old"))
    assert story.session is before


def test_a_regeneration_has_no_stream():
    for event in (StreamStarted(), PromptFound(found("a")[0]), StreamEnded(())):
        with pytest.raises(EventRefused):
            Story(SessionKind.REGENERATION).at(0, event)
        with pytest.raises(EventRefused):
            regenerating("old").at(1, event)


# --- cancelling


@pytest.mark.parametrize(
    "make",
    [
        lambda: Story(SessionKind.STREAMING),
        lambda: Story(SessionKind.REGENERATION),
        lambda: streaming("a"),
        lambda: draining("a"),
        lambda: regenerating("old"),
    ],
    ids=["idle stream", "idle regeneration", "streaming", "draining", "debouncing"],
)
def test_a_cancel_before_the_write_ends_the_session_and_stops_its_work(make):
    story = make()
    unsettled = list(story.states())
    assert story.at(7, CancelRequested("not now")) == tuple(Abort(prompt_id) for prompt_id in unsettled)
    assert story.state == "cancelled"
    assert story.session.problem == Problem("cancelled", "not now")
    assert story.session.ended_at == 7
    assert story.deadline is None
    assert story.writes == []


def test_images_that_were_finished_before_a_cancel_stay_listed():
    story = streaming("a", "b")
    story.at(1, started("a"), succeeded("a"), CancelRequested())
    assert story.states() == {"a": "completed", "b": "cancelled"}
    assert story.prompt("a").unplaced_reason == "session-cancelled"


def test_a_cancel_during_the_write_is_too_late():
    story = inserting("a")
    before = story.session
    with pytest.raises(CancelTooLate) as refusal:
        story.at(1, CancelRequested())
    assert refusal.value.state == "inserting"
    assert story.session is before


ENDINGS: list[Event] = [InsertionWritten(), MessageVanished(), InsertionFailed(Problem("storage_error"))]


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_ended_session_takes_nothing_any_more(ending: Event):
    story = inserting()
    story.at(1, ending)
    with pytest.raises(CancelTooLate):
        story.at(2, CancelRequested())
    for event in (StreamStarted(), StreamEnded(()), *ENDINGS, started("a")):
        with pytest.raises(EventRefused):
            story.at(2, event)


# --- the write's outcomes


def test_what_could_not_be_placed_is_listed_with_its_reason():
    story = inserting("a", "b")
    placed = PlacedImage("a", "img-a")
    story.at(1, InsertionWritten((placed,), (UnplacedImage("b", "img-b", "tag-gone"),)))
    assert story.prompt("a").placed == placed
    assert (story.prompt("b").placed, story.prompt("b").unplaced_reason) == (None, "tag-gone")


def test_a_message_that_vanished_ends_the_session_with_its_images_listed_and_the_next_batch_stopped():
    story = rewriting("old")
    story.at(2_100, click("other"), click("third"), started("s.2"), succeeded("s.2"))
    assert story.at(2_200, MessageVanished()) == (Abort("s.3"),)
    assert story.state == "done"
    assert story.session.problem is not None
    assert story.session.problem.kind == "message_gone"
    assert story.states() == {"s.1": "completed", "s.2": "completed", "s.3": "cancelled"}
    assert {prompt.unplaced_reason for prompt in story.session.prompts.values()} == {"message-gone", None}
    assert story.writes == [("s.1",)]


def test_a_write_that_failed_for_good_fails_the_session_with_its_images_listed():
    story = rewriting("old")
    story.at(2_100, click("other"))
    problem = Problem("storage_error", "disk full")
    assert story.at(2_200, InsertionFailed(problem)) == (Abort("s.2"),)
    assert (story.state, story.session.problem) == ("failed", problem)
    assert story.prompt("s.1").unplaced_reason == "write-failed"


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_answer_to_a_write_that_nobody_commanded_is_refused(ending: Event):
    for story in (streaming("a"), draining("a"), regenerating("old")):
        with pytest.raises(EventRefused):
            story.at(1, ending)


# --- the drain timeout


def test_by_default_nothing_is_inserted_after_the_drain_timeout_but_finished_images_stay_listed():
    story = draining("a", "b")
    story.at(1, started("a"), succeeded("a"))
    assert story.at(300_000) == (Abort("b"),)
    assert story.state == "failed"
    assert story.session.problem == Problem("drain_timeout", "not every image was settled within 300 s")
    assert story.prompt("a").unplaced_reason == "drain-timeout"
    assert story.writes == []


def test_where_so_configured_the_drain_timeout_inserts_what_is_complete():
    story = draining("a", "b", settings=SessionSettings(on_drain_timeout=OnDrainTimeout.INSERT))
    story.at(1, started("a"), succeeded("a"))
    assert story.at(300_000) == (Abort("b"), InsertImages(("a",)))
    assert story.state == "inserting"
    assert story.states() == {"a": "completed", "b": "failed"}
