"""A journal that forgets: for tests, for tools that run once, and for hosts that can lose a session."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence

from limner.states import Session, is_final
from limner.workflows.ports import JournalContents, JournalRecord


class MemoryJournal:
    """Keeps live sessions, and the last `keep` records and ended sessions, in memory.

    Nothing survives the process. A second Limner that is given the same object after the first has gone
    takes its sessions over, which is how a test restarts without a process.
    """

    durable = False

    def __init__(self, keep: int = 1_000) -> None:
        self.records: deque[JournalRecord] = deque(maxlen=keep)
        self._keep = keep
        self._live: OrderedDict[str, Session] = OrderedDict()
        self._ended: OrderedDict[str, Session] = OrderedDict()
        self._last_event_at = 0

    async def open(self) -> JournalContents:
        """What is in it."""
        return JournalContents(tuple(self._live.values()), len(self._ended), self._last_event_at)

    async def append(self, records: Sequence[JournalRecord]) -> None:
        """Take the records in."""
        self.records.extend(records)
        for record in records:
            self._last_event_at = max(self._last_event_at, record.now)
            session = record.session
            if is_final(session):
                self._live.pop(session.id, None)
                self._ended[session.id] = session
            else:
                self._live[session.id] = session
        while len(self._ended) > self._keep:
            self._ended.popitem(last=False)

    async def past_sessions(self, message_id: str) -> Sequence[Session]:
        """The message's ended sessions that are kept, oldest first."""
        return [session for session in self._ended.values() if session.message_id == message_id]

    async def aclose(self) -> None:
        """Nothing to release."""
