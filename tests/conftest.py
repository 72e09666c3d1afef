"""What every test shares."""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator

import pytest
import structlog

HANG_S = 240
"""No test takes nearly as long; one that does, waits for something that will not come."""


@pytest.fixture(autouse=True)
def _watchdog() -> Iterator[None]:
    # Time limits inside an event loop stand still with a frozen clock, so this one is the interpreter's.
    faulthandler.dump_traceback_later(HANG_S, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def _structlog_as_nobody_configured_it() -> Iterator[None]:
    # structlog.testing.capture_logs leaves the mark that somebody did, and then lines are printed.
    yield
    structlog.reset_defaults()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Every asynchronous test runs on both event loops."""
    name: str = request.param
    return name
