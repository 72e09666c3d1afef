"""What was said in the demo's chat, in a SQLite file: the lines of the person, and which replies there are.

The texts of the replies are not here. They are messages, and stand in Limner's message store.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import anyio
import anyio.to_thread

from limner.errors import StorageError

State = Literal["said", "writing", "written", "stopped", "interrupted", "broken"]
"""Of a line of the person: said. Of a reply: being written; complete; stopped by the person; cut short by the
end of the process, or by whoever writes."""

_TABLE = """
CREATE TABLE IF NOT EXISTS demo_entries (
    position INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    text TEXT NOT NULL,
    problem TEXT
)"""
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a reply was cut short: what kind of error, in whose words, and what to do."""

    kind: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the person, or one reply. A reply's `id` is its message's; its `text` is empty here.

    `revision` grows with every change of anything, so that a reader can ask for what is newer.
    """

    position: int
    id: str
    state: State
    text: str = ""
    problem: Trouble | None = None
    revision: int = 0

    @property
    def is_reply(self) -> bool:
        """Whether this is no line of the person."""
        return self.state != "said"


class Conversation:
    """The entries, in memory and in the file. Open it with `load`; one process at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._one_at_a_time = anyio.CapacityLimiter(1)
        self._next = 1
        self.entries: list[Entry] = []
        self.revision = 1
        self.cleared_at = 1
        """The revision at which the conversation began anew: who knows an older one knows nothing."""
        self.changed = anyio.Event()

    async def load(self) -> None:
        """Read the file, or make it. A reply that was being written is interrupted. Raises `StorageError`."""
        rows = await self._in_thread(self._load)
        self.entries = [
            Entry(
                position,
                entry_id,
                "interrupted" if state == "writing" else state,
                text,
                Trouble(**json.loads(problem)) if problem else None,
                self.revision,
            )
            for position, entry_id, state, text, problem in rows
        ]
        self._next = 1 + max((entry.position for entry in self.entries), default=0)

    async def add(self, state: State, text: str = "") -> Entry:
        """Put an entry at the end. Raises `StorageError`; then there is none."""
        # Not to be guessed, since whoever knows a message's id may read it.
        entry = Entry(self._next, secrets.token_urlsafe(12), state, text)
        self._next += 1
        # Kept before it is shown: a reply that is "being written" by nobody would block the chat for ever.
        await self._in_thread(lambda: self._write(entry))
        return self._show(entry)

    async def change(self, entry_id: str, state: State, problem: Trouble | None = None) -> None:
        """Note what became of a reply; nothing where it is gone.

        Raises `StorageError` where that cannot be kept; it is shown all the same.
        """
        entry = self.find(entry_id)
        if entry is not None:
            changed = self._show(replace(entry, state=state, problem=problem))
            await self._in_thread(lambda: self._write(changed))

    async def drop(self, entry_id: str) -> None:
        """Take one entry out. Raises `StorageError`."""
        self.entries = [entry for entry in self.entries if entry.id != entry_id]
        self._tell_anew()
        await self._in_thread(lambda: self._delete(entry_id))

    async def clear(self) -> list[Entry]:
        """Take all entries out, and return what they were. Raises `StorageError`."""
        gone, self.entries = self.entries, []
        self._tell_anew()
        await self._in_thread(lambda: self._delete(None))
        return gone

    def find(self, entry_id: str) -> Entry | None:
        """The entry of this id, or None."""
        return next((entry for entry in reversed(self.entries) if entry.id == entry_id), None)

    def _show(self, entry: Entry) -> Entry:
        self.revision += 1
        entry = replace(entry, revision=self.revision)
        kept = [entry if known.id == entry.id else known for known in self.entries]
        self.entries = kept if self.find(entry.id) else [*kept, entry]
        self._wake()
        return entry

    def _tell_anew(self) -> None:
        self.revision += 1
        self.cleared_at = self.revision
        self._wake()

    def _wake(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        def translated() -> _Result:
            try:
                return work()
            except (sqlite3.Error, OSError) as error:
                raise StorageError(f"conversation {self._path}: {error}") from error

        return await anyio.to_thread.run_sync(translated, limiter=self._one_at_a_time)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, isolation_level=None)

    def _load(self) -> list[tuple[int, str, State, str, str | None]]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(self._connect()) as connection:
            connection.execute(_TABLE)
            return connection.execute(
                "SELECT position, id, state, text, problem FROM demo_entries ORDER BY position"
            ).fetchall()

    def _write(self, entry: Entry) -> None:
        problem = entry.problem and json.dumps(
            {"kind": entry.problem.kind, "message": entry.problem.message, "hint": entry.problem.hint}
        )
        with closing(self._connect()) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO demo_entries VALUES (?, ?, ?, ?, ?)",
                (entry.position, entry.id, entry.state, entry.text, problem),
            )

    def _delete(self, entry_id: str | None) -> None:
        with closing(self._connect()) as connection:
            connection.execute("DELETE FROM demo_entries WHERE ? IS NULL OR id = ?", (entry_id, entry_id))
