"""What has to run as long as anything else does, and is stopped last."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio

Service = Callable[[], Coroutine[Any, Any, None]]

LAST_WORDS_MS = 5_000
"""How long what is under way may take to tell how it ended, when everything is stopped, in ms."""


@asynccontextmanager
async def running(services: Mapping[str, Service]) -> AsyncIterator[None]:
    """Run the services, by their names, during the block, and after it as long as it takes to stop them.

    A cancellation reaches them last: an image that was just finished has still to be recorded, or the next
    process would pay for it again.
    """
    over = anyio.Event()
    scope = anyio.CancelScope(shield=True)

    async def serve() -> None:
        with scope:
            async with anyio.create_task_group() as tasks:
                for name, service in services.items():
                    tasks.start_soon(service, name=name)

    async def stop() -> None:
        try:
            await over.wait()
        finally:
            # A journal that cannot be written, or an image store that hangs, must not hold up the end.
            with anyio.move_on_after(LAST_WORDS_MS / 1000, shield=True):
                await over.wait()
            scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        tasks.start_soon(stop)
        try:
            yield
        finally:
            over.set()
