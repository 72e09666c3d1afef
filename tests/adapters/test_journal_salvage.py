"""What is still read of a journal that was cut short or damaged, page by page."""

from __future__ import annotations

import errno
import io
import json
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limner.adapters.journal_format import APPLICATION_ID, TABLES, EventRow
from limner.adapters.journal_prune import prune
from limner.adapters.journal_reader import JournalReader, SessionHistory
from limner.adapters.journal_rebuild import NEWEST_ROW, OWN_ROW, PERHAPS_EVENTS, SOME_EVENTS
from limner.adapters.journal_salvage import JournalSalvage
from limner.adapters.journal_sqlite import SQLiteJournal
from limner.states import Prompt, Session, StreamStarted
from limner.states.values import NO_PROMPTS
from tests.adapters.filled_journals import ODD, Play, append_all, make_journal, some_of_everything

PAGE = 4096
FRAME = PAGE + 24
NOISE = random.Random(11)


def small(play: Play) -> None:
    """A few sessions on some fifty pages: tables of several leaves, rows with overflow, odd texts."""
    play.illustrate("story", ["a lighthouse at night", "a ship in a storm", ODD])
    play.illustrate("long", ["x" * 9_000 + " a long prompt", "a short one"])
    play.illustrate("many", [f"picture number {n} of a story" for n in range(24)])
    play.find(ODD, [ODD])
    play.cancel(ODD, ODD)
    play.find("painting", ["a horse", "a cow"])
    play.paint("painting", next(iter(play.live["painting"].prompts)))
    play.happen("streaming", StreamStarted())


# --- what should be found: told by a walk through the healthy file that shares nothing with the salvage


class Row(NamedTuple):
    """A row of a healthy journal, and the pages that it needs. `id` is a prompt's."""

    table: str
    number: int
    session: str
    id: str
    pages: frozenset[int]


