"""Streams whose session is not committed yet: what comes meanwhile is meant for them, and nobody waits."""

from __future__ import annotations

from contextlib import aclosing

import anyio
import pytest
from structlog.testing import capture_logs

from limner.errors import StorageError
from limner.text import strip_illustrations
from tests.studio import ScriptedStore, Studio, tag
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


@pytest.mark.parametrize("stored", [{}, {"m": "an older text"}])
@pytest.mark.parametrize("final", [None, f"{tag('a cat')} at last"])
async def test_with_seal_false_the_seal_opens_what_could_not_be_opened_before(
    stored: dict[str, str], final: str | None
):
    journal = ScriptedJournal(refuses=lambda record: True)
    async with Studio(journal=journal, store=ScriptedStore(stored)) as studio:
        async for _ in studio.limner.illustrate("m", [tag("a cat")], seal=False):
            await settle()
        journal.refuses = lambda record: False
        await studio.limner.seal("m", final)
        assert len((await studio.limner.finished("m")).placed) == 1
        assert strip_illustrations(await studio.text("m")) == (final or tag("a cat"))


async def test_a_seal_that_is_refused_again_has_saved_the_text_all_the_same():
    journal = ScriptedJournal(refuses=lambda record: True)
    async with Studio(journal=journal) as studio:
        async for _ in studio.limner.illustrate("m", ["the text"], seal=False):
            await settle()
        with pytest.raises(StorageError, match="disk full"):
            await studio.limner.seal("m")
        assert await studio.text("m") == "the text"


async def test_what_is_sealed_while_a_newer_stream_opens_is_the_newer_one():
    journal = ScriptedJournal()
    async with Studio(journal=journal) as studio, anyio.create_task_group() as tasks:
        old = studio.limner.illustrate("m", ["old ", "and never read on"])
        await anext(old)
        await settle()
        journal.gate = anyio.Event()
        async for _ in studio.limner.illustrate("m", ["new ", tag("a cat")], seal=False):
            pass
        assert await studio.limner.text("m") == f"new {tag('a cat')}"
        tasks.start_soon(studio.limner.seal, "m")
        await settle()
        assert await studio.limner.text("m") == f"new {tag('a cat')}"
        journal.gate.set()
        await settle()
        assert len((await studio.limner.finished("m")).placed) == 1
        assert strip_illustrations(await studio.text("m")) == f"new {tag('a cat')}"
        await old.aclose()


async def test_a_stream_that_was_overtaken_and_then_refused_leaves_the_newer_text_alone():
    journal = ScriptedJournal()
    journal.gate = anyio.Event()
    async with Studio(journal=journal) as studio:
        first = studio.limner.illustrate("m", ["old ", "text"])
        await anext(first)
        await settle()
        second = studio.limner.illustrate("m", ["new ", tag("a cat")])
        await anext(second)
        await settle()
        journal.errors = [StorageError("disk full")]
        journal.gate.set()
        await settle()
        with pytest.raises(StorageError, match="disk full"):
            _ = [piece async for piece in first]
        async for _ in second:
            pass
        assert len((await studio.limner.finished("m")).placed) == 1
        assert strip_illustrations(await studio.text("m")) == f"new {tag('a cat')}"


async def test_what_an_overtaken_stream_has_saved_is_no_word_of_the_hosts():
    journal = ScriptedJournal()
    journal.gate = anyio.Event()
    async with Studio(journal=journal) as studio:
        async with aclosing(studio.limner.illustrate("m", ["old ", "text"])) as first:
            await anext(first)
        await settle()
        second = studio.limner.illustrate("m", ["new ", tag("a cat")])
        await anext(second)
        await settle()
        journal.gate.set()
        await settle()
        async for _ in second:
            pass
        assert len((await studio.limner.finished("m")).placed) == 1
        assert strip_illustrations(await studio.text("m")) == f"new {tag('a cat')}"


async def test_of_two_refused_streams_the_newer_text_is_saved():
    async with Studio(journal=ScriptedJournal(refuses=lambda record: True)) as studio:
        for text in ("old", "new"):
            with pytest.raises(StorageError, match="disk full"):
                _ = [piece async for piece in studio.limner.illustrate("m", [text, " text"])]
        assert await studio.text("m") == "new text"


async def test_a_refused_stream_whose_message_another_one_keeps_says_that_its_text_is_not_saved():
    journal = ScriptedJournal()
    async with Studio(journal=journal) as studio:
        first = studio.limner.illustrate("m", [tag("a dog"), " the end"])
        await anext(first)
        await settle()
        journal.refuses = lambda record: True
        second = studio.limner.illustrate("m", ["something ", "else"])
        await anext(second)
        await settle()
        journal.refuses = lambda record: False
        async for _ in first:
            pass
        assert len((await studio.limner.finished("m")).placed) == 1
        with pytest.raises(StorageError, match="was not illustrated, and has another text by now"):
            _ = [piece async for piece in second]
        assert strip_illustrations(await studio.text("m")) == f"{tag('a dog')} the end"


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
        tasks.start_soon(studio.limner.observe, "m", tag("a cat"))
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
