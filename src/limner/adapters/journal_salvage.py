"""What can still be read of a journal whose file is cut short or damaged.

SQLite gives such a file up as soon as it meets a fault, and a broken page may hide any number of good ones
behind it. So the tables are not followed here: every page is looked at by itself, in the file and in the
`-wal` beside it, and whatever carries a matching checksum (`journal_format.read_body`) is one of Limner's
rows, wherever it stands. Nothing else is.

A row may be found in several versions, since SQLite leaves old ones lying about. The newest counts: each
version of a page has its place in the order in which they were written, and a session or a prompt only ever
moves on, which tells the same where that order is damaged, too. Rows that were deleted may be found as well.

What the rows of one session tell together is decided in `limner.adapters.journal_rebuild`.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from limner.adapters.journal_format import (
    BadRow,
    EventRow,
    Is,
    read_body,
    to_event,
    to_prompt,
)
from limner.adapters.journal_reader import NamedSession, SessionHistory, SessionSummary
from limner.adapters.journal_rebuild import Remains, put_together
from limner.adapters.sqlite_cells import FILE_HEADER, cells_of, find_cells, rows_at
from limner.adapters.sqlite_pages import PAGE_SIZES, USUAL_PAGE_SIZE, PageStore, stated_page_size
from limner.states import SETTLED, Prompt

_BODY_START = b'{"is":"'
_OFFSETS = 0x10000
_ENOUGH_ROWS = 50
_LOOKED_AT_ONCE = 1 << 20


class Damage(NamedTuple):
    """What could not be read: of `pages` pages so many, and so many rows on pages that could be."""

    pages: int
    unreadable_pages: int
    unreadable_rows: int


class _Row(NamedTuple):
    rowid: int
    fields: Mapping[str, Any]


class _Version(NamedTuple):
    """One version of a row. Of two the greater one counts; `place` says where it stands."""

    is_certain: bool
    progress: tuple[int, ...]
    place: int


@dataclass(slots=True)
class _Found:
    """Where the rows of one session stand, and by what it is looked for."""

    number: int | None = None
    message_id: str | None = None
    since: int = 0
    row: _Version | None = None
    prompts: dict[str, _Version] = field(default_factory=dict)
    events: dict[int, int] = field(default_factory=dict)


class JournalSalvage:
    """A view of a damaged journal, in the way of `JournalReader`. A context manager.

    The file is looked through once, when this is made; of the rows only their places are kept in memory.
    The file stays as it is, byte for byte. Raises `OSError` if it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # The `-wal` stands beside the file itself, whatever links lead to it.
        self.path = Path(path).resolve()
        self._found: dict[str, _Found] = {}
        self._unreadable_rows = 0
        self._store = PageStore(self.path, _page_size(self.path))
        self._last_read = (-1, b"")
        self._covered: list[tuple[int, int]] = []
        unreadable = self._look_through()
        self._covered = _merged(self._covered)
        self.damage = Damage(self._store.pages, unreadable, self._unreadable_rows)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._store.close()

    def find(self, wanted: str) -> Sequence[NamedSession]:
        """See `JournalView.find`."""
        return [
            NamedSession(session_id, found.message_id)
            for session_id, found in self._newest_first()
            if session_id.startswith(wanted) or found.message_id == wanted
        ]

    def sessions(self, *, live_only: bool = False, message_id: str | None = None) -> Sequence[SessionSummary]:
        """See `JournalView.sessions`. One whose end was lost counts as live."""
        summaries = [
            self._history(session_id, found).summary
            for session_id, found in self._newest_first()
            if message_id is None or found.message_id == message_id
        ]
        return [summary for summary in summaries if summary.live or not live_only]

    def history(self, session_id: str) -> SessionHistory | None:
        """See `JournalView.history`."""
        found = self._found.get(session_id)
        return None if found is None else self._history(session_id, found)

    def _newest_first(self) -> list[tuple[str, _Found]]:
        return sorted(
            self._found.items(), key=lambda item: (item[1].since, item[1].number or 0), reverse=True
        )

    # --- finding rows

    def _look_through(self) -> int:
        """Note where each row stands; return how many pages cannot be read."""
        store = self._store
        unreadable = present = 0
        for place, version in enumerate(store.versions):
            content = store.read(place)
            is_newest = version.page > 0 and store.newest(version.page) == place
            present += is_newest and version.page <= store.pages
            # A frame that does not say which page it is has been a page, too.
            is_whole = version.page > 0 and not store.is_cut(place) and store.is_whole(version.page, content)
            unreadable += not is_whole and (is_newest or not version.page)
            self._take_page(place, content, counts=is_newest and store.is_used(version.page))
        return unreadable + max(0, store.pages - present)

    def _take_page(self, place: int, content: bytes, *, counts: bool) -> None:
        page = self._store.versions[place].page
        cells = cells_of(content, self._store.usable, FILE_HEADER if page == 1 else 0)
        offsets = cells.at if cells.is_leaf else []
        if not cells.whole and not self._store.is_overflow(page):
            offsets = sorted({*offsets, *find_cells(content, self._store.usable, _BODY_START)})
        rows = [_row_at(self._store, place, content, offset) for offset in offsets]
        if cells.whole:
            rows = list(_in_order(rows))
        run: list[int] = []
        for offset, row in zip(offsets, rows, strict=True):
            taken = row is not None and self._take_row(place * _OFFSETS + offset, row)
            self._unreadable_rows += counts and page > 1 and not taken
            if row is not None and taken and row.fields["is"] == Is.EVENT:
                run.append(row.rowid)
            # Between two neighbours on a page no row was lost, unless it is not known that they are.
            if not taken or not cells.whole:
                self._cover(run)
                run = []
        self._cover(run)

    def _cover(self, run: Sequence[int]) -> None:
        if run:
            self._covered.append((run[0], run[-1]))

    def _take_row(self, place: int, row: _Row) -> bool:
        """Note where a row stands, unless a newer version is known; return whether it is a row at all."""
        fields = row.fields
        is_certain = place < self._store.certain * _OFFSETS
        try:
            if fields["is"] == Is.SESSION:
                found = self._session(fields["id"], fields["opened_at"])
                version = _Version(is_certain, (int(fields["changed_at"]),), place)
                found.row = max(found.row or version, version)
                found.number, found.message_id = row.rowid, fields["message_id"]
            elif fields["is"] == Is.PROMPT:
                version = _Version(is_certain, _progress(fields), place)
                prompts = self._session(fields["session"]).prompts
                prompts[fields["id"]] = max(prompts.get(fields["id"], version), version)
            else:
                self._session(fields["session"], fields["at"]).events[row.rowid] = place
        except (KeyError, TypeError, ValueError):
            return False
        return True

    def _session(self, session_id: str, seen_at: int = 0) -> _Found:
        found = self._found.setdefault(session_id, _Found())
        found.since = min(found.since or seen_at, seen_at or found.since)
        return found

    # --- reading them again

    def _history(self, session_id: str, found: _Found) -> SessionHistory:
        row = None if found.row is None else self._fields_at(found.row.place)
        prompts = [self._prompt_at(version.place) for version in found.prompts.values()]
        numbers = sorted(found.events)
        events = [self._event_at(found.events[number]) for number in numbers]
        return put_together(
            Remains(
                session_id,
                found.number,
                row,
                [prompt for prompt in prompts if prompt is not None],
                [event for event in events if event is not None],
                unbroken=None not in events and self._is_covered(numbers),
            )
        )

    def _is_covered(self, numbers: Sequence[int]) -> bool:
        """Whether every number from the first to the last of these is known, or known not to be used."""
        if not numbers:
            return False
        at = bisect_right(self._covered, numbers[0], key=lambda covered: covered[0]) - 1
        return at >= 0 and self._covered[at][1] >= numbers[-1]

    def _fields_at(self, place: int) -> Mapping[str, Any] | None:
        version, offset = divmod(place, _OFFSETS)
        # The rows of a session stand side by side.
        if self._last_read[0] != version:
            self._last_read = (version, self._store.read(version))
        row = _row_at(self._store, version, self._last_read[1], offset)
        return None if row is None else row.fields

    def _prompt_at(self, place: int) -> tuple[int, Prompt] | None:
        fields = self._fields_at(place)
        if fields is None:
            return None
        with suppress(BadRow):
            return int(fields["place"]), to_prompt(fields)
        return None

    def _event_at(self, place: int) -> EventRow | None:
        fields = self._fields_at(place)
        if fields is None:
            return None
        with suppress(BadRow, KeyError):
            return to_event(fields)
        return None


