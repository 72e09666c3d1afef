"""Looking into a journal from outside, and pruning it, while a server has it open."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from limner.adapters.journal_prune import prune
from limner.adapters.journal_reader import JournalReader
from limner.adapters.journal_sqlite import SQLiteJournal
from limner.errors import JournalDamaged, JournalTooNew, JournalUnreadable, StorageError
from tests.adapters.filled_journals import START, Play, append_all, make_journal

LONG_AFTER = START + 10**9


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Play]:
    """A journal with some of everything, and what was told to it."""
    path = tmp_path / "journal.sqlite3"
    return path, make_journal(path)


def test_every_session_is_read_as_it_was_written_with_all_of_its_events(made):
    path, play = made
    reader = JournalReader(path)
    assert {summary.id for summary in reader.sessions()} == set(play.sessions)
    for session_id, session in play.sessions.items():
        history = reader.history(session_id)
        assert history is not None
        assert history.session == session
        records = [record for record in play.everything if record.session.id == session_id]
        assert [(row.event, row.at, row.state) for row in history.events] == [
            (record.event, record.now, record.session.state) for record in records
        ]
    assert reader.history("nobody") is None


def test_looking_leaves_nothing_beside_a_journal_that_was_closed(made):
    path, _ = made
    before = {other.name: other.read_bytes() for other in path.parent.iterdir()}
    reader = JournalReader(path)
    reader.check()
    reader.sessions()
    assert {other.name: other.read_bytes() for other in path.parent.iterdir()} == before


@pytest.mark.anyio
async def test_a_journal_that_is_in_use_is_read_with_what_was_committed_last(tmp_path):
    path, play = tmp_path / "journal.sqlite3", Play()
    journal = SQLiteJournal(path)
    await journal.open()
    try:
        play.illustrate("first", ["a cat"])
        await append_all(journal, play)
        reader = JournalReader(path)
        assert [summary.message_id for summary in reader.sessions()] == ["first"]
        play.find("second", ["a dog"])
        await append_all(journal, play)
        assert [summary.message_id for summary in reader.sessions(live_only=True)] == ["second"]
    finally:
        await journal.aclose()


@pytest.mark.anyio
async def test_a_journal_in_use_is_pruned_and_the_server_goes_on(tmp_path):
    path, play = tmp_path / "journal.sqlite3", Play()
    journal = SQLiteJournal(path)
    await journal.open()
    try:
        for number in range(50):
            play.illustrate(f"old {number}", ["a cat", "a dog"])
        live = play.find("live", ["an owl"])
        await append_all(journal, play)

        pruned = prune(path, LONG_AFTER, pause=lambda seconds: None)
        assert pruned.sessions == 50
        for prompt in live:
            play.paint("live", prompt.id)
        last = play.write("live")
        await append_all(journal, play)
        assert await journal.past_sessions("live") == [last]
        assert await journal.past_sessions("old 1") == []
    finally:
        await journal.aclose()
    assert len(JournalReader(path).sessions()) == 1


def test_pruning_takes_the_rows_and_gives_the_room_back_but_never_a_live_session(made):
    path, play = made
    before = path.stat().st_size
    reader = JournalReader(path)
    live = {summary.id for summary in reader.sessions(live_only=True)}
    assert reader.count_ended(LONG_AFTER) == len(play.sessions) - len(live)
    pruned = prune(path, LONG_AFTER, pause=lambda seconds: None)
    assert pruned.sessions == len(play.sessions) - len(live)
    assert pruned.freed_bytes == before - path.stat().st_size > 0
    assert {summary.id for summary in reader.sessions()} == live
    for session_id in live:
        history = reader.history(session_id)
        assert history is not None
        assert history.session == play.sessions[session_id]
    with closing(sqlite3.connect(path)) as connection:
        for table in ("prompts", "events"):
            [orphans] = connection.execute(
                f"SELECT count(*) FROM {table} WHERE session NOT IN (SELECT number FROM sessions)"
            ).fetchone()
            assert orphans == 0
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_what_is_younger_stays(made):
    path, play = made
    first = next(iter(play.sessions.values()))
    assert first.ended_at is not None
    assert prune(path, first.ended_at, pause=lambda seconds: None).sessions == 0
    assert prune(path, first.ended_at + 1, pause=lambda seconds: None).sessions == 1
    assert len(JournalReader(path).sessions()) == len(play.sessions) - 1


def test_the_work_is_done_in_pieces_with_pauses_between(tmp_path, monkeypatch):
    from limner.adapters import journal_prune

    path, play = tmp_path / "journal.sqlite3", Play()

    def many(play: Play) -> None:
        for number in range(30):
            play.illustrate(f"m{number}", ["a cat"])

    make_journal(path, many, play)
    monkeypatch.setattr(journal_prune, "SESSIONS_AT_ONCE", 7)
    pauses: list[float] = []
    assert prune(path, LONG_AFTER, pause=pauses.append).sessions == 30
    assert len(pauses) >= 5


def test_somebody_who_holds_the_lock_for_long_is_a_storage_error(made, monkeypatch):
    from limner.adapters import journal_prune

    path, _ = made
    monkeypatch.setattr(journal_prune, "BUSY_TIMEOUT_MS", 0)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="locked"):
            prune(path, LONG_AFTER, pause=lambda seconds: None)
        other.execute("ROLLBACK")
    assert prune(path, LONG_AFTER, pause=lambda seconds: None).sessions > 0


@pytest.mark.parametrize("version", [2, 99])
def test_a_newer_format_is_refused(made, version):
    path, _ = made
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(JournalTooNew):
        JournalReader(path).sessions()
    with pytest.raises(JournalTooNew):
        prune(path, LONG_AFTER)


def test_what_is_no_journal_or_damaged_is_refused(made, tmp_path):
    path, _ = made
    other = tmp_path / "other.sqlite3"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE sessions (id)")
    with pytest.raises(JournalUnreadable, match="no journal of Limner's"):
        JournalReader(other).sessions()
    path.write_bytes(path.read_bytes()[:-5_000])
    with pytest.raises(JournalDamaged):
        JournalReader(path).check()
    (tmp_path / "empty.sqlite3").touch()
    with pytest.raises(JournalDamaged, match="is empty"):
        JournalReader(tmp_path / "empty.sqlite3").sessions()
