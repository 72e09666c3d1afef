"""Images from AUTOMATIC1111's web UI and whatever else speaks its `/sdapi/v1`: Forge, SD.Next, …"""

from __future__ import annotations

import math
import secrets
from typing import Any

import anyio

from limner.adapters.http import MIB, HttpClient
from limner.adapters.image_text import image_from_text
from limner.errors import BackendError, BadRequest, InvalidSetting, NoImage, NotAnImage
from limner.workflows.ports import Capabilities, GenerationRequest, ProgressCallback

_TXT2IMG = "sdapi/v1/txt2img"
_INTERRUPT = "sdapi/v1/interrupt"
_TASK_PROGRESS = "internal/progress"
_SERVER_PROGRESS = "sdapi/v1/progress?skip_current_image=false"

_MAX_PROGRESS_BYTES = 16 * MIB
# How long a cancelled call may take to tell the server.
_CANCEL_TIME_S = 3


class SdapiGenerator:
    """A `Generator` for `POST /sdapi/v1/txt2img`. The server has to be started with `--api`.

    `base_url` is the server's address, for example `http://127.0.0.1:7860`. `steps`, `width`, `height` (px),
    `negative_prompt` and `sampler` (the server's name for it) are left to the server where they are None.
    `auth` is the user and password of `--api-auth`. Progress is asked for every `poll_interval_ms`.

    Each image is a task with an id of its own, so that its progress and preview can be told from those
    of other work. A server without `/internal/progress` (`--nowebui`) tells only of whatever it
    is doing at present; then progress is reported while this generator has one call under way, no more.

    Cancelling interrupts the server if it says that our task is the one it is working on. A task that
    still waits in its queue cannot be taken out of it: the server has no such call.
    """

    capabilities = Capabilities(progress=True, preview=True, cancel=True)

    def __init__(
        self,
        base_url: str,
        *,
        steps: int | None = None,
        width: int | None = None,
        height: int | None = None,
        negative_prompt: str | None = None,
        sampler: str | None = None,
        auth: tuple[str, str] | None = None,
        poll_interval_ms: int = 500,
    ) -> None:
        for name, value in (("steps", steps), ("width", width), ("height", height)):
            if value is not None and value < 1:
                raise InvalidSetting(f"{name} must be at least 1, but is {value}")
        if poll_interval_ms < 0:
            raise InvalidSetting(f"poll_interval_ms must not be negative, but is {poll_interval_ms}")
        self._client = HttpClient(base_url, auth=auth)
        self._poll_interval_ms = poll_interval_ms
        settings = {
            "steps": steps,
            "width": width,
            "height": height,
            "negative_prompt": negative_prompt,
            "sampler_name": sampler,
        }
        self._settings = {name: value for name, value in settings.items() if value is not None}
        self._tells_of_tasks = True
        self._under_way = 0

    def __repr__(self) -> str:
        """The address only."""
        return f"SdapiGenerator({self._client.base_url!r})"

    async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        """Paint one image; report its progress and the server's live preview meanwhile.

        Raises a `BackendError`: `BadRequest` for a server without the API, `NoImage`, `NotAnImage` …
        """
        # A new id for each attempt: the server remembers the ids of finished tasks.
        task = f"limner-{secrets.token_hex(8)}"
        failure: BackendError | None = None
        answer: object = None
        self._under_way += 1
        try:
            # Errors are carried out of the task group by hand, since it would wrap them into a group.
            async with anyio.create_task_group() as group:
                group.start_soon(self._watch, task, report)
                try:
                    answer = await self._paint(request, task)
                except BackendError as error:
                    failure = error
                group.cancel_scope.cancel()
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(_CANCEL_TIME_S, shield=True):
                await self._interrupt(task)
            raise
        finally:
            self._under_way -= 1
        if failure is not None:
            raise failure
        return await self._image(answer)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _paint(self, request: GenerationRequest, task: str) -> object:
        body: dict[str, Any] = {
            "prompt": request.prompt,
            "seed": request.seed,
            "batch_size": 1,
            "n_iter": 1,
            "send_images": True,
            "save_images": False,
            "force_task_id": task,
            **self._settings,
        }
        try:
            return await self._client.post_json(_TXT2IMG, body)
        except BadRequest as error:
            if "answered 404: Not Found" in str(error):
                raise BadRequest(f"{error} (was the server started with --api?)") from error
            raise

    async def _image(self, answer: object) -> bytes:
        where = f"{self._client.base_url}{_TXT2IMG}"
        if not isinstance(answer, dict):
            raise NotAnImage(f"{where} answered with JSON that is no image")
        images = answer.get("images")
        if not isinstance(images, list) or not images:
            raise NoImage(f"{where} answered without an image")
        return await image_from_text(images[0])

    async def _watch(self, task: str, report: ProgressCallback) -> None:
        """Ask for progress until cancelled. A failure to tell costs a report, never the image."""
        preview_id = -1
        while True:
            await anyio.sleep(self._poll_interval_ms / 1000)
            try:
                if self._tells_of_tasks:
                    preview_id = await self._report_task(task, preview_id, report)
                elif self._under_way == 1:
                    await self._report_server(report)
            except BadRequest:
                if not self._tells_of_tasks:
                    return
                self._tells_of_tasks = False
            except BackendError:
                continue

    async def _report_task(self, task: str, preview_id: int, report: ProgressCallback) -> int:
        """Report our task's progress; returns the id of the last preview, which is not sent twice."""
        told = await self._task_progress(task, preview_id, live_preview=True)
        if told.get("active") is True and not told.get("completed"):
            await _report(report, told.get("progress"), told.get("live_preview"))
        latest = told.get("id_live_preview")
        return latest if isinstance(latest, int) and latest >= 0 else preview_id

    async def _report_server(self, report: ProgressCallback) -> None:
        told = await self._client.get_json(_SERVER_PROGRESS, max_bytes=_MAX_PROGRESS_BYTES)
        if not isinstance(told, dict):
            return
        state = told.get("state")
        if isinstance(state, dict) and state.get("job_count") == 0:
            return  # idle: our task has not begun
        await _report(report, told.get("progress"), told.get("current_image"))

    async def _interrupt(self, task: str) -> None:
        """Stop the server's work if it is ours. It has one at a time, and interrupting names none."""
        if not self._tells_of_tasks:
            return
        try:
            told = await self._task_progress(task, -1, live_preview=False)
            if told.get("active") is True and not told.get("completed"):
                await self._client.post_json(_INTERRUPT, {})
        except BackendError:
            # Whoever cancelled wants to go on; the server finishes an image that nobody takes.
            return

    async def _task_progress(self, task: str, preview_id: int, *, live_preview: bool) -> dict[str, Any]:
        question = {"id_task": task, "id_live_preview": preview_id, "live_preview": live_preview}
        told = await self._client.post_json(_TASK_PROGRESS, question, max_bytes=_MAX_PROGRESS_BYTES)
        return told if isinstance(told, dict) else {}


async def _report(report: ProgressCallback, fraction: object, picture: object) -> None:
    known = isinstance(fraction, (int, float)) and math.isfinite(fraction)
    preview: bytes | None = None
    if picture:
        try:
            preview = await image_from_text(picture)
        except NotAnImage:
            preview = None
    if known or preview is not None:
        share = min(1.0, max(0.0, float(fraction))) if isinstance(fraction, (int, float)) and known else None
        report(share, preview)
