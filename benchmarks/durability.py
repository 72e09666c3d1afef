"""What durability costs: events a second with the journal on and off, one durable step, and recovery."""

from __future__ import annotations

import logging
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import anyio
import structlog
from rich.console import Console
from rich.table import Table

from limner.adapters.journal_memory import MemoryJournal
from limner.adapters.journal_sqlite import Durability, SQLiteJournal
from limner.adapters.limner import Limner
from limner.adapters.local_engine import LocalEngine
from limner.adapters.message_memory import MemoryMessageStore
from limner.states import (
    Event,
    FoundPrompt,
    GenerationStarted,
    GenerationSucceeded,
    Image,
    PromptFound,
    StreamEnded,
    StreamStarted,
)
from limner.states.message import Step
from limner.workflows.clock import Alarm, WallClock
from limner.workflows.ports import (
    Journal,
    JournalRecord,
    MessageStore,
)

SESSIONS_AT_WORK = (1, 10, 100, 1_000)
ROUNDS = 5
RECOVERIES = 3
STEPS = 400
LEFT_BEHIND = 10_000
KINDS: tuple[Durability | None, ...] = (None, "process-death", "power-loss")
"""The journal in memory, and in SQLite with each durability."""


class _Nobody:
    def committed(self, step: Step) -> None:
        """Commands are not performed here."""


class _Counting(SQLiteJournal):
    groups = 0

    async def append(self, records: Sequence[JournalRecord]) -> None:
        self.groups += 1
        await super().append(records)


def _life(message_id: str, prompts: int = 2) -> list[Event]:
    found = tuple(
        FoundPrompt(f"{message_id}-{n}", "a lighthouse at night, rain on the panes") for n in range(prompts)
    )
    events: list[Event] = [StreamStarted(), *(PromptFound(prompt) for prompt in found)]
    events += [GenerationStarted(prompt.id) for prompt in found]
    events += [
        GenerationSucceeded(prompt.id, Image(f"https://images.test/{prompt.id}.png")) for prompt in found
    ]
    return [*events, StreamEnded(found)]


async def _with_engine(journal: Journal, work: Callable[[LocalEngine], Awaitable[float]]) -> float:
    engine = LocalEngine(journal, Alarm(WallClock()))
    await engine.open()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(engine.run, _Nobody())
            result = await work(engine)
            tasks.cancel_scope.cancel()
        return result
    finally:
        await engine.aclose()


async def _live(engine: LocalEngine, message_id: str) -> None:
    for event in _life(message_id):
        await engine.post(message_id, event)


async def _all_at_once(sessions: int, engine: LocalEngine) -> float:
    """Events a second, of so many sessions at work at the same time."""
    began = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for number in range(sessions):
            tasks.start_soon(_live, engine, f"m{number}")
    return sessions * len(_life("")) / (time.perf_counter() - began)


@contextmanager
def _folder() -> Iterator[Path]:
    # Where the working directory is, not in /tmp: that may be memory, where an fsync costs nothing.
    with tempfile.TemporaryDirectory(dir=".", prefix=".bench-") as folder:
        yield Path(folder)


def _events_a_second(sessions: int, durability: Durability | None) -> tuple[float, float]:
    """Events a second, and events a commit."""
    with _folder() as folder:
        if durability is None:
            return anyio.run(_with_engine, MemoryJournal(), partial(_all_at_once, sessions)), 0.0
        journal = _Counting(folder / "journal.sqlite3", durability=durability)
        speed = anyio.run(_with_engine, journal, partial(_all_at_once, sessions))
        return speed, sessions * len(_life("")) / journal.groups


def bench_events_a_second(console: Console) -> None:
    """The journal on against off, with few and with many sessions at work."""
    table = Table(title="Events a second through the engine", title_justify="left")
    for column in (
        "sessions at once",
        "in memory",
        "process-death",
        "power-loss",
        "slower by",
        "events an fsync",
    ):
        table.add_column(column, justify="right")
    for sessions in SESSIONS_AT_WORK:
        rounds = [[_events_a_second(sessions, kind) for kind in KINDS] for _ in range(ROUNDS)]
        memory, process, power = (
            statistics.median(speed for speed, _ in column) for column in zip(*rounds, strict=True)
        )
        grouped = statistics.median(row[2][1] for row in rounds)
        table.add_row(
            f"{sessions:,}",
            f"{memory:,.0f}",
            f"{process:,.0f}",
            f"{power:,.0f}",
            f"{memory / power:,.1f} ×",
            f"{grouped:,.1f}",
        )
    console.print(table)
    console.print(
        "Limit with one session: commits one after another, each with a way to a thread and back and, for\n"
        "power loss, one fsync. With many: turning events into rows in Python; they share their fsyncs.\n"
    )


