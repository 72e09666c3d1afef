"""The local engine: all sessions of this process in memory, journaled, on one event loop.

An event is handled at once, without waiting, so two events can never interleave inside the core. What came
of it is put in line; one committer takes everything that stands in the line, commits it as one group, and
only then hands on the commands, in the order of the events.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import uuid4

import anyio

from limner.errors import EventRefused, NotRunning, StorageError
from limner.states import SESSION, TIME_PASSED, Event, Session, SessionSettings, is_final, next_deadline
from limner.states.message import Opening, Step, deliver
from limner.workflows.clock import Alarm
from limner.workflows.logs import brief, log
from limner.workflows.ports import Journal, JournalRecord, StepListener


@dataclass(slots=True)
class _Handled:
    steps: tuple[Step, ...]
    now: int
    committed: anyio.Event = field(default_factory=anyio.Event)
    error: StorageError | NotRunning | None = None


class LocalEngine:
    """Runs sessions on the present event loop, asyncio's or trio's.

    `settings` are those of new sessions; sessions that have begun keep theirs.
    """

    def __init__(self, journal: Journal, alarm: Alarm, settings: SessionSettings | None = None) -> None:
        self.settings = (settings or SessionSettings()).check()
        self._journal = journal
        self._alarm = alarm
        self._live: dict[str, Session] = {}
        self._deadlines: list[tuple[int, str]] = []
        self._line: list[_Handled] = []
        self._work = anyio.Event()
        self._stopped = False
        alarm.add(self)

    def live_session(self, message_id: str) -> Session | None:
        """The message's live session, or None."""
        return self._live.get(message_id)

    def live_sessions(self) -> Sequence[Session]:
        """All live sessions, oldest first."""
        return tuple(self._live.values())

    async def post(self, message_id: str, event: Event, *, session_id: str | None = None) -> Session:
        """See `limner.workflows.ports.Engine.post`."""
        if self._stopped:
            raise NotRunning("the engine has stopped")
        if session_id is not None:
            live = self._live.get(message_id)
            if live is None or live.id != session_id:
                raise EventRefused(SESSION.name, "ended", event.name, f"session {session_id} is not live")
        handled = self._handle(message_id, event)
        await handled.committed.wait()
        if handled.error is not None:
            raise handled.error
        return handled.steps[-1].session

    async def run(self, listener: StepListener) -> None:
        """Commit what is in line and hand on its commands, until cancelled."""
        self._stopped = False
        group: list[_Handled] = []
        try:
            while True:
                if not self._line:
                    self._work = anyio.Event()
                    await self._work.wait()
                group, self._line = self._line, []
                error = await self._commit(group)
                for handled in group:
                    handled.error = error
                    if error is None:
                        for step in handled.steps:
                            listener.committed(step)
                    handled.committed.set()
        finally:
            # Whoever still waits for a commit would wait for ever.
            self._stopped = True
            for handled in (*group, *self._line):
                if not handled.committed.is_set():
                    handled.error = NotRunning("the engine stopped before the event was committed")
                    handled.committed.set()
            self._line = []

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
            self._handle(self._deadlines[0][1], TIME_PASSED, now)

    def _handle(self, message_id: str, event: Event, now: int | None = None) -> _Handled:
        now = self._alarm.clock() if now is None else now
        opening = Opening(uuid4().hex, message_id, self.settings)
        steps = deliver(self._live.get(message_id), event, now, opening)
        for step in steps:
            self._keep(step.session)
        handled = _Handled(steps, now)
        self._line.append(handled)
        self._work.set()
        return handled

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
        records = [
            JournalRecord(step.session, step.event, handled.now)
            for handled in group
            for step in handled.steps
        ]
        try:
            await self._journal.append(records)
        except Exception as error:  # noqa: BLE001 - a host's own journal may raise anything
            # Timers have nobody who waits for them, so it is said here and not only to callers.
            log.critical("journal_failed", records=len(records), error=brief(error))
            return (
                error
                if isinstance(error, StorageError)
                else StorageError(f"the journal failed: {brief(error)}")
            )
        return None
