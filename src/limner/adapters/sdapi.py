"""Images from AUTOMATIC1111's web UI and whoever else speaks its `/sdapi/v1`: Forge, SD.Next, KoboldCpp, …"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import anyio

from limner.adapters.http import HttpClient
from limner.adapters.image_text import image_from_text
from limner.adapters.options import check_json, checked
from limner.adapters.sdapi_progress import ProgressWatch, SdapiProgress
from limner.errors import BackendError, BadRequest, InvalidSetting, NoImage, NotAnImage, Unavailable
from limner.states.values import check_whole_number
from limner.workflows.ports import Capabilities, GenerationRequest, ProgressCallback

_TXT2IMG = "sdapi/v1/txt2img"
_INTERRUPT = "sdapi/v1/interrupt"

# How long a call that is cancelled or has failed may take to tell the server.
_STOP_TIME_S = 2
# KoboldCpp keeps a seed in 32 bits with a sign, and takes a negative one for a wish for chance.
_SEED_BITS = 0x7FFF_FFFF

_PASTED = re.compile(r"/sdapi(?:/v1(?:/txt2img)?)?/?$")
# Beyond what these servers paint. They would try, and hang or fall over, on what is a slip of the keys.
_MOST = {"width": 16_384, "height": 16_384, "steps": 10_000}
# What one call is made of: one image, told from all others, and sent back.
_OURS = ("prompt", "seed", "batch_size", "n_iter", "send_images", "force_task_id")


class SdapiGenerator:
    """A `Generator` for `POST /sdapi/v1/txt2img`. AUTOMATIC1111 and Forge have to be started with `--api`.

    `base_url` is the server's address, for example `http://127.0.0.1:7860`. What is None is left to the
    server: `steps`, `width`, `height` (px), `negative_prompt`, `sampler` and `scheduler` (the server's names
    for them), `cfg_scale`, `clip_skip` (1: skip nothing), `checkpoint` (the server's name for the model, for
    these images only), `styles` (names of the server's). `options` goes into the body as it is, for whatever
    else the server knows (`enable_hr`, `alwayson_scripts`, `override_settings` …).
    `auth` is the user and password of `--api-auth`. Progress is asked for every `poll_interval_ms`.

    Each image is a task with an id of its own, so that its progress and preview can be told from those
    of other work. A server that knows no such ids tells only of whatever it is doing at present (see
    `sdapi_progress`); then progress is reported while this generator has one call under way, no more.

    Cancelling interrupts the server if it says that our task is the one it is working on, and so does a call
    that ends in `Unavailable`, because the next attempt would wait behind it. A task that
    still waits in its queue cannot be taken out of it: the server has no such call. Where tasks have no ids
    nothing is interrupted, since the work could be anybody's.
    """

    capabilities = Capabilities(progress=True, preview=True, cancel=True)

    @checked
    def __init__(
        self,
        base_url: str,
        *,
        steps: int | None = None,
        width: int | None = None,
        height: int | None = None,
        negative_prompt: str | None = None,
        sampler: str | None = None,
        scheduler: str | None = None,
        cfg_scale: float | None = None,
        clip_skip: int | None = None,
        checkpoint: str | None = None,
        styles: Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
        auth: tuple[str, str] | None = None,
        poll_interval_ms: int = 500,
    ) -> None:
        whole = {"steps": steps, "width": width, "height": height, "clip_skip": clip_skip}
        for name, value in whole.items():
            if value is not None:
                check_whole_number(name, value, 1, _MOST.get(name))
        check_whole_number("poll_interval_ms", poll_interval_ms, 0)
        settings = {
            **whole,
            "negative_prompt": negative_prompt,
            "sampler_name": sampler,
            "scheduler": scheduler,
            "cfg_scale": cfg_scale,
            "styles": None if styles is None else list(styles),
        }
        given = {name: value for name, value in settings.items() if value is not None}
        # AUTOMATIC1111 and Forge keep these two among the settings of the whole program, the others know
        # `clip_skip` as it stands.
        overridden = {"sd_model_checkpoint": checkpoint, "CLIP_stop_at_last_layers": clip_skip}
        self._settings = _merged(
            given, {name: value for name, value in overridden.items() if value is not None}, options or {}
        )
        self._client = HttpClient(
            _PASTED.sub("", base_url.strip()),
            auth=auth,
            without_key="it wants a user and a password: auth, or LIMNER_SDAPI_AUTH in the environment",
        )
        self._progress = SdapiProgress(self._client)
        self._poll_interval_ms = poll_interval_ms
        self._under_way = 0

    def __repr__(self) -> str:
        """The address only."""
        return f"SdapiGenerator({self._client.address!r})"

    @property
    def findings(self) -> str:
        """What the server has shown itself to be able to, as far as images were waited for."""
        return self._progress.findings

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
            await self._stop(task)
            raise
        finally:
            self._under_way -= 1
        if isinstance(failure, Unavailable):
            # The server may be at work on it all the same, and the next attempt would wait behind it.
            await self._stop(task)
        if failure is not None:
            raise failure
        return await self._image(answer)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _paint(self, request: GenerationRequest, task: str) -> object:
        body: dict[str, Any] = {
            "save_images": False,
            **self._settings,
            **request.settings.given("negative_prompt", "width", "height", "steps"),
            "prompt": request.prompt,
            "seed": request.seed & _SEED_BITS,
            "batch_size": 1,
            "n_iter": 1,
            "send_images": True,
            "force_task_id": task,
        }
        try:
            return await self._client.post_json(_TXT2IMG, body, unbounded=True)
        except BadRequest as error:
            if "answered 404: Not Found" in str(error):
                raise error.in_words(f"{error} (was the server started with --api?)") from error
            raise

    async def _image(self, answer: object) -> bytes:
        where = f"{self._client.address}{_TXT2IMG}"
        if not isinstance(answer, dict):
            raise NotAnImage(f"{where} answered with JSON that is no image")
        images = answer.get("images")
        if not isinstance(images, list) or not images:
            raise NoImage(f"{where} answered without an image")
        return await image_from_text(images[0])

    async def _watch(self, task: str, report: ProgressCallback) -> None:
        """Ask for progress until cancelled. A failure to tell costs a report, never the image."""
        watch = ProgressWatch(self._progress, task, report)
        while self._progress.can_tell:
            await anyio.sleep(self._poll_interval_ms / 1000)
            await watch.look(alone=self._under_way == 1)

    async def _stop(self, task: str) -> None:
        """Stop the server's work if it is ours. It has one at a time, and interrupting names none."""
        # Whoever gave up wants to go on; failing this the server finishes an image that nobody takes.
        with anyio.move_on_after(_STOP_TIME_S, shield=True), suppress(BackendError):
            if await self._progress.works_on(task):
                await self._client.post_json(_INTERRUPT, {})


def _merged(
    given: Mapping[str, Any], overridden: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings and the free options in one body, each of them said once."""
    for name in options:
        if name in _OURS:
            raise InvalidSetting(f"options[{name!r}] is not free: Limner sets it for each image")
        if name in given:
            raise InvalidSetting(f"{name} is set twice, by itself and in options")
    others = options.get("override_settings", {})
    if not isinstance(others, Mapping):
        raise InvalidSetting(f"options['override_settings'] must be a mapping, not {others!r:.60}")
    merged = {**options, **given}
    if others or overridden:
        merged["override_settings"] = {**others, **overridden}
    check_json("options", merged)
    return merged
