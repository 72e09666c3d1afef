"""Behaviour in time, exact to the millisecond, through a whole Limner on the real clock, which is frozen.

Time moves only where a test ticks it, and then the alarm is rung by hand: event loops count time in floats,
so their own timers may be a hair off. That the alarm is also woken by the loop itself is in the last tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from freezegun import freeze_time
from freezegun.api import FrozenDateTimeFactory

from limner.adapters.journal_memory import MemoryJournal
from limner.adapters.limner import Limner
from limner.errors import NoBalance, RateLimited, Unavailable
from limner.states import Problem, SessionSettings
from limner.states.retry import backoff_ms
from limner.workflows.clock import WallClock
from limner.workflows.ports import GenerationRequest, ProgressCallback
from tests.journeys.seeded import run_seeded, virtual_milliseconds
from tests.studio import FakeInspector, ScriptedStore, Studio, tag
from tests.support import FakeImageStore, FakePainter, png, settle


@pytest.fixture
def frozen() -> Iterator[FrozenDateTimeFactory]:
    with freeze_time("2026-01-01T00:00:00Z") as factory:
        assert isinstance(factory, FrozenDateTimeFactory)
        yield factory


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest, frozen: FrozenDateTimeFactory) -> str:
    """Both event loops, each made after time was frozen."""
    name: str = request.param
    return name


class TimedPainter(FakePainter):
    """Writes down when each call begins, in ms since it was made."""

    def __init__(self, *, hold: bool = False) -> None:
        super().__init__(hold=hold)
        self._clock = WallClock()
        self._zero = self._clock()
        self.starts: list[tuple[str, int]] = []

    async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        self.starts.append((request.prompt, self._clock() - self._zero))
        return await super().generate(request, report)


class FrozenStudio(Studio):
    """A studio on the real clock."""

    def __init__(self, frozen: FrozenDateTimeFactory, *, hold: bool = False, **settings: Any) -> None:
        self.timed = TimedPainter(hold=hold)
        super().__init__(painter=self.timed, clock=WallClock(), **settings)
        self._frozen = frozen

    async def tick(self, milliseconds: int) -> None:
        await settle()
        self._frozen.tick(timedelta(milliseconds=milliseconds))
        self.limner.alarm.ring()
        await settle()

    async def begin(self, message_id: str, text: str) -> None:
        """Stream a whole text, seal it, and let happen what happens without time."""
        async for _ in self.limner.illustrate(message_id, [text]):
            pass
        await settle()


# --- debounce


@pytest.mark.anyio
async def test_the_debounce_fires_exactly_two_seconds_after_the_last_click(frozen: FrozenDateTimeFactory):
    async with FrozenStudio(frozen) as studio:
        await studio.illustrate("m", tag("a cat") + tag("a dog"))
        cat, dog = await studio.urls("m")
        await studio.limner.regenerate("m", cat)
        await studio.tick(1_999)
        assert studio.state("m") == "debouncing"
        await studio.limner.regenerate("m", dog)
        await studio.tick(1_999)
        assert studio.state("m") == "debouncing"
        assert await studio.urls("m") == [cat, dog]
        await studio.tick(1)
        assert studio.state("m") is None
        assert len(studio.store.image_writes("m")) == 2
        assert not {cat, dog} & set(await studio.urls("m"))


@pytest.mark.anyio
async def test_another_debounce_is_kept_as_exactly(frozen: FrozenDateTimeFactory):
    async with FrozenStudio(frozen, debounce_ms=350) as studio:
        await studio.illustrate("m", tag("a cat"))
        [cat] = await studio.urls("m")
        await studio.limner.regenerate("m", cat)
        await studio.tick(349)
        assert studio.state("m") == "debouncing"
        await studio.tick(1)
        assert studio.state("m") is None


@pytest.mark.anyio
async def test_clicks_are_painted_at_once_and_not_after_the_debounce(frozen: FrozenDateTimeFactory):
    async with FrozenStudio(frozen) as studio:
        await studio.illustrate("m", tag("a cat"))
        [cat] = await studio.urls("m")
        await studio.limner.regenerate("m", cat)
        await settle()
        assert studio.timed.starts == [("a cat", 0), ("a cat", 0)]


@pytest.mark.anyio
async def test_a_click_during_a_write_gets_two_seconds_from_the_click_not_from_the_write(
    frozen: FrozenDateTimeFactory,
):
    async with FrozenStudio(frozen) as studio:
        await studio.illustrate("m", tag("a cat") + tag("a dog"))
        cat, dog = await studio.urls("m")
        await studio.limner.regenerate("m", cat)
        studio.store.hold_writes()
        await studio.tick(2_000)
        assert studio.state("m") == "inserting"
        await studio.limner.regenerate("m", dog)
        await studio.tick(1_500)
        studio.store.release()
        await settle()
        assert studio.state("m") == "debouncing"
        await studio.tick(499)
        assert studio.state("m") == "debouncing"
        await studio.tick(1)
        assert studio.state("m") is None
        assert len(studio.store.image_writes("m")) == 3


# --- drain timeout


async def with_two_of_four_never_settled(studio: FrozenStudio) -> None:
    """One at a time: the first image is finished, each of the others hangs for its 120 s."""
    await studio.begin("m", "".join(map(tag, ["done", "hangs", "hangs, too", "comes too late"])))
    studio.timed.release("done")
    await settle()


@pytest.mark.anyio
async def test_the_drain_times_out_at_exactly_three_hundred_seconds_and_nothing_is_written(
    frozen: FrozenDateTimeFactory,
):
    async with FrozenStudio(frozen, hold=True, max_concurrent=1) as studio:
        await with_two_of_four_never_settled(studio)
        await studio.tick(120_000)
        await studio.tick(120_000)
        await studio.tick(59_999)
        assert studio.state("m") == "draining"
        await studio.tick(1)
        result = await studio.limner.finished("m")
        assert result.state == "failed"
        assert result.problem is not None
        assert result.problem.kind == "drain_timeout"
        assert [image.reason for image in result.unplaced] == ["drain-timeout"]
        assert [(f.prompt, f.problem.kind) for f in result.failed] == [
            ("hangs", "image_timeout"),
            ("hangs, too", "image_timeout"),
            ("comes too late", "drain_timeout"),
        ]
        assert studio.timed.cancelled == ["hangs", "hangs, too", "comes too late"]
        assert studio.store.image_writes("m") == []


@pytest.mark.anyio
async def test_a_host_that_wants_so_gets_what_is_complete_when_the_drain_times_out(
    frozen: FrozenDateTimeFactory,
):
    async with FrozenStudio(frozen, hold=True, max_concurrent=1, on_drain_timeout="insert") as studio:
        await with_two_of_four_never_settled(studio)
        await studio.tick(299_999)
        assert studio.store.image_writes("m") == []
        await studio.tick(1)
        result = await studio.limner.finished("m")
        assert result.state == "done"
        assert len(result.placed) == 1
        assert len(result.failed) == 3
        assert len(studio.store.image_writes("m")) == 1
        assert len(await studio.urls("m")) == 1


@pytest.mark.anyio
async def test_the_drain_is_counted_from_the_seal_not_from_the_first_token(frozen: FrozenDateTimeFactory):
    async with FrozenStudio(frozen, hold=True, image_timeout_ms=10_000_000) as studio:
        tokens = studio.limner.illustrate("m", [tag("slow"), " and much more text"])
        await anext(tokens)
        await settle()
        await studio.tick(3_000_000)
        assert studio.state("m") == "streaming"
        async for _ in tokens:
            pass
        await studio.tick(299_999)
        assert studio.state("m") == "draining"
        await studio.tick(1)
        assert (await studio.limner.finished("m")).state == "failed"


@pytest.mark.anyio
async def test_a_click_while_a_batch_drains_stops_the_drain_clock(frozen: FrozenDateTimeFactory):
    async with FrozenStudio(frozen, image_timeout_ms=10_000_000) as studio:
        await studio.illustrate("m", tag("a cat") + tag("a dog"))
        cat, dog = await studio.urls("m")
        studio.timed.hold()
        await studio.limner.regenerate("m", cat)
        await studio.tick(2_000)
        await studio.tick(299_999)
        assert studio.state("m") == "draining"
        await studio.limner.regenerate("m", dog)
        await studio.tick(2_000)
        await studio.tick(299_999)
        assert studio.state("m") == "draining"
        await studio.tick(1)
        assert (await studio.limner.finished("m")).state == "failed"
        assert await studio.urls("m") == [cat, dog]


# --- the time limit of one image


@pytest.mark.anyio
async def test_an_image_at_exactly_120_seconds_fails_alone_and_the_hung_call_is_cancelled(
    frozen: FrozenDateTimeFactory,
):
    async with FrozenStudio(frozen, hold=True) as studio:
        await studio.begin("m", tag("hangs") + tag("a cat") + tag("a dog"))
        studio.timed.release("a cat")
        studio.timed.release("a dog")
        await studio.tick(119_999)
        assert studio.state("m") == "draining"
        assert studio.timed.cancelled == []
        await studio.tick(1)
        result = await studio.limner.finished("m")
        assert studio.timed.cancelled == ["hangs"]
        assert result.state == "done"
        assert len(result.placed) == 2
        assert [(failed.prompt, failed.problem.kind) for failed in result.failed] == [
            ("hangs", "image_timeout")
        ]
        assert len(studio.store.image_writes("m")) == 1


@pytest.mark.anyio
async def test_an_image_that_comes_in_its_last_millisecond_counts(frozen: FrozenDateTimeFactory):
    async with FrozenStudio(frozen, hold=True) as studio:
        await studio.begin("m", tag("a cat"))
        await studio.tick(119_999)
        studio.timed.release("a cat")
        assert len((await studio.limner.finished("m")).placed) == 1


@pytest.mark.anyio
async def test_time_in_the_line_does_not_count_against_an_image(frozen: FrozenDateTimeFactory):
    async with FrozenStudio(frozen, hold=True, max_concurrent=1) as studio:
        await studio.begin("m", tag("first") + tag("second"))
        await studio.tick(119_000)
        studio.timed.release("first")
        await settle()
        assert studio.timed.starts == [("first", 0), ("second", 119_000)]
        await studio.tick(119_999)
        assert studio.state("m") == "draining"
        studio.timed.release("second")
        assert len((await studio.limner.finished("m")).placed) == 2


# --- the global limit


@pytest.mark.anyio
async def test_starts_keep_the_minimum_interval_over_all_messages(frozen: FrozenDateTimeFactory):
    async with FrozenStudio(frozen, min_interval_ms=250, max_concurrent=10) as studio:
        for message_id in ("m", "n"):
            await studio.begin(message_id, tag(f"{message_id} 1") + tag(f"{message_id} 2"))
        assert studio.timed.starts == [("m 1", 0)]
        await studio.tick(249)
        assert len(studio.timed.starts) == 1
        await studio.tick(1)
        await studio.tick(250)
        await studio.tick(249)
        assert len(studio.timed.starts) == 3
        await studio.tick(1)
        assert [start for _, start in studio.timed.starts] == [0, 250, 500, 750]
        assert [prompt for prompt, _ in studio.timed.starts] == ["m 1", "m 2", "n 1", "n 2"]


@pytest.mark.anyio
async def test_a_shorter_interval_takes_effect_at_once(frozen: FrozenDateTimeFactory):
    async with FrozenStudio(frozen, min_interval_ms=60_000, max_concurrent=10) as studio:
        await studio.begin("m", tag("1") + tag("2") + tag("3"))
        await studio.tick(100)
        studio.limner.set_limits(min_interval_ms=100)
        await settle()
        assert studio.timed.starts == [("1", 0), ("2", 100)]
        await studio.tick(99)
        assert len(studio.timed.starts) == 2
        await studio.tick(1)
        assert studio.timed.starts[2] == ("3", 200)


@pytest.mark.anyio
async def test_a_longer_interval_counts_from_the_last_start(frozen: FrozenDateTimeFactory):
    async with FrozenStudio(frozen, min_interval_ms=100, max_concurrent=10) as studio:
        await studio.begin("m", tag("1") + tag("2"))
        studio.limner.set_limits(min_interval_ms=1_000)
        await studio.tick(999)
        assert studio.timed.starts == [("1", 0)]
        await studio.tick(1)
        assert studio.timed.starts == [("1", 0), ("2", 1_000)]


@pytest.mark.anyio
async def test_more_at_once_starts_waiting_images_at_once(frozen: FrozenDateTimeFactory):
    async with FrozenStudio(frozen, hold=True, max_concurrent=1, max_per_message=9) as studio:
        await studio.begin("m", "".join(map(tag, "abcde")))
        assert studio.timed.running == ["a"]
        studio.limner.set_limits(max_concurrent=4)
        await settle()
        assert sorted(studio.timed.running) == ["a", "b", "c", "d"]


@pytest.mark.anyio
async def test_fewer_at_once_lets_running_calls_go_on_and_is_reached_as_they_finish(
    frozen: FrozenDateTimeFactory,
):
    async with FrozenStudio(frozen, hold=True, max_concurrent=3) as studio:
        await studio.begin("m", "".join(map(tag, "abcde")))
        studio.limner.set_limits(max_concurrent=1)
        await settle()
        assert sorted(studio.timed.running) == ["a", "b", "c"]
        studio.timed.release("a")
        studio.timed.release("b")
        await settle()
        assert studio.timed.running == ["c"]
        studio.timed.release("c")
        await settle()
        assert studio.timed.running == ["d"]
        assert studio.timed.cancelled == []


@pytest.mark.anyio
async def test_the_limit_of_one_message_can_be_changed_as_well(frozen: FrozenDateTimeFactory):
    async with FrozenStudio(frozen, hold=True, max_concurrent=4, max_per_message=1) as studio:
        await studio.begin("m", tag("a") + tag("b"))
        await studio.begin("n", tag("c") + tag("d"))
        assert sorted(studio.timed.running) == ["a", "c"]
        assert studio.limner.set_limits(max_per_message=2) == (4, 2, 0)
        await settle()
        assert sorted(studio.timed.running) == ["a", "b", "c", "d"]


# --- pauses before another attempt


@pytest.mark.anyio
async def test_the_pause_before_another_attempt_is_kept_to_the_millisecond(frozen: FrozenDateTimeFactory):
    async with FrozenStudio(frozen) as studio:
        studio.timed.answers["a cat"] = [Unavailable("down"), Unavailable("still"), png()]
        await studio.begin("m", tag("a cat"))
        [prompt] = studio.limner.sessions()[0].prompts
        first = backoff_ms(SessionSettings(), prompt, 1, Problem("unavailable"))
        second = backoff_ms(SessionSettings(), prompt, 2, Problem("unavailable"))
        assert 1_000 <= first <= 1_250
        assert 2_000 <= second <= 2_500
        await studio.tick(first - 1)
        assert len(studio.timed.starts) == 1
        await studio.tick(1)
        await studio.tick(second - 1)
        assert len(studio.timed.starts) == 2
        await studio.tick(1)
        assert [start for _, start in studio.timed.starts] == [0, first, first + second]
        assert len((await studio.limner.finished("m")).placed) == 1


@pytest.mark.anyio
async def test_a_longer_pause_that_the_service_asks_for_is_kept(frozen: FrozenDateTimeFactory):
    async with FrozenStudio(frozen) as studio:
        studio.timed.answers["a cat"] = [RateLimited("slow down", retry_after_ms=7_000), png()]
        await studio.begin("m", tag("a cat"))
        await studio.tick(6_999)
        assert len(studio.timed.starts) == 1
        await studio.tick(1)
        assert [start for _, start in studio.timed.starts] == [0, 7_000]


@pytest.mark.anyio
async def test_a_pause_gives_the_place_to_others(frozen: FrozenDateTimeFactory):
    async with FrozenStudio(frozen, max_concurrent=1) as studio:
        studio.timed.answers["a cat"] = [Unavailable("down"), png()]
        await studio.begin("m", tag("a cat") + tag("a dog"))
        assert studio.timed.starts == [("a cat", 0), ("a dog", 0)]


@pytest.mark.anyio
async def test_what_another_attempt_cannot_mend_gets_none(frozen: FrozenDateTimeFactory):
    async with FrozenStudio(frozen) as studio:
        studio.timed.answers["a cat"] = [NoBalance("top up")]
        await studio.begin("m", tag("a cat"))
        result = await studio.limner.finished("m")
        assert [failed.problem.kind for failed in result.failed] == ["no_balance"]
        assert len(studio.timed.starts) == 1


@pytest.mark.anyio
async def test_a_pause_that_does_not_fit_the_images_time_limit_is_not_begun(frozen: FrozenDateTimeFactory):
    async with FrozenStudio(frozen) as studio:
        studio.timed.answers["a cat"] = [RateLimited("tomorrow", retry_after_ms=86_400_000)]
        await studio.begin("m", tag("a cat"))
        result = await studio.limner.finished("m")
        assert [failed.problem.kind for failed in result.failed] == ["rate_limited"]


# --- polling


@pytest.mark.anyio
async def test_the_monitor_looks_at_once_and_then_every_300_milliseconds(frozen: FrozenDateTimeFactory):
    clock = WallClock()
    zero = clock()
    looks: list[int] = []

    def read_text() -> str:
        looks.append(clock() - zero)
        return f"{len(looks)} looks"

    async with FrozenStudio(frozen) as studio:
        async with studio.limner.monitor("m", read_text):
            await settle()
            assert looks == [0]
            await studio.tick(299)
            assert looks == [0]
            await studio.tick(1)
            await studio.tick(299)
            assert looks == [0, 300]
            await studio.tick(1)
            assert looks == [0, 300, 600]
        # At the end of the block it looks once more, and then no more.
        assert looks == [0, 300, 600, 600]
        await studio.tick(10_000)
        assert len(looks) == 4
        assert await studio.text("m") == "4 looks"


# --- the alarm itself: nobody rings it, the event loop's own timer does


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_running_alarm_wakes_each_deadline_by_itself_and_not_a_millisecond_early(backend: str):
    async def scenario(seed: int) -> list[int]:
        store, painter = ScriptedStore(), FakePainter(hold=True)
        moments = []
        async with Limner(
            painter,
            store=store,
            images=FakeImageStore(),
            inspector=FakeInspector(),
            journal=MemoryJournal(),
            clock=virtual_milliseconds,
        ) as limner:
            start = virtual_milliseconds()
            async for _ in limner.illustrate("m", [tag("hangs") + tag("a cat")]):
                pass
            painter.release("a cat")
            result = await limner.finished("m")
            moments.append(virtual_milliseconds() - start)
            painter.release_all()
            await limner.regenerate("m", result.placed[0].image_url)
            start = virtual_milliseconds()
            await limner.finished("m")
            moments.append(virtual_milliseconds() - start)
        return moments

    image_timeout, debounce = run_seeded(backend, 1, scenario)
    assert image_timeout == 120_000
    assert debounce == 2_000
