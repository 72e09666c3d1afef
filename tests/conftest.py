"""What every test shares."""

from __future__ import annotations

import faulthandler
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

HANG_S = 240
"""No test takes nearly as long; one that does, waits for something that will not come."""

EXHAUSTIVE = pytest.StashKey[list[str]]()


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


@pytest.fixture(scope="session")
def tell(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Keeps a line for the summary at the end of the run: what an exhaustive check saw."""
    return pytestconfig.stash.setdefault(EXHAUSTIVE, []).append


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the lines of one of several processes to the one that prints."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["told"] = session.config.stash.get(EXHAUSTIVE, [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the lines of another process in."""
    told = getattr(node, "workeroutput", {}).get("told", [])
    node.config.stash.setdefault(EXHAUSTIVE, []).extend(told)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the lines that the tests kept."""
    lines = config.stash.get(EXHAUSTIVE, [])
    if lines:
        terminalreporter.section("exhaustive checks")
        for line in lines:
            terminalreporter.line(line)
