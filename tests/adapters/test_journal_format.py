"""The rows of the journal: what is written comes back, and what was released stays readable."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from shutil import copyfile
from typing import Any, get_args
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner import states
from limner.adapters.journal_format import (
    EVENTS,
    FORMAT,
    BadRow,
    EventRow,
    event_body,
    message_key,
    prompt_body,
    read_body,
    session_body,
    to_event,
    to_session,
)
from limner.adapters.journal_sqlite import SQLiteJournal
from limner.states import Event, Prompt, Session, SessionSettings, TimerKind
from limner.states.message import replay
from limner.states.values import FoundPrompt, Image, PlacedImage, Problem, Timer, UnplacedImage
from limner.workflows.ports import JournalRecord
from tests.adapters.journals import lives, make, sample
from tests.adapters.lives import AWKWARD, opened

# Every text that a str can be, half characters included.
TEXTS = st.text(st.characters(exclude_categories=()), max_size=20) | st.just(AWKWARD)
NUMBERS = st.integers(0, 2**53)

st.register_type_strategy(str, TEXTS)
st.register_type_strategy(int, NUMBERS)
VALUES = {
    kind: st.builds(kind)
    for kind in (FoundPrompt, Image, PlacedImage, Problem, UnplacedImage, Timer, SessionSettings)
}
PROMPTS = st.builds(Prompt)
SESSIONS = st.builds(
    Session,
    prompts=st.lists(PROMPTS, max_size=4, unique_by=lambda prompt: prompt.id).map(
        lambda prompts: {prompt.id: prompt for prompt in prompts}
    ),
)
ANY_EVENT = st.one_of(*(st.builds(kind) for kind in EVENTS.values()))


# --- what is written comes back


@given(SESSIONS, NUMBERS)
def test_a_session_comes_back_from_its_rows_as_it_was(session: Session, changed_at: int):
    prompts = [
        prompt_body(session.id, place, prompt) for place, prompt in enumerate(session.prompts.values())
    ]
    # Rows come in any order.
    fields = [read_body(*body) for body in reversed(prompts)]
    again = to_session(read_body(*session_body(session, changed_at)), fields)
    assert again == session
    assert list(again.prompts) == list(session.prompts)
    assert type(again.settings.on_drain_timeout) is type(session.settings.on_drain_timeout)


@given(ANY_EVENT, TEXTS, NUMBERS)
def test_an_event_comes_back_from_its_row_as_it_was(event: Event, session_id: str, at: int):
    row = EventRow(session_id, at, event, "streaming")
    assert to_event(read_body(*event_body(row))) == row


@given(TEXTS, TEXTS)
def test_two_messages_have_one_key_only_if_they_are_one(first: str, second: str):
    assert (message_key(first) == message_key(second)) == (first == second)


@given(SESSIONS)
def test_a_body_is_plain_ascii_so_that_any_sqlite_shell_shows_it(session: Session):
    body = session_body(session, 0)
    assert body.text.isascii()
    assert body.text.isprintable()


def test_every_event_of_the_machines_has_its_name_in_the_file():
    union = {kind for alias in get_args(Event) for kind in (get_args(alias) or (alias,))}
    assert set(EVENTS.values()) == union
    assert all(name == kind.name for name, kind in EVENTS.items())


# --- what is no row is refused


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", '{"is":"something"}', "null", '{"is":["session"]}', "{"],
)
def test_json_that_is_no_row_is_a_bad_row(text: str):
    with pytest.raises(BadRow):
        read_body(text, crc32(text.encode()))


@pytest.mark.parametrize("text", [None, 7, b"{}", "", "\ud83d"])
def test_what_is_no_text_is_a_bad_row(text: object):
    with pytest.raises(BadRow):
        read_body(text, 0 if text else 1)


@given(st.binary(min_size=1, max_size=3), st.data())
def test_a_changed_byte_is_noticed(noise: bytes, data: st.DataObject):
    text, crc = session_body(opened("s"), 0)
    raw = bytearray(text.encode())
    at = data.draw(st.integers(0, len(raw) - len(noise)))
    if bytes(raw[at : at + len(noise)]) == noise:
        return
    raw[at : at + len(noise)] = noise
    with pytest.raises(BadRow, match="checksum"):
        read_body(raw.decode("utf-8", "replace"), crc)


@pytest.mark.parametrize("missing", ["id", "state", "settings", "opened_at"])
def test_a_session_that_lacks_a_field_is_a_bad_row(missing: str):
    fields = read_body(*session_body(opened("s"), 0))
    del fields[missing]
    if missing == "state":
        assert to_session(fields, []).state == "idle"  # what has a default may be left out
    else:
        with pytest.raises(BadRow, match="no Session"):
            to_session(fields, [])


@pytest.mark.parametrize(("field", "value"), [("kind", "dream"), ("timers", 7), ("opened_at", "soon")])
def test_a_session_with_a_senseless_field_is_a_bad_row(field: str, value: Any):
    fields = read_body(*session_body(opened("s"), 0)) | {field: value}
    with pytest.raises(BadRow):
        to_session(fields, [])


def test_an_unknown_event_is_a_bad_row():
    fields = read_body(*event_body(EventRow("s", 0, states.StreamStarted(), "streaming")))
    with pytest.raises(BadRow, match="unknown event 'dreamt'"):
        to_event(fields | {"event": "dreamt"})


@pytest.mark.parametrize("missing", ["session", "at", "state", "event"])
def test_an_event_that_lacks_a_field_is_a_bad_row(missing: str):
    fields = read_body(*event_body(EventRow("s", 0, states.StreamStarted(), "streaming")))
    del fields[missing]
    with pytest.raises(BadRow):
        to_event(fields)


def test_a_prompt_without_a_place_is_a_bad_row():
    fields = read_body(*prompt_body("s", 0, Prompt("p", "p", "t", 0, 1, "queued")))
    del fields["place"]
    with pytest.raises(BadRow):
        to_session(read_body(*session_body(opened("s"), 0)), [fields])


def test_what_a_newer_version_of_this_format_adds_is_passed_over():
    fields = read_body(*session_body(opened("s"), 0)) | {"mood": "cheerful"}
    assert to_session(fields, []) == opened("s")


def test_timers_keep_their_kind():
    session = opened("s")._replace(timers=(Timer(5, TimerKind.DRAIN),))
    [timer] = to_session(read_body(*session_body(session, 0)), []).timers
    assert timer.kind is TimerKind.DRAIN


# --- samples of the released formats

FORMATS = range(1, FORMAT + 1)


def expected() -> tuple[Sequence[Session], Sequence[Session]]:
    """The live sessions of the samples, and those that have ended."""
    last = [life[-1].session for life in lives()]
    return [s for s in last if s.ended_at is None], [s for s in last if s.ended_at is not None]


@pytest.fixture(params=FORMATS)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a sample."""
    path = tmp_path / "journal.sqlite3"
    copyfile(sample(request.param), path)
    return path


