"""Progress: what a person who waits wants to see, for streaming and regeneration alike.

Each watcher has a mailbox that holds at most one pending update per prompt and one for the session: what is
not fetched in time is overwritten by what is newer. A slow watcher sees fewer steps, never wrong ones, and
never slows down the work or fills the memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Self
from weakref import WeakSet

import anyio

from limner.errors import NotRunning, UnknownMessage
from limner.states import (
    SETTLED,
    TIME_PASSED,
    GenerationFailed,
    GenerationStarted,
    GenerationSucceeded,
    Problem,
    Prompt,
    PromptFound,
    Session,
    SessionKind,
    is_final,
)
from limner.states.message import Step
from limner.states.outcome import Counts, Result, count_batch, result_of


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small picture: the bytes of an image file and its media type. `final`: not a preview any more."""

    data: bytes = field(repr=False)
    media_type: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class SessionProgress:
    """How far the session is. `counts` are those of the present batch."""

    message_id: str
    session_id: str
    kind: SessionKind
    state: str
    counts: Counts


@dataclass(frozen=True, slots=True)
class PromptProgress:
    """How far one image is.

    `fraction` is 0.0 to 1.0, or None where the backend does not tell. `image_url` is set once the image
    is stored, which is before it stands in the message. `problem` is the last attempt's.
    """

    message_id: str
    session_id: str
    prompt_id: str
    prompt: str
    state: str
    attempt: int = 0
    fraction: float | None = None
    thumbnail: Thumbnail | None = None
    image_url: str | None = None
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """The session is over; `result` says what became of every prompt."""

    message_id: str
    session_id: str
    result: Result


ProgressEvent = SessionProgress | PromptProgress | SessionEnded


_SESSION, _END = "session", "end"


class _Mailbox:
    def __init__(self) -> None:
        self.pending: OrderedDict[Hashable, Session | PromptProgress | SessionEnded] = OrderedDict()
        self.arrived = anyio.Event()
        self.closed = False

    def close(self) -> None:
        self.closed = True
        self.arrived.set()

    def put(self, key: Hashable, update: Session | PromptProgress | SessionEnded) -> None:
        self.pending[key] = update
        self.arrived.set()

    def put_end(self, ended: SessionEnded) -> None:
        self.pending.pop(_END, None)
        self.put(_END, ended)

    def turn_to_next_session(self) -> None:
        # What became of a session stays to be read; how it came to that is out of date.
        for key in [key for key in self.pending if key != _END]:
            del self.pending[key]

    async def get(self) -> Session | PromptProgress | SessionEnded:
        while not self.pending:
            if self.closed:
                raise NotRunning("Limner was closed before the session had ended")
            self.arrived = anyio.Event()
            await self.arrived.wait()
        return self.pending.popitem(last=False)[1]


@dataclass(slots=True)
class _Ending:
    """The end of one session. Who waits for it holds on to it, however many sessions follow."""

    result: Result | None = None
    told: anyio.Event = field(default_factory=anyio.Event)


@dataclass(slots=True)
class _Track:
    session: Session
    prompts: dict[str, PromptProgress] = field(default_factory=dict)
    ending: _Ending = field(default_factory=_Ending)
    mailboxes: WeakSet[_Mailbox] = field(default_factory=WeakSet)
    changed: anyio.Event = field(default_factory=anyio.Event)


