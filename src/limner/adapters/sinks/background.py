"""A Limner beside a host that has a place for starting and stopping things, but none for `async with`.

A Limner's block has to be left in the task that entered it, so it gets one of its own. For asyncio, which is
what all hosts of this kind run on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from limner.adapters.limner import Limner
from limner.workflows.logs import brief, log


class BackgroundLimner:
    """Runs the Limner that `make` gives in a task of its own, from `start` to `stop`."""

    def __init__(self, make: Callable[[], Limner]) -> None:
        self._make = make
        self._starting = asyncio.Lock()
        self._started: asyncio.Future[Limner] | None = None
        self._over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> Limner:
        """The running Limner, which the first call starts. Raises what making or entering it raises."""
        async with self._starting:
            if self._started is None or self._task is None or self._task.done():
                self._started = asyncio.get_running_loop().create_future()
                self._over = asyncio.Event()
                self._task = asyncio.create_task(self._run(self._started), name="limner")
            # Shielded: who is cancelled meanwhile leaves it to the next caller, who must not start another.
            return await asyncio.shield(self._started)

    async def stop(self) -> None:
        """Leave the Limner's block, which waits for sessions that have begun to finish."""
        async with self._starting:
            self._started = None
            if self._task is not None:
                self._over.set()
                await self._task
                self._task = None

    async def _run(self, started: asyncio.Future[Limner]) -> None:
        try:
            async with self._make() as limner:
                started.set_result(limner)
                await self._over.wait()
        except Exception as error:  # noqa: BLE001 - whoever waits for the start gets it; later nobody is left
            if started.done():
                log.critical("background_failed", error=brief(error))
            else:
                started.set_exception(error)