def _step_times(durability: Durability | None) -> list[float]:
    times: list[float] = []

    async def work(engine: LocalEngine) -> float:
        for number in range(STEPS):
            began = time.perf_counter()
            await engine.post(f"m{number}", StreamStarted())
            times.append(time.perf_counter() - began)
        return 0.0

    with _folder() as folder:
        journal: Journal = (
            MemoryJournal()
            if durability is None
            else SQLiteJournal(folder / "journal.sqlite3", durability=durability)
        )
        anyio.run(_with_engine, journal, work)
    return sorted(times)


def _fsync_times() -> list[float]:
    """What one fsync of a grown file takes here, without anything around it."""
    times = []
    with _folder() as folder, (folder / "file").open("wb", buffering=0) as file:
        for _ in range(STEPS):
            file.write(b"x" * 4096)
            began = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return sorted(times)


def bench_one_step(console: Console) -> None:
    """From posting an event to its commit, nothing else going on."""
    table = Table(title="One durable step", title_justify="left")
    for column in ("what", "p50", "p99"):
        table.add_column(column, justify="right" if column != "what" else "left")
    measured = [
        ("in memory", _step_times(None)),
        ("SQLite, process-death", _step_times("process-death")),
        ("SQLite, power-loss", _step_times("power-loss")),
        ("one fsync of 4 kB alone", _fsync_times()),
    ]
    for what, times in measured:
        p50, p99 = (times[round(len(times) * share) - 1] for share in (0.5, 0.99))
        table.add_row(what, f"{p50 * 1e3:.2f} ms", f"{p99 * 1e3:.2f} ms")
    console.print(table)
    console.print("Limit: the fsync for power loss; else the way to the worker thread and back.\n")


async def _paint_for_ever(_prompt: str) -> bytes:
    # Every image is still under way when the process ends, and nothing but the start is measured.
    await anyio.sleep_forever()
    return b""


class _ProcessDied(Exception):
    """Leaving the block with an error finishes nothing, and so leaves what a dead process does."""


def _limner(folder: Path, store: MessageStore, durability: Durability = "power-loss") -> Limner:
    return Limner(
        _paint_for_ever,
        store=store,
        journal=folder / "journal.sqlite3",
        data_dir=folder,
        durability=durability,
    )


_TEXT = "".join(f'<img_prompt="a lighthouse at night, rain on the panes, {n}">' for n in range(2))


async def _leave_behind(folder: Path, store: MessageStore, *, sealed: bool) -> None:
    async def stream(message_id: str) -> None:
        async with may_begin:
            await limner.observe(message_id, _TEXT)
            if sealed:
                await limner.seal(message_id)
            else:
                await store.write(message_id, _TEXT, expected=None)

    may_begin = anyio.CapacityLimiter(100)
    with suppress(_ProcessDied):
        async with _limner(folder, store, "process-death") as limner:
            async with anyio.create_task_group() as tasks:
                for number in range(LEFT_BEHIND):
                    tasks.start_soon(stream, f"m{number}")
            raise _ProcessDied


async def _only_read(folder: Path) -> float:
    journal = SQLiteJournal(folder / "journal.sqlite3")
    began = time.perf_counter()
    contents = await journal.open()
    seconds = time.perf_counter() - began
    await journal.aclose()
    if len(contents.live) != LEFT_BEHIND:
        raise RuntimeError(f"{len(contents.live)} sessions found, {LEFT_BEHIND} left")
    return seconds


async def _start(folder: Path, store: MessageStore) -> float:
    limner = _limner(folder, store)
    with suppress(_ProcessDied):
        began = time.perf_counter()
        async with limner:
            seconds = time.perf_counter() - began
            raise _ProcessDied
    return seconds


def _recovery_times(*, sealed: bool) -> tuple[float, float]:
    """Seconds for reading the journal, and for the whole start."""
    with _folder() as folder:
        store = MemoryMessageStore()
        anyio.run(partial(_leave_behind, sealed=sealed), folder, store)
        read = anyio.run(_only_read, folder)
        return read, anyio.run(_start, folder, store)


def bench_recovery(console: Console) -> None:
    """A process that takes over ten thousand sessions."""
    table = Table(title=f"Taking over {LEFT_BEHIND:,} sessions, two prompts each", title_justify="left")
    for column in ("left behind", "the journal checked and read", "the whole start", "a session"):
        table.add_column(column, justify="right" if column != "left behind" else "left")
    for what, sealed in (("with its images under way", True), ("in the middle of its stream", False)):
        times = [_recovery_times(sealed=sealed) for _ in range(RECOVERIES)]
        read, whole = (statistics.median(column) for column in zip(*times, strict=True))
        table.add_row(what, f"{read:.2f} s", f"{whole:.2f} s", f"{whole / LEFT_BEHIND * 1e6:.0f} µs")
    console.print(table)
    console.print(
        "Limit: Python, for turning JSON into sessions, scanning each message once more, and one event (for\n"
        "a dead stream two) each. The messages are in memory; a store that takes its time comes on top.\n"
    )


def bench_durability(console: Console) -> None:
    """All of this page."""
    # Ten thousand sessions that are left unfinished on purpose would be ten thousand warnings.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    bench_events_a_second(console)
    bench_one_step(console)
    bench_recovery(console)
