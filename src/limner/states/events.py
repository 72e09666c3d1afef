"""What can happen to a session. Nouns and participles, because an event is a fact, not a request.

`name` is the event's name in `SessionMachine` or, for the four that concern one prompt, in
`PromptMachine`. Times are not part of an event: they are passed beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from limner.states.values import FoundPrompt, Image, InsertionMode, PlacedImage, Problem, UnplacedImage


@dataclass(frozen=True, slots=True)
class StreamStarted:
    """A message's text begins to arrive."""

    name: ClassVar[str] = "stream_started"


@dataclass(frozen=True, slots=True)
class PromptFound:
    """A complete image prompt stands in the text so far. Finding it again changes nothing."""

    name: ClassVar[str] = "prompt_found"
    prompt: FoundPrompt


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The text is final; `prompts` is what the last scan of it found, in the order of the text."""

    name: ClassVar[str] = "stream_ended"
    prompts: tuple[FoundPrompt, ...]


@dataclass(frozen=True, slots=True)
class RegenerationRequested:
    """Somebody clicked an image: make a new one from the prompt `node_id` and put it at `target_url`.

    `target_url` is None where the prompt has no image, since making it failed: then the new one goes behind
    the prompt, whatever the mode.
    """

    name: ClassVar[str] = "regeneration_requested"
    node_id: str
    text: str
    occurrence: int
    target_url: str | None
    mode: InsertionMode = InsertionMode.REPLACE_IMAGE


@dataclass(frozen=True, slots=True)
class GenerationStarted:
    """The prompt's turn under the global limit has come; the backend is being called."""

    name: ClassVar[str] = "generation_started"
    prompt_id: str


@dataclass(frozen=True, slots=True)
class GenerationAccepted:
    """The backend has taken the job, under an id by which another process can ask for it, too."""

    name: ClassVar[str] = "generation_accepted"
    prompt_id: str
    job_id: str


@dataclass(frozen=True, slots=True)
class GenerationSucceeded:
    """The image is made *and stored*; it will never be paid for again."""

    name: ClassVar[str] = "generation_succeeded"
    prompt_id: str
    image: Image


@dataclass(frozen=True, slots=True)
class GenerationFailed:
    """One attempt failed."""

    name: ClassVar[str] = "generation_failed"
    prompt_id: str
    problem: Problem


@dataclass(frozen=True, slots=True)
class InsertionWritten:
    """The one write is in the store (or nothing had to be written)."""

    name: ClassVar[str] = "written"
    placed: tuple[PlacedImage, ...] = ()
    unplaced: tuple[UnplacedImage, ...] = ()


@dataclass(frozen=True, slots=True)
class MessageVanished:
    """The message was deleted before the write."""

    name: ClassVar[str] = "message_gone"


@dataclass(frozen=True, slots=True)
class InsertionFailed:
    """The write failed for good."""

    name: ClassVar[str] = "write_failed"
    problem: Problem


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody wants no images for this message any more."""

    name: ClassVar[str] = "cancel_requested"
    reason: str = "cancelled by request"


@dataclass(frozen=True, slots=True)
class ProcessRestarted:
    """The process that had the session ended, and another one has it now; nothing that was under way is."""

    name: ClassVar[str] = "process_restarted"


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Nothing happened but the clock; due timers run."""

    name: ClassVar[str] = "time_passed"


TIME_PASSED = TimePassed()
PROCESS_RESTARTED = ProcessRestarted()

PromptEvent = GenerationStarted | GenerationAccepted | GenerationSucceeded | GenerationFailed
SessionEvent = (
    StreamStarted
    | PromptFound
    | StreamEnded
    | RegenerationRequested
    | InsertionWritten
    | MessageVanished
    | InsertionFailed
    | CancelRequested
    | ProcessRestarted
)
Event = SessionEvent | PromptEvent | TimePassed
