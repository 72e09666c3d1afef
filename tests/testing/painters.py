"""A generator without a fault, and the same with one fault each, for the contract to find."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel

from limner.errors import BackendError, JobLost, RateLimited, Unavailable
from limner.testing import GeneratorCase, ResumableWork, SlowWork
from limner.workflows.ports import Capabilities, GenerationRequest, ProgressCallback


@dataclass
class Service:
    """Paints `image` in this process. `is_open`: whether an image may be finished."""

    image: bytes
    preview: bytes
    answer: object = None
    refusal: BackendError | None = None
    is_slow: bool = False
    jobs: list[str] = field(default_factory=list)
    begun: threading.Event = field(default_factory=threading.Event)
    stopped: threading.Event = field(default_factory=threading.Event)
    gate: anyio.Event = field(default_factory=anyio.Event)

    def begin(self) -> str:
        self.jobs.append(f"job-{len(self.jobs)}")
        return self.jobs[-1]

    async def painted(self) -> object:
        await anyio.lowlevel.checkpoint()
        if self.is_slow:
            self.begun.set()
            await self.gate.wait()
        return self.image if self.answer is None else self.answer


class Faultless:
    """Does everything that the contract asks for, and can do everything that there is to claim."""

    capabilities = Capabilities(progress=True, preview=True, cancel=True, resume=True)

    def __init__(self, service: Service) -> None:
        self.service = service

    async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        if self.service.refusal is not None:
            await self.refuse(self.service.refusal)
        job_id = await self.begin(request)
        self.report_job(job_id, report)
        try:
            self.report_progress(report)
            image = await self.service.painted()
        except anyio.get_cancelled_exc_class():
            if not request.keeps_job():
                await self.stop(job_id)
            raise
        return await self.finish(image)

    async def refuse(self, refusal: BackendError) -> None:
        raise refusal

    async def begin(self, request: GenerationRequest) -> str:
        if request.job_id is None:
            return self.service.begin()
        if request.job_id not in self.service.jobs:
            raise JobLost("there is no such job")
        return request.job_id

    def report_job(self, job_id: str, report: ProgressCallback) -> None:
        report(job_id=job_id)

    def report_progress(self, report: ProgressCallback) -> None:
        report(0.25, self.service.preview)
        report(0.75)

    async def stop(self, job_id: str) -> None:
        self.service.jobs.remove(job_id)
        self.service.stopped.set()

    async def finish(self, image: object) -> bytes:
        if not isinstance(image, bytes):
            raise BackendError("the service sent something else")
        return image

    async def aclose(self) -> None:
        pass


KEY = "sk-very-secret"


def case_of(painter: type[Faultless], image: bytes) -> GeneratorCase:
    """The situations of a painter with a service in this process, where nothing comes over a wire."""

    def service(
        *, answer: object = None, refusal: BackendError | None = None, is_slow: bool = False
    ) -> Service:
        return Service(image, image, answer, refusal, is_slow)

    def slow() -> SlowWork:
        asked = service(is_slow=True)
        return SlowWork(
            generator=painter(asked), begun=asked.begun, finish=asked.gate.set, stopped=asked.stopped
        )

    def resumable() -> ResumableWork:
        asked = service(is_slow=True)
        return ResumableWork(
            generator=lambda: painter(asked),
            begun=asked.begun,
            finish=asked.gate.set,
            jobs=lambda: len(asked.jobs),
        )

    return GeneratorCase(
        working=lambda: painter(service()),
        slow=slow,
        refusing=lambda kind: painter(service(refusal=kind("the reason"))),
        drip_fed=None,
        broken_image=lambda: painter(service(answer=image[: len(image) // 2])),
        wrong_content_type=lambda: painter(service(answer="<html>")),
        resumable=resumable,
        secrets=[KEY],
    )


# --- faults of success and progress


class ReturnsNothing(Faultless):
    async def finish(self, image: object) -> bytes:
        return None  # type: ignore[return-value]  # the fault


class ReturnsHalf(Faultless):
    async def finish(self, image: object) -> bytes:
        whole = await super().finish(image)
        return whole[: len(whole) // 2]


class ServesOnce(Faultless):
    async def begin(self, request: GenerationRequest) -> str:
        if self.service.jobs:
            raise Unavailable("the connection was closed after the first call")
        return await super().begin(request)


class GoesBack(Faultless):
    def report_progress(self, report: ProgressCallback) -> None:
        report(0.5, self.service.preview)
        report(0.25)


class CountsInPercent(Faultless):
    def report_progress(self, report: ProgressCallback) -> None:
        report(50, self.service.preview)


class ReportsNoProgress(Faultless):
    def report_progress(self, report: ProgressCallback) -> None:
        report(preview=self.service.preview)


class ReportsNoPreview(Faultless):
    def report_progress(self, report: ProgressCallback) -> None:
        report(0.5)


class ReportsNoJob(Faultless):
    def report_job(self, job_id: str, report: ProgressCallback) -> None:
        pass


class ReportsMoreThanItClaims(Faultless):
    capabilities = Capabilities(progress=True, cancel=True, resume=True)


class ReportsAnotherJobEachTime(Faultless):
    def report_job(self, job_id: str, report: ProgressCallback) -> None:
        report(job_id=job_id)
        report(job_id=f"{job_id}-again")


class PreviewsText(Faultless):
    def report_progress(self, report: ProgressCallback) -> None:
        report(0.5, b"a picture, half done")


class ReportsFromAThread(Faultless):
    def report_progress(self, report: ProgressCallback) -> None:
        worker = threading.Thread(target=super().report_progress, args=(report,))
        worker.start()
        worker.join()


class HasNoPatience(Faultless):
    async def begin(self, request: GenerationRequest) -> str:
        job_id = await super().begin(request)
        if self.service.is_slow:
            self.service.begun.set()
            raise Unavailable("it fell silent")
        return job_id


# --- faults of cancelling


class SwallowsTheCancellation(Faultless):
    async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        with suppress(anyio.get_cancelled_exc_class()):
            return await super().generate(request, report)
        return self.service.image


class TakesACancellationForAFailure(Faultless):
    async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        try:
            return await super().generate(request, report)
        except anyio.get_cancelled_exc_class() as error:
            raise Unavailable("it was cut off") from error


class ReportsWhenAllIsOver(Faultless):
    """Keeps its callback, and tells of the end of the call before when it is asked for the next."""

    _last: ProgressCallback | None = None

    async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        if self._last is not None:
            self._last(1.0)
        self._last = report
        return await super().generate(request, report)

    async def aclose(self) -> None:
        if self._last is not None:
            self._last(1.0)


class StopsNothing(Faultless):
    async def stop(self, job_id: str) -> None:
        pass


class ClaimsNotToStop(Faultless):
    capabilities = Capabilities(progress=True, preview=True, resume=True)


class IsBrokenByACancellation(Faultless):
    _is_broken = False

    async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        if self._is_broken:
            raise Unavailable("the connection is closed")
        self._is_broken = True
        image = await super().generate(request, report)
        self._is_broken = False
        return image


# --- faults of failing


class RaisesWhatItLikes(Faultless):
    async def refuse(self, refusal: BackendError) -> None:
        raise KeyError("error")


class RaisesOneKindForAll(Faultless):
    async def refuse(self, refusal: BackendError) -> None:
        raise RateLimited("something went wrong")


class RaisesNoWords(Faultless):
    async def refuse(self, refusal: BackendError) -> None:
        raise type(refusal)("")


class RaisesATraceback(Faultless):
    async def refuse(self, refusal: BackendError) -> None:
        raise type(refusal)("Traceback (most recent call last):\n  File …")


class ShowsTheKey(Faultless):
    async def refuse(self, refusal: BackendError) -> None:
        raise type(refusal)(f"the key {KEY} is wrong")


class ShowsTheKeyBelow(Faultless):
    async def refuse(self, refusal: BackendError) -> None:
        raise type(refusal)("the key is wrong") from ValueError(KEY)


class PaintsAllTheSame(Faultless):
    async def refuse(self, refusal: BackendError) -> None:
        pass


class AsksSomebodyElse(Faultless):
    async def begin(self, request: GenerationRequest) -> str:
        with socket.socket() as other, suppress(OSError):
            other.connect(("127.0.0.1", 9))
        return await super().begin(request)


class MendsWhatIsBroken(Faultless):
    async def finish(self, image: object) -> bytes:
        return self.service.image


class TakesABrokenImageForAnOutage(Faultless):
    async def finish(self, image: object) -> bytes:
        if image != self.service.image:
            raise Unavailable("the answer was cut off")
        return self.service.image


class TakesATextForBytes(Faultless):
    async def finish(self, image: object) -> bytes:
        return image.encode() if isinstance(image, str) else await super().finish(image)


class TrustsTheAnswer(Faultless):
    async def finish(self, image: object) -> bytes:
        return bytes(image)  # type: ignore[call-overload, no-any-return]  # the fault


# --- faults of resuming


class BeginsAgain(Faultless):
    async def begin(self, request: GenerationRequest) -> str:
        return self.service.begin()


class BeginsAgainAndCallsItLost(Faultless):
    async def begin(self, request: GenerationRequest) -> str:
        job_id = self.service.begin()
        if request.job_id is not None:
            raise JobLost("there is no such job")
        return job_id


class StopsWhatIsToBeKept(Faultless):
    async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        forgetful = GenerationRequest(
            request.prompt_id, request.message_id, request.prompt, request.seed, job_id=request.job_id
        )
        return await super().generate(forgetful, report)


class TakesALostJobForABadRequest(Faultless):
    async def begin(self, request: GenerationRequest) -> str:
        try:
            return await super().begin(request)
        except JobLost as error:
            raise Unavailable("the server answered 404") from error
