"""What watchers are told, as values."""

from __future__ import annotations

from dataclasses import dataclass, field

from limner.states import Problem, Session, SessionKind
from limner.states.outcome import Counts, Result, count_batch


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
    is stored, which is before it stands in the message. `target_url`, in a regeneration, is the image that it
    is made for. `occurrence`: which of the equal prompts of the text it is. `problem` is the last attempt's.
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
    target_url: str | None = None
    occurrence: int = 0


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """The session is over; `result` says what became of every prompt."""

    message_id: str
    session_id: str
    result: Result


ProgressEvent = SessionProgress | PromptProgress | SessionEnded


@dataclass(frozen=True, slots=True)
class TextChanged:
    """A message's text is not what it was; whoever shows it has to look."""

    message_id: str


Update = Session | PromptProgress | SessionEnded | TextChanged
"""What lies in a mailbox. A session becomes `SessionProgress` when it is read, since counting costs."""


def as_event(update: Session | PromptProgress | SessionEnded) -> ProgressEvent:
    """What a watcher is told of an update."""
    if isinstance(update, Session):
        return SessionProgress(update.message_id, update.id, update.kind, update.state, count_batch(update))
    return update
