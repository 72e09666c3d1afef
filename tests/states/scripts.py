"""Random lives of a session: what the world brings, and when."""

from __future__ import annotations

from hypothesis import strategies as st

from limner.errors import EventRefused
from limner.states import (
    TIME_PASSED,
    Event,
    OnDrainTimeout,
    Session,
    SessionKind,
    SessionSettings,
    StreamStarted,
    handle,
)
from limner.states.exploration import events_for
from tests.states.story import click

GAPS = st.one_of(
    st.sampled_from([0, 0, 1, 999, 1_000, 1_999, 2_000, 2_001, 119_999, 120_000, 300_000]),
    st.integers(0, 400_000),
)
"""Milliseconds between two events; many of them just at, before or behind a deadline."""

SCRIPTS = st.lists(st.tuples(GAPS, st.integers(0, 10**6)), max_size=25)
KINDS = st.sampled_from(SessionKind)
SETTINGS = st.fixed_dictionaries(
    {
        "max_attempts": st.integers(1, 3),
        "on_drain_timeout": st.sampled_from(OnDrainTimeout),
        "backoff_ms": st.sampled_from([0, 1_000]),
        "debounce_ms": st.sampled_from([0, 2_000]),
        "image_timeout_ms": st.sampled_from([5_000, 120_000]),
    }
).map(lambda chosen: SessionSettings(**chosen))
Timed = tuple[int, Event]


def write_down(kind: SessionKind, settings: SessionSettings, script: list[tuple[int, int]]) -> list[Timed]:
    """The events that the script chooses, with their times.

    Most of them are accepted, because each is chosen from what the world can bring to the session as it is
    then; the senseless ones are among them all the same.
    """
    now = 0
    events: list[Timed] = [(0, StreamStarted() if kind is SessionKind.STREAMING else click("old"))]
    session, _ = handle(new(kind, settings), events[0][1], 0)
    for gap, choice in script:
        now += gap
        session, _ = handle(session, TIME_PASSED, now)
        possible = list(events_for(session, 4))
        event = possible[choice % len(possible)]
        events.append((now, event))
        try:
            session, _ = handle(session, event, now)
        except EventRefused:
            continue
    return events


def new(kind: SessionKind, settings: SessionSettings) -> Session:
    """An idle session, opened at 0."""
    return Session("s", "m", kind, settings, 0)
