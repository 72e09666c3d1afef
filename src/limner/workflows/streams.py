"""Which stream a message's text comes by, while sessions are opened, superseded and refused."""

from __future__ import annotations

from limner.states import Session, is_final
from limner.workflows.progress import ProgressManager
from limner.workflows.streaming import MessageStream


class Streams:
    """All streams of one process.

    A message may have two for a moment: one whose session is open, and a newer one whose session is not
    committed yet. The newer one takes over once it is; where it cannot be, nothing has happened.
    """

    def __init__(self, progress: ProgressManager) -> None:
        self._progress = progress
        self._open: dict[str, MessageStream] = {}
        self._arriving: dict[str, MessageStream] = {}
        self._newest: dict[str, str] = {}  # message id to session id, in the order of the commits

    def __contains__(self, message_id: str) -> bool:
        """Whether a text of the message still comes, or is still being saved."""
        return message_id in self._open or message_id in self._arriving

    def get(self, message_id: str) -> MessageStream | None:
        """The stream that the message's text comes by, or None. It stays after a cancel, until its seal."""
        for known in (self._open, self._arriving):
            stream = known.get(message_id)
            if stream is not None and not (stream.closed or stream.refused):
                return stream
        return None

    def arrive(self, stream: MessageStream) -> None:
        """Note a stream whose session is asked for."""
        before = self._arriving.get(stream.message_id)
        if before is not None and before.refused:
            before.close()
        self._arriving[stream.message_id] = stream

    def session_started(self, session: Session) -> None:
        """Note that the start of a streaming session is committed."""
        self._newest[session.message_id] = session.id

    def opened(self, stream: MessageStream) -> None:
        """Let the stream take over, unless a newer one has, or its session is over already."""
        message_id = stream.message_id
        self._forget_arriving(stream)
        # A stream that still waits for a write to end has no session yet.
        if stream.session_id and self._newest.get(message_id) != stream.session_id:
            stream.close()
            return
        before = self._open.get(message_id)
        if before is not None:
            before.close()
        self._open[message_id] = stream
        # As committed: a cancel that still stands in line may turn out not to have happened.
        known = self._progress.session(message_id)
        if stream.session_id and known is not None and (known.id != stream.session_id or is_final(known)):
            stream.mute()
        if stream.text:
            self._progress.text_changed(message_id)

    def session_ended(self, session: Session) -> None:
        """Note that a session is over: what its text still brings is not looked at."""
        stream = self._open.get(session.message_id)
        if stream is not None and stream.session_id == session.id:
            stream.mute()

    def forget(self, stream: MessageStream) -> None:
        """Let go of a stream that has ended."""
        message_id = stream.message_id
        self._forget_arriving(stream)
        if self._open.get(message_id) is stream:
            del self._open[message_id]
            self._progress.text_changed(message_id)
        if self._newest.get(message_id) == stream.session_id:
            del self._newest[message_id]

    def _forget_arriving(self, stream: MessageStream) -> None:
        if self._arriving.get(stream.message_id) is stream:
            del self._arriving[stream.message_id]
