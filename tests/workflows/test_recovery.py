"""The next process: it takes up what was left, says what it found, and lets nothing happen twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from structlog.testing import capture_logs

from limner.adapters.journal_memory import MemoryJournal
from limner.adapters.limner import Limner
from limner.errors import (
    CancelTooLate,
    JobLost,
    MessageBusy,
    StorageError,
    Unavailable,
    UnknownImage,
    UnknownMessage,
)
from limner.states import Prompt, Session, StreamEnded
from limner.text import find_images, strip_illustrations
from limner.workflows.insertion import STORE_RETRIES_MS
from limner.workflows.ports import (
    Capabilities,
    GenerationRequest,
    JournalRecord,
    ProgressCallback,
    StoredMessage,
)
from limner.workflows.progress_events import PromptProgress, SessionEnded, SessionProgress
from limner.workflows.recovery import READING_MS, READS_AT_ONCE, RecoveryReport
from tests.journeys.seeded import run_seeded, virtual_milliseconds
from tests.studio import FakeInspector, ScriptedStore, Studio, tag
from tests.support import FakeImageStore, FakePainter, ScriptedJournal, png, settle

pytestmark = pytest.mark.anyio

STORY = f"Once {tag('a cat')} met {tag('a dog')} and they lived."


class House:
    """What outlives a process: the journal, the messages, the images, and the painter's server.

    `process` runs one; what it leaves when the block ends is what a killed process would have left, since it
    gets no chance to finish anything.
    """

    def __init__(self, messages: dict[str, str] | None = None, **settings: Any) -> None:
        self.journal = MemoryJournal()
        self.store = ScriptedStore(messages)
        self.images = FakeImageStore()
        self.settings = settings
        self.now = 1_700_000_000_000

    @asynccontextmanager
    async def process(self, painter: Any = None, down_ms: int = 0, **settings: Any) -> AsyncIterator[Studio]:
        """A process; before it none ran for `down_ms`."""
        shared = {"journal": self.journal, "images": self.images, **self.settings, **settings}
        studio = Studio(store=self.store, painter=painter, **shared)
        studio.clock.now = self.now + down_ms
        try:
            async with studio:
                yield studio
                raise Killed
        except Killed:
            pass
        self.now = studio.clock.now

    def left(self) -> list[Session]:
        """The sessions that are live in the journal."""
        return list(self.journal._live.values())


class Killed(Exception):
    """Leaves a process's block without a goodbye."""


async def stream(studio: Studio, text: str = STORY, message_id: str = "m") -> None:
    async for _ in studio.limner.illustrate(message_id, [text]):
        pass


# --- what is found


async def test_where_nothing_was_left_there_is_nothing_to_report():
    house = House()
    async with house.process() as studio:
        assert studio.limner.recovered == RecoveryReport()


async def test_images_that_were_not_finished_are_made_and_the_message_is_written_once():
    house = House()
    async with house.process() as first:
        first.painter.hold()
        await stream(first)
        first.painter.release("a cat")
        await settle()
        assert first.painter.prompts == ["a cat", "a dog"]
    [left] = house.left()
    async with house.process() as second:
        assert second.limner.recovered.resumed == (left.id,)
        result = await second.limner.finished("m")
        assert second.painter.prompts == ["a dog"]
        assert result.session_id == left.id
        assert [image.image_url for image in result.placed] == await second.urls("m")
        assert strip_illustrations(await second.text("m")) == STORY
    assert len(house.store.image_writes("m")) == 1


async def test_what_was_found_is_logged_too():
    house = House({"n": tag("an owl")})
    async with house.process() as first:
        first.painter.hold()
        await stream(first)
    with capture_logs() as logs:
        async with house.process():
            pass
    [entry] = [entry for entry in logs if entry["event"] == "recovered"]
    assert {name: entry[name] for name in ("resumed", "sealed", "cancelled", "unread", "finished")} == {
        "resumed": 1,
        "sealed": 0,
        "cancelled": 0,
        "unread": 0,
        "finished": 0,
    }


