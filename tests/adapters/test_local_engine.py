"""The local engine: one event after another, committed before its commands are performed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

import anyio
import anyio.lowlevel
import pytest

from limner.adapters.journal_memory import MemoryJournal
from limner.adapters.local_engine import LocalEngine
from limner.errors import (
    CancelTooLate,
    EventRefused,
    InvalidSetting,
    MessageBusy,
    NotRunning,
    RegenerationDuringStreaming,
    StorageError,
)
from limner.states import (
    PROCESS_RESTARTED,
    CancelRequested,
    Event,
    FoundPrompt,
    Generate,
    GenerationStarted,
    GenerationSucceeded,
    Image,
    InsertImages,
    InsertionWritten,
    PromptFound,
    RegenerationRequested,
    Session,
    SessionSettings,
    StreamEnded,
    StreamStarted,
)
from limner.states.message import Step
from limner.workflows.clock import Alarm
from limner.workflows.ports import JournalContents, JournalRecord
from tests.support import ManualClock, ScriptedJournal, settle

pytestmark = pytest.mark.anyio

CAT = FoundPrompt("1", "a cat")
CLICK = RegenerationRequested("node", "a cat", 0, "old.png")


class Bench:
    """An engine that runs, with somebody who listens."""

    def __init__(
        self, settings: SessionSettings | None = None, journal: ScriptedJournal | None = None
    ) -> None:
        self.clock = ManualClock(0)
        self.alarm = Alarm(self.clock)
        self.journal = journal or ScriptedJournal()
        self.engine = LocalEngine(self.journal, self.alarm, settings)
        self.steps: list[Step] = []

    def committed(self, step: Step) -> None:
        assert step.event in [record.event for record in self.journal.records], "told before it was committed"
        self.steps.append(step)

    @property
    def commands(self) -> list[object]:
        return [command for step in self.steps for command in step.commands]

    async def tick(self, milliseconds: int) -> None:
        await settle()
        self.clock.tick(milliseconds)
        self.alarm.ring()
        await settle()


@asynccontextmanager
async def running(
    settings: SessionSettings | None = None, bench: Bench | None = None
) -> AsyncIterator[Bench]:
    bench = bench or Bench(settings)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.engine.run, bench)
        yield bench
        tasks.cancel_scope.cancel()


async def test_an_event_is_handled_committed_and_told_in_this_order():
    async with running() as bench:
        session = await bench.engine.post("m", StreamStarted())
        assert session.state == "streaming"
        assert bench.engine.live_session("m") == session
        [step] = bench.steps
        assert (step.session, step.event) == (session, StreamStarted())
        assert [record.session for record in bench.journal.records] == [session]


async def test_commands_are_performed_only_once_the_event_is_committed():
    async with running() as bench:
        await bench.engine.post("m", StreamStarted())
        bench.journal.gate = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.engine.post, "m", PromptFound(CAT))
            await settle()
            assert bench.commands == []
            bench.journal.gate.set()
        assert bench.commands == [Generate("1")]


async def test_what_stands_in_line_while_the_journal_is_busy_is_committed_as_one_group():
    async with running() as bench:
        bench.journal.gate = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.engine.post, "first", StreamStarted())
            await settle()
            for number in range(50):
                tasks.start_soon(bench.engine.post, f"m{number}", StreamStarted())
            await settle()
            bench.journal.gate.set()
        assert [len(group) for group in bench.journal.groups] == [1, 50]


async def test_events_of_one_message_are_told_in_the_order_in_which_they_were_handled():
    async with running() as bench:
        await bench.engine.post("m", StreamStarted())
        bench.journal.gate = anyio.Event()
        found = [PromptFound(FoundPrompt(str(number), "x")) for number in range(20)]
        async with anyio.create_task_group() as tasks:
            for event in found:
                tasks.start_soon(bench.engine.post, "m", event)
                await settle()
            bench.journal.gate.set()
        assert [step.event for step in bench.steps[1:]] == found
        assert [len(step.session.prompts) for step in bench.steps[1:]] == list(range(1, 21))


async def test_an_event_has_its_place_before_the_call_waits_for_anything():
    async with running() as bench, anyio.create_task_group() as tasks:
        bench.journal.gate = anyio.Event()
        called = anyio.Event()

        async def start() -> None:
            called.set()
            await bench.engine.post("m", StreamStarted())

        tasks.start_soon(start)
        await called.wait()
        assert bench.engine.live_session("m") is not None
        bench.journal.gate.set()


async def test_a_caller_who_is_cancelled_while_it_waits_does_not_undo_the_event():
    async with running() as bench:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await bench.engine.post("m", StreamStarted())
        await settle()
        assert len(bench.steps) == 1
        assert bench.engine.live_session("m") is not None


async def test_a_message_has_at_most_one_live_session_and_a_new_stream_cancels_it():
    async with running() as bench:
        first = await bench.engine.post("m", StreamStarted())
        second = await bench.engine.post("m", StreamStarted())
        assert first.id != second.id
        assert [step.session.state for step in bench.steps] == ["streaming", "cancelled", "streaming"]
        assert bench.engine.live_sessions() == (second,)


async def test_live_sessions_are_listed_oldest_first():
    async with running() as bench:
        for message_id in ("b", "a", "c"):
            await bench.engine.post(message_id, StreamStarted())
        assert [session.message_id for session in bench.engine.live_sessions()] == ["b", "a", "c"]


async def test_a_stream_that_meets_a_write_is_refused_as_busy():
    async with running() as bench:
        await bench.engine.post("m", StreamStarted())
        session = await bench.engine.post("m", StreamEnded(()))
        assert session.state == "inserting"
        with pytest.raises(MessageBusy):
            await bench.engine.post("m", StreamStarted())
        assert bench.commands == [InsertImages(())]


async def test_what_the_machine_does_not_accept_is_refused_and_nothing_is_recorded():
    async with running() as bench:
        await bench.engine.post("m", StreamStarted())
        with pytest.raises(RegenerationDuringStreaming):
            await bench.engine.post("m", CLICK)
        with pytest.raises(EventRefused):
            await bench.engine.post("m", GenerationStarted("no such prompt"))
        with pytest.raises(CancelTooLate):
            await bench.engine.post("nowhere", CancelRequested())
        assert len(bench.journal.records) == 1


async def test_an_event_for_another_session_than_the_live_one_is_refused():
    async with running() as bench:
        first = await bench.engine.post("m", StreamStarted())
        second = await bench.engine.post("m", StreamStarted())
        with pytest.raises(EventRefused, match=first.id):
            await bench.engine.post("m", PromptFound(CAT), session_id=first.id)
        await bench.engine.post("m", PromptFound(CAT), session_id=second.id)


# --- time


async def test_timers_of_many_sessions_fire_each_at_its_own_time():
    async with running() as bench:
        for number in range(10):
            await bench.engine.post(f"m{number}", CLICK)
            await bench.tick(100)
        assert bench.engine.next_deadline() == 2_000
        states = []
        for _ in range(10):
            await bench.tick(100)
            states.append([s.state for s in bench.engine.live_sessions()].count("draining"))
        assert states == [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]  # now = 2000


async def test_a_deadline_that_was_moved_is_forgotten():
    async with running() as bench:
        await bench.engine.post("m", CLICK)
        await bench.tick(1_500)
        await bench.engine.post("m", CLICK)
        assert bench.engine.next_deadline() == 3_500
        await bench.tick(1_999)
        assert [session.state for session in bench.engine.live_sessions()] == ["debouncing"]
        await bench.tick(1)
        assert [session.state for session in bench.engine.live_sessions()] == ["draining"]


async def test_a_timer_that_is_due_runs_before_an_event_of_the_same_instant():
    async with running() as bench:
        await bench.engine.post("m", CLICK)
        bench.clock.tick(2_000)
        session = await bench.engine.post("m", CancelRequested())
        assert [step.session.state for step in bench.steps] == ["debouncing", "draining", "cancelled"]
        assert session.state == "cancelled"


async def test_an_ended_session_has_no_deadline():
    async with running() as bench:
        await bench.engine.post("m", CLICK)
        await bench.engine.post("m", CancelRequested())
        assert bench.engine.next_deadline() is None
        assert bench.engine.live_sessions() == ()


async def test_a_session_keeps_the_settings_with_which_it_began():
    async with running(SessionSettings(debounce_ms=500)) as bench:
        session = await bench.engine.post("m", CLICK)
        assert session.settings.debounce_ms == 500
        bench.engine.settings = SessionSettings()
        assert bench.engine.next_deadline() == 500
        assert (await bench.engine.post("n", CLICK)).settings.debounce_ms == 2_000


def test_settings_that_cannot_be_meant_are_refused_at_once():
    with pytest.raises(InvalidSetting, match="debounce_ms"):
        LocalEngine(MemoryJournal(), Alarm(ManualClock()), SessionSettings(debounce_ms=-1))


# --- a journal that fails, an engine that stops


FULL = [StorageError("disk full"), OSError("disk full"), KeyError("disk full")]


@pytest.mark.parametrize("error", FULL)
async def test_a_request_that_cannot_be_committed_is_told_to_the_caller_and_did_not_happen(error: Exception):
    async with running() as bench:
        before = await bench.engine.post("m", CLICK)
        bench.steps.clear()
        bench.journal.errors = [error]
        with pytest.raises(StorageError, match="disk full"):
            await bench.engine.post("m", CancelRequested())
        assert bench.engine.live_session("m") == before
        assert bench.steps == []
        bench.journal.errors = [error]
        with pytest.raises(StorageError, match="disk full"):
            await bench.engine.post("n", StreamStarted())
        assert bench.engine.live_session("n") is None
        # The engine goes on at once, for them and for others.
        assert (await bench.engine.post("n", StreamStarted())).state == "streaming"


@pytest.mark.parametrize("error", FULL)
async def test_a_fact_that_cannot_be_committed_waits_until_it_can(error: Exception):
    async with running() as bench, anyio.create_task_group() as tasks:
        await bench.engine.post("m", StreamStarted())
        bench.journal.errors = [error] * 3
        tasks.start_soon(bench.engine.post, "m", PromptFound(CAT))
        for pause in (100, 200, 499):
            await bench.tick(pause)
            assert bench.commands == []
        await bench.tick(1)
        assert bench.commands == [Generate("1")]
        assert [record.event for record in bench.journal.records] == [StreamStarted(), PromptFound(CAT)]


async def test_the_pauses_of_a_journal_that_stays_broken_grow_to_five_seconds():
    async with running() as bench, anyio.create_task_group() as tasks:
        await bench.engine.post("m", StreamStarted())
        bench.journal.errors = [OSError("gone")] * 10
        tasks.start_soon(bench.engine.post, "m", PromptFound(CAT))
        tries = []
        for _ in range(40):
            await bench.tick(1_000)
            tries.append(10 - len(bench.journal.errors))
        assert tries[9] < 8
        assert tries[-1] == 10
        assert bench.commands == [Generate("1")]


async def test_what_stands_behind_a_refused_request_is_handled_without_it():
    async with running() as bench, anyio.create_task_group() as tasks:
        await bench.engine.post("m", StreamStarted())
        await bench.engine.post("m", PromptFound(CAT))
        bench.steps.clear()
        refused: list[str] = []

        async def cancel() -> None:
            with pytest.raises(StorageError) as error:
                await bench.engine.post("m", CancelRequested())
            refused.append(str(error.value))

        bench.journal.gate = anyio.Event()
        bench.journal.errors = [StorageError("disk full")]
        tasks.start_soon(cancel)
        await settle()
        assert bench.engine.live_session("m") is None  # as far as memory had got
        tasks.start_soon(bench.engine.post, "n", StreamStarted())
        await settle()
        bench.journal.gate.set()
        await settle()
        live = bench.engine.live_session("m")
        assert live is not None
        assert live.state == "streaming"
        assert refused == ["disk full"]
        tasks.start_soon(bench.engine.post, "m", GenerationStarted("1"))
        await bench.tick(100)
        # What had come behind the refused request was not part of the failure.
        assert [step.event for step in bench.steps] == [StreamStarted(), GenerationStarted("1")]


async def test_a_timer_whose_step_was_not_committed_fires_again():
    async with running() as bench:
        await bench.engine.post("m", CLICK)
        bench.journal.errors = [StorageError("disk full")] * 2
        await bench.tick(2_000)
        assert [session.state for session in bench.engine.live_sessions()] == ["debouncing"]
        await bench.tick(0)
        assert len(bench.journal.errors) == 1, "it is not tried again before the pause is over"
        await bench.tick(100)
        await bench.tick(200)
        assert [session.state for session in bench.engine.live_sessions()] == ["draining"]
        assert [step.session.state for step in bench.steps] == ["debouncing", "draining"]


async def test_a_fact_that_has_become_senseless_is_refused_to_whoever_brought_it():
    async with running() as bench, anyio.create_task_group() as tasks:
        session = await bench.engine.post("m", CLICK)
        [prompt_id] = session.prompts
        told: list[str] = []

        async def start() -> None:
            with pytest.raises(EventRefused) as refusal:
                await bench.engine.post("m", GenerationStarted(f"{session.id}.2"), session_id=session.id)
            told.append(refusal.value.event)

        async def click() -> None:
            with pytest.raises(StorageError):
                await bench.engine.post("m", RegenerationRequested("node", "a dog", 0, "other.png"))

        bench.journal.errors = [StorageError("disk full")]
        bench.journal.gate = anyio.Event()
        tasks.start_soon(click)
        await settle()
        tasks.start_soon(start)  # of a prompt that only the refused click would have brought
        await settle()
        bench.journal.gate.set()
        await settle()
        # The click's group failed; what stood behind it is handled again without it.
        assert told == ["generation_started"]
        live = bench.engine.live_session("m")
        assert live is not None
        assert list(live.prompts) == [prompt_id]


@pytest.mark.parametrize("request_", [CancelRequested(), StreamStarted()], ids=["cancel", "new stream"])
@pytest.mark.parametrize("fails", [True, False])
async def test_a_fact_that_meets_an_uncommitted_request_waits_for_what_becomes_of_it(
    request_: Event, fails: bool
):
    told: list[str] = []

    async def tell(bench: Bench, event: Event, session_id: str | None) -> None:
        try:
            await bench.engine.post("m", event, session_id=session_id)
        except (EventRefused, StorageError) as error:
            told.append(f"{event.name}: {type(error).__name__}")

    async with running() as bench, anyio.create_task_group() as tasks:
        session = await bench.engine.post("m", StreamStarted())
        await bench.engine.post("m", PromptFound(CAT))
        await bench.engine.post("m", GenerationStarted("1"))
        bench.journal.gate = anyio.Event()
        bench.journal.errors = [StorageError("disk full")] if fails else []
        tasks.start_soon(tell, bench, request_, None)
        await settle()
        for fact in (GenerationSucceeded("1", Image("1.png")), StreamEnded((CAT,))):
            tasks.start_soon(tell, bench, fact, session.id)
            await settle()
        assert told == [], "nobody is told before it is known"
        bench.journal.gate.set()
        await settle()
        await bench.tick(100)
        if fails:
            assert told == [f"{request_.name}: StorageError"]
            live = bench.engine.live_session("m")
            assert live is not None
            assert (live.id, live.state) == (session.id, "inserting")
        else:
            assert sorted(told) == ["generation_succeeded: EventRefused", "stream_ended: EventRefused"]


async def test_a_fact_that_waited_for_a_request_in_vain_keeps_its_own_time():
    settings = SessionSettings(image_timeout_ms=10_000)
    async with running(settings) as bench, anyio.create_task_group() as tasks:
        session = await bench.engine.post("m", StreamStarted())
        await bench.engine.post("m", PromptFound(CAT))
        await bench.engine.post("m", GenerationStarted("1"))
        bench.journal.gate = anyio.Event()
        bench.journal.errors = [StorageError("locked")]

        async def cancel() -> None:
            with suppress(StorageError):
                await bench.engine.post("m", CancelRequested())

        tasks.start_soon(cancel)
        await settle()
        bench.clock.tick(6_000)
        done = GenerationSucceeded("1", Image("1.png"))
        tasks.start_soon(partial(bench.engine.post, "m", done, session_id=session.id))
        await settle()
        bench.clock.tick(5_000)
        bench.journal.gate.set()
        await settle()
        await bench.tick(1)
        live = bench.engine.live_session("m")
        assert live is not None
        assert live.prompts["1"].state == "completed", "it was finished within its limit of ten seconds"


async def test_a_second_request_is_not_refused_because_of_a_first_that_did_not_happen():
    async with running() as bench, anyio.create_task_group() as tasks:
        await bench.engine.post("m", StreamStarted())
        bench.journal.gate = anyio.Event()
        bench.journal.errors = [StorageError("locked")]
        told: list[str] = []

        async def cancel() -> None:
            try:
                told.append((await bench.engine.post("m", CancelRequested())).state)
            except (StorageError, EventRefused) as error:
                told.append(type(error).__name__)

        for _ in range(2):
            tasks.start_soon(cancel)
            await settle()
        bench.journal.gate.set()
        await settle()
        assert told == ["StorageError", "cancelled"]


async def test_a_second_request_is_refused_because_of_a_first_that_happened():
    async with running() as bench, anyio.create_task_group() as tasks:
        await bench.engine.post("m", StreamStarted())
        bench.journal.gate = anyio.Event()
        told: list[str] = []

        async def cancel() -> None:
            try:
                told.append((await bench.engine.post("m", CancelRequested())).state)
            except CancelTooLate as error:
                told.append(type(error).__name__)

        for _ in range(2):
            tasks.start_soon(cancel)
            await settle()
        assert told == []
        bench.journal.gate.set()
        await settle()
        assert told == ["cancelled", "CancelTooLate"]
        assert [step.event for step in bench.steps] == [StreamStarted(), CancelRequested()]


async def test_who_asks_for_a_session_that_has_only_just_begun_can_wait_for_its_commit():
    async with running() as bench, anyio.create_task_group() as tasks:
        await bench.engine.wait_begun("m")
        bench.journal.gate = anyio.Event()
        tasks.start_soon(bench.engine.post, "m", StreamStarted())
        await settle()
        begun: list[Step] = []

        async def wait() -> None:
            await bench.engine.wait_begun("m")
            begun.extend(bench.steps)

        tasks.start_soon(wait)
        await settle()
        assert begun == []
        bench.journal.gate.set()
        await settle()
        assert [step.event for step in begun] == [StreamStarted()]


async def test_that_wait_ends_too_where_the_session_was_refused():
    async with running() as bench, anyio.create_task_group() as tasks:
        bench.journal.errors = [StorageError("disk full")]
        refused: list[StorageError] = []

        async def begin() -> None:
            try:
                await bench.engine.post("m", StreamStarted())
            except StorageError as error:
                refused.append(error)

        bench.journal.gate = anyio.Event()
        tasks.start_soon(begin)
        await settle()
        tasks.start_soon(bench.engine.wait_begun, "m")
        bench.journal.gate.set()
    assert len(refused) == 1
    assert bench.engine.live_session("m") is None


async def test_a_host_s_own_journal_that_raises_anything_is_a_storage_error():
    class Odd(ScriptedJournal):
        async def past_sessions(self, message_id: str) -> Sequence[Session]:
            raise ConnectionError("gone")

        async def open(self) -> JournalContents:
            raise KeyError("gone")

        async def aclose(self) -> None:
            raise OSError("gone")

    engine = Bench(journal=Odd()).engine
    for call in (engine.open, engine.aclose, partial(engine.past_sessions, "m")):
        with pytest.raises(StorageError, match=r"the journal failed: .*gone"):
            await call()


async def test_what_stands_in_line_when_the_engine_is_stopped_is_committed_for_the_next_process():
    bench = Bench()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.engine.run, bench)
        await bench.engine.post("m", StreamStarted())
        await settle()
        tasks.cancel_scope.cancel()
        bench.engine._handle("m", PromptFound(CAT))  # what comes before the engine has noticed
    [left] = bench.journal.contents.live
    assert [record.event for record in bench.journal.records] == [StreamStarted(), PromptFound(CAT)]
    assert list(left.prompts) == [CAT.id]


# --- taking over what another process left behind


async def taken_over(journal: ScriptedJournal, now: int) -> Bench:
    """An engine that has opened a journal that another one has filled."""
    bench = Bench(journal=journal)
    bench.clock.now = now
    await bench.engine.open()
    return bench


async def test_sessions_that_were_left_do_not_move_before_they_are_resumed():
    async with running() as first:
        left = await first.engine.post("m", CLICK)
    second = await taken_over(first.journal, 60_000)
    assert second.engine.live_sessions() == ()
    assert second.engine.next_deadline() is None
    async with running(bench=second):
        [resumed] = await second.engine.resume()
        assert resumed.id == left.id
        assert second.engine.live_session("m") == resumed
        assert second.commands == [Generate(f"{left.id}.1")]
        assert [record.event for record in second.journal.records][-1] == PROCESS_RESTARTED
        assert second.engine.next_deadline() == 60_000
        await second.tick(0)
        assert [session.state for session in second.engine.live_sessions()] == ["draining"]


async def test_time_goes_on_from_the_newest_record_when_the_wall_clock_was_set_back():
    async with running() as first:
        first.clock.now = 50_000
        await first.engine.post("m", CLICK)
    second = await taken_over(first.journal, 1_000)
    async with running(bench=second):
        [resumed] = await second.engine.resume()
        assert second.engine.next_deadline() == 52_000
        second.clock.now = 51_000
        assert second.alarm.clock() == 51_000
        assert resumed.last_request_at == 50_000


async def test_a_restart_that_cannot_be_committed_is_told_to_whoever_resumes():
    async with running() as first:
        await first.engine.post("m", CLICK)
    second = await taken_over(first.journal, 60_000)
    second.journal.errors = [StorageError("disk full")]
    async with running(bench=second):
        with pytest.raises(StorageError, match="disk full"):
            await second.engine.resume()


async def test_past_sessions_are_those_of_the_journal():
    async with running() as bench:
        await bench.engine.post("m", CLICK)
        ended = await bench.engine.post("m", CancelRequested())
        await bench.engine.post("other", CLICK)
        assert await bench.engine.past_sessions("m") == [ended]
        assert await bench.engine.past_sessions("other") == []


async def test_who_waits_for_a_commit_when_the_engine_stops_is_told_so():
    outcome: list[str] = []
    bench = Bench()

    async def post() -> None:
        try:
            await bench.engine.post("m", StreamStarted())
        except NotRunning as error:
            outcome.append(str(error))

    async with anyio.create_task_group() as outer, anyio.create_task_group() as tasks:
        tasks.start_soon(bench.engine.run, bench)
        await settle()
        bench.journal.gate = anyio.Event()
        outer.start_soon(post)
        await settle()
        outer.start_soon(post)
        await settle()
        tasks.cancel_scope.cancel()
    assert outcome == ["the engine stopped before the event was committed"] * 2
    with pytest.raises(NotRunning):
        await bench.engine.post("m", InsertionWritten())


async def test_events_that_come_before_the_engine_runs_wait_for_it():
    bench = Bench()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.engine.post, "m", StreamStarted())
        await settle()
        assert bench.steps == []
        tasks.start_soon(bench.engine.run, bench)
        await settle()
        assert len(bench.steps) == 1
        tasks.cancel_scope.cancel()


async def test_the_journal_in_memory_keeps_the_last_records_only():
    journal = MemoryJournal(keep=3)
    async with running() as bench:
        session = await bench.engine.post("m", StreamStarted())
    records = [JournalRecord(session, StreamStarted(), now) for now in range(5)]
    await journal.append(records)
    assert list(journal.records) == records[2:]
