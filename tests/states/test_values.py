"""The values: what settings are refused, how timers are ordered, and that a session can be stored."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from limner.errors import InvalidSetting
from limner.states import OnDrainTimeout, Session, SessionKind, SessionSettings, Timer, TimerKind


def test_the_default_times_are_those_of_the_design():
    settings = SessionSettings()
    assert (settings.debounce_ms, settings.drain_timeout_ms, settings.image_timeout_ms) == (
        2_000,
        300_000,
        120_000,
    )
    assert settings.on_drain_timeout is OnDrainTimeout.FAIL
    assert settings.check() == settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("debounce_ms", -1),
        ("drain_timeout_ms", 0),
        ("image_timeout_ms", 0),
        ("max_attempts", 0),
        ("backoff_ms", -1),
        ("backoff_max_ms", -1),
        ("debounce_ms", 2.5),
        ("debounce_ms", "2000"),
        ("max_attempts", True),
        ("max_attempts", None),
        ("on_drain_timeout", "perhaps"),
        ("on_drain_timeout", None),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_by_name(name: str, value: Any):
    with pytest.raises(InvalidSetting) as caught:
        SessionSettings()._replace(**{name: value}).check()
    assert str(caught.value).startswith(f"{name} must be ")
    assert str(caught.value).endswith(repr(value))


@pytest.mark.parametrize("name", ["debounce_ms", "backoff_ms", "backoff_max_ms"])
def test_a_pause_may_be_zero(name: str):
    pause: dict[str, Any] = {name: 0}
    settings = SessionSettings()._replace(**pause)
    assert settings.check() == settings


def test_the_word_for_what_a_drain_timeout_does_becomes_the_constant_that_guards_compare_with():
    given: Any = "insert"
    assert SessionSettings(on_drain_timeout=given).check().on_drain_timeout is OnDrainTimeout.INSERT


def test_timers_are_ordered_by_time_and_at_one_instant_an_image_comes_before_the_drain():
    timers = [
        Timer(5, TimerKind.DRAIN),
        Timer(5, TimerKind.DEBOUNCE),
        Timer(5, TimerKind.BACKOFF, "a"),
        Timer(5, TimerKind.IMAGE, "b"),
        Timer(5, TimerKind.IMAGE, "a"),
        Timer(4, TimerKind.DRAIN),
    ]
    assert sorted(timers) == [timers[5], timers[4], timers[3], timers[2], timers[1], timers[0]]


def test_a_session_that_has_just_been_opened_can_be_stored():
    session = Session("s", "m", SessionKind.STREAMING, SessionSettings(), 0)
    assert pickle.loads(pickle.dumps(session)) == session
