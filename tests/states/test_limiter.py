"""The one global limit: how many at once, how many of one message, how soon, and whose turn it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from limner.errors import InvalidSetting
from limner.states.limiter import JobId, Limiter, Limits


def job(name: str) -> JobId:
    """A job of the message that the name begins with: a1 is one of message a."""
    return JobId(name[0], name)


def limiter(*names: str, at_once: int = 100, per_message: int = 100, interval: int = 0) -> Limiter:
    """A limiter with jobs in line."""
    limited = Limiter(Limits(at_once, per_message, interval))
    for name in names:
        submit(limited, name)
    return limited


def submit(limited: Limiter, name: str) -> None:
    """Line a job up."""
    limited.submit(job(name), name[0])


def start(limited: Limiter, now: int = 0) -> list[str]:
    """The names of the jobs that start now."""
    return [started.prompt_id for started in limited.start_due(now)]


# --- how many


def test_no_more_jobs_run_at_once_than_the_limit_and_a_finished_one_gives_its_place_back():
    limited = limiter("a1", "b1", "c1", at_once=2)
    assert start(limited) == ["a1", "b1"]
    assert start(limited) == []
    limited.finish(job("a1"))
    assert start(limited) == ["c1"]
    assert (limited.running, limited.waiting) == (2, 0)


def test_one_message_has_no_more_running_than_its_own_limit_though_there_is_room():
    limited = limiter("a1", "a2", "a3", "b1", at_once=10, per_message=2)
    assert start(limited) == ["a1", "b1", "a2"]
    limited.finish(job("b1"))
    assert start(limited) == []
    limited.finish(job("a1"))
    assert start(limited) == ["a3"]


def test_finishing_twice_gives_one_place_back():
    limited = limiter("a1", "b1", "c1", "d1", at_once=2)
    start(limited)
    limited.finish(job("a1"))
    limited.finish(job("a1"))
    assert start(limited) == ["c1"]
    assert limited.running == 2


def test_finishing_what_never_started_changes_nothing():
    limited = limiter("a1", at_once=1)
    limited.finish(job("a1"))
    assert (limited.running, limited.waiting) == (0, 1)
    assert start(limited) == ["a1"]


# --- whose turn


def test_jobs_of_one_message_start_in_the_order_in_which_they_came():
    assert start(limiter("a2", "a1", "a3")) == ["a2", "a1", "a3"]


def test_messages_take_turns_so_one_with_many_prompts_does_not_starve_the_others():
    many = [f"a{n}" for n in range(50)]
    limited = limiter(*many, "b1", "c1", "b2", at_once=1)
    order = []
    for _ in range(7):
        (name,) = start(limited)
        order.append(name)
        limited.finish(job(name))
    assert order == ["a0", "b1", "c1", "a1", "b2", "a2", "a3"]


@pytest.mark.parametrize("first_to_end", ["a0", "a1"])
def test_a_message_that_comes_later_waits_for_one_running_job_and_not_for_the_line(first_to_end: str):
    limited = limiter(*(f"a{n}" for n in range(50)), at_once=2, per_message=2)
    assert start(limited) == ["a0", "a1"]
    submit(limited, "b1")
    limited.finish(job(first_to_end))
    assert start(limited) == ["b1"]


def test_messages_that_keep_coming_do_not_starve_one_that_waits():
    limited = limiter("a0", "a1", "a2", at_once=1)
    order = []
    for newcomer in "bcdefgh":
        (name,) = start(limited)
        submit(limited, f"{newcomer}1")
        order.append(name)
        limited.finish(job(name))
    assert order == ["a0", "b1", "a1", "c1", "d1", "a2", "e1"]


def test_a_message_at_its_own_limit_keeps_its_turn():
    limited = limiter("a1", "a2", "b1", "b2", "b3", at_once=3, per_message=1)
    assert start(limited) == ["a1", "b1"]
    limited.finish(job("a1"))
    limited.finish(job("b1"))
    assert start(limited) == ["a2", "b2"]


def test_a_job_that_waits_already_stays_where_it_is():
    limited = limiter("a1", "a2", "a1")
    assert limited.waiting == 2
    assert start(limited) == ["a1", "a2"]


def test_a_job_that_is_lined_up_again_while_it_runs_takes_no_place_for_ever():
    limited = limiter("a1", "a2", at_once=3, per_message=2)
    assert start(limited) == ["a1", "a2"]
    limited.finish(job("a2"))
    submit(limited, "a1")
    assert start(limited) == ["a1"]
    for _ in range(2):
        limited.finish(job("a1"))
    for name in ("a3", "a4"):
        submit(limited, name)
    assert start(limited) == ["a3", "a4"]


# --- withdrawing


def test_a_withdrawn_job_does_not_start():
    limited = limiter("a1", "a2")
    assert limited.withdraw(job("a1"), "a")
    assert limited.waiting == 1
    assert start(limited) == ["a2"]


def test_withdrawing_says_whether_the_job_waited():
    limited = limiter("a1", "a2", at_once=1)
    start(limited)
    assert not limited.withdraw(job("a1"), "a"), "it runs"
    assert not limited.withdraw(job("z1"), "z"), "nobody knows it"
    assert limited.withdraw(job("a2"), "a")
    assert not limited.withdraw(job("a2"), "a"), "it is gone"


def test_a_message_whose_whole_line_was_withdrawn_takes_no_turn():
    limited = limiter("a1", "b1", at_once=1)
    limited.withdraw(job("a1"), "a")
    assert start(limited) == ["b1"]


# --- how soon


def test_starts_are_the_minimum_interval_apart_to_the_millisecond():
    limited = limiter("a1", "b1", "c1", interval=500)
    assert start(limited, 1_000) == ["a1"]
    assert limited.next_deadline() == 1_500
    assert start(limited, 1_499) == []
    assert start(limited, 1_500) == ["b1"]
    assert start(limited, 9_000) == ["c1"], "time that was not used is not saved up"
    submit(limited, "d1")
    assert limited.next_deadline() == 9_500


def test_the_interval_counts_from_the_last_start_even_if_that_job_is_finished():
    limited = limiter("a1", interval=500)
    start(limited, 0)
    limited.finish(job("a1"))
    submit(limited, "b1")
    assert limited.next_deadline() == 500
    assert start(limited, 499) == []
    assert start(limited, 500) == ["b1"]


def test_there_is_no_deadline_where_time_alone_changes_nothing():
    assert limiter(interval=500).next_deadline() is None
    nobody_waits = limiter("a1", interval=500)
    start(nobody_waits)
    assert nobody_waits.next_deadline() is None
    full = limiter("a1", "b1", at_once=1, interval=500)
    start(full)
    assert full.next_deadline() is None
    message_full = limiter("a1", "a2", per_message=1, interval=500)
    start(message_full)
    assert message_full.next_deadline() is None


# --- changing the limits while jobs run


def test_a_higher_limit_lets_more_start_at_once():
    limited = limiter("a1", "b1", "c1", at_once=1)
    assert start(limited) == ["a1"]
    limited.change(Limits(3, 100, 0))
    assert start(limited) == ["b1", "c1"]


def test_a_lower_limit_is_reached_as_jobs_finish():
    limited = limiter("a1", "b1", "c1", "d1", at_once=3)
    assert start(limited) == ["a1", "b1", "c1"]
    limited.change(Limits(1, 100, 0))
    for name in ("a1", "b1"):
        limited.finish(job(name))
        assert start(limited) == []
    limited.finish(job("c1"))
    assert start(limited) == ["d1"]


def test_a_changed_limit_per_message_counts_from_now_on():
    limited = limiter("a1", "a2", "a3", per_message=1)
    assert start(limited) == ["a1"]
    limited.change(Limits(100, 2, 0))
    assert start(limited) == ["a2"]
    limited.change(Limits(100, 1, 0))
    limited.finish(job("a1"))
    assert start(limited) == []
    limited.finish(job("a2"))
    assert start(limited) == ["a3"]


def test_a_changed_interval_counts_from_the_last_start():
    limited = limiter("a1", "b1", interval=500)
    start(limited, 0)
    limited.change(Limits(100, 100, 2_000))
    assert limited.next_deadline() == 2_000
    assert start(limited, 500) == []
    limited.change(Limits(100, 100, 100))
    assert limited.next_deadline() == 100
    assert start(limited, 500) == ["b1"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_concurrent", 0),
        ("max_per_message", 0),
        ("min_interval_ms", -1),
        ("max_concurrent", 1.5),
        ("max_per_message", True),
        ("min_interval_ms", None),
    ],
)
def test_a_limit_that_cannot_be_meant_is_refused_and_the_old_ones_stay(name: str, value: Any):
    changed: dict[str, Any] = {name: value}
    wrong = Limits()._replace(**changed)
    with pytest.raises(InvalidSetting, match=f"^{name} must be a whole number"):
        Limiter(wrong)
    limited = Limiter(Limits())
    with pytest.raises(InvalidSetting):
        limited.change(wrong)
    assert limited.limits == Limits()


# --- against a naive model


class LimiterModel(RuleBasedStateMachine):
    """The limiter beside a model that searches flat lists."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.last_start: int | None = None
        self.turns: list[str] = []
        self.lines: list[tuple[str, JobId]] = []
        self.running: list[tuple[str, JobId]] = []
        self.serial = 0

    limits = st.builds(Limits, st.integers(1, 4), st.integers(1, 3), st.sampled_from([0, 1, 500]))

    @initialize(limits=limits)
    def begin(self, limits: Limits) -> None:
        self.limited = Limiter(limits)

    @rule(limits=limits)
    def change(self, limits: Limits) -> None:
        self.limited.change(limits)

    @rule(message=st.sampled_from("abcd"), count=st.integers(1, 5))
    def submit(self, message: str, count: int) -> None:
        for _ in range(count):
            self.serial += 1
            new = JobId(message, f"{message}{self.serial}")
            self.limited.submit(new, message)
            self.lines.append((message, new))
        if message not in self.turns:
            self.turns.append(message)

    @precondition(lambda self: self.lines)
    @rule(data=st.data())
    def submit_again(self, data: st.DataObject) -> None:
        message, old = data.draw(st.sampled_from(self.lines))
        self.limited.submit(old, message)

    @precondition(lambda self: self.lines)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        message, old = data.draw(st.sampled_from(self.lines))
        assert self.limited.withdraw(old, message)
        self._leave(message, old)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), twice=st.booleans())
    def finish(self, data: st.DataObject, twice: bool) -> None:
        running = data.draw(st.sampled_from(self.running))
        self.running.remove(running)
        message = running[0]
        if message in self.turns and not self._is_busy(message):
            self.turns.remove(message)
            self.turns.append(message)
        for _ in range(1 + twice):
            self.limited.finish(running[1])

    @rule(wait=st.sampled_from([0, 1, 499, 500, 10_000]))
    def start(self, wait: int) -> None:
        self.now += wait
        assert self.limited.start_due(self.now) == list(self._start())

    def _start(self) -> Iterator[JobId]:
        limits = self.limited.limits
        while len(self.running) < limits.max_concurrent:
            if self.last_start is not None and self.now < self.last_start + limits.min_interval_ms:
                return
            candidates = self._candidates()
            if not candidates:
                return
            message = candidates[0]
            chosen = next(waiting for waiting in self.lines if waiting[0] == message)
            self._leave(*chosen)
            if message in self.turns:
                self.turns.remove(message)
                self.turns.append(message)
            self.running.append(chosen)
            self.last_start = self.now
            yield chosen[1]

    def _candidates(self) -> list[str]:
        busy = [message for message, _ in self.running]
        may_start = [m for m in self.turns if busy.count(m) < self.limited.limits.max_per_message]
        return sorted(may_start, key=self._is_busy)

    def _is_busy(self, message: str) -> bool:
        return any(message == other for other, _ in self.running)

    def _leave(self, message: str, old: JobId) -> None:
        self.lines.remove((message, old))
        if all(message != other for other, _ in self.lines):
            self.turns.remove(message)

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "limited"):
            assert (self.limited.running, self.limited.waiting) == (len(self.running), len(self.lines))

    @invariant()
    def the_deadline_is_exact(self) -> None:
        if not hasattr(self, "limited"):
            return
        limits = self.limited.limits
        can_start = len(self.running) < limits.max_concurrent and bool(self._candidates())
        expected = None
        if can_start and self.last_start is not None:
            expected = self.last_start + limits.min_interval_ms
        assert self.limited.next_deadline() == expected


