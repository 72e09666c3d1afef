"""What goes wrong on the command line: one line for a person, one exit code for a program."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from rich.cells import cell_len

from limner.adapters.sniffing import one_line
from limner.errors import BackendError, CallerError, InternalError, InvalidPattern, LimnerError, StorageError

_LONGEST_LINE = 600
_PATTERN_WINDOW = 60

# What other hosts of Limner do with settings is done here with options.
_ON_THE_COMMAND_LINE = {
    "image_timeout": "Raise --timeout, or see whether the server paints at all: limner backends test WHO.",
    "rate_limited": "Lower --max-concurrent or raise --min-interval.",
    "queue_full": "Lower --max-concurrent.",
    "answer_too_large": "Ask for smaller images.",
}


class ExitCode(IntEnum):
    """What the process ends with."""

    OK = 0
    INCOMPLETE = 1
    USAGE = 2
    BACKEND = 3
    STORAGE = 4
    INTERNAL = 70
    INTERRUPTED = 130


EXIT_CODES_HELP = """\b
Exit codes:
  0    every prompt has its image (also: there was no prompt)
  1    the text was written, but some images failed or found no place (also: the reader of
       standard output went away)
  2    bad usage or bad input; nothing was written
  3    a server refused or could not be reached; no image was made
  4    a file could not be written
  70   a fault in Limner
  130  interrupted; nothing half written"""


class BadInput(CallerError):
    """What the command was given cannot be worked with."""

    kind = "bad_input"


class Fault(NamedTuple):
    """An error as the command line tells it. `lines` are for stderr, the first without its `limner: `."""

    exit_code: ExitCode
    kind: str
    message: str
    lines: tuple[str, ...]


def fault_of(error: BaseException) -> Fault:
    """How to tell this error, whatever it is. Task groups wrap errors in groups; the first counts."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, InvalidPattern):
        return Fault(ExitCode.USAGE, error.kind, one_line(str(error), _LONGEST_LINE), _show_pattern(error))
    if isinstance(error, LimnerError) and not isinstance(error, InternalError):
        message = one_line(str(error), _LONGEST_LINE)
        # A caller's or a disk's error says all there is to say; of a server's, people ask what to do.
        line = with_hint(message, error.hint) if isinstance(error, BackendError) else message
        return Fault(_exit_code(error), error.kind, message, (line,))
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        message = one_line(f"{where}{error.strerror or error}", _LONGEST_LINE)
        return Fault(ExitCode.STORAGE, StorageError.kind, message, (message,))
    if isinstance(error, KeyboardInterrupt):
        return Fault(ExitCode.INTERRUPTED, "interrupted", "interrupted", ("interrupted",))
    message = one_line(f"{type(error).__name__}: {error}", _LONGEST_LINE)
    line = f"a fault in Limner, please report it (-vv shows where): {message}"
    return Fault(ExitCode.INTERNAL, InternalError.kind, message, (line,))


def with_hint(message: str, hint: str) -> str:
    """A message and what to do next, as sentences."""
    if not hint:
        return message
    return f"{message} {hint}" if message.endswith((".", "!", "?", "…")) else f"{message}. {hint}"


def hint_for(kind: str) -> str:
    """What to do about an image that failed for this `kind` of reason; empty where there is nothing to say.

    Options are named as the command line has them.
    """
    if kind in _ON_THE_COMMAND_LINE:
        return _ON_THE_COMMAND_LINE[kind]
    kinds: list[type[BackendError]] = [BackendError]
    for each in kinds:
        kinds += each.__subclasses__()
    return next((each.hint for each in kinds if each.kind == kind), "")


def _exit_code(error: LimnerError) -> ExitCode:
    if isinstance(error, CallerError):
        return ExitCode.USAGE
    return ExitCode.BACKEND if isinstance(error, BackendError) else ExitCode.STORAGE


def _show_pattern(error: InvalidPattern) -> tuple[str, ...]:
    """The reason, and the pattern with a caret under the offending character."""
    reason = one_line(error.reason, _LONGEST_LINE)
    if error.position is None:
        return (f"bad pattern: {reason}", f"  {_printable(error.pattern[:_PATTERN_WINDOW])}")
    position = min(max(error.position, 0), len(error.pattern))
    start = max(0, position - _PATTERN_WINDOW // 2)
    before = _printable(error.pattern[start:position])
    shown = before + _printable(error.pattern[position : start + _PATTERN_WINDOW])
    return (
        f"bad pattern, at position {position}: {reason}",
        f"  {shown}",
        f"  {' ' * cell_len(before)}^",
    )


def _printable(text: str) -> str:
    return "".join(ch if ch.isprintable() else "·" for ch in text)
