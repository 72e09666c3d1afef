"""What outlives a process: the files, and where they are."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import anyio

from limner.adapters.message_sqlite import SQLiteMessageStore
from tests.journeys.seeded import threads_inline

ADDRESS = "https://images.test"
"""What the image folder is called in a message."""

_HISTORY = """
CREATE TABLE history (number INTEGER PRIMARY KEY, id BLOB NOT NULL, text BLOB NOT NULL);
CREATE TRIGGER added AFTER INSERT ON limner_messages
    BEGIN INSERT INTO history (id, text) VALUES (new.id, new.text); END;
CREATE TRIGGER changed AFTER UPDATE ON limner_messages
    BEGIN INSERT INTO history (id, text) VALUES (new.id, new.text); END;
"""


class Place(NamedTuple):
    """Where everything of one story lies."""

    folder: Path

    @property
    def journal(self) -> Path:
        return self.folder / "journal.sqlite3"

    @property
    def messages(self) -> Path:
        return self.folder / "messages.sqlite3"

    @property
    def images(self) -> Path:
        return self.folder / "images"

    @property
    def ledger(self) -> Path:
        """What the painter's server knows."""
        return self.folder / "ledger"

    @property
    def told(self) -> Path:
        """What the host was told."""
        return self.folder / "told"

    @property
    def recovered(self) -> Path:
        """Which lives came through their recovery, where that is written down."""
        return self.folder / "recovered"

    def points(self, life: int) -> Path:
        """The points that a life has passed."""
        return self.folder / f"points-{life}"

    def output(self, life: int) -> Path:
        """What a life has printed."""
        return self.folder / f"output-{life}"


def make_place(folder: Path) -> None:
    """An empty message database that keeps every version, written down within the write itself."""

    async def open_once() -> None:
        async with SQLiteMessageStore(place.messages):
            """Opening it makes its tables."""

    place = Place(folder)
    folder.mkdir(parents=True)
    with threads_inline():
        anyio.run(open_once)
    with closing(sqlite3.connect(place.messages)) as connection:
        connection.executescript(_HISTORY)


def add_row(file: Path, row: Sequence[Any]) -> None:
    """Add a row to a file that is only ever added to, in one piece."""
    opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(opened, (json.dumps(row) + "\n").encode())
    finally:
        os.close(opened)


def rows_of(file: Path) -> Iterator[list[Any]]:
    """All rows of such a file."""
    if file.exists():
        for line in file.read_text().splitlines():
            yield json.loads(line)
