"""A journal that forgets: for tests, for tools that run once, and for hosts that can lose a session."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence

from limner.errors import JournalInUse
from limner.states import Session, is_final
from limner.workflows.ports import JournalContents, JournalRecord


class MemoryJournal:
    """Keeps live sessions, and the last `keep` records and ended sessions, in memory.

    Nothing survives the process. A second Limner that is given the same object after the first has gone
    takes its sessions over, which is how a test restarts without a process. One that comes before that is
    refused with `JournalInUse`, as by a journal on a disk.
    """

    durable = False

    def __init__(self, keep: int = 1_000) -> None:
        self.records: deque[JournalRecord] = deque(maxlen=keep)
        self._keep = keep
        self._live: OrderedDict[str, Session] = OrderedDict()
        self._ended: OrderedDict[str, Session] = OrderedDict()
        self._last_event_at = 0
        self._is_open = False

    @property
    def contents(self) -> JournalContents:
        """What the next Limner finds in it."""
        return JournalContents(tuple(self._live.values()), len(self._ended), self._last_event_at)

    async def open(self) -> JournalContents:
        """See `limner.workflows.ports.Journal.open`."""
        if self._is_open:
            raise JournalInUse("this MemoryJournal is in use by another Limner")
        self._is_open = True
        return self.contents

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
        """Let the next Limner have it."""
        self._is_open = False
