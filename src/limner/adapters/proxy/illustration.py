"""The pictures of one reply, from its first piece of text to the last picture.

A reply without a prompt costs a scan and no more: Limner's session is opened with the first prompt, and then
gets the text so far in one piece. The message lives in memory only and all of it is forgotten at the end: the
conversation belongs to the client, which sends all of it along each time, and a reply that was cut off by the
end of this process has nobody left to be told of it.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Self

import anyio

from limner.adapters.limner import Limner
from limner.adapters.message_memory import MemoryMessageStore
from limner.adapters.proxy.pictures import Picture
from limner.errors import LimnerError, PatternTooSlow
from limner.text import PromptMatch, PromptPatterns, PromptScanner, extract_image_prompts
from limner.workflows.insertion import deferred_images
from limner.workflows.logs import brief, log
from limner.workflows.progress_events import PromptProgress

LONGEST_REPLY = 1_000_000
"""How many characters of a reply are looked at; what a model writes beyond that passes all the same."""

LOOK_MS = 200
"""How often a reply that waits for pictures looks whether the server is stopping, in ms."""

_PIECES_AT_ONCE = 1_000
_LAST_WORDS_S = 5

Tell = Callable[[PromptProgress], Awaitable[None]]


class Illustrator:
    """Makes pictures for replies. `store` is the one that `limner` keeps its messages in.

    Once `is_stopping`, no reply waits for pictures any more.
    """

    def __init__(
        self,
        limner: Limner,
        store: MemoryMessageStore,
        patterns: PromptPatterns,
        is_stopping: Callable[[], bool],
    ) -> None:
        self.limner = limner
        self.store = store
        self.patterns = patterns
        self.is_stopping = is_stopping

    def begin(self) -> Illustration:
        """The pictures of a reply that is about to come."""
        return Illustration(self)


class Illustration:
    """One reply and its pictures. Nothing that goes wrong here is raised: the reply must not suffer.

    `failed` is then true, and there are no pictures.
    """

    def __init__(self, illustrator: Illustrator) -> None:
        self._limner = illustrator.limner
        self._store = illustrator.store
        self._patterns = illustrator.patterns
        self._is_stopping = illustrator.is_stopping
        self.message_id = f"reply-{uuid.uuid4().hex}"
        self.failed = False
        self._is_full = False
        self._scanner = PromptScanner(self._patterns)
        self._blocks: list[str] = []
        self._pieces: list[str] = []
        self._inlet = _Inlet()
        self._stream: AsyncGenerator[object, None] | None = None
        self._begun = False

    @property
    def text(self) -> str:
        """The text so far, as much of it as is looked at."""
        self._join()
        return "".join(self._blocks)

    @property
    def prompt_ids(self) -> list[str]:
        """The pictures that are known of, in the order in which they were found."""
        return [known.prompt_id for known in self._limner.manager.progress.prompts(self.message_id)]

    async def feed(self, piece: str) -> None:
        """Take in the next piece of the text."""
        # For good: with a hole in it, two halves of tags could become one.
        self._is_full = self._is_full or self._scanner.length + len(piece) > LONGEST_REPLY
        if self.failed or self._is_full:
            return
        self._pieces.append(piece)
        found = self._scanner.feed(piece)
        if self._stream is not None:
            await self._hand_on(piece)
        elif found:
            await self._attempt(self._open)
        if len(self._pieces) > _PIECES_AT_ONCE:
            self._join()

    async def seal(self) -> bool:
        """The text is complete: say whether there are pictures to wait for."""
        if self._stream is not None:
            self._inlet.piece = None
            await self._attempt(self._end)
        elif not self.failed and self._scanner.finish():
            await self._attempt(self._seal_whole)
        return self._begun and not self.failed

    async def pictures(self, tell: Tell) -> list[Picture]:
        """Wait for the pictures, in the order of the text; `tell` is awaited for each step of each."""
        known: dict[str, PromptProgress] = {}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._end_when_stopping)
            try:
                async for event in self._limner.events(self.message_id):
                    if isinstance(event, PromptProgress):
                        known[event.prompt_id] = event
                        await tell(event)
            except LimnerError as error:
                self._give_up(error)
            tasks.cancel_scope.cancel()
        if self.failed:
            return []
        session = self._limner.manager.progress.session(self.message_id)
        if session is None:
            return []
        found = {(match.prompt, match.occurrence): match for match in self._matches()}
        pictures = [
            Picture(image, known[image.prompt_id].thumbnail, match.full_match, match.start)
            for image in deferred_images(session, list(known))
            if (match := found.get((image.prompt, image.occurrence))) is not None
        ]
        return sorted(pictures, key=lambda picture: picture.position)

    async def _end_when_stopping(self) -> None:
        """Give up what is not finished when the server is on its way out; what is there is shown."""
        while not self._is_stopping():
            await self._limner.alarm.sleep(LOOK_MS)
        with suppress(LimnerError):  # it may have ended by itself
            await self._limner.cancel(self.message_id)

    def _matches(self) -> list[PromptMatch]:
        try:
            return extract_image_prompts(self.text, self._patterns)
        except PatternTooSlow:
            return extract_image_prompts(self.text, self._patterns.without_regexes())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cancel what is still under way, and forget the message."""
        if not self._begun:
            return
        with anyio.move_on_after(_LAST_WORDS_S, shield=True):
            if self._stream is not None:
                self._inlet.piece = None
                with suppress(LimnerError):
                    await anext(self._stream, None)
            with suppress(LimnerError):  # it may have ended by itself
                await self._limner.cancel(self.message_id)
            await self._store.delete(self.message_id)
        # Who does not wait does not undo it: a painter may take its time to let go.
        with anyio.move_on_after(_LAST_WORDS_S, shield=True), suppress(LimnerError):
            await self._limner.forget(self.message_id)
        with anyio.CancelScope(shield=True):
            await self._store.delete(self.message_id)  # a text that was cut off may have been saved since

    # --- what Limner is asked

    async def _open(self) -> None:
        self._begun = True
        self._stream = self._limner.illustrate(self.message_id, self._inlet)
        self._inlet.piece = self.text
        await anext(self._stream)

    async def _hand_on(self, piece: str) -> None:
        self._inlet.piece = piece
        try:
            await anext(self._stream)  # type: ignore[arg-type]  # asked before the call, for each token
        except Exception as error:  # noqa: BLE001 - as in `_attempt`
            self._give_up(error)

    async def _end(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await anext(stream, None)

    async def _seal_whole(self) -> None:
        self._begun = True
        await self._limner.seal(self.message_id, self.text)

    async def _attempt(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except Exception as error:  # noqa: BLE001 - whatever it is, the reply goes on without pictures
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self.failed = True
        self._stream = None
        log.warning("reply_not_illustrated", message_id=self.message_id, error=brief(error))

    def _join(self) -> None:
        if self._pieces:
            self._blocks.append("".join(self._pieces))
            self._pieces.clear()


class _Inlet:
    """Gives Limner the piece that was put in just before it was asked; None ends the text.

    So the text goes through Limner step by step in the reply's own task, without a queue or a task between.
    """

    def __init__(self) -> None:
        self.piece: str | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        piece, self.piece = self.piece, None
        if piece is None:
            raise StopAsyncIteration
        return piece
