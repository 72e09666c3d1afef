"""Messages kept in a SQLite database, for programs that have no store of their own."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Self, TypeVar

import anyio
import anyio.to_thread

from limner.adapters.message_memory import check_expected
from limner.errors import InvalidSetting, StorageError
from limner.workflows.ports import StoredMessage

_Result = TypeVar("_Result")

# The prefix lets the tables live in a database that the host uses for other things too.
_TABLES = """
CREATE TABLE IF NOT EXISTS limner_messages (
    id BLOB PRIMARY KEY NOT NULL,
    text BLOB NOT NULL,
    version INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS limner_message_versions (last INTEGER NOT NULL);
INSERT INTO limner_message_versions SELECT 0 WHERE NOT EXISTS (SELECT * FROM limner_message_versions);
"""


class SQLiteMessageStore:
    """A `MessageStore` in one SQLite file, safe to share between processes on one machine.

    `path` is the database file; it is made where there is none, and so is its folder. `busy_timeout_ms` is
    how long a call waits for another process's write before it gives up with `StorageError`.

    The database is opened by the first call, or by entering `async with`, which shows a bad path early.
    Every call works in a worker thread, one at a time; a call that is cancelled still finishes what it
    began, so a write is never half done. Texts and ids are kept as UTF-8 with lone surrogates passed
    through, as BLOBs: SQLite's own text would stop at a NUL character and refuse a lone surrogate.
    """

    def __init__(self, path: str | os.PathLike[str], *, busy_timeout_ms: int = 5_000) -> None:
        if busy_timeout_ms < 0:
            raise InvalidSetting(f"busy_timeout_ms must not be negative, but is {busy_timeout_ms}")
        self._path = os.fspath(path)
        self._busy_timeout_ms = busy_timeout_ms
        self._connection: sqlite3.Connection | None = None
        self._closed = False
        self._one_at_a_time = anyio.CapacityLimiter(1)

    async def __aenter__(self) -> Self:
        """Open the database. Raises `StorageError` where it cannot be opened or is no database."""
        await self._in_thread(self._open)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the database."""
        await self.aclose()

    async def read(self, message_id: str) -> StoredMessage | None:
        """The message as it stands now, or None where there is none. Raises `StorageError`."""
        return await self._in_thread(lambda: self._read(message_id))

    async def write(self, message_id: str, text: str, *, expected: str | None) -> str:
        """Write `text` if the version still is `expected` (None: if there is no such message yet).

        Returns the new version, an integer as text, which this file never gives out again. Raises
        `VersionConflict`, `MessageGone` or `StorageError`; nothing was written then.
        """
        return await self._in_thread(lambda: self._write(message_id, text, expected))

    async def delete(self, message_id: str) -> bool:
        """Remove the message; says whether there was one. Raises `StorageError`."""
        return await self._in_thread(lambda: self._delete(message_id))

    async def aclose(self) -> None:
        """Close the database; the store cannot be used afterwards. Closing twice does no harm."""
        # Shielded, because a file that stays open outlives the program's own clean-up.
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._close, limiter=self._one_at_a_time)

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        return await anyio.to_thread.run_sync(self._translated, work, limiter=self._one_at_a_time)

    def _translated(self, work: Callable[[], _Result]) -> _Result:
        try:
            return work()
        except sqlite3.Error as error:
            raise StorageError(f"message database {self._path}: {error}") from error
        except OSError as error:
            raise StorageError(f"message database {self._path}: {error.strerror or error}") from error

    def _open(self) -> sqlite3.Connection:
        if self._closed:
            raise StorageError(f"message database {self._path} is closed")
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        # For ":memory:" this is the present folder, which is there.
        Path(self._path).parent.mkdir(parents=True, exist_ok=True)
        # isolation_level=None: transactions are begun by name below, not by the module's guesses.
        # check_same_thread=False: the limiter lets one thread in at a time, but not always the same one.
        connection = sqlite3.connect(
            self._path,
            timeout=self._busy_timeout_ms / 1000,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            # A read comes first, so that a file that is no database is refused before anything is changed.
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            connection.execute("PRAGMA journal_mode = WAL")
            # FULL: what a user was told was written also survives a power cut. One write per message.
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript("BEGIN IMMEDIATE;" + _TABLES + "COMMIT;")
        except BaseException:
            connection.close()
            raise
        return connection

    def _close(self) -> None:
        self._closed = True
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _read(self, message_id: str) -> StoredMessage | None:
        return _select(self._open(), message_id)

    def _write(self, message_id: str, text: str, expected: str | None) -> str:
        with _transaction(self._open()) as connection:
            present = _select(connection, message_id)
            check_expected(message_id, None if present is None else present.version, expected)
            connection.execute("UPDATE limner_message_versions SET last = last + 1")
            with closing(connection.execute("SELECT last FROM limner_message_versions")) as rows:
                version: int = rows.fetchone()[0]
            connection.execute(
                "INSERT INTO limner_messages (id, text, version) VALUES (?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET text = excluded.text, version = excluded.version",
                (_to_bytes(message_id), _to_bytes(text), version),
            )
        return str(version)

    def _delete(self, message_id: str) -> bool:
        with _transaction(self._open()) as connection:
            done = connection.execute("DELETE FROM limner_messages WHERE id = ?", (_to_bytes(message_id),))
            return done.rowcount > 0


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    # IMMEDIATE takes the write lock at once: no other process can write between our read and our write.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        # SQLite has rolled back by itself after some errors, a full disk among them.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _select(connection: sqlite3.Connection, message_id: str) -> StoredMessage | None:
    query = "SELECT text, version FROM limner_messages WHERE id = ?"
    with closing(connection.execute(query, (_to_bytes(message_id),))) as rows:
        row = rows.fetchone()
    return None if row is None else StoredMessage(row[0].decode("utf-8", "surrogatepass"), str(row[1]))


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