async def test_sessions_that_had_ended_are_counted_and_their_results_still_known():
    house = House()
    async with house.process() as first:
        result = await first.illustrate("m", STORY)
    async with house.process() as second:
        assert second.limner.recovered == RecoveryReport(finished=1)
        assert await second.limner.finished("m") == result
        with pytest.raises(CancelTooLate):
            await second.limner.cancel("m")
        with pytest.raises(UnknownMessage):
            await second.limner.finished("nobody")
        with pytest.raises(UnknownMessage):
            await second.limner.cancel("nobody")


async def test_the_progress_of_a_session_that_ended_before_can_be_read():
    house = House()
    async with house.process() as first:
        result = await first.illustrate("m", STORY)
    async with house.process() as second:
        events = [event async for event in second.limner.events("m")]
        assert isinstance(events[-1], SessionEnded)
        assert events[-1].result == result
        pictures = [event.image_url for event in events if isinstance(event, PromptProgress)]
        assert pictures == [image.image_url for image in result.placed]


async def test_the_progress_of_a_resumed_session_can_be_followed():
    house = House()
    async with house.process() as first:
        first.painter.hold()
        await stream(first)
        first.painter.release("a cat")
        await settle()
    async with house.process() as second:
        second.painter.hold()
        first_events = []
        async for event in second.limner.events("m"):
            first_events.append(event)
            if len(first_events) == 3:
                break
        assert isinstance(first_events[0], SessionProgress)
        assert first_events[0].counts.completed == 1
        assert first_events[0].counts.outstanding == 1


# --- a stream dies with its process


async def begin(studio: Studio, *pieces: str, message_id: str = "m") -> Session:
    """Stream these pieces and let what they lead to happen; the text does not end."""
    stream = await studio.limner.manager.start_streaming_session(message_id)
    for piece in pieces:
        stream.feed(piece)
    await settle()
    session = studio.limner.manager.get_session(message_id)
    assert session is not None
    return session


async def test_a_stream_that_died_is_sealed_with_the_text_that_the_store_holds():
    house = House({"m": f"As saved: {tag('a cat')} and {tag('an owl')}"})
    async with house.process() as first:
        left = await begin(first, tag("a cat"), tag("a dog"), "…")
    async with house.process() as second:
        assert second.limner.recovered == RecoveryReport(sealed=(left.id,))
        result = await second.limner.finished("m")
        assert [result.prompts[image.prompt_id] for image in result.placed] == ["a cat", "an owl"]
        assert [(result.prompts[i.prompt_id], i.reason) for i in result.unplaced] == [
            ("a dog", "prompt-gone")
        ]
        assert second.painter.prompts == ["an owl"]
        assert strip_illustrations(await second.text("m")) == f"As saved: {tag('a cat')} and {tag('an owl')}"


async def test_what_had_its_image_before_the_stream_is_left_alone():
    house = House({"m": f'{tag("a cat")}<img src="cat.png"> {tag("a dog")}'})
    async with house.process(hold=True) as first:
        left = await begin(first)
    async with house.process() as second:
        assert second.limner.recovered.sealed == (left.id,)
        assert [p.text for p in await prompts_of(second)] == ["a dog"]


async def prompts_of(studio: Studio) -> list[Prompt]:
    await studio.limner.finished("m")
    session = studio.limner.manager.progress.session("m")
    assert session is not None
    return list(session.prompts.values())


async def test_a_stream_whose_message_was_never_saved_is_cancelled_and_its_images_stay_listed():
    house = House()
    async with house.process() as first:
        left = await begin(first, tag("a cat"))
    async with house.process() as second:
        assert second.limner.recovered == RecoveryReport(cancelled=(left.id,))
        result = await second.limner.finished("m")
        assert result.state == "cancelled"
        assert result.problem is not None
        assert "no such message" in result.problem.message
        assert [image.reason for image in result.unplaced] == ["session-cancelled"]
        assert second.painter.requests == []


async def test_nothing_is_painted_for_a_dead_stream_before_its_fate_is_known():
    house = House()
    async with house.process(hold=True) as first:
        left = await begin(first, tag("a cat"))
    async with house.process() as second:
        await settle()
        assert second.limner.recovered.cancelled == (left.id,)
        assert second.limner.recovered.messages == {left.id: "m"}
        assert second.painter.requests == []