TestLimiterAgainstModel = LimiterModel.TestCase
TestLimiterAgainstModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5), st.integers(2, 8), st.integers(1, 20))
def test_every_job_starts_in_the_end(at_once: int, messages: int, jobs: int):
    names = [f"{chr(97 + message)}{n}" for message in range(messages) for n in range(jobs)]
    limited = limiter(*names, at_once=at_once, per_message=2)
    order: list[str] = []
    while limited.waiting:
        begun = start(limited)
        assert begun
        order += begun
        for name in begun:
            limited.finish(job(name))
    assert sorted(order) == sorted(names)


def test_a_thousand_messages_of_a_thousand_jobs_cost_the_same_a_job_as_few():
    # Counted, not timed: how many messages are looked at to find the next job must not grow with the line.
    limited = Limiter(Limits(max_concurrent=4, max_per_message=1))
    looked_at = 0

    class Counting(dict[str, int]):
        def get(self, key: str, default: Any = None) -> Any:
            nonlocal looked_at
            looked_at += 1
            return super().get(key, default)

    limited._running_of = Counting()
    for message in range(1_000):
        for n in range(1_000):
            limited.submit(JobId("s", f"{message}.{n}"), str(message))
    assert limited.waiting == 1_000_000
    finished = 0
    while finished < 20_000:
        for started in limited.start_due(0):
            limited.finish(started)
            finished += 1
    assert limited.waiting == 980_000
    assert looked_at < 20 * finished
