"""The one write: against the version that was read, once in effect, and listed if it fails for good."""

from __future__ import annotations

import anyio
import pytest
from structlog.testing import capture_logs

from limner.errors import MessageGone, StorageError, VersionConflict
from limner.states import InsertionFailed, InsertionWritten, MessageVanished
from limner.text import HTML, DeferredImage, compile_patterns, strip_illustrations
from limner.workflows.clock import Alarm
from limner.workflows.insertion import (
    MAX_CONFLICTS,
    REMOVED,
    STORE_RETRIES_MS,
    Insertion,
    insert_deferred_images,
    plan_insertion,
)
from limner.workflows.ports import StoredMessage
from tests.studio import ScriptedStore, Studio, tag
from tests.support import ManualClock, settle

pytestmark = pytest.mark.anyio

STORY = f"Once {tag('a cat')} met {tag('a dog')} and they lived."
CAT = DeferredImage("1", "a cat", 0, "https://images.test/cat.png")
DOG = DeferredImage("2", "a dog", 0, "https://images.test/dog.png")
PATTERNS = compile_patterns()


async def insert(store: ScriptedStore, *images: DeferredImage):
    return await insert_deferred_images(
        store, "m", images, patterns=PATTERNS, profile=HTML, replaced={}, alarm=Alarm(ManualClock())
    )


# --- the plan, without any store


def test_a_plan_for_a_message_that_is_gone_writes_nothing():
    plan = plan_insertion(None, [CAT], patterns=PATTERNS, profile=HTML, replaced={})
    assert (plan.text, plan.outcome) == (None, MessageVanished())


def test_a_plan_whose_images_stand_there_already_writes_nothing_and_counts_them_as_placed():
    once = plan_insertion(StoredMessage(STORY, "1"), [CAT, DOG], patterns=PATTERNS, profile=HTML, replaced={})
    assert once.text is not None
    twice = plan_insertion(
        StoredMessage(once.text, "2"), [CAT, DOG], patterns=PATTERNS, profile=HTML, replaced={}
    )
    assert twice.text is None
    assert twice.outcome == once.outcome


def test_a_plan_says_of_each_image_where_it_goes_or_why_it_does_not():
    plan = plan_insertion(
        StoredMessage(tag("a dog"), "1"), [CAT, DOG], patterns=PATTERNS, profile=HTML, replaced={}
    )
    assert isinstance(plan.outcome, InsertionWritten)
    assert [placed.prompt_id for placed in plan.outcome.placed] == ["2"]
    assert [(image.prompt_id, image.reason) for image in plan.outcome.unplaced] == [("1", "prompt-gone")]


# --- the write


async def test_the_whole_batch_is_one_write():
    store = ScriptedStore({"m": STORY})
    outcome = await insert(store, CAT, DOG)
    assert isinstance(outcome, InsertionWritten)
    assert len(store.written) == 1


async def test_without_images_the_store_is_not_even_read():
    store = ScriptedStore({"m": STORY})
    assert await insert(store) == InsertionWritten()
    assert (store.reads, store.attempts) == (0, 0)


async def test_where_nothing_changes_nothing_is_written():
    store = ScriptedStore({"m": STORY})
    await insert(store, CAT, DOG)
    outcome = await insert(store, CAT, DOG)
    assert isinstance(outcome, InsertionWritten)
    assert len(outcome.placed) == 2
    assert store.attempts == 1


@pytest.mark.parametrize("times", [1, 2, MAX_CONFLICTS])
async def test_a_message_that_is_edited_before_each_write_is_read_again_and_nothing_is_lost(times: int):
    store = ScriptedStore({"m": STORY})

    async def edit(reads: int) -> None:
        if reads <= times:
            await store.edit("m", f"{reads} {STORY}")

    store.after_read = edit
    with capture_logs() as logs:
        outcome = await insert(store, CAT, DOG)
    assert isinstance(outcome, InsertionWritten)
    assert len(store.written) == 1
    assert strip_illustrations(store.written[0][1]) == f"{times} {STORY}"
    assert [entry["event"] for entry in logs] == ["message_changed_meanwhile"] * times


async def test_a_message_that_never_stands_still_fails_for_good_in_the_end():
    store = ScriptedStore({"m": STORY})

    async def edit(reads: int) -> None:
        await store.edit("m", f"{reads} {STORY}")

    store.after_read = edit
    outcome = await insert(store, CAT)
    assert isinstance(outcome, InsertionFailed)
    assert outcome.problem.kind == "version_conflict"
    assert store.reads == MAX_CONFLICTS + 1
    assert store.written == []


