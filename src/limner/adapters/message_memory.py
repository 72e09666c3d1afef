"""Messages kept in memory: for tests, for trying Limner out, and for hosts that keep no messages."""

from __future__ import annotations

from collections.abc import Mapping

from limner.errors import MessageGone, VersionConflict
from limner.workflows.ports import StoredMessage


class MemoryMessageStore:
    """A `MessageStore` that forgets everything when the process ends.

    `messages` are the texts to begin with, by message id. `writes` counts the writes that succeeded.

    Versions are numbers that are never given out twice, not even for a message that was deleted and
    made anew: a writer that read the old one must not overwrite the new one.
    """

    def __init__(self, messages: Mapping[str, str] | None = None) -> None:
        self.writes = 0
        self._last_version = 0
        self._messages = {
            message_id: StoredMessage(text, self._new_version())
            for message_id, text in (messages or {}).items()
        }

    async def read(self, message_id: str) -> StoredMessage | None:
        """The message as it stands now, or None where there is none."""
        return self._messages.get(message_id)

    async def write(self, message_id: str, text: str, *, expected: str | None) -> str:
        """Write `text` if the version still is `expected` (None: if there is no such message yet).

        Returns the new version. Raises `VersionConflict` or `MessageGone`; nothing was written then.
        """
        # No await between the check and the write: that is what makes them one atomic step here.
        present = self._messages.get(message_id)
        check_expected(message_id, None if present is None else present.version, expected)
        written = StoredMessage(text, self._new_version())
        self._messages[message_id] = written
        self.writes += 1
        return written.version

    async def delete(self, message_id: str) -> bool:
        """Forget the message; says whether there was one."""
        return self._messages.pop(message_id, None) is not None

    async def aclose(self) -> None:
        """Nothing to release; here so that every store can be closed alike."""

    def _new_version(self) -> str:
        self._last_version += 1
        return str(self._last_version)


def check_expected(message_id: str, present: str | None, expected: str | None) -> None:
    """Compare the version that a message has with the one that a writer expects (None: no message).

    Raises `MessageGone` where the message is missing, `VersionConflict` where it is another version.
    """
    if present == expected:
        return
    if present is None:
        raise MessageGone(f"message {message_id!r} was deleted")
    if expected is None:
        raise VersionConflict(f"message {message_id!r} exists already")
    raise VersionConflict(f"message {message_id!r} was changed by someone else")
