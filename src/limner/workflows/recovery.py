"""The recovery workflow: what a new process does with the sessions that another one left behind.

A process may end at any step (killed, out of memory, a deploy). What it had promised stands in the journal,
so the next process takes it up, before it lets anybody in:

1. The engine opens the journal and hands over the sessions that had not ended.
2. What their messages look like now is read, a few at a time, because a picture's address must not be one
   that stands in the message already.
3. Each session is told that the process was restarted. What was under way is commanded again: images go
   back to the line (or are asked for by the id of their job), a write is finished or found finished.
4. A stream has died with its process. Its session is sealed with the text that the store holds; where the
   store has no such message, it is cancelled.

A store that does not answer just then delays only the fourth step, and only for the sessions concerned:
they are tried again in the background, and in the end sealed with the prompts that had been found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import anyio
import anyio.abc

from limner.errors import EventRefused, NotRunning, StorageError
from limner.states import CancelRequested, FoundPrompt, Session, StreamEnded
from limner.text import PromptPatterns
from limner.text.images import images_between
from limner.workflows.clock import Alarm
from limner.workflows.host import STORE_TIME_LIMIT_MS, call_host
from limner.workflows.insertion import STORE_RETRIES_MS
from limner.workflows.logs import brief, log
from limner.workflows.ports import Engine, MessageStore
from limner.workflows.prompts import PromptRegistry
from limner.workflows.scanning import scan, without_images
from limner.workflows.streaming import MAX_PROMPTS

READS_AT_ONCE = 16
"""How many messages are read at the same time."""

NO_MESSAGE = "its stream died with the process, and the store has no such message"


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What was found in the journal, by session id. Each session that had not ended is in one of the four.

    `resumed`: its text was final; it goes on with its images or its write. `sealed`: its stream had died;
    it goes on with the text that the store holds. `cancelled`: its stream had died and the store has no such
    message. `unread`: its stream had died and the store did not answer; it is sealed as soon as it does.
    `finished` counts the sessions that had ended before and are kept in the journal.
    """

    resumed: tuple[str, ...] = ()
    sealed: tuple[str, ...] = ()
    cancelled: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    finished: int = 0


class _Look(NamedTuple):
    """A message as the store has it (None: there is none), or that the store did not say."""

    text: str | None
    answered: bool


class Recovery:
    """Takes over what the journal holds. One for each start of a `SessionManager`."""

    def __init__(
        self,
        *,
        engine: Engine,
        store: MessageStore,
        registry: PromptRegistry,
        patterns: PromptPatterns,
        alarm: Alarm,
    ) -> None:
        self._engine = engine
        self._store = store
        self._registry = registry
        self._patterns = patterns
        self._alarm = alarm
        self._one_of_few = anyio.CapacityLimiter(READS_AT_ONCE)
        self._looks: dict[str, _Look] = {}
        self._dead_streams: list[Session] = []

    def seal_stored(self, session: Session) -> None:
        """Perform `SealStored`. It comes while `run` waits for the restarts to be committed."""
        self._dead_streams.append(session)

    async def run(
        self, left: Sequence[Session], finished: int, background: anyio.abc.TaskGroup
    ) -> RecoveryReport:
        """Resume the sessions that were `left`; go on in the `background` where the store does not answer.

        Raises `StorageError` if the journal cannot be written.
        """
        async with anyio.create_task_group() as reading:
            for session in left:
                reading.start_soon(self._read, session.message_id)
        for session in left:
            self._registry.take_in(session)
        await self._engine.resume()
        fates: dict[str, list[str]] = {"sealed": [], "cancelled": [], "unread": []}
        for session in self._dead_streams:
            fate = await self._seal(session, self._looks[session.message_id])
            if fate == "unread":
                background.start_soon(self._seal_later, session, name=f"limner recovery {session.message_id}")
            fates[fate].append(session.id)
        dead = {session.id for session in self._dead_streams}
        resumed = tuple(session.id for session in left if session.id not in dead)
        report = RecoveryReport(
            resumed=resumed,
            sealed=tuple(fates["sealed"]),
            cancelled=tuple(fates["cancelled"]),
            unread=tuple(fates["unread"]),
            finished=finished,
        )
        counts = {fate: len(ids) for fate, ids in fates.items()}
        log.info("recovered", resumed=len(resumed), **counts, finished=finished)
        return report

    async def _read(self, message_id: str) -> _Look:
        async with self._one_of_few:
            try:
                stored = await call_host(self._store.read(message_id), STORE_TIME_LIMIT_MS)
            except Exception as error:  # noqa: BLE001 - a host's own store may raise anything
                log.warning("store_failed", message_id=message_id, error=brief(error))
                look = _Look(None, answered=False)
            else:
                look = _Look(None if stored is None else stored.text, answered=True)
        if look.text is not None:
            # Their addresses are taken: a new picture of the same bytes must not share one.
            images = images_between(look.text, scan(look.text, self._patterns))
            self._registry.note_standing(message_id, (image.src for image in images))
        self._looks[message_id] = look
        return look

    async def _seal(self, session: Session, look: _Look) -> str:
        if not look.answered:
            return "unread"
        event: StreamEnded | CancelRequested
        if look.text is None:
            event = CancelRequested(NO_MESSAGE)
        else:
            event = StreamEnded(self._prompts_of(session, look.text))
        await self._tell(session, event)
        return "cancelled" if look.text is None else "sealed"

    async def _seal_later(self, session: Session) -> None:
        for pause in STORE_RETRIES_MS:
            await self._alarm.sleep(pause)
            if await self._seal(session, await self._read(session.message_id)) != "unread":
                return
        # A store that is down for good shows when the images are to be written; until then they are made.
        known = session.prompts.values()
        found = tuple(FoundPrompt(prompt.id, prompt.text, prompt.occurrence) for prompt in known)
        await self._tell(session, StreamEnded(found))

    async def _tell(self, session: Session, event: StreamEnded | CancelRequested) -> None:
        try:
            await self._engine.post(session.message_id, event, session_id=session.id)
        except (EventRefused, NotRunning, StorageError) as refusal:
            # Cancelled or superseded while the store was asked; or the end of this process, too.
            log.info("recovery_overtaken", message_id=session.message_id, why=str(refusal))

    def _prompts_of(self, session: Session, text: str) -> tuple[FoundPrompt, ...]:
        """What is to be illustrated in the stored text: all but what had its image before this session."""
        matches = scan(text, self._patterns)
        bare = {match.start for match in without_images(text, matches, images_between(text, matches))}
        found = []
        for match in matches:
            node = self._registry.register(session.message_id, match)
            if match.start in bare or node.id in session.prompts:
                found.append(node.found)
        return tuple(found[:MAX_PROMPTS])
