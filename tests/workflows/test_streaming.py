"""The streaming workflow: text passes through at once, its prompts are painted, the seal decides."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import anyio
import anyio.lowlevel
import pytest
from structlog.testing import capture_logs

from limner.adapters.journal_memory import MemoryJournal
from limner.adapters.limner import Limner
from limner.errors import (
    InvalidSetting,
    MessageBusy,
    MessageGone,
    NotRunning,
    StorageError,
    UnknownMessage,
    VersionConflict,
)
from limner.text import strip_illustrations
from limner.workflows.streaming import JOURNAL_PATIENCE_MS, SAVE_PATIENCE_MS, SAVE_PAUSES_MS
from tests.journeys.seeded import run_seeded, virtual_milliseconds
from tests.studio import FakeInspector, ScriptedStore, Studio, split, tag
from tests.support import FakeImageStore, FakePainter, ScriptedJournal, settle

pytestmark = pytest.mark.anyio

STORY = f"Once {tag('a cat')} met {tag('a dog')} and they lived."


# --- the push source


async def test_the_text_passes_through_piece_by_piece_and_unchanged():
    async with Studio() as studio:
        tokens = split(STORY, 3)
        assert [token async for token in studio.limner.illustrate("m", tokens)] == tokens


async def test_an_asynchronous_source_works_like_a_plain_one():
    async def tokens() -> AsyncIterator[str]:
        for token in split(STORY):
            await anyio.lowlevel.checkpoint()
            yield token

    async with Studio() as studio:
        assert "".join([token async for token in studio.limner.illustrate("m", tokens())]) == STORY
        assert len((await studio.limner.finished("m")).placed) == 2


async def test_all_images_are_written_in_one_write_after_the_text_is_saved():
    async with Studio() as studio:
        result = await studio.illustrate("m", STORY)
        assert result.state == "done"
        assert len(result.placed) == 2
        assert [message_id for message_id, _ in studio.store.written] == ["m", "m"]
        assert studio.store.written[0] == ("m", STORY)
        assert len(studio.store.image_writes("m")) == 1
        assert strip_illustrations(await studio.text("m")) == STORY
        assert await studio.urls("m") == [image.image_url for image in result.placed]


async def test_prompts_are_painted_while_the_text_still_runs():
    async with Studio() as studio:
        tokens = studio.limner.illustrate("m", [tag("a cat"), "more"])
        await anext(tokens)
        await settle()
        assert studio.painter.prompts == ["a cat"]
        assert studio.limner.counts("m").completed == 1
        assert studio.state("m") == "streaming"
        await tokens.aclose()


async def test_neither_a_slow_painter_nor_a_slow_store_delays_a_token():
    async with Studio(hold=True) as studio:
        studio.store.hold_reads()
        tokens = studio.limner.illustrate("m", split(STORY), seal=False)
        # Nobody lets the painter or the store go on, and the whole text comes through.
        assert "".join([token async for token in tokens]) == STORY
        studio.store.release()
        await settle()
        assert sorted(studio.painter.running) == ["a cat", "a dog"]


async def test_a_slow_journal_delays_no_token_and_what_was_found_meanwhile_is_painted():
    journal = ScriptedJournal()
    journal.gate = anyio.Event()
    async with Studio(journal=journal) as studio:
        tokens = studio.limner.illustrate("m", [tag("a cat"), " and ", tag("a dog")])
        assert [await anext(tokens), await anext(tokens)] == [tag("a cat"), " and "]
        await settle()
        assert studio.painter.prompts == []
        assert await studio.limner.text("m") == f"{tag('a cat')} and "
        journal.gate.set()
        assert [token async for token in tokens] == [tag("a dog")]
        assert len((await studio.limner.finished("m")).placed) == 2


async def test_two_equal_prompts_get_two_images_even_if_the_painter_gives_the_same_bytes():
    async with Studio() as studio:
        studio.painter.answers["a cat"] = [b"\x89PNG same"]
        result = await studio.illustrate("m", f"{tag('a cat')} and {tag('a cat')}")
        assert len(studio.painter.requests) == 2
        assert len({request.seed for request in studio.painter.requests}) == 2
        assert len({image.image_url for image in result.placed}) == 2
        assert await studio.urls("m") == [image.image_url for image in result.placed]


async def test_a_text_without_prompts_is_saved_and_not_written_again():
    async with Studio() as studio:
        result = await studio.illustrate("m", "no pictures here")
        assert (result.state, result.placed) == ("done", ())
        assert studio.store.written == [("m", "no pictures here")]


async def test_an_empty_stream_ends_with_nothing_done():
    async with Studio() as studio:
        result = await studio.illustrate("m", "")
        assert (result.state, result.placed) == ("done", ())
        assert studio.store.written == []


async def test_a_piece_that_is_no_text_is_refused_and_what_came_before_is_illustrated():
    async with Studio() as studio:
        with pytest.raises(InvalidSetting, match="a chunk of bytes is no text yet: decode it"):
            async for _ in studio.limner.illustrate("m", [tag("a cat"), b"bytes"]):
                pass
        assert len((await studio.limner.finished("m")).placed) == 1


async def test_with_seal_false_the_host_seals_with_the_text_it_knows():
    async with Studio() as studio:
        async for _ in studio.limner.illustrate("m", [tag("a cat")], seal=False):
            pass
        await settle()
        assert studio.state("m") == "streaming"
        await studio.limner.seal("m", tag("a cat") + " and " + tag("a dog"))
        assert len((await studio.limner.finished("m")).placed) == 2


async def test_the_seal_waits_until_the_session_is_sealed_and_not_for_the_images():
    async with Studio(hold=True) as studio:
        async for _ in studio.limner.illustrate("m", [STORY]):
            pass
        assert studio.state("m") == "draining"


# --- a stream that breaks off


async def test_a_stream_that_raises_is_sealed_with_what_came():
    def tokens() -> Iterator[str]:
        yield tag("a cat")
        yield '<img_prompt="a do'
        raise ConnectionResetError

    async with Studio() as studio:
        with pytest.raises(ConnectionResetError):
            async for _ in studio.limner.illustrate("m", tokens()):
                pass
        result = await studio.limner.finished("m")
        assert (result.state, len(result.placed)) == ("done", 1)
        assert strip_illustrations(await studio.text("m")) == tag("a cat") + '<img_prompt="a do'


async def test_a_reader_who_stops_early_gets_what_came_sealed():
    async with Studio() as studio:
        async with aclosing(studio.limner.illustrate("m", [tag("a cat"), tag("a dog")])) as tokens:
            async for _ in tokens:
                break
        result = await studio.limner.finished("m")
        assert (result.state, len(result.placed)) == ("done", 1)
        assert studio.painter.prompts == ["a cat"]


async def test_a_reader_who_stops_before_the_end_of_a_whole_text_gets_it_illustrated():
    async with Studio() as studio:
        async with aclosing(studio.limner.illustrate("m", STORY)) as tokens:
            async for _ in tokens:
                break
        assert len((await studio.limner.finished("m")).placed) == 2


@pytest.mark.filterwarnings("ignore:Async generator.*was garbage collected:ResourceWarning")
async def test_a_stream_that_is_thrown_away_is_sealed_with_what_came():
    async with Studio() as studio:
        tokens = studio.limner.illustrate("m", [tag("a cat"), tag("a dog")])
        await anext(tokens)
        del tokens
        gc.collect()
        result = await studio.limner.finished("m")
        assert (result.state, len(result.placed)) == ("done", 1)


async def test_a_reader_who_is_cancelled_leaves_a_session_that_comes_to_its_end():
    async def tokens() -> AsyncIterator[str]:
        yield tag("a cat")
        await anyio.sleep_forever()

    async with Studio() as studio:
        async with anyio.create_task_group() as tasks:

            async def read() -> None:
                async for _ in studio.limner.illustrate("m", tokens()):
                    pass

            tasks.start_soon(read)
            await settle()
            assert studio.state("m") == "streaming"
            tasks.cancel_scope.cancel()
        assert len((await studio.limner.finished("m")).placed) == 1


async def test_a_caller_who_is_cancelled_while_the_session_is_opened_leaves_none_open():
    async with Studio() as studio:
        with anyio.CancelScope() as scope:
            scope.cancel()
            async for _ in studio.limner.illustrate("m", [STORY]):
                pass
        await settle()
        assert studio.limner.sessions() == ()


async def test_a_caller_who_is_cancelled_while_the_seal_waits_has_sealed_all_the_same():
    async with Studio() as studio:
        await studio.limner.observe("m", STORY)
        studio.store.hold_reads()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(studio.limner.seal, "m")
            await settle()
            tasks.cancel_scope.cancel()
        studio.store.release()
        assert len((await studio.limner.finished("m")).placed) == 2


# --- snapshots


async def test_snapshots_are_illustrated_as_they_grow():
    async with Studio() as studio:
        for end in range(0, len(STORY) + 1, 5):
            await studio.limner.observe("m", STORY[:end])
        await settle()
        assert sorted(studio.painter.prompts) == ["a cat", "a dog"]
        await studio.limner.seal("m", STORY)
        assert len((await studio.limner.finished("m")).placed) == 2
        assert len(studio.painter.requests) == 2


async def test_a_snapshot_that_rewrites_the_text_keeps_the_prompts_that_are_still_there():
    async with Studio() as studio:
        await studio.limner.observe("m", f"draft {tag('a cat')}")
        await settle()
        await studio.limner.observe("m", f"A better beginning. {tag('a cat')} {tag('a dog')}")
        await studio.limner.seal("m")
        result = await studio.limner.finished("m")
        assert studio.painter.prompts == ["a cat", "a dog"]
        assert len(result.placed) == 2


async def test_a_snapshot_after_the_seal_changes_nothing_of_what_was_sealed():
    async with Studio() as studio:
        stream = await studio.limner.manager.start_streaming_session("m")
        stream.observe(STORY)
        stream.seal_soon()
        stream.observe("something quite different")
        await stream.seal()
        result = await studio.limner.finished("m")
        assert len(result.placed) == 2
        assert strip_illustrations(await studio.text("m")) == STORY


async def test_the_monitor_feeds_what_it_sees_and_seals_at_the_end_of_its_block():
    texts = ["", "Once ", f"Once {tag('a cat')}", STORY]

    async with Studio() as studio:
        async with studio.limner.monitor("m", lambda: texts.pop(0) if len(texts) > 1 else texts[0]):
            await settle()
            await studio.tick(300)
            await studio.tick(300)
            assert studio.painter.prompts == ["a cat"]
        assert len((await studio.limner.finished("m")).placed) == 2


async def test_the_monitor_takes_a_coroutine_function_too():
    async def read_text() -> str:
        await anyio.lowlevel.checkpoint()
        return STORY

    async with Studio() as studio:
        async with studio.limner.monitor("m", read_text):
            pass
        assert len((await studio.limner.finished("m")).placed) == 2


async def test_an_error_in_the_monitors_block_comes_out_as_it_is_and_the_text_so_far_is_sealed():
    async def watch_and_fail(limner: Limner) -> None:
        async with limner.monitor("m", lambda: tag("a cat")):
            await settle()
            raise ZeroDivisionError

    async with Studio() as studio:
        with pytest.raises(ZeroDivisionError):
            await watch_and_fail(studio.limner)
        assert len((await studio.limner.finished("m")).placed) == 1


async def test_a_look_that_fails_is_logged_and_the_next_one_counts():
    looks = 0

    def read_text() -> str:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise OSError("the page is reloading")
        return STORY

    async with Studio() as studio:
        with capture_logs() as logs:
            async with studio.limner.monitor("m", read_text):
                await settle()
                await studio.tick(300)
                assert sorted(studio.painter.prompts) == ["a cat", "a dog"]
        assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["monitor_failed"]


async def test_after_a_cancel_the_monitor_looks_on_for_the_texts_sake_and_paints_nothing_more():
    texts = [tag("a cat")]
    async with Studio() as studio:
        async with studio.limner.monitor("m", lambda: texts[-1]):
            await settle()
            await studio.limner.cancel("m")
            texts.append(STORY)
            await studio.tick(300)
        assert (await studio.limner.finished("m")).state == "cancelled"
        assert studio.painter.prompts == ["a cat"]
        assert await studio.text("m") == STORY


# --- a message that arrives whole


async def test_a_whole_text_is_handed_on_in_one_piece_and_illustrated():
    async with Studio() as studio:
        assert [piece async for piece in studio.limner.illustrate("m", STORY)] == [STORY]
        assert len((await studio.limner.finished("m")).placed) == 2


async def test_in_a_whole_text_a_prompt_that_an_image_follows_already_is_left_alone():
    done = f'{tag("a cat")}<img src="cat.png">'
    async with Studio() as studio:
        async for _ in studio.limner.illustrate("m", f"{done} {tag('a dog')}"):
            pass
        await studio.limner.finished("m")
        assert studio.painter.prompts == ["a dog"]
        assert (await studio.text("m")).startswith(f"{done} {tag('a dog')}<img ")


async def test_a_stored_message_is_illustrated_by_a_seal_without_a_text():
    async with Studio(store=ScriptedStore({"m": STORY})) as studio:
        await studio.limner.seal("m")
        assert len((await studio.limner.finished("m")).placed) == 2
        assert len(studio.store.written) == 1


async def test_illustrating_a_stored_message_again_paints_nothing():
    async with Studio(store=ScriptedStore({"m": STORY})) as studio:
        await studio.limner.seal("m")
        await studio.limner.finished("m")
        text = await studio.text("m")
        await studio.limner.seal("m")
        await studio.limner.finished("m")
        assert len(studio.painter.requests) == 2
        assert await studio.text("m") == text


async def test_sealing_a_message_that_nobody_knows_is_refused():
    async with Studio() as studio:
        with pytest.raises(UnknownMessage, match="'nowhere'"):
            await studio.limner.seal("nowhere")


# --- which text counts


async def test_a_prompt_that_the_final_text_has_lost_is_cancelled_while_it_is_painted():
    async with Studio(hold=True) as studio:
        await studio.limner.observe("m", STORY)
        await settle()
        await studio.limner.seal("m", f"Once {tag('a dog')}")
        await settle()
        assert studio.painter.cancelled == ["a cat"]
        studio.painter.release_all()
        result = await studio.limner.finished("m")
        assert (len(result.placed), len(result.cancelled)) == (1, 1)


async def test_a_finished_image_whose_prompt_is_gone_is_listed_as_unplaced():
    async with Studio() as studio:
        await studio.limner.observe("m", STORY)
        await settle()
        await studio.limner.seal("m", f"Once {tag('a dog')}")
        result = await studio.limner.finished("m")
        assert [image.reason for image in result.unplaced] == ["prompt-gone"]
        assert len(result.placed) == 1


async def test_a_prompt_that_only_the_final_text_has_is_painted():
    async with Studio() as studio:
        await studio.limner.observe("m", "a first draft")
        await studio.limner.seal("m", STORY)
        assert len((await studio.limner.finished("m")).placed) == 2


async def test_what_the_host_rewrote_in_the_store_counts_more_than_what_was_streamed():
    async with Studio() as studio:
        await studio.limner.observe("m", STORY)
        await settle()
        await studio.store.edit("m", f"The host's own words and {tag('an owl')}")
        await studio.limner.seal("m")
        result = await studio.limner.finished("m")
        assert len(result.placed) == 1
        assert {image.reason for image in result.unplaced} == {"prompt-gone"}
        assert (await studio.text("m")).startswith("The host's own words and ")


@pytest.mark.parametrize("placeholder", ["", "…", "an older reply"])
async def test_an_older_text_that_nobody_touched_meanwhile_is_replaced_by_the_new_one(placeholder: str):
    async with Studio(store=ScriptedStore({"m": placeholder})) as studio:
        assert len((await studio.illustrate("m", STORY)).placed) == 2
        assert strip_illustrations(await studio.text("m")) == STORY


async def test_a_host_that_saves_as_it_goes_has_its_beginning_completed():
    async with Studio() as studio:
        await studio.limner.observe("m", STORY)
        await settle()
        await studio.store.edit("m", STORY[:20])
        await studio.limner.seal("m")
        await studio.limner.finished("m")
        assert strip_illustrations(await studio.text("m")) == STORY


async def test_an_edit_between_reading_and_saving_makes_the_seal_decide_anew():
    async with Studio() as studio:
        await studio.limner.observe("m", STORY)
        await settle()

        async def edit_once(reads: int) -> None:
            studio.store.after_read = None
            await studio.store.edit("m", f"Mine. {tag('an owl')}")

        studio.store.after_read = edit_once
        await studio.limner.seal("m")
        await studio.limner.finished("m")
        assert strip_illustrations(await studio.text("m")) == f"Mine. {tag('an owl')}"


async def test_a_store_that_always_reports_a_conflict_ends_the_seal_with_an_error_and_not_never():
    class Contrary(ScriptedStore):
        async def write(self, message_id: str, text: str, *, expected: str | None) -> str:
            self.attempts += 1
            raise VersionConflict("changed again")

    store = Contrary()
    async with Studio(store=store) as studio:
        with pytest.raises(VersionConflict):
            await studio.illustrate("m", STORY)
        assert store.attempts < 100


# --- a store that fails at the seal


async def test_a_store_that_fails_at_the_seal_is_told_and_the_text_is_saved_once_it_works():
    async with Studio() as studio:
        await studio.limner.observe("m", STORY)
        await settle()
        studio.store.read_errors = [StorageError("the disk is full")] * (len(SAVE_PAUSES_MS) + 2)
        with capture_logs() as logs, pytest.raises(StorageError, match="the disk is full"):
            await studio.limner.seal("m")
        assert studio.store.written == []
        for pause in (*SAVE_PAUSES_MS, SAVE_PAUSES_MS[-1]):
            await studio.tick(pause - 1)
            assert studio.store.written == []
            await studio.tick(1)
        assert studio.store.written == []
        await studio.tick(SAVE_PAUSES_MS[-1])
        assert studio.store.written[0] == ("m", STORY)
        assert len((await studio.limner.finished("m")).placed) == 2
        assert "store_failed" in [entry["event"] for entry in logs]


async def test_a_text_that_no_store_takes_for_five_minutes_loses_no_image():
    async with Studio() as studio:
        await studio.limner.observe("m", STORY)
        await settle()
        studio.store.write_errors = [StorageError("the disk is full")] * 100
        with pytest.raises(StorageError, match="the disk is full"):
            await studio.limner.seal("m")
        for _ in range(SAVE_PATIENCE_MS // SAVE_PAUSES_MS[-1] + 1):
            await studio.tick(SAVE_PAUSES_MS[-1])
        result = await studio.limner.finished("m")
        # There is nothing to write into.
        assert [image.reason for image in result.unplaced] == ["message-gone", "message-gone"]


async def test_a_session_that_is_cancelled_while_its_text_cannot_be_saved_still_has_it_saved():
    async with Studio() as studio:
        await studio.limner.observe("m", STORY)
        await settle()
        studio.store.write_errors = [StorageError("the disk is full")]
        with pytest.raises(StorageError, match="the disk is full"):
            await studio.limner.seal("m")
        assert (await studio.limner.cancel("m")).state == "cancelled"
        await studio.tick(SAVE_PAUSES_MS[0])
        assert studio.store.written == [("m", STORY)]


async def test_a_text_that_could_not_be_saved_does_not_overwrite_that_of_a_newer_stream():
    async with Studio() as studio:
        await studio.limner.observe("m", "the old text")
        await settle()
        studio.store.write_errors = [StorageError("the disk is full")]
        with pytest.raises(StorageError, match="the disk is full"):
            await studio.limner.seal("m")
        async for _ in studio.limner.illustrate("m", "the new text"):
            pass
        await studio.tick(SAVE_PAUSES_MS[0])
        assert studio.store.written == [("m", "the new text")]


async def test_a_host_store_that_raises_anything_at_all_counts_as_storage():
    async with Studio() as studio:
        await studio.limner.observe("m", STORY)
        await settle()
        studio.store.read_errors = [KeyError("bug")]
        with pytest.raises(StorageError, match="KeyError"):
            await studio.limner.seal("m")
        await studio.tick(SAVE_PAUSES_MS[0])
        await studio.limner.finished("m")


async def test_a_store_that_fails_when_the_stream_begins_is_asked_again_at_the_seal():
    store = ScriptedStore()
    store.read_errors = [StorageError("busy")]
    async with Studio(store=store) as studio:
        assert len((await studio.illustrate("m", STORY)).placed) == 2


async def test_a_message_that_is_deleted_between_reading_and_saving_makes_the_seal_decide_anew():
    store = ScriptedStore({"m": "…"})
    store.write_errors = [MessageGone("deleted")]
    async with Studio(store=store) as studio:
        assert len((await studio.illustrate("m", STORY)).placed) == 2


# --- one session after another


async def test_a_new_stream_cancels_the_session_before_it():
    async with Studio(hold=True) as studio:
        async for _ in studio.limner.illustrate("m", [tag("a cat")]):
            pass
        await settle()
        first = studio.limner.manager.get_session("m")
        assert first is not None
        studio.painter.release("a dog")
        result = await studio.illustrate("m", tag("a dog"))
        assert result.session_id != first.id
        assert studio.painter.cancelled == ["a cat"]
        assert len(result.placed) == 1
        assert strip_illustrations(await studio.text("m")) == tag("a dog")


async def test_who_waits_for_a_superseded_session_is_told_that_it_was_cancelled():
    async with Studio(hold=True) as studio:
        await studio.limner.observe("m", tag("a cat"))
        results = []
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                results.append(await studio.limner.finished("m"))

            tasks.start_soon(wait)
            await settle()
            for _ in range(10):
                await studio.limner.manager.start_streaming_session("m")
        [result] = results
        assert result.state == "cancelled"
        assert result.problem is not None
        assert "superseded" in result.problem.message


async def test_the_old_streams_text_still_passes_through_and_paints_nothing_more():
    async with Studio() as studio:
        old = studio.limner.illustrate("m", [tag("a cat"), tag("a dog"), "end"])
        await anext(old)
        await settle()
        await studio.limner.manager.start_streaming_session("m")
        assert [token async for token in old] == [tag("a dog"), "end"]
        await settle()
        assert studio.painter.prompts == ["a cat"]
        assert studio.state("m") == "streaming"


async def test_a_new_stream_passes_its_text_at_once_and_is_illustrated_after_the_write_before_it():
    async with Studio(store=ScriptedStore({"m": tag("a cat")})) as studio:
        studio.store.hold_writes()
        await studio.limner.seal("m")
        await settle()
        assert studio.state("m") == "inserting"
        with capture_logs() as logs:
            tokens = studio.limner.illustrate("m", ["next ", tag("a dog")])
            assert [token async for token in first(tokens, 2)] == ["next ", tag("a dog")]
            await settle()
        assert "stream_waits_for_write" in [entry["event"] for entry in logs]
        assert studio.state("m") == "inserting"
        assert studio.painter.prompts == ["a cat"]
        studio.store.release()
        await settle()
        assert studio.state("m") == "streaming"
        assert studio.painter.prompts == ["a cat", "a dog"]
        assert len(studio.store.image_writes("m")) == 1
        await tokens.aclose()


async def test_a_new_text_that_is_final_before_the_write_before_it_has_ended_is_saved_and_illustrated():
    async with Studio(store=ScriptedStore({"m": tag("a cat")})) as studio:
        studio.store.hold_writes()
        await studio.limner.seal("m")
        await settle()
        assert studio.state("m") == "inserting"
        stream = await studio.limner.manager.start_streaming_session("m")
        stream.feed(f"next {tag('a dog')}")
        stream.seal_soon()
        await settle()
        studio.store.release()
        await settle()
        result = await studio.limner.finished("m")
        assert [result.prompts[image.prompt_id] for image in result.placed] == ["a dog"]
        assert strip_illustrations(await studio.text("m")) == f"next {tag('a dog')}"


async def first(tokens: AsyncIterator[str], count: int) -> AsyncIterator[str]:
    for _ in range(count):
        yield await anext(tokens)


@pytest.mark.parametrize("call", ["observe", "seal"])
async def test_a_snapshot_or_seal_that_comes_late_is_refused_and_costs_nothing(call: str):
    async with Studio(store=ScriptedStore({"m": tag("a cat")}), hold=True) as studio:
        await studio.limner.seal("m")
        await settle()
        session = studio.limner.sessions()
        with pytest.raises(MessageBusy):
            await getattr(studio.limner, call)("m", tag("a cat"))
        assert studio.limner.sessions() == session
        studio.painter.release_all()
        await settle()
        assert studio.painter.prompts == ["a cat"]
        assert len(await studio.urls("m")) == 1


async def test_a_message_that_was_deleted_while_it_streamed_is_not_brought_back():
    async with Studio(store=ScriptedStore({"m": "old"})) as studio:
        await studio.limner.observe("m", tag("a cat"))
        await settle()
        await studio.store.delete("m")
        await studio.limner.seal("m")
        result = await studio.limner.finished("m")
        assert await studio.store.read("m") is None
        assert [image.reason for image in result.unplaced] == ["message-gone"]


async def test_a_store_that_hangs_does_not_keep_the_painters_from_the_text():
    async with Studio() as studio:
        studio.store.hold_reads()
        await studio.limner.observe("m", tag("a cat"))
        await settle()
        assert studio.painter.prompts == ["a cat"]
        studio.store.release()


async def test_a_stream_that_brings_nothing_for_ten_minutes_is_sealed_with_what_it_brought():
    async with Studio() as studio:
        await studio.limner.observe("m", "a " + tag("a cat"))
        await studio.tick(599_999)
        assert studio.state("m") == "streaming"
        await studio.limner.observe("m", "a " + tag("a cat") + " b")
        await studio.tick(1)
        assert studio.state("m") == "streaming"
        await studio.tick(600_000)
        assert studio.state("m") is None
        assert len(await studio.urls("m")) == 1


async def test_what_has_its_picture_already_is_left_alone_when_a_host_goes_on_with_a_message():
    async with Studio() as studio:
        await studio.illustrate("m", tag("a cat"))
        before = await studio.text("m")
        await studio.limner.observe("m", before)
        await studio.limner.observe("m", before + " and " + tag("a dog"))
        await studio.limner.seal("m")
        await studio.limner.finished("m")
        assert studio.painter.prompts == ["a cat", "a dog"]
        assert len(await studio.urls("m")) == 2


async def test_after_a_cancel_the_text_is_saved_and_late_snapshots_paint_nothing():
    async with Studio(hold=True) as studio:
        await studio.limner.observe("m", tag("a cat"))
        await settle()
        await studio.limner.cancel("m")
        await studio.limner.observe("m", tag("a cat") + tag("a dog"))
        await studio.limner.seal("m")
        await settle()
        assert studio.limner.sessions() == ()
        assert studio.painter.prompts == ["a cat"]
        assert await studio.text("m") == tag("a cat") + tag("a dog")


async def test_a_model_that_repeats_itself_is_illustrated_only_so_often():
    async with Studio() as studio:
        with capture_logs() as logs:
            await studio.illustrate("m", "".join(tag(f"cat {number}") for number in range(1_003)))
        assert len(studio.painter.prompts) == 1_000
        assert "too_many_prompts" in [entry["event"] for entry in logs]


async def test_of_several_streams_that_begin_at_once_the_last_one_lives_and_the_others_are_cancelled():
    async with Studio() as studio:
        async with anyio.create_task_group() as tasks:
            streams = []

            async def begin() -> None:
                streams.append(await studio.limner.manager.start_streaming_session("m"))

            for _ in range(3):
                tasks.start_soon(begin)
        await settle()
        [session] = studio.limner.sessions()
        live = studio.limner.manager.stream("m")
        assert live is not None
        assert live.session_id == session.id
        assert [stream.closed for stream in streams if stream is not live] == [True, True]


# --- running or not


async def test_outside_of_its_block_nothing_begins():
    limner = Limner(
        FakePainter(),
        store=ScriptedStore(),
        images=FakeImageStore(),
        inspector=FakeInspector(),
        journal=MemoryJournal(),
    )
    with pytest.raises(NotRunning):
        await limner.observe("m", STORY)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_journal_that_cannot_be_written_keeps_no_reader_waiting_and_the_seal_is_not_lost(backend: str):
    async def scenario(seed: int) -> None:
        journal, store = ScriptedJournal(), ScriptedStore()
        async with Limner(
            FakePainter(),
            store=store,
            images=FakeImageStore(),
            inspector=FakeInspector(),
            journal=journal,
            clock=virtual_milliseconds,
        ) as limner:
            start = virtual_milliseconds()
            pieces = limner.illustrate("m", ["a cat: ", tag("a cat")])
            await anext(pieces)
            await anext(pieces)
            await settle()
            journal.refuses = lambda record: True
            with pytest.raises(StorageError, match="wait for the journal to be writable"):
                await anext(pieces)
            assert virtual_milliseconds() - start == JOURNAL_PATIENCE_MS
            stored = await store.read("m")
            assert stored is not None
            assert stored.text == f"a cat: {tag('a cat')}"
            journal.refuses = lambda record: False
            result = await limner.finished("m")
            assert len(result.placed) == 1

    run_seeded(backend, 1, scenario)
