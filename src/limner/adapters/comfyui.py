"""Images from ComfyUI: any workflow in its API format, with places for the prompt, the seed and the size."""

from __future__ import annotations

import os
import secrets
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlencode

import anyio

from limner.adapters.comfyui_job import Job, with_grace
from limner.adapters.comfyui_messages import (
    BY_WEBSOCKET,
    HELLO,
    Finished,
    Interrupted,
    JobMessages,
    OutputFile,
    QueueItem,
    is_image,
    output_files,
    read_history,
    read_queue,
)
from limner.adapters.comfyui_workflow import load_workflow
from limner.adapters.http import MIB, HttpClient
from limner.adapters.http_errors import node_faults
from limner.adapters.options import checked
from limner.errors import BackendError, BadRequest, InvalidSetting, JobLost, NoImage, Unavailable
from limner.states.retry import is_retryable
from limner.states.values import check_whole_number
from limner.workflows.ports import Capabilities, GenerationRequest, ProgressCallback

DEFAULT_SIZE_PX = 1024
"""For a width or height that has a place in the workflow and was not given: what SDXL and Flux like best."""

# A preview has some hundred kilobytes; a whole picture comes this way only from SaveImageWebsocket.
_MAX_MESSAGE_BYTES = 48 * MIB
_CONNECTING_TIME_S = 5
# How long a cancelled call may take to hear what became of its request, and then again to tell the server.
_CANCEL_TIME_S = 2
# While the websocket is there it tells of the end at once; a look that rarely only makes up for what it lost.
_RARELY = 5
# A job that is moving from the queue to the history may be seen in neither, once.
_LOOKS_BEFORE_LOST = 3
_TROUBLES_BEFORE_GIVING_UP = 5
_FIRST_PAUSE_S = 0.05
_SEEDS = 2**32
_PREVIEW_METHODS = (None, "auto", "latent2rgb", "taesd", "none")


