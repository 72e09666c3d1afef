"""The values a session consists of: plain, immutable, and complete.

Everything that a decision needs is in here, so a session can be stored, replayed and sent elsewhere.
They are named tuples because an event makes a new one: a named tuple is made in a third of the time a
frozen dataclass takes. Times are integer milliseconds since 1970; durations are milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import NamedTuple

from limner.errors import InvalidSetting


class SessionKind(StrEnum):
    """The two kinds of session; a message has at most one session at a time, of either kind."""

    STREAMING = "streaming"
    REGENERATION = "regeneration"


class InsertionMode(StrEnum):
    """Where an image goes."""

    REPLACE_IMAGE = "replace-image"
    APPEND_AFTER_IMAGE = "append-after-image"
    APPEND_AFTER_PROMPT = "append-after-prompt"


class OnDrainTimeout(StrEnum):
    """What happens when the images are not all settled in time."""

    FAIL = "fail"
    INSERT = "insert"


class TimerKind(IntEnum):
    """The timers, in the order in which those of the same instant run.

    An image's own limit runs before the session's, so a session whose last image fails in the same
    millisecond as the drain timeout still inserts what it has.
    """

    IMAGE = 0
    BACKOFF = 1
    DEBOUNCE = 2
    DRAIN = 3


class Timer(NamedTuple):
    """Wake me at `deadline`. `prompt_id` is empty for the session's own timers."""

    deadline: int
    kind: TimerKind
    prompt_id: str = ""


class Problem(NamedTuple):
    """Why something failed: a stable `kind`, a sentence, and the pause the backend asked for, in ms."""

    kind: str
    message: str = ""
    retry_after_ms: int | None = None


class Image(NamedTuple):
    """A finished image in the image store: where it is, what it is, how large (pixels, bytes)."""

    url: str
    media_type: str = "image/png"
    width: int = 0
    height: int = 0
    size: int = 0


class FoundPrompt(NamedTuple):
    """An image prompt in a text: its identity, its decoded text, and which equal one it is (from 0)."""

    id: str
    text: str
    occurrence: int = 0


class PlacedImage(NamedTuple):
    """An image that stands in the message now; `replaced_url` is the one that it took the place of."""

    prompt_id: str
    image_url: str
    replaced_url: str | None = None


class UnplacedImage(NamedTuple):
    """A finished image that is not in the message, and why; it stays in the prompt's history."""

    prompt_id: str
    image_url: str
    reason: str


class SessionSettings(NamedTuple):
    """How long a session waits for what, and how often it tries. All times in milliseconds.

    The three times are the seed's (2 s, 5 min) and the design's (2 min an image); a session keeps the
    settings it began with. `max_restarts` is how often the making of one image may be cut off by the end of
    the process and begun again: an image that takes the process down must not do so for ever.
    """

    debounce_ms: int = 2_000
    drain_timeout_ms: int = 300_000
    image_timeout_ms: int = 120_000
    max_attempts: int = 3
    backoff_ms: int = 1_000
    backoff_max_ms: int = 30_000
    on_drain_timeout: OnDrainTimeout = OnDrainTimeout.FAIL
    max_restarts: int = 3

    def check(self) -> SessionSettings:
        """Return itself. Raises `InvalidSetting` for a value that cannot be meant."""
        least = {"image_timeout_ms": 1, "drain_timeout_ms": 1, "max_attempts": 1}
        for name, value in self._asdict().items():
            if name != "on_drain_timeout":
                check_whole_number(name, value, least.get(name, 0))
        if self.on_drain_timeout not in tuple(OnDrainTimeout):
            raise InvalidSetting(
                f"on_drain_timeout must be 'fail' or 'insert', not {self.on_drain_timeout!r}"
            )
        return self._replace(on_drain_timeout=OnDrainTimeout(self.on_drain_timeout))


def check_whole_number(name: str, value: object, least: int, most: int | None = None) -> None:
    """Raise `InvalidSetting` unless `value` is a whole number that is at least `least`, at most `most`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InvalidSetting(f"{name} must be a whole number, at least {least}, not {value!r}")
    if most is not None and value > most:
        raise InvalidSetting(f"{name} must be a whole number from {least} to {most}, not {value!r}")


class Prompt(NamedTuple):
    """One image to be made, from the finding of its prompt (or the click) to the settled result.

    `node_id` is the prompt in the text that this image belongs to: its own id for a found prompt, the
    clicked image's prompt for a regeneration. `batch` says with which write it goes in. `spent_ms` is
    how much of the image's time limit its earlier attempts and pauses have used up. `job_id` is the
    backend's name for the present attempt, where it gave one; `restarts` counts the attempts that the end
    of a process cut off.
    """

    id: str
    node_id: str
    text: str
    occurrence: int
    batch: int
    state: str
    mode: InsertionMode = InsertionMode.APPEND_AFTER_PROMPT
    target_url: str | None = None
    attempt: int = 0
    started_at: int = 0
    spent_ms: int = 0
    image: Image | None = None
    problem: Problem | None = None
    placed: PlacedImage | None = None
    unplaced_reason: str | None = None
    job_id: str | None = None
    restarts: int = 0


NO_PROMPTS: Mapping[str, Prompt] = {}
"""Never changed: its type says so. (A mapping proxy would say so too, but it cannot be pickled.)"""


class Session(NamedTuple):
    """One message's work, from the first token (or click) to the write.

    `prompts` is in the order in which they were found or clicked; never change it, `handle` gives a new
    one. `outstanding` counts the unsettled prompts of the present `batch`. `timers` is sorted.
    `last_request_at` is the time of the last click. `problem` says why a session failed or was cancelled.
    """

    id: str
    message_id: str
    kind: SessionKind
    settings: SessionSettings
    opened_at: int
    state: str = "idle"
    prompts: Mapping[str, Prompt] = NO_PROMPTS
    timers: tuple[Timer, ...] = ()
    batch: int = 1
    outstanding: int = 0
    last_request_at: int = 0
    problem: Problem | None = None
    ended_at: int | None = None
