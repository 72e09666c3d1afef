"""The local engine: all sessions of this process in memory, journaled, on one event loop.

An event is handled at once, without waiting, so two events can never interleave inside the core. What came
of it is put in line; one committer takes everything that stands in the line, commits it as one group, and
only then hands on the commands, in the order of the events.

Memory is therefore a little ahead of the journal. Where the journal fails, memory goes back to what is
committed, and every fact that stood in line is handled once more and waits for the next try. A request is
not: whoever made it is told that it did not happen.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import anyio

from limner.errors import EventRefused, LimnerError, NotRunning, StorageError
from limner.states import (
    PROCESS_RESTARTED,
    SESSION,
    TIME_PASSED,
    Event,
    Session,
    SessionSettings,
    TimePassed,
    is_final,
    next_deadline,
)
from limner.states.message import REQUESTS, Opening, Step, deliver, resume
from limner.workflows.clock import Alarm
from limner.workflows.logs import brief, log
from limner.workflows.ports import Journal, JournalContents, JournalRecord, StepListener

RETRY_PAUSES_MS = (100, 200, 500, 1_000, 2_000, 5_000)
"""The pauses, in ms, before a journal that failed is tried again; the last one again and again."""


@dataclass(slots=True)
class _Handled:
    """An event that stands in line to be committed. `before` was the message's live session."""

    message_id: str
    event: Event
    now: int
    session_id: str | None
    before: Session | None
    steps: tuple[Step, ...]
    committed: anyio.Event = field(default_factory=anyio.Event)
    error: LimnerError | None = None
    refusal: EventRefused | None = None  # by what a request that stands in line has made of the session

    def records(self) -> Iterable[JournalRecord]:
        before = self.before
        for step in self.steps:
            known = before if before is not None and before.id == step.session.id else None
            yield JournalRecord(step.session, step.event, self.now, known)
            before = step.session

    def end(self, error: LimnerError | None = None) -> None:
        self.error = error
        self.committed.set()


@contextmanager
def _as_storage_errors() -> Iterator[None]:
    """A host's own journal may raise anything; callers are promised typed errors."""
    try:
        yield
    except LimnerError:
        raise
    except Exception as error:
        raise StorageError(f"the journal failed: {brief(error)}") from error


def _is_request_for(handled: _Handled, message_id: str) -> bool:
    return handled.message_id == message_id and isinstance(handled.event, REQUESTS) and not handled.refusal