async def test_a_message_may_be_streamed_again_after_its_stream_died():
    house = House()
    async with house.process() as first:
        await begin(first, tag("a cat"))
    async with house.process() as second:
        result = await second.illustrate("m", STORY)
        assert len(result.placed) == 2


async def test_a_store_that_does_not_answer_at_the_start_delays_only_the_seal():
    house = House({"m": tag("a cat"), "n": tag("a dog")})
    async with house.process(hold=True) as first:
        left = await begin(first, tag("a cat"))
        await stream(first, tag("a dog"), "n")
    house.store.read_errors = [StorageError("down"), OSError("down")]
    async with house.process() as second:
        assert second.limner.recovered.unread == (left.id,)
        assert len(second.limner.recovered.resumed) == 1
        assert (await second.limner.finished("n")).state == "done"
        with pytest.raises(MessageBusy):
            await second.limner.observe("m", "late")
        house.store.read_errors = [StorageError("down")]
        await second.tick(STORE_RETRIES_MS[0])
        assert second.state("m") == "streaming"
        await second.tick(STORE_RETRIES_MS[1])
        result = await second.limner.finished("m")
        assert len(result.placed) == 1
        assert strip_illustrations(await second.text("m")) == tag("a cat")


async def test_a_store_that_stays_down_does_not_keep_a_session_for_ever():
    house = House({"m": tag("a cat")})
    async with house.process(hold=True) as first:
        await begin(first, tag("a cat"))
    house.store.read_errors = [StorageError("down")] * 20
    async with house.process() as second:
        for pause in STORE_RETRIES_MS:
            assert second.state("m") == "streaming"
            await second.tick(pause)
        for pause in STORE_RETRIES_MS:
            assert second.state("m") == "inserting"
            await second.tick(pause)
        result = await second.limner.finished("m")
        assert result.state == "failed"
        assert [image.reason for image in result.unplaced] == ["write-failed"]


async def test_a_new_stream_overtakes_a_recovery_that_still_waits_for_the_store():
    house = House({"m": tag("a cat")})
    async with house.process(hold=True) as first:
        await begin(first, tag("a cat"))
    house.store.read_errors = [StorageError("down")]
    async with house.process() as second:
        result = await second.illustrate("m", STORY)
        assert len(result.placed) == 2
        with capture_logs() as logs:
            await second.tick(STORE_RETRIES_MS[0])
        assert [entry["event"] for entry in logs] == ["recovery_overtaken"]
        assert len(house.store.image_writes("m")) == 1


# --- clicks


async def illustrated(house: House) -> list[str]:
    """Stream the story in a process of its own; gives the addresses of its two images."""
    async with house.process() as first:
        await first.illustrate("m", STORY)
        urls = await first.urls("m")
    house.store.written.clear()
    return urls


async def test_clicks_whose_quiet_time_had_not_passed_are_still_one_batch_and_one_write():
    house = House()
    cat, dog = await illustrated(house)
    async with house.process(hold=True) as first:
        await first.limner.regenerate("m", cat)
        await first.tick(1_500)
    async with house.process(down_ms=100, hold=True) as second:
        await second.limner.regenerate("m", dog)
        await second.tick(1_999)
        assert second.state("m") == "debouncing"
        await second.tick(1)
        second.painter.release_all()
        result = await second.limner.finished("m")
        assert [image.replaced_url for image in result.placed] == [cat, dog]
    assert len(house.store.image_writes("m")) == 1


async def test_a_click_on_an_image_that_an_earlier_process_replaced_is_meant_for_its_successor():
    house = House()
    cat, _ = await illustrated(house)
    async with house.process() as first:
        await first.limner.regenerate("m", cat)
        await first.tick(2_000)
        [new_cat] = (await first.limner.finished("m")).placed
    async with house.process() as second:
        await second.limner.regenerate("m", cat)
        await second.tick(2_000)
        [newest] = (await second.limner.finished("m")).placed
        assert newest.replaced_url == new_cat.image_url
        with pytest.raises(UnknownImage):
            await second.limner.regenerate("m", "https://images.test/stranger.png")


