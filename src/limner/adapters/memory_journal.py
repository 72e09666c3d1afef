"""A journal that forgets: for tests, for tools that run once, and for hosts that can lose a session."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from limner.workflows.ports import JournalRecord


class MemoryJournal:
    """Keeps the last `keep` records in memory. Nothing survives the process."""

    def __init__(self, keep: int = 1_000) -> None:
        self.records: deque[JournalRecord] = deque(maxlen=keep)

    async def append(self, records: Sequence[JournalRecord]) -> None:
        """Take the records in."""
        self.records.extend(records)
