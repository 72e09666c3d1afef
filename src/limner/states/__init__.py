"""What may happen. Pure: no I/O, no clock, no await, and no import from the rest of Limner but its errors.

Read `session` first (the theory is at its head), then `prompt`, then `core`, which couples the two.
"""

from limner.states.commands import Abort, Command, Generate, InsertImages
from limner.states.core import handle, is_final, next_deadline
from limner.states.events import (
    TIME_PASSED,
    CancelRequested,
    Event,
    GenerationFailed,
    GenerationStarted,
    GenerationSucceeded,
    InsertionFailed,
    InsertionWritten,
    MessageVanished,
    PromptFound,
    RegenerationRequested,
    StreamEnded,
    StreamStarted,
    TimePassed,
)
from limner.states.prompt import PROMPT, SETTLED, PromptMachine
from limner.states.session import SESSION, SessionMachine
from limner.states.values import (
    FoundPrompt,
    Image,
    InsertionMode,
    OnDrainTimeout,
    PlacedImage,
    Problem,
    Prompt,
    Session,
    SessionKind,
    SessionSettings,
    Timer,
    TimerKind,
    UnplacedImage,
)

__all__ = [
    "PROMPT",
    "SESSION",
    "SETTLED",
    "TIME_PASSED",
    "Abort",
    "CancelRequested",
    "Command",
    "Event",
    "FoundPrompt",
    "Generate",
    "GenerationFailed",
    "GenerationStarted",
    "GenerationSucceeded",
    "Image",
    "InsertImages",
    "InsertionFailed",
    "InsertionMode",
    "InsertionWritten",
    "MessageVanished",
    "OnDrainTimeout",
    "PlacedImage",
    "Problem",
    "Prompt",
    "PromptFound",
    "PromptMachine",
    "RegenerationRequested",
    "Session",
    "SessionKind",
    "SessionMachine",
    "SessionSettings",
    "StreamEnded",
    "StreamStarted",
    "TimePassed",
    "Timer",
    "TimerKind",
    "UnplacedImage",
    "handle",
    "is_final",
    "next_deadline",
]
