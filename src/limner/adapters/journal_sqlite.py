"""The journal in one SQLite file: what the local engine commits before anything is done about it."""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Literal, TypeVar

import anyio
import anyio.to_thread
from filelock import FileLock, Timeout

from limner.adapters.journal_files import check_header, check_whole, connect, create, told_for
from limner.adapters.journal_format import (
    BadRow,
    EventRow,
    event_body,
    message_key,
    prompt_body,
    read_body,
    session_body,
    to_session,
)
from limner.errors import InvalidSetting, JournalDamaged, JournalInUse, StorageError
from limner.states import Session, StreamEnded, is_final
from limner.workflows.logs import log
from limner.workflows.ports import JournalContents, JournalRecord

_Result = TypeVar("_Result")

Durability = Literal["power-loss", "process-death"]
WhenInUse = Literal["refuse", "wait"]

_SYNCHRONOUS = {"power-loss": "FULL", "process-death": "NORMAL"}
_LOOK_AGAIN_S = 0.25

_LIVE_PROMPTS = """
SELECT prompts.body, prompts.crc FROM prompts JOIN sessions ON sessions.number = prompts.session
WHERE sessions.live
"""
_PUT_SESSION = """
INSERT INTO sessions (id, message, live, changed_at, body, crc) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET live = excluded.live, changed_at = excluded.changed_at,
    body = excluded.body, crc = excluded.crc
RETURNING number
"""
_PUT_PROMPT = """
INSERT INTO prompts (session, id, body, crc) VALUES (?, ?, ?, ?)
ON CONFLICT (session, id) DO UPDATE SET body = excluded.body, crc = excluded.crc
"""
_PUT_EVENT = "INSERT INTO events (session, body, crc) VALUES (?, ?, ?)"


