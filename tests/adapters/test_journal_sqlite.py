"""The journal's file: who may have it, what is refused and left as it was, and what a fault leaves behind."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from structlog.testing import capture_logs

from limner.adapters.journal_files import create
from limner.adapters.journal_format import APPLICATION_ID, FORMAT
from limner.adapters.journal_sqlite import SQLiteJournal
from limner.errors import (
    InvalidSetting,
    JournalDamaged,
    JournalInUse,
    JournalTooNew,
    JournalUnreadable,
    LimnerError,
    StorageError,
)
from limner.workflows.ports import JournalContents
from tests.adapters.lives import finished, streamed

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(path: Path, **settings: Any) -> AsyncIterator[SQLiteJournal]:
    journal = SQLiteJournal(path, **settings)
    await journal.open()
    try:
        yield journal
    finally:
        await journal.aclose()


async def contents_of(path: Path) -> JournalContents:
    journal = SQLiteJournal(path)
    contents = await journal.open()
    await journal.aclose()
    return contents


@pytest.fixture
async def filled(tmp_path: Path) -> Path:
    """A journal with a live session and one that has ended."""
    path = tmp_path / "journal.sqlite3"
    async with opened(path) as journal:
        await journal.append(streamed("live", "m1", prompts=30))
        await journal.append(finished("ended", "m2"))
    return path


@pytest.mark.parametrize(
    "setting", [{"durability": "sometimes"}, {"in_use": "share"}, {"busy_timeout_ms": -1}], ids=str
)
def test_a_setting_that_cannot_be_meant_is_refused(setting: dict[str, Any]):
    with pytest.raises(InvalidSetting):
        SQLiteJournal("journal.sqlite3", **setting)


async def test_nothing_is_on_the_disk_before_it_is_opened(tmp_path: Path):
    SQLiteJournal(tmp_path / "journal.sqlite3")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("durability", "level"), [("power-loss", 2), ("process-death", 1)])
async def test_the_durability_is_sqlites_own(tmp_path: Path, durability: str, level: int):
    # With a write-ahead log, FULL (2) syncs at each commit, NORMAL (1) only at checkpoints:
    # https://www.sqlite.org/pragma.html#pragma_synchronous
    async with opened(tmp_path / "journal.sqlite3", durability=durability) as journal:
        connection = journal._opened()
        assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_a_closed_journal_takes_no_more_and_says_so(tmp_path: Path):
    async with opened(tmp_path / "journal.sqlite3") as journal:
        pass
    with pytest.raises(StorageError, match="is closed"):
        await journal.append(streamed("s"))


async def test_a_group_is_committed_whole_or_not_at_all(tmp_path: Path):
    path = tmp_path / "journal.sqlite3"
    life = streamed("s")
    async with opened(path) as journal:
        await journal.append(life[:2])
        broken = life[3].session._replace(id=object())  # type: ignore[arg-type]
        with pytest.raises(Exception, match="not"):
            await journal.append([life[2], replace(life[3], session=broken)])
    assert (await contents_of(path)).live == (life[1].session,)


# --- one process at a time


async def test_a_second_one_is_told_who_has_it(filled: Path):
    async with opened(filled):
        with pytest.raises(JournalInUse, match=f"by process {os.getpid()} on") as refusal:
            await SQLiteJournal(filled).open()
    assert "journal_in_use='wait'" in refusal.value.hint
    assert len((await contents_of(filled)).live) == 1


async def test_a_second_one_that_waits_gets_it_when_the_first_lets_go(filled: Path):
    got: list[JournalContents] = []
    second = SQLiteJournal(filled, in_use="wait")
    with capture_logs() as logs:
        async with opened(filled) as first, anyio.create_task_group() as tasks:

            async def wait() -> None:
                got.append(await second.open())

            tasks.start_soon(wait)
            while not logs:
                await anyio.lowlevel.checkpoint()
            assert got == []
            await first.append(finished("during", "m3"))
            await first.aclose()
    await second.aclose()
    assert [entry["event"] for entry in logs] == ["journal_waits_for_other_process"]
    assert got[0].ended == 2


HOLDER = """
import anyio, sys
from limner.adapters.journal_sqlite import SQLiteJournal

async def hold():
    journal = SQLiteJournal(sys.argv[1])
    await journal.open()
    print("held", flush=True)
    await anyio.sleep_forever()

