"""What the core asks an engine to do. The core itself does nothing.

An engine performs a command after the event that led to it is committed. Performing one twice must do
no harm: the answer to the second is refused, because the machine has moved on. After the end of a process
they are commanded again, since nobody knows which of them were performed.
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

    `may_be_written`: the process ended while this write was under way, so it may have happened already.
    Answer `InsertionWritten`, `MessageVanished` or `InsertionFailed`.
    """

    prompt_ids: tuple[str, ...]
    may_be_written: bool = False


class SealStored(NamedTuple):
    """The message's stream has died with its process: let the text that the store holds be the final one.

    Answer `StreamEnded` with what a scan of it found, or `CancelRequested` where there is no such message.
    """


Command = Generate | Abort | InsertImages | SealStored