class ProgressManager:
    """Follows sessions and tells watchers; keeps the last state of at most `keep_messages` messages."""

    def __init__(self, keep_messages: int = 10_000) -> None:
        self._keep = keep_messages
        self._tracks: OrderedDict[str, _Track] = OrderedDict()
        self._expected: dict[str, WeakSet[_Mailbox]] = {}
        self._stopped = False

    def start(self) -> None:
        """Sessions move from now on."""
        self._stopped = False
        for track in self._tracks.values():
            if track.ending.result is None:
                track.ending = _Ending()

    def stop(self) -> None:
        """Sessions move no more: whoever waits for something of one gets `NotRunning`."""
        self._stopped = True
        for track in self._tracks.values():
            track.ending.told.set()
            track.changed.set()
            for mailbox in track.mailboxes:
                mailbox.close()
        for mailboxes in self._expected.values():
            for mailbox in mailboxes:
                mailbox.close()

    def committed(self, step: Step) -> None:
        """Take note of a committed step."""
        session = step.session
        track = self._tracks.get(session.message_id)
        if track is None:
            track = self._tracks[session.message_id] = _Track(session)
            track.mailboxes |= self._expected.pop(session.message_id, WeakSet())
            self._forget_oldest()
        elif track.session.id != session.id:
            track.prompts.clear()
            track.ending = _Ending()
            for mailbox in track.mailboxes:
                mailbox.turn_to_next_session()
            self._tracks.move_to_end(session.message_id)
        changed = _changed_prompts(track.session, step)
        track.session = session
        for prompt in changed:
            known = track.prompts.get(prompt.id)
            merged = _merge(known, session, prompt)
            if merged != known:
                self._publish(track, merged)
        for mailbox in track.mailboxes:
            mailbox.put(_SESSION, session)
        if is_final(session):
            result = track.ending.result = result_of(session)
            track.ending.told.set()
            ended = SessionEnded(session.message_id, session.id, result)
            for mailbox in track.mailboxes:
                mailbox.put_end(ended)
        track.changed.set()
        track.changed = anyio.Event()

    def report(
        self,
        message_id: str,
        prompt_id: str,
        *,
        fraction: float | None = None,
        thumbnail: Thumbnail | None = None,
    ) -> None:
        """A running job tells how far it is. What comes for a prompt that is not running is dropped."""
        track = self._tracks.get(message_id)
        if track is None or is_final(track.session):
            return
        known = track.prompts.get(prompt_id)
        if known is None or (known.state != "generating" and thumbnail is None):
            return
        if fraction is not None:
            fraction = max(known.fraction or 0.0, min(1.0, fraction))
        self._publish(
            track,
            replace(
                known,
                fraction=known.fraction if fraction is None else fraction,
                thumbnail=thumbnail or known.thumbnail,
            ),
        )

    def recall(self, ended: Session) -> None:
        """Know the message's last session, which has ended before this process, or was dropped since.

        Changes nothing where a session of the message is known.
        """
        if not self.is_tracking(ended.message_id):
            self.committed(Step(ended, TIME_PASSED, ()))

    def is_tracking(self, message_id: str) -> bool:
        """Whether the message has, or lately had, a session."""
        return message_id in self._tracks

    def session(self, message_id: str) -> Session | None:
        """The message's last session as committed, live or ended; None where none is known."""
        track = self._tracks.get(message_id)
        return None if track is None else track.session

    def counts(self, message_id: str) -> Counts:
        """The counts of the message's present batch; all zero where nothing is known of it."""
        track = self._tracks.get(message_id)
        return Counts() if track is None else count_batch(track.session)

    async def wait_all_complete(self, message_id: str) -> Counts:
        """Wait until every prompt that is known of the message is settled, and return the counts.

        Settled means completed, failed or cancelled: the seed counts only the completed and would wait
        for ever for a failure. Returns at once for a message that is not tracked. For a limit on the wait,
        put it into `anyio.fail_after`. Raises `NotRunning` where Limner is closed before that.
        """
        while (counts := self.counts(message_id)).outstanding:
            if self._stopped:
                raise NotRunning("Limner was closed before every image was settled")
            await self._tracks[message_id].changed.wait()
        return counts

    async def wait_ended(self, message_id: str) -> Result:
        """Wait for the end of the message's live session, or give that of its last one.

        Raises `UnknownMessage` where no session is known, `NotRunning` where Limner is closed before that.
        """
        track = self._tracks.get(message_id)
        if track is None:
            raise UnknownMessage(message_id)
        ending = track.ending
        if not self._stopped:
            await ending.told.wait()
        if ending.result is None:
            raise NotRunning("Limner was closed before the session had ended")
        return ending.result

    def events(
        self,
        message_id: str,
        *,
        follow: bool = False,
        remember: Callable[[str], Awaitable[object]] | None = None,
    ) -> AsyncIterator[ProgressEvent]:
        """The message's progress: first where everything stands now, then each change, to the end.

        `remember` is awaited before that, for a message that is not tracked; it may `recall` a session. Ends
        with `SessionEnded`; with `follow=True` it goes on with the message's next session, and also waits for
        the first one. Raises `UnknownMessage` where no session is known (without `follow`), `NotRunning`
        where Limner is closed before the end.
        """
        return _Events(self, message_id, follow, remember)

    def subscribe(self, message_id: str, *, expect: bool = False) -> _Mailbox:
        """A mailbox with the message's present state, that gets each change as long as somebody holds it.

        With `expect` the message's first session may be still to come; else `UnknownMessage` is raised.
        """
        track = self._tracks.get(message_id)
        mailbox = _Mailbox()
        mailbox.closed = self._stopped
        if track is None:
            if not expect:
                raise UnknownMessage(message_id)
            self._expect(message_id, mailbox)
            return mailbox
        mailbox.put(_SESSION, track.session)
        for known in track.prompts.values():
            mailbox.put(("prompt", known.prompt_id), known)
        if is_final(track.session):
            mailbox.put_end(SessionEnded(message_id, track.session.id, result_of(track.session)))
        track.mailboxes.add(mailbox)
        return mailbox

    def _publish(self, track: _Track, progress: PromptProgress) -> None:
        track.prompts[progress.prompt_id] = progress
        for mailbox in track.mailboxes:
            mailbox.put(("prompt", progress.prompt_id), progress)

    def _forget_oldest(self) -> None:
        if len(self._tracks) <= self._keep:
            return
        for message_id, track in self._tracks.items():
            if is_final(track.session):
                del self._tracks[message_id]
                for mailbox in track.mailboxes:  # who follows it still waits for its next session
                    self._expect(message_id, mailbox)
                return

    def _expect(self, message_id: str, mailbox: _Mailbox) -> None:
        if len(self._expected) > self._keep:
            self._expected = {known: waiting for known, waiting in self._expected.items() if waiting}
        self._expected.setdefault(message_id, WeakSet()).add(mailbox)


