"""What goes wrong with a request, told by whose fault it is: a status, and one JSON object.

    {"error": {"kind": "unknown_image", "message": "…", "hint": "…"}}

What only concerns whoever runs the server (paths, a database's words, a fault of ours) goes to the log and
is told outside as no more than that.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.exceptions import HTTPException

from limner.adapters.web.answers import JSONAnswer
from limner.errors import (
    CallerError,
    EventRefused,
    InternalError,
    LimnerError,
    NothingToRetry,
    NotRunning,
    StorageError,
)
from limner.workflows.logs import brief, log


class RequestRefused(Exception):
    """A request that the app does not carry out. `status` is that of HTTP; the rest is for the JSON."""

    def __init__(self, status: int, kind: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.hint = hint


_KINDS = {
    400: "invalid_setting",
    401: "refused",
    403: "refused",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
}
_FAULTS: tuple[tuple[type[LimnerError], int], ...] = (
    (NotRunning, 503),
    (EventRefused, 409),
    (NothingToRetry, 409),
    (StorageError, 503),
)


def problem_answer(error: Exception, path: str = "") -> JSONAnswer:
    """The answer to a request that ended in this error. `path` is for the log."""
    if isinstance(error, RequestRefused):
        return _answer(error.status, error.kind, str(error), error.hint)
    if isinstance(error, HTTPException):
        kind = _KINDS.get(error.status_code, "refused")
        return _answer(error.status_code, kind, str(error.detail), headers=error.headers)
    if isinstance(error, StorageError):
        log.warning("request_not_served", path=path, error=brief(error))
        return _answer(503, error.kind, "the storage could not be read or written", StorageError.hint)
    if isinstance(error, CallerError):
        return _answer(_status_of(error), error.kind, str(error), error.hint)
    log.critical("request_failed", path=path, error=brief(error))
    return _answer(500, InternalError.kind, "the request could not be served", "Look at the server's log.")


def _status_of(error: CallerError) -> int:
    for fault, status in _FAULTS:
        if isinstance(error, fault):
            return status
    return 404 if isinstance(error, LookupError) else 400


def _answer(
    status: int, kind: str, message: str, hint: str = "", headers: Mapping[str, str] | None = None
) -> JSONAnswer:
    content = {"error": {"kind": kind, "message": message, "hint": hint}}
    return JSONAnswer(content, status, headers)
