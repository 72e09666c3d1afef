"""Where log lines go on the command line: to stderr, warnings and worse unless more is asked for."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
import structlog

Function = TypeVar("Function", bound=Callable[..., Any])

_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)

# What the command itself reports in plain words at its end. Said twice, an error reads like two.
_REPORTED_ANYWAY = frozenset({"generation_failed", "store_failed", "session_left_unfinished"})

_verbosity = 0
_says_every_warning = False


def verbosity() -> int:
    """How many `-v` were given."""
    return _verbosity


def say_every_warning() -> None:
    """For a command that runs on and has no report at its end."""
    global _says_every_warning
    _says_every_warning = True


def configure_logs(level: int) -> None:
    """Send log lines to stderr; `level` counts the `-v`: 0 warnings, 1 info, 2 everything.

    stderr is looked up at every line: while a progress display is running it is the display's own, which
    puts log lines above itself.
    """
    global _verbosity, _says_every_warning
    _verbosity, _says_every_warning = level, False
    structlog.configure(
        processors=[
            _leave_out_what_is_reported,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[min(level, len(_LEVELS) - 1)]),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _leave_out_what_is_reported(_: Any, __: str, event: Any) -> Any:
    if _verbosity == 0 and not _says_every_warning and event["event"] in _REPORTED_ANYWAY:
        raise structlog.DropEvent
    return event


def verbosity_option(command: Function) -> Function:
    """The option `-v`, for every command alike."""

    def set_level(_: click.Context, __: click.Parameter, count: int) -> None:
        # Given to the group or to its command, the louder counts.
        if count > _verbosity:
            configure_logs(count)

    return click.option(
        "-v",
        "--verbose",
        count=True,
        expose_value=False,
        callback=set_level,
        help="Log more to stderr; -vv for everything.",
    )(command)
