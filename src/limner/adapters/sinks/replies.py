"""The replies of a host that is told: their text streams into a sink, their images follow.

For asyncio, which is what all hosts of this kind run on. A host waits for the text only: most do not let the
next message through before the handler of the one before has returned.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import aclosing
from typing import Protocol

from limner.adapters.arguments import async_pieces
from limner.adapters.limner import Limner
from limner.adapters.token_text import TextOf
from limner.adapters.token_text import text_of as reader_of
from limner.states.outcome import Result
from limner.workflows.logs import brief, log
from limner.workflows.telling import Sink, Teller


class WrittenSink(Sink, Protocol):
    """A sink whose message is written while it streams. `write` and `finish` may meet the other calls.

    What `write` raises is logged, once for each reply: what it could not show is shown with the next piece,
    or by `finish`. What that raises is raised.
    """

    async def write(self, text: str) -> None:
        """Show this piece, too."""

    async def finish(self) -> None:
        """The text is complete: show all of it."""


class Replies:
    """All replies of one host. `interval_ms` is the least time between two lines of status."""

    def __init__(self, limner: Limner, *, interval_ms: int) -> None:
        self._limner = limner
        self._teller = Teller(limner.manager, interval_ms=interval_ms)
        self._followers: set[asyncio.Task[Result | None]] = set()

    async def stream(
        self,
        message_id: str,
        tokens: AsyncIterable[object],
        sink: WrittenSink,
        *,
        text_of: TextOf | None = None,
    ) -> None:
        """Stream `tokens` into the sink and return at their end; the sink is told of the images meanwhile.

        `text_of` says what the tokens are, as in `Limner.illustrate`. If `tokens` raises, or the caller is
        cancelled, the text so far is illustrated all the same.
        """
        texts = _texts(async_pieces(tokens), reader_of(text_of))
        following = failed = False
        try:
            async with aclosing(self._limner.illustrate(message_id, texts)) as pieces:
                async for piece in pieces:
                    if not following:
                        self.follow(message_id, sink)
                        following = True
                    try:
                        await sink.write(piece)
                    except Exception as error:  # noqa: BLE001 - a busy host must not cost the rest of the text
                        if not failed:
                            log.warning("sink_failed", message_id=message_id, error=brief(error))
                        failed = True
        finally:
            await sink.finish()

    async def regenerate(self, message_id: str, image_url: str, sink: Sink) -> None:
        """Ask for a new image and return; the sink is told of it. Raises what `Limner.regenerate` raises."""
        await self._limner.regenerate(message_id, image_url)
        self.follow(message_id, sink)

    def follow(self, message_id: str, sink: Sink) -> asyncio.Task[Result | None]:
        """Tell the sink of the message's session until its end. What fails is logged."""
        task = asyncio.create_task(self._tell(message_id, sink), name=f"limner tells {message_id}")
        self._followers.add(task)
        task.add_done_callback(self._followers.discard)
        return task

    async def settled(self) -> None:
        """Wait until every sink has been told the end of its session."""
        while self._followers:
            await asyncio.wait(self._followers)

    async def _tell(self, message_id: str, sink: Sink) -> Result | None:
        try:
            return await self._teller.tell(message_id, sink)
        except Exception as error:  # noqa: BLE001 - the host's own sink; nobody waits for this task
            log.warning("sink_failed", message_id=message_id, error=brief(error))
            return None


async def _texts(tokens: AsyncIterable[object], text: Callable[[object], str]) -> AsyncIterator[str]:
    async for token in tokens:
        yield text(token)
