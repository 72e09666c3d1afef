"""How far a job at AI Horde is, from what the horde tells of its queue."""

from __future__ import annotations

import math
from collections.abc import Mapping

# The line is the first half of the way, the painting the second; the end is told by the image itself.
_LINE = 0.5
_PAINTING = 0.45


class HordeProgress:
    """Turns one job's successive states into a fraction that never goes back.

    The horde counts no steps. It tells the job's place in the queue, which others may overtake, and an
    estimate of the wait in seconds, which may grow. Both are measured against the largest value seen so
    far; while the job is in the line the one that promises more counts.
    """

    def __init__(self) -> None:
        self._longest_line = 0.0
        self._longest_wait = 0.0
        self._longest_painting = 0.0
        self._fraction = 0.0

    def fraction(self, told: Mapping[str, object]) -> float:
        """The fraction done, from 0 to 0.95, after `told`, an answer of `generate/check`."""
        position = _number(told.get("queue_position"))
        wait = _number(told.get("wait_time"))
        if _number(told.get("processing")) or _number(told.get("finished")):
            self._longest_painting = max(self._longest_painting, wait)
            now = _LINE + _PAINTING * _share(wait, self._longest_painting)
        else:
            self._longest_line = max(self._longest_line, position)
            self._longest_wait = max(self._longest_wait, wait)
            now = _LINE * max(_share(position, self._longest_line), _share(wait, self._longest_wait))
        self._fraction = max(self._fraction, now)
        return self._fraction


def _share(left: float, most: float) -> float:
    """How much of `most` is over when `left` is left."""
    return 1 - left / most if most > 0 else 0.0


def _number(value: object) -> float:
    """A count or a duration; whatever is none counts as nothing."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0.0
    return max(0.0, float(value)) if math.isfinite(value) else 0.0
