"""The contract of `limner.workflows.ports.Generator`, as tests."""

# ruff: noqa: S101 - asserting is what tests do

from __future__ import annotations

import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from typing import ClassVar

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from limner.adapters.arguments import lacks_of
from limner.adapters.inspection import PillowInspector
from limner.errors import AuthFailed, BackendError, JobLost, NotAnImage, Unavailable
from limner.testing.cases import ERROR_KINDS, GeneratorCase, Situation, SlowWork
from limner.testing.recording import ProgressRecorder, make_request
from limner.workflows.ports import GenerationRequest, Generator, ImageInfo

_REPORTS = {"progress": "fractions", "preview": "previews", "resume": "ids of jobs"}


class GeneratorContract:
    """What every generator keeps to. Subclass it, and override the fixture `case`.

    The tests run on whatever event loops the fixture `anyio_backend` names, which is that of anyio's plugin:
    asyncio and trio, unless it is overridden. Nothing here sleeps. What should happen at once is waited for
    up to `patience_s` seconds, and has failed then.
    """

    pytestmark = pytest.mark.anyio

    patience_s: ClassVar[float] = 20

    @pytest.fixture
    def case(self) -> GeneratorCase:
        """The generator, in all its situations. To be overridden; it may depend on other fixtures."""
        raise NotImplementedError(
            f"{type(self).__name__} needs a fixture `case` that returns a limner.testing.GeneratorCase"
        )

    @pytest.fixture
    def progress(self) -> ProgressRecorder:
        """What the generator has reported in this test."""
        return ProgressRecorder()

    # --- success

    async def test_it_is_a_generator_and_returns_an_image_file(
        self, case: GeneratorCase, progress: ProgressRecorder
    ) -> None:
        """The image comes as bytes that can be decoded to their end."""
        async with _using(case.working()) as generator:
            info = await self._paint(generator, make_request(), progress)
        assert info.width > 0, "its image has no width"

    async def test_it_serves_several_calls_one_after_the_other(
        self, case: GeneratorCase, progress: ProgressRecorder
    ) -> None:
        """A generator is made once and used for every prompt."""
        async with _using(case.working()) as generator:
            for seed in (1, 2):
                await self._paint(generator, make_request(seed=seed), progress)

    async def test_progress_never_goes_back_and_stays_between_0_and_1(
        self, case: GeneratorCase, progress: ProgressRecorder
    ) -> None:
        """A bar that is drawn from it only grows."""
        async with _using(case.working()) as generator:
            await self._paint(generator, make_request(), progress)
        told = progress.fractions
        assert told == sorted(told), f"its progress goes back: {told}"
        assert all(0 <= fraction <= 1 for fraction in told), f"its progress is not from 0 to 1: {told}"

    async def test_it_reports_what_its_capabilities_say_and_nothing_else(
        self, case: GeneratorCase, progress: ProgressRecorder
    ) -> None:
        """Hosts show a bar, or a preview, where one is claimed."""
        async with _using(case.working()) as generator:
            await self._paint(generator, make_request(), progress)
            claimed = generator.capabilities
        for name, reports in (
            ("progress", progress.fractions),
            ("preview", progress.previews),
            ("resume", progress.job_ids),
        ):
            claims, did = bool(getattr(claimed, name)), bool(reports)
            assert claims == did, (
                f"its capabilities say {name}={claims}, and it reported {len(reports)} {_REPORTS[name]}"
            )
        assert all(progress.job_ids), "an id is not empty"
        assert len(set(progress.job_ids)) <= 1, "one call is one job"

    async def test_every_preview_is_an_image_file(
        self, case: GeneratorCase, progress: ProgressRecorder
    ) -> None:
        """An unfinished picture is a whole file all the same."""
        async with _using(case.working()) as generator:
            await self._paint(generator, make_request(), progress)
        for preview in progress.previews:
            await _inspected(preview)

    async def test_reports_come_from_the_thread_of_the_event_loop(
        self, case: GeneratorCase, progress: ProgressRecorder
    ) -> None:
        """Who works in threads comes back before reporting: `anyio.from_thread.run_sync`."""
        async with _using(case.working()) as generator:
            await self._paint(generator, make_request(), progress)
        assert progress.threads <= {threading.get_ident()}, "it reports from another thread"

    async def test_a_slow_answer_is_waited_for(self, case: GeneratorCase, progress: ProgressRecorder) -> None:
        """How long an image may take is the session's business."""
        work = _slow_work(case)
        call = _Call(work.generator, make_request(), progress)
        async with _using(work.generator):
            await self._run_until_begun(call, work.begun, work.finish)
        await call.inspected()

    # --- cancelling

    async def test_a_call_that_is_cancelled_before_it_begins_ends_at_once(
        self, case: GeneratorCase, progress: ProgressRecorder
    ) -> None:
        """A user may be quicker than the generator."""
        work = _slow_work(case)
        call = _Call(work.generator, make_request(), progress)
        call.scope.cancel()
        async with _using(work.generator):
            await self._run(call)
        assert call.was_cancelled, f"the cancellation was not let through: {call.end}"

    async def test_a_call_that_takes_too_long_can_be_cancelled(
        self, case: GeneratorCase, progress: ProgressRecorder
    ) -> None:
        """The cancellation is let through, and nothing is reported after it."""
        work = _slow_work(case)
        call = _Call(work.generator, make_request(), progress)
        async with _using(work.generator):
            await self._run_until_begun(call, work.begun, call.scope.cancel)
            await anyio.lowlevel.checkpoint()
        assert call.was_cancelled, f"the cancellation was not let through: {call.end}"
        assert progress.late == 0, "it reports after its call is over"

    async def test_cancelling_stops_the_work_where_it_is_claimed(
        self, case: GeneratorCase, progress: ProgressRecorder
    ) -> None:
        """Whoever claims to `cancel` says so to the service, before the call ends or while it does."""
        work = _slow_work(case)
        claims = _whole(work.generator).capabilities.cancel
        assert claims == (work.stopped is not None), (
            f"its capabilities say cancel={claims}, and SlowWork has "
            f"{'a' if work.stopped is not None else 'no'} `stopped`"
        )
        call = _Call(work.generator, make_request(), progress)
        async with _using(work.generator):
            await self._run_until_begun(call, work.begun, call.scope.cancel)
            if work.stopped is not None:
                assert await self._happened(work.stopped), "the work goes on"

    async def test_cancelling_after_the_image_has_come_changes_nothing(
        self, case: GeneratorCase, progress: ProgressRecorder
    ) -> None:
        """No part of a call outlives it: there is nothing left to cancel, and nothing more is reported."""
        async with _using(case.working()) as generator:
            call = _Call(generator, make_request(seed=1), progress)
            await self._run(call)
            call.scope.cancel()
            await anyio.lowlevel.checkpoint()
            await self._paint(generator, make_request(seed=2), ProgressRecorder())
        await call.inspected()
        assert progress.late == 0, "it reports after its call is over"

    async def test_after_a_cancelled_call_it_paints_the_next(
        self, case: GeneratorCase, progress: ProgressRecorder
    ) -> None:
        """Being cancelled is normal, and breaks nothing."""
        async with _using(case.working()) as generator:
            call = _Call(generator, make_request(seed=1), ProgressRecorder())
            call.scope.cancel()
            await self._run(call)
            # One that never waits for anything cannot be cancelled, and is done.
            assert call.error is None, f"it raised {call.error!r}"
            await self._paint(generator, make_request(seed=2), progress)

    # --- failure

    @pytest.mark.parametrize("kind", ERROR_KINDS, ids=lambda kind: str(kind.kind))
    async def test_a_refusal_is_an_error_of_its_kind_in_one_line(
        self, kind: type[BackendError], case: GeneratorCase, progress: ProgressRecorder
    ) -> None:
        """The kind decides whether there is another attempt; the words are shown to a person."""
        generator = case.refusing(kind)
        if generator is not None:
            error = await self._failure(generator, make_request(), progress)
            assert type(error) is kind, f"it raised {error!r}"
            assert str(error).strip(), "it does not say what happened"
            assert len(str(error).splitlines()) == 1, f"it says more than one line: {str(error)!r}"
        elif kind is Unavailable:
            await self._paint_alone(case.working(), progress)
        else:
            async with _using(case.working()) as working:
                await self._paint(working, make_request(), progress)

    async def test_what_is_secret_is_shown_nowhere(
        self, case: GeneratorCase, progress: ProgressRecorder
    ) -> None:
        """Errors go into the journal, the log and to readers; a server may tell what it was sent."""
        generator = _whole(case.refusing(AuthFailed) or case.working())
        call = _Call(generator, make_request(), progress)
        async with _using(generator):
            await self._run(call)
        shown = repr(generator)
        for error in _chain(call.error):
            shown += repr(error)
        assert not [secret for secret in case.secrets if secret in shown], "it shows what is secret"

    async def test_a_body_that_comes_in_drips_is_read_to_its_end(
        self, case: GeneratorCase, progress: ProgressRecorder
    ) -> None:
        """An answer is over when its end has come, not when there is nothing to read."""
        if case.drip_fed is None:
            await self._paint_alone(case.working(), progress)
            return
        async with _using(case.drip_fed()) as generator:
            await self._paint(generator, make_request(), progress)

    async def test_a_broken_image_is_never_taken_for_one(
        self, case: GeneratorCase, progress: ProgressRecorder
    ) -> None:
        """It is `NotAnImage`, or handed on as it came: then the inspection finds it."""
        if case.broken_image is None:
            await self._paint_alone(case.working(), progress)
            return
        async with _using(case.broken_image()) as generator:
            call = _Call(generator, make_request(), progress)
            await self._run(call)
        if call.error is not None:
            assert isinstance(call.error, NotAnImage), f"it raised {call.error!r}"
            return
        assert isinstance(call.image, bytes), f"it returned {type(call.image).__name__}"
        try:
            await PillowInspector().inspect(call.image)
        except NotAnImage:
            return
        pytest.fail("it returned an image where the service had sent a broken one")

    async def test_an_answer_of_another_type_is_an_error_of_the_backend(
        self, case: GeneratorCase, progress: ProgressRecorder
    ) -> None:
        """A page of somebody in between is no image, and nothing that may surprise a generator."""
        if case.wrong_content_type is None:
            await self._paint_alone(case.working(), progress)
            return
        await self._failure(case.wrong_content_type(), make_request(), progress)

    # --- resuming

    async def test_a_job_that_was_kept_is_taken_up_and_not_begun_again(
        self, case: GeneratorCase, progress: ProgressRecorder
    ) -> None:
        """A cancelled call leaves its job alone where `keeps_job` says so; the next process asks for it."""
        if case.resumable is None:
            await self._claims_not_to_resume(case.working)
            return
        work = case.resumable()
        async with _using(work.generator()) as first:
            assert first.capabilities.resume, "it can resume, and does not claim to"
            call = _Call(first, make_request(keeps_job=True), progress)
            await self._run_until_begun(call, work.begun, call.scope.cancel, progress.job_told)
        work.finish()
        async with _using(work.generator()) as second:
            await self._paint(second, make_request(job_id=progress.job_ids[0]), ProgressRecorder())
        assert work.jobs() == 1, "the job was begun again"

    async def test_a_job_that_nobody_knows_is_lost(
        self, case: GeneratorCase, progress: ProgressRecorder
    ) -> None:
        """The next attempt begins a new one, this one does not."""
        if case.resumable is None:
            await self._claims_not_to_resume(case.working)
            return
        work = case.resumable()
        work.finish()
        error = await self._failure(work.generator(), make_request(job_id="no-such-job"), progress)
        assert type(error) is JobLost, f"it raised {error!r}"
        assert work.jobs() == 0, "it began another job instead"

    # --- what they are made of

    async def _run(self, call: _Call) -> None:
        with anyio.move_on_after(self.patience_s) as limit:
            await call.run()
        assert not limit.cancelled_caught, f"the call did not end within {self.patience_s:g} s"

    async def _run_until_begun(
        self,
        call: _Call,
        begun: threading.Event,
        then: Callable[[], None],
        also: Callable[[], Awaitable[object]] = anyio.lowlevel.checkpoint,
    ) -> None:
        """Run a call; once it works and `also` has come, do something about it; wait for its end."""
        fault = ""
        # So that nobody waits for the beginning of a call that has ended.
        call.when_over = begun.set
        # Faults are carried out of the task group by hand, since it would wrap them into a group.
        async with anyio.create_task_group() as group:
            group.start_soon(call.run)
            if not await self._happened(begun):
                fault = "the call never began"
            elif call.over.is_set():
                fault = f"the call was over before its time: {call.end}"
            else:
                with anyio.move_on_after(self.patience_s) as limit:
                    await also()
                    then()
                    await call.over.wait()
                if limit.cancelled_caught:
                    fault = f"the call did not end within {self.patience_s:g} s"
            group.cancel_scope.cancel()
        assert not fault, fault

    async def _paint(
        self, generator: Generator, request: GenerationRequest, progress: ProgressRecorder
    ) -> ImageInfo:
        call = _Call(generator, request, progress)
        await self._run(call)
        return await call.inspected()

    async def _paint_alone(self, generator: Generator, progress: ProgressRecorder) -> None:
        """Paint as one does who needs nobody else."""
        async with _using(generator):
            with _no_connections() as tried:
                call = _Call(generator, make_request(), progress)
                await self._run(call)
        assert not tried, f"it asks somebody else ({tried[0]}), who may be away, or answer amiss"
        await call.inspected()

    async def _failure(
        self, generator: Generator, request: GenerationRequest, progress: ProgressRecorder
    ) -> BackendError:
        call = _Call(generator, request, progress)
        async with _using(generator):
            await self._run(call)
        assert call.error is not None, f"it raised nothing: {call.end}"
        assert isinstance(call.error, BackendError), f"{call.error!r} is no BackendError"
        return call.error

    async def _happened(self, event: threading.Event) -> bool:
        return await anyio.to_thread.run_sync(event.wait, self.patience_s)

    async def _claims_not_to_resume(self, working: Situation) -> None:
        async with _using(working()) as generator:
            assert not generator.capabilities.resume, "it claims to resume: say how it is brought to that"