def _row_at(store: PageStore, version: int, content: bytes, offset: int) -> _Row | None:
    """The row in a cell of a page's version, if it is one of Limner's."""

    def overflow(first: int, length: int) -> Iterable[bytes]:
        return store.overflow(version, first, length)

    for row in rows_at(content, offset, store.usable, overflow):
        # `ValueError` also for what has a matching checksum and is no JSON: an empty text, and zero.
        with suppress(ValueError, RecursionError):
            return _Row(row.rowid, read_body(row.body, row.crc))
    return None


def _progress(fields: Mapping[str, Any]) -> tuple[int, ...]:
    """How far a prompt was: of two versions of it, the later one never has less."""
    has_outcome = fields["placed"] is not None or fields["unplaced_reason"] is not None
    attempt, restarts = int(fields["attempt"]), int(fields["restarts"])
    # A restart takes an attempt back and is counted itself.
    return (
        fields["state"] in SETTLED,
        has_outcome,
        attempt + restarts,
        restarts,
        int(fields["spent_ms"]),
    )


def _in_order(rows: Sequence[_Row | None]) -> Iterator[_Row | None]:
    """The rows of a page, which stand in the order of their numbers: one that does not has a damaged number.

    Numbers have no checksum. One that its neighbours leave no choice about is mended.
    """
    for index, row in enumerate(rows):
        before = rows[index - 1] if index > 0 else None
        after = rows[index + 1] if index + 1 < len(rows) else None
        if row is None or before is None or after is None:
            yield row
            continue
        damaged = before.rowid < after.rowid and not before.rowid < row.rowid < after.rowid
        mended = row._replace(rowid=before.rowid + 1) if after.rowid - before.rowid == 2 else None
        yield mended if damaged else row


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same numbers in as few ranges as can be, in order."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


