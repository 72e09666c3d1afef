"""The command `limner check`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import click
from rich.console import Console

from limner.adapters.cli.errors import ExitCode
from limner.adapters.cli.logs import verbosity_option
from limner.states import OnDrainTimeout, SessionKind
from limner.states.exploration import Exploration, explore

MOST_PROMPTS = 6
"""Each prompt more takes about fifteen times as long: four a minute, six most of a day."""


class Walk(NamedTuple):
    """One exploration: what was explored, what was seen, and how long it took in seconds."""

    kind: SessionKind
    on_drain_timeout: OnDrainTimeout
    found: Exploration
    seconds: float


Explore = Callable[[int, SessionKind, OnDrainTimeout], Exploration]


@click.command("check", short_help="Check the state machines in everything that can happen to them.")
@click.option(
    "-n",
    "--prompts",
    type=click.IntRange(0, MOST_PROMPTS),
    default=4,
    show_default=True,
    metavar="N",
    help=f"Explore sessions with up to so many prompts (at most {MOST_PROMPTS}).",
)
@verbosity_option
@click.pass_context
def check_command(context: click.Context, prompts: int) -> None:
    """Walk through everything that can happen to one session, and check the six invariants everywhere.

    Prompts found and found again, clicks, failures, repetitions, timers in any order, cancels, and the end
    of the process with a restart behind it: every event
    in every state that can be reached. With 4 prompts it takes a minute or two. Exit code 1, and the shortest
    way to each violation, if there is one.

    \b
    Examples:
      limner check
      limner check --prompts 2
    """
    walks = list(shown(walk_all(prompts), prompts, Console(highlight=False)))
    click.echo(_summary(walks))
    violations = [violation for walk in walks for violation in walk.found.violations]
    for violation in violations:
        click.echo(f"limner: {violation}", err=True)
    context.exit(ExitCode.INCOMPLETE if violations else ExitCode.OK)


def walk_all(prompts: int, explore: Explore = explore) -> Iterator[Walk]:
    """Explore both kinds of session and both answers to a drain timeout, with 0 to `prompts` prompts."""
    for count in range(prompts + 1):
        for kind in SessionKind:
            for on_drain_timeout in OnDrainTimeout:
                began = time.monotonic()
                found = explore(count, kind, on_drain_timeout)
                yield Walk(kind, on_drain_timeout, found, time.monotonic() - began)


def shown(walks: Iterator[Walk], prompts: int, console: Console) -> Iterator[Walk]:
    """Print each walk as a line as soon as it is done, and say on a terminal what is being explored."""
    # Two consoles on one terminal would write into each other's lines.
    waiting = console if console.is_terminal else Console(stderr=True)
    total = (prompts + 1) * len(SessionKind) * len(OnDrainTimeout)
    done = 0
    console.print(
        _line("prompts", "session", "on timeout", "states", "edges", "refused", "broken", "seconds")
    )
    with waiting.status(f"exploring 1 of {total} …") as status:
        for walk in walks:
            done += 1
            console.print(_row(walk))
            status.update(f"exploring {min(done + 1, total)} of {total} …")
            yield walk


def _row(walk: Walk) -> str:
    found = walk.found
    return _line(
        found.prompts,
        walk.kind.value,
        walk.on_drain_timeout.value,
        f"{found.states:,}",
        f"{found.edges:,}",
        f"{found.refusals:,}",
        len(found.violations),
        f"{walk.seconds:.1f}",
    )


def _line(*cells: object) -> str:
    widths = (7, 12, 10, 9, 10, 10, 6, 8)
    left = {1, 2}
    return " ".join(
        f"{cell!s:<{width}}" if index in left else f"{cell!s:>{width}}"
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ).rstrip()


def _summary(walks: list[Walk]) -> str:
    states = sum(walk.found.states for walk in walks)
    edges = sum(walk.found.edges for walk in walks)
    violations = sum(len(walk.found.violations) for walk in walks)
    verdict = "every invariant holds in all of them" if not violations else f"{violations} violations"
    seconds = sum(walk.seconds for walk in walks)
    return f"{states:,} states, {edges:,} edges: {verdict} ({seconds:.0f} s)"