async def test_equal_pictures_get_addresses_of_their_own_after_a_restart_too():
    house = House()
    async with house.process() as first:
        first.painter.answers = {"a cat": [png(1)], "a dog": [png(2)]}
        await first.illustrate("m", STORY)
        cat, dog = await first.urls("m")
    async with house.process(hold=True) as second:
        await second.limner.regenerate("m", dog)
        await second.tick(2_000)
    async with house.process() as third:
        # Now the server paints the cat's very picture for the dog: the store would give it the cat's address.
        third.painter.answers = {"a dog": [png(1)]}
        result = await third.limner.finished("m")
    async with house.process() as fourth:
        assert [image.image_url for image in result.placed] == [f"{cat}#2"]
        assert await fourth.urls("m") == [cat, f"{cat}#2"]


# --- the write


async def test_a_process_that_ended_before_its_write_leaves_it_to_the_next():
    house = House()
    async with house.process() as first:
        house.store.hold_writes()
        stream = await first.limner.manager.start_streaming_session("m")
        stream.seal_soon(STORY)
        await settle()
        house.store.release()
        await settle()
        assert first.state("m") is None
    async with house.process(hold=True) as again:
        await again.limner.regenerate("m", (await again.urls("m"))[0])
        await again.tick(2_000)
        house.store.hold_writes()
        again.painter.release_all()
        await settle()
        assert again.state("m") == "inserting"
    house.store.release()
    house.store.written.clear()
    async with house.process() as last:
        assert len((await last.limner.finished("m")).placed) == 1
    assert len(house.store.written) == 1


class DiesAfterTheWrite(ScriptedStore):
    """The write is done, and whoever asked for it never hears of it."""

    async def write(self, message_id: str, text: str, *, expected: str | None) -> str:
        version = await super().write(message_id, text, expected=expected)
        if find_images(text):
            await anyio.sleep_forever()
        return version


async def died_after_the_write(edit: Callable[[str], str] = lambda text: text) -> tuple[House, str]:
    """A house whose process ended between the write and the record of it, and the text that it wrote."""
    house = House()
    house.store = DiesAfterTheWrite()
    async with house.process() as first:
        await stream(first)
        await settle()
        assert first.state("m") == "inserting"
        text = await first.text("m")
        await house.store.edit("m", edit(text))
    plain = ScriptedStore({"m": edit(text)})
    house.store = plain
    return house, text


async def test_a_write_that_had_happened_is_found_and_not_made_again():
    house, text = await died_after_the_write()
    async with house.process() as second:
        result = await second.limner.finished("m")
        assert [image.image_url for image in result.placed] == await second.urls("m")
        assert await second.text("m") == text
    assert house.store.attempts == 0


async def test_an_edit_after_the_write_is_kept():
    house, text = await died_after_the_write(lambda text: text.replace("Once", "Twice"))
    async with house.process() as second:
        assert len((await second.limner.finished("m")).placed) == 2
        assert await second.text("m") == text.replace("Once", "Twice")
    assert house.store.attempts == 0


async def test_an_image_that_was_taken_out_after_the_write_stays_out():
    def without_the_first(text: str) -> str:
        image = find_images(text)[0]
        return text[: image.start] + text[image.end :]

    house, text = await died_after_the_write(without_the_first)
    async with house.process() as second:
        result = await second.limner.finished("m")
        assert [image.reason for image in result.unplaced] == ["removed"]
        assert len(result.placed) == 1
        assert await second.text("m") == without_the_first(text)
    assert house.store.attempts == 0


async def test_an_edit_before_the_write_is_kept_and_gets_its_images():
    house = House()
    async with house.process() as first:
        first.painter.hold()
        await stream(first)
        first.painter.release("a cat")
    await house.store.edit("m", f"Edited. {STORY}")
    async with house.process() as second:
        assert len((await second.limner.finished("m")).placed) == 2
        assert strip_illustrations(await second.text("m")) == f"Edited. {STORY}"


