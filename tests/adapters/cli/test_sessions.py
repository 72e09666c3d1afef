"""`limner sessions`: what a journal holds, the history of one session, and bounding the file."""

from __future__ import annotations

import io
import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from limner.adapters.cli.session_tables import print_history, print_sessions
from limner.adapters.journal_reader import JournalReader, SessionSummary
from limner.states.outcome import Counts
from limner.workflows.prompts import prompt_id
from tests.adapters.cli.conftest import PATIENCE_S, start
from tests.adapters.filled_journals import ODD, START, Play, make_journal, some_of_everything

PAINTED = prompt_id("painting", "a horse", 0)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal where a `Limner` keeps it that was told nothing else."""
    path = tmp_path / "limner-data" / "journal.sqlite3"
    make_journal(path)
    return path


# --- the list


def test_all_sessions_are_listed_the_newest_first(run, journal):
    result = run("sessions")
    assert result.exit_code == 0
    heading, *rows, summary = result.stdout.splitlines()
    assert heading.split() == ["session", "message", "kind", "state", "images", "began", "took", "problem"]
    assert len(rows) == 10
    assert "streaming" in rows[0]
    assert "1/2" in rows[1]
    assert summary.startswith("10 sessions, 2 live.")


def test_only_live_ones_and_only_those_of_one_message_can_be_asked_for(run, journal):
    assert run("sessions", "--live").stdout.splitlines()[-1].startswith("2 sessions, 2 live.")
    rows = run("sessions", "--message", "story").stdout.splitlines()[1:-1]
    assert ["regeneration" in row for row in rows] == [True, False]
    assert run("sessions", "--message", "nobody").stdout == "no sessions\n"
    assert len(run("sessions", "--message", ODD.replace("\ud83d", "")).stdout.splitlines()) == 1


def test_in_a_pipe_nothing_is_cut_off(run, tmp_path):
    long = "a message id that somebody has made much longer than any terminal is wide " * 4

    def one(play: Play) -> None:
        play.illustrate(long.strip(), ["a cat"])

    make_journal(tmp_path / "j.sqlite3", one)
    printed = run("sessions", "--journal", "j.sqlite3").stdout
    assert long.strip() in printed
    assert "…" not in printed


@pytest.mark.parametrize("width", [60, 80, 109, 120, 200])
def test_on_a_terminal_every_session_is_one_line_that_fits(journal, width):
    screen = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, highlight=False)
    reader = JournalReader(journal)
    print_sessions(screen, reader.sessions(), "limner sessions show ID")
    for found in reader.sessions():
        history = reader.history(found.id)
        assert history is not None
        print_history(screen, history)
    assert isinstance(screen.file, io.StringIO)
    lines = screen.file.getvalue().splitlines()
    if width >= 80:
        # What became of a prompt stands below it, indented, and is whole: its address is to be copied.
        assert max(cell_len(line) for line in lines if not line.startswith(" ")) <= width
        assert any(line.strip() == f"https://images.test/{PAINTED}.png" for line in lines)
        # What is short is never cut, whatever is long beside it.
        assert any("cancelled" in line for line in lines)
        assert any("generation_succeeded" in line for line in lines)
    assert lines[11].startswith("10 sessions")


def test_as_json_each_session_has_its_times_twice(run, journal):
    sessions = json.loads(run("sessions", "--json").stdout)
    assert len(sessions) == 10
    oldest = sessions[-1]
    assert oldest["message_id"] == "story"
    assert oldest["opened_at"] == START + 1
    assert oldest["opened_at_iso"] == "2023-11-14T22:13:20.001+00:00"
    assert oldest["counts"]["completed"] == 3
    assert [session["live"] for session in sessions].count(True) == 2
    assert {session["message_id"] for session in sessions} >= {ODD}
    assert json.loads(run("sessions", "--message", "nobody", "--json").stdout) == []


# --- one session


def first_id(run, *arguments: str) -> str:
    return str(json.loads(run("sessions", "--json", *arguments).stdout)[0]["id"])


def test_the_history_has_every_event_with_its_time_and_the_state_after_it(run, journal):
    wanted = first_id(run, "--message", "unlucky")
    result = run("sessions", "show", wanted)
    assert result.exit_code == 0
    events = result.stdout.split("then")[1].splitlines()[1:]
    assert [line.split()[1] for line in events] == [
        "stream_started",
        "prompt_found",
        "prompt_found",
        "stream_ended",
        "generation_started",
        "generation_failed",
        "generation_started",
        "generation_failed",
        "written",
    ]
    assert [line.split()[-1] for line in events[-3:]] == ["draining", "inserting", "done"]
    assert "bad_request: refused" in result.stdout


def test_images_and_jobs_are_named(run, journal):
    printed = run("sessions", "show", first_id(run, "--message", "painting")).stdout
    assert "https://images.test/" in printed
    assert "is job job of" in printed


def test_the_beginning_of_an_id_is_enough_and_so_is_a_message_with_one_session(run, journal):
    wanted = first_id(run, "--message", "long")
    assert wanted in run("sessions", "show", wanted[:8]).stdout
    assert wanted in run("sessions", "show", "long").stdout


def test_an_id_that_fits_several_is_refused_with_what_it_fits(run, journal):
    result = run("sessions", "show", "story")
    assert result.exit_code == 2
    assert result.stderr.startswith("limner: 2 sessions fit 'story': ")
    assert run("sessions", "show", "nobody").stderr == (
        "limner: no session 'nobody'; `limner sessions` lists them\n"
    )


def test_a_history_as_json_has_everything_that_the_journal_has(run, journal):
    history = json.loads(run("sessions", "show", "painting", "--json").stdout)
    assert [prompt["state"] for prompt in history["prompts"]] == ["completed", "queued"]
    assert history["prompts"][0]["image"]["url"].startswith("https://images.test/")
    assert history["events"][0]["event"] == "stream_started"
    assert history["events"][0]["at_iso"].endswith("+00:00")
    assert history["events"][-1]["image"]["width"] == 8


@pytest.mark.parametrize("command", [["sessions"], ["sessions", "show", "unlucky"]])
def test_nothing_that_a_terminal_would_obey_is_printed(run, journal, command):
    printed = run(*command).stdout
    assert printed.isprintable() or set(printed) - {"\n"} == {ch for ch in printed if ch.isprintable()}
    assert "[31m" in printed  # what is left of an escape sequence


# --- a journal that cannot be had, or not whole


def test_a_journal_that_is_not_there_is_one_line(run):
    result = run("sessions")
    assert result.exit_code == 2
    assert result.stderr == "limner: no journal limner-data/journal.sqlite3; name it with --journal FILE\n"


@pytest.mark.parametrize(
    "command", [["sessions"], ["sessions", "show", "x"], ["sessions", "prune", "--older-than", "1d"]]
)
def test_another_file_is_refused_and_left_as_it_was(run, tmp_path, command):
    diary = tmp_path / "diary.txt"
    diary.write_text("Dear diary, " * 1_000)
    result = run(*command, "--journal", "diary.txt")
    assert result.exit_code == 4
    assert result.stderr.startswith("limner: diary.txt is no journal of Limner's")
    assert len(result.stderr.splitlines()) == 1
    assert diary.read_text() == "Dear diary, " * 1_000


def test_a_newer_format_is_refused_and_left_as_it_was(run, journal):
    with closing(sqlite3.connect(journal)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = journal.read_bytes()
    result = run("sessions")
    assert result.exit_code == 4
    assert "has format 99" in result.stderr
    assert journal.read_bytes() == before


@pytest.mark.parametrize("page", [0, 1, 5, 20])
def test_of_a_damaged_file_everything_is_listed_that_can_still_be_read(run, journal, page):
    data = bytearray(journal.read_bytes())
    data[page * 4096 : (page + 1) * 4096] = bytes(4096)
    journal.write_bytes(data)
    result = run("sessions")
    assert result.exit_code == 4
    assert "cannot be read. This is what is left of it." in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "many" in result.stdout
    assert journal.read_bytes() == data
    shown = run("sessions", "show", "many")
    assert shown.exit_code == 4
    assert "generation_succeeded" in shown.stdout


def test_a_truncated_file_is_listed_as_far_as_it_goes(run, journal):
    data = journal.read_bytes()[: 50 * 4096 + 100]
    journal.write_bytes(data)
    result = run("sessions", "--json")
    assert result.exit_code == 4
    found = json.loads(result.stdout)
    assert len(found) > 3
    # Whoever lost its row says so; its events tell what there was.
    assert all(session["message_id"] is not None or session["missing"] for session in found)
    assert journal.read_bytes() == data


def test_damage_that_costs_no_row_is_said_all_the_same(run, journal):
    """The beginning of the file is lost, which nothing is read from here."""
    data = journal.read_bytes()
    journal.write_bytes(bytes(100) + data[100:])
    result = run("sessions")
    assert result.exit_code == 4
    assert "; 1 of " in result.stderr
    assert len(result.stdout.splitlines()) == 12
    # A file that only ends too late has lost nothing.
    journal.write_bytes(data + b"more")
    result = run("sessions")
    assert result.exit_code == 4
    assert "it ends in the middle of a page" in result.stderr
    assert len(result.stdout.splitlines()) == 12


def test_one_changed_row_is_noticed_and_all_others_are_listed(run, journal):
    with closing(sqlite3.connect(journal)) as connection:
        connection.execute("UPDATE events SET body = replace(body, 'e', 'i') WHERE number = 3")
        connection.commit()
    result = run("sessions")
    assert result.exit_code == 4
    assert "row 3 of its events was changed; 1 row cannot be read." in result.stderr
    assert "lost: perhaps some of its events" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("10 sessions")


def test_of_a_file_of_which_nothing_is_left_that_alone_is_said(run, journal):
    for left in (b"", journal.read_bytes()[:4096], bytes(100_000)):
        journal.write_bytes(left)
        result = run("sessions")
        assert result.exit_code == 4
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 1
        assert journal.read_bytes() == left


def test_somebody_else_s_database_is_refused_without_being_read_through(run, tmp_path, monkeypatch):
    with closing(sqlite3.connect(tmp_path / "other.sqlite3")) as connection:
        connection.execute("CREATE TABLE sessions (id)")
    monkeypatch.delattr("limner.adapters.cli.sessions.JournalSalvage")
    result = run("sessions", "--journal", "other.sqlite3")
    assert result.exit_code == 4
    assert result.stderr == "limner: other.sqlite3 is an SQLite database, but no journal of Limner's\n"


# --- pruning


def test_what_ended_long_ago_is_taken_out_and_the_file_gets_smaller(run, journal):
    recent = Play(time.time_ns() // 1_000_000 - 3_600_000)
    recent.opened = 10_000

    def one(play: Play) -> None:
        play.illustrate("recent", ["a cat"])

    make_journal(journal, one, recent)
    before = journal.stat().st_size
    assert run("sessions", "prune", "--older-than", "30d", "--dry-run").stdout == "8 sessions would go\n"
    assert journal.stat().st_size == before
    result = run("sessions", "prune", "--older-than", "30d")
    assert result.exit_code == 0
    assert result.stdout.startswith("8 sessions taken out, ")
    assert journal.stat().st_size < before / 2
    left = [session["message_id"] for session in json.loads(run("sessions", "--json").stdout)]
    assert left == ["recent", "streaming", "painting"]
    assert run("sessions", "prune", "--older-than", "30d").stdout.startswith("0 sessions taken out")


@pytest.mark.parametrize("age", ["", "30", "d", "-1d", "1.5d", "30 days", "1y"])
def test_an_age_that_is_none_is_refused(run, journal, age):
    result = run("sessions", "prune", "--older-than", age)
    assert result.exit_code == 2
    assert "an age is a number with s, m, h, d or w" in result.stderr


@pytest.mark.parametrize(("age", "gone"), [("0s", 8), ("90m", 8), ("12h", 8), ("4w", 8), ("9999w", 0)])
def test_ages_come_in_five_units(run, journal, age, gone):
    assert run("sessions", "prune", "--older-than", age, "--dry-run").stdout.startswith(f"{gone} session")


def test_a_damaged_journal_is_not_pruned(run, journal):
    data = bytearray(journal.read_bytes())
    data[5 * 4096 : 6 * 4096] = bytes(4096)
    journal.write_bytes(data)
    result = run("sessions", "prune", "--older-than", "1d")
    assert result.exit_code == 4
    assert "is damaged" in result.stderr
    assert journal.read_bytes() == data


def test_room_that_somebody_who_reads_still_keeps_is_promised(run, journal):
    with closing(sqlite3.connect(journal, isolation_level=None)) as reading:
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM sessions").fetchall()
        printed = run("sessions", "prune", "--older-than", "1d").stdout
    assert printed.startswith("8 sessions taken out, ")
    assert printed.endswith("will be given back once nobody reads the file\n")


# --- what all three share


def test_what_is_meant_for_the_list_is_refused_elsewhere(run, journal):
    for option in (["--live"], ["--message", "m"]):
        for command in (["show", "x"], ["prune", "--older-than", "1d"]):
            result = run("sessions", *option, *command)
            assert result.exit_code == 2
            assert "--live and --message are for the list" in result.stderr
    assert run("sessions", "--json", "prune", "--older-than", "1d").exit_code == 2


def test_json_may_be_asked_for_before_or_behind_the_command(run, journal):
    before, behind = run("sessions", "--json", "show", "long"), run("sessions", "show", "long", "--json")
    assert json.loads(before.stdout) == json.loads(behind.stdout)


def test_ids_are_shown_as_far_as_it_takes_to_tell_them_apart():
    ids = ["3f2a91c0aa", "3f2a91c0ab", "5c8c5670aa", "b8"]
    sessions = [SessionSummary(each, 1, "m", "k", "done", False, 0, 0, 0, Counts()) for each in ids]
    screen = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    print_sessions(screen, sessions, "limner sessions show ID")
    print_sessions(screen, sessions[1:], "limner sessions show ID")
    assert isinstance(screen.file, io.StringIO)
    shown = [line.split()[0] for line in screen.file.getvalue().splitlines()]
    assert shown[1:5] == ["3f2a91c0aa", "3f2a91c0ab", "5c8c5670aa", "b8"]
    assert shown[7:10] == ["3f2a91c0", "5c8c5670", "b8"]


def test_a_host_s_clock_that_is_beyond_any_year_breaks_nothing(run, tmp_path):
    def one(play: Play) -> None:
        play.illustrate("m", ["a cat"])

    make_journal(tmp_path / "j.sqlite3", one, Play(10**17))
    assert "100000000000000001 ms" in run("sessions", "--journal", "j.sqlite3").stdout
    assert "100000000000000001 ms" in run("sessions", "show", "m", "--journal", "j.sqlite3").stdout
    [session] = json.loads(run("sessions", "--json", "--journal", "j.sqlite3").stdout)
    assert (session["opened_at"], session["opened_at_iso"]) == (10**17 + 1, None)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_who_goes_away_is_no_error(journal, tmp_path, options):
    process = start("sessions", *options, cwd=tmp_path)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(PATIENCE_S) == 1


def test_what_an_encoding_does_not_have_is_shown_as_an_escape(journal, tmp_path):
    process = start("sessions", "show", "unlucky", cwd=tmp_path, env={"PYTHONIOENCODING": "latin-1"})
    printed, errors = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, errors) == (0, b"")
    assert b"\\U0001f98a" in printed


def test_the_journal_may_be_named_before_or_behind_the_command(run, tmp_path):
    make_journal(tmp_path / "j.sqlite3", some_of_everything)
    for arguments in (
        ["--journal", "j.sqlite3", "show", "painting"],
        ["show", "painting", "--journal", "j.sqlite3"],
    ):
        assert run("sessions", *arguments).exit_code == 0


def test_the_command_that_shows_one_can_be_pasted_with_the_journal_that_was_named(run, journal):
    assert f"limner sessions show ID --journal {journal}" in run("sessions", "--journal", str(journal)).stdout
