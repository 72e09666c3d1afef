"""The SQLite store's own promises: durable, shared, and careful with files that are not its own."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.adapters.message_sqlite import SQLiteMessageStore
from limner.errors import InvalidSetting, StorageError, VersionConflict

pytestmark = pytest.mark.anyio

ANY_TEXT = st.text(st.characters(codec=None), max_size=50)


async def test_messages_outlive_the_store(tmp_path):
    async with SQLiteMessageStore(tmp_path / "db") as store:
        version = await store.write("m", "text", expected=None)
    async with SQLiteMessageStore(tmp_path / "db") as store:
        stored = await store.read("m")
        assert stored is not None
        assert (stored.text, stored.version) == ("text", version)


async def test_versions_are_integers_as_text(tmp_path):
    async with SQLiteMessageStore(tmp_path / "db") as store:
        assert [await store.write(name, "", expected=None) for name in "abc"] == ["1", "2", "3"]


async def test_two_stores_on_one_file_see_each_other_and_conflict(tmp_path):
    async with SQLiteMessageStore(tmp_path / "db") as one, SQLiteMessageStore(tmp_path / "db") as two:
        version = await one.write("m", "one", expected=None)
        await two.write("m", "two", expected=version)
        with pytest.raises(VersionConflict):
            await one.write("m", "three", expected=version)


async def test_the_database_is_in_wal_mode(tmp_path):
    async with SQLiteMessageStore(tmp_path / "db"):
        with closing(sqlite3.connect(tmp_path / "db")) as other:
            assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_a_database_that_stays_locked_is_a_storage_error(tmp_path):
    async with SQLiteMessageStore(tmp_path / "db", busy_timeout_ms=0) as store:
        await store.write("m", "one", expected=None)
        with closing(sqlite3.connect(tmp_path / "db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageError, match="database is locked"):
                await store.write("m", "two", expected="1")
            stored = await store.read("m")
            assert stored is not None
            assert stored.text == "one"
            other.execute("ROLLBACK")
        await store.write("m", "two", expected="1")


@pytest.mark.parametrize("content", [b"hello", b"x" * 5000, b"SQLite format 3", b"\x00\x00"])
async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"notes\.txt: file is not a database"):
        async with SQLiteMessageStore(path):
            pass
    assert path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


async def test_the_folder_is_made_where_there_is_none(tmp_path):
    async with SQLiteMessageStore(tmp_path / "new" / "data" / "db") as store:
        assert await store.read("m") is None
    assert (tmp_path / "new" / "data" / "db").exists()


async def test_a_path_that_cannot_be_opened_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file" / "folder.db", tmp_path):
        store = SQLiteMessageStore(path)
        with pytest.raises(
            StorageError, match=r"^message database [^\n]*: (unable to open|File exists|Not a dir)"
        ):
            await store.read("m")
        await store.aclose()


async def test_a_disk_that_is_full_is_a_storage_error_and_nothing_is_written(tmp_path):
    async with SQLiteMessageStore(tmp_path / "db") as store:
        await store.write("m", "one", expected=None)
        assert store._connection is not None
        store._connection.execute("PRAGMA max_page_count = 1")
        with pytest.raises(StorageError, match="full"):
            await store.write("m", "x" * 1_000_000, expected="1")
        stored = await store.read("m")
        assert stored is not None
        assert (stored.text, stored.version) == ("one", "1")


async def test_a_closed_store_says_so_and_closes_twice(tmp_path):
    store = SQLiteMessageStore(tmp_path / "db")
    await store.write("m", "x", expected=None)
    await store.aclose()
    await store.aclose()
    with pytest.raises(StorageError, match="is closed"):
        await store.read("m")


async def test_a_cancelled_write_is_whole_or_not_there(tmp_path):
    async with SQLiteMessageStore(tmp_path / "db") as store:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await store.write("m", "x", expected=None)
        stored = await store.read("m")
        assert stored is None or stored.text == "x"
        await store.write("n", "y", expected=None)


async def test_the_tables_can_live_in_a_database_of_the_hosts(tmp_path):
    with closing(sqlite3.connect(tmp_path / "host.db")) as host:
        host.execute("CREATE TABLE messages (mine TEXT)")
    async with SQLiteMessageStore(tmp_path / "host.db") as store:
        await store.write("m", "x", expected=None)
    with closing(sqlite3.connect(tmp_path / "host.db")) as host:
        assert host.execute("SELECT count(*) FROM messages").fetchone() == (0,)


@settings(max_examples=40)
@given(ANY_TEXT, ANY_TEXT)
async def test_any_text_under_any_id_comes_back(message_id, text):
    async with SQLiteMessageStore(":memory:") as store:
        await store.write(message_id, text, expected=None)
        stored = await store.read(message_id)
        assert stored is not None
        assert stored.text == text


def test_a_negative_wait_is_refused():
    with pytest.raises(InvalidSetting, match="busy_timeout_ms"):
        SQLiteMessageStore("x", busy_timeout_ms=-1)
