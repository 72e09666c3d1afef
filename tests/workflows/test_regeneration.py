"""Clicks: a new image from the prompt of one that stands in the message, in batches of one write each."""

from __future__ import annotations

import anyio
import pytest
from structlog.testing import capture_logs

from limner.errors import (
    InvalidSetting,
    Moderated,
    RegenerationDuringStreaming,
    StorageError,
    Unavailable,
    UnknownImage,
    UnknownMessage,
)
from limner.text import find_images, strip_illustrations
from tests.studio import ScriptedStore, Studio, tag
from tests.support import settle

pytestmark = pytest.mark.anyio

STORY = f"Once {tag('a cat')} met {tag('a dog')} and they lived."
DEBOUNCE = 2_000


async def illustrated(studio: Studio) -> list[str]:
    """Illustrate the story and return the addresses of its two images."""
    await studio.illustrate("m", STORY)
    studio.store.written.clear()
    return await studio.urls("m")


# --- one batch, one write


async def test_a_click_replaces_the_image_and_keeps_its_place():
    async with Studio() as studio:
        cat, dog = await illustrated(studio)
        await studio.limner.regenerate("m", cat)
        await studio.tick(DEBOUNCE)
        result = await studio.limner.finished("m")
        [placed] = result.placed
        assert placed.replaced_url == cat
        assert await studio.urls("m") == [placed.image_url, dog]
        assert strip_illustrations(await studio.text("m")) == STORY
        assert studio.painter.prompts[-1] == "a cat"


async def test_clicks_within_two_seconds_are_one_batch_and_one_write():
    async with Studio() as studio:
        cat, dog = await illustrated(studio)
        await studio.limner.regenerate("m", cat)
        await studio.tick(1_000)
        await studio.limner.regenerate("m", dog)
        await studio.tick(DEBOUNCE)
        result = await studio.limner.finished("m")
        assert [placed.replaced_url for placed in result.placed] == [cat, dog]
        assert len(studio.store.written) == 1


async def test_two_clicks_on_one_image_are_one_regeneration():
    async with Studio() as studio:
        cat, _ = await illustrated(studio)
        await studio.limner.regenerate("m", cat)
        await studio.limner.regenerate("m", cat)
        await studio.tick(DEBOUNCE)
        assert len((await studio.limner.finished("m")).placed) == 1
        assert studio.painter.prompts.count("a cat") == 2  # the first one and the new one


async def test_a_regeneration_has_another_seed_than_the_image_that_it_replaces():
    async with Studio() as studio:
        cat, _ = await illustrated(studio)
        await studio.limner.regenerate("m", cat)
        await studio.tick(DEBOUNCE)
        seeds = [request.seed for request in studio.painter.requests if request.prompt == "a cat"]
        assert len(set(seeds)) == 2


async def test_a_picture_with_the_same_bytes_as_the_old_one_still_counts_as_a_new_one():
    async with Studio() as studio:
        studio.painter.answers["a cat"] = [b"\x89PNG same"]
        cat, dog = await illustrated(studio)
        await studio.limner.regenerate("m", cat)
        await studio.tick(DEBOUNCE)
        [placed] = (await studio.limner.finished("m")).placed
        assert placed.image_url != cat
        assert await studio.urls("m") == [placed.image_url, dog]


async def test_the_address_may_be_given_as_it_stands_in_the_text():
    async with Studio(
        store=ScriptedStore({"m": f'{tag("a cat")}<img src="/c%C3%A4t.png?a=1&amp;b=2">'})
    ) as s:
        await s.limner.regenerate("m", "/cät.png?a=1&b=2")
        await s.tick(DEBOUNCE)
        assert len((await s.limner.finished("m")).placed) == 1


# --- where it goes


async def test_an_image_can_be_put_behind_the_clicked_one():
    async with Studio() as studio:
        cat, dog = await illustrated(studio)
        await studio.limner.regenerate("m", cat, mode="append-after-image")
        await studio.limner.regenerate("m", cat, mode="append-after-image")
        await studio.tick(DEBOUNCE)
        first, second = (await studio.limner.finished("m")).placed
        assert await studio.urls("m") == [cat, first.image_url, second.image_url, dog]
        assert len(studio.store.written) == 1


async def test_an_image_can_be_put_behind_the_prompt():
    async with Studio() as studio:
        cat, dog = await illustrated(studio)
        await studio.limner.regenerate("m", cat, mode="append-after-prompt")
        await studio.tick(DEBOUNCE)
        [placed] = (await studio.limner.finished("m")).placed
        assert await studio.urls("m") == [placed.image_url, cat, dog]


async def test_a_mode_that_there_is_not_is_refused_with_the_ones_that_there_are():
    async with Studio() as studio:
        cat, _ = await illustrated(studio)
        with pytest.raises(InvalidSetting, match="'replace-image', 'append-after-image'"):
            await studio.limner.regenerate("m", cat, mode="sideways")  # type: ignore[arg-type]