class LocalEngine:
    """Runs sessions on the present event loop, asyncio's or trio's.

    `settings` are those of new sessions; sessions that have begun keep theirs.
    """

    def __init__(self, journal: Journal, alarm: Alarm, settings: SessionSettings | None = None) -> None:
        self.settings = (settings or SessionSettings()).check()
        self._journal = journal
        self._alarm = alarm
        self._taken_over: tuple[Session, ...] = ()
        self._live: dict[str, Session] = {}
        self._committed: dict[str, Session] = {}  # the live sessions as they are in the journal
        self._deadlines: list[tuple[int, str]] = []
        self._line: list[_Handled] = []
        self._group: list[_Handled] = []  # what is being committed
        self._work = anyio.Event()
        self._stopped = False
        self._failures = 0
        alarm.add(self)

    @property
    def durable(self) -> bool:
        """Whether the journal outlives the process."""
        return self._journal.durable

    async def open(self) -> JournalContents:
        """See `limner.workflows.ports.Engine.open`."""
        with _as_storage_errors():
            contents = await self._journal.open()
        self._alarm.not_before(contents.last_event_at)
        self._live, self._committed, self._line, self._group = {}, {}, [], []
        self._taken_over = contents.live
        self._stopped = False
        return contents

    async def resume(self) -> Sequence[Session]:
        """See `limner.workflows.ports.Engine.resume`."""
        now = self._alarm.clock()
        handled: list[_Handled] = []
        for session in self._taken_over:
            step = resume(session, now)
            handled.append(_Handled(session.message_id, PROCESS_RESTARTED, now, session.id, session, (step,)))
            self._keep(step.session)
        self._taken_over = ()
        self._line.extend(handled)
        self._work.set()
        return [await self._outcome(each) for each in handled]

    async def aclose(self) -> None:
        """See `limner.workflows.ports.Engine.aclose`."""
        with _as_storage_errors():
            await self._journal.aclose()

    def live_session(self, message_id: str) -> Session | None:
        """The message's live session, or None."""
        return self._live.get(message_id)

    def live_sessions(self) -> Sequence[Session]:
        """All live sessions, oldest first."""
        return tuple(self._live.values())

    async def past_sessions(self, message_id: str) -> Sequence[Session]:
        """See `limner.workflows.ports.Engine.past_sessions`."""
        with _as_storage_errors():
            return await self._journal.past_sessions(message_id)

    async def post(self, message_id: str, event: Event, *, session_id: str | None = None) -> Session:
        """See `limner.workflows.ports.Engine.post`."""
        if self._stopped:
            raise NotRunning("the engine has stopped")
        now = self._alarm.clock()
        try:
            handled = self._handle(message_id, event, session_id=session_id, now=now)
        except EventRefused as refusal:
            if self._uncommitted_request(message_id) is None:
                raise
            # A cancel or a new stream stands in the way, and may yet turn out not to have happened.
            handled = _Handled(message_id, event, now, session_id, None, (), refusal=refusal)
            self._line.append(handled)
            self._work.set()
        return await self._outcome(handled)

    def _uncommitted_request(self, message_id: str) -> _Handled | None:
        for handled in reversed((*self._group, *self._line)):
            if _is_request_for(handled, message_id):
                return handled
        return None

    async def _outcome(self, handled: _Handled) -> Session:
        await handled.committed.wait()
        if handled.error is not None:
            raise handled.error
        return handled.steps[-1].session

    async def wait_begun(self, message_id: str) -> None:
        """See `limner.workflows.ports.Engine.wait_begun`."""
        while (request := self._uncommitted_request(message_id)) is not None:
            await request.committed.wait()

    async def run(self, listener: StepListener) -> None:
        """Commit what is in line and hand on its commands, until cancelled."""
        try:
            while True:
                if not self._line:
                    self._work = anyio.Event()
                    await self._work.wait()
                await self._work_off(listener)
        finally:
            self._stopped = True
            await self._stop()

    async def _work_off(self, listener: StepListener) -> None:
        # By itself, so that nothing holds on to the last sessions until the next event comes.
        group = self._group = self._line
        self._line = []
        error = await self._commit(group)
        if error is not None:
            only_requests = all(isinstance(handled.event, REQUESTS) for handled in group)
            self._line = self._after_failure(group, self._line, error)
            self._group = []
            if not only_requests:  # facts and timers come again by themselves, and at once
                pause = RETRY_PAUSES_MS[min(self._failures, len(RETRY_PAUSES_MS)) - 1]
                await self._alarm.sleep(pause)
            return
        for handled in group:
            for step in handled.steps:
                listener.committed(step)
            handled.end(handled.refusal)
        self._group = []

    async def _stop(self) -> None:
        # A group whose commit was cut off may be in the journal; repeating it could put it there twice.
        group, self._group = self._group, []
        rest, self._line = self._line, []
        if rest and not group:
            # What has happened is kept for the next process, which also performs the commands.
            with anyio.CancelScope(shield=True):
                if await self._commit(rest) is None:
                    for handled in rest:
                        handled.end(handled.refusal)
        for handled in (*group, *rest):
            if not handled.committed.is_set():
                # Whoever still waits for a commit would wait for ever.
                handled.end(NotRunning("the engine stopped before the event was committed"))

    def next_deadline(self) -> int | None:
        """The earliest deadline of all live sessions, in ms."""
        while self._deadlines:
            deadline, message_id = self._deadlines[0]
            live = self._live.get(message_id)
            if live is not None and next_deadline(live) == deadline:
                return deadline
            heapq.heappop(self._deadlines)  # the session has moved on since this was noted
        return None

    def wake(self, now: int) -> None:
        """Run the timers of the session whose deadline is the earliest."""
        if self.next_deadline() is not None:
            self._handle(self._deadlines[0][1], TIME_PASSED, now=now)

    def _handle(
        self, message_id: str, event: Event, *, session_id: str | None = None, now: int | None = None
    ) -> _Handled:
        now = self._alarm.clock() if now is None else now
        before = self._live.get(message_id)
        steps = self._step(message_id, event, session_id, now)
        handled = _Handled(message_id, event, now, session_id, before, steps)
        self._line.append(handled)
        self._work.set()
        return handled

    def _step(self, message_id: str, event: Event, session_id: str | None, now: int) -> tuple[Step, ...]:
        live = self._live.get(message_id)
        if session_id is not None and (live is None or live.id != session_id):
            raise EventRefused(SESSION.name, "ended", event.name, f"session {session_id} is not live")
        steps = deliver(live, event, now, Opening(uuid4().hex, message_id, self.settings))
        for step in steps:
            self._keep(step.session)
        return steps

    def _keep(self, session: Session) -> None:
        if is_final(session):
            self._live.pop(session.message_id, None)
            return
        before = self._live.get(session.message_id)
        self._live[session.message_id] = session
        deadline = next_deadline(session)
        if deadline is not None and (before is None or next_deadline(before) != deadline):
            if not self._deadlines or deadline < self._deadlines[0][0]:
                self._alarm.reschedule()
            heapq.heappush(self._deadlines, (deadline, session.message_id))

    async def _commit(self, group: Sequence[_Handled]) -> StorageError | None:
        records = [record for handled in group for record in handled.records()]
        try:
            await self._journal.append(records)
        except Exception as error:  # noqa: BLE001 - a host's own journal may raise anything
            self._failures += 1
            # Timers have nobody who waits for them, so it is said here and not only to callers.
            log.critical("journal_failed", records=len(records), times=self._failures, error=brief(error))
            return (
                error
                if isinstance(error, StorageError)
                else StorageError(f"the journal failed: {brief(error)}")
            )
        if self._failures:
            log.warning("journal_works_again", after_failures=self._failures)
            self._failures = 0
        for record in records:
            session = record.session
            if is_final(session):
                self._committed.pop(session.message_id, None)
            else:
                self._committed[session.message_id] = session
        return None

    def _after_failure(
        self, group: Sequence[_Handled], rest: Sequence[_Handled], error: StorageError
    ) -> list[_Handled]:
        """Go back to what is committed, refuse the group's requests, and handle all else once more."""
        pending = [*group, *rest]
        for message_id in {handled.message_id for handled in pending}:
            self._live.pop(message_id, None)
            committed = self._committed.get(message_id)
            if committed is not None:
                self._keep(committed)
        line: list[_Handled] = []
        for number, handled in enumerate(pending):
            if isinstance(handled.event, REQUESTS) and number < len(group):
                handled.end(StorageError(str(error)))  # one each, since each is raised in another task
            elif isinstance(handled.event, TimePassed):
                handled.end()  # its timer is armed again by what was gone back to
            else:
                handled.before = self._live.get(handled.message_id)
                try:
                    handled.steps = self._step(
                        handled.message_id, handled.event, handled.session_id, handled.now
                    )
                    handled.refusal = None
                except EventRefused as refusal:
                    handled.steps, handled.refusal = (), refusal
                    if not any(_is_request_for(other, handled.message_id) for other in line):
                        handled.end(refusal)
                        continue
                line.append(handled)
        return line
