"""Two event loops that run tasks in an order chosen by a seed, in virtual time.

The code under test is the real one. Only who runs next is drawn, and when nobody can run, time jumps to the
next timer, so minutes pass in milliseconds. The same seed gives the same run. Note that asyncio promises to
run callbacks in the order in which they were scheduled and `SeededLoop` breaks that promise on purpose: a
failure that leans on that order would not happen on a real loop (but may on the next version of one).
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import trio._core._run as trio_run
from trio.testing import MockClock


class Deadlock(RuntimeError):
    """Nobody can run, and no timer will ever change that."""


class SeededLoop(asyncio.SelectorEventLoop):
    """Runs one ready callback at a time, drawn by the seed. Knows no sockets and no threads."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._dice = random.Random(seed)
        self._virtual = 0.0

    def time(self) -> float:
        return self._virtual

    def _run_once(self) -> None:
        ready: Any = self._ready  # type: ignore[attr-defined]
        timers: Any = self._scheduled  # type: ignore[attr-defined]
        if not ready:
            while timers and timers[0]._cancelled:
                heapq.heappop(timers)._scheduled = False
            if timers:
                self._virtual = max(self._virtual, timers[0]._when)
            elif not self._stopping:  # type: ignore[attr-defined]
                raise Deadlock
        while timers and timers[0]._when <= self._virtual:
            timer = heapq.heappop(timers)
            timer._scheduled = False
            if not timer._cancelled:
                ready.append(timer)
        if ready:
            turn = self._dice.randrange(len(ready))
            ready.rotate(-turn)
            handle = ready.popleft()
            ready.rotate(turn)
            if not handle._cancelled:
                handle._run()


def run_seeded(backend: str, seed: int, scenario: Callable[[int], Awaitable[Any]]) -> Any:
    """Run `scenario(seed)` on `backend`, in the order and the virtual time of the seed."""
    if backend == "asyncio":
        options: dict[str, Any] = {"loop_factory": lambda: SeededLoop(seed)}
    else:
        # trio has no public seed for its scheduler; these two names are what its own tests use.
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
        trio_run._r.seed(seed)
        options = {"clock": MockClock(autojump_threshold=0)}
    try:
        return anyio.run(scenario, seed, backend=backend, backend_options=options)
    finally:
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = False  # type: ignore[misc]


@contextmanager
def threads_inline() -> Iterator[None]:
    """Run on the loop what would run in a worker thread, where others get their turn before and after it.

    For code that works in threads, such as all that is on SQLite; a thread would run in real time.
    """

    async def run_sync(
        work: Callable[..., Any],
        *args: Any,
        abandon_on_cancel: bool = False,
        cancellable: bool | None = None,
        limiter: anyio.CapacityLimiter | None = None,
    ) -> Any:
        await anyio.lowlevel.checkpoint()
        with anyio.CancelScope(shield=not abandon_on_cancel):
            async with limiter or nullcontext():
                await anyio.lowlevel.checkpoint()
                result = work(*args)
                await anyio.lowlevel.checkpoint()
                return result

    threads: Any = anyio.to_thread
    in_thread = threads.run_sync
    threads.run_sync = run_sync
    try:
        yield
    finally:
        threads.run_sync = in_thread


def virtual_milliseconds() -> int:
    """A clock for Limner that is the running loop's own virtual time, in whole ms."""
    return 1_700_000_000_000 + round(anyio.current_time() * 1000)