class Walk:
    """Walks through a healthy file, and its `-wal` if there is one, as SQLite does."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        self.page_size = {1: 65536}.get(size := int.from_bytes(self.data[16:18], "big"), size)
        wal = Path(f"{path}-wal")
        self.wal = wal.read_bytes() if wal.exists() else b""
        self.frame_of: dict[int, int] = {}
        waiting: dict[int, int] = {}
        for frame in range((len(self.wal) - 32) // (self.page_size + 24) if self.wal else 0):
            at = 32 + frame * (self.page_size + 24)
            if self.wal[at + 8 : at + 16] != self.wal[16:24]:
                break
            waiting[int.from_bytes(self.wal[at : at + 4], "big")] = frame
            if self.wal[at + 4 : at + 8] != bytes(4):
                self.frame_of.update(waiting)
        # A copy, since SQLite clears the `-wal` away when it closes it.
        apart = copy_of(path, path.parent / "walked")
        with closing(sqlite3.connect(apart)) as connection:
            self.sessions = dict(connection.execute("SELECT number, id FROM sessions"))
            self.prompt_ids = dict(connection.execute("SELECT number, id FROM prompts"))
            self.owners = {
                table: dict(connection.execute(f"SELECT number, session FROM {table}"))
                for table in ("prompts", "events")
            }
            self.owners["sessions"] = {number: number for number in self.sessions}
            roots = connection.execute(
                "SELECT name, rootpage FROM sqlite_master WHERE type = 'table' ORDER BY name"
            ).fetchall()
        self.rows = [row for table, root in roots for row in self._rows(table, root)]
        for table, owners in self.owners.items():
            assert sorted(row.number for row in self.rows if row.table == table) == sorted(owners)

    def _page(self, number: int) -> bytes:
        frame = self.frame_of.get(number)
        if frame is None:
            return self.data[(number - 1) * self.page_size : number * self.page_size]
        at = 32 + frame * (self.page_size + 24) + 24
        return self.wal[at : at + self.page_size]

    def _rows(self, table: str, number: int) -> Iterator[Row]:
        page = self._page(number)
        count = int.from_bytes(page[3:5], "big")
        first = 12 if page[0] == 5 else 8
        cells = [int.from_bytes(page[at : at + 2], "big") for at in range(first, first + 2 * count, 2)]
        if page[0] == 5:
            children = [int.from_bytes(page[at : at + 4], "big") for at in cells]
            for child in (*children, int.from_bytes(page[8:12], "big")):
                yield from self._rows(table, child)
            return
        assert page[0] == 13
        for at in cells:
            length, at = varint(page, at)
            rowid, at = varint(page, at)
            session = self.sessions[self.owners[table][rowid]]
            prompt_id = self.prompt_ids[rowid] if table == "prompts" else ""
            yield Row(
                table, rowid, session, prompt_id, frozenset({number, *self._overflow(page, at, length)})
            )

    def _overflow(self, page: bytes, at: int, length: int) -> Iterator[int]:
        usable = self.page_size
        if length <= usable - 35:
            return
        least = (usable - 12) * 32 // 255 - 23
        here = least + (length - least) % (usable - 4)
        here = here if here <= usable - 35 else least
        number = int.from_bytes(page[at + here : at + here + 4], "big")
        while number:
            yield number
            number = int.from_bytes(self._page(number)[:4], "big")


def varint(page: bytes, at: int) -> tuple[int, int]:
    value = 0
    while page[at] & 0x80:
        value = value << 7 | page[at] & 0x7F
        at += 1
    return value << 7 | page[at], at + 1


class Original:
    """A healthy journal: its file, what was written into it, and where each row stands."""

    def __init__(self, path: Path, play: Play) -> None:
        self.path = path
        self.play = play
        self.walk = Walk(path)
        self.events: dict[str, list[EventRow]] = {}
        self.versions: dict[str, list[Session]] = {}
        self.prompt_versions: dict[str, set[Prompt]] = {}
        for record in play.everything:
            session = record.session
            row = EventRow(session.id, record.now, record.event, session.state)
            self.events.setdefault(session.id, []).append(row)
            self.versions.setdefault(session.id, []).append(bare(session))
            self.prompt_versions.setdefault(session.id, set()).update(session.prompts.values())
        numbers: dict[str, list[int]] = {}
        for row_ in self.walk.rows:
            if row_.table == "events":
                numbers.setdefault(row_.session, []).append(row_.number)
        self.event_numbers = {session: sorted(found) for session, found in numbers.items()}

    def check(self, path: Path, is_intact: Callable[[Row], bool], *, is_sound: bool = True) -> JournalSalvage:
        """All that is intact is found and nothing else; the file stays as it is.

        `is_sound`: what calls itself complete is. (Not where all that happened last is gone without a trace.)
        """
        before = snapshot(path)
        with JournalSalvage(path) as found:
            summaries = {summary.id: summary for summary in found.sessions()}
            assert set(summaries) <= set(self.versions)
            for session_id, session in self.play.sessions.items():
                rows = [row for row in self.walk.rows if row.session == session_id]
                intact = [row for row in rows if is_intact(row)]
                history = found.history(session_id)
                if history is None:
                    assert not intact
                    continue
                assert history.summary == summaries[session_id]
                all_intact = len(intact) == len(rows)
                self._check_session(session, history, intact, all_intact=all_intact, is_sound=is_sound)
        assert snapshot(path) == before
        return found

    def _check_session(
        self,
        session: Session,
        history: SessionHistory,
        intact: Sequence[Row],
        *,
        all_intact: bool,
        is_sound: bool,
    ) -> None:
        events = self.events[session.id]
        assert is_part_of(history.events, events)
        assert set(history.prompts) <= self.prompt_versions[session.id]
        found = {prompt.id: prompt for prompt in history.prompts}
        assert len(found) == len(history.prompts)
        for row in intact:
            if row.table == "events":
                assert self.event(row) in history.events
            elif row.table == "prompts":
                assert found[row.id] == session.prompts[row.id]
            else:
                assert history.session is not None
                assert bare(history.session) == bare(session)
        if history.session is None:
            assert history.summary.missing[0] == OWN_ROW
        else:
            assert bare(history.session) in self.versions[session.id]
            assert tuple(history.session.prompts.values()) == history.prompts
        if not history.summary.missing and is_sound:
            assert (history.session, list(history.events)) == (session, events)
        if all_intact:
            assert (history.session, list(history.events), history.summary.missing) == (session, events, ())

    def event(self, row: Row) -> EventRow:
        """The event that was written into a row."""
        return self.events[row.session][self.event_numbers[row.session].index(row.number)]


def bare(session: Session) -> Session:
    """The session without its prompts, as its own row has it."""
    return session._replace(prompts=NO_PROMPTS)


def is_part_of(part: Sequence[object], whole: Sequence[object]) -> bool:
    """Whether `part` is `whole` with some left out, in the same order."""
    rest = iter(whole)
    return all(any(each == other for other in rest) for each in part)


def without(page: int) -> Callable[[Row], bool]:
    """Whether a row does without this page."""
    return lambda row: page not in row.pages


def snapshot(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.parent.iterdir() if file.name.startswith(path.name)}


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def copy_of(path: Path, folder: Path) -> Path:
    """The journal and its `-wal`, elsewhere."""
    folder.mkdir(exist_ok=True)
    for name in (path.name, f"{path.name}-wal"):
        if path.with_name(name).exists():
            shutil.copy(path.with_name(name), folder / name)
    return folder / path.name


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Original:
    """A small journal that was closed: everything stands in the main file."""
    path = tmp_path_factory.mktemp("closed") / "journal.sqlite3"
    return Original(path, make_journal(path, small))


@pytest.fixture
def copy(closed: Original, tmp_path: Path) -> Path:
    return copy_of(closed.path, tmp_path / "copy")


def pages_of(path: Path) -> range:
    return range(1, path.stat().st_size // PAGE + 1)


def test_of_a_healthy_journal_everything_is_read(closed, copy):
    found = closed.check(copy, lambda row: True)
    assert found.damage == (len(pages_of(copy)), 0, 0)
    with JournalSalvage(copy) as salvaged:
        reader = JournalReader(copy)
        assert salvaged.sessions() == reader.sessions()
        for summary in reader.sessions():
            assert salvaged.history(summary.id) == reader.history(summary.id)


@pytest.mark.parametrize("filling", ["zeros", "noise"])
def test_whichever_page_is_destroyed_all_other_rows_are_read(closed, copy, filling):
    for page in pages_of(closed.path):
        data = bytes(PAGE) if filling == "zeros" else NOISE.randbytes(PAGE)
        original = closed.path.read_bytes()[(page - 1) * PAGE : page * PAGE]
        overwrite(copy, (page - 1) * PAGE, data)
        found = closed.check(copy, without(page))
        assert found.damage.pages == len(pages_of(copy)), page
        overwrite(copy, (page - 1) * PAGE, original)


def test_whichever_page_is_half_destroyed_all_other_rows_are_read(closed, copy):
    original = closed.path.read_bytes()
    for page in pages_of(closed.path):
        for offset in (0, PAGE // 2):
            at = (page - 1) * PAGE + offset
            overwrite(copy, at, bytes(PAGE // 2))
            closed.check(copy, without(page))
            overwrite(copy, at, original[at : at + PAGE // 2])


def test_rows_of_a_page_whose_list_of_cells_is_lost_are_found_by_what_they_look_like(closed, copy):
    """A sector at the beginning of a page holds its list; the rows stand at the page's end."""
    original = closed.path.read_bytes()
    walked = closed.walk
    for page in {page for row in walked.rows for page in row.pages if len(row.pages) == 1}:
        at = (page - 1) * PAGE
        # Where nothing but the header and the list are destroyed, no row may be lost.
        content = int.from_bytes(original[at + 5 : at + 7], "big")
        overwrite(copy, at, bytes(content))
        closed.check(copy, lambda row: True)
        overwrite(copy, at, original[at : at + content])