async def test_a_message_that_was_deleted_meanwhile_is_not_brought_back():
    house = House()
    async with house.process() as first:
        first.painter.hold()
        await stream(first)
    await house.store.delete("m")
    async with house.process() as second:
        result = await second.limner.finished("m")
        assert result.problem is not None
        assert result.problem.kind == "message_gone"
        assert await house.store.read("m") is None


# --- jobs that the backend knows by an id


class Queue:
    """A server that works through jobs whoever waits for them, and knows them by their ids."""

    capabilities = Capabilities(resume=True)

    def __init__(self) -> None:
        self.started: list[str] = []
        self.asked_for: list[str] = []
        self.lost: set[str] = set()
        self.finished = anyio.Event()

    async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        if request.job_id is None:
            job_id = f"job-{len(self.started) + 1}"
            self.started.append(request.prompt)
        else:
            job_id = request.job_id
            self.asked_for.append(job_id)
            if job_id in self.lost:
                raise JobLost(f"no job {job_id}")
        report(job_id=job_id)
        await self.finished.wait()
        return png(len(job_id))

    async def aclose(self) -> None:
        """Nothing to release."""


async def test_a_job_with_an_id_is_picked_up_again_instead_of_paid_for_twice():
    house, queue = House(), Queue()
    async with house.process(queue) as first:
        await stream(first)
        await settle()
        assert sorted(queue.started) == ["a cat", "a dog"]
    async with house.process(queue) as second:
        await settle()
        assert sorted(queue.asked_for) == ["job-1", "job-2"]
        queue.finished.set()
        assert len((await second.limner.finished("m")).placed) == 2
    assert sorted(queue.started) == ["a cat", "a dog"]


async def test_a_job_that_is_picked_up_again_is_worked_over_by_what_its_prompt_asked_for():
    seen: list[tuple[str, int, int | None]] = []

    async def watermark(request: GenerationRequest, image: bytes) -> bytes:
        seen.append((request.prompt, request.seed, request.settings.width))
        return image

    house, queue = House(prompt_overrides=["width", "seed"], after_generation=watermark), Queue()
    async with house.process(queue) as first:
        await stream(first, tag("a cat --width 128 --seed 5"))
        await settle()
    assert (queue.started, seen) == (["a cat"], [])
    queue.finished.set()
    async with house.process(queue) as second:
        await second.limner.finished("m")
    assert (queue.asked_for, seen) == (["job-1"], [("a cat", 5, 128)])


async def test_a_job_that_the_server_has_lost_is_started_anew():
    house, queue = House(), Queue()
    async with house.process(queue) as first:
        await stream(first, tag("a cat"))
        await settle()
    queue.lost.add("job-1")
    queue.finished.set()
    async with house.process(queue) as second:
        await settle()
        await second.tick(1_300)  # the pause before the next attempt
        assert len((await second.limner.finished("m")).placed) == 1
    assert (queue.asked_for, queue.started) == (["job-1"], ["a cat", "a cat"])


async def test_a_painter_that_cannot_pick_up_a_job_is_not_asked_to():
    house = House()
    async with house.process(Queue()) as first:
        await stream(first, tag("a cat"))
        await settle()
        assert next(iter(house.left()[0].prompts.values())).job_id == "job-1"
    async with house.process() as second:
        await second.limner.finished("m")
        assert [request.job_id for request in second.painter.requests] == [None]


class Durable(MemoryJournal):
    """A journal that outlives its process, for all that anybody can tell."""

    durable = True


@pytest.mark.parametrize(
    ("ending", "journal", "keeps"),
    [
        ("the process ends", Durable, True),
        ("the process ends", MemoryJournal, False),
        ("a user cancels", Durable, False),
        ("the time limit passes", Durable, False),
    ],
)
async def test_a_call_that_is_cancelled_is_told_whether_its_job_is_still_wanted(
    ending: str, journal: type[MemoryJournal], keeps: bool
):
    told: list[bool] = []

    class Asks(Queue):
        async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
            try:
                return await super().generate(request, report)
            finally:
                told.append(request.keeps_job())

    async with Studio(painter=Asks(), journal=journal()) as studio:
        await stream(studio, tag("a cat"))
        await settle()
        if ending == "a user cancels":
            await studio.limner.cancel("m")
        elif ending == "the time limit passes":
            await studio.tick(120_000)
        await settle()
    assert told == [keeps]


