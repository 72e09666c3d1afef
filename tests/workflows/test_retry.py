"""Asking once more for an image that failed, in the same batches as the clicks on images."""

from __future__ import annotations

import pytest

from limner.errors import (
    InvalidSetting,
    Moderated,
    NothingToRetry,
    RegenerationDuringStreaming,
    UnknownMessage,
    UnknownPrompt,
)
from limner.states.outcome import Result
from limner.text import strip_illustrations
from tests.studio import Studio, tag
from tests.support import settle

pytestmark = pytest.mark.anyio

STORY = f"Once {tag('a cat')} met {tag('a dog')} and they lived."
DEBOUNCE = 2_000


async def half_illustrated(studio: Studio) -> Result:
    """Illustrate the story, of which the cat fails the first time."""
    studio.painter.answers["a cat"] = [Moderated("no cats"), b"\x89PNG a cat after all"]
    result = await studio.illustrate("m", STORY)
    studio.store.written.clear()
    return result


async def test_a_prompt_that_failed_gets_its_image_behind_its_tag():
    async with Studio() as studio:
        first = await half_illustrated(studio)
        [dog] = await studio.urls("m")
        await studio.limner.retry("m", first.failed[0].prompt_id)
        await studio.tick(DEBOUNCE)
        result = await studio.limner.finished("m")
        assert await studio.urls("m") == [result.placed[0].image_url, dog]
        assert result.placed[0].replaced_url is None
        assert strip_illustrations(await studio.text("m")) == STORY
        assert len(studio.store.written) == 1


async def test_a_retry_and_a_click_are_one_batch_and_one_write():
    async with Studio() as studio:
        first = await half_illustrated(studio)
        [dog] = await studio.urls("m")
        await studio.limner.retry("m", first.failed[0].prompt_id)
        await studio.tick(1_000)
        await studio.limner.regenerate("m", dog)
        await studio.tick(DEBOUNCE)
        result = await studio.limner.finished("m")
        assert [placed.replaced_url for placed in result.placed] == [None, dog]
        assert len(studio.store.written) == 1


async def test_asking_twice_in_a_batch_is_asking_once():
    async with Studio() as studio:
        [failed] = (await half_illustrated(studio)).failed
        await studio.limner.retry("m", failed.prompt_id)
        await studio.limner.retry("m", failed.prompt_id)
        await studio.tick(DEBOUNCE)
        assert len((await studio.limner.finished("m")).placed) == 1
        assert studio.painter.prompts.count("a cat") == 2


async def test_a_retry_that_fails_can_be_tried_again_in_the_same_batch():
    async with Studio() as studio:
        studio.painter.answers["a cat"] = [Moderated("no"), Moderated("no"), b"\x89PNG third"]
        [failed] = (await studio.illustrate("m", STORY)).failed
        await studio.limner.retry("m", failed.prompt_id)
        await settle()
        assert studio.limner.counts("m").failed == 1
        await studio.limner.retry("m", failed.prompt_id)
        await studio.tick(DEBOUNCE)
        result = await studio.limner.finished("m")
        assert (len(result.failed), len(result.placed)) == (1, 1)


async def test_the_retry_may_be_named_as_well_that_failed_last():
    async with Studio() as studio:
        studio.painter.answers["a cat"] = [Moderated("no"), Moderated("no"), b"\x89PNG third"]
        [failed] = (await studio.illustrate("m", STORY)).failed
        await studio.limner.retry("m", failed.prompt_id)
        await studio.tick(DEBOUNCE)
        [failed_again] = (await studio.limner.finished("m")).failed
        assert failed_again.prompt_id != failed.prompt_id
        await studio.limner.retry("m", failed_again.prompt_id)
        await studio.tick(DEBOUNCE)
        assert len((await studio.limner.finished("m")).placed) == 1


async def test_a_regeneration_that_failed_is_made_again_in_its_place():
    async with Studio() as studio:
        await studio.illustrate("m", STORY)
        cat, dog = await studio.urls("m")
        studio.painter.answers["a cat"] = [Moderated("no"), b"\x89PNG better"]
        await studio.limner.regenerate("m", cat)
        await studio.tick(DEBOUNCE)
        [failed] = (await studio.limner.finished("m")).failed
        await studio.limner.retry("m", failed.prompt_id)
        await studio.tick(DEBOUNCE)
        [placed] = (await studio.limner.finished("m")).placed
        assert placed.replaced_url == cat
        assert await studio.urls("m") == [placed.image_url, dog]


async def test_of_two_equal_prompts_the_one_that_failed_gets_the_image():
    async with Studio() as studio:
        studio.painter.answers["a cat"] = [b"\x89PNG first", Moderated("no"), b"\x89PNG second"]
        studio.limner.set_limits(max_concurrent=1)
        [failed] = (await studio.illustrate("m", tag("a cat") + " and " + tag("a cat"))).failed
        [standing] = await studio.urls("m")
        await studio.limner.retry("m", failed.prompt_id)
        await studio.tick(DEBOUNCE)
        [placed] = (await studio.limner.finished("m")).placed
        assert await studio.urls("m") == [standing, placed.image_url]


async def test_a_prompt_that_has_its_image_is_refused():
    async with Studio() as studio:
        result = await half_illustrated(studio)
        with pytest.raises(NothingToRetry, match="'a dog' has its image"):
            await studio.limner.retry("m", result.placed[0].prompt_id)
        assert studio.store.written == []


async def test_a_prompt_that_is_not_in_the_text_any_more_is_refused():
    async with Studio() as studio:
        [failed] = (await half_illustrated(studio)).failed
        await studio.store.edit("m", "nothing of that")
        with pytest.raises(UnknownPrompt):
            await studio.limner.retry("m", failed.prompt_id)


async def test_what_cannot_be_tried_again_is_refused_with_the_reason():
    async with Studio(hold=True) as studio:
        await studio.limner.observe("m", STORY)
        with pytest.raises(RegenerationDuringStreaming):
            await studio.limner.retry("m", "p")
        with pytest.raises(UnknownMessage):
            await studio.limner.retry("nobody", "p")
        with pytest.raises(InvalidSetting):
            await studio.limner.retry("m", "")


async def test_asking_while_the_image_is_just_written_asks_for_nothing_more():
    async with Studio() as studio:
        [failed] = (await half_illustrated(studio)).failed
        await studio.limner.retry("m", failed.prompt_id)
        studio.store.hold_writes()
        await studio.tick(DEBOUNCE)
        [session] = studio.limner.sessions()
        assert session.state == "inserting"
        await studio.limner.retry("m", failed.prompt_id)
        studio.store.release()
        await studio.tick(DEBOUNCE)
        await studio.limner.finished("m")
        assert len(await studio.urls("m")) == 2
        assert studio.painter.prompts.count("a cat") == 2
