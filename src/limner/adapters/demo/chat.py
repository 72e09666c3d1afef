"""The work behind the demo's page: replies are written, illustrated, stopped, and survive a restart."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import Self

import anyio
import anyio.abc

from limner.adapters.cli.errors import fault_of
from limner.adapters.cli.run import NoReply
from limner.adapters.demo.conversation import Conversation, Entry, State, Trouble
from limner.adapters.demo.storyteller import readable_lines
from limner.adapters.demo.writers import Turn, Writer
from limner.adapters.limner import Limner
from limner.adapters.message_sqlite import SQLiteMessageStore
from limner.errors import (
    AnswerTooLarge,
    CallerError,
    InvalidSetting,
    LimnerError,
    MessageGone,
    StorageError,
    UnknownMessage,
)
from limner.workflows.logs import log

LONGEST_LINE = 4_000
"""How many characters a line of the person may have."""

LONGEST_REPLY = 400_000
"""How many characters of a reply are taken: a model that never stops must not fill the memory."""

SAVE_EVERY_MS = 700
"""How often the text is saved while it is written, for a restart in the middle of it."""


class Busy(CallerError):
    """A reply is being written; the next line has to wait for it."""

    kind = "busy"
    hint = "Wait until the reply is complete, or stop it."


class ChatStore(SQLiteMessageStore):
    """The messages. One that was forgotten is not written any more, however late somebody tries."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self._forgotten: set[str] = set()

    async def write(self, message_id: str, text: str, *, expected: str | None) -> str:
        """As every store does; raises `MessageGone` for a message that was forgotten."""
        if message_id in self._forgotten:
            raise MessageGone(f"message {message_id!r} was forgotten")
        return await super().write(message_id, text, expected=expected)

    async def forget(self, message_id: str) -> None:
        """Delete a message for good. Raises `StorageError`."""
        self._forgotten.add(message_id)
        await self.delete(message_id)