async def test_a_job_whose_id_is_not_in_the_journal_is_nobodys_after_this_process():
    told: list[bool] = []

    class Silent(Queue):
        async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
            try:
                await self.finished.wait()
            finally:
                told.append(request.keeps_job())
            return png(1)

    async with Studio(painter=Silent(), journal=Durable()) as studio:
        await stream(studio, tag("a cat"))
        await settle()
    assert told == [False]


@pytest.mark.parametrize("senseless", [17, b"job", ["job"]])
async def test_a_senseless_job_id_costs_nobody_the_picture(senseless: Any):
    class Odd(FakePainter):
        async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
            report(job_id=senseless)
            await settle()
            return png(1)

    async with Studio(painter=Odd()) as studio:
        assert len((await studio.illustrate("m", tag("a cat"))).placed) == 1


# --- restarts that do not end


async def test_an_image_that_ends_the_process_each_time_fails_and_the_others_are_written():
    house = House(max_restarts=2)
    async with house.process() as first:
        first.painter.hold()
        await stream(first)
        first.painter.release("a cat")
        await settle()
    for _ in range(2):
        async with house.process(hold=True) as again:
            await settle()
            assert again.painter.prompts == ["a dog"]
    async with house.process(hold=True) as last:
        result = await last.limner.finished("m")
        assert last.painter.prompts == []
        assert [failed.problem.kind for failed in result.failed] == ["process_ended"]
        assert len(result.placed) == 1


async def test_a_failure_before_the_restart_still_counts_as_an_attempt():
    house = House(max_attempts=2)
    async with house.process() as first:
        first.painter.answers = {"a cat": [Unavailable("down")]}
        await stream(first, tag("a cat"))
        await settle()
    painter = FakePainter()
    painter.answers = {"a cat": [Unavailable("still down")]}
    async with house.process(painter, down_ms=60_000) as second:
        await second.tick(0)
        result = await second.limner.finished("m")
        assert [failed.problem.message for failed in result.failed] == ["still down"]
        assert [request.attempt for request in painter.requests] == [2]


async def test_an_hour_without_a_process_counts_for_no_limit():
    house = House()
    async with house.process(hold=True) as first:
        await stream(first)
        await settle()
    async with house.process(down_ms=3_600_000, hold=True) as second:
        await second.tick(119_000)
        second.painter.release_all()
        assert len((await second.limner.finished("m")).placed) == 2


async def test_a_reroll_that_died_in_its_stream_gives_no_prompt_a_second_image():
    house = House()
    async with house.process() as first:
        await first.illustrate("m", STORY)
        before = await first.text("m")
    async with house.process(hold=True) as second:
        await begin(second, "Anew: ", tag("a cat"), tag("an owl"))
        second.painter.release("a cat")
        await settle()
    async with house.process() as third:
        assert len(third.limner.recovered.sealed) == 1
        result = await third.limner.finished("m")
        assert await third.text("m") == before
        assert third.painter.prompts == []
        assert result.placed == ()
        assert [image.reason for image in result.unplaced] == ["prompt-gone"]


# --- what leaving and starting must not do


@pytest.mark.parametrize("how", ["an error", "a cancellation"])
async def test_leaving_begins_no_image_that_only_waits_for_its_turn(how: str):
    journal, store = MemoryJournal(), ScriptedStore()
    text = "".join(tag(f"picture {number}") for number in range(10))
    with anyio.CancelScope() as scope:
        async with Studio(hold=True, journal=journal, store=store, max_concurrent=1) as studio:
            await stream(studio, text)
            await settle()
            if how == "a cancellation":
                scope.cancel()
                await anyio.lowlevel.checkpoint()
    [left] = journal.contents.live
    assert Counter(prompt.state for prompt in left.prompts.values()) == {"generating": 1, "queued": 9}
    assert len(studio.painter.requests) == 1
    # So many deploys as an image may be cut off are no reason to give up what nobody had begun.
    for _ in range(4):
        async with Studio(hold=True, journal=journal, store=store, max_concurrent=1) as studio:
            await settle()
    [left] = journal.contents.live
    assert sorted(prompt.restarts for prompt in left.prompts.values())[:9] == [0] * 9


