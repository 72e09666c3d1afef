"""Conditional and partial requests, decided by RFC 9110: what a reader gets of something with an ETag.

Several ranges in one request are answered with the whole, which the RFC allows and every reader takes.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from starlette.datastructures import Headers

_ETAG = re.compile(r'(?:W/)?"[^"]*"')
_RANGES = re.compile(r"\s*bytes\s*=(.*)", re.IGNORECASE)
_RANGE = re.compile(r"([0-9]{0,40})-([0-9]{0,40})")


class Verdict(NamedTuple):
    """`status` is 200, 206, 304, 412 or 416; with 200 and 206 the bytes from `start` to before `stop`."""

    status: int
    start: int = 0
    stop: int = 0


def judge(method: str, headers: Headers, etag: str, size: int) -> Verdict:
    """What to answer to a GET or HEAD for `size` bytes whose strong ETag, quotes included, is `etag`."""
    whole = Verdict(200, 0, size)
    wanted = _joined(headers, "if-match")
    if wanted is not None and wanted.strip() != "*" and etag not in _ETAG.findall(wanted):
        return Verdict(412)
    known = _joined(headers, "if-none-match")
    if known is not None and (known.strip() == "*" or etag in _opaque(known)):
        return Verdict(304)
    ranges = _joined(headers, "range")
    # Only a GET can ask for a range. If-Range with a date never holds: there is no date to compare it with.
    if ranges is None or method != "GET" or headers.get("if-range", etag).strip() != etag:
        return whole
    return _range(ranges, size) or whole


def _range(value: str, size: int) -> Verdict | None:
    """The one range that is asked for; None for anything that is to be ignored."""
    units = _RANGES.fullmatch(value)
    if units is None:
        return None
    specs = [spec.strip() for spec in units[1].split(",") if spec.strip()]
    spec = _RANGE.fullmatch(specs[0]) if len(specs) == 1 else None
    if spec is None:
        return None
    first, last = spec.groups()
    if not first:
        if not last:
            return None
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    return Verdict(206, start, stop) if start < stop else Verdict(416)


def _joined(headers: Headers, name: str) -> str | None:
    lines = headers.getlist(name)
    return ", ".join(lines) if lines else None


def _opaque(value: str) -> set[str]:
    # If-None-Match compares weakly: a mark of weakness does not count.
    return {tag.removeprefix("W/") for tag in _ETAG.findall(value)}