async def test_a_message_that_is_deleted_between_reading_and_writing_has_vanished():
    store = ScriptedStore({"m": STORY})
    store.write_errors = [MessageGone("deleted")]
    assert await insert(store, CAT) == MessageVanished()


async def test_a_message_that_is_not_there_has_vanished():
    assert await insert(ScriptedStore(), CAT) == MessageVanished()


async def test_a_write_that_was_done_although_the_store_reported_an_error_is_found_done():
    class Forgetful(ScriptedStore):
        async def write(self, message_id: str, text: str, *, expected: str | None) -> str:
            version = await super().write(message_id, text, expected=expected)
            if len(self.written) == 1:
                raise VersionConflict("the answer was lost on the way")
            return version

    store = Forgetful({"m": STORY})
    outcome = await insert(store, CAT, DOG)
    assert isinstance(outcome, InsertionWritten)
    assert len(outcome.placed) == 2
    assert len(store.written) == 1


# --- a write that may have happened already


def plan_again(text: str, *images: DeferredImage, may_be_written: bool = True) -> Insertion:
    return plan_insertion(
        StoredMessage(text, "1"),
        images,
        patterns=PATTERNS,
        profile=HTML,
        replaced={},
        may_be_written=may_be_written,
    )


def illustrated(*images: DeferredImage) -> str:
    plan = plan_again(STORY, *images)
    assert plan.text is not None
    return plan.text


def test_a_write_that_did_not_happen_is_made():
    assert plan_again(STORY, CAT, DOG) == plan_again(STORY, CAT, DOG, may_be_written=False)


def test_a_write_that_happened_is_found_by_its_images():
    plan = plan_again(illustrated(CAT, DOG), CAT, DOG)
    assert plan.text is None
    assert isinstance(plan.outcome, InsertionWritten)
    assert [image.prompt_id for image in plan.outcome.placed] == ["1", "2"]


def test_an_image_that_was_taken_out_after_the_write_is_not_put_back():
    only_dog = illustrated(DOG)  # what a person leaves who takes the cat out
    plan = plan_again(only_dog, CAT, DOG)
    assert plan.text is None
    assert isinstance(plan.outcome, InsertionWritten)
    assert [image.prompt_id for image in plan.outcome.placed] == ["2"]
    assert [(image.prompt_id, image.reason) for image in plan.outcome.unplaced] == [("1", REMOVED)]


def test_where_the_write_cannot_have_happened_a_standing_image_keeps_no_other_out():
    # A host may show finished images in its text by itself.
    plan = plan_again(illustrated(DOG), CAT, DOG, may_be_written=False)
    assert plan.text is not None
    assert isinstance(plan.outcome, InsertionWritten)
    assert len(plan.outcome.placed) == 2


async def test_an_edit_after_a_write_whose_answer_was_lost_is_kept():
    class Broken(ScriptedStore):
        async def write(self, message_id: str, text: str, *, expected: str | None) -> str:
            await super().write(message_id, text, expected=expected)
            await self.edit(message_id, f"Edited. {illustrated(DOG)}")
            raise ConnectionResetError

    store = Broken({"m": STORY})
    clock = ManualClock()
    alarm = Alarm(clock)
    outcomes = []

    async def run() -> None:
        outcomes.append(
            await insert_deferred_images(
                store, "m", [CAT, DOG], patterns=PATTERNS, profile=HTML, replaced={}, alarm=alarm
            )
        )

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await settle()
        clock.tick(STORE_RETRIES_MS[0])
        alarm.ring()
        await settle()
    [outcome] = outcomes
    assert isinstance(outcome, InsertionWritten)
    assert [image.reason for image in outcome.unplaced] == [REMOVED]
    assert len(store.written) == 1


# --- a store that fails, through the whole path


@pytest.mark.parametrize("failures", [1, 2, 3])
@pytest.mark.parametrize("call", ["read_errors", "write_errors"])
async def test_a_store_that_fails_a_few_times_is_asked_again_after_a_pause(failures: int, call: str):
    async with Studio(store=ScriptedStore({"m": STORY})) as studio:
        studio.painter.hold()
        await studio.limner.seal("m")
        setattr(studio.store, call, [StorageError("busy") for _ in range(failures)])
        studio.painter.release_all()
        await settle()
        for pause in STORE_RETRIES_MS[:failures]:
            await studio.tick(pause - 1)
            assert studio.store.written == []
            await studio.tick(1)
        assert len((await studio.limner.finished("m")).placed) == 2
        assert len(studio.store.written) == 1
        assert len(studio.painter.requests) == 2