# --- what comes late


async def test_a_click_while_the_batch_drains_joins_the_batch():
    async with Studio() as studio:
        cat, dog = await illustrated(studio)
        studio.painter.hold()
        await studio.limner.regenerate("m", cat)
        await studio.tick(DEBOUNCE)
        assert studio.state("m") == "draining"
        await studio.limner.regenerate("m", dog)
        assert studio.state("m") == "debouncing"
        studio.painter.release_all()
        await studio.tick(DEBOUNCE)
        assert len((await studio.limner.finished("m")).placed) == 2
        assert len(studio.store.written) == 1


async def test_a_click_during_the_write_is_painted_at_once_and_gets_a_write_of_its_own():
    async with Studio() as studio:
        cat, dog = await illustrated(studio)
        await studio.limner.regenerate("m", cat)
        studio.store.hold_writes()
        await studio.tick(DEBOUNCE)
        assert studio.state("m") == "inserting"
        await studio.limner.regenerate("m", dog)
        await settle()
        assert studio.painter.prompts.count("a dog") == 2
        studio.store.release()
        await settle()
        assert len(studio.store.written) == 1
        await studio.tick(DEBOUNCE)
        result = await studio.limner.finished("m")
        assert [placed.replaced_url for placed in result.placed] == [cat, dog]
        assert len(studio.store.written) == 2


async def test_a_click_during_the_write_on_the_image_that_is_being_replaced_applies_to_its_successor():
    async with Studio() as studio:
        cat, dog = await illustrated(studio)
        await studio.limner.regenerate("m", cat)
        studio.store.hold_writes()
        await studio.tick(DEBOUNCE)
        await studio.limner.regenerate("m", cat)
        studio.store.release()
        await settle()
        await studio.tick(DEBOUNCE)
        first, second = (await studio.limner.finished("m")).placed
        assert (first.replaced_url, second.replaced_url) == (cat, first.image_url)
        assert await studio.urls("m") == [second.image_url, dog]


async def test_a_click_on_an_image_that_was_replaced_long_ago_applies_to_its_successor():
    async with Studio() as studio:
        cat, dog = await illustrated(studio)
        for _ in range(3):
            await studio.limner.regenerate("m", cat)
            await studio.tick(DEBOUNCE)
            [placed] = (await studio.limner.finished("m")).placed
        assert await studio.urls("m") == [placed.image_url, dog]
        assert placed.replaced_url != cat


async def test_a_click_after_a_failure_tries_again_in_the_same_batch():
    async with Studio() as studio:
        cat, dog = await illustrated(studio)
        studio.painter.answers["a cat"] = [Moderated("no"), b"\x89PNG second try"]
        await studio.limner.regenerate("m", cat)
        await settle()
        assert studio.limner.counts("m").failed == 1
        await studio.limner.regenerate("m", cat)
        await studio.tick(DEBOUNCE)
        result = await studio.limner.finished("m")
        assert (len(result.failed), len(result.placed)) == (1, 1)
        assert await studio.urls("m") == [result.placed[0].image_url, dog]


async def test_a_failed_regeneration_keeps_the_old_image_and_writes_nothing():
    async with Studio() as studio:
        cat, dog = await illustrated(studio)
        studio.painter.answers["a cat"] = [Moderated("no")]
        with capture_logs() as logs:
            await studio.limner.regenerate("m", cat)
            await studio.tick(DEBOUNCE)
            result = await studio.limner.finished("m")
        assert [failed.problem.kind for failed in result.failed] == ["moderated"]
        assert await studio.urls("m") == [cat, dog]
        assert studio.store.written == []
        assert "generation_failed" in [entry["event"] for entry in logs]


async def test_a_regeneration_is_tried_again_after_a_failure_that_passes():
    async with Studio() as studio:
        cat, _ = await illustrated(studio)
        studio.painter.answers["a cat"] = [Unavailable("down"), b"\x89PNG up again"]
        await studio.limner.regenerate("m", cat)
        await studio.tick(DEBOUNCE)
        await studio.tick(DEBOUNCE)
        assert len((await studio.limner.finished("m")).placed) == 1


# --- images that Limner has not made itself


async def test_the_prompt_of_an_unknown_image_is_found_in_the_text():
    text = f'{tag("a cat")}\n<img src="other.png"> <img src="old.png"> and {tag("a dog")}'
    async with Studio(store=ScriptedStore({"m": text})) as studio:
        await studio.limner.regenerate("m", "old.png")
        await studio.tick(DEBOUNCE)
        [placed] = (await studio.limner.finished("m")).placed
        assert studio.painter.prompts == ["a cat"]
        assert await studio.urls("m") == ["other.png", placed.image_url]


