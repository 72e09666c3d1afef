"""Images from AI Horde, a crowd of volunteers' machines behind one queue."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from time import monotonic
from typing import Any, TypeVar
from urllib.parse import quote

import anyio

from limner.adapters.horde_progress import HordeProgress
from limner.adapters.http import HttpClient
from limner.adapters.image_text import image_from_text
from limner.adapters.options import check_json, checked
from limner.adapters.sniffing import one_line
from limner.errors import (
    BackendError,
    BadRequest,
    InvalidSetting,
    JobLost,
    Moderated,
    NoImage,
    RateLimited,
    Unavailable,
)
from limner.states.values import check_whole_number
from limner.workflows.ports import Capabilities, GenerationRequest, ProgressCallback

HORDE_URL = "https://aihorde.net"
ANONYMOUS_KEY = "0000000000"

DEFAULT_POLL_INTERVAL_MS = 1000
"""The horde keeps an answer about a job for one second, so asking more often tells nothing new."""

DEFAULT_SUBMIT_INTERVAL_MS = 700
"""The horde takes two jobs a second and 90 a minute from one network address."""

_SIDE_STEP, _LARGEST_SIDE = 64, 3072
_API = re.compile(r"/api(?:/v2)?/?$")
_READ_TIMEOUT_MS = 30_000
_REQUEST_TIMEOUT_MS = 120_000
# How long a cancelled call may take to learn its job's id, and then again to tell the server.
_CANCEL_TIME_S = 2
# A 429, a server that is not there for a moment, a 500: the job does not know of it.
_PASSING = frozenset({RateLimited, Unavailable, BackendError})
# Looks that fail one after the other before the job is given up; the pauses between them double.
_FAILED_LOOKS = 5
# Workers come and go, so one answer that there is none for a job means nothing.
_HOPELESS_LOOKS = 10

_Told = TypeVar("_Told")


@dataclass
class _Job:
    """A request at the horde. `over`: there is nothing left to cancel."""

    id: str | None = None
    warning: str = ""
    over: bool = False


class HordeGenerator:
    """A `Generator` for AI Horde and whoever runs a horde of their own.

    `base_url` is the horde's address. Without an `api_key` requests are anonymous, which means last in the
    queue. `model` is one name or several that will do; None leaves it to the horde. `width` and `height`
    (px) are multiples of 64 from 64 to 3072; they, `steps` and `sampler` (the horde's `sampler_name`) are
    left to the horde where they are None. `params` are whatever else it knows, such as `{"karras": True}`.

    A picture that its worker takes for unsafe comes back censored (`Moderated`), unless `nsfw` is set;
    `censor_nsfw` says otherwise. `trusted_workers` keeps to workers that the horde trusts;
    `allow_downgrade` lets it shrink a request that the account cannot pay for. `client_agent` is the
    application as the horde wants it named, `name:version:contact`.

    Jobs are submitted at least `submit_interval_ms` apart and looked at every `poll_interval_ms`. A look that
    fails is no failure of the job, which is painted all the same; so a few are borne. Cancelling withdraws
    the job, even one whose id is still on its way, unless the next process is going to ask for it.
    """

    capabilities = Capabilities(progress=True, cancel=True, resume=True)

    @checked
    def __init__(
        self,
        base_url: str = HORDE_URL,
        *,
        api_key: str | None = None,
        model: str | Sequence[str] | None = None,
        width: int | None = None,
        height: int | None = None,
        steps: int | None = None,
        sampler: str | None = None,
        negative_prompt: str | None = None,
        params: Mapping[str, Any] | None = None,
        nsfw: bool = False,
        censor_nsfw: bool | None = None,
        trusted_workers: bool = False,
        allow_downgrade: bool = False,
        client_agent: str | None = None,
        poll_interval_ms: int = DEFAULT_POLL_INTERVAL_MS,
        submit_interval_ms: int = DEFAULT_SUBMIT_INTERVAL_MS,
    ) -> None:
        for name, value in (("width", width), ("height", height)):
            if value is not None:
                check_whole_number(name, value, _SIDE_STEP)
            if value is not None and (value % _SIDE_STEP or value > _LARGEST_SIDE):
                raise InvalidSetting(
                    f"{name} must be a multiple of {_SIDE_STEP} from {_SIDE_STEP} to {_LARGEST_SIDE}, "
                    f"but is {value}"
                )
        if steps is not None:
            check_whole_number("steps", steps, 1)
        for name, value in (
            ("poll_interval_ms", poll_interval_ms),
            ("submit_interval_ms", submit_interval_ms),
        ):
            check_whole_number(name, value, 0)
        check_json("params", params)
        self._client = HttpClient(
            f"{_API.sub('', base_url.strip()).rstrip('/')}/api/v2",
            headers={
                "apikey": (api_key or "").strip() or ANONYMOUS_KEY,
                "client-agent": client_agent or f"limner:{version('limner')}:unknown",
            },
            read_timeout_ms=_READ_TIMEOUT_MS,
            timeout_ms=_REQUEST_TIMEOUT_MS,
        )
        self._poll_interval_ms = poll_interval_ms
        self._submit_interval_s = submit_interval_ms / 1000
        self._may_submit_at = 0.0
        self._negative_prompt = negative_prompt
        settings = {"width": width, "height": height, "steps": steps, "sampler_name": sampler}
        self._params = {name: value for name, value in settings.items() if value is not None} | dict(
            params or {}
        )
        self._flags: dict[str, Any] = {
            "nsfw": nsfw,
            "censor_nsfw": not nsfw if censor_nsfw is None else censor_nsfw,
            "trusted_workers": trusted_workers,
            "allow_downgrade": allow_downgrade,
        }
        if model:
            self._flags["models"] = [model] if isinstance(model, str) else list(model)

    def __repr__(self) -> str:
        """The address only."""
        return f"HordeGenerator({self._client.address!r})"

    async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        """Submit a job, or take up `request.job_id`, and wait for its image.

        Raises `JobLost` where the horde does not know the job any more or ended it without an image,
        `Moderated` where it was refused or censored, `NoBalance` where it wants more kudos than the account
        has, `QueueFull` where the account has too many jobs already, and every other `BackendError`.
        """
        job = _Job(request.job_id)
        try:
            if job.id is None:
                await self._submit(request, job)
                report(job_id=job.id)
            return await self._follow(job, report)
        finally:
            if job.id is not None and not job.over and not request.keeps_job():
                await self._withdraw(job.id)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _submit(self, request: GenerationRequest, job: _Job) -> None:
        """Put the job into the queue and note its id.

        Once the request is on its way a cancellation does not cut it off at once: the horde may have taken
        it, and a job whose id nobody knows cannot be withdrawn.
        """
        await self._wait_for_turn()
        failure: BackendError | None = None
        answered = anyio.Event()
        shield = anyio.CancelScope(shield=True)

        async def post() -> None:
            nonlocal failure
            with shield:
                try:
                    await self._post(request, job)
                except BackendError as error:
                    failure = error
            answered.set()

        # Errors are carried out of the task group by hand, since it would wrap them into a group.
        async with anyio.create_task_group() as group:
            group.start_soon(post)
            try:
                await answered.wait()
            except anyio.get_cancelled_exc_class():
                shield.deadline = anyio.current_time() + _CANCEL_TIME_S
                raise
        if failure is not None:
            raise failure

    async def _wait_for_turn(self) -> None:
        """Let some time pass since the last submission."""
        now = monotonic()
        turn = max(now, self._may_submit_at)
        self._may_submit_at = turn + self._submit_interval_s
        await anyio.sleep(turn - now)

    async def _post(self, request: GenerationRequest, job: _Job) -> None:
        prompt, own = request.prompt, request.settings
        negative = self._negative_prompt if own.negative_prompt is None else own.negative_prompt
        if negative:
            prompt = f"{prompt} ### {negative}"
        sides = {
            name: min(max(side // _SIDE_STEP, 1) * _SIDE_STEP, _LARGEST_SIDE)
            for name, side in own.given("width", "height").items()
        }
        params = {"n": 1, "seed": str(request.seed), **self._params, **sides, **own.given("steps")}
        body = {"prompt": prompt, "params": params, "r2": True, **self._flags}
        answer = await self._client.post_json("generate/async", body)
        told = answer if isinstance(answer, dict) else {}
        if not isinstance(told.get("id"), str) or not told["id"]:
            raise BackendError(
                f"{self._client.address}generate/async answered without a job's id", status=200
            )
        job.id = told["id"]
        job.warning = one_line(str(told.get("message") or ""), 300)

    async def _follow(self, job: _Job, report: ProgressCallback) -> bytes:
        """Look at the job until it is done, then fetch its image."""
        progress = HordeProgress()
        hopeless = 0
        while True:
            told = await self._look(lambda: self._ask("check", job))
            if told.get("faulted") is True:
                job.over = True
                raise BackendError(
                    f"{self._client.address} could not complete the job: it is faulted", status=200
                )
            if told.get("done") is True:
                return await self._image(job)
            report(progress.fraction(told))
            hopeless = hopeless + 1 if _is_hopeless(told) else 0
            if hopeless == _HOPELESS_LOOKS:
                why = job.warning or "no worker that is there at present can paint it"
                raise BadRequest(
                    f"{self._client.address} cannot do this (model, size or steps): {why}", status=200
                )
            await anyio.sleep(self._poll_interval_ms / 1000)

    async def _image(self, job: _Job) -> bytes:
        told = await self._look(lambda: self._ask("status", job))
        job.over = True
        where = f"{self._client.address}generate/status/{job.id}"
        generations = told.get("generations")
        if not isinstance(generations, list) or not generations:
            # So ends a job that was cancelled, and every waiting one when the horde goes into maintenance.
            raise JobLost(f"{where} says that the job is done, without an image")
        generation = generations[0]
        if not isinstance(generation, dict):
            raise NoImage(f"{where} answered without an image")
        censored = _censorship(generation)
        if censored is not None:
            raise Moderated(f"{where}: the picture was censored by the worker's safety filter{censored}")
        image = generation.get("img")
        if isinstance(image, str) and image.startswith(("http://", "https://")):
            return await self._look(lambda: self._client.get_bytes(image))
        return await image_from_text(image)

    async def _look(self, ask: Callable[[], Awaitable[_Told]]) -> _Told:
        """What `ask` brings. Where it fails in passing it is asked again, a few times at most."""
        failed = 0
        while True:
            try:
                return await ask()
            except BackendError as error:
                failed += 1
                if type(error) not in _PASSING or failed == _FAILED_LOOKS:
                    raise
                pause_ms = max(error.retry_after_ms or 0, self._poll_interval_ms << failed)
            await anyio.sleep(pause_ms / 1000)

    async def _ask(self, what: str, job: _Job) -> dict[str, Any]:
        path = f"generate/{what}/{quote(job.id or '', safe='')}"
        try:
            told = await self._client.get_json(path)
        except JobLost:
            job.over = True
            raise
        except BadRequest as error:
            if error.status != 404:
                raise
            job.over = True
            raise JobLost(str(error), status=404) from error
        if not isinstance(told, dict):
            raise NoImage(f"{self._client.address}{path} answered with JSON that is no job's state")
        return told

    async def _withdraw(self, job_id: str) -> None:
        """Take the job out of the queue. Whoever gave it up wants to go on, so a failure is passed over."""
        with anyio.move_on_after(_CANCEL_TIME_S, shield=True):
            try:
                await self._client.delete(f"generate/status/{quote(job_id, safe='')}")
            except BackendError:
                return


def _is_hopeless(told: Mapping[str, Any]) -> bool:
    """Whether no worker can take the job; one that is being worked on has found its worker."""
    return told.get("is_possible") is False and not told.get("processing") and not told.get("finished")


def _censorship(generation: Mapping[str, Any]) -> str | None:
    """None for a picture that is not censored; otherwise why it is, as far as that is told."""
    entries = generation.get("gen_metadata")
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("type") == "censorship":
            return f" ({one_line(str(entry.get('value')), 60)})"
    return "" if generation.get("censored") is True or generation.get("state") == "censored" else None
