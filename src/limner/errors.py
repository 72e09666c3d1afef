"""Every error that Limner raises, by whose fault it is.

The first question about an error is who can mend it, so that is what the four branches say:

* `CallerError`: the program or the person that called. The call will fail again until it is changed.
* `BackendError`: the service that makes images. Each kind says whether trying again can help.
* `StorageError`: where messages, images or the journal are kept.
* `InternalError`: Limner itself. Please report it.

Each class says in `hint` what to do next; `str(error)` is one line, fit for a log or a terminal.
This module imports nothing, so that every other one can import it.
"""

from __future__ import annotations

from typing import ClassVar, Self


class LimnerError(Exception):
    """The root of all errors that Limner raises.

    `kind` is a stable word for programs to switch on, `hint` a sentence on what to do next; a traceback
    shows the hint below the error.
    """

    kind: ClassVar[str] = "limner_error"
    hint: ClassVar[str] = ""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        if self.hint:
            self.add_note(self.hint)


# --- the caller's


class CallerError(LimnerError):
    """The call cannot work as it was made; change it."""

    kind = "caller_error"


class InvalidSetting(CallerError, ValueError):
    """A setting has a value that cannot be meant, or two settings contradict each other."""

    kind = "invalid_setting"
    hint = "Correct the setting."


class InvalidPattern(CallerError, ValueError):
    """A prompt pattern is not a usable regular expression.

    `pattern` is the pattern as given, `position` the index of the offending character in it (or None
    where the fault is the whole pattern's).
    """

    kind = "invalid_pattern"
    hint = "Correct the pattern, or use one of the presets."

    def __init__(self, pattern: str, reason: str, position: int | None = None) -> None:
        self.pattern = pattern
        self.reason = reason
        self.position = position
        where = "" if position is None else f" at position {position}"
        shown = pattern if len(pattern) <= 80 else f"{pattern[:77]}..."
        super().__init__(f"bad pattern {shown!r}{where}: {reason}")


class InvalidImageURL(CallerError, ValueError):
    """An image's address must not stand in a message: a scheme that is not a picture's, or nothing at all."""

    kind = "invalid_image_url"
    hint = "Use an http, https, file or data:image/ address, or a relative one."

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        self.reason = reason
        shown = url if len(url) <= 120 else f"{url[:117]}..."
        super().__init__(f"bad image address {shown!r}: {reason}")


class PatternTooSlow(CallerError, TimeoutError):
    """A pattern ran longer on a text than a server can afford, most likely by backtracking."""

    kind = "pattern_too_slow"
    hint = "Rewrite the pattern without nested quantifiers such as (a+)+, or use a preset."

    def __init__(self, pattern: str, limit_ms: int) -> None:
        self.pattern = pattern
        self.limit_ms = limit_ms
        shown = pattern if len(pattern) <= 80 else f"{pattern[:77]}..."
        super().__init__(f"pattern {shown!r} took more than {limit_ms} ms on one text")


class EventRefused(CallerError):
    """A state machine has no transition for this event in its present state.

    `machine`, `state` and `event` name the refused pair; `detail` is what a person makes of it.
    """

    kind = "event_refused"
    hint = "See diagrams/ for what each state accepts."

    def __init__(self, machine: str, state: str, event: str, detail: str = "") -> None:
        self.machine = machine
        self.state = state
        self.event = event
        where = f"{machine}: {event} is not accepted in state {state}"
        super().__init__(f"{detail} ({where})" if detail else where)


class RegenerationDuringStreaming(EventRefused):
    """A regeneration was asked for while the message is still being streamed and illustrated."""

    kind = "regeneration_during_streaming"
    hint = "Wait for finished(message_id), then ask again."


class CancelTooLate(EventRefused):
    """The images are being written, or the session has ended; it cannot be cancelled any more."""

    kind = "cancel_too_late"
    hint = "Await finished(message_id) to see what was placed."


class MessageBusy(EventRefused):
    """The message's last session is in its one write, or it takes no more text; wait for its end."""

    kind = "message_busy"
    hint = "Await finished(message_id), then start the stream."


class UnknownMessage(CallerError, LookupError):
    """Neither a session nor the message store knows this message."""

    kind = "unknown_message"
    hint = "Check the message id. A message is known once it was illustrated or is stored."

    def __init__(self, message_id: str) -> None:
        self.message_id = message_id
        super().__init__(f"nothing is known of a message {message_id!r}")


class UnknownImage(CallerError, LookupError):
    """The message has no such image, or no prompt is known that made it."""

    kind = "unknown_image"
    hint = "Pass the image's URL as it stands in the message."

    def __init__(self, message_id: str, image_url: str) -> None:
        self.message_id = message_id
        self.image_url = image_url
        shown = image_url if len(image_url) <= 120 else f"{image_url[:117]}..."
        super().__init__(f"message {message_id!r} has no image {shown!r} with a known prompt")


class UnknownPrompt(CallerError, LookupError):
    """The message's text has no such prompt."""

    kind = "unknown_prompt"
    hint = "Pass the prompt's id as it stands in the result or in a progress event."

    def __init__(self, message_id: str, prompt_id: str) -> None:
        self.message_id = message_id
        self.prompt_id = prompt_id
        super().__init__(f"message {message_id!r} has no prompt {prompt_id[:80]!r}")


class NothingToRetry(CallerError):
    """The prompt has its image."""

    kind = "nothing_to_retry"
    hint = "Regenerate the image that stands there."


