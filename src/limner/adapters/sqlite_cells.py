"""The rows on a single page of an SQLite file, read without SQLite, from pages that may be damaged.

Only what a table of Limner's journal needs: leaf pages of table b-trees, and rows whose last two columns are
a text and a whole number, the body and its checksum. See https://www.sqlite.org/fileformat.html, "B-tree
Pages" and "Record Format". Nothing here trusts a byte: what cannot be is no row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

FILE_HEADER = 100
"""Bytes at the beginning of page 1 that are the file's header, not the page's."""

_INDEX_INTERIOR, _TABLE_INTERIOR, _INDEX_LEAF, TABLE_LEAF = 0x02, 0x05, 0x0A, 0x0D
_PAGE_HEADER = {_INDEX_INTERIOR: 12, _TABLE_INTERIOR: 12, _INDEX_LEAF: 8, TABLE_LEAF: 8}
_SMALLEST_CELL = 4

# Serial type to the bytes that a whole number takes; 8 and 9 are the numbers 0 and 1 themselves.
_INTEGER_SIZES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 0, 9: 0}
_NULL, _REAL, _FIRST_TEXT = 0, 7, 13
_COLUMN_COUNTS = frozenset({4, 5, 7})
_LARGEST_ROWID = (1 << 63) - 1

Overflow = Callable[[int, int], Iterable[bytes]]
"""The rest of a row, from the number of its first overflow page and its length: each way to read it."""


class Row(NamedTuple):
    """What is kept of a row: its number in the table, and its last two columns."""

    rowid: int
    body: str
    crc: int


class Cells(NamedTuple):
    """Where a page's cells begin. `whole`: the page's own list of them is what SQLite writes."""

    at: list[int]
    whole: bool
    is_leaf: bool


class _Layout(NamedTuple):
    """Where the last two columns stand in a row's payload."""

    body: slice
    crc: slice
    crc_type: int


def cells_of(page: bytes, usable: int, header_at: int = 0) -> Cells:
    """The cells that the page's header lists, as far as they can be; of a table's leaf or any b-tree page."""
    page_type = page[header_at]
    size = _PAGE_HEADER.get(page_type)
    if size is None:
        return Cells([], whole=False, is_leaf=False)
    count = int.from_bytes(page[header_at + 3 : header_at + 5], "big")
    content = int.from_bytes(page[header_at + 5 : header_at + 7], "big") or 0x10000
    first = header_at + size
    end = first + 2 * count
    pointers = [int.from_bytes(page[at : at + 2], "big") for at in range(first, min(end, len(page) - 1), 2)]
    possible = [at for at in pointers if max(end, content) <= at <= usable - _SMALLEST_CELL]
    whole = end <= content <= usable and len(possible) == count == len(set(possible))
    return Cells(possible, whole, page_type == TABLE_LEAF)


def rows_at(page: bytes, at: int, usable: int, overflow: Overflow) -> Iterator[Row]:
    """The row in the cell at `at`: nothing if there is none, several if its overflow has several versions."""
    start = _payload_at(page, at)
    if start is None:
        return
    rowid, length, at = start
    local = _local_size(length, usable)
    here = page[at : at + local]
    layout = _layout(here, length)
    if layout is None:
        return
    if local == length:
        payloads: Iterable[bytes] = (here,)
    else:
        first = int.from_bytes(page[at + local : at + local + 4], "big")
        payloads = (here + rest for rest in overflow(first, length - local))
    for payload in payloads:
        try:
            body = payload[layout.body].decode("utf-8")
        except UnicodeDecodeError:
            continue
        number = {8: 0, 9: 1}.get(layout.crc_type)
        crc = int.from_bytes(payload[layout.crc], "big", signed=True) if number is None else number
        yield Row(rowid, body, crc)


def find_cells(page: bytes, usable: int, body_start: bytes) -> list[int]:
    """Where cells begin on a page whose own list of them is lost, by how the bodies in them begin."""
    found = []
    before, body_at = -1, page.find(body_start)
    while body_at >= 0:
        # Back from the body, but not past the one before it, which belongs to another cell.
        for at in range(body_at - 1, before, -1):
            start = _payload_at(page, at)
            if start is None or start[2] >= body_at:
                continue
            _, length, payload_at = start
            layout = _layout(page[payload_at : payload_at + _local_size(length, usable)], length)
            if layout is not None and payload_at + layout.body.start == body_at:
                found.append(at)
                break
        before, body_at = body_at, page.find(body_start, body_at + 1)
    return found


def _payload_at(page: bytes, at: int) -> tuple[int, int, int] | None:
    """A cell's row number, the length of its payload, and where that begins."""
    length, at = _varint(page, at)
    rowid, at = _varint(page, at)
    if not (0 < rowid <= _LARGEST_ROWID and length > 0 and at < len(page)):
        return None
    return rowid, length, at


def _local_size(length: int, usable: int) -> int:
    """How many bytes of a payload stand on the leaf page itself; the rest is on overflow pages."""
    most = usable - 35
    if length <= most:
        return length
    least = (usable - 12) * 32 // 255 - 23
    fitting = least + (length - least) % (usable - 4)
    return fitting if fitting <= most else least


def _layout(payload: bytes, length: int) -> _Layout | None:
    """Where body and checksum stand, if this is the beginning of a row that has them."""
    header_size, at = _varint(payload, 0)
    if header_size > len(payload):
        return None
    types = []
    while at < header_size:
        serial_type, at = _varint(payload, at)
        types.append(serial_type)
        if len(types) > max(_COLUMN_COUNTS):
            return None
    if at != header_size or len(types) not in _COLUMN_COUNTS or types[0] != _NULL:
        return None
    *_, body_type, crc_type = types
    if body_type < _FIRST_TEXT or body_type % 2 == 0 or crc_type not in _INTEGER_SIZES:
        return None
    body_size, crc_size = _size(body_type), _INTEGER_SIZES[crc_type]
    if header_size + sum(map(_size, types)) != length:
        return None
    crc_at = length - crc_size
    return _Layout(slice(crc_at - body_size, crc_at), slice(crc_at, length), crc_type)


def _size(serial_type: int) -> int:
    """The bytes of a column's value."""
    if serial_type >= _FIRST_TEXT - 1:
        return (serial_type - _FIRST_TEXT + 1) // 2
    return 8 if serial_type == _REAL else _INTEGER_SIZES.get(serial_type, 0)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, and where it ends; past the end of the data it is 0."""
    value = 0
    for _ in range(8):
        if at >= len(data):
            return 0, at
        byte = data[at]
        at += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at
    if at >= len(data):
        return 0, at
    return value << 8 | data[at], at + 1
