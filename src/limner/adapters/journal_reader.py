"""Looking into a journal from outside: what sessions it holds, and the history of one.

Nothing is claimed and nothing is changed, so it works while a server has the file open. A file that SQLite
finds damaged is refused here; `limner.adapters.journal_salvage` reads what is left of it.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar
from zlib import crc32

from limner.adapters.journal_files import check_header, check_whole, connect, told_for
from limner.adapters.journal_format import BadRow, EventRow, message_key, read_body, to_event, to_session
from limner.errors import JournalDamaged, StorageError
from limner.states import Problem, Prompt, Session
from limner.states.outcome import Counts

BUSY_TIMEOUT_MS = 5_000
"""How long to wait for somebody who holds SQLite's own lock."""

_Result = TypeVar("_Result")

# Faults of the file that SQLite tells as if they passed: a schema it cannot make sense of, a disk that
# does not give a sector back.
_FAULTS_OF_THE_FILE = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ}


class SessionSummary(NamedTuple):
    """One session in a list. Times are ms since 1970.

    `number` is its place in the file: later sessions have higher ones. `prompts` counts all of its prompts,
    of whatever batch. What a damaged file does not say is None, and `missing` tells in words what was lost.
    """

    id: str
    number: int | None
    message_id: str | None
    kind: str | None
    state: str | None
    live: bool
    opened_at: int | None
    changed_at: int | None
    ended_at: int | None
    prompts: Counts
    problem: Problem | None = None
    missing: tuple[str, ...] = ()


class SessionHistory(NamedTuple):
    """One session whole: what it is now, and every event that led there, in order.

    `session` is None where a damaged file has lost it; then `prompts` are those that are left.
    """

    summary: SessionSummary
    session: Session | None
    prompts: tuple[Prompt, ...]
    events: tuple[EventRow, ...]


class NamedSession(NamedTuple):
    """A session by its names; the message's is None where it was lost."""

    id: str
    message_id: str | None


class JournalView(Protocol):
    """A journal as somebody sees it who only looks."""

    def find(self, wanted: str) -> Sequence[NamedSession]:
        """The sessions whose id begins with `wanted` or whose message is of that id; the newest first."""

    def sessions(self, *, live_only: bool = False, message_id: str | None = None) -> Sequence[SessionSummary]:
        """All sessions, or those that are live, or those of one message; the newest first."""

    def history(self, session_id: str) -> SessionHistory | None:
        """One session, or None where there is none of this id."""


