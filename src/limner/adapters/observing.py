"""What can be seen of the messages: texts, progress, ends. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from limner.adapters.arguments import check_text
from limner.adapters.lifecycle import Lifecycle
from limner.errors import NotRunning
from limner.states import Session
from limner.states.outcome import Counts, Result
from limner.workflows.history import HistoryEntry
from limner.workflows.progress_events import ProgressEvent, PromptProgress, Thumbnail
from limner.workflows.session_manager import SessionManager
from limner.workflows.watching import Watch


class Observing:
    """The half of `limner.Limner` that looks on."""

    manager: SessionManager
    _lifecycle: Lifecycle
    _epoch: str

    async def text(self, message_id: str) -> str:
        """The message's text: what has been streamed so far, or, when it is sealed, what the store has.

        Raises `UnknownMessage`, `StorageError`.
        """
        self._check_call(message_id)
        return await self.manager.text(message_id)

    async def finished(self, message_id: str) -> Result:
        """Wait until the message's session is over, and say what was placed, what was not, and why.

        Gives the last session's result where none is live. Raises `UnknownMessage`, and `StorageError` where
        the journal had to be asked for the message's past and could not be read.
        """
        self._check_call(message_id, tracked=True)
        return await self.manager.wait_ended(message_id)

    def events(self, message_id: str, *, follow: bool = False) -> AsyncIterator[ProgressEvent]:
        """The message's progress, from where it stands: counts, thumbnails, fractions, the end.

        Ends with the session. With `follow` it waits for the first one, if there was none yet, and goes on
        with the next. A slow reader misses steps in between, never the newest state. At the first step it
        raises `UnknownMessage` (without `follow`), and `StorageError` where the journal had to be asked for
        the message's past and could not be read.
        """
        self._check_call(message_id, tracked=True)
        return self.manager.progress.events(message_id, follow=follow, remember=self.manager.remember)

    def watch(
        self, message_ids: str | Sequence[str], *, after: str | None = None, text: bool = False
    ) -> Watch:
        """Follow one message or several, for readers that may lose the connection and come back.

        Gives `Watched(id, event)`: first where everything stands, then each change, without an end. With
        `after`, the id of the last one that was read, only what has changed since, each thing once; an id
        that this process does not know gives everything. A message without a session is waited for. `text`:
        the messages' texts as well, as `TextProgress`; that of a message without a session only to who has
        read nothing yet. Who comes back names the same messages. Raises `NotRunning` once
        Limner is closed, and at the first step `StorageError`.
        """
        wanted = [message_ids] if isinstance(message_ids, str) else list(dict.fromkeys(message_ids))
        for message_id in wanted:
            self._check_call(message_id)
        return self.manager.watch(wanted, epoch=self._epoch, after=after, text=text)

    def progress(self, message_id: str) -> tuple[PromptProgress, ...]:
        """How far each image of the message's last session is, as this process knows it."""
        return self.manager.progress.prompts(message_id)

    def thumbnail(self, message_id: str, prompt_id: str) -> Thumbnail | None:
        """The newest picture of a prompt, unfinished or not, for some time after the session's end."""
        known = self.manager.progress.prompt(message_id, prompt_id)
        return None if known is None else known.thumbnail

    def history(self, message_id: str) -> tuple[HistoryEntry, ...]:
        """The last events that the message's machines took in this process, oldest first, at most 200."""
        return self.manager.history.of(message_id)

    def counts(self, message_id: str) -> Counts:
        """How many of the message's images wait, run, are finished or failed; all zero if unknown."""
        return self.manager.progress.counts(message_id)

    def sessions(self) -> tuple[Session, ...]:
        """All live sessions, oldest first."""
        return tuple(self.manager.get_all_sessions())

    def _check_call(self, message_id: str, *, tracked: bool = False) -> None:
        check_text("message_id", message_id)
        # What is known of a session can be asked for after the block, too.
        if not self._lifecycle.is_running and not (tracked and self.manager.progress.is_tracking(message_id)):
            raise NotRunning("Limner is not running")
