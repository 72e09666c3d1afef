"""The coordinator: ties the engine, the processor, the streams and the insertion together.

It decides nothing about sessions. It posts events to the engine and performs the commands that come back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

import anyio
import anyio.abc

from limner.errors import (
    CallerError,
    EventRefused,
    LimnerError,
    NotRunning,
    StorageError,
    UnknownMessage,
)
from limner.states import (
    Abort,
    CancelRequested,
    Command,
    Generate,
    InsertImages,
    InsertionMode,
    InsertionWritten,
    SealStored,
    Session,
    StreamStarted,
    is_final,
)
from limner.states.limiter import Limits
from limner.states.message import Step, refuse_late_text
from limner.states.outcome import Result, result_of
from limner.text import Profile, PromptPatterns
from limner.workflows.clock import Alarm
from limner.workflows.forgetting import Forgetting
from limner.workflows.history import History
from limner.workflows.host import STORE_TIME_LIMIT_MS, call_host
from limner.workflows.insertion import deferred_images, insert_deferred_images
from limner.workflows.logs import brief, log
from limner.workflows.monitor import StreamingMonitor
from limner.workflows.ports import Engine, Generator, ImageInspector, ImageStore, MessageStore
from limner.workflows.processor import QueueProcessor
from limner.workflows.progress import ProgressManager
from limner.workflows.prompts import PromptRegistry
from limner.workflows.recovery import Recovery, RecoveryReport
from limner.workflows.regeneration import RegenerationQueue
from limner.workflows.services import Service, running
from limner.workflows.steps import Steps
from limner.workflows.streaming import MessageStream
from limner.workflows.streams import Streams
from limner.workflows.watching import Watch


class SessionManager:
    """All sessions of one process: begins them, performs what they command, and ends them."""

    def __init__(
        self,
        *,
        engine: Engine,
        generator: Generator,
        inspector: ImageInspector,
        images: ImageStore,
        store: MessageStore,
        alarm: Alarm,
        patterns: PromptPatterns,
        profile: Profile,
        limits: Limits,
        steps: Steps,
    ) -> None:
        self.engine = engine
        self.store = store
        self.alarm = alarm
        self.patterns = patterns
        self.profile = profile
        self.registry = PromptRegistry()
        self.progress = ProgressManager()
        self.processor = QueueProcessor(
            engine=engine,
            generator=generator,
            inspector=inspector,
            images=images,
            registry=self.registry,
            progress=self.progress,
            alarm=alarm,
            limits=limits,
            steps=steps,
            on_left=lambda message_id: self._forgetting.something_ended(message_id),
        )
        self._streams = Streams(self.progress)
        self._opening = anyio.Lock()
        self.history = History()
        self._regeneration = RegenerationQueue(
            engine=engine, registry=self.registry, patterns=patterns, read_text=self.read_text
        )
        self._forgetting = Forgetting(
            engine=engine,
            processor=self.processor,
            registry=self.registry,
            progress=self.progress,
            history=self.history,
            is_streaming=self._streams.__contains__,
        )
        self._tasks: anyio.abc.TaskGroup | None = None
        self._recovery = self._new_recovery()

    async def run(
        self, *, task_status: anyio.abc.TaskStatus[RecoveryReport] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Take over what an earlier process left behind, report that as started, and work until cancelled.

        Raises `JournalInUse`, `JournalUnreadable`, `StorageError` where the journal cannot be taken over.
        """
        contents = await self.engine.open()
        self._recovery = self._new_recovery()
        failure: LimnerError | None = None
        try:
            services: dict[str, Service] = {
                "limner engine": partial(self.engine.run, self),
                "limner alarm": self.alarm.run,
            }
            async with running(services), anyio.create_task_group() as tasks:
                self._tasks = tasks
                self.processor.start(tasks)
                self.progress.start()
                try:
                    task_status.started(await self._recovery.run(contents.live, contents.ended, tasks))
                    await anyio.Event().wait()
                except LimnerError as error:
                    failure = error  # raised below, since here it would come out in a group
                    tasks.cancel_scope.cancel()
                finally:
                    # Nothing new is begun from here on; what is under way may still tell how it ended.
                    self._tasks = None
                    self.processor.stop()
            if failure is not None:
                raise failure
        finally:
            self.processor.stop()
            self.progress.stop()
            with anyio.CancelScope(shield=True):
                await self.engine.aclose()

    def _new_recovery(self) -> Recovery:
        return Recovery(
            engine=self.engine,
            store=self.store,
            registry=self.registry,
            patterns=self.patterns,
            alarm=self.alarm,
        )

    # --- streaming

    async def start_streaming_session(self, message_id: str) -> MessageStream:
        """Begin to illustrate a message whose text begins to arrive. Cancels the message's session before.

        A caller that is cancelled while it waits leaves no session open. Raises `StorageError`, `NotRunning`.
        """
        stream = await self.begin_streaming_session(message_id)
        try:
            await stream.wait_opened()
        except StorageError:
            stream.close()
            raise
        except BaseException:
            stream.seal_soon()
            raise
        return stream

    async def begin_streaming_session(self, message_id: str) -> MessageStream:
        """The same, for text that must not wait for the journal; `MessageStream.seal` raises then.

        Raises `NotRunning`.
        """
        tasks = self._running()
        stream = MessageStream(
            message_id,
            engine=self.engine,
            store=self.store,
            registry=self.registry,
            progress=self.progress,
            patterns=self.patterns,
            alarm=self.alarm,
            on_open=self._streams.opened,
            on_refused=self._streams.refused,
            own_versions=self._streams.own_versions,
            on_end=self._stream_ended,
        )
        self._streams.arrive(stream)
        await stream.begin(tasks)
        return stream

    async def open_stream(self, message_id: str) -> MessageStream:
        """The message's open stream, or a new one.

        For snapshots and seals, which may come late or twice. Raises `MessageBusy` where the message's
        stream has ended and its images are still under way.
        """
        async with self._opening:
            while (stream := self.stream(message_id)) is not None:
                await stream.wait_opened()
                if self.stream(message_id) is stream:
                    return stream
            refuse_late_text(self.engine.live_session(message_id))
            return await self.start_streaming_session(message_id)

    def stream(self, message_id: str) -> MessageStream | None:
        """The message's open stream, or None. It stays open after a cancel, until the text has ended."""
        return self._streams.get(message_id)

    async def seal_stream(self, message_id: str, text: str | None) -> None:
        """Say that a message's text is final; without an open stream, open one for `text` or the stored one.

        Raises `UnknownMessage`, `MessageBusy`, `StorageError`.
        """
        stream = self.stream(message_id)
        if stream is None:
            refused = self._streams.get_refused(message_id)
            if refused is not None:
                # Its text is the message's, so it is saved first; then a session is asked for again.
                with suppress(StorageError):
                    await refused.seal(text)
                text = refused.text if text is None else text
            if text is None:
                text = await self.read_text(message_id)
            stream = await self.open_stream(message_id)
        await stream.seal(text)

    async def text(self, message_id: str) -> str:
        """The message's text: as it is streamed, and as it is stored from then on when it is saved.

        Raises `UnknownMessage`, `StorageError`.
        """
        stream = self._streams.newest_text(message_id)
        return await self.read_text(message_id) if stream is None else stream.text

    def start_monitor(self, monitor: StreamingMonitor) -> None:
        """Let a monitor poll in the background."""
        self._running().start_soon(monitor.run, name=f"limner monitor {monitor.stream.message_id}")

    # --- regeneration

    async def queue_regeneration(
        self, message_id: str, image_url: str, mode: InsertionMode = InsertionMode.REPLACE_IMAGE
    ) -> Session:
        """Ask for a new image in place of, or beside, one that stands in the message.

        Raises `RegenerationDuringStreaming`, `UnknownMessage`, `UnknownImage`, `StorageError`.
        """
        self._running()
        with _refusals_logged("regenerate", message_id):
            return await self._regeneration.queue(message_id, image_url, mode)

    async def queue_retry(self, message_id: str, prompt_id: str) -> Session:
        """Ask once more for an image that a prompt has none of, since making it failed.

        Raises `RegenerationDuringStreaming`, `UnknownMessage`, `UnknownPrompt`, `NothingToRetry`,
        `StorageError`.
        """
        self._running()
        with _refusals_logged("retry", message_id):
            return await self._regeneration.queue_retry(message_id, prompt_id)

    # --- both

    async def read_text(self, message_id: str) -> str:
        """The message's text as it is stored. Raises `UnknownMessage`, `StorageError`."""
        try:
            message = await call_host(self.store.read(message_id), STORE_TIME_LIMIT_MS)
        except StorageError:
            raise
        except Exception as error:  # a host's own store may raise anything
            raise StorageError(f"message {message_id!r} could not be read: {brief(error)}") from error
        if message is None:
            raise UnknownMessage(message_id)
        return message.text

    async def cancel_session(self, message_id: str, reason: str = "cancelled by request") -> Result:
        """Cancel the message's live session; no image of it will be inserted.

        Raises `CancelTooLate` once the write has begun or the session has ended, `UnknownMessage` where
        there never was one.
        """
        self._running()
        with _refusals_logged("cancel", message_id):
            if not self.is_active(message_id) and not await self.remember(message_id):
                raise UnknownMessage(message_id)
            return result_of(await self.engine.post(message_id, CancelRequested(reason)))

    async def wait_ended(self, message_id: str) -> Result:
        """Wait for the end of the message's live session, or give that of its last one, however long ago.

        Raises `UnknownMessage`, `NotRunning`, `StorageError`.
        """
        await self.remember(message_id)
        return await self.progress.wait_ended(message_id)

    async def remember(self, message_id: str) -> bool:
        """Look up in the journal how the message's last session ended; say whether there ever was one.

        A session that has only just begun counts as soon as that is committed. Raises `StorageError`.
        """
        await self.engine.wait_begun(message_id)
        if self.progress.is_tracking(message_id) or self._tasks is None:
            return self.progress.is_tracking(message_id)
        past = await self.engine.past_sessions(message_id)
        if past:
            self.progress.recall(past[-1])
        return bool(past)

    async def forget(self, message_id: str) -> None:
        """Drop what this process keeps of a message, once nothing of it is under way.

        A caller that does not wait for that does not undo it. Raises `NotRunning`.
        """
        await self._forgetting.forget(message_id, self._running())

    def watch(self, message_ids: Sequence[str], *, epoch: str, after: str | None, text: bool) -> Watch:
        """Follow some messages; see `limner.workflows.watching`."""
        return Watch(
            self.progress,
            message_ids,
            epoch=epoch,
            after=after,
            text=text,
            remember=self.remember,
            stream_of=self.stream,
            read_text=self.read_text,
        )

    def get_session(self, message_id: str) -> Session | None:
        """The message's live session, or None."""
        return self.engine.live_session(message_id)

    def get_all_sessions(self) -> Sequence[Session]:
        """All live sessions, oldest first."""
        return self.engine.live_sessions()

    def is_active(self, message_id: str | None = None) -> bool:
        """Whether the message (or any message) has a live session."""
        if message_id is None:
            return bool(self.engine.live_sessions())
        return self.engine.live_session(message_id) is not None

    # --- what the engine tells

    def committed(self, step: Step) -> None:
        """Perform what a committed step commands, and tell those who watch."""
        session = step.session
        if isinstance(step.event, StreamStarted):
            self._streams.session_started(session)
        self.progress.committed(step)
        self.history.committed(step, self.alarm.clock())
        if self._tasks is not None:
            self._perform_all(session, step.commands)
        if is_final(session):
            self._ended(session)

    def _perform_all(self, session: Session, commands: Sequence[Command]) -> None:
        if SealStored() in commands or self._recovery.holds(session):
            others = [command for command in commands if not isinstance(command, SealStored)]
            self._recovery.seal_stored(session, partial(self._perform_all, session, others))
            return
        for command in commands:
            self._perform(session, command)

    def _perform(self, session: Session, command: Command) -> None:
        if isinstance(command, Generate):
            self.processor.enqueue(session, command.prompt_id)
        elif isinstance(command, Abort):
            self.processor.abort(session, command.prompt_id)
        elif isinstance(command, InsertImages):
            self._running().start_soon(self._insert, session, command, name="limner insertion")

    async def _insert(self, session: Session, command: InsertImages) -> None:
        try:
            # A target may have been replaced by an earlier process; its successor is what is meant then.
            await self.registry.recall(session.message_id, self.engine)
        except StorageError as error:
            log.warning("past_not_recalled", message_id=session.message_id, error=brief(error))
        outcome = await insert_deferred_images(
            self.store,
            session.message_id,
            deferred_images(session, command.prompt_ids),
            patterns=self.patterns,
            profile=self.profile,
            replaced=self.registry.successors(session.message_id),
            alarm=self.alarm,
            may_be_written=command.may_be_written,
        )
        if isinstance(outcome, InsertionWritten):
            # Before it is told, since from the write on a click may come from a page that shows either image.
            for placed in outcome.placed:
                if placed.replaced_url is not None:
                    self.registry.link_successor(session.message_id, placed.replaced_url, placed.image_url)
        try:
            await self.engine.post(session.message_id, outcome, session_id=session.id)
        except (EventRefused, NotRunning, StorageError) as error:
            log.critical("insertion_not_recorded", message_id=session.message_id, error=str(error))

    def _ended(self, session: Session) -> None:
        self._streams.session_ended(session)
        result = result_of(session)
        log.info(
            "session_ended",
            message_id=session.message_id,
            session_id=session.id,
            kind=session.kind.value,
            state=session.state,
            placed=len(result.placed),
            unplaced=len(result.unplaced),
            failed=len(result.failed),
            cancelled=len(result.cancelled),
            problem=None if result.problem is None else result.problem.kind,
        )
        self._forgetting.something_ended(session.message_id)

    def _stream_ended(self, stream: MessageStream) -> None:
        self._streams.forget(stream)
        self._forgetting.something_ended(stream.message_id)

    def _running(self) -> anyio.abc.TaskGroup:
        if self._tasks is None:
            raise NotRunning("Limner is not running")
        return self._tasks


@contextmanager
def _refusals_logged(call: str, message_id: str) -> Iterator[None]:
    try:
        yield
    except CallerError as refusal:
        log.info("call_refused", call=call, message_id=message_id, kind=refusal.kind, why=brief(refusal))
        raise
