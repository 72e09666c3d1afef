"""The ports: what the workflows ask of the world outside, each as small as it can be.

A port is declared here, beside its callers; an adapter in `limner.adapters` implements it. A host that
brings its own store or its own painter implements one of these protocols and needs nothing else of
Limner's. Times are integer milliseconds, image sizes pixels, data sizes bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from limner.states import Event, Session
from limner.states.message import Step


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a generator can do besides turning text into an image.

    `progress`: it reports a fraction done. `preview`: it sends unfinished pictures.
    `cancel`: when the call is cancelled the work stops at the server too, not only here.
    `resume`: a job that it reported by its id can be asked for again, even by another process.
    """

    progress: bool = False
    preview: bool = False
    cancel: bool = False
    resume: bool = False


@dataclass(frozen=True, slots=True)
class PromptSettings:
    """What a prompt asks for itself, where the host allows it; None: as the generator is set up.

    A generator goes by what its server knows, and leaves the rest. `width` and `height` are pixels.
    """

    negative_prompt: str | None = None
    width: int | None = None
    height: int | None = None
    steps: int | None = None

    def given(self, *names: str) -> dict[str, Any]:
        """Those of `names` that the prompt asks for."""
        return {name: value for name in names if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One image to be made.

    `prompt_id` is unique per image and stays the same over its attempts; `attempt` counts from 1. `seed` is
    a non-negative 32-bit number that differs between two equal prompts and between an image and its
    regeneration; a backend that knows seeds should use it. `job_id` is what the generator reported for this
    same attempt before the process ended: the job is to be asked for, not started again. `keeps_job` says,
    to a call that is being cancelled, why: True where only this process ends and the next one will ask for
    the reported job, so that it must go on at the server; False where nobody wants the image any more.
    `settings` is what the prompt asks for itself. `is_regeneration`: it is made anew for one that stands.
    """

    prompt_id: str
    message_id: str
    prompt: str
    seed: int
    attempt: int = 1
    job_id: str | None = None
    keeps_job: Callable[[], bool] = field(default=lambda: False, repr=False, compare=False)
    settings: PromptSettings = PromptSettings()
    is_regeneration: bool = False


class ProgressCallback(Protocol):
    """How a generator tells how far it is. Returns at once and never raises.

    It is called from the event loop's own thread, while the call of `generate` that it was given to lasts.
    """

    def __call__(
        self, fraction: float | None = None, preview: bytes | None = None, job_id: str | None = None
    ) -> None:
        """Any of the three.

        `fraction` is 0.0 to 1.0; `preview` an unfinished picture as the bytes of an image file; `job_id` the
        server's name for the job, told as soon as it is known by a generator that can `resume`: it is kept
        in the journal, so that after a restart the job is picked up instead of being paid for again.
        """


@runtime_checkable
class Generator(Protocol):
    """A service that paints one image for one prompt."""

    @property
    def capabilities(self) -> Capabilities:
        """What this generator can do."""

    async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        """Paint and return the bytes of an image file (PNG, JPEG, WebP, GIF …).

        Being cancelled is normal (a user cancels, the time limit passes): stop the work at the server
        where that is possible, unless `request.keeps_job()`, then let the cancellation through. One call is
        one attempt: do not retry inside, the prompt's state machine does, so that each attempt counts against
        the limit.

        With `request.job_id` (only for generators that can `resume`) wait for that job and return its image;
        `JobLost` where the server does not know it any more. Then the next attempt, if one is left, starts
        a new one.

        Raises a subclass of `limner.errors.BackendError` for everything that goes wrong.
        """

    async def aclose(self) -> None:
        """Release connections. Called once, when Limner made the generator itself."""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message as it stands in the store: its text, and a version that changes with every write."""

    text: str
    version: str


class MessageStore(Protocol):
    """Where the host keeps its messages."""

    async def read(self, message_id: str) -> StoredMessage | None:
        """The message as it stands now, or None where there is none. Raises `StorageError`."""

    async def write(self, message_id: str, text: str, *, expected: str | None) -> str:
        """Write `text` if the message's version still is `expected`; return the new version.

        `expected=None` creates the message and fails where it exists. The check and the write are one
        atomic step. Raises `VersionConflict` if the version differs (or the message exists though
        `expected` is None), `MessageGone` if it was deleted, `StorageError` for anything else; in
        each case nothing was written.
        """


class ImageStore(Protocol):
    """Where finished images are kept."""

    async def put(self, data: bytes, media_type: str) -> str:
        """Keep the image and return the URL under which the message's reader finds it.

        Either the whole image is kept or nothing is. Putting the same bytes again may return the
        same URL. Raises `StorageError`.
        """


@runtime_checkable
class StoredImages(Protocol):
    """What an `ImageStore` may offer besides, so that `Limner.asgi` can hand its images out."""

    def find(self, name: str) -> Path | None:
        """The file of an image, by the last part of its URL; None where there is no such image.

        `name` comes from whoever asks, so it may be anything. It is called in a thread and may wait for the
        disk. What an address once gave it must always give, since readers keep it for a year. Raises
        `StorageError`.
        """


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What an inspection found: the file's own media type, its size, and a thumbnail.

    `data` is what is to be stored (the same bytes unless the inspection had to mend them).
    `thumbnail` is a small image file of type `thumbnail_media_type`.
    """

    data: bytes = field(repr=False)
    media_type: str
    width: int
    height: int
    thumbnail: bytes = field(repr=False)
    thumbnail_media_type: str


class ImageInspector(Protocol):
    """Checks that what a generator returned is an image, and makes a thumbnail of it."""

    async def inspect(self, data: bytes) -> ImageInfo:
        """Decode `data` off the event loop. Raises `NotAnImage`, `AnswerTooLarge` or `NoImage`."""

    async def thumbnail(self, data: bytes) -> tuple[bytes, str] | None:
        """A thumbnail of an unfinished picture and its media type, or None where it is no image."""


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """One event and what it led to, at `now` (ms).

    `session` is the value *after* the event, `before` the one before it: None for a session's first event.
    """

    session: Session
    event: Event
    now: int
    before: Session | None = None


@dataclass(frozen=True, slots=True)
class JournalContents:
    """What a journal held when it was opened.

    `live` are the sessions that had not ended, oldest first; `ended` counts the others. `last_event_at` is
    the time of the newest record in ms, 0 where there is none: the clock must not run behind it.
    """

    live: tuple[Session, ...] = ()
    ended: int = 0
    last_event_at: int = 0


class Journal(Protocol):
    """The durable list of events. An engine commits a record before it performs its commands.

    It belongs to one engine at a time, from `open` to `aclose`, and can be opened again after that.
    `durable` says whether another process can open it and find everything: then this one may leave things
    to it.
    """

    @property
    def durable(self) -> bool:
        """Whether what is appended outlives the process."""

    async def open(self) -> JournalContents:
        """Claim the journal and say what is in it.

        Raises `JournalInUse` where another engine has it, `JournalUnreadable` where it cannot be read as it
        is (damaged, of a newer format, or no journal), `StorageError` for anything else. It is left as it
        was then.
        """

    async def append(self, records: Sequence[JournalRecord]) -> None:
        """Commit all records, in order, or none. Raises `StorageError`."""

    async def past_sessions(self, message_id: str) -> Sequence[Session]:
        """The message's sessions that have ended, oldest first, as far as they are kept.

        Raises `StorageError`.
        """

    async def aclose(self) -> None:
        """Give the journal back. Closing twice does no harm."""


class StepListener(Protocol):
    """Whom an engine tells about steps that are committed."""

    def committed(self, step: Step) -> None:
        """Take note of the step and perform its commands. Must not wait."""


class Engine(Protocol):
    """Keeps sessions, and runs them: persist, call the core, hand on the commands, wake at deadlines.

    Only prompts found, seals, clicks, cancels and results reach an engine; tokens never do.
    """

    @property
    def durable(self) -> bool:
        """Whether another process can take the sessions over when this one ends."""

    async def open(self) -> JournalContents:
        """Take over what an earlier process left behind. Those sessions do not move before `resume`.

        Raises as `Journal.open` does.
        """

    async def resume(self) -> Sequence[Session]:
        """Tell each session that was taken over of the restart; return them after that, oldest first.

        Once this is committed their commands are handed on again and their timers run. Raises `StorageError`.
        """

    async def run(self, listener: StepListener) -> None:
        """Work until cancelled. Sessions move only while this runs."""

    async def aclose(self) -> None:
        """Let go of the sessions, so that another process can take them over."""

    async def post(self, message_id: str, event: Event, *, session_id: str | None = None) -> Session:
        """Handle an event for a message and return the session after it, once that is committed.

        An event has its place in the line from the call's first step on, before it waits for anything: what
        is posted for the message after that comes after it.

        With `session_id` the event is for that session only and is refused when another one is live. Raises
        `EventRefused` if the machine does not accept the event, `StorageError` if a request
        (`limner.states.message.REQUESTS`) cannot be committed; then it did not happen. Every other event is
        a fact, and waits until it can be committed. A caller that is cancelled while it waits does not undo
        the event.
        """

    async def wait_begun(self, message_id: str) -> None:
        """Where the message's live session has only just begun, wait until that is committed or refused."""

    def live_session(self, message_id: str) -> Session | None:
        """The message's session as far as it got, or None where none is live."""

    def live_sessions(self) -> Sequence[Session]:
        """All live sessions, oldest first."""

    async def past_sessions(self, message_id: str) -> Sequence[Session]:
        """The message's sessions that have ended, oldest first, as far as they are kept.

        Raises `StorageError`.
        """
