"""Making a journal's file: it is there whole, or it is not there."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from limner.adapters import journal_files
from limner.adapters.journal_files import check_header, connect, create
from limner.adapters.journal_format import TABLES


@pytest.mark.parametrize("step", range(1, TABLES.count("CREATE") + 1))
def test_a_making_that_breaks_off_leaves_no_journal_and_can_be_repeated(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "journal.sqlite3"
    statements = TABLES.split(";")[:step]
    with monkeypatch.context() as broken:
        broken.setattr(journal_files, "TABLES", ";".join([*statements, "AND THEN THE PROCESS ENDED;"]))
        with pytest.raises(sqlite3.OperationalError):
            create(path)
    assert not check_header(path)
    create(path)
    assert check_header(path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_what_a_process_left_that_was_killed_while_it_made_the_journal_is_cleared_away(tmp_path: Path):
    path = tmp_path / "journal.sqlite3"
    for left in (".journal.sqlite3.part", ".journal.sqlite3.part-journal", "journal.sqlite3-wal"):
        (tmp_path / left).write_bytes(b"half of something" * 1_000)
    create(path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    with closing(connect(path, read_only=True, busy_timeout_ms=0)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_an_empty_file_that_was_put_there_keeps_its_rights(tmp_path: Path):
    path = tmp_path / "journal.sqlite3"
    path.touch(mode=0o600)
    create(path)
    assert check_header(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_link_to_where_the_journal_is_to_be_stays_a_link(tmp_path: Path):
    link = tmp_path / "journal.sqlite3"
    link.symlink_to(tmp_path / "elsewhere" / "real.sqlite3")
    create(link)
    assert link.is_symlink()
    assert check_header(tmp_path / "elsewhere" / "real.sqlite3")
