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

A store that does not answer just then, or a journal that takes no more, holds the start up for some seconds
at most. It delays the fourth step, and only for the sessions concerned: they are tried again in the
background, and in the end sealed with the prompts that had been found.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

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

READING_MS = 10_000
"""How long a start waits for the store, and then for the journal to take the ends of the dead streams, in ms.
Whatever has not come by then may come later."""

NO_MESSAGE = "its stream died with the process, and the store has no such message"


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What was found in the journal, by session id. Each session that had not ended is in one of the four.

    `resumed`: its text was final; it goes on with its images or its write. `sealed`: its stream had died;
    it goes on with the text that the store holds. `cancelled`: its stream had died and the store has no such
    message. `unread`: its stream had died and the store did not answer, or the journal did not take the end
    of the stream; it is sealed as soon as they do. `finished` counts the sessions that had ended before and
    are kept in the journal. `messages` has the message's id for each session's.
    """

    resumed: tuple[str, ...] = ()
    sealed: tuple[str, ...] = ()
    cancelled: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    finished: int = 0
    messages: Mapping[str, str] = field(default_factory=dict, compare=False)


class _Look(NamedTuple):
    """What a session's message has to be illustrated, as the store has it (None: no such message)."""

    prompts: tuple[FoundPrompt, ...] | None


@dataclass(slots=True)
class _FirstRead:
    """The reading of a session's message when the process starts, which may go on after the start."""

    look: _Look | None = None
    done: anyio.Event = field(default_factory=anyio.Event)


@dataclass(slots=True)
class _DeadStream:
    """A session whose stream has died, and what waits until the fate of its text is known."""

    session: Session
    waiting: list[Callable[[], None]] = field(default_factory=list)
    fate: str = "unread"


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
        self._reads: dict[str, _FirstRead] = {}
        self._dead_streams: dict[str, _DeadStream] = {}

    def seal_stored(self, session: Session, then: Callable[[], None]) -> None:
        """Perform `SealStored`, and `then` what else was commanded for the session.

        It comes while `run` waits for the restarts to be committed. Nothing is painted before the fate of the
        text is known: a session that is cancelled for want of its message would have been paid for. That goes
        for all that is commanded until then, by a timer for instance (see `holds`).
        """
        self._dead_streams.setdefault(session.id, _DeadStream(session)).waiting.append(then)

    def holds(self, session: Session) -> bool:
        """Whether the fate of this session's text is still unknown."""
        return session.id in self._dead_streams

    async def run(
        self, left: Sequence[Session], finished: int, background: anyio.abc.TaskGroup
    ) -> RecoveryReport:
        """Resume the sessions that were `left`; go on in the `background` where the store does not answer.

        Raises `StorageError` if the journal cannot be written.
        """
        self._reads = {session.id: _FirstRead() for session in left}
        await _at_once_but_not_for_long(background, [partial(self._read_first, session) for session in left])
        for session in left:
            self._registry.take_in(session)
        await self._engine.resume()
        dead = list(self._dead_streams.values())
        # All at once, so that they share their commits.
        await _at_once_but_not_for_long(background, [partial(self._decide, stream) for stream in dead])
        report = _reported(left, {stream.session.id: stream.fate for stream in dead}, finished)
        counts = {fate: len(getattr(report, fate)) for fate in ("resumed", "sealed", "cancelled", "unread")}
        log.info("recovered", **counts, finished=finished)
        return report

    async def _read_first(self, session: Session, done: Callable[[], None]) -> None:
        read = self._reads[session.id]
        read.look = await self._read(session)
        read.done.set()
        done()

    async def _read(self, session: Session) -> _Look | None:
        """The session's message as the store has it, or None where the store does not say."""
        message_id = session.message_id
        try:
            async with self._one_of_few:
                stored = await call_host(self._store.read(message_id), STORE_TIME_LIMIT_MS)
            if stored is None:
                return _Look(None)
            matches = scan(stored.text, self._patterns)
            images = images_between(stored.text, matches)
        except Exception as error:  # noqa: BLE001 - a host's own store may raise and return anything
            log.warning("store_failed", message_id=message_id, error=brief(error))
            return None
        # Their addresses are taken: a new picture of the same bytes must not share one.
        self._registry.note_standing(message_id, (image.src for image in images))
        bare = {match.start for match in without_images(stored.text, matches, images)}
        nodes = [(match.start, self._registry.register(message_id, match)) for match in matches]
        # What has its image had it before: the stream that died had not written any.
        found = tuple(node.found for start, node in nodes if start in bare)
        return _Look(found[:MAX_PROMPTS])

    async def _decide(self, stream: _DeadStream, done: Callable[[], None]) -> None:
        session = stream.session
        first = self._reads.pop(session.id)
        stream.fate = await self._seal(session, first.look)
        done()
        if stream.fate == "unread":
            await first.done.wait()
            if await self._seal(session, first.look) == "unread":
                await self._seal_later(session)
        for then in self._dead_streams.pop(session.id).waiting:
            then()

    async def _seal(self, session: Session, look: _Look | None) -> str:
        if look is None:
            return "unread"
        event = CancelRequested(NO_MESSAGE) if look.prompts is None else StreamEnded(look.prompts)
        try:
            await self._tell(session, event)
        except StorageError:
            return "unread"  # the journal did not take it; it is tried again like a store that did not answer
        return "cancelled" if look.prompts is None else "sealed"

    async def _seal_later(self, session: Session) -> None:
        for pause in STORE_RETRIES_MS:
            await self._alarm.sleep(pause)
            if await self._seal(session, await self._read(session)) != "unread":
                return
        # A store that is down for good shows when the images are to be written; until then they are made.
        known = session.prompts.values()
        found = tuple(FoundPrompt(prompt.id, prompt.text, prompt.occurrence) for prompt in known)
        await self._tell(session, StreamEnded(found))

    async def _tell(self, session: Session, event: StreamEnded | CancelRequested) -> None:
        try:
            await self._engine.post(session.message_id, event, session_id=session.id)
        except (EventRefused, NotRunning) as refusal:
            # Cancelled or superseded while the store was asked; or the end of this process, too.
            log.info("recovery_overtaken", message_id=session.message_id, why=str(refusal))


_Task = Callable[[Callable[[], None]], Coroutine[Any, Any, None]]


async def _at_once_but_not_for_long(background: anyio.abc.TaskGroup, tasks: Sequence[_Task]) -> None:
    """Start the tasks in the background. Wait, but not for long, until each has called what it is given."""
    outstanding = len(tasks)
    all_done = anyio.Event()

    def done() -> None:
        nonlocal outstanding
        outstanding -= 1
        if not outstanding:
            all_done.set()

    for task in tasks:
        background.start_soon(task, done)
    if tasks:
        with anyio.move_on_after(READING_MS / 1000):
            await all_done.wait()


def _reported(left: Sequence[Session], fate_of: Mapping[str, str], finished: int) -> RecoveryReport:
    """In the order in which the sessions began, whatever the order in which they were sealed."""

    def those(fate: str) -> tuple[str, ...]:
        return tuple(session.id for session in left if fate_of.get(session.id, "resumed") == fate)

    return RecoveryReport(
        resumed=those("resumed"),
        sealed=those("sealed"),
        cancelled=those("cancelled"),
        unread=those("unread"),
        finished=finished,
        messages={session.id: session.message_id for session in left},
    )