class NotRunning(CallerError, RuntimeError):
    """Limner was used outside its `async with` block."""

    kind = "not_running"
    hint = "Enter `async with Limner(...) as limner:` first."


class AlreadyRunning(CallerError, RuntimeError):
    """One Limner was entered twice."""

    kind = "already_running"
    hint = "Enter it once and share it, or make another."


class JournalInUse(CallerError, RuntimeError):
    """Another Limner, in this process or another one, has the journal open.

    Two of them on one journal would both paint and write the same sessions.
    """

    kind = "journal_in_use"
    hint = (
        "Stop the other one, give each process a journal of its own, or wait for it: journal_in_use='wait'."
    )


# --- the backend's


class BackendError(LimnerError):
    """The service that makes images failed or refused. Raise a subclass that says how.

    `retry_after_ms` is the pause in milliseconds that the service asked for, if it did. `status` is the HTTP
    status of its answer, 200 for one that was wrong in itself; None where no answer came, or none is known
    of. Whether a kind is worth another attempt is decided in `limner.states.retry`, not here.
    """

    kind = "backend_error"
    hint = "Look at the service's own log."

    def __init__(self, message: str, *, retry_after_ms: int | None = None, status: int | None = None) -> None:
        self.retry_after_ms = retry_after_ms
        self.status = status
        super().__init__(message)

    def in_words(self, message: str) -> Self:
        """The same error with another message."""
        return type(self)(message, retry_after_ms=self.retry_after_ms, status=self.status)


class RateLimited(BackendError):
    """Too many requests (HTTP 429)."""

    kind = "rate_limited"
    hint = "Lower max_concurrent or raise min_interval_ms."


class QueueFull(BackendError):
    """The service's queue takes no more jobs at present."""

    kind = "queue_full"
    hint = "Lower max_concurrent."


class Unavailable(BackendError):
    """The service could not be reached, or said that it is down (HTTP 502, 503, 504)."""

    kind = "unavailable"
    hint = "Check that the service runs and that its address is right."


class JobLost(BackendError):
    """The service does not know the job any more that it was asked for again.

    The next attempt, if one is left, starts anew.
    """

    kind = "job_lost"
    hint = "Nothing to do; if it comes often, the service forgets its jobs too soon."


class NoBalance(BackendError):
    """The account has no credit left (HTTP 402)."""

    kind = "no_balance"
    hint = "Top up the account."


class Moderated(BackendError):
    """The service will not paint this prompt."""

    kind = "moderated"
    hint = "Change the prompt."


class Refused(BackendError):
    """One of the host's own steps will not have this prompt painted, or this image shown."""

    kind = "refused"
    hint = "Change the prompt, or the step."


class StepFailed(BackendError):
    """One of the host's own steps around the painting went wrong."""

    kind = "step_failed"
    hint = "Look at the step that is named; the image is kept for another attempt."


class BadRequest(BackendError):
    """The service does not accept the request as it stands (HTTP 400, 404, 422)."""

    kind = "bad_request"
    hint = "Check the model's name and the options."


class WrongAddress(BadRequest):
    """What answers at this address has moved, has no such path, or is a page for people."""

    kind = "wrong_address"
    hint = "Check that the address is that of an image service."


class AuthFailed(BackendError):
    """The key is missing, wrong, or not allowed to do this (HTTP 401, 403)."""

    kind = "auth"
    hint = "Check the key, or the user and password."


class NoImage(BackendError):
    """The service answered without an image."""

    kind = "no_image"
    hint = "Look at the service's own log."


class NotAnImage(BackendError):
    """What the service sent cannot be decoded as an image."""

    kind = "not_an_image"
    hint = "A whole PNG, JPEG, WebP, GIF or AVIF file is needed."


class AnswerTooLarge(BackendError):
    """The service's answer has more bytes, or its image more pixels, than the limits allow."""

    kind = "answer_too_large"
    hint = "Ask for smaller images, or raise the limit."


# --- the storage's


class StorageError(LimnerError):
    """Messages, images or the journal could not be read or written."""

    kind = "storage_error"
    hint = "Check the disk or the database."


class VersionConflict(StorageError):
    """The message changed after it was read; it was not written. Read it again."""

    kind = "version_conflict"
    hint = "Read the message again and repeat the write."


class MessageGone(StorageError):
    """The message was deleted before it could be written."""

    kind = "message_gone"
    hint = "The images stay listed as unplaced."


class JournalUnreadable(StorageError):
    """The journal cannot be worked with as it is. It was left as it was.

    Raised as it is for a file that is no journal of Limner's.
    """

    kind = "journal_unreadable"
    hint = "Name another file. If it was a journal once, `limner sessions --journal FILE` lists what is left."


class JournalDamaged(JournalUnreadable):
    """The journal's file is cut short or damaged."""

    kind = "journal_damaged"
    hint = (
        "`limner sessions --journal FILE` lists what can still be read. To start anew, move the file away, "
        "together with its -wal."
    )


class JournalTooNew(JournalUnreadable):
    """The journal was written by a newer Limner, in a format that this one does not know."""

    kind = "journal_too_new"
    hint = "Use the newer Limner, or name another file."


# --- ours


class InternalError(LimnerError):
    """A fault in Limner."""

    kind = "internal_error"
    hint = "Please report it, with the log."


class ChartNotCompilable(InternalError):
    """A state chart uses a feature that the compiled table does not carry over."""

    kind = "chart_not_compilable"
    hint = "Declare the chart in the flat, strict style described in limner.states.compiler."