async def test_an_image_without_a_prompt_before_it_is_unknown():
    text = f'<img src="portrait.png"> {tag("a cat")} some words <img src="far.png">'
    async with Studio(store=ScriptedStore({"m": text})) as studio:
        for url in ("portrait.png", "far.png", "nowhere.png"):
            with pytest.raises(UnknownImage):
                await studio.limner.regenerate("m", url)
        assert studio.limner.sessions() == ()


async def test_an_image_of_ours_that_somebody_took_out_of_the_message_is_unknown():
    async with Studio() as studio:
        cat, _ = await illustrated(studio)
        await studio.store.edit("m", STORY)
        with pytest.raises(UnknownImage):
            await studio.limner.regenerate("m", cat)


async def test_an_image_of_a_message_that_is_gone_is_of_an_unknown_message():
    async with Studio() as studio:
        cat, _ = await illustrated(studio)
        await studio.store.delete("m")
        with pytest.raises(UnknownMessage):
            await studio.limner.regenerate("m", cat)
        with pytest.raises(UnknownMessage):
            await studio.limner.regenerate("nowhere", cat)


async def test_a_store_that_fails_when_a_click_comes_is_told_to_the_caller():
    async with Studio() as studio:
        cat, _ = await illustrated(studio)
        studio.store.read_errors = [StorageError("the disk is gone")]
        with pytest.raises(StorageError, match="the disk is gone"):
            await studio.limner.regenerate("m", cat)
        assert studio.limner.sessions() == ()


# --- against streaming


async def test_a_click_while_the_message_is_streamed_is_refused_whatever_the_image():
    async with Studio() as studio:
        cat, _ = await illustrated(studio)
        await studio.limner.observe("m", "again")
        for url in (cat, "nowhere.png"):
            with pytest.raises(RegenerationDuringStreaming):
                await studio.limner.regenerate("m", url)


async def test_a_click_while_the_streamed_images_are_painted_is_refused():
    async with Studio(hold=True) as studio:
        async for _ in studio.limner.illustrate("m", f'{STORY}<img src="old.png">'):
            pass
        assert studio.state("m") == "draining"
        with pytest.raises(RegenerationDuringStreaming):
            await studio.limner.regenerate("m", "old.png")


async def test_a_stream_that_begins_while_a_click_is_looked_up_wins_over_it():
    async with Studio() as studio:
        cat, _ = await illustrated(studio)
        studio.store.hold_reads()
        outcome: list[Exception] = []

        async def click() -> None:
            try:
                await studio.limner.regenerate("m", cat)
            except RegenerationDuringStreaming as refusal:
                outcome.append(refusal)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(click)
            await settle()
            await studio.limner.observe("m", "again")
            studio.store.release()
        assert len(outcome) == 1


async def test_a_new_stream_cancels_a_regeneration():
    async with Studio() as studio:
        cat, _ = await illustrated(studio)
        studio.painter.hold()
        await studio.limner.regenerate("m", cat)
        await settle()
        await studio.limner.observe("m", "again")
        await settle()
        assert studio.painter.cancelled == ["a cat"]
        assert studio.state("m") == "streaming"


# --- a message that changes meanwhile


async def test_an_edit_during_the_regeneration_moves_the_image_with_its_text():
    async with Studio() as studio:
        cat, dog = await illustrated(studio)
        await studio.limner.regenerate("m", cat)
        before = await studio.text("m")
        await studio.store.edit("m", f"A long preface. {before}")
        await studio.tick(DEBOUNCE)
        [placed] = (await studio.limner.finished("m")).placed
        text = await studio.text("m")
        assert text.startswith("A long preface. Once ")
        assert [image.src for image in find_images(text)] == [placed.image_url, dog]


async def test_an_image_whose_target_was_taken_out_meanwhile_is_listed_as_unplaced():
    async with Studio() as studio:
        cat, _ = await illustrated(studio)
        await studio.limner.regenerate("m", cat)
        await studio.store.edit("m", STORY)
        await studio.tick(DEBOUNCE)
        result = await studio.limner.finished("m")
        assert [image.reason for image in result.unplaced] == ["image-gone"]
        assert studio.store.written == []


async def test_a_caller_who_is_cancelled_after_the_click_has_clicked():
    async with Studio() as studio:
        cat, dog = await illustrated(studio)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(studio.limner.regenerate, "m", cat)
            await settle()
            tasks.cancel_scope.cancel()
        await studio.tick(DEBOUNCE)
        [placed] = (await studio.limner.finished("m")).placed
        assert await studio.urls("m") == [placed.image_url, dog]


async def test_a_caller_who_is_cancelled_while_the_image_is_looked_up_has_not_clicked():
    async with Studio() as studio:
        cat, _ = await illustrated(studio)
        studio.store.hold_reads()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(studio.limner.regenerate, "m", cat)
            await settle()
            tasks.cancel_scope.cancel()
        studio.store.release()
        await settle()
        assert studio.limner.sessions() == ()
