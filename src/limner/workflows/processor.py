"""Has images made: the driver of `PromptMachine`, under the one global limit.

For each job whose turn has come: tell the session, call the generator, check what came back, store it, and
tell the session again. Which job starts when is the limiter's decision (`limner.states.limiter`), whether a
failed one is repeated the prompt's (`limner.states.prompt`); here is only the doing.

An image that exists is not lost: once the generator has answered, checking, storing and reporting go on even
if the session has given up meanwhile; and if it cannot be stored, the next attempt stores the same picture
instead of paying for another.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import anyio
import anyio.abc

from limner.errors import BackendError, EventRefused, NoImage, NotRunning, StepFailed, StorageError
from limner.states import (
    GenerationAccepted,
    GenerationFailed,
    GenerationStarted,
    GenerationSucceeded,
    Image,
    Problem,
    Prompt,
    Session,
)
from limner.states.limiter import JobId, Limiter, Limits
from limner.text import normalise_url
from limner.workflows.clock import Alarm
from limner.workflows.host import STORE_TIME_LIMIT_MS, call_host
from limner.workflows.logs import LONGEST_ERROR, Log, brief, log
from limner.workflows.ports import (
    Engine,
    GenerationRequest,
    Generator,
    ImageInfo,
    ImageInspector,
    ImageStore,
)
from limner.workflows.progress import ProgressManager
from limner.workflows.progress_events import Thumbnail
from limner.workflows.prompts import PromptRegistry, seed_of
from limner.workflows.steps import Steps

CANCEL_GRACE_MS = 10_000
"""How long a cancelled call may take to end before its place under the limit goes to the next."""

KEEP_UNFINISHED = 64
"""How many images that could not be worked over or stored are kept in memory for the next attempt."""


class _Unfinished(NamedTuple):
    """An image that was made and is not stored yet; `worked_over`: the host's steps have had it."""

    found: ImageInfo
    worked_over: bool


