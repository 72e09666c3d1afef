"""Progress: what a person who waits wants to see, for streaming and regeneration alike.

Every update has a number, over all messages, and each watcher a `Mailbox` in which at most one update per
prompt waits, one for the session and one for its end.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable
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
    Prompt,
    PromptFound,
    Session,
    is_final,
)
from limner.states.message import Step
from limner.states.outcome import Counts, Result, count_batch, result_of
from limner.workflows.mailbox import Mailbox
from limner.workflows.progress_events import (
    ProgressEvent,
    PromptProgress,
    SessionEnded,
    TextChanged,
    Thumbnail,
    Update,
    as_event,
)

_SESSION, _END, TEXT = "session", "end", "text"

KEEP_THUMBNAILS = 200
"""Of how many ended sessions the pictures are kept: a page that shows the message has the images by then."""


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
    mailboxes: WeakSet[Mailbox[Update]] = field(default_factory=WeakSet)
    changed: anyio.Event = field(default_factory=anyio.Event)
    ended: SessionEnded | None = None
    numbers: dict[Hashable, int] = field(default_factory=dict)
    """When each thing changed last: prompts by their ids in a tuple, the session, its end, the text."""


class ProgressManager:
    """Follows sessions and tells watchers; keeps the last state of at most `keep_messages` messages."""

    def __init__(self, keep_messages: int = 10_000) -> None:
        self._keep = keep_messages
        self._tracks: OrderedDict[str, _Track] = OrderedDict()
        self._expected: dict[str, WeakSet[Mailbox[Update]]] = {}
        self._with_thumbnails: OrderedDict[str, None] = OrderedDict()
        self._number = 1  # 0 stands for who has read nothing
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
        message_id = session.message_id
        track = self._tracks.get(message_id)
        if track is None:
            track = self._tracks[message_id] = _Track(session)
            track.mailboxes |= self._expected.pop(message_id, WeakSet())
            self._forget_oldest()
            self.text_changed(message_id)
        elif track.session.id != session.id:
            self._turn_to_next_session(track, message_id)
        changed = _changed_prompts(track.session, step)
        track.session = session
        for prompt in changed:
            known = track.prompts.get(prompt.id)
            merged = _merge(known, session, prompt)
            if merged != known:
                self._publish_prompt(track, merged)
        self._publish(track, message_id, _SESSION, session)
        if is_final(session):
            result = track.ending.result = result_of(session)
            track.ending.told.set()
            track.ended = SessionEnded(message_id, session.id, result)
            self._publish(track, message_id, _END, track.ended)
            self.text_changed(message_id)
            self._forget_thumbnails(message_id)
        track.changed.set()
        track.changed = anyio.Event()

    def text_changed(self, message_id: str) -> None:
        """More of the message's text has come, or it was written anew. Called for every piece of a stream."""
        track = self._tracks.get(message_id)
        if track is not None:
            self._publish(track, message_id, TEXT, TextChanged(message_id))

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
        self._publish_prompt(
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

    def forget(self, message_id: str) -> None:
        """Drop what is known of a message whose session has ended. Who follows it waits for its next one."""
        self._with_thumbnails.pop(message_id, None)
        track = self._tracks.pop(message_id, None)
        if track is not None:
            for mailbox in track.mailboxes:
                self._expect(message_id, mailbox)

    def is_tracking(self, message_id: str) -> bool:
        """Whether the message has, or lately had, a session."""
        return message_id in self._tracks

    def prompt(self, message_id: str, prompt_id: str) -> PromptProgress | None:
        """How far one image of the message's last session is; None where nothing is known of it."""
        track = self._tracks.get(message_id)
        return None if track is None else track.prompts.get(prompt_id)

    def prompts(self, message_id: str) -> tuple[PromptProgress, ...]:
        """How far every image of the message's last session is; none where nothing is known of it."""
        track = self._tracks.get(message_id)
        return () if track is None else tuple(track.prompts.values())

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

        `remember` is awaited before that; it may `recall` a session. Ends with `SessionEnded`; with
        `follow=True` it goes on with the message's next session, and also waits for the first one. Raises
        `UnknownMessage` where no session is known (without `follow`), `NotRunning` where Limner is closed
        before the end, and what `remember` raises.
        """
        return _Events(self, message_id, follow, remember)

    def subscribe(self, message_id: str, *, expect: bool = False) -> Mailbox[Update]:
        """A mailbox with the message's present state, that gets each change as long as somebody holds it.

        With `expect` the message's first session may be still to come; else `UnknownMessage` is raised.
        """
        if not expect and message_id not in self._tracks:
            raise UnknownMessage(message_id)
        mailbox: Mailbox[Update] = Mailbox()
        self.add(mailbox, message_id)
        return mailbox

    def add(self, mailbox: Mailbox[Update], *message_ids: str, after: int = 0) -> None:
        """Put into the mailbox what has changed behind number `after`, oldest first, and then each change.

        0: everything as it stands, of each message the session first and its end last. A message that has no
        session yet is waited for.
        """
        changed: list[tuple[int, str, Hashable, Update]] = []
        for message_id in message_ids:
            track = self._tracks.get(message_id)
            if track is None:
                self._expect(message_id, mailbox)
                continue
            track.mailboxes.add(mailbox)
            changed += [
                (track.numbers[key], message_id, key, update)
                for key, update in _state_of(track, message_id, since_before=after > 0)
                if track.numbers[key] > after and (key != TEXT or mailbox.wants_text)
            ]
        if after:
            changed.sort(key=lambda entry: entry[0])
        last = len(changed) - 1
        for index, (number, message_id, key, update) in enumerate(changed):
            # In an order that is not that of their numbers only the last one says that all was read.
            told = number if after else self._number if index == last else 0
            mailbox.put(message_id, key, told, update)
        if self._stopped:
            mailbox.close()

    @property
    def last_number(self) -> int:
        """The number of the newest update."""
        return self._number

    def _publish_prompt(self, track: _Track, progress: PromptProgress) -> None:
        track.prompts[progress.prompt_id] = progress
        self._publish(track, progress.message_id, (progress.prompt_id,), progress)

    def _publish(self, track: _Track, message_id: str, key: Hashable, update: Update) -> None:
        self._number += 1
        track.numbers[key] = self._number
        for mailbox in track.mailboxes:
            if key != TEXT or mailbox.wants_text:
                mailbox.put(message_id, key, self._number, update)

    def _turn_to_next_session(self, track: _Track, message_id: str) -> None:
        for prompt_id in track.prompts:
            del track.numbers[prompt_id,]
        track.prompts.clear()
        track.ending = _Ending()
        for mailbox in track.mailboxes:
            # What became of a session stays to be read; how it came to that is out of date.
            mailbox.drop(message_id, but=_END)
        self._tracks.move_to_end(message_id)
        self.text_changed(message_id)

    def _forget_oldest(self) -> None:
        if len(self._tracks) <= self._keep:
            return
        for message_id, track in self._tracks.items():
            if is_final(track.session):
                self.forget(message_id)
                return

    def _forget_thumbnails(self, message_id: str) -> None:
        self._with_thumbnails[message_id] = None
        self._with_thumbnails.move_to_end(message_id)
        if len(self._with_thumbnails) <= KEEP_THUMBNAILS:
            return
        oldest, _ = self._with_thumbnails.popitem(last=False)
        track = self._tracks.get(oldest)
        if track is not None and is_final(track.session):
            for prompt_id, known in track.prompts.items():
                track.prompts[prompt_id] = replace(known, thumbnail=None)

    def _expect(self, message_id: str, mailbox: Mailbox[Update]) -> None:
        if len(self._expected) > self._keep:
            self._expected = {known: waiting for known, waiting in self._expected.items() if waiting}
        self._expected.setdefault(message_id, WeakSet()).add(mailbox)


def _state_of(track: _Track, message_id: str, *, since_before: bool) -> Iterable[tuple[Hashable, Update]]:
    """Everything that is known, by its key; `since_before`: for who may have missed an earlier end."""
    yield _SESSION, track.session
    for known in track.prompts.values():
        yield (known.prompt_id,), known
    yield TEXT, TextChanged(message_id)
    if track.ended is not None and (since_before or is_final(track.session)):
        yield _END, track.ended


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
        self._mailbox: Mailbox[Update] | None = None
        self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ProgressEvent:
        if self._over:
            raise StopAsyncIteration
        if self._mailbox is None:
            if self._remember is not None:
                await self._remember(self._message_id)
            self._mailbox = self._progress.subscribe(self._message_id, expect=self._follow)
        _, update = await self._mailbox.get()
        assert not isinstance(update, TextChanged)  # noqa: S101 - this mailbox wants no text
        self._over = isinstance(update, SessionEnded) and not self._follow
        return as_event(update)


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
        target_url=prompt.target_url,
        occurrence=prompt.occurrence,
    )
