"""A host's own messages, through two functions: read a text, write a text."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from functools import partial
from inspect import isawaitable
from weakref import WeakValueDictionary

import anyio

from limner.adapters.message_memory import check_expected
from limner.errors import LimnerError, StorageError
from limner.workflows.ports import StoredMessage


class CallbackMessageStore:
    """A `MessageStore` for a host that has no versions: the hash of the text is the version.

    `read` returns the message's text, or None where there is no such message. `write` stores a text. Both
    may be plain or coroutine functions. Whatever they raise reaches the caller as `StorageError`.

    What this cannot do: make the check and the write one step. The text is read again right before it
    is written, so an edit made while images were being painted is noticed; an edit that falls between
    that read and the write is overwritten. Writes through one `CallbackMessageStore` never race with
    each other. A host that can compare and write in one step (`UPDATE … WHERE version = …`) should
    implement `MessageStore` itself; docs/storage.md shows how.
    """

    def __init__(
        self,
        *,
        read: Callable[[str], Awaitable[str | None] | str | None],
        write: Callable[[str, str], object],
    ) -> None:
        self._read = read
        self._write = write
        # Weak: a lock lives as long as somebody holds or awaits it, so the mapping stays small.
        self._locks: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()

    async def read(self, message_id: str) -> StoredMessage | None:
        """The message as it stands now, or None where there is none. Raises `StorageError`."""
        text = await _translated("read", message_id, partial(self._read, message_id))
        if text is None:
            return None
        if not isinstance(text, str):
            raise StorageError(
                f"could not read message {message_id!r}: got {type(text).__name__}, not a text"
            )
        return StoredMessage(text, text_version(text))

    async def write(self, message_id: str, text: str, *, expected: str | None) -> str:
        """Write `text` if the text in the store still hashes to `expected` (None: if there is none).

        Returns the hash of `text`. Raises `VersionConflict`, `MessageGone` or `StorageError`.
        """
        lock = self._locks.setdefault(message_id, anyio.Lock())
        async with lock:
            present = await self.read(message_id)
            check_expected(message_id, None if present is None else present.version, expected)
            await _translated("write", message_id, partial(self._write, message_id, text))
        return text_version(text)


def text_version(text: str) -> str:
    """A version for a text that has none: the SHA-256 of its UTF-8, in hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


async def _translated(verb: str, message_id: str, call: Callable[[], object]) -> object:
    try:
        answer = call()
        return await answer if isawaitable(answer) else answer
    except LimnerError:
        raise
    except Exception as error:  # the host's own code may raise anything; the port promises StorageError
        what = " ".join(str(error).split()) or type(error).__name__
        raise StorageError(f"could not {verb} message {message_id!r}: {what[:200]}") from error
