"""Log lines with fields, through structlog, without imposing on the host.

A library must not print. structlog, as long as nobody has configured it, prints everything to standard
output; so until the host has, only warnings and worse are passed on, to the standard library's logger
`limner`.
"""

from __future__ import annotations

import logging

import structlog

LONGEST_ERROR = 200
"""How many characters of a foreign error's message are kept."""

STANDARD = logging.getLogger("limner")


class Log:
    """Writes events with fields. `bind` gives a log that adds some fields to every event."""

    __slots__ = ("_fields",)

    def __init__(self, **fields: object) -> None:
        self._fields = fields

    def bind(self, **fields: object) -> Log:
        """A log that adds these fields, too."""
        return Log(**self._fields, **fields)

    def debug(self, event: str, **fields: object) -> None:
        """What helps to follow a single image."""
        self._write("debug", event, fields)

    def info(self, event: str, **fields: object) -> None:
        """What happened to a session."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Something went wrong and was dealt with; somebody may want to look."""
        self._write("warning", event, fields)

    def critical(self, event: str, **fields: object) -> None:
        """What was promised cannot be kept; somebody has to look."""
        self._write("critical", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        # A lone surrogate (half a character, from a broken stream) cannot be encoded by any handler.
        fields = {name: _printable(value) for name, value in (self._fields | fields).items()}
        if structlog.is_configured():
            try:
                getattr(structlog.get_logger("limner"), level)(event, **fields)
            except Exception:  # noqa: BLE001 - the host's own processors must not stop the host's messages
                STANDARD.exception("the log line %s could not be written", event)
        elif level not in {"debug", "info"}:
            shown = " ".join(f"{name}={value!r}" for name, value in fields.items())
            STANDARD.log(logging.getLevelNamesMapping()[level.upper()], "%s %s", event, shown)


def brief(error: BaseException) -> str:
    """An error in one short line: a store's or a server's message may hold a whole text, which is private."""
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first if len(first) <= LONGEST_ERROR else first[:LONGEST_ERROR] + '…'}"


def _printable(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return value


log = Log()
"""The one that all of Limner writes to."""