@pytest.mark.parametrize("error", [StorageError("gone"), OSError("gone"), KeyError("bug")])
async def test_a_store_that_fails_for_good_fails_the_session_and_every_image_stays_listed(error: Exception):
    async with Studio(store=ScriptedStore({"m": STORY})) as studio:
        studio.painter.hold()
        await studio.limner.seal("m")
        studio.store.write_errors = [error] * (len(STORE_RETRIES_MS) + 1)
        studio.painter.release_all()
        with capture_logs() as logs:
            await settle()
            for pause in STORE_RETRIES_MS:
                await studio.tick(pause)
            result = await studio.limner.finished("m")
        assert result.state == "failed"
        assert result.problem is not None
        assert result.problem.kind == "storage_error"
        assert type(error).__name__ in result.problem.message
        assert [image.reason for image in result.unplaced] == ["write-failed", "write-failed"]
        assert {image.image_url for image in result.unplaced} == set(studio.images.images)
        assert [entry["event"] for entry in logs].count("store_failed") == len(STORE_RETRIES_MS) + 1
        assert studio.store.written == []


# --- a message that changes while its images are made


async def test_images_land_at_their_prompts_in_the_text_as_it_is_then():
    async with Studio(hold=True) as studio:
        async for _ in studio.limner.illustrate("m", [STORY]):
            pass
        edited = f"Preface. {tag('a dog')} first, then the {tag('a cat')}."
        await studio.store.edit("m", edited)
        studio.painter.release_all()
        result = await studio.limner.finished("m")
        urls = dict(zip(("a cat", "a dog"), result.placed, strict=True))
        assert await studio.urls("m") == [urls["a dog"].image_url, urls["a cat"].image_url]
        assert strip_illustrations(await studio.text("m")) == edited


async def test_a_prompt_that_was_edited_away_leaves_its_image_listed():
    async with Studio(hold=True) as studio:
        async for _ in studio.limner.illustrate("m", [STORY]):
            pass
        await studio.store.edit("m", f"Only {tag('a dog')}")
        studio.painter.release_all()
        result = await studio.limner.finished("m")
        assert result.state == "done"
        assert [image.reason for image in result.unplaced] == ["prompt-gone"]
        assert len(result.placed) == 1


async def test_a_message_that_was_deleted_meanwhile_ends_with_its_images_listed():
    async with Studio(hold=True) as studio:
        async for _ in studio.limner.illustrate("m", [STORY]):
            pass
        await studio.store.delete("m")
        studio.painter.release_all()
        with capture_logs() as logs:
            result = await studio.limner.finished("m")
            await settle()
        assert result.state == "done"
        assert result.problem is not None
        assert result.problem.kind == "message_gone"
        assert [image.reason for image in result.unplaced] == ["message-gone", "message-gone"]
        assert await studio.store.read("m") is None
        assert [entry["problem"] for entry in logs if entry["event"] == "session_ended"] == ["message_gone"]


async def test_an_address_that_must_not_stand_in_a_message_is_not_placed():
    class Sly:
        async def put(self, data: bytes, media_type: str) -> str:
            return "javascript:alert(1)"

    async with Studio(images=Sly()) as studio:
        result = await studio.illustrate("m", STORY)
        assert {image.reason for image in result.unplaced} == {"invalid-url"}
        assert "javascript" not in await studio.text("m")


async def test_a_pattern_that_is_too_slow_on_the_text_gives_way_to_the_tags():
    bomb = "(?:a|a|a|aa|aaa)+b(prompt)"
    text = f"{'a' * 50_000} {tag('a cat')}"
    store = ScriptedStore({"m": text})
    from limner.text import DEFAULT_PATTERNS

    with capture_logs() as logs:
        outcome = await insert_deferred_images(
            store,
            "m",
            [CAT],
            patterns=compile_patterns([*DEFAULT_PATTERNS, bomb]),
            profile=HTML,
            replaced={},
            alarm=Alarm(ManualClock()),
        )
    assert isinstance(outcome, InsertionWritten)
    assert len(outcome.placed) == 1
    assert [entry["event"] for entry in logs] == ["pattern_too_slow"]
