"""What a host brought may hang, raise and be cancelled from within; nobody else suffers."""

from __future__ import annotations

import asyncio
import logging

import anyio
import pytest
import structlog
from structlog.testing import capture_logs

from limner.errors import Moderated
from limner.workflows.host import alone, call_host
from limner.workflows.logs import LONGEST_ERROR, brief, log
from limner.workflows.ports import GenerationRequest, ProgressCallback
from tests.studio import Studio, tag
from tests.support import FakePainter, png, settle


@pytest.mark.anyio
async def test_a_call_gives_what_it_gives_and_raises_what_it_raises():
    async def works() -> int:
        return 3

    async def fails() -> int:
        raise ZeroDivisionError

    async def runs_out_of_time() -> int:
        raise TimeoutError("my own")

    assert await call_host(works()) == 3
    with pytest.raises(ZeroDivisionError):
        await call_host(fails())
    with pytest.raises(TimeoutError, match="my own"):
        await call_host(runs_out_of_time(), 1_000)


async def fails_in_a_task_group(*errors: Exception) -> None:
    async def fail(error: Exception) -> None:
        raise error

    async with anyio.create_task_group() as group:
        for error in errors:
            group.start_soon(fail, error)


@pytest.mark.anyio
async def test_an_error_that_is_alone_in_a_group_is_told_as_it_is():
    with pytest.raises(Moderated, match="no cats") as caught:
        await call_host(fails_in_a_task_group(Moderated("no cats")))
    assert caught.value.__context__ is None
    with pytest.raises(ExceptionGroup):
        await call_host(fails_in_a_task_group(ValueError(), KeyError()))
    nested = ExceptionGroup("outer", [ExceptionGroup("inner", [KeyError(3)])])
    assert isinstance(alone(nested), KeyError)


class GroupingPainter(FakePainter):
    async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        await fails_in_a_task_group(Moderated("no cats"))
        return b""


@pytest.mark.anyio
async def test_a_painter_that_works_in_a_task_group_keeps_the_kinds_of_its_errors():
    async with Studio(painter=GroupingPainter()) as studio:
        result = await studio.illustrate("m", tag("a cat"))
        [failed] = result.failed
        assert (failed.problem.kind, failed.problem.message) == ("moderated", "no cats")


@pytest.mark.anyio
async def test_a_call_that_hangs_is_ended_after_its_limit():
    with pytest.raises(TimeoutError, match=r"no answer within 0.001 s"):
        await call_host(anyio.sleep_forever(), 1)


@pytest.mark.anyio
async def test_a_cancellation_of_the_caller_passes_through():
    with anyio.CancelScope() as scope:
        scope.cancel()
        await call_host(anyio.sleep_forever(), 1_000)
    assert scope.cancelled_caught


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_a_cancellation_from_within_is_an_error_of_the_call():
    async def cancelled_by_somebody_else() -> None:
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="cancelled from within"):
        await call_host(cancelled_by_somebody_else())


class CancelledPainter(FakePainter):
    async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        if request.prompt == "a cat":
            raise asyncio.CancelledError
        return await super().generate(request, report)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_a_painter_whose_own_task_was_cancelled_fails_alone():
    async with Studio(painter=CancelledPainter(), max_attempts=1) as studio:
        result = await studio.illustrate("m", tag("a cat") + tag("a dog"))
        assert [failed.prompt for failed in result.failed] == ["a cat"]
        assert len(result.placed) == 1


class StubbornPainter(FakePainter):
    """Does not let itself be cancelled, like a call that blocks in a thread."""

    async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        if request.prompt == "a cat":
            with anyio.CancelScope(shield=True):
                await super().generate(request, report)
        return png(1)


@pytest.mark.anyio
async def test_a_call_that_cannot_be_cancelled_gives_its_place_to_the_next_after_ten_seconds():
    painter = StubbornPainter(hold=True)
    async with Studio(painter=painter, max_concurrent=1) as studio:
        async for _ in studio.limner.illustrate("m", tag("a cat")):
            pass
        await settle()
        async for _ in studio.limner.illustrate("n", tag("a dog")):
            pass
        await studio.tick(120_000)
        assert studio.state("m") is None
        assert studio.state("n") == "draining"
        with capture_logs() as logs:
            await studio.tick(10_000)
        assert "painter_hangs" in [entry["event"] for entry in logs]
        assert studio.state("n") is None
        assert len(await studio.urls("n")) == 1
        painter.release_all()


class BoastfulPainter(FakePainter):
    async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        for nonsense in ("half", float("nan"), float("inf"), object()):
            report(fraction=nonsense)  # type: ignore[arg-type]
        return png(1)


@pytest.mark.anyio
async def test_nonsense_about_the_progress_does_not_cost_the_picture():
    async with Studio(painter=BoastfulPainter()) as studio:
        result = await studio.illustrate("m", tag("a cat"))
        assert len(result.placed) == 1


def test_a_foreign_error_is_told_in_one_short_line():
    told = brief(ValueError("first" + "x" * 1_000 + "\nthe whole message"))
    assert told.startswith("ValueError: firstx")
    assert len(told) <= LONGEST_ERROR + len("ValueError: …")
    assert brief(ValueError()) == "ValueError: "


def test_half_a_character_does_not_break_the_log():
    with capture_logs() as logs:
        log.warning("odd", message_id="\ud800")
    assert logs == [{"event": "odd", "log_level": "warning", "message_id": "\\ud800"}]


def test_a_log_processor_that_raises_does_not_stop_the_work(caplog):
    def broken(logger: object, name: str, event: object) -> str:
        raise ZeroDivisionError

    structlog.configure(processors=[broken])
    with caplog.at_level(logging.ERROR, logger="limner"):
        log.warning("something")
    assert "the log line something could not be written" in caplog.text


def test_until_the_host_has_configured_structlog_only_warnings_are_passed_on(caplog, capsys):
    with caplog.at_level(logging.DEBUG, logger="limner"):
        log.bind(message_id="m").info("quiet")
        log.bind(message_id="m").warning("loud", times=2)
    assert "quiet" not in caplog.text
    assert "loud message_id='m' times=2" in caplog.text
    assert capsys.readouterr().out == ""