async def test_a_start_that_the_journal_refuses_lets_no_time_pass_for_those_who_were_left():
    journal = ScriptedJournal()
    house = House()
    house.journal = journal
    async with house.process(hold=True) as first:
        await stream(first)
    [left] = house.left()
    journal.errors = [StorageError("database is locked")]
    with pytest.raises(StorageError, match="database is locked"):
        async with house.process(down_ms=3_600_000):
            pass
    assert house.left() == [left]
    async with house.process(down_ms=3_600_000) as third:
        assert third.limner.recovered.resumed == (left.id,)
        assert len((await third.limner.finished("m")).placed) == 2


@pytest.mark.parametrize("exists", [True, False])
async def test_a_pause_before_another_attempt_ends_no_sooner_than_the_fate_of_the_text_is_known(exists: bool):
    house = House({"m": tag("a cat")} if exists else None)
    painter = FakePainter()
    painter.answers["a cat"] = [Unavailable("down", retry_after_ms=60_000)]
    async with house.process(painter=painter) as first:
        left = await begin(first, tag("a cat"))
        assert [prompt.state for prompt in left.prompts.values()] == ["waiting"]
    house.store.hold_reads()
    async with anyio.create_task_group() as tasks:

        async def answer_later() -> None:
            await settle()
            house.store.release()

        tasks.start_soon(answer_later)
        async with house.process(down_ms=3_600_000) as second:
            result = await second.limner.finished("m")
            assert len(result.placed) == exists
            assert len(second.painter.requests) == exists


# --- a journal that cannot be had


async def test_a_journal_that_cannot_be_written_at_the_start_stops_the_start_with_its_own_error():
    house = House()
    async with house.process(hold=True) as first:
        await stream(first)
    broken = ScriptedJournal(lambda record: True)
    broken._live = house.journal._live
    with pytest.raises(StorageError, match="disk full"):
        async with Studio(journal=broken):
            pass


async def test_a_past_that_cannot_be_read_costs_no_picture():
    class Forgetful(MemoryJournal):
        async def past_sessions(self, message_id: str) -> Any:
            raise ConnectionError("the journal's server is away")

    async with Studio(journal=Forgetful()) as studio:
        with capture_logs() as logs:
            result = await studio.illustrate("m", tag("a cat"))
        assert len(result.placed) == 1
        assert len(studio.painter.requests) == 1
        assert "past_not_recalled" in [entry["event"] for entry in logs]


async def test_a_cancel_that_the_journal_does_not_take_is_tried_again():
    house = House()
    async with house.process(hold=True) as first:
        left = await begin(first, tag("a cat"))

    def is_second(record: JournalRecord) -> bool:
        if journal.groups and not refused:
            refused.append(record)
            return True
        return False

    refused: list[JournalRecord] = []
    journal = ScriptedJournal(is_second)
    journal._live = house.journal._live
    async with Studio(journal=journal, store=house.store) as second:
        assert second.limner.recovered.unread == (left.id,)
        await second.tick(STORE_RETRIES_MS[0])
        assert (await second.limner.finished("m")).state == "cancelled"
        assert second.painter.requests == []


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_store_that_hangs_keeps_nobody_out_for_long(backend: str):
    class Hangs(ScriptedStore):
        hangs = False

        async def read(self, message_id: str) -> StoredMessage | None:
            if self.hangs:
                await anyio.sleep_forever()
            return await super().read(message_id)

    journal, store, images = (
        MemoryJournal(),
        Hangs({f"m{n}": tag("a cat") for n in range(40)}),
        FakeImageStore(),
    )

    def limner(painter: FakePainter) -> Limner:
        return Limner(
            painter,
            store=store,
            images=images,
            inspector=FakeInspector(),
            journal=journal,
            clock=virtual_milliseconds,
            shutdown_timeout_ms=0,
        )

    async def scenario(seed: int) -> int:
        async with limner(FakePainter(hold=True)) as first:
            for number in range(20):
                await first.seal(f"m{number}")
            for number in range(20, 40):
                stream = await first.manager.start_streaming_session(f"m{number}")
                stream.feed(tag("a cat"))
        store.hangs = True
        start = virtual_milliseconds()
        async with limner(FakePainter()) as second:
            took = virtual_milliseconds() - start
            assert len(second.recovered.resumed) == 20
            store.hangs = False
            # Those that only had to be painted went on without the store; the others follow when it answers.
            with anyio.fail_after(600):
                for number in range(40):
                    await second.finished(f"m{number}")
        return took

    assert run_seeded(backend, 1, scenario) == READING_MS


