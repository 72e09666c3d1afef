"""Tells at the end of a run what the exhaustive checks saw."""

from __future__ import annotations

from collections.abc import Callable

import pytest

EXHAUSTIVE = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def tell(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Keeps a line for the summary at the end of the run."""
    return pytestconfig.stash.setdefault(EXHAUSTIVE, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the lines that the tests kept."""
    lines = config.stash.get(EXHAUSTIVE, [])
    if lines:
        terminalreporter.section("exhaustive checks")
        for line in lines:
            terminalreporter.line(line)