class ComfyUIGenerator:
    """A `Generator` for a ComfyUI server.

    `base_url` is the server's address, for example `http://127.0.0.1:8188`; `workflow` a file, or a mapping,
    in ComfyUI's API format with places in it (see `limner.adapters.comfyui_workflow`): `%prompt%` and
    `%seed%` must be there; `negative`, `width` and `height` (px) may be given where the workflow has a
    place for them. A place for a size that is not given gets 1024.

    Of several images the first saved one is taken, by the workflow's order of nodes; `output_node` names the
    node whose images alone count. `preview_method` is the server's word for how previews are made: "auto",
    "latent2rgb", "taesd", "none"; None leaves it to how the server was started. `api_key` is sent as a bearer
    token, `headers` with each request, for servers behind a proxy that wants them. One request may take
    `request_timeout_ms`; where there is no websocket the server is asked every `poll_interval_ms`.

    Raises `InvalidSetting` where the workflow and the settings do not fit together.

    Each attempt is a job of its own with a client id of its own, so that the websocket tells of this job
    alone and the job can be found in the queue again. Its seed is the request's for the first attempt and
    another one, by chance, for each further one: the server keeps the results of equal graphs and may answer
    with nothing, and it may have painted every seed that could be foretold.

    Cancelling takes the job out of the queue or interrupts it, even one whose id is still on its way, unless
    the next process is going to ask for it.
    """

    capabilities = Capabilities(progress=True, preview=True, cancel=True, resume=True)

    @checked
    def __init__(
        self,
        base_url: str,
        workflow: str | os.PathLike[str] | Mapping[str, Any],
        *,
        negative: str = "",
        width: int | None = None,
        height: int | None = None,
        output_node: str | int | None = None,
        preview_method: str | None = "auto",
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        request_timeout_ms: int = 60_000,
        poll_interval_ms: int = 1_000,
    ) -> None:
        for name, value, least in (
            ("width", width, 1),
            ("height", height, 1),
            ("request_timeout_ms", request_timeout_ms, 1),
            ("poll_interval_ms", poll_interval_ms, 0),
        ):
            if value is not None:
                check_whole_number(name, value, least)
        if preview_method not in _PREVIEW_METHODS:
            known = ", ".join(repr(method) for method in _PREVIEW_METHODS)
            raise InvalidSetting(f"preview_method must be one of {known}, but is {preview_method!r}")
        self._extra_data = {} if preview_method is None else {"preview_method": preview_method}
        self._template = load_workflow(workflow)
        self._template.require("prompt", "each image's own text goes there")
        self._template.require("seed", "the server repeats what it has painted with the same one")
        for place, given in (("negative", negative or None), ("width", width), ("height", height)):
            if given is not None:
                self._template.require(place, "one was given")
        self._output_node = None if output_node is None else str(output_node)
        if self._output_node is not None:
            self._template.require_node(self._output_node)
        self._fixed: dict[str, str | int] = {
            "negative": negative,
            "width": DEFAULT_SIZE_PX if width is None else width,
            "height": DEFAULT_SIZE_PX if height is None else height,
        }
        key = (api_key or "").strip()
        bearer = {"authorization": f"Bearer {key}"} if key else {}
        self._client = HttpClient(
            base_url,
            headers={**(headers or {}), **bearer},
            timeout_ms=request_timeout_ms,
            without_key=""
            if key or headers
            else "no key was sent: api_key or headers, or LIMNER_COMFYUI_KEY",
        )
        self._poll_interval_s = poll_interval_ms / 1000

    def __repr__(self) -> str:
        """The address only."""
        return f"ComfyUIGenerator({self._client.address!r})"

    async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        """Queue the workflow, or with `request.job_id` look for a job that was queued; wait; fetch the image.

        Raises a `BackendError`: `BadRequest` for a workflow that the server refuses, `NoImage` for one that
        puts out none, `JobLost` for a job that is neither in the queue nor in the history, or that the
        server has answered from memory without the image …
        """
        job = Job(JobMessages(self._client.address, self._template.classes))
        try:
            end = await self._ended(job, request, report)
            if end.failure is not None:
                raise end.failure
        except anyio.get_cancelled_exc_class():
            # A job whose id is not known here cannot be asked for by the next process either.
            if not job.id or not request.keeps_job():
                await self._withdraw(job)
            raise
        except BackendError as failure:
            await self._withdraw(job)
            raise self._told(failure, resumed=request.job_id is not None) from failure
        return await self._image(job, end)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    # --- beginning

    async def _ended(self, job: Job, request: GenerationRequest, report: ProgressCallback) -> Finished:
        """Begin the job, or find it again, and wait for its end."""
        if request.job_id is not None and (end := await self._found_again(job, request.job_id)) is not None:
            return end
        end, failure = None, None
        # Errors are carried out of the task group by hand, since it would wrap them into a group.
        async with anyio.create_task_group() as group:
            group.start_soon(self._listen, job, report)
            try:
                if not job.id:
                    await self._submit(job, request, report)
                end = await self._wait(job)
            except BackendError as error:
                failure = error
            group.cancel_scope.cancel()
        if end is None:
            raise failure or BackendError(f"{self._client.address}: the job came to no end")
        return end

    async def _submit(self, job: Job, request: GenerationRequest, report: ProgressCallback) -> None:
        """Queue the job, once its websocket is open or known not to open."""
        with anyio.move_on_after(_CONNECTING_TIME_S):
            await job.connected.wait()
        own = request.settings.given("width", "height")
        if request.settings.negative_prompt is not None:
            own["negative"] = request.settings.negative_prompt
        values = {**self._fixed, **own, "prompt": request.prompt, "seed": _seed_for(request)}
        graph = self._template.filled(values)
        body = {
            "prompt": graph,
            "client_id": job.client_id,
            # Newer servers take the id, older ones answer with their own.
            "prompt_id": str(uuid.uuid4()),
            "extra_data": self._extra_data,
        }
        job.is_sent = True
        try:
            answer = await with_grace(lambda: self._client.post_json("prompt", body), _CANCEL_TIME_S)
        except BackendError as error:
            # A refusal leaves no job behind; a connection that broke may have.
            job.is_sent = isinstance(error, Unavailable)
            raise
        told = answer if isinstance(answer, dict) else {}
        id_ = told.get("prompt_id")
        if not isinstance(id_, str) or not id_:
            raise BackendError(f"{self._client.address}prompt answered without a prompt_id", status=200)
        job.accept(id_)
        job.faults = node_faults(told.get("node_errors"))
        report(job_id=id_)

    async def _found_again(self, job: Job, job_id: str) -> Finished | None:
        """The job's end if it has come; None if the job still waits or runs. Raises `JobLost`."""
        job.id, job.is_sent = job_id, True
        while True:
            end, item = await self._look(job, also_in_queue=True)
            if end is not None:
                return end
            if item is not None:
                # The messages go to whoever has the client id that the job was queued with.
                job.client_id = item.client_id or job.client_id
                job.accept(job_id)
                return None
            await self._pause(job)

    async def _listen(self, job: Job, report: ProgressCallback) -> None:
        """Pass on what the websocket tells, as long as there is one. Without it the job is only polled."""
        path = f"ws?{urlencode({'clientId': job.client_id})}"
        try:
            async with self._client.websocket(path, max_message_bytes=_MAX_MESSAGE_BYTES) as socket:
                await socket.send(HELLO)
                # The server greets a client once it has entered it in its list, not before.
                message = await socket.receive()
                job.socket_is_open = True
                job.connected.set()
                await job.accepted.wait()
                while True:
                    told = job.messages.take(message)
                    if told is not None:
                        report(told.fraction, told.preview)
                    if job.messages.is_over:
                        job.news.set()
                        return
                    message = await socket.receive()
        except BackendError:
            job.socket_is_open = False
            job.connected.set()
            job.news.set()

    # --- waiting

    async def _wait(self, job: Job) -> Finished:
        """Wait for the job's end. Raises `JobLost`, and whatever keeps the server from being asked."""
        rounds = 0
        while True:
            await self._pause(job)
            job.news = anyio.Event()
            if job.messages.failure is not None:
                job.is_over = True
                return Finished(job.messages.outputs, job.messages.failure)
            # The whole queue with its graphs is a lot to send, so it is not looked at every time.
            rounds += 1
            is_rare = job.socket_is_open or job.messages.is_over or rounds % _RARELY == 0
            end, _ = await self._look(job, also_in_queue=is_rare or job.misses > 0)
            if end is not None:
                return end

    async def _pause(self, job: Job) -> None:
        """Wait for news, or until it is time for the next look."""
        in_doubt = job.misses > 0 or job.troubles > 0
        if job.messages.is_over:
            # The history is written a moment after the end is told: at once, then less and less often.
            pause_s = _FIRST_PAUSE_S * ((1 << min(job.late_looks, 30)) - 1)
            await anyio.sleep(self._poll_interval_s if in_doubt else min(self._poll_interval_s, pause_s))
            return
        rounds = _RARELY if job.socket_is_open and not in_doubt else 1
        with anyio.move_on_after(self._poll_interval_s * rounds):
            await job.news.wait()

    async def _look(self, job: Job, *, also_in_queue: bool) -> tuple[Finished | None, QueueItem | None]:
        """Look for the job in the history and the queue.

        A job that is in neither for some looks raises `JobLost`. Failures that may pass are let pass a few
        times: giving up means to paint the image again.
        """
        try:
            answer = await self._client.get_json(f"history/{quote(job.id, safe='')}")
            end = read_history(self._client.address, answer, job.id)
            item = await self._queued(job) if end is None and also_in_queue else None
        except BackendError as error:
            job.troubles += 1
            if job.troubles >= _TROUBLES_BEFORE_GIVING_UP or not is_retryable(error.kind):
                raise
            return None, None
        job.troubles = 0
        if end is not None:
            job.is_over = True
            return end, None
        job.late_looks += job.messages.is_over
        if also_in_queue:
            job.misses = 0 if item is not None else job.misses + 1
        if job.misses >= _LOOKS_BEFORE_LOST:
            job.is_over = True
            if job.messages.is_over and job.messages.outputs:
                # Somebody has cleared the history, but the websocket has told what is needed.
                return Finished(job.messages.outputs), None
            raise JobLost(f"{self._client.address} has {job.id} neither in its queue nor in its history")
        return None, item

    async def _queued(self, job: Job) -> QueueItem | None:
        """The job as the queue has it. By its client id where its own is not known yet."""
        for item in read_queue(await self._client.get_json("queue")):
            if item.id == job.id if job.id else item.client_id == job.client_id:
                return item
        return None

    # --- the end

    async def _image(self, job: Job, end: Finished) -> bytes:
        files = self._files(end)
        for file in files:
            if is_image(file):
                return await self._fetched(file, end)
        why = job.faults or job.messages.remark
        if not files:
            by_websocket = [
                node
                for node, kind in self._template.classes.items()
                if kind == BY_WEBSOCKET and self._counts(node)
            ]
            for node in by_websocket:
                if node in job.messages.pictures:
                    return job.messages.pictures[node]
            if not why and self._is_from_memory(end):
                raise JobLost(
                    f"{self._client.address} painted this before, and has not given the image again"
                )
            if by_websocket:
                raise JobLost(
                    f"{self._client.address}: the image was sent over a websocket that was not there"
                )
        what = f"only {files[0].filename[:100]!r}, which is no image" if files else "no image"
        whose = f"node {self._output_node}" if self._output_node is not None else "the workflow"
        words = f"{self._client.address}: {whose} has put out {what}{f' ({why})' if why else ''}"
        raise NoImage(self._client.without_secrets(words))

    async def _fetched(self, file: OutputFile, end: Finished) -> bytes:
        try:
            return await self._client.get_bytes(f"view?{urlencode(file._asdict())}")
        except BadRequest as error:
            # A file of an earlier time may have been cleared away since; a new one is there to be fetched.
            kind = JobLost if self._is_from_memory(end) else NoImage
            words = f"{error}: the file {file.filename[:100]!r} is gone"
            raise kind(self._client.without_secrets(words)) from error

    def _is_from_memory(self, end: Finished) -> bool:
        """Whether the server painted an equal graph before, and so has not painted this one.

        It is no fault of the workflow's: a process that was killed before it had written down its job's id
        has its prompt sent once more by the next.
        """
        return any(self._counts(node) for node in end.remembered)

    def _files(self, end: Finished) -> list[OutputFile]:
        outputs = {node: told for node, told in end.outputs.items() if self._counts(node)}
        return output_files(outputs, self._template.classes)

    def _counts(self, node: str) -> bool:
        return self._output_node is None or node == self._output_node

    def _told(self, failure: BackendError, *, resumed: bool) -> BackendError:
        """The failure as it is raised: without keys, and of a kind that says what to do."""
        words = self._client.without_secrets(str(failure))
        if isinstance(failure, Interrupted):
            # One that was found again was stopped while no process waited for it, which is no failure of it.
            return JobLost(words) if resumed else BackendError(words, status=200)
        return failure.in_words(words)

    async def _withdraw(self, job: Job) -> None:
        """Take the job out of the queue, or stop it if it is the one at work. Bounded, and never fails."""
        if job.is_over or not job.is_sent:
            return
        with anyio.move_on_after(_CANCEL_TIME_S, shield=True), suppress(BackendError):
            # Looked at again after each deletion: the job may have begun in between.
            for _ in range(_LOOKS_BEFORE_LOST):
                item = await self._queued(job)
                if item is None:
                    return
                if item.is_running:
                    # Older servers stop whatever they are doing, so this is said only of our own job.
                    await self._client.post("interrupt", {"prompt_id": item.id})
                    return
                await self._client.post("queue", {"delete": [item.id]})


def _seed_for(request: GenerationRequest) -> int:
    """The request's seed, for a further attempt any other one."""
    other = 0 if request.attempt == 1 else 1 + secrets.randbelow(_SEEDS - 1)
    return (request.seed + other) % _SEEDS
