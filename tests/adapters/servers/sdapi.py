"""A stand-in for AUTOMATIC1111's web UI, as far as `/sdapi/v1/txt2img` and its progress go.

The protocol is that of the project's modules/api/api.py and modules/progress.py: one task at a time, an
answer that comes when the image is done, progress by task id at `/internal/progress`.
"""

from __future__ import annotations

import threading

import anyio.to_thread
from starlette.responses import JSONResponse, Response

from tests.adapters.servers.local import PATIENCE_S, Received, WebServer


class SdapiServer:
    """Paints `image` (base64 text) in as many steps as `previews` has entries.

    Every question about progress moves the work on by one step, so nothing here depends on time. With
    `endless` it never comes to an end but by being interrupted.
    """

    def __init__(self, web: WebServer, image: str) -> None:
        self.image = image
        self.previews: list[str | None] = []
        self.endless = False
        self.begun = threading.Event()
        self.interrupted = threading.Event()
        self.current: object = None
        self._step = 0
        self._done = threading.Event()
        web.on("/sdapi/v1/txt2img", self._txt2img)
        web.on("/sdapi/v1/interrupt", self._interrupt)
        web.on("/internal/progress", self._task_progress)
        web.on("/sdapi/v1/progress", self._server_progress)

    async def _txt2img(self, request: Received) -> Response:
        self.current = request.json.get("force_task_id")
        if not self.previews and not self.endless:
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

    async def _task_progress(self, request: Received) -> Response:
        active = self.current is not None and request.json.get("id_task") == self.current
        told: dict[str, object] = {"active": active, "queued": False, "completed": False, "textinfo": ""}
        if active:
            share, preview = self._advance()
            told |= {"progress": share, "eta": 1.0, "id_live_preview": self._step}
            told["live_preview"] = f"data:image/png;base64,{preview}" if preview else None
        else:
            told |= {"id_live_preview": -1}
        return JSONResponse(told)

    async def _server_progress(self, _: Received) -> Response:
        if self.current is None:
            idle = {"job_count": 0, "sampling_step": 0}
            return JSONResponse({"progress": 0, "eta_relative": 0, "state": idle, "current_image": None})
        share, preview = self._advance()
        busy = {"job_count": 1, "sampling_step": self._step}
        return JSONResponse({"progress": share, "eta_relative": 1.0, "state": busy, "current_image": preview})
