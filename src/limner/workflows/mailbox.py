"""What one watcher has not read yet: per message at most one update of each kind, the newest.

What is not fetched in time is overwritten by what is newer. A slow watcher sees fewer steps, never wrong
ones, and never slows down the work or fills the memory. Updates are numbered in the order in which they
happened and are read in that order, so the number of the last one that was read says what is still to come.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

import anyio

from limner.errors import NotRunning

Update = TypeVar("Update")


class Mailbox(Generic[Update]):
    """The pending updates of one watcher. `wants_text`: also of the messages' texts."""

    def __init__(self, *, wants_text: bool = False) -> None:
        self.wants_text = wants_text
        self.pending: OrderedDict[tuple[str, Hashable], tuple[int, Update]] = OrderedDict()
        self._arrived = anyio.Event()
        self._closed = False

    def put(self, message_id: str, key: Hashable, number: int, update: Update) -> None:
        """Add an update, in place of an older one of the same message and key."""
        place = (message_id, key)
        self.pending.pop(place, None)
        self.pending[place] = (number, update)
        self._arrived.set()

    def put_back(self, message_id: str, key: Hashable, number: int, update: Update) -> None:
        """Put what was got back in front, unless there is a newer one of the same message and key."""
        place = (message_id, key)
        if place not in self.pending:
            self.pending[place] = (number, update)
            self.pending.move_to_end(place, last=False)
            self._arrived.set()

    def drop(self, message_id: str, *, but: Hashable) -> None:
        """Throw away what is pending of a message, except under the key `but`."""
        for place in [place for place in self.pending if place[0] == message_id and place[1] != but]:
            del self.pending[place]

    async def get(self) -> tuple[int, Update]:
        """The oldest pending update with its number. Raises `NotRunning` once it is closed and empty."""
        while not self.pending:
            if self._closed:
                raise NotRunning("Limner was closed before the session had ended")
            self._arrived = anyio.Event()
            await self._arrived.wait()
        return self.pending.popitem(last=False)[1]

    def close(self) -> None:
        """No more updates will come."""
        self._closed = True
        self._arrived.set()