class Chat:
    """The conversation and the replies that are being written. An asynchronous context manager.

    Leaving it stops the writing at once and tells nobody: what was being written counts as interrupted when
    the conversation is opened again.
    """

    def __init__(self, limner: Limner, store: ChatStore, conversation: Conversation, writer: Writer) -> None:
        self.limner = limner
        self.conversation = conversation
        self.writer = writer
        self._store = store
        self._tasks = anyio.create_task_group()
        self._writing: dict[str, anyio.CancelScope] = {}
        self._turn = anyio.Lock()  # two lines at once would both find that nobody writes

    async def __aenter__(self) -> Self:
        """Open the conversation. Raises `StorageError`."""
        await self.conversation.load()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exit_: object) -> None:
        """Stop writing."""
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)

    async def say(self, line: str) -> Entry:
        """Take a line and begin the reply to it. Raises `Busy`, `InvalidSetting`, `StorageError`."""
        if len(line) > LONGEST_LINE:
            raise InvalidSetting(
                f"a line has at most {LONGEST_LINE:,} characters, this one has {len(line):,}"
            )
        line = readable_lines(line)
        if not line:
            raise InvalidSetting("there is nothing in this line that could be read")
        async with self._turn:
            self._refuse_while_writing()
            await self.conversation.add("said", line)
            return await self._begin()

    async def again(self, message_id: str) -> Entry:
        """Write the last reply once more, in place of one that was cut short.

        Raises `Busy`, `UnknownMessage`, `InvalidSetting` where it is complete or not the last one,
        `StorageError`.
        """
        async with self._turn:
            entry = self.conversation.find(message_id)
            if entry is None or not entry.is_reply:
                raise UnknownMessage(message_id)
            self._refuse_while_writing()
            if entry != self.conversation.entries[-1] or entry.state == "written":
                raise InvalidSetting("only a last reply that was cut short is written again")
            with suppress(LimnerError):  # its images may have ended before it
                await self.limner.cancel(message_id)
            await self.conversation.drop(message_id)
            await self._store.forget(message_id)
            return await self._begin()

    async def stop(self, message_id: str) -> None:
        """Stop the text and the images of a reply. Raises `UnknownMessage`."""
        entry = self.conversation.find(message_id)
        if entry is None or not entry.is_reply:
            raise UnknownMessage(message_id)
        # The images first: a text that ends by itself would be sealed, and they would go on.
        with suppress(LimnerError):  # too late, or nothing had begun
            await self.limner.cancel(message_id)
        scope = self._writing.get(message_id)
        if scope is not None:
            scope.cancel()

    async def clear(self) -> None:
        """Stop everything and forget the conversation, its texts too. Raises `StorageError`."""
        for entry in await self.conversation.clear():
            if entry.is_reply:
                with suppress(LimnerError):
                    await self.limner.cancel(entry.id)
                if (scope := self._writing.get(entry.id)) is not None:
                    scope.cancel()
                await self._store.forget(entry.id)

    def _refuse_while_writing(self) -> None:
        if self._writing or any(entry.state == "writing" for entry in self.conversation.entries):
            raise Busy("a reply is being written")

    async def _begin(self) -> Entry:
        turns = await self._turns()
        entry = await self.conversation.add("writing")
        self._writing[entry.id] = anyio.CancelScope()
        self._tasks.start_soon(self._write, entry.id, turns, name=f"demo reply {entry.id}")
        return entry

    async def _turns(self) -> list[Turn]:
        turns: list[Turn] = []
        for entry in self.conversation.entries:
            if not entry.is_reply:
                turns.append(Turn("user", entry.text))
            else:
                with suppress(UnknownMessage):
                    turns.append(Turn("assistant", await self.limner.text(entry.id)))
        return turns

    async def _write(self, message_id: str, turns: Sequence[Turn]) -> None:
        trouble: Trouble | None = None
        try:
            with self._writing[message_id] as scope:
                async with anyio.create_task_group() as tasks:
                    draft = _Draft(message_id, self._store)
                    tasks.start_soon(draft.save_now_and_then)
                    await self._illustrate(message_id, turns, draft)
                    tasks.cancel_scope.cancel()
        except Exception as error:  # noqa: BLE001 - one reply that fails must not end the others
            fault = fault_of(error)
            trouble = Trouble(fault.kind, fault.message, getattr(_first(error), "hint", ""))
            log.warning("reply_failed", message_id=message_id, kind=fault.kind, error=fault.message)
        finally:
            del self._writing[message_id]
        state: State = "broken" if trouble else "stopped" if scope.cancelled_caught else "written"
        try:
            await self.conversation.change(message_id, state, trouble)
        except StorageError as error:
            log.warning("reply_not_noted", message_id=message_id, error=str(error))

    async def _illustrate(self, message_id: str, turns: Sequence[Turn], draft: _Draft) -> None:
        # The session begins before the writer does, so that whoever looks sees that it waits.
        async with (
            aclosing(_pieces(self.writer, turns)) as pieces,
            aclosing(self.limner.illustrate(message_id, pieces)) as illustrated,
        ):
            async for piece in illustrated:
                draft.text += piece
        if not draft.text.strip():
            raise NoReply("the model sent an empty reply")


class _Draft:
    """The text so far, saved now and then. Whatever else is written to the message has precedence."""

    def __init__(self, message_id: str, store: ChatStore) -> None:
        self.text = ""
        self._message_id = message_id
        self._store = store
        self._version: str | None = None

    async def save_now_and_then(self) -> None:
        saved = ""
        while True:
            await anyio.sleep(SAVE_EVERY_MS / 1000)
            text = self.text
            if text != saved:
                try:
                    self._version = await self._store.write(self._message_id, text, expected=self._version)
                except StorageError as error:
                    log.debug("draft_not_saved", message_id=self._message_id, error=str(error))
                    return
                saved = text


async def _pieces(writer: Writer, turns: Sequence[Turn]) -> AsyncGenerator[str, None]:
    length = 0
    async with writer.reply(turns) as pieces:
        async for piece in pieces:
            length += len(piece)
            if length > LONGEST_REPLY:
                raise AnswerTooLarge(f"the reply is longer than {LONGEST_REPLY} characters")
            yield piece


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
