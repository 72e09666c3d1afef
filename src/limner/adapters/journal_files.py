"""Opening a journal's file: one that cannot be worked with is refused before anything is changed."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from limner.adapters.journal_format import APPLICATION_ID, FORMAT, TABLES
from limner.adapters.whole_file import sync_folder
from limner.errors import JournalDamaged, JournalTooNew, JournalUnreadable, StorageError

_MAGIC = b"SQLite format 3\x00"
_HEADER_SIZE = 100
# The first bytes of a write-ahead log: https://www.sqlite.org/fileformat2.html#walformat
_WAL_MAGIC, _WAL_MAGIC_BIG_ENDIAN = b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83"
# Where SQLite keeps its `user_version` and `application_id`: https://www.sqlite.org/fileformat.html#the_database_header
_VERSION_AT, _APPLICATION_AT = 60, 68


def check_header(path: Path) -> bool:
    """Whether there is a journal in the file; False where there is no file, or an empty one.

    Reads the first 100 bytes only, without SQLite, so the file certainly stays as it is. Raises
    `JournalUnreadable` for what is no journal of Limner's, `JournalTooNew`, `OSError`.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_SIZE)
    except FileNotFoundError:
        return False
    if not header:
        return False
    if not header.startswith(_MAGIC) or len(header) < _HEADER_SIZE:
        raise JournalUnreadable(f"{path} is no journal of Limner's, or its beginning is damaged")
    check_format(
        path,
        int.from_bytes(header[_APPLICATION_AT : _APPLICATION_AT + 4], "big"),
        int.from_bytes(header[_VERSION_AT : _VERSION_AT + 4], "big"),
    )
    return True


def check_format(path: Path, application_id: int, version: int) -> None:
    """Raise `JournalUnreadable` or `JournalTooNew` unless this is a format that is known."""
    if application_id != APPLICATION_ID:
        raise JournalUnreadable(f"{path} is an SQLite database, but no journal of Limner's")
    if version > FORMAT:
        told = f"journal {path} has format {version}; this Limner knows formats up to {FORMAT}"
        raise JournalTooNew(told)


def connect(path: Path, *, read_only: bool, busy_timeout_ms: int) -> sqlite3.Connection:
    """A connection to an existing file. Raises `sqlite3.Error`."""
    return _connect(path, "mode=ro" if read_only else "mode=rw", busy_timeout_ms)


def connect_immutable(path: Path) -> sqlite3.Connection:
    """A connection that takes the file for one that nobody writes to; it leaves nothing beside it."""
    return _connect(path, "mode=ro&immutable=1")


def _connect(path: Path, how: str, busy_timeout_ms: int = 0) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}",
        uri=True,
        timeout=busy_timeout_ms / 1000,
        # Transactions are begun by name, not by the module's guesses.
        isolation_level=None,
        # One thread at a time uses it, but not always the same one.
        check_same_thread=False,
    )
    # What is no text any more is left to the checksums, instead of an error that looks like a passing one.
    connection.text_factory = _text
    return connection


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def create(path: Path) -> None:
    """Make an empty journal. All at once: who is killed here leaves no journal or a whole one.

    An empty file that stands there is replaced, and keeps its rights. Raises `JournalDamaged` where the log
    of another journal is in the way, `sqlite3.Error`, `OSError`.
    """
    place = path.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place, then renamed. SQLite makes a file in several steps, and one that was killed between
    # two of them left a file that only a connection with the right to write could read again.
    draft = place.with_name(f".{place.name[:100]}.part")
    _refuse_log_without_journal(place)
    for file in (draft, *_beside(draft), *_beside(place)):
        file.unlink(missing_ok=True)  # what lies beside a journal that is not there belongs to none
    draft.touch()
    if place.exists():
        shutil.copymode(place, draft)
    with closing(connect(draft, read_only=False, busy_timeout_ms=0)) as connection:
        # So that `prune` gives room back to the disk, without copying the whole file.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.executescript(
            f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT};"
            f"{TABLES} COMMIT;"
        )
        connection.execute("PRAGMA journal_mode = WAL")
    draft.replace(place)
    sync_folder(place.parent)


def _refuse_log_without_journal(place: Path) -> None:
    # Who moved a damaged journal away and forgot the log left the newest events here.
    write_ahead_log = place.with_name(f"{place.name}-wal")
    with suppress(FileNotFoundError), write_ahead_log.open("rb") as file:
        if file.read(len(_WAL_MAGIC)) in (_WAL_MAGIC, _WAL_MAGIC_BIG_ENDIAN):
            raise JournalDamaged(
                f"there is no journal {place}, but its log {write_ahead_log.name} with the newest events; "
                "put it where the journal went, under the journal's new name"
            )


def _beside(path: Path) -> Iterator[Path]:
    for suffix in ("-journal", "-wal", "-shm"):
        yield path.with_name(path.name + suffix)


def check_whole(path: Path, connection: sqlite3.Connection) -> None:
    """Raise `JournalDamaged` if SQLite finds a fault in the file's structure, or an unknown format.

    SQLite's `quick_check`: every page is looked at, but not whether each index has each row.
    """
    with told_for(path):
        [application_id] = connection.execute("PRAGMA application_id").fetchone()
        [version] = connection.execute("PRAGMA user_version").fetchone()
        check_format(path, application_id, version)
        [found] = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        # The first line only names the database.
        raise JournalDamaged(f"journal {path} is damaged: {found.splitlines()[-1]}")


@contextmanager
def told_for(path: Path) -> Iterator[None]:
    """Turn SQLite's and the system's errors into `JournalDamaged` or `StorageError`."""
    try:
        yield
    except sqlite3.Error as error:
        # "malformed" and "not a database" are of this class itself, everything else of one below it.
        if type(error) is sqlite3.DatabaseError:
            raise JournalDamaged(f"journal {path} is damaged: {error}") from error
        raise StorageError(f"journal {path}: {error}") from error
    except OSError as error:
        raise StorageError(f"journal {path}: {error.strerror or error}") from error
