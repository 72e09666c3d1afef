"""Watching a text that somebody else writes: for hosts that cannot hand over the pieces."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import isawaitable

import anyio

from limner.workflows.clock import Alarm
from limner.workflows.logs import log
from limner.workflows.streaming import MessageStream

POLL_INTERVAL_MS = 300
"""How often a `StreamingMonitor` looks, in ms (the seed's value)."""


class StreamingMonitor:
    """Polls a host that only has the text so far, and feeds what it sees to a `MessageStream`."""

    def __init__(
        self,
        stream: MessageStream,
        read_text: Callable[[], str | Awaitable[str]],
        alarm: Alarm,
        poll_interval_ms: int = POLL_INTERVAL_MS,
    ) -> None:
        self.stream = stream
        self._read_text = read_text
        self._alarm = alarm
        self._interval_ms = poll_interval_ms
        self._scope = anyio.CancelScope()

    async def check_for_new_prompts(self) -> None:
        """Look once."""
        text = self._read_text()
        self.stream.observe(await text if isawaitable(text) else text)

    async def run(self) -> None:
        """Look, wait, and look again, until `stop` or until the stream is closed."""
        with self._scope:
            while not self.stream.closed:
                try:
                    await self.check_for_new_prompts()
                except Exception as error:  # noqa: BLE001 - the host's own function; the next look may succeed
                    log.warning("monitor_failed", message_id=self.stream.message_id, error=repr(error))
                await self._alarm.sleep(self._interval_ms)

    def stop(self) -> None:
        """Look no more."""
        self._scope.cancel()