@pytest.mark.anyio
async def test_a_sample_of_every_released_format_is_read(kept: Path):
    live, ended = expected()
    journal = SQLiteJournal(kept)
    contents = await journal.open()
    assert list(contents.live) == live
    assert contents.ended == len(ended)
    for message_id in {session.message_id for session in ended}:
        found = await journal.past_sessions(message_id)
        assert list(found) == [session for session in ended if session.message_id == message_id]
    # And it is gone on with.
    await journal.append([JournalRecord(live[0], states.TIME_PASSED, 99_000, live[0])])
    await journal.aclose()


def events_in(path: Path) -> dict[str, list[EventRow]]:
    found: dict[str, list[EventRow]] = {}
    with closing(sqlite3.connect(path)) as connection:
        for body in connection.execute("SELECT body, crc FROM events ORDER BY number"):
            row = to_event(read_body(*body))
            found.setdefault(row.session_id, []).append(row)
    return found


def test_replaying_a_sample_gives_its_sessions_event_by_event(kept: Path):
    rows = events_in(kept)
    for life in lives():
        last = life[-1].session
        events = [(row.event, row.at) for row in rows[last.id]]
        idle = Session(last.id, last.message_id, last.kind, last.settings, last.opened_at)
        assert list(replay(idle, events)) == [record.session for record in life]
        assert [row.state for row in rows[last.id]] == [record.session.state for record in life]


def test_the_samples_hold_every_kind_of_event(kept: Path):
    names = {row.event.name for rows in events_in(kept).values() for row in rows}
    assert names == set(EVENTS)


@pytest.mark.anyio
async def test_todays_version_still_writes_the_newest_format_as_its_sample_has_it(tmp_path: Path):
    # Else the format has changed without a new number.
    path = tmp_path / "new.sqlite3"
    await make(path)
    assert rows_of(path) == rows_of(sample(FORMAT))


@pytest.mark.anyio
async def test_a_sample_is_never_made_again():
    with pytest.raises(FileExistsError, match="kept for ever"):
        await make(sample(FORMAT))


def rows_of(path: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        tables = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
        rows = [
            (table, *row[:-2], json.loads(row[-2]))
            for table in ("sessions", "prompts", "events")
            for row in connection.execute(f"SELECT * FROM {table} ORDER BY number")
        ]
    return [*tables, *rows]
