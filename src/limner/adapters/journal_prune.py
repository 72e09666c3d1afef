"""Bounding a journal: what ended long ago is taken out, and the room is given back to the disk.

A server may have the file open meanwhile. It waits for SQLite's lock whenever it commits, and gives up after
some seconds, so the work is done in small pieces, with pauses in which the lock is free.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from limner.adapters.journal_files import connect, told_for
from limner.adapters.journal_reader import BUSY_TIMEOUT_MS, JournalReader

SESSIONS_AT_ONCE = 500
ROWS_AT_ONCE = 10_000
PAGES_AT_ONCE = 500
"""What one transaction takes at most: of rows for a fraction of a second, but never less than one session."""

_NEXT_SESSIONS = """
SELECT number,
    (SELECT count(*) FROM events WHERE events.session = sessions.number)
    + (SELECT count(*) FROM prompts WHERE prompts.session = sessions.number)
FROM sessions WHERE NOT live AND changed_at < :before AND number > :after ORDER BY number LIMIT :most
"""


class Pruned(NamedTuple):
    """What a pruning did: how many sessions went, and by how many bytes the file is smaller.

    `shrink_later` says that it is not so yet, because somebody was reading just then; it will be after the
    next writes.
    """

    sessions: int
    freed_bytes: int
    shrink_later: bool


def prune(
    path: str | os.PathLike[str], before_ms: int, *, pause: Callable[[float], object] = time.sleep
) -> Pruned:
    """Take out the sessions that have ended and were last changed before `before_ms` (ms since 1970).

    Live sessions stay, however old they are; `JournalReader.count_ended` says beforehand how many will go.
    `pause` is called with the seconds to leave the file alone.

    Raises `JournalUnreadable` (`JournalDamaged`, `JournalTooNew`), with the file left as it was;
    `StorageError`, for example where somebody else holds SQLite's lock for long.
    """
    file = Path(path)
    JournalReader(file).check(every_row=False)
    taken = after = 0
    with _connected(file) as connection:
        size_before = _size(connection)
        while True:
            began = time.monotonic()
            numbers, after = _next_sessions(connection, before_ms, after)
            if not numbers:
                break
            taken += _delete(connection, numbers, before_ms)
            pause(time.monotonic() - began)
        _give_pages_back(connection, pause)
        freed = size_before - _size(connection)
        whole = _checkpoint(connection)
    return Pruned(taken, max(0, freed), shrink_later=not whole)


def _next_sessions(connection: sqlite3.Connection, before_ms: int, after: int) -> tuple[Sequence[int], int]:
    """The numbers of as many sessions as one transaction may take, and the last of them."""
    numbers: list[int] = []
    rows = 0
    limits = {"before": before_ms, "after": after, "most": SESSIONS_AT_ONCE}
    with closing(connection.execute(_NEXT_SESSIONS, limits)) as found:
        for number, its_rows in found:
            rows += its_rows
            if numbers and rows > ROWS_AT_ONCE:
                break
            numbers.append(number)
    return numbers, numbers[-1] if numbers else after


def _delete(connection: sqlite3.Connection, numbers: Sequence[int], before_ms: int) -> int:
    """Delete these sessions with all that belongs to them; return how many there were."""
    gone = 0
    connection.execute("BEGIN IMMEDIATE")
    try:
        for number in numbers:
            # Looked at again under the lock: the number may have been given to a new session meanwhile.
            limits = {"before": before_ms, "number": number}
            done = connection.execute(
                "DELETE FROM sessions WHERE number = :number AND NOT live AND changed_at < :before", limits
            )
            if done.rowcount == 1:
                connection.execute("DELETE FROM events WHERE session = :number", limits)
                connection.execute("DELETE FROM prompts WHERE session = :number", limits)
                gone += 1
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return gone


def _give_pages_back(connection: sqlite3.Connection, pause: Callable[[float], object]) -> None:
    """Take the free pages out of the file. Each step is a transaction of its own."""
    free = _free_pages(connection)
    while free:
        began = time.monotonic()
        # One page for each row, and the rows are without columns: `execute` stops after the first of such.
        connection.executescript(f"PRAGMA incremental_vacuum({PAGES_AT_ONCE});")
        before, free = free, _free_pages(connection)
        if free >= before:
            break  # a file that was not made to shrink
        pause(time.monotonic() - began)


def _free_pages(connection: sqlite3.Connection) -> int:
    [count] = connection.execute("PRAGMA freelist_count").fetchone()
    return int(count)


def _checkpoint(connection: sqlite3.Connection) -> bool:
    """Bring everything into the main file, so that it gets smaller; return whether all of it is there.

    First in the way that stops nobody. What then is left for the other way, which also empties the `-wal`,
    takes no time, and it does not wait for anybody either.
    """
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    connection.execute("PRAGMA busy_timeout = 0")
    [(busy, _, _)] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return not busy


def _size(connection: sqlite3.Connection) -> int:
    """Bytes of the file once everything is brought into it."""
    [pages] = connection.execute("PRAGMA page_count").fetchone()
    [page_size] = connection.execute("PRAGMA page_size").fetchone()
    return int(pages) * int(page_size)


@contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    with (
        told_for(path),
        closing(connect(path, read_only=False, busy_timeout_ms=BUSY_TIMEOUT_MS)) as connection,
    ):
        yield connection