@pytest.mark.parametrize("beyond", [0, 1, 100, PAGE // 2, PAGE - 1])
def test_wherever_the_file_is_cut_off_all_rows_before_are_read(closed, copy, beyond):
    original = closed.path.read_bytes()
    for page in pages_of(closed.path):
        copy.write_bytes(original[: (page - 1) * PAGE + beyond])
        found = closed.check(copy, lambda row, page=page: max(row.pages) < page)
        whole_pages = len(pages_of(closed.path))
        assert found.damage.pages == (whole_pages if page > 1 or beyond >= 100 else min(beyond, 1))
        assert found.damage.unreadable_pages == found.damage.pages - page + 1 or page == 1


# --- the -wal


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Original:
    """A journal whose process was killed: half of it is in the main file, the rest in the `-wal` only."""
    folder = tmp_path_factory.mktemp("killed")
    play = Play()

    async def write() -> None:
        journal = SQLiteJournal(folder / "live" / "journal.sqlite3", durability="process-death")
        await journal.open()
        play.illustrate("story", ["a lighthouse at night", ODD])
        play.illustrate("long", ["x" * 9_000 + " a long prompt", "a short one"])
        play.find("painting", ["a horse", "a cow", "a hen", "a pig", "a goat"])
        middle = len(play.records) // 2
        play.records, rest = play.records[:middle], play.records[middle:]
        await append_all(journal, play)
        with closing(sqlite3.connect(journal.path)) as other:
            other.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        play.records = rest
        play.illustrate("late", ["a pier", ODD])
        await append_all(journal, play, group=40)
        copy_of(journal.path, folder / "dead")
        await journal.aclose()

    anyio.run(write)
    return Original(folder / "dead" / "journal.sqlite3", play)


@pytest.fixture
def killed_copy(killed: Original, tmp_path: Path) -> Path:
    return copy_of(killed.path, tmp_path / "copy")


def frames_of(path: Path) -> range:
    return range((Path(f"{path}-wal").stat().st_size - 32) // FRAME)


def test_what_stands_only_in_the_wal_is_read_too(killed, killed_copy):
    assert len(killed.walk.frame_of) > 10
    assert killed.check(killed_copy, lambda row: True).damage.unreadable_pages == 0


@pytest.mark.parametrize("filling", ["zeros", "noise"])
def test_whichever_page_of_the_main_file_is_destroyed_the_wal_s_stand(killed, killed_copy, filling):
    original = killed.path.read_bytes()
    for page in pages_of(killed.path):
        at = (page - 1) * PAGE
        overwrite(killed_copy, at, bytes(PAGE) if filling == "zeros" else NOISE.randbytes(PAGE))
        killed.check(killed_copy, lambda row, page=page: page not in row.pages - set(killed.walk.frame_of))
        overwrite(killed_copy, at, original[at : at + PAGE])


@pytest.mark.parametrize("filling", ["zeros", "noise"])
@pytest.mark.parametrize("part", ["frame", "header", "page"])
def test_whichever_frame_of_the_wal_is_destroyed_all_other_rows_are_read(killed, killed_copy, filling, part):
    wal = Path(f"{killed_copy}-wal")
    original = wal.read_bytes()
    start, size = {"frame": (0, FRAME), "header": (0, 24), "page": (24, PAGE)}[part]
    for frame in frames_of(killed.path):
        at = 32 + frame * FRAME + start
        overwrite(wal, at, bytes(size) if filling == "zeros" else NOISE.randbytes(size))
        lost = {page for page, newest in killed.walk.frame_of.items() if newest == frame}
        killed.check(killed_copy, lambda row, lost=lost: not lost & row.pages, is_sound=False)
        overwrite(wal, at, original[at : at + size])


@pytest.mark.parametrize("beyond", [0, 10, 24, 100, FRAME // 2])
def test_wherever_the_wal_is_cut_off_all_transactions_before_are_read(killed, killed_copy, beyond):
    wal = Path(f"{killed_copy}-wal")
    original = wal.read_bytes()
    for frame in frames_of(killed.path):
        wal.write_bytes(original[: 32 + frame * FRAME + beyond])
        # Cut off between two frames, it looks as if the rest had never been written.
        whole = {n for n in range(frame) if beyond or n <= last_commit(original, frame)}
        lost = {page for page, newest in killed.walk.frame_of.items() if newest not in whole}
        killed.check(killed_copy, lambda row, lost=lost: not lost & row.pages, is_sound=False)


def last_commit(wal: bytes, before: int) -> int:
    """The last frame before this one that ends a transaction."""
    ends = [n for n in range(before) if wal[32 + n * FRAME + 4 : 32 + n * FRAME + 8] != bytes(4)]
    return max(ends, default=-1)


def test_without_its_header_the_wal_is_read_all_the_same(killed, killed_copy):
    overwrite(Path(f"{killed_copy}-wal"), 0, bytes(32))
    killed.check(killed_copy, lambda row: True)


def test_without_the_wal_the_main_file_is_read_as_far_as_it_goes(killed, killed_copy):
    Path(f"{killed_copy}-wal").unlink()
    in_wal = set(killed.walk.frame_of)
    killed.check(killed_copy, lambda row: not in_wal & row.pages, is_sound=False)


def test_what_was_never_committed_is_not_read(killed, killed_copy):
    """What SQLite's cache has no room for is in the `-wal` before the commit; then the process is killed."""
    before = history_of(killed_copy)
    apart = killed_copy.parent / "apart"
    with closing(sqlite3.connect(copy_of(killed_copy, apart), isolation_level=None)) as writer:
        writer.execute("PRAGMA cache_size = 1")
        writer.execute("BEGIN IMMEDIATE")
        bodies = writer.execute("SELECT session, body, crc FROM events").fetchall()
        for _ in range(9):
            writer.executemany("INSERT INTO events (session, body, crc) VALUES (?, ?, ?)", bodies)
        size = Path(f"{killed_copy}-wal").stat().st_size
        spilled = Path(f"{copy_of(apart / killed_copy.name, killed_copy.parent)}-wal").stat().st_size
        writer.execute("ROLLBACK")
    assert spilled > size + 3 * FRAME
    assert history_of(killed_copy) == before
    # Whatever is damaged elsewhere, it is still known to have no end.
    overwrite(killed_copy, 0, bytes(PAGE))
    assert history_of(killed_copy) == before


def test_what_is_left_of_a_transaction_that_was_given_up_is_not_read(tmp_path):
    """Its beginning was overwritten by the next one, with the same row numbers; its rest is still there."""
    journal = tmp_path / "live" / "journal.sqlite3"
    play = make_journal(journal, small)
    with closing(sqlite3.connect(journal, isolation_level=None)) as writer:
        writer.execute("PRAGMA cache_size = 40")
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        writer.execute("UPDATE sessions SET live = live + 2 WHERE number = 1")
        writer.execute("BEGIN IMMEDIATE")
        rows = writer.execute("SELECT session, body, crc FROM events").fetchall()
        long = [row for row in rows if len(row[1]) > PAGE]
        for _ in range(40):
            writer.executemany("INSERT INTO events (session, body, crc) VALUES (?, ?, ?)", [*long, *rows[:9]])
        writer.execute("ROLLBACK")
        writer.execute("UPDATE sessions SET live = live + 2 WHERE number = 2")
        left = copy_of(journal, tmp_path / "left")
    original = Original(left, play)
    wal = original.walk.wal
    last = max(original.walk.frame_of.values())
    of_this_time = [n for n in frames_of(left) if wal[32 + n * FRAME + 8 :][:8] == wal[16:24]]
    assert max(of_this_time) > last + 10
    for damage in (b"", bytes(FRAME), bytes(FRAME + 100)):
        # A lost frame at the end, or a half one, says nothing about what stands behind the last commit.
        Path(f"{left}-wal").write_bytes(wal + damage)
        original.check(left, lambda row: True)


@pytest.mark.parametrize("lost", ["nothing", "header", "first frame"])
@pytest.mark.parametrize("frames", ["one", "many"])
def test_what_the_wal_held_before_it_was_begun_anew_is_older_than_the_main_file(tmp_path, frames, lost):
    journal = tmp_path / "live" / "journal.sqlite3"
    play = make_journal(journal, small)
    with closing(sqlite3.connect(journal, isolation_level=None)) as writer:
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        held = writer.execute("SELECT number, body, crc FROM prompts").fetchall()
        # Clicked for another image, which does not show in how far they are; in many frames.
        for number, body, _ in held:
            put_prompt(writer, number, *changed(body, target_url="https://images.test/other.png"))
        writer.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        writer.execute("BEGIN")
        for number, body, crc in held:
            put_prompt(writer, number, body, crc)
        writer.execute("COMMIT")
        writer.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        # One frame leaves some of the second time there; many leave only such of the first.
        for _ in range(1 if frames == "one" else 24):
            writer.execute("UPDATE sessions SET changed_at = changed_at + 2 WHERE number = 1")
        left = copy_of(journal, tmp_path / "left")
    original = Original(left, play)
    newest = original.walk.frame_of
    salts = [original.walk.wal[32 + n * FRAME + 8 :][:8] for n in frames_of(left)]
    assert len(set(salts)) == (3 if frames == "one" else 2)
    if lost != "nothing":
        overwrite(
            Path(f"{left}-wal"), 0 if lost == "header" else 32, bytes(32 if lost == "header" else FRAME)
        )
    gone = {page for page, frame in newest.items() if frame == 0 and lost == "first frame"}
    original.check(left, lambda row: not gone & row.pages, is_sound=False)


def test_where_the_newest_frame_is_lost_the_main_file_may_be_newer_than_the_other_frames(tmp_path):
    """Everything was brought into the main file, and the `-wal` was not begun anew since."""
    journal = tmp_path / "live" / "journal.sqlite3"
    play = Play()

    async def write() -> None:
        live = SQLiteJournal(journal, durability="process-death")
        await live.open()
        play.illustrate("story", ["a lighthouse at night", "a ship in a storm", ODD])
        play.illustrate("long", ["x" * 9_000 + " a long prompt", "a short one"])
        await append_all(live, play, group=3)
        with closing(sqlite3.connect(journal)) as other:
            other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        copy_of(journal, tmp_path / "left")
        await live.aclose()

    anyio.run(write)
    left = tmp_path / "left" / journal.name
    original = Original(left, play)
    # Some events are lost altogether, so that rows are not told again by what led to them.
    [events, *_] = next(row.pages for row in original.walk.rows if row.table == "events")
    overwrite(left, (events - 1) * PAGE, bytes(PAGE))
    wal = bytearray(original.walk.wal)
    for frame in frames_of(left):
        at = 32 + frame * FRAME
        if int.from_bytes(wal[at : at + 4], "big") == events:
            wal[at + 24 : at + FRAME] = bytes(PAGE)
    for frame in original.walk.frame_of.values():
        at = 32 + frame * FRAME + 24
        Path(f"{left}-wal").write_bytes(wal[:at] + NOISE.randbytes(PAGE) + wal[at + PAGE :])
        original.check(left, without(events), is_sound=False)


def test_where_the_newest_version_of_a_long_row_is_lost_an_older_one_is_found(tmp_path):
    journal = tmp_path / "live" / "journal.sqlite3"
    make_journal(journal, small)
    with closing(sqlite3.connect(journal, isolation_level=None)) as writer:
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        [(number, body)] = writer.execute(
            "SELECT number, body FROM prompts WHERE length(body) > 9000"
        ).fetchall()
        put_prompt(writer, number, *changed(body, text="y" * 9_014, job_id="another job"))
        left = copy_of(journal, tmp_path / "left")
    walk = Walk(left)
    [row] = [row for row in walk.rows if row.table == "prompts" and row.number == number]
    assert len(row.pages & set(walk.frame_of)) > 2
    for page in row.pages:
        damaged = copy_of(left, tmp_path / str(page))
        overwrite(Path(f"{damaged}-wal"), 32 + walk.frame_of[page] * FRAME + 24, bytes(PAGE))
        with JournalSalvage(damaged) as found:
            history = found.history(row.session)
        assert history is not None
        assert row.id in {prompt.id for prompt in history.prompts if prompt.text.startswith("xxx")}


def changed(body: str, **fields: object) -> tuple[str, int]:
    """A row with other values in it."""
    text = json.dumps({**json.loads(body), **fields}, separators=(",", ":"))
    return text, crc32(text.encode())


def put_prompt(writer: sqlite3.Connection, number: int, body: str, crc: int) -> None:
    writer.execute("UPDATE prompts SET body = ?, crc = ? WHERE number = ?", (body, crc, number))


def history_of(path: Path) -> list[SessionHistory | None]:
    with JournalSalvage(path) as found:
        return [found.history(summary.id) for summary in found.sessions()]


# --- other files


@pytest.mark.parametrize("page_size", [512, 1024, 65536])
@pytest.mark.parametrize("header", ["intact", "lost"])
def test_any_page_size_is_found_out(closed, copy, page_size, header):
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
        connection.execute(f"PRAGMA page_size = {page_size}")
        connection.execute("VACUUM")
    original = Original(copy, closed.play)
    assert original.walk.page_size == page_size
    if header == "lost":
        overwrite(copy, 0, bytes(page_size))
    original.check(copy, lambda row: 1 not in row.pages)


def test_a_file_whose_pages_keep_some_bytes_in_reserve_is_read_too(closed, tmp_path):
    """Some builds of SQLite make all their files so."""
    path = tmp_path / "journal.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("VACUUM")
    reserved = 12
    overwrite(path, 20, bytes([reserved]))
    overwrite(path, 105, (PAGE - reserved).to_bytes(2, "big"))
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(TABLES)
        connection.execute("ATTACH ? AS other", (str(copy_of(closed.path, tmp_path / "copy")),))
        for table in ("sessions", "prompts", "events"):
            connection.execute(f"INSERT INTO {table} SELECT * FROM other.{table}")
        connection.commit()
        assert connection.execute("PRAGMA main.quick_check").fetchall() == [("ok",)]
    assert path.read_bytes()[20] == reserved
    with JournalSalvage(path) as found, JournalSalvage(closed.path) as expected:
        assert found.sessions() == expected.sessions()
        assert found.damage.unreadable_pages == found.damage.unreadable_rows == 0


def test_of_rows_on_pages_that_were_freed_the_newest_counts(tmp_path):
    """SQLite need not wipe what it deletes, and moves rows about; none of that may look like news."""
    journal = tmp_path / "journal.sqlite3"
    play = make_journal(journal, small)
    with closing(sqlite3.connect(journal, isolation_level=None)) as writer:
        writer.execute("PRAGMA secure_delete = OFF").fetchall()
        rows = writer.execute("SELECT number, session, body, crc FROM events ORDER BY number").fetchall()
        # All of them go, their pages are free, and they come again on other ones.
        writer.execute("DELETE FROM events")
        writer.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
        prompts = writer.execute("SELECT number, body, crc FROM prompts").fetchall()
        for number, body, crc in prompts:
            put_prompt(writer, number, *changed(body, state="queued", attempt=0, image=None, placed=None))
            put_prompt(writer, number, body, crc)
    original = Original(journal, play)
    original.check(journal, lambda row: True)
    for page in pages_of(journal):
        kept = journal.read_bytes()
        overwrite(journal, (page - 1) * PAGE, NOISE.randbytes(PAGE))
        original.check(journal, without(page))
        journal.write_bytes(kept)


def test_a_large_journal_with_tables_of_several_levels(tmp_path):
    journal = tmp_path / "journal.sqlite3"
    original = Original(journal, make_journal(journal, some_of_everything))
    pages = pages_of(journal)
    assert len(pages) > 200
    kept = journal.read_bytes()
    for page in pages[::17]:
        overwrite(journal, (page - 1) * PAGE, NOISE.randbytes(PAGE))
        original.check(journal, without(page))
        overwrite(journal, (page - 1) * PAGE, kept[(page - 1) * PAGE : page * PAGE])


def test_a_session_whose_row_is_lost_is_shown_as_far_as_its_events_go(tmp_path):
    journal = tmp_path / "journal.sqlite3"
    play = make_journal(journal, small)
    with closing(sqlite3.connect(journal)) as connection:
        connection.execute("UPDATE sessions SET crc = crc + 1")
        connection.commit()
    with JournalSalvage(journal) as found:
        summaries = {summary.id: summary for summary in found.sessions()}
        for session_id, session in play.sessions.items():
            summary = summaries[session_id]
            assert summary.missing == (OWN_ROW,)
            assert (summary.message_id, summary.kind) == (None, session.kind)
            assert (summary.state, summary.live) == (session.state, session.ended_at is None)
            assert (summary.opened_at, summary.ended_at) == (session.opened_at, session.ended_at)
            assert summary.prompts.total == len(session.prompts)
        assert found.damage.unreadable_rows == len(play.sessions)
        assert [summary.id for summary in found.sessions(live_only=True)] == [
            session.id for session in reversed(play.sessions.values()) if session.ended_at is None
        ]


def test_a_row_older_than_its_events_is_said_to_be(killed, killed_copy):
    """The newest version of the page with the sessions is lost, and the one before it is there."""
    sessions = {page for row in killed.walk.rows if row.table == "sessions" for page in row.pages}
    [newest] = {killed.walk.frame_of[page] for page in sessions}
    overwrite(Path(f"{killed_copy}-wal"), 32 + newest * FRAME + 24, bytes(PAGE))
    with JournalSalvage(killed_copy) as found:
        assert NEWEST_ROW in {words for summary in found.sessions() for words in summary.missing}


def test_lost_prompts_are_told_again_by_the_events(tmp_path):
    journal = tmp_path / "journal.sqlite3"
    play = make_journal(journal, small)
    with closing(sqlite3.connect(journal)) as connection:
        connection.execute("UPDATE prompts SET body = 'x' || body")
        connection.commit()
    with JournalSalvage(journal) as found:
        for session_id, session in play.sessions.items():
            history = found.history(session_id)
            assert history is not None
            assert (history.session, history.summary.missing) == (session, ())


def test_a_lost_event_of_which_only_the_prompt_s_row_tells_is_missed(tmp_path):
    journal = tmp_path / "journal.sqlite3"
    play = make_journal(journal, three_pictures)
    with closing(sqlite3.connect(journal)) as connection:
        accepted = "SELECT number FROM events WHERE body LIKE '%generation_accepted%' ORDER BY number LIMIT 1"
        connection.execute(f"UPDATE events SET crc = crc + 1 WHERE number = ({accepted})")
        connection.commit()
    [session] = play.sessions.values()
    with JournalSalvage(journal) as found:
        history = found.history(session.id)
    assert history is not None
    assert history.summary.missing == (SOME_EVENTS,)
    assert history.session == session


def test_a_lost_prompt_is_not_made_up_where_an_event_is_lost_of_which_only_it_told(tmp_path):
    journal = tmp_path / "journal.sqlite3"
    play = make_journal(journal, three_pictures)
    with closing(sqlite3.connect(journal)) as connection:
        accepted = "SELECT number FROM events WHERE body LIKE '%generation_accepted%' ORDER BY number LIMIT 1"
        connection.execute(f"UPDATE events SET crc = crc + 1 WHERE number = ({accepted})")
        connection.execute("UPDATE prompts SET crc = crc + 1 WHERE number = 1")
        connection.commit()
    [session] = play.sessions.values()
    with JournalSalvage(journal) as found:
        history = found.history(session.id)
    assert history is not None
    assert history.summary.missing == (PERHAPS_EVENTS, "one of its prompts")
    assert history.prompts == tuple(session.prompts.values())[1:]


def test_where_a_lost_event_may_have_left_no_trace_that_is_said(tmp_path):
    journal = tmp_path / "journal.sqlite3"
    play = make_journal(journal, three_pictures)
    with closing(sqlite3.connect(journal)) as connection:
        connection.execute("UPDATE events SET crc = crc + 1 WHERE number = 3")
        connection.commit()
    [session] = play.sessions.values()
    with JournalSalvage(journal) as found:
        history = found.history(session.id)
    assert history is not None
    assert (history.session, history.summary.missing) == (session, (PERHAPS_EVENTS,))


def test_where_rows_were_pruned_nothing_is_missing(tmp_path):
    """The numbers of the deleted rows are not in use: their neighbours stand side by side."""
    journal = tmp_path / "journal.sqlite3"
    play = Play()
    play.find("long ago", ["a"])
    play.find("now", ["a", "b"])
    play.cancel("long ago")
    play.now += 60_000
    play.cancel("now")
    make_journal(journal, lambda play: None, play)
    prune(journal, play.now - 30_000, pause=lambda seconds: None)
    overwrite(journal, 0, bytes(100))
    with JournalSalvage(journal) as found:
        [summary] = found.sessions()
    assert (summary.message_id, summary.missing) == ("now", ())


def test_a_row_number_that_was_damaged_is_mended_or_the_row_is_not_counted(closed, copy):
    """Numbers have no checksum; but on a page they stand in order."""
    events = sorted(row for row in closed.walk.rows if row.table == "events")
    by_page: dict[frozenset[int], list[int]] = {}
    for row in events:
        by_page.setdefault(row.pages, []).append(row.number)
    [page, *_], numbers = max(by_page.items(), key=lambda item: len(item[1]))
    at = (page - 1) * PAGE
    data = closed.path.read_bytes()[at : at + PAGE]
    for index in range(1, len(numbers) - 1):
        cell = int.from_bytes(data[8 + 2 * index : 10 + 2 * index], "big")
        _, rowid_at = varint(data, cell)
        assert varint(data, rowid_at)[0] == numbers[index]
        overwrite(copy, at + rowid_at, bytes([data[rowid_at] ^ 0x40]))
        closed.check(copy, lambda row: True)
        overwrite(copy, at, data)


def test_cells_that_the_rest_of_a_list_leads_to_are_found_besides_those_found_by_their_looks(closed, copy):
    original = closed.path.read_bytes()
    for page in {page for row in closed.walk.rows for page in row.pages if len(row.pages) == 1}:
        at = (page - 1) * PAGE
        count = int.from_bytes(original[at + 3 : at + 5], "big")
        if count > 3:
            overwrite(copy, at + 8 + count, bytes(count))
            closed.check(copy, lambda row: True)
            overwrite(copy, at, original[at : at + PAGE])


def test_a_row_whose_body_is_on_other_pages_is_found_by_what_is_left_of_the_list(tmp_path):
    """A message's id may be longer than a page; then nothing on it looks like the row."""
    journal = tmp_path / "journal.sqlite3"
    play = make_journal(journal, long_name)
    original = Original(journal, play)
    [page] = {min(row.pages) for row in original.walk.rows if row.table == "sessions"}
    at = (page - 1) * PAGE
    assert int.from_bytes(original.walk.data[at + 3 : at + 5], "big") == 4
    overwrite(journal, at + 12, bytes(4))
    original.check(journal, lambda row: True)


def long_name(play: Play) -> None:
    for message_id in ("x" * 5_000, "a", "b", "c"):
        play.illustrate(message_id, ["a fox"])


def three_pictures(play: Play) -> None:
    play.illustrate("m", ["a", "b", "c"])


def test_with_events_lost_too_the_lost_prompts_are_counted(tmp_path):
    journal = tmp_path / "journal.sqlite3"
    play = make_journal(journal, three_pictures)
    with closing(sqlite3.connect(journal)) as connection:
        connection.execute("UPDATE prompts SET crc = 0 WHERE number > 1")
        connection.execute("UPDATE events SET crc = 0 WHERE number = 6")
        connection.commit()
    [session] = play.sessions.values()
    with JournalSalvage(journal) as found:
        history = found.history(session.id)
    assert history is not None
    assert history.summary.missing == (SOME_EVENTS, "2 of its prompts")
    assert [prompt.text for prompt in history.prompts] == ["a"]


def test_sessions_are_found_by_id_and_message(closed, copy):
    reader = JournalReader(copy)
    with JournalSalvage(copy) as found:
        for wanted in ("0000", "story", ODD, "nobody", "", "\ud800"):
            assert found.find(wanted) == reader.find(wanted)
        assert found.sessions(message_id="long") == reader.sessions(message_id="long")
        assert found.history("nobody") is None


def test_a_sector_that_the_disk_does_not_give_back_is_like_one_that_is_not_there(closed, copy, monkeypatch):
    class Bad(io.FileIO):
        def readinto(self, buffer: Any) -> int | None:
            if self.tell() == 8 * PAGE:
                raise OSError(errno.EIO, "Input/output error")
            return super().readinto(buffer)

    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode: io.BufferedReader(Bad(path), 1))
    with JournalSalvage(copy) as found:
        assert found.damage.unreadable_pages == 1
        assert len(found.sessions()) > 1
    monkeypatch.setattr(Path, "open", opened)


# --- anything at all


@given(data=st.binary(max_size=20_000), wal=st.binary(max_size=20_000), magic=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_garbage_is_no_journal_whatever_it_is(tmp_path, data, wal, magic):
    path = tmp_path / "garbage"
    path.write_bytes((b"SQLite format 3\0\x10\0" if magic else b"") + data)
    Path(f"{path}-wal").write_bytes(wal)
    with JournalSalvage(path) as found:
        assert found.sessions() == []


def test_large_garbage_of_the_right_form_is_no_journal(tmp_path):
    path = tmp_path / "garbage"
    for kind in (0x0D, 0x0A, 0x05, 0x02, 0x00):
        pages = []
        for _ in range(40):
            count = NOISE.randrange(60)
            head = bytes([kind, 0, 0, 0, count]) + (300).to_bytes(2, "big") + b"\0"
            pointers = b"".join(NOISE.randrange(300, 4090).to_bytes(2, "big") for _ in range(count))
            body = (head + pointers).ljust(300, b"\0") + NOISE.randbytes(PAGE)
            pages.append(body[: PAGE - 20] + b'{"is":"event"}      ')
        path.write_bytes(b"".join(pages))
        with JournalSalvage(path) as found:
            assert found.sessions() == []


def test_an_empty_text_with_its_checksum_which_is_zero_is_no_row(tmp_path):
    journal = tmp_path / "journal.sqlite3"
    make_journal(journal, small)
    with closing(sqlite3.connect(journal)) as connection:
        connection.execute("UPDATE events SET body = '', crc = 0 WHERE number % 3 = 0")
        connection.execute("UPDATE prompts SET body = '[]', crc = ?", (crc32(b"[]"),))
        body = '{"is":"event"}'
        connection.execute(
            "UPDATE events SET body = ?, crc = ? WHERE number % 3 = 1", (body, crc32(body.encode()))
        )
        connection.commit()
        [number] = connection.execute("SELECT count(*) FROM events WHERE number % 3 = 2").fetchone()
    with JournalSalvage(journal) as found:
        histories = [found.history(summary.id) for summary in found.sessions()]
    assert sum(len(history.events) for history in histories if history) == number


@given(
    patches=st.lists(
        st.tuples(st.integers(0, 34 * PAGE - 1), st.binary(min_size=1, max_size=40)), min_size=1, max_size=30
    )
)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_wherever_bytes_are_changed_nothing_false_is_read(closed, tmp_path, patches):
    path = copy_of(closed.path, tmp_path / "copy")
    for at, data in patches:
        overwrite(path, at, data)
    with JournalSalvage(path) as found:
        for summary in found.sessions():
            history = found.history(summary.id)
            assert history is not None
            assert is_part_of(history.events, closed.events[summary.id])
            assert set(history.prompts) <= closed.prompt_versions[summary.id]
            if history.session is not None:
                assert bare(history.session) in closed.versions[summary.id]
