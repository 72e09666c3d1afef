"""How far a server with `/sdapi/v1` is with one image, whatever it can tell of it.

Two calls exist. `POST /internal/progress` tells of one task by its id: AUTOMATIC1111 and Forge have it, and
know the id that came with the request. SD.Next has it too, but only the tasks of its own page have ids there,
so ours stays unknown. `GET /sdapi/v1/progress` tells of whatever the server is doing at present: all three
have it, and later versions of KoboldCpp. stable-diffusion.cpp has neither.

Whether the first call exists is found out with a GET, which is answered at once: KoboldCpp lets every POST
wait until the image is done, a POST to an address that it does not know as well.
"""

from __future__ import annotations

import math
from typing import Any

from limner.adapters.http import MIB, HttpClient
from limner.adapters.image_text import image_from_text
from limner.errors import AuthFailed, BackendError, BadRequest
from limner.workflows.ports import ProgressCallback

_OF_A_TASK = "internal/progress"
_OF_THE_SERVER = "sdapi/v1/progress?skip_current_image=false"
_MAX_PROGRESS_BYTES = 16 * MIB
# A task is unknown for a moment after its request was sent, too.
_LOOKS_AT_AN_UNKNOWN_TASK = 3


class SdapiProgress:
    """What one server can tell, found out once. The calls raise a `BackendError`."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client
        self._tells_of_tasks: bool | None = None
        self.tells_of_itself = True
        self.knows_our_tasks = False
        self._has_told_of_itself = False

    @property
    def can_tell(self) -> bool:
        """Whether there is any use in asking."""
        return self._tells_of_tasks is not False or self.tells_of_itself

    @property
    def findings(self) -> str:
        """What was found out so far, for a person; empty where the server has not been asked yet."""
        if self.knows_our_tasks:
            return "tells of our image by its id, and can be told to stop it"
        if not self.can_tell:
            return "tells of no progress, and is not told to stop"
        if self._has_told_of_itself:
            return "tells only of whatever it is doing, and is not told to stop"
        return ""

    async def of_task(
        self, task: str, preview_id: int = -1, *, live_preview: bool = False
    ) -> dict[str, Any] | None:
        """The server's words about a task, or None where it does not tell of tasks.

        `preview_id` is that of the last preview that came, which is not sent again.
        """
        if self._tells_of_tasks is None:
            self._tells_of_tasks = await self._has_tasks()
        if not self._tells_of_tasks:
            return None
        question = {"id_task": task, "id_live_preview": preview_id, "live_preview": live_preview}
        try:
            told = await self._client.post_json(_OF_A_TASK, question, max_bytes=_MAX_PROGRESS_BYTES)
        except (BadRequest, AuthFailed):
            self._tells_of_tasks = False
            return None
        return told if isinstance(told, dict) else {}

    async def works_on(self, task: str) -> bool:
        """Whether the server says that it is working on this task."""
        return _is_at_work(await self.of_task(task) or {})

    async def of_the_server(self) -> dict[str, Any]:
        """The server's words about its present work; empty where it has none or does not tell."""
        try:
            told = await self._client.get_json(_OF_THE_SERVER, max_bytes=_MAX_PROGRESS_BYTES)
        except (BadRequest, AuthFailed):
            self.tells_of_itself = False
            return {}
        if not isinstance(told, dict):
            return {}
        state = told.get("state")
        # SD.Next counts no jobs while it samples the last one.
        is_idle = isinstance(state, dict) and state.get("job_count") == 0 and not state.get("sampling_step")
        self._has_told_of_itself |= not is_idle
        return {} if is_idle else told

    async def _has_tasks(self) -> bool:
        try:
            await self._client.fetch("GET", _OF_A_TASK, max_bytes=_MAX_PROGRESS_BYTES)
        except AuthFailed:
            return False
        except BadRequest as error:
            # It is there if the server minds the method only (405).
            return error.status != 404
        return True


class ProgressWatch:
    """Looks at one image and reports: a fraction that does not go back, and no preview twice."""

    def __init__(self, progress: SdapiProgress, task: str, report: ProgressCallback) -> None:
        self._progress = progress
        self._task = task
        self._report = report
        self._fraction = -1.0
        self._preview_id = -1
        self._preview: object = None
        self._unknown = 0

    async def look(self, *, alone: bool) -> None:
        """Ask once and report what there is. `alone`: no other image of ours is under way at the server."""
        try:
            told = await self._progress.of_task(self._task, self._preview_id, live_preview=True)
            if told is not None:
                await self._tell_of_task(told)
            if told is None or self._unknown >= _LOOKS_AT_AN_UNKNOWN_TASK:
                await self._tell_of_the_server(alone=alone)
        except BackendError:
            # The next look may do better.
            return

    async def _tell_of_task(self, told: dict[str, Any]) -> None:
        is_known = any(told.get(name) for name in ("active", "queued", "completed"))
        self._unknown = 0 if is_known else self._unknown + 1
        self._progress.knows_our_tasks |= is_known
        if _is_at_work(told):
            await self._tell(told.get("progress"), told.get("live_preview"))
        latest = told.get("id_live_preview")
        if isinstance(latest, int) and latest >= 0:
            self._preview_id = latest

    async def _tell_of_the_server(self, *, alone: bool) -> None:
        if alone and self._progress.tells_of_itself:
            told = await self._progress.of_the_server()
            picture = told.get("current_image")
            # It comes with each answer, whether it is a new one or not.
            await self._tell(told.get("progress"), None if picture == self._preview else picture)
            self._preview = picture

    async def _tell(self, fraction: object, picture: object) -> None:
        share: float | None = None
        if isinstance(fraction, (int, float)) and math.isfinite(fraction):
            share = min(1.0, max(0.0, float(fraction)))
        if share is not None and share <= self._fraction:
            share = None
        preview: bytes | None = None
        if picture:
            try:
                preview = await image_from_text(picture)
            except BackendError:
                preview = None
        if share is None and preview is None:
            return
        self._fraction = self._fraction if share is None else share
        self._report(share, preview)


def _is_at_work(told: dict[str, Any]) -> bool:
    return told.get("active") is True and not told.get("completed")
