"""Streams whose session is not committed yet: what comes meanwhile is meant for them, and nobody waits."""

from __future__ import annotations

from contextlib import aclosing

import anyio
import pytest
from structlog.testing import capture_logs

from limner.errors import StorageError
from tests.studio import Studio, tag
from tests.support import ScriptedJournal, settle

pytestmark = pytest.mark.anyio


async def test_a_text_whose_session_cannot_be_written_down_passes_and_is_saved_before_that_is_raised():
    journal = ScriptedJournal(refuses=lambda record: True)
    async with Studio(journal=journal) as studio:
        tokens = studio.limner.illustrate("m", [tag("a cat"), " and ", tag("a dog")])
        passed = [await anext(tokens)]
        await settle()
        with capture_logs() as logs, pytest.raises(StorageError, match="disk full"):
            passed += [token async for token in tokens]
        assert len(passed) == 1  # what a comprehension had gathered is gone with it
        assert await studio.text("m") == f"{tag('a cat')} and {tag('a dog')}"
        assert (studio.painter.requests, studio.limner.sessions()) == ([], ())
        assert logs == []  # it was said when it happened
        journal.refuses = lambda record: False
        await studio.limner.seal("m")
        assert len((await studio.limner.finished("m")).placed) == 2


async def test_a_stream_that_could_not_be_opened_leaves_the_one_before_it_alone():
    journal = ScriptedJournal()
    async with Studio(journal=journal) as studio:
        first = studio.limner.illustrate("m", [tag("a cat"), "the end"])
        await anext(first)
        await settle()
        journal.refuses = lambda record: True
        second = studio.limner.illustrate("m", ["something else"])
        await anext(second)
        await settle()
        journal.refuses = lambda record: False
        assert await studio.limner.text("m") == tag("a cat")
        assert [token async for token in first] == ["the end"]
        assert len((await studio.limner.finished("m")).placed) == 1
        await second.aclose()


async def test_with_seal_false_the_seal_opens_what_could_not_be_opened_before():
    journal = ScriptedJournal(refuses=lambda record: True)
    async with Studio(journal=journal) as studio:
        async for _ in studio.limner.illustrate("m", [tag("a cat")], seal=False):
            await settle()
        journal.refuses = lambda record: False
        await studio.limner.seal("m", tag("a cat"))
        assert len((await studio.limner.finished("m")).placed) == 1


async def test_a_cancel_that_comes_before_the_session_is_written_down_is_meant_for_it():
    journal = ScriptedJournal()
    journal.gate = anyio.Event()
    async with Studio(journal=journal) as studio, anyio.create_task_group() as tasks:
        tokens = studio.limner.illustrate("m", [tag("a cat"), "more"])
        await anext(tokens)
        tasks.start_soon(studio.limner.cancel, "m")
        await settle()
        journal.gate.set()
        assert [token async for token in tokens] == ["more"]
        assert (await studio.limner.finished("m")).state == "cancelled"
        assert studio.painter.requests == []
        assert await studio.text("m") == f"{tag('a cat')}more"


async def test_a_seal_that_comes_before_the_session_is_written_down_is_meant_for_it():
    journal = ScriptedJournal()
    journal.gate = anyio.Event()
    async with Studio(journal=journal) as studio, anyio.create_task_group() as tasks:
        async for _ in studio.limner.illustrate("m", [tag("a cat")], seal=False):
            pass
        tasks.start_soon(studio.limner.seal, "m")
        await settle()
        journal.gate.set()
        await settle()
        assert len((await studio.limner.finished("m")).placed) == 1
        assert len(await studio.limner.manager.engine.past_sessions("m")) == 1


async def test_whoever_gives_up_waiting_for_the_session_of_another_does_not_end_its_text():
    journal = ScriptedJournal()
    journal.gate = anyio.Event()
    async with Studio(journal=journal) as studio, anyio.create_task_group() as tasks:
        tokens = studio.limner.illustrate("m", [tag("a cat"), " and more"])
        await anext(tokens)
        tasks.start_soon(studio.limner.seal, "m")
        await settle()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await settle()
            journal.gate.set()
            assert [token async for token in tokens] == [" and more"]
            assert (await studio.limner.finished("m")).state == "done"
            assert (await studio.text("m")).endswith(" and more")


@pytest.mark.parametrize("refuses", [False, True], ids=["opened late", "not opened"])
async def test_a_reader_who_goes_before_the_session_is_written_down_leaves_the_text_so_far(refuses: bool):
    journal = ScriptedJournal(refuses=lambda record: refuses)
    journal.gate = anyio.Event()
    async with Studio(journal=journal) as studio:
        async with aclosing(studio.limner.illustrate("m", ["One ", "two"])) as tokens:
            await anext(tokens)
        journal.gate.set()
        await settle()
        assert await studio.text("m") == "One "
        assert studio.limner.sessions() == ()


async def test_a_snapshot_is_refused_at_once_where_its_session_cannot_be_written_down():
    async with Studio(journal=ScriptedJournal(refuses=lambda record: True)) as studio:
        with pytest.raises(StorageError, match="disk full"):
            await studio.limner.observe("m", "One")
        await settle()
        assert studio.store.written == []
