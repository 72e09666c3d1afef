"""Which stream a message's text comes by, while sessions are opened, superseded and refused."""

from __future__ import annotations

from limner.states import Session, is_final
from limner.states.sealing import SavedVersion
from limner.workflows.progress import ProgressManager
from limner.workflows.streaming import MessageStream


class Streams:
    """All streams of one process.

    A message may have two for a moment: one whose session is open, and a newer one whose session is not
    committed yet. The newer one takes over once it is; where it cannot be, nothing has happened, and only its
    text is still taken in. `own_versions` are those that streams of the messages have saved last.
    """

    def __init__(self, progress: ProgressManager) -> None:
        self._progress = progress
        self._open: dict[str, MessageStream] = {}
        self._arriving: dict[str, MessageStream] = {}
        self._refused: dict[str, MessageStream] = {}
        self.own_versions: dict[str, SavedVersion] = {}
        self._newest: dict[str, str] = {}  # message id to session id, in the order of the commits

    def __contains__(self, message_id: str) -> bool:
        """Whether a text of the message still comes, or is still being saved."""
        return any(message_id in known for known in (self._open, self._arriving, self._refused))

    def get(self, message_id: str) -> MessageStream | None:
        """The stream that the message's text comes by, or None. It stays after a cancel, until its seal."""
        for known in (self._arriving, self._open):
            stream = known.get(message_id)
            if stream is not None and not stream.closed:
                return stream
        return None

    def get_refused(self, message_id: str) -> MessageStream | None:
        """The newest stream whose session could not be opened, as long as nothing has taken its place."""
        return self._refused.get(message_id)

    def newest_text(self, message_id: str) -> MessageStream | None:
        """The stream that has a newer text than the store: one that still comes, or is not saved yet."""
        for known in (self._arriving, self._open):
            stream = known.get(message_id)
            if stream is not None and (not stream.closed or stream.is_unsaved):
                return stream
        return None

    def arrive(self, stream: MessageStream) -> None:
        """Note a stream whose session is asked for."""
        self._arriving[stream.message_id] = stream

    def session_started(self, session: Session) -> None:
        """Note that the start of a streaming session is committed."""
        self._newest[session.message_id] = session.id

    def opened(self, stream: MessageStream) -> None:
        """Let the stream take over, unless a newer one has, or its session is over already."""
        message_id = stream.message_id
        _drop(self._arriving, stream)
        # A stream that still waits for a write to end has no session yet.
        if stream.session_id and self._newest.get(message_id) != stream.session_id:
            stream.close()
            return
        for before in (self._open.get(message_id), self._refused.pop(message_id, None)):
            if before is not None:
                before.close()
        self._open[message_id] = stream
        # As committed: a cancel that still stands in line may turn out not to have happened.
        known = self._progress.session(message_id)
        if stream.session_id and known is not None and (known.id != stream.session_id or is_final(known)):
            stream.mute()
        if stream.text:
            self._progress.text_changed(message_id)

    def refused(self, stream: MessageStream) -> None:
        """Note that the stream's session could not be opened."""
        message_id = stream.message_id
        was_newest = _drop(self._arriving, stream) or _drop(self._open, stream)
        before = self._refused.get(message_id)
        if not was_newest:
            stream.close()  # a newer stream has begun meanwhile, and the message is its
            return
        if before is not None:
            before.close()
        self._refused[message_id] = stream

    def session_ended(self, session: Session) -> None:
        """Note that a session is over: what its text still brings is not looked at."""
        stream = self._open.get(session.message_id)
        if stream is not None and stream.session_id == session.id:
            stream.mute()

    def forget(self, stream: MessageStream) -> None:
        """Let go of a stream that has ended."""
        message_id = stream.message_id
        _drop(self._arriving, stream)
        _drop(self._refused, stream)
        if _drop(self._open, stream):
            self._progress.text_changed(message_id)
        if self._newest.get(message_id) == stream.session_id:
            del self._newest[message_id]
        if message_id not in self:
            self.own_versions.pop(message_id, None)


def _drop(known: dict[str, MessageStream], stream: MessageStream) -> bool:
    if known.get(stream.message_id) is not stream:
        return False
    del known[stream.message_id]
    return True
