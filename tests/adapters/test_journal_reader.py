"""Looking into a journal from outside, and bounding it, also while a server has it open."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from limner.adapters import journal_prune, journal_reader
from limner.adapters.journal_format import FORMAT, EventRow
from limner.adapters.journal_prune import Pruned, prune
from limner.adapters.journal_reader import JournalReader
from limner.adapters.journal_salvage import JournalSalvage
from limner.adapters.journal_sqlite import SQLiteJournal
from limner.errors import JournalDamaged, JournalTooNew, JournalUnreadable, StorageError
from limner.states import FoundPrompt, PromptFound, StreamEnded, StreamStarted, is_final
from limner.states.outcome import Counts
from tests.adapters.filled_journals import ODD, Play, append_all, make_journal, some_of_everything

DAY_MS = 24 * 60 * 60 * 1000


def one_picture(play: Play) -> None:
    play.illustrate("m", ["a fox"])


def no_pause(seconds: float) -> None:
    assert seconds >= 0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "journal.sqlite3"


@pytest.fixture
def play(path: Path) -> Play:
    return make_journal(path)


def contents_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def size_of(path: Path) -> int:
    """Bytes of the file and of its `-wal`."""
    return path.stat().st_size + Path(f"{path}-wal").stat().st_size


def rows_in(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as connection:
        counts = {}
        for table in ("sessions", "prompts", "events"):
            [counts[table]] = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        return counts


# --- reading


def test_sessions_are_listed_with_the_newest_first(path, play):
    listed = JournalReader(path).sessions()
    assert [summary.id for summary in listed] == list(reversed(play.sessions))
    for summary in listed:
        session = play.sessions[summary.id]
        last = [record.now for record in play.everything if record.session.id == session.id][-1]
        assert (summary.message_id, summary.kind) == (session.message_id, session.kind)
        assert (summary.state, summary.live) == (session.state, not is_final(session))
        assert (summary.opened_at, summary.ended_at) == (session.opened_at, session.ended_at)
        assert (summary.changed_at, summary.problem) == (last, session.problem)
        assert summary.missing == ()
    counts = {summary.message_id: summary.prompts for summary in reversed(listed)}
    assert counts["story"] == Counts(1, completed=1)
    assert counts["unlucky"] == Counts(2, failed=2)
    assert counts["cancelled"] == Counts(1, cancelled=1)
    assert counts["many"] == Counts(300, completed=300)
    assert counts["painting"] == Counts(2, queued=1, completed=1)
    assert counts["empty"] == Counts()


def test_only_live_sessions_or_those_of_one_message_are_listed_if_asked_for(path, play):
    reader = JournalReader(path)
    assert [summary.message_id for summary in reader.sessions(live_only=True)] == ["streaming", "painting"]
    assert [summary.kind for summary in reader.sessions(message_id="story")] == ["regeneration", "streaming"]
    assert [summary.message_id for summary in reader.sessions(message_id=ODD)] == [ODD]
    assert reader.sessions(message_id="story", live_only=True) == []


def test_the_history_of_a_session_is_every_event_with_its_time_and_the_state_after_it(path, play):
    reader = JournalReader(path)
    summaries = {summary.id: summary for summary in reader.sessions()}
    for session_id, session in play.sessions.items():
        history = reader.history(session_id)
        assert history is not None
        assert (history.summary, history.session) == (summaries[session_id], session)
        assert history.prompts == tuple(session.prompts.values())
        assert list(history.events) == [
            EventRow(session_id, record.now, record.event, record.session.state)
            for record in play.everything
            if record.session.id == session_id
        ]
    assert reader.history("nobody") is None


def test_sessions_are_found_by_the_beginning_of_their_id_or_by_their_message(path, play):
    reader = JournalReader(path)
    first, second, *_ = play.sessions
    assert [found.id for found in reader.find("story")] == [second, first]
    assert [found.message_id for found in reader.find(first)] == ["story"]
    assert len(reader.find("0000")) == len(play.sessions)
    assert [found.message_id for found in reader.find(ODD)] == [ODD]
    assert reader.find("nobody") == reader.find("half a pair \ud83d") == []


def test_looking_leaves_the_folder_as_it_was(path, play):
    before = contents_of(path.parent)
    reader = JournalReader(path)
    reader.check()
    reader.history(reader.sessions()[0].id)
    assert contents_of(path.parent) == before


def test_a_journal_under_another_name_is_read_with_what_is_only_in_the_wal(path, play, tmp_path):
    """A link to the file: what SQLite puts beside it stands beside the file itself."""
    link = tmp_path / "link.sqlite3"
    link.symlink_to(path)
    play.find("pending", ["a fox"])
    with closing(sqlite3.connect(path)) as keeps_the_wal:
        keeps_the_wal.execute("SELECT count(*) FROM events").fetchall()
        make_journal(path, lambda play: None, play)
        assert JournalReader(link).sessions()[0].message_id == "pending"
        with JournalSalvage(link) as found:
            assert found.sessions()[0].message_id == "pending"


@pytest.mark.anyio
async def test_a_journal_that_a_server_has_open_is_read_with_what_is_only_in_the_wal(path):
    play = Play()
    server = SQLiteJournal(path)
    await server.open()
    reader = JournalReader(path)
    assert reader.sessions() == []
    some_of_everything(play)
    await append_all(server, play)
    assert size_of(path) > path.stat().st_size
    reader.check()
    assert [summary.id for summary in reader.sessions()] == list(reversed(play.sessions))
    play.happen("another", StreamStarted())
    await append_all(server, play)
    assert reader.sessions(live_only=True)[0].message_id == "another"
    await server.aclose()


def test_who_begins_to_write_while_somebody_looks_is_not_half_seen(path, play, monkeypatch):
    """Where nothing is pending the main file alone is read; then a server opens it and writes into it."""
    connect_immutable = journal_reader._connect_immutable

    def connect_and_meanwhile(file: Path) -> sqlite3.Connection:
        connection = connect_immutable(file)
        connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
        play.illustrate("meanwhile", ["a fox"])
        make_journal(path, lambda play: None, play)
        return connection

    monkeypatch.setattr(journal_reader, "_connect_immutable", connect_and_meanwhile)
    assert JournalReader(path).sessions()[0].message_id == "meanwhile"


# --- what cannot be read


def test_a_journal_of_a_newer_format_is_refused_and_left_as_it_was(path, play):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    refused_and_left(
        path, JournalTooNew, f"has format {FORMAT + 1}; this Limner knows formats up to {FORMAT}"
    )


def test_a_newer_format_that_only_the_wal_tells_of_is_refused_too(path, play, tmp_path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
        copied = tmp_path / "copied" / path.name
        copied.parent.mkdir()
        for name in (path.name, f"{path.name}-wal"):
            (copied.parent / name).write_bytes((path.parent / name).read_bytes())
    with pytest.raises(JournalTooNew):
        JournalReader(copied).check()


def test_what_is_no_journal_is_refused_and_left_as_it_was(tmp_path):
    database = tmp_path / "messages.sqlite3"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE messages (id)")
    refused_and_left(database, JournalUnreadable, "an SQLite database, but no journal")
    text = tmp_path / "notes.txt"
    text.write_text("to do: nothing\n" * 20)
    refused_and_left(text, JournalUnreadable, "no journal of Limner's, or its beginning is damaged")


def test_an_empty_file_is_said_to_be_one(tmp_path):
    path = tmp_path / "journal.sqlite3"
    path.touch()
    refused_and_left(path, JournalDamaged, "is empty")


def test_a_file_that_is_not_there_or_a_folder_is_a_storage_error(tmp_path):
    for path, words in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        refused_and_left(path, StorageError, words)


def test_a_file_that_is_cut_off_or_overwritten_is_refused_as_damaged_and_left_as_it_was(path, play):
    data = path.read_bytes()
    for damaged in (
        data[: len(data) // 2],
        data[:-1],
        data[:4096],
        data[:8192] + bytes(4096) + data[12288:],
        data[:100] + bytes(3996) + data[4096:],
        data[:44] + b"\xff" * 4 + data[48:],
    ):
        path.write_bytes(damaged)
        refused_and_left(path, JournalDamaged, "is damaged")


@pytest.mark.parametrize("table", ["sessions", "prompts", "events"])
def test_a_row_that_is_not_what_was_written_is_refused_as_damage(path, table):
    play = make_journal(path, one_picture)
    [session_id] = play.sessions
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"UPDATE {table} SET body = replace(body, 'e', 'i')")
        connection.commit()
    reader = JournalReader(path)
    with pytest.raises(JournalDamaged, match="a row cannot be read"):
        reader.history(session_id)
    with pytest.raises(JournalDamaged, match=f"row 1 of its {table} was changed"):
        reader.check()
    # What has ended may go all the same: it is the way to be rid of it.
    reader.check(every_row=False)
    assert prune(path, play.now + 1, pause=no_pause).sessions == 1


def refused_and_left(path: Path, kind: type[StorageError], words: str) -> None:
    before = contents_of(path.parent) if path.is_file() else None
    for look in (
        JournalReader(path).check,
        lambda: prune(path, 0, pause=no_pause),
        lambda: JournalReader(path).count_ended(0),
    ):
        with pytest.raises(kind, match=words):
            look()
    if before is not None:
        assert contents_of(path.parent) == before


# --- pruning


def old_and_new(play: Play) -> int:
    """Sessions that ended long ago, one that began then and lives, and new ones; return a time in between."""
    play.illustrate("old", [f"picture {n}" for n in range(40)])
    play.click("old", "https://images.test/1.png", "a fox")
    play.happen("old and live", StreamStarted(), PromptFound(FoundPrompt("1f", "a cow")))
    between = play.now + DAY_MS // 2
    play.now += DAY_MS
    play.illustrate("new", ["a hen"])
    return between


@pytest.fixture
def between(path: Path) -> int:
    play = Play()
    moment = old_and_new(play)
    make_journal(path, lambda play: None, play)
    return moment


def test_sessions_that_ended_long_ago_go_with_all_their_rows_and_live_ones_stay(path, between):
    before, size = rows_in(path), path.stat().st_size
    reader = JournalReader(path)
    assert reader.count_ended(between) == 2
    done = prune(path, between, pause=no_pause)
    assert (done.sessions, done.shrink_later) == (2, False)
    assert [summary.message_id for summary in reader.sessions()] == ["new", "old and live"]
    assert before["sessions"] - rows_in(path)["sessions"] == 2
    assert rows_in(path)["prompts"] == 2
    assert rows_in(path)["events"] == 9
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert done.freed_bytes == size - path.stat().st_size > 40_000
    reader.check()
    assert prune(path, between, pause=no_pause) == Pruned(0, 0, shrink_later=False)


def test_a_session_that_was_changed_at_that_very_moment_stays(path):
    play = make_journal(path, one_picture)
    assert prune(path, play.now, pause=no_pause).sessions == 0
    assert prune(path, play.now + 1, pause=no_pause).sessions == 1


@pytest.mark.anyio
async def test_pruning_shrinks_the_file_under_a_running_server_which_goes_on(path):
    play = Play()
    moment = old_and_new(play)
    server = SQLiteJournal(path)
    await server.open()
    await append_all(server, play)
    done = prune(path, moment, pause=no_pause)
    assert (done.sessions, done.shrink_later) == (2, False)
    assert done.freed_bytes > 40_000
    assert size_of(path) == path.stat().st_size < 50_000
    play.paint("old and live", "1f")
    play.happen("old and live", StreamEnded((FoundPrompt("1f", "a cow"),)))
    last = play.write("old and live")
    play.illustrate("after", ["a pig"])
    await append_all(server, play)
    assert await server.past_sessions("old and live") == [last]
    assert await server.past_sessions("old") == []
    await server.aclose()
    reader = JournalReader(path)
    reader.check()
    assert [summary.message_id for summary in reader.sessions()] == ["after", "new", "old and live"]


def test_somebody_who_reads_meanwhile_keeps_the_room_and_nobody_waits_for_him(path, between):
    with closing(sqlite3.connect(path, isolation_level=None)) as reading:
        reading.execute("BEGIN")
        size = path.stat().st_size
        [seen] = reading.execute("SELECT count(*) FROM sessions").fetchone()
        done = prune(path, between, pause=no_pause)
        assert (done.sessions, done.shrink_later) == (2, True)
        assert reading.execute("SELECT count(*) FROM sessions").fetchone() == (seen,)
        assert path.stat().st_size == size
    with closing(sqlite3.connect(path)) as next_one:
        next_one.execute("SELECT count(*) FROM sessions").fetchall()
    assert path.stat().st_size == size - done.freed_bytes


@pytest.mark.parametrize(("sessions", "rows", "times"), [(4, 10_000, 3), (500, 5, 5), (500, 1, 10)])
def test_the_work_is_done_in_small_pieces_between_which_others_can_write(
    path, monkeypatch, sessions, rows, times
):
    def ten(play: Play) -> None:
        for number in range(10):
            play.happen(f"{number}", StreamStarted())
            play.cancel(f"{number}")
            play.find(f"{number}", ["a"])  # a live one of the same message stays
        for number in range(10):
            play.cancel(f"{number}")

    play = make_journal(path, ten)
    monkeypatch.setattr(journal_prune, "SESSIONS_AT_ONCE", sessions)
    monkeypatch.setattr(journal_prune, "ROWS_AT_ONCE", rows)
    monkeypatch.setattr(journal_prune, "PAGES_AT_ONCE", 10_000)
    ended_last = min(session.ended_at or 0 for session in play.sessions.values() if session.prompts)
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as server:
        written = []

        def write(seconds: float) -> None:
            server.execute("BEGIN IMMEDIATE")
            server.execute("UPDATE sessions SET live = live")
            server.execute("COMMIT")
            written.append(seconds)

        assert prune(path, ended_last, pause=write).sessions == 10
        assert prune(path, play.now + 1, pause=no_pause).sessions == 10
    assert len(written) in (times, times + 1)  # one more where pages became free


def test_free_pages_are_given_back_many_at_a_time(path, between, monkeypatch):
    monkeypatch.setattr(journal_prune, "PAGES_AT_ONCE", 10)
    pauses: list[float] = []
    done = prune(path, between, pause=pauses.append)
    pages = done.freed_bytes // 4096
    assert len(pauses) == 1 + -(-pages // 10)
    assert pages > 15


def test_somebody_who_holds_the_lock_for_long_is_a_storage_error(path, between, monkeypatch):
    monkeypatch.setattr(journal_prune, "BUSY_TIMEOUT_MS", 0)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="locked"):
            prune(path, between, pause=no_pause)
        other.execute("ROLLBACK")
    assert prune(path, between, pause=no_pause).sessions == 2


def test_a_file_that_was_not_made_to_shrink_is_pruned_all_the_same(path, between):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("VACUUM")
    assert prune(path, between, pause=no_pause) == Pruned(2, 0, shrink_later=False)


def test_a_session_that_came_back_to_a_number_is_not_taken_for_the_one_that_had_it(
    path, between, monkeypatch
):
    """Between looking and deleting somebody else prunes, and a new session gets the number."""
    next_sessions = journal_prune._next_sessions
    rounds: Iterator[int] = iter(range(9))

    def meanwhile(*arguments):
        chosen = next_sessions(*arguments)
        if next(rounds) == 0:
            with closing(sqlite3.connect(path)) as other:
                other.execute("UPDATE sessions SET live = 1 WHERE number = 1")
                other.commit()
        return chosen

    monkeypatch.setattr(journal_prune, "_next_sessions", meanwhile)
    assert prune(path, between, pause=no_pause).sessions == 1
    assert rows_in(path)["prompts"] == 42
