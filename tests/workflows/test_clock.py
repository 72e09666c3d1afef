"""Time for the engines: a clock that never runs backwards, and an alarm that wakes what is due."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.workflows import clock as clock_module
from limner.workflows.clock import Alarm, WallClock
from tests.support import ManualClock, settle

START = 1_767_225_600_000


class Clocks:
    """The two clocks of a computer, in ms, to be set at will."""

    def __init__(self) -> None:
        self.wall = START
        self.monotonic = 5_000

    def pass_time(self, milliseconds: int) -> None:
        self.wall += milliseconds
        self.monotonic += milliseconds

    def module(self) -> SimpleNamespace:
        return SimpleNamespace(
            time_ns=lambda: self.wall * 1_000_000, monotonic_ns=lambda: self.monotonic * 1_000_000
        )


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(clock_module, "time", clocks.module())
    return clocks


def test_the_clock_tells_the_wall_clocks_time_in_whole_milliseconds(clocks: Clocks):
    clock = WallClock()
    clocks.pass_time(1_999)
    assert clock() == START + 1_999


def test_the_clock_follows_a_jump_forward_such_as_the_end_of_a_suspend(clocks: Clocks):
    clock = WallClock()
    clocks.wall += 3_600_000
    assert clock() == START + 3_600_000


def test_when_the_wall_clock_is_set_back_the_clock_goes_on_at_the_monotonic_pace(clocks: Clocks):
    clock = WallClock()
    clocks.wall -= 3_600_000
    assert clock() == START
    clocks.pass_time(250)
    assert clock() == START + 250
    clocks.pass_time(250)
    assert clock() == START + 500


def test_the_clock_follows_the_wall_again_once_that_has_caught_up(clocks: Clocks):
    clock = WallClock()
    clocks.wall -= 1_000
    clocks.pass_time(500)
    assert clock() == START + 500
    clocks.wall += 600  # the correction is corrected: 100 ms ahead of us
    assert clock() == START + 500
    clocks.wall += 600
    assert clock() == START + 700


@given(st.lists(st.tuples(st.integers(-5_000, 5_000), st.integers(0, 5_000)), max_size=30))
def test_whatever_the_wall_clock_does_the_clock_never_runs_backwards_nor_slower_than_time(
    steps: list[tuple[int, int]],
):
    clocks = Clocks()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock_module, "time", clocks.module())
        clock = WallClock()
        readings = [clock()]
        for jump, passed in steps:
            clocks.wall += jump
            clocks.pass_time(passed)
            readings.append(clock())
    for (before, after), (_, passed) in zip(pairwise(readings), steps, strict=True):
        assert after >= before + passed


class Source:
    """Wants to be woken at each of some moments; writes down when it was."""

    def __init__(self, name: str, moments: list[int], rung: list[tuple[str, int]]) -> None:
        self.name = name
        self.moments = moments
        self.rung = rung

    def next_deadline(self) -> int | None:
        return self.moments[0] if self.moments else None

    def wake(self, now: int) -> None:
        self.rung.append((self.name, self.moments.pop(0)))


@pytest.mark.anyio
async def test_ringing_wakes_what_is_due_in_the_order_in_which_the_sources_were_added():
    clock = ManualClock(0)
    alarm = Alarm(clock)
    rung: list[tuple[str, int]] = []
    alarm.add(Source("first", [10, 30], rung))
    alarm.add(Source("second", [5, 10], rung))
    clock.tick(9)
    alarm.ring()
    assert rung == [("second", 5)]
    clock.tick(1)
    alarm.ring()
    assert rung == [("second", 5), ("first", 10), ("second", 10)]
    clock.tick(19)
    alarm.ring()
    assert rung[3:] == []
    clock.tick(1)
    alarm.ring()
    assert rung[3:] == [("first", 30)]


@pytest.mark.anyio
async def test_a_deadline_that_a_wake_brings_forth_is_rung_in_the_same_ringing():
    clock = ManualClock(0)
    alarm = Alarm(clock)
    rung: list[tuple[str, int]] = []
    alarm.add(Source("late", [3, 4, 5], rung))
    clock.tick(5)
    alarm.ring()
    assert [moment for _, moment in rung] == [3, 4, 5]


@pytest.mark.anyio
async def test_a_sleeper_sleeps_to_the_millisecond_and_sleepers_wake_in_the_order_of_their_times():
    clock = ManualClock(0)
    alarm = Alarm(clock)
    woken: list[int] = []

    async def sleeper(duration_ms: int) -> None:
        await alarm.sleep(duration_ms)
        woken.append(duration_ms)

    async with anyio.create_task_group() as tasks:
        for duration in (300, 100, 200):
            tasks.start_soon(sleeper, duration)
        await settle()
        for now, expected in ((99, []), (100, [100]), (299, [100, 200]), (300, [100, 200, 300])):
            clock.tick(now - clock.now)
            alarm.ring()
            await settle()
            assert woken == expected


@pytest.mark.anyio
async def test_a_cancelled_sleeper_is_forgotten_and_the_others_still_wake():
    clock = ManualClock(0)
    alarm = Alarm(clock)
    woken: list[str] = []

    async def sleeper(name: str, scope: anyio.CancelScope) -> None:
        with scope:
            await alarm.sleep(100)
            woken.append(name)

    scopes = [anyio.CancelScope(), anyio.CancelScope()]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sleeper, "cancelled", scopes[0])
        tasks.start_soon(sleeper, "waiting", scopes[1])
        await settle()
        scopes[0].cancel()
        await settle()
        clock.tick(100)
        alarm.ring()
    assert woken == ["waiting"]


@pytest.mark.anyio
async def test_the_running_alarm_rings_at_once_when_an_earlier_deadline_is_reported():
    clock = ManualClock(0)
    alarm = Alarm(clock)
    rung: list[tuple[str, int]] = []
    source = Source("source", [], rung)
    alarm.add(source)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(alarm.run)
        await settle()
        source.moments.append(0)
        await settle()
        assert rung == []  # nobody has told the alarm
        alarm.reschedule()
        await settle()
        assert rung == [("source", 0)]
        tasks.cancel_scope.cancel()


# --- a journal that is ahead of the clock


def test_the_clock_goes_on_from_a_later_moment_at_its_own_pace(clocks: Clocks):
    alarm = Alarm(WallClock())
    alarm.not_before(START + 60_000)
    assert alarm.clock() == START + 60_000
    clocks.pass_time(500)
    assert alarm.clock() == START + 60_500
    clocks.pass_time(120_000)
    clocks.wall += 1_000_000  # and follows the wall clock again once that is ahead
    assert alarm.clock() == clocks.wall


def test_an_earlier_moment_changes_nothing(clocks: Clocks):
    alarm = Alarm(WallClock())
    alarm.not_before(START - 60_000)
    assert alarm.clock() == START


def test_a_clock_of_the_hosts_stands_still_until_it_has_caught_up():
    clock = ManualClock(1_000)
    alarm = Alarm(clock)
    alarm.not_before(5_000)
    assert alarm.clock() == 5_000
    clock.tick(3_000)
    assert alarm.clock() == 5_000
    clock.tick(3_000)
    assert alarm.clock() == 7_000
