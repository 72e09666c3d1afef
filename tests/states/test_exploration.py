"""The walk through everything finds no fault in the machines, sees all of them, and notices broken ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import pytest

from limner.states import PROMPT, SESSION, OnDrainTimeout, SessionKind
from limner.states.exploration import Exploration, Violation, explore
from limner.states.table import Row, Table
from tests.states.machines import Spot, describe, machines, recording, spots, with_row

WORLDS = [(kind, on_drain_timeout) for kind in SessionKind for on_drain_timeout in OnDrainTimeout]
WALKS = [
    (prompts, kind, on_drain_timeout)
    for kind, on_drain_timeout in WORLDS
    for prompts in range(5)
    # Regenerations with many prompts are most of the time that it takes: `make explore` has all of them.
    if kind is SessionKind.STREAMING or prompts + (on_drain_timeout is OnDrainTimeout.INSERT) <= 3
]


@pytest.mark.parametrize(("prompts", "kind", "on_drain_timeout"), WALKS)
def test_the_invariants_hold_in_everything_that_can_happen(
    prompts: int, kind: SessionKind, on_drain_timeout: OnDrainTimeout, tell: Callable[[str], None]
):
    report = explore(prompts, kind, on_drain_timeout)
    tell(
        f"explored: {kind}, {prompts} prompts, on_drain_timeout={on_drain_timeout}: "
        f"{report.states} states, {report.edges} edges, {report.refusals} refusals"
    )
    assert [str(violation) for violation in report.violations] == []
    assert report.states > 1
    assert report.edges >= report.states - 1


def test_every_state_is_seen_and_every_transition_is_taken_but_those_of_the_state_passed_through():
    taken: set[Spot] = set()
    seen: set[str] = set()
    with machines(recording(SESSION, taken), recording(PROMPT, taken)):
        for kind, on_drain_timeout in WORLDS:
            seen |= explore(2, kind, on_drain_timeout).session_states
    assert seen == set(SESSION.states) - {"sealed"}
    every = {spot for table in (SESSION, PROMPT) for spot, _ in spots(table)}
    # `sealed` is left within the event that leads to it, so nobody can cancel there. The transition is
    # declared all the same: the design allows a cancel in every state before `inserting`.
    assert every - taken == {("SessionMachine", "sealed", "cancel_requested", 0)}


def test_more_prompts_give_more_states_and_the_same_walk_gives_the_same_numbers():
    reports = [explore(prompts, SessionKind.REGENERATION) for prompts in (1, 2, 2)]
    assert reports[0].states < reports[1].states
    assert reports[1] == reports[2]


# --- broken machines


class Mutant(NamedTuple):
    """A table with one thing broken."""

    spot: Spot
    change: str
    table: Table

    @property
    def name(self) -> str:
        """What is broken, in words."""
        return f"{describe(self.spot)}, {self.change}"


def mutants(table: Table) -> Iterator[Mutant]:
    """The table with each row dropped, each guard flipped, each action dropped and each row retargeted."""
    for spot, row in spots(table):
        targets = {other.target for _, other in spots(table) if other.event == row.event} - {row.target}
        for change, mutated in mutations(row, sorted(targets)):
            yield Mutant(spot, change, with_row(table, spot, mutated))


def mutations(row: Row, targets: list[str]) -> Iterator[tuple[str, Row | None]]:
    """One row, broken in each way."""
    yield "dropped", None
    for index, (guard, expected) in enumerate(row.guards):
        flipped = (*row.guards[:index], (guard, not expected), *row.guards[index + 1 :])
        yield f"{guard.__name__} flipped", replace(row, guards=flipped)
    for index, action in enumerate(row.actions):
        rest = row.actions[:index] + row.actions[index + 1 :]
        yield f"{action.__name__} dropped", replace(row, actions=rest)
    for target in targets:
        yield f"led to {target}", replace(row, target=target)


MUTANTS = [mutant for table in (SESSION, PROMPT) for mutant in mutants(table)]
UNSEEN = "sealed is left within the event that leads to it, so nothing can be cancelled there"
LENGTHS = "the walk knows no lengths of time (decision 7); test_session.py has this one to the millisecond"
EQUIVALENT = {
    "SessionMachine debouncing: process_restarted, wait_out_debounce dropped": LENGTHS,
    "SessionMachine sealed: cancel_requested, dropped": UNSEEN,
    "SessionMachine sealed: cancel_requested, cancel_outstanding dropped": UNSEEN,
    "SessionMachine sealed: cancel_requested, note_cancel dropped": UNSEEN,
    "PromptMachine waiting: prompt_abandoned, note_drain_timeout dropped": (
        "a prompt waits because an attempt failed, and that problem is kept anyway"
    ),
}
"""Broken tables that do what the right one does as far as a walk can see, each with the reason why."""


class Walked(NamedTuple):
    """What the walks through all worlds saw."""

    violation: Violation | None
    taken: frozenset[Spot]
    sizes: tuple[tuple[int, int], ...]


def walk(prompts: int, session: Table = SESSION, prompt: Table = PROMPT) -> Walked:
    """Explore all worlds with these tables, up to the first violation."""
    taken: set[Spot] = set()
    reports: list[Exploration] = []
    with machines(recording(session, taken), recording(prompt, taken)):
        for kind, on_drain_timeout in WORLDS:
            reports.append(explore(prompts, kind, on_drain_timeout, max_violations=1))
            if reports[-1].violations:
                return Walked(reports[-1].violations[0], frozenset(taken), ())
    return Walked(None, frozenset(taken), tuple((report.states, report.edges) for report in reports))


@pytest.fixture(scope="module")
def healthy() -> dict[int, Walked]:
    """What the walks see with the right tables, by number of prompts."""
    return {prompts: walk(prompts) for prompts in (1, 2)}


def noticed_by(mutant: Mutant, healthy: dict[int, Walked]) -> str | None:
    """What notices the mutant: an invariant, a transition that is not taken any more, or the counts."""
    tables = (mutant.table, PROMPT) if mutant.table.name == SESSION.name else (SESSION, mutant.table)
    for prompts in (1, 2):
        seen = walk(prompts, *tables)
        if seen.violation is not None:
            return f"invariant {seen.violation.invariant}: {seen.violation.message}"
    if healthy[2].taken - seen.taken - {mutant.spot}:
        return "a transition that is not taken any more"
    return "the counts" if seen.sizes != healthy[2].sizes else None


@pytest.fixture(scope="module")
def tally(tell: Callable[[str], None]) -> Iterator[Counter[str]]:
    """Counts what noticed the broken machines, for the summary."""
    noticed: Counter[str] = Counter()
    yield noticed
    parts = ", ".join(f"{what} {count}" for what, count in sorted(noticed.items()))
    tell(f"broken machines: {noticed.total()}, noticed by: {parts}")


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_broken_machine_is_noticed_unless_it_is_known_to_do_the_same(
    mutant: Mutant, healthy: dict[int, Walked], tally: Counter[str]
):
    noticed = noticed_by(mutant, healthy)
    tally["nothing, being the same in effect" if noticed is None else noticed.partition(":")[0]] += 1
    assert (noticed is None) == (mutant.name in EQUIVALENT), noticed


def test_every_machine_that_is_known_to_do_the_same_is_among_those_tried():
    names = [mutant.name for mutant in MUTANTS]
    assert len(names) == len(set(names))
    assert set(EQUIVALENT) <= set(names)
