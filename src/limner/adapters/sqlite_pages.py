"""The pages of an SQLite file and of its `-wal`, read without SQLite, from files that may be damaged.

A page can stand in several places: in the file, and in each frame of the `-wal` that a transaction has
written since. All these versions are kept apart here and put in the order in which they were written, so that
whoever finds one unreadable can go on to the one before it. See https://www.sqlite.org/fileformat.html and
https://www.sqlite.org/fileformat.html#the_write_ahead_log.

Files are opened for reading only, and read a page at a time. A sector that the disk does not give back is
like one that is not there.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

from limner.adapters.sqlite_cells import FILE_HEADER, cells_of

MAGIC = b"SQLite format 3\x00"
PAGE_SIZES = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
USUAL_PAGE_SIZE = 4096

_WAL_HEADER = 32
_WAL_MAGIC = (0x377F0682, 0x377F0683)
_FRAME = struct.Struct(">4I8x")
_LOCK_BYTE = 1 << 30
_MOST_RESTARTS = 1 << 20

_POINTER_ENTRY = 5
_ROOT, _FREE, _OVERFLOW_FIRST, _OVERFLOW_LATER, _BTREE = 1, 2, 3, 4, 5
_POINTER_KINDS = range(1, 6)


class Version(NamedTuple):
    """One version of a page: its number, 0 where that is lost, and where its bytes stand in which file.

    `same_time` is the place, in the order of versions, of the last one of the same transaction.
    """

    page: int
    in_wal: bool
    at: int
    same_time: int


class _Frame(NamedTuple):
    page: int
    commit: int
    salts: tuple[int, int]

    @property
    def is_open(self) -> bool:
        """Whether SQLite has left it to be completed at the end of its transaction, which did not come."""
        return self.page > 0 and self.salts == (0, 0)


class PageStore:
    """All versions of all pages. A context manager.

    `versions` has them from the oldest to the newest; from `certain` on it has those that do not say any more
    which page they are, and when they were written. `pages` is how many pages the database should have.
    Raises `OSError` if the file cannot be opened.
    """

    def __init__(self, path: Path, page_size: int) -> None:
        self.page_size = page_size
        self._frame_size = _FRAME.size + page_size
        self._file = _Source(path)
        try:
            self._wal = _Source(Path(f"{path}-wal"), may_lack=True)
        except OSError:
            self._file.close()
            raise
        header = self._file.read(0, FILE_HEADER)
        trusted = header.startswith(MAGIC) and len(header) == FILE_HEADER
        self.usable = page_size - (header[20] if trusted else 0)
        # Never used by SQLite, which locks bytes of it.
        self._lock_page = _LOCK_BYTE // page_size + 1
        self._has_pointer_map = not trusted or header[52:56] != bytes(4)
        self._pointer_maps: dict[int, bytes | None] = {}
        self.file_pages = -(-self._file.size // page_size)
        self.versions: list[Version] = []
        self.certain = 0
        self._wal_pages: dict[int, list[int]] = {}
        self._newest_frames: dict[int, int] = {}
        self._first_of_file = 0
        committed_pages = self._order_versions()
        self.pages = committed_pages or (_page_count(header) if trusted else 0) or self.file_pages

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files."""
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        self._wal.close()

    def is_cut(self, place: int) -> bool:
        """Whether the file ends in the middle of this version."""
        version = self.versions[place]
        source = self._wal if version.in_wal else self._file
        return version.at + self.page_size > source.size

    def read(self, place: int) -> bytes:
        """The bytes of a version; zeros for what is cut off or cannot be read."""
        version = self.versions[place]
        source = self._wal if version.in_wal else self._file
        return source.read(version.at, self.page_size).ljust(self.page_size, b"\0")

    def newest(self, page: int) -> int | None:
        """The place of a page's newest version that is certain, or None where there is none."""
        in_file = self._first_of_file + page - 1 if 1 <= page <= self.file_pages else None
        return self._newest_frames.get(page, in_file)

    def overflow(self, place: int, first: int, length: int) -> Iterator[bytes]:
        """What follows from page `first` on, `length` bytes: each way to read it, the likeliest first.

        `place` is the version of the page that refers to it: what was written at the same time or before
        is likelier than what came later.
        """
        room = self.usable - 4
        needed = -(-length // room)
        tries = 4 * needed + 64
        trails: list[tuple[int, int, tuple[bytes, object] | None]] = [(first, length, None)]
        while trails and tries > 0 and needed <= len(self.versions):
            page, missing, before = trails.pop()
            for version in reversed(self._likeliest_first(page, place)):
                tries -= 1
                content = self.read(version)
                trail = (content[4 : 4 + min(room, missing)], before)
                if missing <= room:
                    yield _joined(trail)
                else:
                    trails.append((int.from_bytes(content[:4], "big"), missing - room, trail))

    def is_whole(self, page: int, content: bytes) -> bool:
        """Whether this content is what SQLite writes on such a page, as far as the structure tells."""
        if page == self._lock_page:
            return True
        if self._is_pointer_map(page):
            return self._pointer_map(page) is not None
        kind = self._kind(page)
        if page == 1 or kind in (_ROOT, _BTREE):
            header_at = FILE_HEADER if page == 1 else 0
            return cells_of(content, self.usable, header_at).whole and (page > 1 or content.startswith(MAGIC))
        return kind is not None or any(content)

    def is_overflow(self, page: int) -> bool:
        """Whether the file says that a page holds the rest of a row that stands on another one."""
        return self._kind(page) in (_OVERFLOW_FIRST, _OVERFLOW_LATER)

    def is_used(self, page: int) -> bool:
        """Whether a page is in use, as far as the file says: a free one may hold rows that were deleted."""
        return page <= self.pages and self._kind(page) != _FREE

    # --- versions

    def _places(self, page: int) -> list[int]:
        """Where in the order of versions those of a page are."""
        places = self._wal_pages.get(page, [])
        if 1 <= page <= self.file_pages:
            in_file = self._first_of_file + page - 1
            return sorted([*places, in_file])
        return places

    def _likeliest_first(self, page: int, place: int) -> list[int]:
        places = self._places(page)
        cut = bisect_right(places, self.versions[place].same_time)
        return [*reversed(places[:cut]), *places[cut:]]

    def _order_versions(self) -> int:
        """Put all versions in order; return the number of pages after the last transaction, 0 if unknown."""
        frames = list(self._frames())
        salts = self._salts(frames)
        current = [n for n, frame in enumerate(frames) if frame.page and frame.salts == salts]
        last_commit = max((n for n in current if frames[n].commit), default=-1)
        # Frames from before the `-wal` was begun anew. All of them had been brought into the file by then.
        ages = {n: _age(frame.salts, salts) if frame.page else 0 for n, frame in enumerate(frames)}
        old = sorted((n for n, age in ages.items() if age), key=lambda n: (-ages[n], n))
        lost = [
            n for n, frame in enumerate(frames) if frame.salts != salts and not ages[n] and not frame.is_open
        ]
        # A transaction without an end was not committed, unless it is the end that was lost.
        end_is_lost = any(n > last_commit for n in lost) or self._ends_in_a_frame()
        if not end_is_lost or not self._may_follow(frames, last_commit, salts):
            current = [n for n in current if n <= last_commit]

        self._add_frames(frames, old, same_time=len(old) - 1)
        self._first_of_file = len(self.versions)
        end_of_file = self._first_of_file + self.file_pages - 1
        self.versions += [
            Version(number + 1, False, number * self.page_size, end_of_file)
            for number in range(self.file_pages)
        ]
        transaction: list[int] = []
        for n in current:
            transaction.append(n)
            if frames[n].commit or n == current[-1]:
                last = len(self.versions) + len(transaction) - 1
                self._add_frames(frames, transaction, same_time=last)
                transaction = []
        self.certain = len(self.versions)
        written = range(end_of_file + 1, self.certain)
        self._newest_frames = {self.versions[place].page: place for place in written}
        self._add_frames(frames, lost, same_time=self.certain + len(lost) - 1)
        return frames[last_commit].commit if last_commit >= 0 else 0

    def _add_frames(self, frames: list[_Frame], numbers: list[int], *, same_time: int) -> None:
        for n in numbers:
            page = frames[n].page
            if page:
                self._wal_pages.setdefault(page, []).append(len(self.versions))
            at = _WAL_HEADER + n * self._frame_size + _FRAME.size
            self.versions.append(Version(page, True, at, same_time))

    def _frames(self) -> Iterator[_Frame]:
        size = self._frame_size
        for at in range(_WAL_HEADER, self._wal.size - _FRAME.size, size):
            header = self._wal.read(at, _FRAME.size).ljust(_FRAME.size, b"\0")
            page, commit, *salts = _FRAME.unpack(header)
            yield _Frame(page, commit, (salts[0], salts[1]))

    def _salts(self, frames: list[_Frame]) -> tuple[int, int]:
        """What marks the frames that count: it stands in the `-wal`'s header, and in each of them."""
        header = self._wal.read(0, _WAL_HEADER)
        if int.from_bytes(header[:4], "big") in _WAL_MAGIC:
            salts = (int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big"))
            if any(frame.salts == salts for frame in frames):
                return salts
        # Those that count come first; that a frame is one, another of the same or an earlier time confirms.
        often = Counter(frame.salts for frame in frames if frame.page and not frame.is_open)
        known = [each for each, times in often.items() if times > 1]
        for frame in frames:
            if frame.salts in known or any(_age(each, frame.salts) for each in known):
                return frame.salts
        return frames[0].salts if frames else (0, 0)

    def _may_follow(self, frames: list[_Frame], last: int, salts: tuple[int, int]) -> bool:
        """Whether the frame after this one was written after it, as its checksum tells, if it is there.

        It may also be left from a transaction that was given up, and whose beginning others have overwritten.
        """
        following = last + 1
        if last < 0 or following >= len(frames) or frames[following].salts != salts:
            return True
        size = self._frame_size
        at = _WAL_HEADER + last * size
        header, frame = self._wal.read(at, _FRAME.size), self._wal.read(at + size, size)
        return any(_is_chained(header, frame, order) for order in "<>")

    def _ends_in_a_frame(self) -> bool:
        return self._wal.size > _WAL_HEADER and (self._wal.size - _WAL_HEADER) % self._frame_size > 0

    # --- the pointer map: what each page is used for

    def _is_pointer_map(self, page: int) -> bool:
        return self._has_pointer_map and page > 1 and self._map_of(page) == page

    def _map_of(self, page: int) -> int:
        """The page that says what this one is used for."""
        entries = self.usable // _POINTER_ENTRY
        map_page = (page - 2) // (entries + 1) * (entries + 1) + 2
        return map_page + 1 if map_page == self._lock_page else map_page

    def _kind(self, page: int) -> int | None:
        """What the newest pointer map says of a page; None where there is none that can be read."""
        if not self._has_pointer_map or page < 3:
            return None
        map_page = self._map_of(page)
        content = self._pointer_map(map_page)
        at = (page - map_page - 1) * _POINTER_ENTRY
        if content is None or not 0 <= at < len(content) or content[at] not in _POINTER_KINDS:
            return None
        return content[at]

    def _pointer_map(self, map_page: int) -> bytes | None:
        if map_page not in self._pointer_maps:
            place = self.newest(map_page)
            content = None if place is None else self.read(place)
            if content is not None:
                used = min(self.usable // _POINTER_ENTRY, self.pages - map_page)
                kinds = enumerate(content[: used * _POINTER_ENTRY : _POINTER_ENTRY], map_page + 1)
                if any(kind not in _POINTER_KINDS and page != self._lock_page for page, kind in kinds):
                    content = None
            self._pointer_maps[map_page] = content
        return self._pointer_maps[map_page]


class _Source:
    """A file to read pieces of."""

    def __init__(self, path: Path, *, may_lack: bool = False) -> None:
        self._file: BinaryIO | None = None
        self.size = 0
        try:
            self._file = path.open("rb")
            self.size = self._file.seek(0, 2)
        except FileNotFoundError:
            if not may_lack:
                raise

    def read(self, at: int, size: int) -> bytes:
        """The bytes from `at` on, as many as there are, none if the disk does not give them back."""
        if self._file is not None:
            with suppress(OSError):
                self._file.seek(at)
                return self._file.read(size)
        return b""

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def may_be_cut_or_overwritten(path: Path) -> bool:
    """Whether a file that does not begin like a whole SQLite database may have been one. Raises `OSError`."""
    with path.open("rb") as file:
        header = file.read(FILE_HEADER)
    return len(header) < FILE_HEADER or not header.startswith(MAGIC)


def stated_page_size(path: Path) -> int | None:
    """The page size as the file's header says it, None where that cannot be read. Raises `OSError`."""
    with path.open("rb") as file:
        header = file.read(FILE_HEADER)
    size = int.from_bytes(header[16:18], "big")
    size = 0x10000 if size == 1 else size
    return size if header.startswith(MAGIC) and size in PAGE_SIZES else None


def _page_count(header: bytes) -> int:
    """The database's size in pages as its header says it, 0 where that is known to be out of date."""
    return int.from_bytes(header[28:32], "big") if header[24:28] == header[92:96] else 0


def _age(salts: tuple[int, int], now: tuple[int, int]) -> int:
    """How often the `-wal` was begun anew between these, 0 for those of one time, or of none."""
    age = (now[0] - salts[0]) % (1 << 32)
    return age if age < _MOST_RESTARTS and salts != now else 0


def _is_chained(before: bytes, frame: bytes, order: str) -> bool:
    """Whether a frame's checksum goes on from that of the frame header before it, in this byte order."""
    first, second = struct.unpack(">2I", before[16:24])
    covered = frame[:8] + frame[_FRAME.size :]
    for one, other in struct.iter_unpack(f"{order}2I", covered[: len(covered) // 8 * 8]):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return (first, second) == struct.unpack(">2I", frame[16:24])


def _joined(trail: tuple[bytes, object] | None) -> bytes:
    pieces = []
    while trail is not None:
        piece, before = trail
        pieces.append(piece)
        trail = before  # type: ignore[assignment]
    return b"".join(reversed(pieces))
