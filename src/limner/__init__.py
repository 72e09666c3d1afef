"""Limner illustrates chat messages while they are written.

    async with Limner(generator="http://127.0.0.1:7860") as limner:
        async for delta in limner.illustrate(message_id, tokens):
            await send(delta)
        result = await limner.finished(message_id)

This module is the public face and holds nothing else. Errors are in `limner.errors`, the machines in
`limner.states`, text work in `limner.text`, the ports that a host may implement in `limner.workflows.ports`,
and what is implemented already in `limner.adapters`. `limner.testing` tells whether a generator of your own
keeps what those keep.
"""

from importlib.metadata import version

from limner.adapters.limner import Limner
from limner.errors import BackendError, CallerError, InternalError, LimnerError, StorageError
from limner.states import (
    InsertionMode,
    OnDrainTimeout,
    PlacedImage,
    Problem,
    SessionKind,
    UnplacedImage,
)
from limner.states.outcome import Counts, FailedPrompt, Result
from limner.text import (
    DEFAULT_PATTERNS,
    HTML,
    MARKDOWN,
    PRESETS,
    TagPattern,
    extract_image_prompts,
    strip_illustrations,
)
from limner.workflows.ports import (
    Capabilities,
    GenerationRequest,
    Generator,
    ImageStore,
    MessageStore,
    StoredMessage,
)
from limner.workflows.progress_events import (
    ProgressEvent,
    PromptProgress,
    SessionEnded,
    SessionProgress,
    Thumbnail,
)
from limner.workflows.recovery import RecoveryReport
from limner.workflows.watching import TextProgress, Watched

__version__ = version("limner")

__all__ = [
    "DEFAULT_PATTERNS",
    "HTML",
    "MARKDOWN",
    "PRESETS",
    "BackendError",
    "CallerError",
    "Capabilities",
    "Counts",
    "FailedPrompt",
    "GenerationRequest",
    "Generator",
    "ImageStore",
    "InsertionMode",
    "InternalError",
    "Limner",
    "LimnerError",
    "MessageStore",
    "OnDrainTimeout",
    "PlacedImage",
    "Problem",
    "ProgressEvent",
    "PromptProgress",
    "RecoveryReport",
    "Result",
    "SessionEnded",
    "SessionKind",
    "SessionProgress",
    "StorageError",
    "StoredMessage",
    "TagPattern",
    "TextProgress",
    "Thumbnail",
    "UnplacedImage",
    "Watched",
    "__version__",
    "extract_image_prompts",
    "strip_illustrations",
]
