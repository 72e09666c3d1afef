"""Letting go of a message: once nothing of it is under way, what this process keeps of it is dropped.

A session that has ended may leave work behind it: a text whose last pieces still come, a painter that has not
yet noticed that nobody wants the image. Each of them would make the message known again.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio
import anyio.abc

from limner.errors import NotRunning
from limner.states import is_final
from limner.workflows.history import History
from limner.workflows.ports import Engine
from limner.workflows.processor import QueueProcessor
from limner.workflows.progress import ProgressManager
from limner.workflows.prompts import PromptRegistry


class Forgetting:
    """Waits for what is under way, then forgets. `is_streaming` says whether a message's text still comes."""

    def __init__(
        self,
        *,
        engine: Engine,
        processor: QueueProcessor,
        registry: PromptRegistry,
        progress: ProgressManager,
        history: History,
        is_streaming: Callable[[str], bool],
    ) -> None:
        self._engine = engine
        self._processor = processor
        self._registry = registry
        self._progress = progress
        self._history = history
        self._is_streaming = is_streaming
        self._waiting: dict[str, anyio.Event] = {}

    def something_ended(self, message_id: str) -> None:
        """Take note that a session, a text or an image of the message has ended."""
        waiting = self._waiting.pop(message_id, None)
        if waiting is not None:
            waiting.set()

    async def forget(self, message_id: str, tasks: anyio.abc.TaskGroup) -> None:
        """Forget the message as soon as nothing of it is under way; in `tasks`, whether one waits or not.

        Raises `NotRunning` where `tasks` are cancelled before that.
        """
        over = anyio.Event()
        forgotten = False

        async def forget() -> None:
            nonlocal forgotten
            try:
                await self._wait_until_over(message_id)
                self._drop(message_id)
                forgotten = True
            finally:
                over.set()

        tasks.start_soon(forget, name=f"limner forgets {message_id}")
        await over.wait()
        if not forgotten:
            raise NotRunning("Limner was closed before the message could be forgotten")

    async def _wait_until_over(self, message_id: str) -> None:
        # Anew before each look: a click that stands in line counts as live, and may be refused.
        await self._engine.wait_begun(message_id)
        while self._is_under_way(message_id):
            await self._waiting.setdefault(message_id, anyio.Event()).wait()
            await self._engine.wait_begun(message_id)

    def _drop(self, message_id: str) -> None:
        session = self._progress.session(message_id)
        if session is not None:
            self._processor.forget(session.prompts)
        self._registry.forget([message_id])
        self._history.forget(message_id)
        self._progress.forget(message_id)

    def _is_under_way(self, message_id: str) -> bool:
        committed = self._progress.session(message_id)
        return (
            self._engine.live_session(message_id) is not None
            or (committed is not None and not is_final(committed))
            or self._is_streaming(message_id)
            or self._processor.works_on(message_id)
        )