def _whole(generator: Generator) -> Generator:
    """The generator, once it is seen to have all that one has."""
    lacks = lacks_of(generator)
    assert not lacks, f"{type(generator).__name__} is no generator, it lacks {'; '.join(lacks)}"
    return generator


def _using(generator: Generator) -> AbstractAsyncContextManager[Generator]:
    return aclosing(_whole(generator))


def _slow_work(case: GeneratorCase) -> SlowWork:
    work: object = case.slow()
    assert isinstance(work, SlowWork), f"slow() of the case returned {work!r:.60} instead of a SlowWork"
    return work


class _Call:
    """One call, cancelled by its `scope`, and how it ended. `when_over` is called at its end."""

    def __init__(self, generator: Generator, request: GenerationRequest, progress: ProgressRecorder) -> None:
        self.scope = anyio.CancelScope()
        self.over = anyio.Event()
        self.when_over: Callable[[], None] | None = None
        self.image: object = None
        self.error: Exception | None = None
        self._generator = generator
        self._request = request
        self._progress = progress

    async def run(self) -> None:
        with self.scope:
            try:
                self.image = await self._generator.generate(self._request, self._progress)
            except Exception as error:  # noqa: BLE001 - a generator may raise anything, and is judged by it
                self.error = error
        self._progress.end()
        self.over.set()
        if self.when_over is not None:
            self.when_over()

    @property
    def was_cancelled(self) -> bool:
        return self.scope.cancelled_caught

    @property
    def end(self) -> str:
        if self.error is not None:
            return f"it raised {self.error!r}"
        return "it was cancelled" if self.was_cancelled else f"it returned {type(self.image).__name__}"

    async def inspected(self) -> ImageInfo:
        if self.error is not None:
            raise AssertionError(f"it raised {self.error!r}") from self.error
        assert not self.was_cancelled, "it was cancelled"
        return await _inspected(self.image)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those that a traceback shows above it."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


async def _inspected(image: object) -> ImageInfo:
    assert isinstance(image, bytes), f"it is no bytes, but {type(image).__name__}"
    try:
        return await PillowInspector().inspect(image)
    except BackendError as error:
        raise AssertionError(f"it is no image file: {error}") from error


@contextmanager
def _no_connections() -> Iterator[list[object]]:
    """Refuse every connection, and list where to one was tried."""
    tried: list[object] = []

    def refuse(_: socket.socket, address: object) -> int:
        tried.append(address)
        raise ConnectionRefusedError("limner.testing lets nobody connect here")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, refuse)
        yield tried
