"""Loading a model in a thread of its own, which nobody has to wait for.

It takes seconds to minutes, the first download longer, and cannot be cut short. So it belongs to no call:
whoever needs the model waits for its end, and may be cancelled at once; the load goes on, and the next one
finds it done or nearly so. A worker thread of anyio's would not do. Waited for to its end it holds up a call
that is cancelled and the block that is being left; abandoned, on asyncio, it still holds up the end of the
process, since those threads are no daemons. This one is a daemon: it reads files into memory, and nothing is
lost when it is cut off with the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Generic, TypeVar

import anyio
from anyio.from_thread import BlockingPortal

Loaded = TypeVar("Loaded")


class Load(Generic[Loaded]):
    """A call of `work` that has begun, in a thread of its own."""

    def __init__(self, work: Callable[[], Loaded]) -> None:
        self._outcome: Future[Loaded] = Future()
        threading.Thread(target=self._run, args=(work,), name="limner model", daemon=True).start()

    async def wait(self) -> Loaded:
        """What `work` has returned. Raises what it raised. Being cancelled ends the waiting, not the work."""
        arrived = anyio.Event()
        async with BlockingPortal() as portal:

            def tell(_: Any) -> None:
                # Nobody waits any more, or it was there already.
                with suppress(RuntimeError):
                    portal.call(arrived.set)

            self._outcome.add_done_callback(tell)
            if not self._outcome.done():
                await arrived.wait()
        return self._outcome.result()

    def _run(self, work: Callable[[], Loaded]) -> None:
        try:
            loaded = work()
        except BaseException as error:  # noqa: BLE001 - raised in whoever waits, and nobody may wait in vain
            self._outcome.set_exception(error)
        else:
            self._outcome.set_result(loaded)