def _page_size(path: Path) -> int:
    """The size of the file's pages: as it says, or else with which rows are found. Raises `OSError`."""
    stated = stated_page_size(path)
    if stated is not None:
        return stated
    if not any(_BODY_START in piece for piece in _pieces(path)):
        return USUAL_PAGE_SIZE
    # Too large a size hides some of the rows, too small a one all of them.
    counts = {size: _count_rows(path, size) for size in PAGE_SIZES}
    most = max(counts.values())
    return USUAL_PAGE_SIZE if most == 0 else min(size for size in PAGE_SIZES if counts[size] == most)


def _count_rows(path: Path, page_size: int) -> int:
    """How many rows stand where they should if pages are of this size, up to some."""
    count = 0
    with PageStore(path, page_size) as store:
        for place, _ in enumerate(store.versions):
            content = store.read(place)
            cells = cells_of(content, store.usable)
            if cells.whole and cells.is_leaf:
                count += sum(_row_at(store, place, content, offset) is not None for offset in cells.at)
            if count >= _ENOUGH_ROWS:
                break
    return min(count, _ENOUGH_ROWS)


def _pieces(path: Path) -> Iterator[bytes]:
    """The file and its `-wal`, piece by piece, each with the end of the one before it."""
    for name in (path, Path(f"{path}-wal")):
        if not name.exists():
            continue
        with name.open("rb") as file:
            before = b""
            while piece := file.read(_LOOKED_AT_ONCE):
                yield before + piece
                before = piece[-len(_BODY_START) :]
