"""The one write: the only code path that puts generated images into a message.

Read the message with its version, place the whole batch in memory, write it if the version still holds. If
somebody changed the message in between, read again: placing finds each prompt in the text as it is *then*,
and does nothing where an image stands already, so a repetition is harmless.

A process that ends between the write and the record of it leaves the next one in doubt. All images of a
batch are written at once, so one of them in the text tells that the write has happened; then nothing is
written, not even the images that somebody has taken out again since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from limner.errors import InternalError, MessageGone, PatternTooSlow, StorageError, VersionConflict
from limner.states import (
    InsertionFailed,
    InsertionWritten,
    MessageVanished,
    PlacedImage,
    Problem,
    Session,
    UnplacedImage,
)
from limner.text import DeferredImage, Profile, PromptPatterns, find_images, normalise_url, place_images
from limner.text import InsertionMode as PlacementMode
from limner.workflows.clock import Alarm
from limner.workflows.host import STORE_TIME_LIMIT_MS, call_host
from limner.workflows.logs import brief, log
from limner.workflows.ports import MessageStore, StoredMessage

MAX_CONFLICTS = 16
"""How often the message may change between reading and writing before the write counts as failed."""

STORE_RETRIES_MS = (200, 1_000, 5_000)
"""The pauses, in ms, before the store is asked again after it failed."""

REMOVED = "removed"
"""The reason of an image that was written, and was taken out of the text before that was recorded."""

InsertionOutcome = InsertionWritten | MessageVanished | InsertionFailed


class Insertion(NamedTuple):
    """What is to be written, decided without any I/O: the text (None: nothing to write), and the outcome."""

    text: str | None
    outcome: InsertionWritten | MessageVanished


def deferred_images(session: Session, prompt_ids: Sequence[str]) -> tuple[DeferredImage, ...]:
    """The images of these prompts as the placement wants them, in the given order."""
    prompts = (session.prompts[prompt_id] for prompt_id in prompt_ids)
    return tuple(
        DeferredImage(
            prompt_id=prompt.id,
            prompt=prompt.text,
            occurrence=prompt.occurrence,
            image_url=prompt.image.url,
            mode=PlacementMode(prompt.mode.value),
            target_url=prompt.target_url,
        )
        for prompt in prompts
        if prompt.image is not None
    )


def plan_insertion(
    message: StoredMessage | None,
    images: Sequence[DeferredImage],
    *,
    patterns: PromptPatterns,
    profile: Profile,
    replaced: Mapping[str, str],
    may_be_written: bool = False,
) -> Insertion:
    """Decide what to write into `message` as it stands, and what becomes of each image by that.

    `may_be_written`: this batch's write may have happened already, which one image of it in the text shows.
    """
    if message is None:
        return Insertion(None, MessageVanished())
    placement = place_images(message.text, images, patterns=patterns, profile=profile, replaced=replaced)
    placed = [
        PlacedImage(p.prompt_id, p.image_url, p.replaced_url and normalise_url(p.replaced_url))
        for p in placement.placed
    ]
    unplaced = [UnplacedImage(u.prompt_id, u.image_url, u.reason.value) for u in placement.unplaced]
    if may_be_written and placement.changed:
        standing = {normalise_url(image.src) for image in find_images(message.text, patterns)}
        gone = [image for image in placed if normalise_url(image.image_url) not in standing]
        if len(gone) < len(placed):
            removed = [UnplacedImage(image.prompt_id, image.image_url, REMOVED) for image in gone]
            kept = tuple(image for image in placed if image not in gone)
            return Insertion(None, InsertionWritten(kept, (*unplaced, *removed)))
    outcome = InsertionWritten(tuple(placed), tuple(unplaced))
    return Insertion(placement.text if placement.changed else None, outcome)


async def insert_deferred_images(
    store: MessageStore,
    message_id: str,
    images: Sequence[DeferredImage],
    *,
    patterns: PromptPatterns,
    profile: Profile,
    replaced: Mapping[str, str],
    alarm: Alarm,
    may_be_written: bool = False,
) -> InsertionOutcome:
    """Write all images into the message in one write, and say what became of each.

    Nothing is written where nothing changes. `may_be_written`: see `plan_insertion`. Raises nothing: a write
    that fails for good is an outcome.
    """
    if not images:
        return InsertionWritten()
    conflicts = failures = 0
    while True:
        try:
            message = await call_host(store.read(message_id), STORE_TIME_LIMIT_MS)
        except Exception as error:  # noqa: BLE001 - a host's own store may raise anything
            failure = error
        else:
            try:
                plan = _plan(message, images, patterns, profile, replaced, may_be_written)
            except Exception as error:  # noqa: BLE001 - a fault of ours must not be tried again, nor be hidden
                log.critical("placing_failed", message_id=message_id, error=brief(error))
                return InsertionFailed(Problem(InternalError.kind, brief(error)))
            if plan.text is None or message is None:
                return plan.outcome
            try:
                write = store.write(message_id, plan.text, expected=message.version)
                await call_host(write, STORE_TIME_LIMIT_MS)
            except MessageGone:
                return MessageVanished()
            except VersionConflict as error:
                conflicts += 1
                log.info("message_changed_meanwhile", message_id=message_id, times=conflicts)
                if conflicts > MAX_CONFLICTS:
                    return InsertionFailed(Problem(error.kind, f"changed {conflicts} times before the write"))
                continue
            except Exception as error:  # noqa: BLE001 - a host's own store may raise anything
                failure = error
                may_be_written = True  # a time limit, or a connection that broke: only the answer may be lost
            else:
                return plan.outcome
        log.warning("store_failed", message_id=message_id, error=brief(failure))
        if failures == len(STORE_RETRIES_MS):
            kind = failure.kind if isinstance(failure, StorageError) else StorageError.kind
            return InsertionFailed(Problem(kind, brief(failure)))
        await alarm.sleep(STORE_RETRIES_MS[failures])
        failures += 1


def _plan(
    message: StoredMessage | None,
    images: Sequence[DeferredImage],
    patterns: PromptPatterns,
    profile: Profile,
    replaced: Mapping[str, str],
    may_be_written: bool,
) -> Insertion:
    decide = partial(
        plan_insertion, message, images, profile=profile, replaced=replaced, may_be_written=may_be_written
    )
    try:
        return decide(patterns=patterns)
    except PatternTooSlow as error:
        log.warning("pattern_too_slow", pattern=error.pattern, limit_ms=error.limit_ms)
        return decide(patterns=patterns.without_regexes())
