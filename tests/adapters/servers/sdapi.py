"""Stand-ins for the servers with `/sdapi/v1/txt2img`, as far as it and its progress go.

The protocol is that of AUTOMATIC1111's modules/api/api.py and modules/progress.py: one task at a time, an
answer that comes when the image is done, progress by task id at `/internal/progress`. The others are like it
but for what `Kind` lists.
"""

from __future__ import annotations

import ctypes
import threading
from typing import NamedTuple

import anyio.to_thread
from starlette.responses import JSONResponse, PlainTextResponse, Response

from tests.adapters.servers.local import PATIENCE_S, Received, WebServer


class Kind(NamedTuple):
    """How a server differs.

    `has_tasks`: there is `/internal/progress`; `knows_ours`: it knows the ids that requests came with.
    `has_progress`: there is `/sdapi/v1/progress`. `counts_jobs`: the state there counts the job at work.
    `posts_wait`: every POST waits for the image at work, one to an unknown address too.
    """

    has_tasks: bool = True
    knows_ours: bool = True
    has_progress: bool = True
    counts_jobs: bool = True
    posts_wait: bool = False


KINDS = {
    "AUTOMATIC1111": Kind(),
    "Forge": Kind(),
    "AUTOMATIC1111 without its page": Kind(has_tasks=False),
    "SD.Next": Kind(knows_ours=False, counts_jobs=False),
    "KoboldCpp": Kind(has_tasks=False, posts_wait=True),
    "older KoboldCpp": Kind(has_tasks=False, has_progress=False, posts_wait=True),
    "stable-diffusion.cpp": Kind(has_tasks=False, has_progress=False),
}


class SdapiServer:
    """Paints `image` (base64 text) in as many steps as `previews` has entries.

    Every question about progress moves the work on by one step, so nothing here depends on time. With
    `endless` it never comes to an end but by being interrupted, or by `finish()`. `seeds` lists the seeds as
    C's int, which is how KoboldCpp keeps them.
    """

    def __init__(self, web: WebServer, image: str, kind: str = "AUTOMATIC1111") -> None:
        self.image = image
        self.kind = KINDS[kind]
        self.previews: list[str | None] = []
        self.endless = False
        self.begun = threading.Event()
        self.interrupted = threading.Event()
        self.seeds: list[int] = []
        self.current: object = None
        self._step = 0
        self._done = threading.Event()
        web.on("/sdapi/v1/txt2img", self._txt2img)
        web.on("/sdapi/v1/interrupt", self._interrupt)
        web.on("/internal/progress", self._task_progress)
        web.on("/sdapi/v1/progress", self._server_progress)

    def finish(self) -> None:
        """Let the image at work be done."""
        self._done.set()

    @property
    def _tells(self) -> bool:
        return self.kind.has_tasks or self.kind.has_progress

    async def _txt2img(self, request: Received) -> Response:
        self.seeds.append(ctypes.c_int(request.json["seed"]).value)
        self.current = request.json.get("force_task_id")
        if not self.endless and not (self.previews and self._tells):
            self._done.set()
        self.begun.set()
        await anyio.to_thread.run_sync(self._done.wait, PATIENCE_S)
        self.current = None
        return JSONResponse({"images": [self.image], "parameters": {}, "info": "{}"})

    async def _interrupt(self, _: Received) -> Response:
        self.interrupted.set()
        self._done.set()
        return JSONResponse({})

    def _advance(self) -> tuple[float, str | None]:
        if self.endless:
            return 0.5, None
        if self._step == len(self.previews):
            # Only now, so that the answer about the last step has surely arrived before the image does.
            self._done.set()
            return 1.0, None
        preview = self.previews[self._step]
        self._step += 1
        return self._step / (len(self.previews) + 1), preview

    async def _absent(self, request: Received) -> Response:
        if request.method == "POST" and self.kind.posts_wait and self.current is not None:
            await anyio.to_thread.run_sync(self._done.wait, PATIENCE_S)
        return PlainTextResponse("Error: this endpoint does not exist.", 404)

    async def _task_progress(self, request: Received) -> Response:
        if not self.kind.has_tasks:
            return await self._absent(request)
        if request.method != "POST":
            return JSONResponse({"detail": "Method Not Allowed"}, 405)
        ours = self.current is not None and request.json.get("id_task") == self.current
        active = self.kind.knows_ours and ours
        told: dict[str, object] = {"active": active, "queued": False, "completed": False, "textinfo": ""}
        if active:
            share, preview = self._advance()
            told |= {"progress": share, "eta": 1.0, "id_live_preview": self._step}
            told["live_preview"] = f"data:image/png;base64,{preview}" if preview else None
        else:
            told |= {"id_live_preview": -1}
        return JSONResponse(told)

    async def _server_progress(self, request: Received) -> Response:
        if not self.kind.has_progress:
            return await self._absent(request)
        if self.current is None:
            idle = {"job_count": 0, "sampling_step": 0}
            return JSONResponse({"progress": 0, "eta_relative": 0, "state": idle, "current_image": None})
        share, preview = self._advance()
        busy = {"job_count": int(self.kind.counts_jobs), "sampling_step": self._step + 1}
        return JSONResponse({"progress": share, "eta_relative": 1.0, "state": busy, "current_image": preview})
