"""The situations of the contract, and how a generator says which of them it can be in.

None is left out by forgetting it: each is an argument without a default. Where a generator cannot be in a
situation the argument is None, and the contract then checks what follows from that.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from limner.errors import (
    AuthFailed,
    BackendError,
    BadRequest,
    Moderated,
    NoBalance,
    NoImage,
    QueueFull,
    RateLimited,
    Unavailable,
)
from limner.workflows.ports import Generator

ERROR_KINDS: tuple[type[BackendError], ...] = (
    BadRequest,
    AuthFailed,
    NoBalance,
    RateLimited,
    QueueFull,
    Moderated,
    Unavailable,
    NoImage,
    BackendError,
)
"""What a service may answer instead of an image. The last one is for whatever has no kind of its own."""

Situation = Callable[[], Generator]
"""Prepares the service and returns a new generator for it, which the contract closes."""


@dataclass(frozen=True, kw_only=True)
class SlowWork:
    """A generator whose image is not finished before the test says so.

    `begun` is set, by the service or by the generator, once a call has come so far that there is something
    to cancel. `finish` lets the image be finished; it does not wait. `stopped` is set when the work has been
    stopped at the service, and None for a generator that does not claim to `cancel`. The events are those of
    `threading`, since most stand-ins for a service run in a thread; what runs on the event loop may set them
    as well. Raises `TypeError` for what is none.
    """

    generator: Generator
    begun: threading.Event
    finish: Callable[[], None]
    stopped: threading.Event | None

    def __post_init__(self) -> None:
        """See that the events are events."""
        _check_event(self, "begun", "which is set once there is something to cancel")
        _check_function(self, "finish", "which lets the image be finished")
        if self.stopped is not None:
            _check_event(self, "stopped", "which is set when the work has been stopped, or None")


@dataclass(frozen=True, kw_only=True)
class ResumableWork:
    """A service whose job goes on without the call that began it.

    `generator` returns a new generator for that service each time, as the next process makes one. `begun`
    and `finish` are those of `SlowWork`. `jobs` says how many jobs the service was given so far.
    """

    generator: Situation
    begun: threading.Event
    finish: Callable[[], None]
    jobs: Callable[[], int]

    def __post_init__(self) -> None:
        """See that the event is an event."""
        _check_function(self, "generator", "which returns a new generator each time")
        _check_event(self, "begun", "which is set once there is something to cancel")
        _check_function(self, "finish", "which lets the image be finished")
        _check_function(self, "jobs", "which says how many jobs the service was given")


@dataclass(frozen=True, kw_only=True)
class GeneratorCase:
    """How a generator is brought into each situation. Made anew for each test, which uses one of them.

    `working`: it paints. It reports whatever its capabilities say, in at least one report each.
    `slow`: it paints when it is told to.
    `refusing`: the service refuses, as it does for this kind of `ERROR_KINDS`; returns None for a kind that
    the service does not know. Every service that is asked over a connection knows `Unavailable`.
    `drip_fed`: the answer comes in many small pieces.
    `broken_image`: what should be an image is none, or half of one.
    `wrong_content_type`: the service answers, and not in its own language: a page where JSON is expected.
    `resumable`: jobs outlive the process, as a generator claims that can `resume`.
    `secrets`: what the generator was given and must show nowhere, in each form that a service may give it
    back in. A service that refuses with `AuthFailed` should give it back, as many do.

    The four before that are None for a generator that cannot come into them. Where `drip_fed`,
    `broken_image` or `wrong_content_type` is, or `Unavailable` is not known, the generator does everything by
    itself: then the contract checks that it connects to nobody. Without `resumable` it must not claim to
    `resume`.
    """

    working: Situation
    slow: Callable[[], SlowWork]
    refusing: Callable[[type[BackendError]], Generator | None]
    drip_fed: Situation | None
    broken_image: Situation | None
    wrong_content_type: Situation | None
    resumable: Callable[[], ResumableWork] | None
    secrets: Sequence[str]

    def __post_init__(self) -> None:
        """See that what no generator is exempt from is there. Raises `TypeError`."""
        _check_function(self, "working", "which returns a generator that paints")
        _check_function(
            self, "slow", "which returns a SlowWork: any generator is slow when what it asks lets it wait"
        )
        _check_function(self, "refusing", "which returns a generator that is refused, or None")
        for name in ("drip_fed", "broken_image", "wrong_content_type", "resumable"):
            if getattr(self, name) is not None:
                _check_function(self, name, "or None")


def _check_function(case: object, name: str, what: str) -> None:
    given = getattr(case, name)
    if not callable(given):
        raise TypeError(f"{type(case).__name__}.{name} must be a function, {what}; not {given!r:.60}")


def _check_event(case: object, name: str, what: str) -> None:
    given = getattr(case, name)
    # Those of anyio and asyncio have a `wait` that is awaited, and cannot be set by another thread.
    if not callable(getattr(given, "set", None)) or inspect.iscoroutinefunction(getattr(given, "wait", None)):
        raise TypeError(f"{type(case).__name__}.{name} must be a threading.Event, {what}; not {given!r:.60}")
