"""A process is killed at every point, and what it promised is kept by the next one.

The lives are lived by `tests.crash.sweep`, two sweeps at a time, while these tests wait for their reports.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.crash.planted import PLANTS
from tests.support import quick_folder

pytestmark = pytest.mark.kills

ROOT = Path(__file__).parent.parent.parent
SWEEP_LIMIT_S = 600

SWEEPS: Mapping[str, tuple[str, ...]] = {
    "a painter that names its jobs": ("--painter", "jobs", "--again", "9"),
    "a plain painter": ("--again", "9"),
    "a painter that paints alike": ("--painter", "alike", "--every", "3"),
    "a plain painter, on trio": ("--backend", "trio", "--every", "3", "--again", "50"),
    "a painter that names its jobs, on trio": ("--backend", "trio", "--painter", "jobs", "--every", "6"),
    "deaths amid a write": ("--torn",),
}
PLANTED: Mapping[str, tuple[str, ...]] = {
    plant: ("--plant", plant, "--every", "3", "--painter", "jobs" if "jobs" in plant else "plain")
    for plant in PLANTS
}
Report = dict[str, Any]
Reports = Mapping[str, "Future[Report]"]


def sweep(arguments: tuple[str, ...]) -> Report:
    with quick_folder() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "tests.crash.sweep", str(folder), *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=SWEEP_LIMIT_S,
        )
    assert done.returncode == 0, done.stderr
    report: Report = json.loads(done.stdout)
    return report


@pytest.fixture(scope="module")
def reports(request: pytest.FixtureRequest, tell: Callable[[str], None]) -> Iterator[Reports]:
    """The reports of the sweeps that the selected tests wait for, the longest first."""
    selected = {item.name for item in request.session.items}
    with ThreadPoolExecutor(max_workers=2) as pool:
        running = {
            name: pool.submit(sweep, arguments)
            for name, arguments in {**SWEEPS, **PLANTED}.items()
            if any(f"[{name}]" in item for item in selected)
        }
        yield running
    swept = [running[name].result() for name in SWEEPS if name in running]
    total = {key: sum(report[key] for report in swept) for key in ("first", "second", "lives")}
    found = sum(len(report["violations"]) for report in swept)
    tell(
        f"killed at {total['first'] + total['second']:,} points, {total['second']:,} of them in a recovery; "
        f"{total['lives']:,} processes; {found} violations"
    )


@pytest.mark.parametrize("name", SWEEPS)
def test_wherever_a_process_is_killed_nothing_is_lost_and_nothing_is_done_twice(name: str, reports: Reports):
    report = reports[name].result()
    assert report["violations"] == []
    assert report["first"] >= 25
    assert report["second"] == 0 or report["kinds"] >= 20


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_fault_is_brought_to_light_by_the_kills_alone(plant: str, reports: Reports):
    violations = reports[plant].result()["violations"]
    assert violations
    assert not [told for told in violations if told.startswith("killed at no point")]
