"""Faults to plant into a Limner, each of which the kills must bring to light."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio

import limner.workflows.insertion as insertion
from limner.adapters.limner import Limner
from limner.states import Session
from limner.text import (
    DeferredImage,
    InsertionMode,
    PlacedImage,
    Placement,
    extract_image_prompts,
    place_images,
    render_image,
)
from limner.workflows.ports import ImageStore

A_MOMENT_S = 0.05


def commit_after_the_commands(limner: Limner) -> None:
    """The commands of an event are performed first, and a moment later it is committed."""
    engine: Any = limner.manager.engine
    manager: Any = limner.manager
    commit, tell = engine._commit, manager.committed

    async def late(group: Sequence[Any]) -> Any:
        for handled in group:
            for step in handled.steps:
                for command in step.commands:
                    manager._perform(step.session, command)
        with anyio.CancelScope(shield=True):
            await anyio.sleep(A_MOMENT_S)
            return await commit(group)

    engine._commit = late
    manager.committed = lambda step: tell(step._replace(commands=()))


def forget_what_was_under_way(limner: Limner) -> None:
    """Sessions are taken over as they are, and nobody tells them that the process was another one's."""
    engine: Any = limner.manager.engine

    async def resume() -> Sequence[Session]:
        left: tuple[Session, ...] = engine._taken_over
        for session in left:
            engine._committed[session.message_id] = session
            engine._keep(session)
        engine._taken_over = ()
        return left

    engine.resume = resume


def place_blindly(limner: Limner) -> None:
    """A write that may have happened is done again, without a look at what stands in the message."""
    plan = insertion.plan_insertion

    def plan_anew(*args: Any, **kwargs: Any) -> Any:
        return plan(*args, **{**kwargs, "may_be_written": False})

    def place(
        text: str,
        images: Sequence[DeferredImage],
        *,
        profile: Any,
        patterns: Any,
        replaced: Mapping[str, str],
    ) -> Placement:
        placed = []
        for image in images:
            if image.mode is not InsertionMode.APPEND_AFTER_PROMPT:
                return place_images(text, images, profile=profile, patterns=patterns, replaced=replaced)
            for tag in extract_image_prompts(text, patterns):
                if (tag.prompt, tag.occurrence) == (image.prompt, image.occurrence):
                    written = render_image(profile, image.image_url, image.prompt)
                    text = text[: tag.end] + written + text[tag.end :]
                    placed.append(PlacedImage(image.prompt_id, image.image_url))
        return Placement(text, tuple(placed), (), changed=bool(placed))

    module: Any = insertion
    module.plan_insertion = plan_anew
    module.place_images = place


class _LateImages:
    """Gives the address at once, and keeps the image a moment later."""

    def __init__(self, limner: Limner, images: ImageStore) -> None:
        self._limner = limner
        self._images = images

    async def put(self, data: bytes, media_type: str) -> str:
        # Where it will be, learned from a store that keeps nothing.
        inner: Any = self._images
        folder: Any = inner._store
        keep, folder._store = folder._store, lambda data, suffix: folder._folder / (_name(data) + suffix)
        try:
            url: str = await folder.put(data, media_type)
        finally:
            folder._store = keep
        tasks: Any = self._limner.manager._tasks
        tasks.start_soon(self._keep, data, media_type)
        return url

    async def _keep(self, data: bytes, media_type: str) -> None:
        await anyio.sleep(A_MOMENT_S)
        await self._images.put(data, media_type)


def _name(data: bytes) -> str:
    from hashlib import sha256

    return sha256(data).hexdigest()


def record_before_storing(limner: Limner) -> None:
    """An image counts as completed before it is in the image store."""
    processor: Any = limner.manager.processor
    processor._images = _LateImages(limner, processor._images)


def forget_the_names_of_jobs(limner: Limner) -> None:
    """The server's name for a job is never written down."""
    processor: Any = limner.manager.processor

    async def note_job(*_: object) -> None:
        """Do nothing."""

    processor._note_job = note_job


PLANTS: Mapping[str, Callable[[Limner], None]] = {
    plant.__name__: plant
    for plant in (
        commit_after_the_commands,
        forget_what_was_under_way,
        place_blindly,
        record_before_storing,
        forget_the_names_of_jobs,
    )
}
