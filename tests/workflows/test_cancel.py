"""Cancelling: from every phase before the write, really, and with nothing written afterwards."""

from __future__ import annotations

import anyio
import pytest
from structlog.testing import capture_logs

from limner.errors import CancelTooLate, NotRunning, UnknownMessage
from tests.studio import ScriptedStore, Studio, tag
from tests.support import FakeImageStore, settle

pytestmark = pytest.mark.anyio

STORY = tag("a cat") + tag("a dog")


async def nothing_more_happens(studio: Studio, writes: int) -> None:
    """Let every timer pass that there could be, and look whether anybody wrote or painted."""
    calls = len(studio.painter.requests)
    studio.painter.release_all()
    for _ in range(5):
        await studio.tick(150_000)
    assert len(studio.store.written) == writes
    assert len(studio.painter.requests) == calls
    assert studio.limner.sessions() == ()


async def test_cancelling_while_the_text_streams_stops_the_painters_and_the_text_goes_on_and_is_saved():
    async with Studio(hold=True, max_concurrent=1) as studio:
        tokens = studio.limner.illustrate("m", [STORY, tag("an owl"), "end"])
        await anext(tokens)
        await settle()
        assert studio.painter.running == ["a cat"]
        with capture_logs() as logs:
            result = await studio.limner.cancel("m")
        await settle()
        assert studio.painter.cancelled == ["a cat"]
        assert (result.state, len(result.cancelled)) == ("cancelled", 2)
        assert [token async for token in tokens] == [tag("an owl"), "end"]
        assert studio.painter.prompts == ["a cat"]
        assert [entry["state"] for entry in logs if entry["event"] == "session_ended"] == ["cancelled"]
        await nothing_more_happens(studio, writes=1)
        assert await studio.text("m") == STORY + tag("an owl") + "end"


async def test_cancelling_while_clicks_are_collected_keeps_the_old_images():
    async with Studio() as studio:
        await studio.illustrate("m", STORY)
        before = await studio.urls("m")
        studio.painter.hold()
        await studio.limner.regenerate("m", before[0])
        await settle()
        assert studio.state("m") == "debouncing"
        assert (await studio.limner.cancel("m")).state == "cancelled"
        await settle()
        assert studio.painter.cancelled == ["a cat"]
        await nothing_more_happens(studio, writes=2)
        assert await studio.urls("m") == before


async def test_cancelling_while_images_are_outstanding_lists_the_finished_ones():
    async with Studio(hold=True) as studio:
        async for _ in studio.limner.illustrate("m", [STORY]):
            pass
        studio.painter.release("a cat")
        await settle()
        assert studio.state("m") == "draining"
        result = await studio.limner.cancel("m")
        assert [image.reason for image in result.unplaced] == ["session-cancelled"]
        assert len(result.cancelled) == 1
        await settle()
        assert studio.painter.cancelled == ["a dog"]
        await nothing_more_happens(studio, writes=1)


async def test_cancelling_while_a_prompt_waits_for_another_attempt_ends_the_wait():
    async with Studio() as studio:
        studio.painter.answers["a cat"] = [OSError("down")]
        async for _ in studio.limner.illustrate("m", [tag("a cat")]):
            pass
        await settle()
        assert studio.limner.counts("m").waiting == 1
        assert len((await studio.limner.cancel("m")).cancelled) == 1
        await nothing_more_happens(studio, writes=1)


async def test_cancelling_once_the_write_has_begun_is_too_late_and_the_images_are_placed():
    async with Studio(store=ScriptedStore({"m": STORY})) as studio:
        studio.store.hold_writes()
        await studio.limner.seal("m")
        await settle()
        assert studio.state("m") == "inserting"
        with pytest.raises(CancelTooLate):
            await studio.limner.cancel("m")
        studio.store.release()
        result = await studio.limner.finished("m")
        assert (result.state, len(result.placed)) == ("done", 2)


async def test_cancelling_a_session_that_has_ended_is_too_late():
    async with Studio() as studio:
        await studio.illustrate("m", STORY)
        with pytest.raises(CancelTooLate):
            await studio.limner.cancel("m")


async def test_cancelling_twice_is_too_late_the_second_time():
    async with Studio(hold=True) as studio:
        await studio.limner.observe("m", STORY)
        await studio.limner.cancel("m")
        with pytest.raises(CancelTooLate):
            await studio.limner.cancel("m")


async def test_cancelling_a_message_that_never_had_a_session_is_refused():
    async with Studio(store=ScriptedStore({"m": STORY})) as studio:
        with pytest.raises(UnknownMessage, match="'m'"):
            await studio.limner.cancel("m")


async def test_an_image_that_is_finished_while_it_is_cancelled_is_stored_and_logged_not_lost():
    class SlowImages(FakeImageStore):
        def __init__(self) -> None:
            super().__init__()
            self.gate = anyio.Event()

        async def put(self, data: bytes, media_type: str) -> str:
            await self.gate.wait()
            return await super().put(data, media_type)

    images = SlowImages()
    async with Studio(images=images) as studio:
        async for _ in studio.limner.illustrate("m", [tag("a cat")]):
            pass
        await settle()
        result = await studio.limner.cancel("m")
        assert len(result.cancelled) == 1
        with capture_logs() as logs:
            images.gate.set()
            await settle()
        [late] = [entry for entry in logs if entry["event"] == "image_came_too_late"]
        assert late["image_url"] in images.images
        assert late["log_level"] == "warning"
        await nothing_more_happens(studio, writes=1)


async def test_a_cancelled_message_can_be_streamed_again():
    async with Studio(hold=True) as studio:
        await studio.limner.observe("m", STORY)
        await settle()
        await studio.limner.cancel("m")
        studio.painter.release_all()
        assert len((await studio.illustrate("m", STORY)).placed) == 2


async def test_a_caller_who_is_cancelled_while_it_cancels_has_cancelled():
    async with Studio(hold=True) as studio:
        await studio.limner.observe("m", STORY)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await studio.limner.cancel("m")
        assert (await studio.limner.finished("m")).state == "cancelled"


async def test_cancelling_needs_a_limner_that_runs():
    studio = Studio()
    with pytest.raises(NotRunning):
        await studio.limner.cancel("m")
