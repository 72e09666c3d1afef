"""The points that a process passes, numbered; at one of them it dies."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Point(NamedTuple):
    """A point that was passed: its number from 1, when (virtual ms), and what was about to happen."""

    number: int
    at: int
    name: str

    def __str__(self) -> str:
        return f"{self.number} ({self.name})"


TORN = 1_000
"""Where a write is torn, in bytes: within the first page of what is written."""

DEATHS = (signal.SIGKILL, signal.SIGXFSZ)
"""What a process dies of here."""


class Points:
    """Counts the points and writes each down in `file`; kills its own process at number `kill_at`.

    SIGKILL, because nothing can be done about it: no handler runs, no buffer is flushed, no file is closed.
    With `torn` the process dies a little later, in the midst of the next write that makes `grows` (a file
    that the point names) longer: the kernel ends it there, for a file that becomes too large.
    """

    def __init__(
        self, file: Path, clock: Callable[[], int], kill_at: int | None = None, *, torn: bool = False
    ) -> None:
        self.passed = 0
        self._clock = clock
        self._kill_at = kill_at
        self._torn = torn
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def reach(self, name: str, grows: Path | None = None) -> None:
        """A point is reached. Does not return from the one at which the process is to die."""
        self.passed += 1
        os.write(self._file, f"{self.passed} {self._clock()} {name}\n".encode())
        if self.passed != self._kill_at:
            return
        if self._torn and grows is not None:
            longest = (grows.stat().st_size if grows.exists() else 0) + TORN
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (longest, longest))
            return
        os.kill(os.getpid(), signal.SIGKILL)


def read_points(file: Path) -> list[Point]:
    """The points that a life has passed, the one at which it died included."""
    if not file.exists():
        return []
    rows = (line.split(" ", 2) for line in file.read_text().splitlines())
    return [Point(int(number), int(at), name) for number, at, name in rows]
