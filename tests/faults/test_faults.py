"""Whatever goes wrong at whichever call: no image is lost, nothing is written twice, every session ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog

import limner.workflows.insertion as insertion
from limner.adapters.image_folder import FolderImageStore
from limner.adapters.journal_sqlite import SQLiteJournal
from limner.adapters.limner import Limner
from limner.adapters.local_engine import LocalEngine
from limner.adapters.message_sqlite import SQLiteMessageStore
from limner.errors import StorageError
from limner.workflows.ports import Generator, ImageStore, MessageStore
from tests.crash.evidence import look
from tests.crash.host import Host
from tests.crash.judge import Case, file_of, judge
from tests.crash.place import ADDRESS, Place, make_place
from tests.crash.planted import place_blindly
from tests.crash.server import Client, Line
from tests.crash.story import MESSAGE, PACE, PAINTING_S, REFUSED, STORY, fate
from tests.faults.injection import (
    LASTING_PAINTER_FAULTS,
    PASSING_PAINTER_FAULTS,
    STORE_FAULTS,
    FaultyImages,
    FaultyMessages,
    FaultyPainter,
    Harm,
    Nth,
    Wrong,
    broken_disk,
    failing_at,
    fill_disk,
    harm,
    locked,
    report_twice,
)
from tests.journeys.seeded import Deadlock, run_seeded, threads_inline, virtual_milliseconds
from tests.support import quick_folder

LONGEST_S = 3_600
"""Virtual seconds in which all must have ended."""

PATIENCE = 10
"""How often the host makes a call again that was answered with a StorageError, a second later each time."""


@dataclass
class Parts:
    """What the Limner of one story stands on. A fault replaces one of them, or does something to it."""

    painter: Generator
    store: MessageStore
    images: ImageStore
    journal: SQLiteJournal
    plant: Callable[[Limner], None] = lambda limner: None


Fault = Callable[[Parts, Nth], None]


def in_journal(method: str, harmed: Harm) -> Fault:
    return lambda parts, nth: harm(parts.journal, method, nth, harmed)


def in_store(method: str, wrong: Wrong) -> Fault:
    def fault(parts: Parts, nth: Nth) -> None:
        parts.store = FaultyMessages(parts.store, method, nth, wrong)

    return fault


def in_images(wrong: Wrong) -> Fault:
    def fault(parts: Parts, nth: Nth) -> None:
        parts.images = FaultyImages(parts.images, nth, wrong)

    return fault


def in_painter(wrong: Wrong) -> Fault:
    def fault(parts: Parts, nth: Nth) -> None:
        parts.painter = FaultyPainter(parts.painter, nth, wrong)

    return fault


def full_disk(parts: Parts, nth: Nth) -> None:
    fill_disk(parts.journal, nth)


def told_twice(parts: Parts, nth: Nth) -> None:
    parts.plant = lambda limner: report_twice(limner, nth)


FAULTS: Mapping[str, tuple[Fault, int]] = {
    "journal: disk full": (full_disk, 1),
    "journal: database locked": (in_journal("_append", locked), 1),
    "journal: database locked for long": (in_journal("_append", locked), 8),
    "journal: disk broken": (in_journal("_append", broken_disk), 1),
    "journal: I/O error at the commit": (in_journal("_append", failing_at("COMMIT")), 1),
    "journal: I/O error when asked for the past": (in_journal("_past_sessions", failing_at("SELECT")), 1),
    **{f"message read: {name}": (in_store("read", wrong), 1) for name, wrong in STORE_FAULTS.items()},
    **{f"message write: {name}": (in_store("write", wrong), 1) for name, wrong in STORE_FAULTS.items()},
    **{f"image put: {name}": (in_images(wrong), 1) for name, wrong in STORE_FAULTS.items()},
    **{f"painter: {name}": (in_painter(wrong), 1) for name, wrong in PASSING_PAINTER_FAULTS.items()},
    **{f"painter: {name}": (in_painter(wrong), 1) for name, (wrong, _) in LASTING_PAINTER_FAULTS.items()},
    "engine: a fact is told twice": (told_twice, 1),
}
"""Each fault, and how often in a row it strikes."""

MAY_FAIL = {f"painter: {name}": kind for name, (_, kind) in LASTING_PAINTER_FAULTS.items()}
"""What an image fails with that will not be tried again."""


@dataclass(frozen=True)
class Outcome:
    """Whether the fault struck at all, and which promises were broken then."""

    struck: bool
    violations: list[str]


def tell_with(name: str, number: int, folder: Path, backend: str) -> Outcome:
    """Tell the story of the crash tests once, with the fault at call `number`, and judge it."""
    fault, times = FAULTS[name]
    nth = Nth(number, times)
    place = Place(folder)
    make_place(folder)

    async def play(_: int) -> None:
        async with SQLiteMessageStore(place.messages) as messages:
            painter = Client(
                place.ledger,
                "plain",
                fate,
                life=1,
                clock=virtual_milliseconds,
                reach=_pass,
                painting_s=lambda _: PAINTING_S,
            )
            images = FolderImageStore(place.images, ADDRESS)
            journal = SQLiteJournal(place.journal, busy_timeout_ms=0)
            parts = Parts(painter, messages, images, journal)
            fault(parts, nth)
            limner = Limner(
                parts.painter,
                store=parts.store,
                images=parts.images,
                journal=parts.journal,
                clock=virtual_milliseconds,
                shutdown_timeout_ms=0,
            )
            parts.plant(limner)
            host = Host(STORY, PACE, set(), limner, messages, messages, place.told, _pass)
            with anyio.fail_after(LONGEST_S):
                async with limner:
                    await _insist(host)

    violations = []
    with structlog.testing.capture_logs() as logs, threads_inline():
        try:
            run_seeded(backend, number, play)
        except (TimeoutError, Deadlock):
            violations.append("it never came to its end")
    end = look(folder, 1, [MESSAGE], died=False)[MESSAGE]
    case = Case(STORY, "plain", REFUSED, may_fail=MAY_FAIL.get(name, ""))
    violations += judge(case, [], end)
    listed = {
        file_of(prompt.image.url)
        for session in end.sessions
        for prompt in session.prompts.values()
        if prompt.image is not None
    }
    late = {file_of(entry["image_url"]) for entry in logs if entry["event"] == "image_came_too_late"}
    if set(end.images) != listed | late:
        violations.append(
            f"images that nobody knows of, or that are not there: {end.images}, {listed}, {late}"
        )
    if not name.startswith("painter") and len(pictures_of(end.ledger)) > len(end.images):
        violations.append(f"a picture was paid for twice: {end.ledger}")
    return Outcome(bool(nth.struck), violations)


def pictures_of(ledger: Sequence[Line]) -> list[Line]:
    """The jobs for which a picture was paid."""
    return [line for line in ledger if line.what == "taken" and fate(line) is None]


async def _insist(host: Host) -> None:
    for _ in range(PATIENCE):
        try:
            await host.play()
        except StorageError:
            await anyio.sleep(1)
        else:
            return
    raise AssertionError("the host was refused too often")


def _pass(_: str) -> None:
    """Nobody counts points here."""


def tell_with_each(name: str, folder: Path, backend: str) -> Iterator[tuple[int, Outcome]]:
    """Once for each number of a call, until the story comes to its end without meeting the fault."""
    for number in count(1):
        outcome = tell_with(name, number, folder / str(number), backend)
        if not outcome.struck:
            return
        yield number, outcome


@pytest.fixture
def folder() -> Iterator[Path]:
    with quick_folder() as made:
        yield made


@pytest.fixture(scope="module")
def tally(tell: Callable[[str], None]) -> Iterator[list[Outcome]]:
    """What came of every fault."""
    outcomes: list[Outcome] = []
    yield outcomes
    found = sum(len(outcome.violations) for outcome in outcomes)
    tell(f"{len(outcomes):,} faults, at every call of every port in turn; {found} violations")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("name", FAULTS)
def test_whichever_call_goes_wrong_no_promise_is_broken(
    name: str, backend: str, folder: Path, tally: list[Outcome]
):
    outcomes = dict(tell_with_each(name, folder, backend))
    tally.extend(outcomes.values())
    assert {number: found.violations for number, found in outcomes.items() if found.violations} == {}
    assert outcomes, "the fault never struck"


def found_with(name: str, folder: Path, backend: str) -> str:
    outcomes = (outcome for _, outcome in tell_with_each(name, folder, backend))
    return "\n".join(told for outcome in outcomes for told in outcome.violations)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_write_that_is_done_again_would_be_seen(
    backend: str, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("place_images", "plan_insertion"):
        monkeypatch.setattr(insertion, name, getattr(insertion, name))  # so that they are put back
    nobody: Any = None
    place_blindly(nobody)
    assert "behind" in found_with("message write: the answer is lost", folder, backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_facts_that_are_never_written_down_after_a_failure_would_be_seen(
    backend: str, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    after_failure = LocalEngine._after_failure

    def forget(engine: LocalEngine, *args: Any) -> list[Any]:
        for handled in after_failure(engine, *args):
            handled.end()
        return []

    monkeypatch.setattr(LocalEngine, "_after_failure", forget)
    assert "replayed" in found_with("journal: database locked", folder, backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_image_that_is_thrown_away_when_it_cannot_be_stored_would_be_seen(
    backend: str, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("limner.workflows.processor.KEEP_UNFINISHED", 0)
    assert "a picture was paid for twice" in found_with("image put: StorageError", folder, backend)
