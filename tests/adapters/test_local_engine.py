"""The local engine: one event after another, committed before its commands are performed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from limner.adapters.local_engine import LocalEngine
from limner.adapters.memory_journal import MemoryJournal
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
    CancelRequested,
    FoundPrompt,
    Generate,
    GenerationStarted,
    InsertImages,
    InsertionWritten,
    PromptFound,
    RegenerationRequested,
    SessionSettings,
    StreamEnded,
    StreamStarted,
)
from limner.states.message import Step
from limner.workflows.clock import Alarm
from limner.workflows.ports import JournalRecord
from tests.support import ManualClock, settle

pytestmark = pytest.mark.anyio

CAT = FoundPrompt("1", "a cat")
CLICK = RegenerationRequested("node", "a cat", 0, "old.png")


class SlowJournal(MemoryJournal):
    """Commits when the test says so, and fails when it says so."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[list[JournalRecord]] = []
        self.errors: list[Exception] = []
        self.gate: anyio.Event | None = None

    async def append(self, records: Sequence[JournalRecord]) -> None:
        if self.gate is not None:
            await self.gate.wait()
        await anyio.lowlevel.checkpoint()
        if self.errors:
            raise self.errors.pop(0)
        self.groups.append(list(records))
        await super().append(records)


class Bench:
    """An engine that runs, with somebody who listens."""

    def __init__(self, settings: SessionSettings | None = None) -> None:
        self.clock = ManualClock(0)
        self.alarm = Alarm(self.clock)
        self.journal = SlowJournal()
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
async def running(settings: SessionSettings | None = None) -> AsyncIterator[Bench]:
    bench = Bench(settings)
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


@pytest.mark.parametrize("error", [StorageError("disk full"), OSError("disk full"), KeyError("disk full")])
async def test_what_cannot_be_committed_is_told_to_the_caller_and_its_commands_are_not_performed(
    error: Exception,
):
    async with running() as bench:
        await bench.engine.post("m", StreamStarted())
        bench.journal.errors = [error]
        with pytest.raises(StorageError, match="disk full"):
            await bench.engine.post("m", PromptFound(CAT))
        assert bench.commands == []
        # The engine goes on for the others.
        await bench.engine.post("n", StreamStarted())


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
