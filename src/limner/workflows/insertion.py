"""The one write: the only code path that puts generated images into a message.

Read the message with its version, place the whole batch in memory, write it if the version still holds. If
somebody changed the message in between, read again: placing finds each prompt in the text as it is *then*,
and does nothing where an image stands already, so a repetition is harmless.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from limner.text import DeferredImage, Profile, PromptPatterns, normalise_url, place_images
from limner.text import InsertionMode as PlacementMode
from limner.workflows.clock import Alarm
from limner.workflows.host import STORE_TIME_LIMIT_MS, call_host
from limner.workflows.logs import brief, log
from limner.workflows.ports import MessageStore, StoredMessage

MAX_CONFLICTS = 16
"""How often the message may change between reading and writing before the write counts as failed."""

STORE_RETRIES_MS = (200, 1_000, 5_000)
"""The pauses, in ms, before the store is asked again after it failed."""

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
) -> Insertion:
    """Decide what to write into `message` as it stands, and what becomes of each image by that."""
    if message is None:
        return Insertion(None, MessageVanished())
    placement = place_images(message.text, images, patterns=patterns, profile=profile, replaced=replaced)
    outcome = InsertionWritten(
        tuple(
            PlacedImage(p.prompt_id, p.image_url, p.replaced_url and normalise_url(p.replaced_url))
            for p in placement.placed
        ),
        tuple(UnplacedImage(u.prompt_id, u.image_url, u.reason.value) for u in placement.unplaced),
    )
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
) -> InsertionOutcome:
    """Write all images into the message in one write, and say what became of each.

    Nothing is written where nothing changes. Raises nothing: a write that fails for good is an outcome.
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
                plan = _plan(message, images, patterns, profile, replaced)
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
) -> Insertion:
    try:
        return plan_insertion(message, images, patterns=patterns, profile=profile, replaced=replaced)
    except PatternTooSlow as error:
        log.warning("pattern_too_slow", pattern=error.pattern, limit_ms=error.limit_ms)
        patterns = patterns.without_regexes()
        return plan_insertion(message, images, patterns=patterns, profile=profile, replaced=replaced)