class SQLiteJournal:
    """A `Journal` in one SQLite file (WAL), for one process at a time.

    `path` is the file; it is made where there is none, and so is its folder. Beside it stand SQLite's own
    `-wal` and `-shm`, which belong to it, and an empty `.lock`.

    `durability` says what a committed event survives. `"power-loss"`: the machine losing its power, too; each
    group of events waits for one fsync. `"process-death"`: the process being killed in any way, but after a
    power cut the last events before it may be missing (the file is whole all the same); no fsync is waited
    for.

    `in_use` says what `open` does while another process has the journal: `"refuse"` raises `JournalInUse`,
    `"wait"` waits until it lets go or dies. `busy_timeout_ms` is how long a call waits for somebody who
    holds SQLite's own lock, such as `limner sessions prune`.

    Every call works in a worker thread, one at a time; a call that is cancelled finishes what it began.
    """

    durable = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "power-loss",
        in_use: WhenInUse = "refuse",
        busy_timeout_ms: int = 5_000,
    ) -> None:
        if durability not in _SYNCHRONOUS:
            raise InvalidSetting(f"durability must be 'power-loss' or 'process-death', not {durability!r}")
        if in_use not in {"refuse", "wait"}:
            raise InvalidSetting(f"journal_in_use must be 'refuse' or 'wait', not {in_use!r}")
        if busy_timeout_ms < 0:
            raise InvalidSetting(f"busy_timeout_ms must not be negative, but is {busy_timeout_ms}")
        self.path = Path(path)
        self._durability = durability
        self._in_use = in_use
        self._busy_timeout_ms = busy_timeout_ms
        self._lock: FileLock | None = None
        self._connection: sqlite3.Connection | None = None
        self._in_place: dict[Path, os.stat_result] = {}
        self._one_at_a_time = anyio.CapacityLimiter(1)

    async def open(self) -> JournalContents:
        """See `limner.workflows.ports.Journal.open`."""
        waiting = False
        while not await self._in_thread(self._claim):
            if self._in_use == "refuse":
                raise JournalInUse(f"journal {self.path} is in use{self._holder()}")
            if not waiting:
                log.warning(
                    "journal_waits_for_other_process", journal=str(self.path), holder=self._holder().strip()
                )
                waiting = True
            await anyio.sleep(_LOOK_AGAIN_S)
        try:
            return await self._in_thread(self._open)
        except BaseException:
            await self.aclose()
            raise

    async def append(self, records: Sequence[JournalRecord]) -> None:
        """Commit all records, in order, or none. Raises `StorageError`.

        A cancellation does not keep it from it: what has happened is written down also on the way out.
        """
        with anyio.CancelScope(shield=True):
            await self._in_thread(lambda: self._append(records))

    async def past_sessions(self, message_id: str) -> Sequence[Session]:
        """The message's ended sessions, oldest first. Raises `StorageError`."""
        return await self._in_thread(lambda: self._past_sessions(message_id))

    async def aclose(self) -> None:
        """Close the file and let the next process have it."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._close, limiter=self._one_at_a_time)

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        def told() -> _Result:
            with told_for(self.path):
                return work()

        return await anyio.to_thread.run_sync(told, limiter=self._one_at_a_time)

    # --- claiming

    def _claim(self) -> bool:
        check_header(self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._lock_path(), thread_local=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return False
        self._lock = lock
        with suppress(OSError):
            # For the message that the second one gets; the lock itself is the kernel's and dies with us.
            self._lock_path().write_text(f"{os.getpid()} {socket.gethostname()}\n")
        return True

    def _lock_path(self) -> Path:
        # Two names of one file are one journal.
        real = self.path.resolve()
        return real.with_name(f"{real.name}.lock")

    def _holder(self) -> str:
        with suppress(OSError, ValueError):
            pid, host = self._lock_path().read_text().split()
            return f" by process {int(pid)} on {host}"
        return " by another process"

    def _open(self) -> JournalContents:
        if not check_header(self.path):
            create(self.path)
        # Looked through without the right to write: closing such a connection changes nothing in the file.
        with closing(connect(self.path, read_only=True, busy_timeout_ms=self._busy_timeout_ms)) as reading:
            check_whole(self.path, reading)
            contents = self._contents(reading)
        connection = connect(self.path, read_only=False, busy_timeout_ms=self._busy_timeout_ms)
        self._connection = connection
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[self._durability]}")
        self._in_place = {self.path: self.path.stat()}
        return contents

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StorageError(f"journal {self.path} is closed")
        return self._connection

    def _check_in_place(self) -> None:
        # SQLite would go on writing into a file without a name, and the next process find nothing.
        for file, known in self._in_place.items():
            with suppress(FileNotFoundError):
                if os.path.samestat(known, file.stat()):
                    continue
            raise StorageError(
                f"journal {self.path}: {file.name} was removed or replaced while it was in use; put it back"
            )

    def _note_log(self) -> None:
        # SQLite makes its log at the first write, and keeps it until the last connection is closed.
        real = self.path.resolve()
        log_file = real.with_name(f"{real.name}-wal")
        if log_file not in self._in_place:
            with suppress(FileNotFoundError):
                self._in_place[log_file] = log_file.stat()

    # --- reading

    def _contents(self, connection: sqlite3.Connection) -> JournalContents:
        prompts: dict[str, list[dict[str, object]]] = {}
        for body, crc in connection.execute(_LIVE_PROMPTS):
            fields = self._read(body, crc)
            prompts.setdefault(str(fields["session"]), []).append(fields)
        live = []
        for body, crc in connection.execute("SELECT body, crc FROM sessions WHERE live ORDER BY number"):
            fields = self._read(body, crc)
            session = self._whole(fields, prompts.get(str(fields["id"]), []))
            live.append(session)
        [ended] = connection.execute("SELECT count(*) FROM sessions WHERE NOT live").fetchone()
        [last] = connection.execute("SELECT max(changed_at) FROM sessions").fetchone()
        return JournalContents(tuple(live), ended, last or 0)

    def _past_sessions(self, message_id: str) -> Sequence[Session]:
        connection = self._opened()
        rows = connection.execute(
            "SELECT number, body, crc FROM sessions WHERE message = ? AND NOT live ORDER BY number",
            (message_key(message_id),),
        ).fetchall()
        past = []
        for number, body, crc in rows:
            prompts = connection.execute("SELECT body, crc FROM prompts WHERE session = ?", (number,))
            past.append(self._whole(self._read(body, crc), [self._read(*prompt) for prompt in prompts]))
        return past

    def _read(self, body: object, crc: object) -> dict[str, object]:
        try:
            return read_body(body, crc)
        except BadRow as fault:
            raise JournalDamaged(f"journal {self.path} is damaged: a row cannot be read: {fault}") from fault

    def _whole(self, fields: dict[str, object], prompts: list[dict[str, object]]) -> Session:
        try:
            return to_session(fields, prompts)
        except BadRow as fault:
            told = f"journal {self.path} is damaged: session {fields.get('id')}: {fault}"
            raise JournalDamaged(told) from fault

    # --- writing

    def _append(self, records: Sequence[JournalRecord]) -> None:
        self._check_in_place()
        try:
            self._commit(records)
            self._note_log()
        except sqlite3.OperationalError:
            # On a full disk it may be our own log that fills it; folded into the file it takes far less.
            with suppress(sqlite3.Error):
                self._opened().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            raise

    def _commit(self, records: Sequence[JournalRecord]) -> None:
        newest = {record.session.id: record for record in records}
        numbers: dict[str, int] = {}
        with _transaction(self._opened()) as connection:
            for session_id, record in newest.items():
                session = record.session
                body = session_body(session, record.now)
                values = (
                    session.id,
                    message_key(session.message_id),
                    not is_final(session),
                    record.now,
                    *body,
                )
                with closing(connection.execute(_PUT_SESSION, values)) as rows:
                    numbers[session_id] = rows.fetchone()[0]
            connection.executemany(_PUT_EVENT, _event_rows(records, numbers))
            connection.executemany(_PUT_PROMPT, _prompt_rows(records, newest, numbers))


def _event_rows(records: Sequence[JournalRecord], numbers: dict[str, int]) -> Iterator[tuple[int, str, int]]:
    for record in records:
        session = record.session
        row = EventRow(session.id, record.now, record.event, session.state)
        yield (numbers[session.id], *event_body(row))


def _prompt_rows(
    records: Sequence[JournalRecord], newest: dict[str, JournalRecord], numbers: dict[str, int]
) -> Iterator[tuple[int, str, str, int]]:
    """The prompts that changed in these records, as they are after the last of them."""
    changed: dict[str, set[str]] = {}
    for record in records:
        session = record.session
        known = record.before.prompts if record.before is not None else {}
        # A final scan may give all of them another place.
        everyone = isinstance(record.event, StreamEnded)
        changed.setdefault(session.id, set()).update(
            prompt.id for prompt in session.prompts.values() if everyone or known.get(prompt.id) is not prompt
        )
    for session_id, prompt_ids in changed.items():
        if not prompt_ids:
            continue
        for place, prompt in enumerate(newest[session_id].session.prompts.values()):
            if prompt.id in prompt_ids:
                yield (numbers[session_id], prompt.id, *prompt_body(session_id, place, prompt))


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        # SQLite has rolled back by itself after some errors, a full disk among them.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
