"""Limner put together: the class that a chat server embeds.

It chooses the parts (who paints, where messages and images are kept) and offers the seven things a host does
with them. What it does with them is in `limner.workflows`, what may happen at all in `limner.states`.
"""

from __future__ import annotations

import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Sequence,
)
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import anyio
import anyio.abc

from limner.adapters.arguments import async_pieces, check_port, check_text, profile_from, steps_from
from limner.adapters.callable import CallableGenerator
from limner.adapters.factory import generator_from
from limner.adapters.image_folder import FolderImageStore
from limner.adapters.inspection import PillowInspector
from limner.adapters.journal_sqlite import Durability, SQLiteJournal, WhenInUse
from limner.adapters.local_engine import LocalEngine
from limner.adapters.message_sqlite import SQLiteMessageStore
from limner.errors import AlreadyRunning, InvalidSetting, LimnerError, NotRunning, UnknownMessage
from limner.states import InsertionMode, OnDrainTimeout, Session, SessionSettings
from limner.states.limiter import Limits
from limner.states.outcome import Counts, Result
from limner.states.values import check_whole_number
from limner.text import DEFAULT_PATTERNS, Profile, TagPattern, compile_patterns
from limner.workflows.clock import Alarm, Clock, WallClock
from limner.workflows.logs import log
from limner.workflows.monitor import POLL_INTERVAL_MS, StreamingMonitor
from limner.workflows.overrides import Override
from limner.workflows.ports import Generator, ImageInspector, ImageStore, Journal, MessageStore
from limner.workflows.progress import ProgressEvent
from limner.workflows.recovery import RecoveryReport
from limner.workflows.session_manager import SessionManager
from limner.workflows.steps import ImageStep, PromptStep, TagsPosition

Painter = Callable[[str], Awaitable[bytes]]


