"""Forgetting a message: nothing of it stays in this process, as soon as nothing of it is under way."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from limner.adapters.journal_memory import MemoryJournal
from limner.errors import NotRunning, StorageError, UnknownMessage
from limner.workflows.ports import GenerationRequest
from limner.workflows.progress_events import ProgressEvent, SessionEnded
from tests.studio import Studio, tag
from tests.support import FakeImageStore, ScriptedJournal, png, settle

pytestmark = pytest.mark.anyio

STORY = tag("a cat") + tag("a dog")


def keeping_nothing(**settings) -> Studio:
    """A studio whose journal keeps no session that has ended."""
    return Studio(journal=MemoryJournal(keep=0), **settings)


def is_known(studio: Studio, message_id: str = "m") -> bool:
    """Whether anything is known of the message, besides by the stores."""
    limner = studio.limner
    manager = limner.manager
    return bool(
        limner.progress(message_id)
        or limner.history(message_id)
        or limner.counts(message_id).total
        or manager.progress.is_tracking(message_id)
        or message_id in manager.registry._messages
        or message_id in manager.history._last
        or message_id in manager.progress._with_thumbnails
        or manager.processor.works_on(message_id)
    )


async def test_nothing_stays_of_a_message_but_what_the_stores_have():
    async with keeping_nothing() as studio:
        await studio.illustrate("m", STORY)
        await studio.illustrate("other", STORY)
        text = await studio.text("m")
        assert is_known(studio)
        await studio.limner.forget("m")
        assert not is_known(studio)
        assert is_known(studio, "other")
        with pytest.raises(UnknownMessage):
            await studio.limner.finished("m")
        assert await studio.limner.text("m") == text
        assert set(await studio.urls("m")) <= set(studio.images.images)


async def test_a_live_session_goes_on_and_is_forgotten_when_it_has_ended():
    async with keeping_nothing(hold=True) as studio, anyio.create_task_group() as tasks:
        async for _ in studio.limner.illustrate("m", [STORY]):
            pass
        tasks.start_soon(studio.limner.forget, "m")
        await settle()
        assert studio.state("m") == "draining"
        assert len(studio.limner.progress("m")) == 2
        studio.painter.release_all()
        await settle()
        assert not is_known(studio)
        assert len(await studio.urls("m")) == 2


async def test_who_does_not_wait_for_it_does_not_undo_it():
    async with keeping_nothing(hold=True) as studio:
        async for _ in studio.limner.illustrate("m", [STORY]):
            pass
        await settle()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await studio.limner.forget("m")
        assert is_known(studio)
        studio.painter.release_all()
        await settle()
        assert not is_known(studio)


async def test_a_text_that_goes_on_after_a_cancel_is_waited_for():
    async with keeping_nothing(hold=True) as studio, anyio.create_task_group() as tasks:
        tokens = studio.limner.illustrate("m", [STORY, tag("an owl")])
        await anext(tokens)
        await settle()
        await studio.limner.cancel("m")
        tasks.start_soon(studio.limner.forget, "m")
        await settle()
        assert is_known(studio)
        assert [token async for token in tokens] == [tag("an owl")]
        await settle()
        assert not is_known(studio)


async def test_a_painter_that_does_not_let_go_of_a_cancelled_image_is_waited_for():
    finishing = anyio.Event()

    async def paint(request: GenerationRequest) -> bytes:
        with anyio.CancelScope(shield=True):
            await finishing.wait()
        return png(1)

    async with keeping_nothing() as studio, anyio.create_task_group() as tasks:
        studio.painter.answers["a cat"] = [paint]
        async for _ in studio.limner.illustrate("m", [tag("a cat")]):
            pass
        await settle()
        await studio.limner.cancel("m")
        tasks.start_soon(studio.limner.forget, "m")
        await studio.tick(60_000)
        assert is_known(studio)
        finishing.set()
        await settle()
        assert not is_known(studio)


async def test_an_image_that_waits_for_its_turn_when_its_session_is_cancelled_is_waited_for_by_nobody():
    async with keeping_nothing(hold=True, max_concurrent=1) as studio:
        async for _ in studio.limner.illustrate("m", [STORY]):
            pass
        await settle()
        await studio.limner.cancel("m")
        await studio.limner.forget("m")
        assert not is_known(studio)


async def test_an_image_that_could_not_be_stored_is_not_kept_for_an_attempt_that_nobody_makes():
    class Full(FakeImageStore):
        async def put(self, data: bytes, media_type: str) -> str:
            await anyio.lowlevel.checkpoint()
            raise OSError("the disk is full")

    async with keeping_nothing(images=Full(), max_attempts=1) as studio:
        await studio.illustrate("m", tag("a cat"))
        assert studio.limner.manager.processor._unfinished
        await studio.limner.forget("m")
        assert not studio.limner.manager.processor._unfinished


async def test_what_a_journal_keeps_is_known_again_when_it_is_asked_for():
    async with Studio() as studio:
        result = await studio.illustrate("m", STORY)
        await studio.limner.forget("m")
        assert not is_known(studio)
        assert await studio.limner.finished("m") == result


async def test_who_follows_a_forgotten_message_is_told_of_its_next_session():
    async with keeping_nothing() as studio:
        await studio.illustrate("m", tag("a cat"))
        told: list[ProgressEvent] = []

        async def follow() -> None:
            async for event in studio.limner.events("m", follow=True):
                told.append(event)  # noqa: PERF401 - it has no end

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            await settle()
            await studio.limner.forget("m")
            told.clear()
            again = await studio.illustrate("m", tag("a dog"))
            await settle()
            assert [event.session_id for event in told if isinstance(event, SessionEnded)] == [
                again.session_id
            ]
            tasks.cancel_scope.cancel()


async def test_a_session_is_not_overlooked_whose_beginning_and_end_still_wait_for_the_journal():
    journal = ScriptedJournal()
    async with Studio(journal=journal, hold=True) as studio, anyio.create_task_group() as tasks:
        journal.gate = anyio.Event()
        tasks.start_soon(studio.limner.observe, "m", tag("a cat"))
        await settle()
        tasks.start_soon(studio.limner.cancel, "m")
        await settle()
        assert not is_known(studio)
        tasks.start_soon(studio.limner.forget, "m")
        await settle()
        journal.gate.set()
        await settle()
        await studio.limner.seal("m")
        await settle()
        assert len(journal.records) == 2
        assert not is_known(studio)


async def test_an_end_that_still_waits_for_the_journal_is_waited_for():
    journal = ScriptedJournal()
    slow = Studio(journal=journal, hold=True, image_timeout_ms=1_000_000)
    async with slow as studio, anyio.create_task_group() as tasks:
        async for _ in studio.limner.illustrate("m", [tag("a cat")]):
            pass
        await settle()
        journal.gate = anyio.Event()
        await studio.tick(300_000)
        assert studio.state("m") is None
        tasks.start_soon(studio.limner.forget, "m")
        await settle()
        assert is_known(studio)
        journal.gate.set()
        await settle()
        assert not is_known(studio)


async def test_a_message_that_nobody_knows_is_forgotten_at_once():
    async with Studio() as studio:
        await studio.limner.forget("nobody")
        assert not is_known(studio, "nobody")


async def test_a_limner_that_is_closed_before_that_says_so():
    studio = keeping_nothing(hold=True)
    refused = 0

    async def forget() -> None:
        nonlocal refused
        with pytest.raises(NotRunning):
            await studio.limner.forget("m")
        refused += 1

    async with anyio.create_task_group() as tasks, studio:
        async for _ in studio.limner.illustrate("m", [STORY]):
            pass
        tasks.start_soon(forget)
        await settle()
        assert not refused
    await forget()
    assert refused == 2


async def test_a_click_that_is_refused_while_one_waits_does_not_keep_a_message():
    journal = ScriptedJournal()
    lets_go = anyio.Event()

    async def stubborn(_: GenerationRequest) -> bytes:
        with anyio.CancelScope(shield=True):
            await lets_go.wait()
        return png(7)

    async with Studio(journal=journal) as studio, anyio.create_task_group() as tasks:
        await studio.illustrate("m", tag("a dog"))
        [url] = await studio.urls("m")
        studio.painter.answers["a dog"] = [stubborn]
        await studio.limner.regenerate("m", url)
        await studio.tick(0)
        await studio.limner.cancel("m")
        forgotten: list[str] = []

        async def forget() -> None:
            await studio.limner.forget("m")
            forgotten.append("m")

        async def click() -> None:
            with pytest.raises(StorageError):
                await studio.limner.regenerate("m", url)

        tasks.start_soon(forget)
        await settle()
        journal.gate = anyio.Event()
        tasks.start_soon(click)
        await settle()
        lets_go.set()
        await settle()
        journal.errors = [StorageError("disk full")]
        journal.gate.set()
        await settle()
        assert forgotten == ["m"]
