"""Kills a process at every point in turn, and prints as JSON what was tried and what was found.

Runs as a program of its own, in one thread, because it forks a process for every life: everything is imported
and warmed once, and a life costs what it does.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass, field
from io import StringIO
from itertools import count
from pathlib import Path
from typing import NamedTuple

from limner.states import Session
from tests.crash.birth import be_ready, born
from tests.crash.evidence import Evidence, look
from tests.crash.judge import Case, judge
from tests.crash.place import Place, make_place
from tests.crash.planted import PLANTS
from tests.crash.points import DEATHS
from tests.crash.story import EPOCH, MESSAGE, REFUSED, STORY, Doom, Telling, live

RESTART_MS = 500
"""How long after a death the next life begins, in virtual ms."""

ENOUGH = 10
"""After so many violations a sweep ends."""


@dataclass
class Report:
    """What was tried. A point is a place at which a process was killed.

    `first` of them were in a first life, `second` in the life after a kill, of which `kinds` were taken;
    `left` stories ended with a host that did not stream again. `lives` counts all processes.
    """

    first: int = 0
    second: int = 0
    kinds: int = 0
    left: int = 0
    lives: int = 0
    violations: list[str] = field(default_factory=list)


class _Past(NamedTuple):
    """What lies at a place, and the lives that ended there by a kill."""

    place: Path
    kills: tuple[Evidence, ...] = ()


class Sweep:
    """Kills in one telling of the story. All it needs is made below `folder`."""

    def __init__(self, telling: Telling, folder: Path, report: Report) -> None:
        self._telling = telling
        self._folder = folder
        self._report = report
        self._places = count()
        self._nothing = _Past(self._new_place())
        make_place(self._nothing.place)

    def first_lives(self, every: int, *, torn: bool = False) -> list[_Past]:
        """Kill a first life at every `every`th point, and let the next one come to the end.

        With `torn` only in the midst of a commit. Returns one past for each kind of what was left.
        """
        found: dict[object, _Past] = {}
        names = [point.name for point in self._to_the_end(self._nothing).points]
        for point in range(1, len(names) + 1, every):
            if torn and not names[point - 1].endswith("COMMIT"):
                continue
            past = self._killed(self._nothing, point, torn=torn)
            if self._enough():
                break
            if past is None:
                continue  # this commit had so little to write that there was no midst
            self._report.first += 1
            [kill] = past.kills
            self._to_the_end(past)
            if kill.text is None:
                self._report.left += 1
                self._to_the_end(past, stream_again=False)
            found.setdefault(kind_of(kill), past)
        return list(found.values())

    def second_lives(self, past: _Past, every: int) -> None:
        """Kill the life after a kill at every `every`th point, too, and let a third one come to the end.

        Where two kills left the same, at the same moment, the life after them is lived once.
        """
        # Not the same points for each kind, so that together they are all kinds of point.
        first = 1 + self._report.kinds % every
        self._report.kinds += 1
        known: Evidence | None = None
        for point in count(first, every):
            twice = self._killed(past, point)
            if twice is None or self._enough():
                return
            self._report.second += 1
            *_, kill = twice.kills
            if known is None or not kill.same_left(known):
                self._to_the_end(twice)
            known = kill
            shutil.rmtree(twice.place)

    def _enough(self) -> bool:
        return len(self._report.violations) >= ENOUGH

    def _killed(self, past: _Past, point: int, *, torn: bool = False) -> _Past | None:
        """What is left after a life that was killed at `point`; None if it does not come so far."""
        place = self._copy(past)
        evidence = self._live(self._telling, _Past(place, past.kills), point, torn=torn)
        if evidence.died:
            return _Past(place, (*past.kills, evidence))
        shutil.rmtree(place)
        return None

    def _to_the_end(self, past: _Past, *, stream_again: bool = True) -> Evidence:
        telling = self._telling._replace(stream_again=stream_again)
        case = Case(STORY, telling.painter, REFUSED, stream_again)
        place = self._copy(past)
        end = self._live(telling, _Past(place, past.kills), None)
        trail = " and then at ".join(str(kill.last) for kill in past.kills) or "no point"
        self._report.violations.extend(f"killed at {trail}: {told}" for told in judge(case, past.kills, end))
        shutil.rmtree(place)
        return end

    def _live(self, telling: Telling, past: _Past, kill_at: int | None, *, torn: bool = False) -> Evidence:
        life = len(past.kills) + 1
        starts_at = past.kills[-1].last.at + RESTART_MS if past.kills else EPOCH
        doom = Doom(starts_at, kill_at, torn)
        process = born(Place(past.place).output(life), lambda: live(telling, past.place, life, doom))
        _, status = os.waitpid(process, 0)
        self._report.lives += 1
        died = os.WIFSIGNALED(status) and os.WTERMSIG(status) in DEATHS
        if status and not died:
            told = Place(past.place).output(life).read_text()
            self._report.violations.append(f"life {life} ended with {status}: {told}")
        return look(past.place, life, [MESSAGE], died=died)[MESSAGE]

    def _new_place(self) -> Path:
        return self._folder / str(next(self._places))

    def _copy(self, past: _Past) -> Path:
        return Path(shutil.copytree(past.place, self._new_place()))


def kind_of(kill: Evidence) -> object:
    """What a kill left behind, in what matters to the next life: where each session and prompt stood."""

    def kind(session: Session) -> object:
        prompts = (
            (p.state, p.attempt, p.placed is not None, p.job_id is not None) for p in session.prompts.values()
        )
        return session.kind, session.state, session.batch, tuple(prompts)

    length = None if kill.text is None else len(kill.text)
    return length, tuple(kind(session) for session in kill.sessions)


def warm_up(telling: Telling, folder: Path) -> None:
    """Live once in this process, so that all is imported, compiled and cached in those that are forked."""
    make_place(folder)
    with redirect_stderr(StringIO()):
        live(telling._replace(plant=None), folder, 1, Doom())
    be_ready()


def main() -> None:
    """Read the arguments, sweep, print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="an empty folder to work in")
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    parser.add_argument("--painter", choices=["plain", "jobs", "alike"], default="plain")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=1, help="kill the first life at every so many points")
    parser.add_argument("--torn", action="store_true", help="kill in the midst of commits")
    parser.add_argument(
        "--again", type=int, default=0, help="kill the next life, too, at every so many points"
    )
    parser.add_argument("--plant", choices=sorted(PLANTS))
    given = parser.parse_args()
    plant = PLANTS[given.plant] if given.plant else None
    telling = Telling(given.backend, given.seed, given.painter, plant=plant)
    report = Report()
    warm_up(telling, given.folder / "warm")
    sweep = Sweep(telling, given.folder, report)
    pasts = sweep.first_lives(given.every, torn=given.torn)
    for past in pasts if given.again else ():
        sweep.second_lives(past, given.again)
    print(json.dumps(asdict(report)))


if __name__ == "__main__":
    main()
