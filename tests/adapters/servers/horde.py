"""A stand-in for AI Horde, as far as asking for one image goes.

The protocol is that of the project's horde/apis/v2/stable.py and horde/exceptions.py: a job is submitted,
looked at with `check`, fetched with `status` and withdrawn with DELETE. Its oddities are kept: errors are
told apart by `rc` rather than by status, a withdrawn job counts as done and has no image, and `status` may
be asked for ten times a minute.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import anyio.to_thread
from starlette.responses import JSONResponse, Response

from tests.adapters.servers.local import PATIENCE_S, Received, WebServer

API = "/api/v2/generate/"
ANONYMOUS = "0000000000"
IDLE: dict[str, Any] = {
    "finished": 0,
    "processing": 0,
    "restarted": 0,
    "waiting": 1,
    "done": False,
    "faulted": False,
}
IDLE |= {"wait_time": 0, "queue_position": 1, "kudos": 0.0, "is_possible": True}
STATUS_LIMIT = 10


@dataclass
class Job:
    """A request in the queue: what it asked for, and how often it was looked at."""

    asked: dict[str, Any]
    looks: int = 0
    fetched: int = 0
    withdrawn: bool = False
    generations: list[dict[str, Any]] = field(default_factory=list)


class HordeServer:
    """Paints `image`, the text that a generation's `img` has: an address or base64.

    Every look moves the one job on by one of `states`, each of which is laid over a waiting job's; after the
    last it is done. With `endless` it waits for ever. `refusal` is the answer to a submission instead.
    """

    def __init__(self, web: WebServer, image: str) -> None:
        self.image = image
        self.states: list[dict[str, Any]] = []
        self.generation: dict[str, Any] = {}
        self.endless = False
        self.warning: str | None = None
        self.refusal: Response | None = None
        self.failures: list[Response] = []
        self.jobs: dict[str, Job] = {}
        self.keys = {ANONYMOUS, "secret-key"}
        self.submitting = threading.Event()
        self.take_it = threading.Event()
        self.take_it.set()
        self.looked_at = threading.Event()
        self.withdrawn = threading.Event()
        web.on(f"{API}async", self._submit)
        web.on_below(f"{API}check/", self._check)
        web.on_below(f"{API}status/", self._status)

    async def _submit(self, request: Received) -> Response:
        self.submitting.set()
        await anyio.to_thread.run_sync(self.take_it.wait, PATIENCE_S)
        if self.refusal is not None:
            return self.refusal
        if request.headers.get("apikey") not in self.keys:
            return refused(401, "InvalidAPIKey", "nobody has this key")
        faults = _faults(request.json)
        if faults:
            return JSONResponse({"errors": faults, "message": "Input payload validation failed"}, 400)
        job_id = f"0000-{len(self.jobs)}"
        self.jobs[job_id] = Job(request.json)
        answer: dict[str, Any] = {"id": job_id, "kudos": 10.0}
        if self.warning is not None:
            answer |= {"message": self.warning, "warnings": [{"code": "NoAvailableWorker"}]}
        return JSONResponse(answer, 202)

    async def _check(self, request: Received) -> Response:
        self.looked_at.set()
        if self.failures:
            return self.failures.pop(0)
        job = self._job(request)
        if job is None:
            return _unknown(request)
        told = self._told(job)
        job.looks += 1
        return JSONResponse(told)

    async def _status(self, request: Received) -> Response:
        job = self._job(request)
        if job is None:
            return _unknown(request)
        if request.method == "DELETE":
            job.withdrawn = True
            self.withdrawn.set()
        else:
            job.fetched += 1
            if job.fetched > STATUS_LIMIT:
                return JSONResponse({"message": "10 per 1 minute"}, 429, {"retry-after": "60"})
        told = self._told(job)
        if told["done"] and not job.withdrawn:
            painted = {"img": self.image, "seed": "7", "id": "1", "censored": False, "state": "ok"}
            painted |= {"worker_id": "w", "worker_name": "somebody", "model": "m", "gen_metadata": []}
            job.generations = [painted | self.generation]
        return JSONResponse(told | {"generations": job.generations, "shared": False})

    def _job(self, request: Received) -> Job | None:
        return self.jobs.get(request.path.rpartition("/")[2])

    def _told(self, job: Job) -> dict[str, Any]:
        if job.withdrawn:
            return IDLE | {"waiting": 0, "done": True, "queue_position": 0}
        if self.endless:
            return dict(IDLE)
        if job.looks < len(self.states):
            return IDLE | self.states[job.looks]
        return IDLE | {"waiting": 0, "finished": 1, "done": True, "queue_position": 0}


def refused(status: int, rc: str, words: str, headers: dict[str, str] | None = None) -> Response:
    """An error as the horde tells it."""
    return JSONResponse({"message": words, "rc": rc}, status, headers)


def _unknown(request: Received) -> Response:
    job_id = request.path.rpartition("/")[2]
    return refused(404, "RequestNotFound", f"there is no request {job_id}")


def _faults(asked: dict[str, Any]) -> dict[str, str]:
    params = asked.get("params", {})
    faults = {
        f"params.{name}": f"{params[name]} is not a multiple of 64"
        for name in ("width", "height")
        if params.get(name, 64) % 64
    }
    if not isinstance(params.get("seed", ""), str):
        faults["params.seed"] = f"{params['seed']} is not of type 'string'"
    if not asked.get("prompt"):
        faults["prompt"] = "'' is too short"
    return faults