class JournalReader:
    """A view of a healthy journal, of one moment for each call.

    Where everything stands in the main file, nothing else is touched, not even the folder. Every method
    raises `JournalUnreadable` (`JournalDamaged`, `JournalTooNew`) or `StorageError`.
    """

    def __init__(self, path: str | os.PathLike[str], *, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> None:
        self.path = Path(path)
        self._busy_timeout_ms = busy_timeout_ms

    def check(self, *, every_row: bool = True) -> None:
        """Look through the whole file for damage to its structure, and `every_row` for its checksum."""

        def look(connection: sqlite3.Connection) -> None:
            self._check_structure(connection)
            if every_row:
                self._check_rows(connection)

        self._read(look)

    def count_ended(self, before_ms: int) -> int:
        """How many sessions have ended and were last changed before `before_ms` (ms since 1970)."""
        query = "SELECT count(*) FROM sessions WHERE NOT live AND changed_at < ?"

        def count(connection: sqlite3.Connection) -> int:
            self._check_structure(connection)
            return int(connection.execute(query, (before_ms,)).fetchone()[0])

        return self._read(count)

    def find(self, wanted: str) -> Sequence[NamedSession]:
        """See `JournalView.find`."""
        return self._read(lambda connection: self._find(connection, wanted))

    def sessions(self, *, live_only: bool = False, message_id: str | None = None) -> Sequence[SessionSummary]:
        """See `JournalView.sessions`."""
        return self._read(lambda connection: list(self._sessions(connection, live_only, message_id)))

    def history(self, session_id: str) -> SessionHistory | None:
        """See `JournalView.history`."""
        return self._read(lambda connection: self._history(connection, session_id))

    # --- reaching the file

    def _read(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        with _told_for(self.path):
            before = self._stat()
            if not check_header(self.path):
                raise JournalDamaged(f"journal {self.path} is empty")
            if _has_nothing_pending(self.path):
                # An ordinary connection would put a -shm and a -wal beside the file.
                try:
                    with _snapshot(_connect_immutable(self.path)) as connection:
                        result = work(connection)
                except (sqlite3.Error, StorageError):
                    if self._stat() == before:
                        raise
                else:
                    if self._stat() == before:
                        return result
                # Somebody has opened the journal and writes into it.
            ordinary = connect(self.path, read_only=True, busy_timeout_ms=self._busy_timeout_ms)
            with _snapshot(ordinary) as connection:
                return work(connection)

    def _stat(self) -> tuple[int, int]:
        found = self.path.stat()
        return found.st_mtime_ns, found.st_size

    def _check_structure(self, connection: sqlite3.Connection) -> None:
        [page_size] = connection.execute("PRAGMA page_size").fetchone()
        # SQLite itself takes what is missing of the last page for zeros.
        if self.path.stat().st_size % page_size:
            raise JournalDamaged(f"journal {self.path} is damaged: it ends in the middle of a page")
        check_whole(self.path, connection)

    def _check_rows(self, connection: sqlite3.Connection) -> None:
        for table in ("sessions", "prompts", "events"):
            for number, body, crc in connection.execute(f"SELECT number, body, crc FROM {table}"):  # noqa: S608
                if not isinstance(body, str) or crc32(body.encode()) != crc:
                    told = f"journal {self.path} is damaged: row {number} of its {table} was changed"
                    raise JournalDamaged(told)

    # --- reading rows

    def _find(self, connection: sqlite3.Connection, wanted: str) -> list[NamedSession]:
        # What is no text to SQLite, half a surrogate pair, is in no id either.
        beginning = wanted.encode("utf-8", "replace").decode()
        rows = connection.execute(
            "SELECT id, message FROM sessions WHERE message = ? OR id BETWEEN ? AND ? || char(1114111)"
            " ORDER BY number DESC",
            (message_key(wanted), beginning, beginning),
        )
        return [NamedSession(session_id, json.loads(message)) for session_id, message in rows]

    def _sessions(
        self, connection: sqlite3.Connection, live_only: bool, message_id: str | None
    ) -> Iterator[SessionSummary]:
        # Both conditions are written as the indexes have them.
        where = ["live"] if live_only else []
        parameters = []
        if message_id is not None:
            where.append("message = ?")
            parameters.append(message_key(message_id))
        chosen = f"WHERE {' AND '.join(where)}" if where else ""
        rows = connection.execute(
            f"SELECT number, live, body, crc FROM sessions {chosen} ORDER BY number DESC",  # noqa: S608
            parameters,
        )
        for number, live, body, crc in rows:
            prompts = connection.execute("SELECT body, crc FROM prompts WHERE session = ?", (number,))
            states = [self._fields(*prompt)["state"] for prompt in prompts]
            yield summary_of(self._fields(body, crc), states, number=number, live=bool(live))

    def _history(self, connection: sqlite3.Connection, session_id: str) -> SessionHistory | None:
        found = connection.execute(
            "SELECT number, live, body, crc FROM sessions WHERE id = ?", (session_id,)
        ).fetchone()
        if found is None:
            return None
        number, live, body, crc = found
        fields = self._fields(body, crc)
        prompts = [
            self._fields(*row)
            for row in connection.execute("SELECT body, crc FROM prompts WHERE session = ?", (number,))
        ]
        rows = connection.execute(
            "SELECT body, crc FROM events WHERE session = ? ORDER BY number", (number,)
        ).fetchall()
        try:
            session = to_session(fields, prompts)
            events = tuple(to_event(self._fields(*row)) for row in rows)
        except BadRow as fault:
            raise JournalDamaged(f"journal {self.path} is damaged: session {session_id}: {fault}") from fault
        states = [prompt["state"] for prompt in prompts]
        summary = summary_of(fields, states, number=number, live=bool(live))
        return SessionHistory(summary, session, tuple(session.prompts.values()), events)

    def _fields(self, body: object, crc: object) -> dict[str, Any]:
        try:
            return read_body(body, crc)
        except ValueError as fault:
            raise JournalDamaged(f"journal {self.path} is damaged: a row cannot be read: {fault}") from fault


def summary_of(
    fields: Mapping[str, Any],
    prompt_states: Iterable[str],
    *,
    number: int | None,
    live: bool,
    missing: tuple[str, ...] = (),
) -> SessionSummary:
    """The summary of a session from the fields of its row and the states of its prompts."""
    problem = fields["problem"]
    return SessionSummary(
        id=fields["id"],
        number=number,
        message_id=fields["message_id"],
        kind=fields["kind"],
        state=fields["state"],
        live=live,
        opened_at=fields["opened_at"],
        changed_at=fields["changed_at"],
        ended_at=fields["ended_at"],
        prompts=count_states(prompt_states),
        problem=None if problem is None else Problem(**problem),
        missing=missing,
    )


def count_states(prompt_states: Iterable[str]) -> Counts:
    """How many prompts there are, and in which states."""
    tally = Counter(prompt_states)
    return Counts(total=tally.total(), **tally)


def _has_nothing_pending(path: Path) -> bool:
    """Whether all that is committed stands in the main file."""
    try:
        # Beside the file itself, whatever links lead to it.
        return Path(f"{path.resolve()}-wal").stat().st_size == 0
    except FileNotFoundError:
        return True


def _connect_immutable(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)


@contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    with closing(connection):
        connection.execute("BEGIN")
        yield connection


@contextmanager
def _told_for(path: Path) -> Iterator[None]:
    try:
        with told_for(path):
            yield
    except StorageError as error:
        cause = error.__cause__
        if isinstance(cause, sqlite3.Error) and cause.sqlite_errorcode in _FAULTS_OF_THE_FILE:
            raise JournalDamaged(f"journal {path} is damaged: {cause}") from cause
        raise