async def test_dead_streams_share_their_commits():
    store = ScriptedStore({f"m{number}": tag("a cat") for number in range(100)})
    journal = ScriptedJournal()
    house = House()
    house.store, house.journal = store, journal
    async with house.process(hold=True) as first:
        for number in range(100):
            await begin(first, tag("a cat"), message_id=f"m{number}")
    before = len(journal.groups)
    async with house.process(hold=True) as second:
        assert len(second.limner.recovered.sealed) == 100
        assert len(journal.groups) - before < 20


async def test_one_limner_may_be_entered_again_and_goes_on_with_what_it_left():
    studio = Studio(hold=True)
    async with studio:
        await stream(studio, tag("a cat"))
    studio.painter.release_all()
    async with studio:
        assert len(studio.limner.recovered.resumed) == 1
        assert len((await studio.limner.finished("m")).placed) == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_slow_store_is_asked_by_few_at_a_time_and_once_for_each_message(backend: str):
    class Slow(ScriptedStore):
        def __init__(self, messages: dict[str, str]) -> None:
            super().__init__(messages)
            self.slow = False
            self.at_once = self.most = 0
            self.reads_of: Counter[str] = Counter()

        async def read(self, message_id: str) -> StoredMessage | None:
            if not self.slow:
                return await super().read(message_id)
            self.reads_of[message_id] += 1
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            await anyio.sleep(2)
            self.at_once -= 1
            return await super().read(message_id)

    journal, images = MemoryJournal(), FakeImageStore()
    store = Slow({f"m{number}": tag("a cat") for number in range(100)})

    def limner() -> Limner:
        return Limner(
            FakePainter(hold=True),
            store=store,
            images=images,
            inspector=FakeInspector(),
            journal=journal,
            clock=virtual_milliseconds,
            shutdown_timeout_ms=0,
        )

    async def scenario(seed: int) -> None:
        with suppress(Killed):
            async with limner() as first:
                for number in range(100):
                    stream = await first.manager.start_streaming_session(f"m{number}")
                    stream.feed(tag("a cat"))
                await anyio.sleep(1)
                raise Killed
        store.slow = True
        async with limner() as second:
            assert second.recovered.unread
            assert len(second.recovered.unread) + len(second.recovered.sealed) == 100
            await anyio.sleep(30)
            assert {session.state for session in second.sessions()} == {"draining"}
        assert store.most == READS_AT_ONCE
        assert set(store.reads_of.values()) == {1}

    run_seeded(backend, 1, scenario)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_journal_that_does_not_take_the_end_of_a_dead_stream_keeps_nobody_out_for_long(backend: str):
    journal, store, images = ScriptedJournal(), ScriptedStore({"m": tag("a cat")}), FakeImageStore()

    def limner() -> Limner:
        return Limner(
            FakePainter(),
            store=store,
            images=images,
            inspector=FakeInspector(),
            journal=journal,
            clock=virtual_milliseconds,
            shutdown_timeout_ms=0,
        )

    async def scenario(seed: int) -> int:
        with suppress(Killed):
            async with limner() as first:
                await first.manager.start_streaming_session("m")
                raise Killed
        journal.refuses = lambda record: isinstance(record.event, StreamEnded)
        start = virtual_milliseconds()
        async with limner() as second:
            took = virtual_milliseconds() - start
            assert len(second.recovered.unread) == 1
            journal.refuses = lambda record: False
            assert len((await second.finished("m")).placed) == 1
        return took

    assert run_seeded(backend, 1, scenario) == READING_MS