class QueueProcessor:
    """Runs the jobs of all messages. It is a timed source: the interval between starts is its deadline.

    `on_left` is told a message's id whenever an image of it is not worked on any more.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        generator: Generator,
        inspector: ImageInspector,
        images: ImageStore,
        registry: PromptRegistry,
        progress: ProgressManager,
        alarm: Alarm,
        limits: Limits,
        steps: Steps,
        on_left: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._generator = generator
        self._inspector = inspector
        self._images = images
        self._registry = registry
        self._progress = progress
        self._alarm = alarm
        self._limiter = Limiter(limits)
        self._jobs: dict[JobId, tuple[str, Prompt]] = {}
        self._scopes: dict[JobId, anyio.CancelScope] = {}
        self._at_work: dict[str, set[JobId]] = {}
        self._on_left = on_left
        self._steps = steps
        self._unfinished: OrderedDict[str, _Unfinished] = OrderedDict()
        self._tasks: anyio.abc.TaskGroup | None = None
        alarm.add(self)

    @property
    def limits(self) -> Limits:
        """The limits in force."""
        return self._limiter.limits

    @property
    def running(self) -> int:
        """How many images are being made."""
        return self._limiter.running

    @property
    def waiting(self) -> int:
        """How many images wait for their turn."""
        return self._limiter.waiting

    def start(self, tasks: anyio.abc.TaskGroup) -> None:
        """Run jobs in this task group from now on."""
        self._tasks = tasks

    def stop(self) -> None:
        """Start no more jobs. Those that run are cancelled with their task group."""
        self._tasks = None

    def change_limits(self, limits: Limits) -> None:
        """Use other limits from now on; running calls go on."""
        self._limiter.change(limits)
        self.trigger()

    def enqueue(self, session: Session, prompt_id: str) -> None:
        """Line a prompt up for its turn."""
        job = JobId(session.id, prompt_id)
        self._jobs[job] = (session.message_id, session.prompts[prompt_id])
        self._at_work.setdefault(session.message_id, set()).add(job)
        self._limiter.submit(job, session.message_id)
        self.trigger()

    def abort(self, session: Session, prompt_id: str) -> None:
        """Take a prompt out of the line, or cancel the generator's call for it."""
        job = JobId(session.id, prompt_id)
        self._unfinished.pop(prompt_id, None)
        if self._limiter.withdraw(job, session.message_id):
            del self._jobs[job]
            self._end_work(job, session.message_id)
        elif job in self._scopes:
            self._scopes[job].cancel()
            if self._tasks is not None:
                self._tasks.start_soon(self._give_up_later, job)
        self.trigger()

    def works_on(self, message_id: str) -> bool:
        """Whether an image of the message waits or is being made, if only by a call that was given up."""
        return message_id in self._at_work

    def forget(self, prompt_ids: Iterable[str]) -> None:
        """Drop the images of these prompts that are kept for another attempt."""
        for prompt_id in prompt_ids:
            self._unfinished.pop(prompt_id, None)

    def trigger(self) -> None:
        """Start what may start now."""
        self.wake(self._alarm.clock())
        self._alarm.reschedule()

    def next_deadline(self) -> int | None:
        """When the next job may start, if that is a matter of time."""
        return None if self._tasks is None else self._limiter.next_deadline()

    def wake(self, now: int) -> None:
        """Start the jobs whose turn has come."""
        if self._tasks is None:
            return
        for job in self._limiter.start_due(now):
            self._tasks.start_soon(self._run, job, name=f"limner image {job.prompt_id}")

    async def _run(self, job: JobId) -> None:
        message_id, prompt = self._jobs.pop(job)
        logger = log.bind(message_id=message_id, session_id=job.session_id, prompt_id=prompt.id)
        event: GenerationSucceeded | GenerationFailed | None = None
        left = False
        try:
            with anyio.CancelScope() as scope:
                self._scopes[job] = scope
                session = await self._engine.post(
                    message_id, GenerationStarted(prompt.id), session_id=job.session_id
                )
                event = await self._attempt(session, session.prompts[prompt.id], logger)
            # The place is given back before the result is told: a retry may be lined up by that at once.
            self._leave(job, message_id)
            left = True
            if event is None:
                logger.debug("generation_aborted")
            else:
                with anyio.CancelScope(shield=True):
                    await self._engine.post(message_id, event, session_id=job.session_id)
        except anyio.get_cancelled_exc_class():
            self.stop()  # not this call alone is over: the process ends, and nothing new may begin
            raise
        except (EventRefused, NotRunning) as refusal:
            # Cancelled, out of time or closed, before its turn or while its answer was on the way.
            if isinstance(event, GenerationSucceeded):
                logger.warning("image_came_too_late", image_url=event.image.url, why=str(refusal))
        except StorageError as error:
            logger.critical("journal_failed", error=str(error), hint=error.hint)
        finally:
            if not left:
                self._leave(job, message_id)

    async def _give_up_later(self, job: JobId) -> None:
        await self._alarm.sleep(CANCEL_GRACE_MS)
        if job in self._scopes:
            # A painter that does not let itself be cancelled must not stop the others for good.
            log.warning("painter_hangs", session_id=job.session_id, prompt_id=job.prompt_id)
            self._limiter.finish(job)
            self.trigger()

    def _leave(self, job: JobId, message_id: str) -> None:
        del self._scopes[job]
        self._limiter.finish(job)
        self._end_work(job, message_id)
        self.trigger()

    def _end_work(self, job: JobId, message_id: str) -> None:
        jobs = self._at_work[message_id]
        jobs.discard(job)
        if not jobs:
            del self._at_work[message_id]
        self._on_left(message_id)

    async def _attempt(
        self, session: Session, prompt: Prompt, logger: Log
    ) -> GenerationSucceeded | GenerationFailed:
        logger.debug("generation_started", attempt=prompt.attempt, job_id=prompt.job_id)
        try:
            # What the prompt asks for itself counts for every step, and for a job or an image that is there.
            request = self._steps.read(self._request(session, prompt))
            left = self._unfinished.pop(prompt.id, None)
            data = b"" if left is not None else await self._call(session, request)
            with anyio.CancelScope(shield=True):
                left = left or _Unfinished(await self._inspector.inspect(data), worked_over=False)
                found = await self._work_over(request, left)
                return await self._keep(session.message_id, prompt, found)
        except BackendError as error:
            problem = Problem(error.kind, str(error), error.retry_after_ms)
        except StorageError as error:
            problem = Problem("image_not_stored", str(error))
        except Exception as error:  # noqa: BLE001 - a host's own generator may raise anything; it fails alone
            problem = Problem("backend_error", brief(error))
        logger.warning(
            "generation_failed",
            attempt=prompt.attempt,
            kind=problem.kind,
            error=problem.message[:LONGEST_ERROR],
        )
        return GenerationFailed(prompt.id, problem)

    def _request(self, session: Session, prompt: Prompt) -> GenerationRequest:
        return GenerationRequest(
            prompt.id,
            session.message_id,
            prompt.text,
            seed_of(prompt.id),
            prompt.attempt,
            prompt.job_id if self._generator.capabilities.resume else None,
            partial(self._keeps_job, session, prompt.id),
            is_regeneration=prompt.target_url is not None,
        )

    async def _call(self, session: Session, request: GenerationRequest) -> bytes:
        # A job that is picked up again has its prompt, and has passed these steps.
        wanted = request if request.job_id is not None else await self._steps.before(request)
        previews = _Previews(self._inspector, self._progress, session.message_id, request.prompt_id)
        if self._tasks is not None:
            self._tasks.start_soon(previews.run)

        def report(
            fraction: float | None = None, preview: bytes | None = None, job_id: str | None = None
        ) -> None:
            if job_id is not None and self._tasks is not None:
                self._tasks.start_soon(self._note_job, session, request.prompt_id, job_id)
            previews.report(fraction, None if self._steps.looks_at_images else preview)

        try:
            # A host's own generator may return anything, whatever its annotation says.
            data: object = await call_host(self._generator.generate(wanted, report))
        finally:
            previews.scope.cancel()
        if not isinstance(data, (bytes, bytearray, memoryview)) or not data:
            raise NoImage(f"the generator returned {_described(data)} instead of an image's bytes")
        return bytes(data)

    def _keeps_job(self, session: Session, prompt_id: str) -> bool:
        """Whether a call that is cancelled may leave its job to the next process: only this one ends."""
        scope = self._scopes.get(JobId(session.id, prompt_id))
        committed = self._progress.session(session.message_id)
        noted = None if committed is None else committed.prompts.get(prompt_id)
        return (
            self._engine.durable
            and scope is not None
            and not scope.cancel_called
            and noted is not None
            and noted.job_id is not None
        )

    async def _note_job(self, session: Session, prompt_id: str, job_id: object) -> None:
        # A generator may say it again at each look; what a host's own says amiss must not cost the picture.
        live = self._engine.live_session(session.message_id)
        known = None if live is None else live.prompts.get(prompt_id)
        if not isinstance(job_id, str) or (known is not None and known.job_id == job_id):
            return
        try:
            event = GenerationAccepted(prompt_id, job_id)
            await self._engine.post(session.message_id, event, session_id=session.id)
        except (EventRefused, NotRunning) as refusal:
            # The image may be there, or given up, before this is written down.
            log.debug("job_not_noted", prompt_id=prompt_id, job_id=job_id, why=str(refusal))

    async def _work_over(self, request: GenerationRequest, left: _Unfinished) -> ImageInfo:
        if left.worked_over:
            return left.found
        try:
            return await self._steps.after(request, left.found, self._inspector)
        except StepFailed:
            self._set_aside(request.prompt_id, left)
            raise

    def _set_aside(self, prompt_id: str, left: _Unfinished) -> None:
        """Keep a picture for the next attempt, which goes on with it instead of paying for another."""
        self._unfinished[prompt_id] = left
        while len(self._unfinished) > KEEP_UNFINISHED:
            self._unfinished.popitem(last=False)

    async def _keep(self, message_id: str, prompt: Prompt, found: ImageInfo) -> GenerationSucceeded:
        width, height = int(found.width), int(found.height)  # a host's inspector may have its own numbers
        try:
            await self._registry.recall(message_id, self._engine)
        except StorageError as error:
            # A past that cannot be read must not cost the picture.
            log.warning("past_not_recalled", message_id=message_id, error=brief(error))
        try:
            put = self._images.put(found.data, found.media_type)
            stored_url: object = await call_host(put, STORE_TIME_LIMIT_MS)
            if not isinstance(stored_url, str) or not stored_url:
                raise TypeError(f"the image store returned {_described(stored_url)} instead of an address")
        except Exception as error:  # a host's own store may raise anything; the picture is kept all the same
            self._set_aside(prompt.id, _Unfinished(found, worked_over=True))
            raise StorageError(f"the image could not be stored: {brief(error)}") from error
        # In its normal form, so that every spelling of it in a text or a click is seen to be the same.
        url = self._registry.unique_url(message_id, normalise_url(stored_url))
        self._registry.keep_image(message_id, prompt.text, prompt.occurrence, url)
        thumbnail = Thumbnail(found.thumbnail, found.thumbnail_media_type, final=True)
        self._progress.report(message_id, prompt.id, fraction=1.0, thumbnail=thumbnail)
        image = Image(url, str(found.media_type), width, height, len(found.data))
        return GenerationSucceeded(prompt.id, image)


