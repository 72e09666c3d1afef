"""Starting and stopping a Limner, so that nothing is left behind either way."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from types import TracebackType

import anyio
import anyio.abc

from limner.adapters.message_sqlite import SQLiteMessageStore
from limner.errors import AlreadyRunning, LimnerError, UnknownMessage
from limner.workflows.logs import log
from limner.workflows.ports import Generator
from limner.workflows.recovery import RecoveryReport
from limner.workflows.session_manager import SessionManager


class Lifecycle:
    """Runs a `SessionManager` in the background, and closes at the end what was made for it.

    `own` are the parts to be closed. `shutdown_timeout_ms` is how long `stop` waits for sessions that have
    begun to finish.
    """

    def __init__(
        self,
        manager: SessionManager,
        own: Sequence[Generator | SQLiteMessageStore],
        shutdown_timeout_ms: int,
    ) -> None:
        self._manager = manager
        self._own = own
        self._shutdown_timeout_ms = shutdown_timeout_ms
        self._exit = AsyncExitStack()
        self._tasks: anyio.abc.TaskGroup | None = None
        self._is_starting = False

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped yet."""
        return self._tasks is not None

    async def start(self) -> RecoveryReport:
        """Start, after taking over what an earlier process left in the journal."""
        if self.is_running or self._is_starting:
            raise AlreadyRunning("this Limner is running already")
        self._is_starting = True
        try:
            return await self._start()
        finally:
            self._is_starting = False

    async def _start(self) -> RecoveryReport:
        failure: LimnerError | None = None
        recovered = RecoveryReport()
        async with AsyncExitStack() as stack:
            for part in self._own:
                stack.push_async_callback(_close, part)
            tasks = await stack.enter_async_context(anyio.create_task_group())
            try:
                recovered = await tasks.start(self._manager.run)
            except LimnerError as error:
                failure = error  # raised below: out of the task group it would come in a group
            else:
                self._exit = stack.pop_all()
        if failure is not None:
            raise failure
        self._tasks = tasks
        return recovered

    async def stop(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop; the arguments are those of `__aexit__`. Without an error, sessions may finish first."""
        tasks, self._tasks = self._tasks, None
        if tasks is None:
            return
        try:
            if error is None:
                with anyio.move_on_after(self._shutdown_timeout_ms / 1000):
                    await self._finish_sessions()
            for session in self._manager.get_all_sessions():
                log.warning("session_left_unfinished", message_id=session.message_id, state=session.state)
        finally:
            tasks.cancel_scope.cancel()
            # The host's own error goes its way as it is, not in a group; a cancellation belongs to the group,
            # because it may be the group's own, after a fault in one of its tasks.
            if isinstance(error, anyio.get_cancelled_exc_class()):
                await self._exit.__aexit__(kind, error, traceback)
            else:
                await self._exit.__aexit__(None, None, None)

    async def _finish_sessions(self) -> None:
        for session in self._manager.get_all_sessions():
            if self._manager.stream(session.message_id) is not None:
                await self._cancel_quietly(session.message_id, "Limner was closed while the text still came")
        for session in self._manager.get_all_sessions():
            with suppress(UnknownMessage):  # its very first event is still being committed
                await self._manager.progress.wait_ended(session.message_id)

    async def _cancel_quietly(self, message_id: str, reason: str) -> None:
        try:
            await self._manager.cancel_session(message_id, reason)
        except LimnerError as refusal:
            log.debug("cancel_refused", message_id=message_id, why=str(refusal))


async def _close(part: Generator | SQLiteMessageStore) -> None:
    with anyio.CancelScope(shield=True):
        await part.aclose()
