"""The one global limit: how many images are made at once, and how soon one start may follow another.

Jobs of one message wait in the order in which they came; the messages take turns, and none has more than
`max_per_message` jobs running, so a message with fifty prompts does not starve the others. A message that has
no job running comes before those that have one: who has just come waits for a place, not for another's next
job. Like the rest of this package the limiter has no clock: it is told the time, says which jobs start now,
and when to ask again.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from limner.states.values import check_whole_number


class JobId(NamedTuple):
    """One image to be made: a prompt of a session."""

    session_id: str
    prompt_id: str


class Limits(NamedTuple):
    """At most `max_concurrent` at once, `max_per_message` of one message, starts `min_interval_ms` apart."""

    max_concurrent: int = 4
    max_per_message: int = 3
    min_interval_ms: int = 0

    def check(self) -> Limits:
        """Return itself. Raises `InvalidSetting` for a value that cannot be meant."""
        check_whole_number("max_concurrent", self.max_concurrent, 1)
        check_whole_number("max_per_message", self.max_per_message, 1)
        check_whole_number("min_interval_ms", self.min_interval_ms, 0)
        return self


class Limiter:
    """Who waits, who runs, and whose turn is next. All times in integer milliseconds."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits.check()
        # Per message its line. A line is never empty.
        self._lines: dict[str, OrderedDict[JobId, None]] = {}
        # Those messages, without and with a job running; whose turn is next comes first.
        self._idle: OrderedDict[str, None] = OrderedDict()
        self._busy: OrderedDict[str, None] = OrderedDict()
        self._running: dict[JobId, str] = {}
        self._running_of: dict[str, int] = {}
        self._last_start: int | None = None
        self._waiting_count = 0

    @property
    def running(self) -> int:
        """How many jobs have started and not finished."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many jobs wait for their turn."""
        return self._waiting_count

    def change(self, limits: Limits) -> None:
        """Use other limits from now on. Jobs that run go on; a lower limit is reached as they finish."""
        self.limits = limits.check()

    def submit(self, job: JobId, message_id: str) -> None:
        """Put a job at the end of its message's line. A job that waits already stays where it is."""
        line = self._lines.get(message_id)
        if line is None:
            line = self._lines[message_id] = OrderedDict()
            (self._busy if message_id in self._running_of else self._idle)[message_id] = None
        self._waiting_count += job not in line
        line.setdefault(job)

    def withdraw(self, job: JobId, message_id: str) -> bool:
        """Take a job out of its line; say whether it waited there."""
        line = self._lines.get(message_id)
        if line is None or job not in line:
            return False
        self._remove(job, message_id)
        return True

    def finish(self, job: JobId) -> None:
        """Give a started job's place back. Once per start; again changes nothing."""
        message_id = self._running.pop(job, None)
        if message_id is not None:
            left = self._running_of[message_id] - 1
            if left:
                self._running_of[message_id] = left
                return
            del self._running_of[message_id]
            if message_id in self._busy:
                del self._busy[message_id]
                self._idle[message_id] = None

    def start_due(self, now: int) -> list[JobId]:
        """The jobs that start at `now`, in order; from here on they count as running."""
        started: list[JobId] = []
        while len(self._running) < self.limits.max_concurrent and not self._too_soon(now):
            job = self._take_next()
            if job is None:
                break
            self._last_start = now
            started.append(job)
        return started

    def next_deadline(self) -> int | None:
        """When to call `start_due` again, in ms, if nothing else happens; None: not for time's sake."""
        if (
            self._last_start is None
            or len(self._running) >= self.limits.max_concurrent
            or self._next_message() is None
        ):
            return None
        return self._last_start + self.limits.min_interval_ms

    def _too_soon(self, now: int) -> bool:
        return self._last_start is not None and now < self._last_start + self.limits.min_interval_ms

    def _next_message(self) -> str | None:
        if self._idle:
            return next(iter(self._idle))
        # At most `max_concurrent` messages have a job running, so this looks at few.
        for message_id in self._busy:
            if self._running_of.get(message_id, 0) < self.limits.max_per_message:
                return message_id
        return None

    def _take_next(self) -> JobId | None:
        message_id = self._next_message()
        if message_id is None:
            return None
        job = next(iter(self._lines[message_id]))
        self._remove(job, message_id)
        if message_id in self._lines:
            self._idle.pop(message_id, None)
            self._busy[message_id] = None
            self._busy.move_to_end(message_id)
        if job not in self._running:  # one that was lined up again while it runs has its place already
            self._running[job] = message_id
            self._running_of[message_id] = self._running_of.get(message_id, 0) + 1
        return job

    def _remove(self, job: JobId, message_id: str) -> None:
        line = self._lines[message_id]
        del line[job]
        self._waiting_count -= 1
        if not line:
            del self._lines[message_id]
            self._idle.pop(message_id, None)
            self._busy.pop(message_id, None)
