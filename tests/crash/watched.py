"""Real parts that say when a point is reached.

A call of a port has two points, before and after it. The one in the middle is where it would hurt most: of a
transaction, all statements are done and the COMMIT is about to be; of an image, the file is written beside
its place and not yet renamed. SQLite itself tells of each statement before it runs it, so the code under test
is the real one, down to the statement.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from limner.states import Session
from limner.workflows.ports import (
    ImageStore,
    Journal,
    JournalContents,
    JournalRecord,
    MessageStore,
    StoredMessage,
)
from tests.crash.server import Reach


class WatchedJournal:
    """A `Journal` around the real one."""

    durable = True

    def __init__(self, journal: Journal, reach: Reach) -> None:
        self._journal = journal
        self._reach = reach

    async def open(self) -> JournalContents:
        self._reach("journal: before it is opened")
        contents = await self._journal.open()
        self._reach("journal: after it was opened")
        return contents

    async def append(self, records: Sequence[JournalRecord]) -> None:
        names = "+".join(record.event.name for record in records)
        self._reach(f"journal: before {names}")
        await self._journal.append(records)
        self._reach(f"journal: after {names}")

    async def past_sessions(self, message_id: str) -> Sequence[Session]:
        return await self._journal.past_sessions(message_id)

    async def aclose(self) -> None:
        self._reach("journal: before it is closed")
        await self._journal.aclose()


class WatchedMessages:
    """A `MessageStore` around the real one."""

    def __init__(self, store: MessageStore, reach: Reach) -> None:
        self._store = store
        self._reach = reach

    async def read(self, message_id: str) -> StoredMessage | None:
        self._reach("message: before a read")
        stored = await self._store.read(message_id)
        self._reach("message: after a read")
        return stored

    async def write(self, message_id: str, text: str, *, expected: str | None) -> str:
        self._reach("message: before a write")
        version = await self._store.write(message_id, text, expected=expected)
        self._reach("message: after a write")
        return version


class WatchedImages:
    """An `ImageStore` around the real one."""

    def __init__(self, store: ImageStore, reach: Reach) -> None:
        self._store = store
        self._reach = reach

    async def put(self, data: bytes, media_type: str) -> str:
        self._reach("image: before it is stored")
        url = await self._store.put(data, media_type)
        self._reach("image: after it was stored")
        return url


class ReachFile(Protocol):
    """A point in the middle of a write; `grows` is the file that it makes longer."""

    def __call__(self, name: str, grows: Path | None = None) -> None: ...


@contextmanager
def middles_watched(reach: ReachFile) -> Iterator[None]:
    """Reach a point in the middle of every transaction, of the making of a database, and of an image."""
    connect: Any = sqlite3.connect
    replace: Any = Path.replace

    def watched_connect(database: str, *args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(database, *args, **kwargs)
        _, _, file = connection.execute("PRAGMA database_list").fetchone()
        connection.set_trace_callback(lambda statement: before_statement(Path(file), statement))
        return connection

    def before_statement(file: Path, statement: str) -> None:
        words = statement.rstrip(";").split()
        if words[:1] == ["COMMIT"] or words[:1] == ["CREATE"] or (words[:1] == ["PRAGMA"] and "=" in words):
            log = file.with_name(f"{file.name}-wal")
            what = "journal" if "journal" in file.name else "message"
            grows = log if log.exists() else file
            reach(f"{what}: in the middle, before {' '.join(words[:3])}", grows)

    def watched_replace(draft: Path, place: Path) -> Path:
        reach("image: in the middle, written and not renamed")
        renamed: Path = replace(draft, place)
        return renamed

    patched: tuple[Any, Any] = (sqlite3, Path)
    sql, path = patched
    sql.connect, path.replace = watched_connect, watched_replace
    try:
        yield
    finally:
        sql.connect, path.replace = connect, replace