class Limner:
    """Illustrates messages. Use it as `async with Limner(...) as limner:`, on asyncio or trio.

    Who and where:

    * `generator`: who paints. `"sketch"` (offline), the address of a server that speaks the AUTOMATIC1111
      API, `"openai=URL"`, `"horde"` and what else `limner.adapters.factory.generator_from` understands,
      any `async def paint(prompt) -> bytes`, or any `limner.workflows.ports.Generator`. Without one,
      what `LIMNER_GENERATOR` in the environment names, or else `"sketch"`.
    * `store`: where the messages are; without one, a SQLite file in `data_dir`.
    * `images`: where finished images go; without one, a folder in `data_dir`, with `file:` addresses.
    * `journal`: where events are kept: a file's path, or any `limner.workflows.ports.Journal`; without one,
      a SQLite file in `data_dir`. `durability` and `journal_in_use` are those of
      `limner.adapters.journal_sqlite.SQLiteJournal`, for a path.

    What and how:

    * `patterns`: what marks a prompt (see `limner.text.compile_patterns`); `in_code_fences`: also there.
    * `profile`: how an image is written, `"html"` or `"markdown"`.
    * `max_concurrent`, `max_per_message`, `min_interval_ms`: the one global limit, see `set_limits`.
    * `common_tags`: words that go before (or with `tags_position="suffix"` behind) every prompt.
    * `prompt_overrides`: which settings a prompt may ask for itself, of `"negative"`, `"seed"`, `"width"`,
      `"height"` and `"steps"`; none unless you say so. See `limner.workflows.overrides`.
    * `before_generation`, `after_generation`: steps of the host's own, one or several; see
      `limner.workflows.steps`.
    * `debounce_ms`, `drain_timeout_ms`, `image_timeout_ms`, `max_attempts`, `backoff_ms`,
      `on_drain_timeout`, `max_restarts`: see `limner.states.SessionSettings`. Times are milliseconds.
    * `shutdown_timeout_ms`: how long leaving the block waits for sessions that have begun to finish.

    Raises `InvalidSetting` or `InvalidPattern` at once for what cannot be meant.
    """

    def __init__(
        self,
        generator: Generator | Painter | str | None = None,
        *,
        store: MessageStore | None = None,
        images: ImageStore | None = None,
        journal: Journal | str | Path | None = None,
        durability: Durability = "power-loss",
        journal_in_use: WhenInUse = "refuse",
        data_dir: str | Path = "limner-data",
        patterns: Iterable[str | TagPattern] = DEFAULT_PATTERNS,
        in_code_fences: bool = True,
        profile: Profile | Literal["html", "markdown"] = "html",
        inspector: ImageInspector | None = None,
        common_tags: str = "",
        tags_position: TagsPosition = "prefix",
        prompt_overrides: Collection[Override] = (),
        before_generation: PromptStep | Sequence[PromptStep] = (),
        after_generation: ImageStep | Sequence[ImageStep] = (),
        max_concurrent: int = 4,
        max_per_message: int = 3,
        min_interval_ms: int = 0,
        debounce_ms: int = 2_000,
        drain_timeout_ms: int = 300_000,
        image_timeout_ms: int = 120_000,
        max_attempts: int = 3,
        backoff_ms: int = 1_000,
        on_drain_timeout: OnDrainTimeout | Literal["fail", "insert"] = "fail",
        max_restarts: int = 3,
        shutdown_timeout_ms: int = 30_000,
        clock: Clock | None = None,
    ) -> None:
        if on_drain_timeout not in tuple(OnDrainTimeout):
            raise InvalidSetting(f"on_drain_timeout must be 'fail' or 'insert', not {on_drain_timeout!r}")
        settings = SessionSettings(
            debounce_ms=debounce_ms,
            drain_timeout_ms=drain_timeout_ms,
            image_timeout_ms=image_timeout_ms,
            max_attempts=max_attempts,
            backoff_ms=backoff_ms,
            on_drain_timeout=OnDrainTimeout(on_drain_timeout),
            max_restarts=max_restarts,
        ).check()
        limits = Limits(max_concurrent, max_per_message, min_interval_ms).check()
        folder = Path(data_dir)
        self._own: list[Generator | SQLiteMessageStore] = []
        self.generator = self._generator(generator)
        check_port("store", store, "read", "write")
        check_port("images", images, "put")
        if journal is None or isinstance(journal, (str, Path)):
            path = folder / "journal.sqlite3" if journal is None else journal
            journal = SQLiteJournal(path, durability=durability, in_use=journal_in_use)
        check_port("journal", journal, "open", "append", "past_sessions", "aclose")
        if not isinstance(getattr(journal, "durable", None), bool):
            raise InvalidSetting(
                f"journal={journal!r:.60} cannot be used: its `durable` is not True or False"
            )
        check_port("inspector", inspector, "inspect", "thumbnail")
        if store is None:
            store = SQLiteMessageStore(folder / "messages.sqlite3")
            self._own.append(store)
        self.store = store
        self.alarm = Alarm(clock or WallClock())
        self.manager = SessionManager(
            engine=LocalEngine(journal, self.alarm, settings),
            generator=self.generator,
            inspector=inspector or PillowInspector(),
            images=images or FolderImageStore(folder / "images"),
            store=store,
            alarm=self.alarm,
            patterns=compile_patterns(patterns, in_code_fences=in_code_fences),
            profile=profile_from(profile),
            limits=limits,
            steps=steps_from(
                common_tags, tags_position, before_generation, after_generation, prompt_overrides
            ),
        )
        check_whole_number("shutdown_timeout_ms", shutdown_timeout_ms, 0)
        self._shutdown_timeout_ms = shutdown_timeout_ms
        self._exit = AsyncExitStack()
        self._tasks: anyio.abc.TaskGroup | None = None
        self._is_starting = False
        self.recovered = RecoveryReport()
        """What the last start found in the journal."""

    def _generator(self, given: Generator | Painter | str | None) -> Generator:
        given = os.environ.get("LIMNER_GENERATOR") or "sketch" if given is None else given
        if isinstance(given, str):
            made = generator_from(given)
            self._own.append(made)
            return made
        if isinstance(given, Generator):
            return given
        if callable(given):
            return CallableGenerator(given)
        raise InvalidSetting(f"generator must be a name, a coroutine function or a Generator, not {given!r}")

    async def __aenter__(self) -> Self:
        """Start, after taking over what an earlier process left in the journal; see `recovered`.

        Raises `JournalInUse`, `JournalDamaged`, `JournalTooNew`, `JournalUnreadable`, `StorageError`.
        """
        if self._tasks is not None or self._is_starting:
            raise AlreadyRunning("this Limner is running already")
        self._is_starting = True
        try:
            return await self._start()
        finally:
            self._is_starting = False

    async def _start(self) -> Self:
        failure: LimnerError | None = None
        async with AsyncExitStack() as stack:
            for part in self._own:
                stack.push_async_callback(_close, part)
            tasks = await stack.enter_async_context(anyio.create_task_group())
            try:
                self.recovered = await tasks.start(self.manager.run)
            except LimnerError as error:
                failure = error  # raised below: out of the task group it would come in a group
            else:
                self._exit = stack.pop_all()
        if failure is not None:
            raise failure
        self._tasks = tasks
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        tasks, self._tasks = self._tasks, None
        if tasks is None:
            return None
        try:
            if error is None:
                with anyio.move_on_after(self._shutdown_timeout_ms / 1000):
                    await self._finish_sessions()
            for session in self.manager.get_all_sessions():
                log.warning("session_left_unfinished", message_id=session.message_id, state=session.state)
        finally:
            tasks.cancel_scope.cancel()
            # The host's own error goes its way as it is, not in a group; a cancellation belongs to the group,
            # because it may be the group's own, after a fault in one of its tasks.
            if isinstance(error, anyio.get_cancelled_exc_class()):
                await self._exit.__aexit__(kind, error, traceback)
            else:
                await self._exit.__aexit__(None, None, None)
        return None

    async def _finish_sessions(self) -> None:
        for session in self.manager.get_all_sessions():
            if self.manager.stream(session.message_id) is not None:
                await self._cancel_quietly(session.message_id, "Limner was closed while the text still came")
        for session in self.manager.get_all_sessions():
            with suppress(UnknownMessage):  # its very first event is still being committed
                await self.manager.progress.wait_ended(session.message_id)

    async def _cancel_quietly(self, message_id: str, reason: str) -> None:
        try:
            await self.manager.cancel_session(message_id, reason)
        except LimnerError as refusal:
            log.debug("cancel_refused", message_id=message_id, why=str(refusal))

    # --- a message's text

    async def illustrate(
        self, message_id: str, tokens: AsyncIterable[str] | Iterable[str], *, seal: bool = True
    ) -> AsyncGenerator[str, None]:
        """Pass a message's text through, piece by piece, and illustrate it on the way.

        Each piece is handed on at once. When the last one has come, the text is sealed: it is saved where
        the store lacks it (see `limner.states.sealing.settle_text`) and scanned once more. If `tokens`
        raises, or you stop early, the text so far is sealed all the same, since that is what the reader
        has. (Who breaks out of the loop does well to hold this in `contextlib.aclosing`; otherwise it is
        sealed when it is thrown away, or after ten minutes without a piece.) With `seal=False` all that
        waits for your call of `seal`. `tokens` may also be a `str`, a message that arrives whole.

        A live session of the same message is cancelled first. Raises `StorageError` at the end if the
        store could not be asked.
        """
        self._check_call(message_id)
        pieces = async_pieces(tokens)
        whole = tokens if isinstance(tokens, str) else None
        stream = await self.manager.start_streaming_session(message_id)
        complete = False
        try:
            if isinstance(tokens, str):
                if not seal:
                    stream.observe(tokens)
                yield tokens
            else:
                async for token in pieces:
                    stream.feed(token)
                    yield token
            complete = True
        finally:
            if seal and not complete:
                # Nothing may wait here: this also runs when the generator is thrown away.
                stream.seal_soon(whole)
        if seal:
            await stream.seal(whole)

    async def observe(self, message_id: str, text: str) -> None:
        """Take in a snapshot: all the text that the message has so far. End it with `seal`.

        For hosts that cannot hand over the pieces. The first snapshot begins the session. The text may be
        rewritten between two snapshots. After a `cancel` snapshots are taken in, and ignored, until the
        `seal`. Raises `MessageBusy` while the message's images are still under way after a seal.
        """
        self._check_call(message_id)
        if not isinstance(text, str):
            raise InvalidSetting(f"text must be a str, not {type(text).__name__}")
        stream = await self.manager.open_stream(message_id)
        stream.observe(text)

    @asynccontextmanager
    async def monitor(
        self,
        message_id: str,
        read_text: Callable[[], str | Awaitable[str]],
        *,
        poll_interval_ms: int = POLL_INTERVAL_MS,
    ) -> AsyncIterator[StreamingMonitor]:
        """Poll `read_text` for the text so far while the block runs; at its end look once more and seal."""
        self._check_call(message_id)
        check_whole_number("poll_interval_ms", poll_interval_ms, 1)
        stream = await self.manager.start_streaming_session(message_id)
        monitor = StreamingMonitor(stream, read_text, self.alarm, poll_interval_ms)
        self.manager.start_monitor(monitor)
        try:
            yield monitor
        except BaseException:
            stream.seal_soon()
            raise
        finally:
            monitor.stop()
        try:
            await monitor.check_for_new_prompts()
        finally:
            stream.seal_soon()
        await stream.seal()

    async def seal(self, message_id: str, text: str | None = None) -> None:
        """Say that a message's text is final, and illustrate what is in it.

        `text` is the final text, where the host knows better than what was streamed. For a message
        without an open stream this is the whole job: `text`, or what the store has, is illustrated;
        prompts that an image follows already are left as they are.

        Raises `UnknownMessage` where there is neither a stream nor a text; `MessageBusy` while the
        message's images are under way already; `StorageError`.
        """
        self._check_call(message_id)
        if self.manager.stream(message_id) is None and text is None:
            text = await self.manager.read_text(message_id)
        stream = await self.manager.open_stream(message_id)
        await stream.seal(text)

    # --- its images

    async def finished(self, message_id: str) -> Result:
        """Wait until the message's session is over, and say what was placed, what was not, and why.

        Gives the last session's result where none is live. Raises `UnknownMessage`, and `StorageError` where
        the journal had to be asked for the message's past and could not be read.
        """
        self._check_call(message_id, tracked=True)
        return await self.manager.wait_ended(message_id)

    async def regenerate(
        self,
        message_id: str,
        image_url: str,
        *,
        mode: InsertionMode
        | Literal["replace-image", "append-after-image", "append-after-prompt"] = "replace-image",
    ) -> None:
        """Ask for a new image from the prompt of one that stands in the message; returns at once.

        Clicks within `debounce_ms` of each other are one batch and one write; await `finished` for it. A
        click on an image that was replaced meanwhile is meant for its successor.

        Raises `RegenerationDuringStreaming`, `UnknownMessage`, `UnknownImage`, `StorageError`.
        """
        try:
            wanted = InsertionMode(mode)
        except ValueError:
            modes = ", ".join(repr(known.value) for known in InsertionMode)
            raise InvalidSetting(f"mode must be one of {modes}, not {mode!r}") from None
        self._check_call(message_id)
        check_text("image_url", image_url)
        await self.manager.queue_regeneration(message_id, image_url, wanted)

    async def cancel(self, message_id: str) -> Result:
        """Cancel the message's session: no image of it will be inserted, finished ones stay listed.

        Raises `CancelTooLate` once the write has begun or all is over, `UnknownMessage`.
        """
        self._check_call(message_id)
        return await self.manager.cancel_session(message_id)

    def events(self, message_id: str, *, follow: bool = False) -> AsyncIterator[ProgressEvent]:
        """The message's progress, from where it stands: counts, thumbnails, fractions, the end.

        Ends with the session. With `follow` it waits for the first one, if there was none yet, and goes on
        with the next. A slow reader misses steps in between, never the newest state. At the first step it
        raises `UnknownMessage` (without `follow`), and `StorageError` where the journal had to be asked for
        the message's past and could not be read.
        """
        self._check_call(message_id, tracked=True)
        return self.manager.progress.events(message_id, follow=follow, remember=self.manager.remember)

    # --- the whole

    def _check_call(self, message_id: str, *, tracked: bool = False) -> None:
        check_text("message_id", message_id)
        # What is known of a session can be asked for after the block, too.
        if self._tasks is None and not (tracked and self.manager.progress.is_tracking(message_id)):
            raise NotRunning("Limner is not running")

    def counts(self, message_id: str) -> Counts:
        """How many of the message's images wait, run, are finished or failed; all zero if unknown."""
        return self.manager.progress.counts(message_id)

    def sessions(self) -> tuple[Session, ...]:
        """All live sessions, oldest first."""
        return tuple(self.manager.get_all_sessions())

    def set_limits(
        self,
        *,
        max_concurrent: int | None = None,
        max_per_message: int | None = None,
        min_interval_ms: int | None = None,
    ) -> Limits:
        """Change the global limit while running, and return what is in force.

        `max_concurrent` images at once, `max_per_message` of one message, starts `min_interval_ms` apart.
        Calls that run go on; a lower limit is reached as they finish. Raises `InvalidSetting`.
        """
        given = {
            "max_concurrent": max_concurrent,
            "max_per_message": max_per_message,
            "min_interval_ms": min_interval_ms,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        self.manager.processor.change_limits(self.manager.processor.limits._replace(**changes))
        return self.manager.processor.limits


async def _close(part: Generator | SQLiteMessageStore) -> None:
    with anyio.CancelScope(shield=True):
        await part.aclose()
