"""What the core asks an engine to do. The core itself does nothing.

An engine performs a command after the event that led to it is committed. Performing one twice must do
no harm: the answer to the second is refused, because the machine has moved on.
"""

from __future__ import annotations

from typing import NamedTuple


class Generate(NamedTuple):
    """Line the prompt up for its turn under the global limit; answer `GenerationStarted`, then a result."""

    prompt_id: str


class Abort(NamedTuple):
    """Take the prompt out of the line, or stop the backend's call for it. Wants no answer."""

    prompt_id: str


class InsertImages(NamedTuple):
    """Write these prompts' images into the message, in this order, in one write.

    Answer `InsertionWritten`, `MessageVanished` or `InsertionFailed`.
    """

    prompt_ids: tuple[str, ...]


Command = Generate | Abort | InsertImages
