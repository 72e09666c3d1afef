"""`make crash`: thousands of kills at random moments, with real time, real threads and many messages at once.

A process works on a crowd of messages; this one kills it by SIGKILL after a random time, which often hits
its recovery, and starts the next, until one comes to the end. Then what lies on the disk, and lay there after
each kill, is compared with what was promised, message by message. Then comes the next crowd.

The seed gives the crowds and the times. Which instruction a kill hits is the machine's choice.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from functools import partial
from io import StringIO
from pathlib import Path

from tests.crash.birth import be_ready, born
from tests.crash.crowd import REFUSED, Crowd, draw_crowd, live_in_crowd
from tests.crash.evidence import Evidence, look
from tests.crash.judge import Case, judge
from tests.crash.place import Place, make_place, rows_of
from tests.journeys.seeded import threads_inline

KILLED_AFTER_S = (0.04, 0.15, 0.5)
"""A process is killed after a time from 0 to one of these: in its recovery, in the rush, towards the end."""

MOST_KILLS = 12
"""After so many kills of one crowd the next process is left alone."""

TOLD_EVERY_S = 10


@dataclass
class Tally:
    """What happened so far."""

    kills: int = 0
    in_recovery: int = 0
    crowds: int = 0
    sessions: int = 0
    images: int = 0
    given_up: int = 0
    jobs: int = 0
    writes: int = 0
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.kills:,} kills, {self.in_recovery:,} of them before the recovery was over; "
            f"{self.crowds:,} crowds, {self.sessions:,} sessions, {self.jobs:,} jobs, {self.images:,} images "
            f"({self.given_up:,} more given up after four cuts), {self.writes:,} writes; "
            f"{len(self.violations)} violations"
        )


def run_crowd(crowd: Crowd, folder: Path, dice: random.Random, tally: Tally, most: int) -> None:
    """Kill, start and kill again, at most `most` times, until the crowd is finished; then judge."""
    make_place(folder)
    place = Place(folder)
    ids = [script.message_id for script in crowd.scripts]
    kills: list[dict[str, Evidence]] = []
    while True:
        life = len(kills) + 1
        spared = len(kills) >= min(most, MOST_KILLS)
        patience = None if spared else dice.uniform(0, dice.choice(KILLED_AFTER_S))
        status = lived(partial(live_in_crowd, crowd, folder, life), place.output(life), patience)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        found = look(folder, life, ids, died=killed)
        if not killed:
            break
        kills.append(found)
        tally.kills += 1
        tally.in_recovery += [life] not in list(rows_of(place.recovered))
    if status:
        tally.violations.append(f"life {life} ended with {status}: {place.output(life).read_text()}")
    for script in crowd.scripts:
        past = [kill[script.message_id] for kill in kills]
        case = Case(script, crowd.painter, REFUSED)
        told = judge(case, past, found[script.message_id])
        tally.violations.extend(f"{folder}: {script.message_id}: {each}" for each in told)
    count(found.values(), tally)


def lived(life: partial[None], output: Path, patience_s: float | None) -> int:
    """Let a process live for so long (None: until it ends by itself), and return its wait status."""
    # The end of a pipe that only the child holds: it closes whatever the child dies of.
    alive, held = os.pipe()
    process = born(output, life)
    os.close(held)
    try:
        ended, _, _ = select.select([alive], [], [], patience_s)
    finally:
        os.close(alive)
    if not ended:
        os.kill(process, signal.SIGKILL)
    return os.waitpid(process, 0)[1]


def count(found: Iterable[Evidence], tally: Tally) -> None:
    """Add up what came out."""
    tally.crowds += 1
    for end in found:
        tally.sessions += len(end.sessions)
        tally.writes += len(end.versions)
        tally.jobs += sum(line.what == "taken" for line in end.ledger)
        for session in end.sessions:
            for prompt in session.prompts.values():
                tally.images += prompt.image is not None
                tally.given_up += prompt.problem is not None and prompt.problem.kind == "process_ended"


def main() -> int:
    """Read the arguments, kill, print; 1 if anything that was promised was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=2_000, help="how many (default: 2000)")
    parser.add_argument(
        "--seed", type=int, default=None, help="what to draw from (default: another each time)"
    )
    parser.add_argument("--minutes", type=float, default=30, help="when to end at the latest (default: 30)")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    tally = Tally()
    began = told = time.monotonic()
    folder = Path(tempfile.mkdtemp())
    warm_up(folder / "warm")
    while tally.kills < given.kills and time.monotonic() - began < given.minutes * 60:
        dice = random.Random(f"{seed}/{tally.crowds}")
        place = folder / str(tally.crowds)
        before = len(tally.violations)
        run_crowd(draw_crowd(dice), place, dice, tally, given.kills - tally.kills)
        if len(tally.violations) == before:
            shutil.rmtree(place)
        print(*tally.violations[before:], sep="\n", end="\n" if len(tally.violations) > before else "")
        if time.monotonic() - told > TOLD_EVERY_S:
            told = time.monotonic()
            print(f"{told - began:.0f} s: {tally}", flush=True)
    if not tally.violations:
        shutil.rmtree(folder)
    print(f"seed {seed}, {time.monotonic() - began:.0f} s: {tally}")
    return 1 if tally.violations else 0


def warm_up(folder: Path) -> None:
    """Live once in this process, on both event loops, so that all is imported and cached."""
    for backend in ("asyncio", "trio"):
        place = folder / backend
        make_place(place)
        crowd = draw_crowd(random.Random(0))._replace(backend=backend)
        with threads_inline(), redirect_stderr(StringIO()):
            live_in_crowd(crowd, place, 1)
    be_ready()


if __name__ == "__main__":
    sys.exit(main())
