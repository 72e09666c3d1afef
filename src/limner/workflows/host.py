"""Calling what the host brought: its store, its painter, its image store.

Such a call may hang, and it may end in a cancellation that nobody here asked for (a task that it awaited was
cancelled by somebody else). Neither may take down more than the call.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable
from typing import TypeVar

import anyio

T = TypeVar("T")

STORE_TIME_LIMIT_MS = 30_000
"""How long one call of a store may take before it counts as failed, so that a hung store ends, too."""


async def call_host(call: Awaitable[T], limit_ms: int | None = None) -> T:
    """Await `call`, for at most `limit_ms` if given.

    Raises what the call raises, of a group with one error that one; `TimeoutError` after the limit;
    `RuntimeError` for a cancellation from within. A cancellation that concerns the caller passes through.
    """
    try:
        return await _called(call, limit_ms)
    except ExceptionGroup as group:
        failure = alone(group)
    # Not from inside the handler: the group would become the context of its own member.
    raise failure


def alone(error: Exception) -> Exception:
    """The error in a group of one, which task groups make of what goes wrong in them; any other as it is."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def _called(call: Awaitable[T], limit_ms: int | None) -> T:
    try:
        with anyio.fail_after(None if limit_ms is None else limit_ms / 1000):
            return await call
    except TimeoutError as error:
        if limit_ms is None or str(error):
            raise
        raise TimeoutError(f"no answer within {limit_ms / 1000:g} s") from error
    except anyio.get_cancelled_exc_class() as error:
        if anyio.current_effective_deadline() == -math.inf:
            raise
        raise RuntimeError("the call was cancelled from within") from error