anyio.run(hold)
"""


async def test_a_process_that_is_killed_leaves_the_journal_to_the_next(filled: Path):
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(filled)], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            await anyio.to_thread.run_sync(holder.stdout.readline)
            with pytest.raises(JournalInUse, match=f"by process {holder.pid} on"):
                await SQLiteJournal(filled).open()
        finally:
            holder.send_signal(signal.SIGKILL)
    assert len((await contents_of(filled)).live) == 1


async def test_two_names_of_one_file_are_one_journal(filled: Path):
    link = filled.with_name("link.sqlite3")
    link.symlink_to(filled)
    async with opened(filled):
        with pytest.raises(JournalInUse):
            await SQLiteJournal(link).open()


@pytest.mark.parametrize("meanwhile", ["removed", "replaced"])
async def test_a_journal_that_is_taken_away_under_a_running_server_is_noticed(filled: Path, meanwhile: str):
    away = filled.with_name("away")
    async with opened(filled) as journal:
        filled.rename(away)
        if meanwhile == "replaced":
            create(filled)
        with pytest.raises(StorageError, match="removed or replaced while it was in use"):
            await journal.append(finished("unseen", "m3"))
        away.replace(filled)
        await journal.append(finished("seen", "m4"))
    assert (await contents_of(filled)).ended == 2


async def test_a_log_that_is_taken_away_under_a_running_server_is_noticed(filled: Path):
    log, away = filled.with_name(f"{filled.name}-wal"), filled.with_name("away")
    async with opened(filled) as journal:
        await journal.append(finished("before", "m3"))
        log.rename(away)
        with pytest.raises(StorageError, match=r"-wal was removed or replaced while it was in use"):
            await journal.append(finished("unseen", "m4"))
        away.rename(log)
        await journal.append(finished("seen", "m5"))
    assert (await contents_of(filled)).ended == 3


# --- what is refused, and left as it was


async def refused(path: Path, kind: type[LimnerError], match: str) -> None:
    """The journal is refused, and neither it nor anything beside it has changed but for the lock file."""
    before = path.read_bytes() if path.exists() else None
    journal = SQLiteJournal(path)
    with pytest.raises(kind, match=match) as refusal:
        await journal.open()
    assert type(refusal.value) is kind
    assert (path.read_bytes() if path.exists() else None) == before
    beside = {other.name for other in path.parent.glob(f"{path.name}?*")}
    assert beside <= {f"{path.name}.lock", f"{path.name}-wal", f"{path.name}-shm"}


async def test_a_journal_of_a_newer_format_is_refused(filled: Path):
    with closing(sqlite3.connect(filled)) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    await refused(filled, JournalTooNew, f"has format {FORMAT + 1}; this Limner knows formats up to {FORMAT}")


async def test_a_newer_format_that_stands_only_in_the_log_is_refused_too(filled: Path):
    # As a newer Limner leaves it that was killed: the file's own header still has the old number.
    with closing(sqlite3.connect(filled)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
        copy = filled.with_name("killed.sqlite3")
        for suffix in ("", "-wal"):
            Path(f"{copy}{suffix}").write_bytes(Path(f"{filled}{suffix}").read_bytes())
    await refused(copy, JournalTooNew, "format 2")


async def test_another_programs_database_is_refused(tmp_path: Path):
    path = tmp_path / "chat.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE messages (id, text)")
    await refused(path, JournalUnreadable, "an SQLite database, but no journal of Limner's")


@pytest.mark.parametrize("content", [b"Dear diary,", b"\x00" * 4096, b"SQLite format 3\x00"], ids=repr)
async def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "diary.txt"
    path.write_bytes(content)
    await refused(path, JournalUnreadable, "is no journal of Limner's, or its beginning is damaged")


async def test_an_empty_file_becomes_a_journal(tmp_path: Path):
    path = tmp_path / "journal.sqlite3"
    path.touch()
    assert await contents_of(path) == JournalContents()
    assert (await contents_of(path)).live == ()


@pytest.mark.parametrize("pages", [1, 2, 5, -1])
async def test_a_truncated_journal_is_refused(filled: Path, pages: int):
    data = filled.read_bytes()
    size = pages * 4096 if pages > 0 else len(data) - 1000
    filled.write_bytes(data[:size])
    await refused(filled, JournalDamaged, "damaged")


async def test_a_journal_in_which_any_page_was_overwritten_is_refused(filled: Path):
    data = filled.read_bytes()
    for start in range(4096, len(data), 4096):
        filled.write_bytes(data[:start] + b"\xa5" * 4096 + data[start + 4096 :])
        await refused(filled, JournalDamaged, "damaged")


@pytest.mark.parametrize("byte", [b"X", b"\xff"], ids=["another letter", "a byte that is no text"])
async def test_a_changed_letter_in_a_live_session_is_noticed(filled: Path, byte: bytes):
    data = filled.read_bytes()
    at = data.index(b'"is":"session","changed_at":5,"id":"live"') + 20
    filled.write_bytes(data[:at] + byte + data[at + 1 :])
    await refused(filled, JournalDamaged, "a row cannot be read: the checksum does not match")


@pytest.mark.parametrize("byte", [b"X", b"\xff"], ids=["another letter", "a byte that is no text"])
async def test_a_damaged_past_session_is_told_when_it_is_asked_for_and_stops_nothing_else(
    filled: Path, byte: bytes
):
    data = filled.read_bytes()
    at = data.index(b'"is":"session","changed_at":7,"id":"ended"') + 20
    filled.write_bytes(data[:at] + byte + data[at + 1 :])
    async with opened(filled) as journal:
        with pytest.raises(JournalDamaged, match="checksum"):
            await journal.past_sessions("m2")
        await journal.append(finished("new", "m9"))
        assert len(await journal.past_sessions("m9")) == 1


async def test_who_was_killed_while_making_a_journal_leaves_an_empty_one(tmp_path: Path):
    path = tmp_path / "journal.sqlite3"
    # The moment before the commit: an empty file, and SQLite's own rollback journal beside it.
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        for beside in tmp_path.glob("journal.sqlite3*"):
            beside.with_name(beside.name.replace("journal.sqlite3", "copy.sqlite3")).write_bytes(
                beside.read_bytes()
            )
        connection.execute("ROLLBACK")
    assert await contents_of(tmp_path / "copy.sqlite3") == JournalContents()


@pytest.mark.parametrize("in_its_place", ["nothing", "an empty file"])
async def test_the_log_of_a_journal_that_was_moved_away_is_not_thrown_away(tmp_path: Path, in_its_place: str):
    path, moved = tmp_path / "journal.sqlite3", tmp_path / "moved.sqlite3"
    log = tmp_path / "journal.sqlite3-wal"
    async with opened(path) as journal:
        await journal.append(finished("late", "m"))
        # What a killed process leaves: the newest events are in the log only.
        copies = {name: name.read_bytes() for name in (path, log)}
    for name, data in copies.items():
        name.write_bytes(data)
    path.rename(moved)
    if in_its_place == "an empty file":
        path.touch()
    await refused(path, JournalDamaged, "its log journal.sqlite3-wal with the newest events; put it where")
    assert log.read_bytes() == copies[log]
    log.rename(tmp_path / "moved.sqlite3-wal")
    assert (await contents_of(moved)).ended == 1
    assert await contents_of(path) == JournalContents()


async def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="journal"):
        await SQLiteJournal(tmp_path / "file" / "journal.sqlite3").open()


# --- faults while it runs


async def test_a_full_disk_leaves_the_journal_as_it_was_and_it_goes_on_when_there_is_room(tmp_path: Path):
    path = tmp_path / "journal.sqlite3"
    async with opened(path) as journal:
        await journal.append(streamed("first", "m1"))
        connection = journal._opened()
        [pages] = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StorageError, match="database or disk is full"):
            await journal.append(streamed("second", "m2", prompts=200))
        connection.execute("PRAGMA max_page_count = 1000000")
        await journal.append(streamed("third", "m3"))
    assert [session.id for session in (await contents_of(path)).live] == ["first", "third"]


async def test_a_journal_that_somebody_else_has_locked_is_a_storage_error_until_they_let_go(filled: Path):
    async with opened(filled, busy_timeout_ms=0) as journal:
        with closing(sqlite3.connect(filled, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageError, match="locked"):
                await journal.append(finished("s", "m5"))
            other.execute("ROLLBACK")
        await journal.append(finished("s", "m5"))
        assert len(await journal.past_sessions("m5")) == 1


async def test_it_can_be_looked_into_while_it_is_in_use(filled: Path):
    async with opened(filled) as journal:
        await journal.append(finished("now", "m3"))
        with closing(sqlite3.connect(f"{filled.as_uri()}?mode=ro", uri=True)) as other:
            assert other.execute("SELECT count(*) FROM sessions").fetchone() == (3,)


async def test_a_call_that_is_cancelled_finishes_what_it_began(tmp_path: Path):
    path = tmp_path / "journal.sqlite3"
    async with opened(path) as journal:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await journal.append(streamed("s"))
        await journal.append(streamed("t", "m2"))
    live = [session.id for session in (await contents_of(path)).live]
    assert live in (["t"], ["s", "t"])


async def test_a_journal_is_made_for_giving_room_back(tmp_path: Path):
    path = tmp_path / "journal.sqlite3"
    create(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (FORMAT,)
