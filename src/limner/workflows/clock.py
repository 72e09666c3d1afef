"""Time for the engines: a clock that never runs backwards, and the one place that sleeps.

Everything that waits for a moment (debounce, time limits, pauses, the interval between starts, polling) is
a *timed source*: it says when it wants to be woken. One `Alarm` sleeps until the earliest of them. A test
therefore needs no real time: it moves the clock and calls `ring`, which does what the alarm would have done.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from itertools import count
from typing import Protocol

import anyio

Clock = Callable[[], int]
"""Gives the present time in integer milliseconds since 1970, never less than before."""


class WallClock:
    """Wall-clock time in integer milliseconds, because deadlines outlive the process.

    If the wall clock is set back, this one goes on at the monotonic clock's pace until the wall has caught
    up. It follows jumps forward, such as the end of a suspend.
    """

    def __init__(self) -> None:
        self._now = time.time_ns() // 1_000_000
        self._monotonic = time.monotonic_ns() // 1_000_000

    def __call__(self) -> int:
        """The present time in ms since 1970."""
        monotonic = time.monotonic_ns() // 1_000_000
        elapsed = max(0, monotonic - self._monotonic)
        self._now = max(self._now + elapsed, time.time_ns() // 1_000_000)
        self._monotonic = monotonic
        return self._now

    def not_before(self, moment: int) -> None:
        """Go on from `moment` (ms) at the earliest: an earlier process was there already."""
        self._now = max(self(), moment)


class TimedSource(Protocol):
    """Something that wants to be woken at a time."""

    def next_deadline(self) -> int | None:
        """When, in ms since 1970; None: not now."""

    def wake(self, now: int) -> None:
        """Do what is due at `now`. Must not wait, and must move the deadline on."""


class Alarm:
    """Wakes timed sources at their deadlines.

    All that waits for a moment waits here: timers of sessions, retries, polls. Only the limits of calls that
    may hang are anyio's own timeouts.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._sources: list[TimedSource] = []
        self._changed = anyio.Event()
        self._sleepers = _Sleepers()
        self.add(self._sleepers)

    def not_before(self, moment: int) -> None:
        """Let the clock not run behind `moment` (ms), the latest that is in the journal.

        Deadlines outlive the process, so time must not run backwards between two of them either. A clock of
        the host's stands still until it has caught up; `WallClock` goes on from there.
        """
        if isinstance(self.clock, WallClock):
            self.clock.not_before(moment)
        elif self.clock() < moment:
            given = self.clock
            self.clock = lambda: max(given(), moment)

    def add(self, source: TimedSource) -> None:
        """Wake this source, too, from now on."""
        self._sources.append(source)

    def reschedule(self) -> None:
        """Some source's deadline has changed; look at them again."""
        self._changed.set()

    def ring(self) -> None:
        """Wake every source that is due now. Sources that become due by that are woken as well."""
        now = self.clock()
        for source in self._sources:
            deadline = source.next_deadline()
            while deadline is not None and deadline <= now:
                source.wake(now)
                deadline = source.next_deadline()

    async def run(self) -> None:
        """Sleep until the next deadline, wake whom it concerns, and so on until cancelled."""
        while True:
            self._changed = anyio.Event()
            self.ring()
            deadline = min(
                (found for source in self._sources if (found := source.next_deadline()) is not None),
                default=None,
            )
            if deadline is None:
                await self._changed.wait()
            else:
                # Event loops count in floats and may wake a hair early: then the loop goes round once more.
                with anyio.move_on_after(max(1, deadline - self.clock()) / 1000):
                    await self._changed.wait()

    async def sleep(self, duration_ms: int) -> None:
        """Wait for so many milliseconds of this alarm's clock."""
        event = anyio.Event()
        self._sleepers.add(self.clock() + duration_ms, event)
        self.reschedule()
        await event.wait()


class _Sleepers:
    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, anyio.Event]] = []
        self._order = count()

    def add(self, deadline: int, event: anyio.Event) -> None:
        heapq.heappush(self._waiting, (deadline, next(self._order), event))

    def next_deadline(self) -> int | None:
        return self._waiting[0][0] if self._waiting else None

    def wake(self, now: int) -> None:
        while self._waiting and self._waiting[0][0] <= now:
            heapq.heappop(self._waiting)[2].set()