class _Events:
    """Not a generator: there is nothing to close, so a reader may let go of it at any step."""

    def __init__(
        self,
        progress: ProgressManager,
        message_id: str,
        follow: bool,
        remember: Callable[[str], Awaitable[object]] | None,
    ) -> None:
        self._progress = progress
        self._message_id = message_id
        self._follow = follow
        self._remember = remember
        self._mailbox: _Mailbox | None = None
        self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ProgressEvent:
        if self._over:
            raise StopAsyncIteration
        if self._mailbox is None:
            if self._remember is not None and not self._progress.is_tracking(self._message_id):
                await self._remember(self._message_id)
            self._mailbox = self._progress.subscribe(self._message_id, expect=self._follow)
        update = await self._mailbox.get()
        if isinstance(update, Session):
            return SessionProgress(
                update.message_id, update.id, update.kind, update.state, count_batch(update)
            )
        self._over = isinstance(update, SessionEnded) and not self._follow
        return update


def _changed_prompts(before: Session, step: Step) -> list[Prompt]:
    after, event = step.session, step.event
    if before is after or before.id != after.id:
        return list(after.prompts.values())
    # The frequent events change one prompt; looking at all of them would cost the square of their number.
    if isinstance(event, PromptFound):
        return [after.prompts[event.prompt.id]]
    if isinstance(event, (GenerationStarted, GenerationSucceeded, GenerationFailed)):
        return [after.prompts[event.prompt_id]]
    return [prompt for prompt in after.prompts.values() if before.prompts.get(prompt.id) is not prompt]


def _merge(known: PromptProgress | None, session: Session, prompt: Prompt) -> PromptProgress:
    completed = prompt.state == "completed"
    keeps_picture = known is not None and (completed or prompt.state == "generating")
    fraction = 1.0 if completed else None
    if known is not None and prompt.state == known.state and prompt.state not in SETTLED:
        fraction = known.fraction
    return PromptProgress(
        message_id=session.message_id,
        session_id=session.id,
        prompt_id=prompt.id,
        prompt=prompt.text,
        state=prompt.state,
        attempt=prompt.attempt,
        fraction=fraction,
        thumbnail=known.thumbnail if known is not None and keeps_picture else None,
        image_url=prompt.image.url if prompt.image else None,
        problem=prompt.problem,
    )