class _Previews:
    """Hands a running job's progress on; of several previews only the newest is made a thumbnail."""

    def __init__(
        self, inspector: ImageInspector, progress: ProgressManager, message_id: str, prompt_id: str
    ) -> None:
        self._inspector = inspector
        self._progress = progress
        self._message_id = message_id
        self._prompt_id = prompt_id
        self._newest: bytes | None = None
        self.scope = anyio.CancelScope()
        self._arrived = anyio.Event()

    def report(self, fraction: float | None = None, preview: bytes | None = None) -> None:
        if preview is not None:
            self._newest = preview
            self._arrived.set()
        try:
            done = None if fraction is None else float(fraction)
        except (TypeError, ValueError):
            return  # what a host's own painter says amiss about its progress must not cost the picture
        if done is not None and math.isfinite(done):
            self._progress.report(self._message_id, self._prompt_id, fraction=done)

    async def run(self) -> None:
        with self.scope:
            while True:
                await self._arrived.wait()
                self._arrived = anyio.Event()
                data, self._newest = self._newest, None
                try:
                    made = None if data is None else await self._inspector.thumbnail(data)
                except Exception as error:  # noqa: BLE001 - a preview is a nicety; its image must not suffer
                    log.debug("preview_failed", prompt_id=self._prompt_id, error=repr(error))
                    continue
                # The inspection runs in a thread and is not cut short; by now the picture may be finished.
                if made is not None and not self.scope.cancel_called:
                    self._progress.report(self._message_id, self._prompt_id, thumbnail=Thumbnail(*made))


def _described(data: object) -> str:
    return "nothing" if not data and data is not False else type(data).__name__
