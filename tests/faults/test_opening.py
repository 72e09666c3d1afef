"""A start that fails leaves the journal as it was, and the next one takes everything up."""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from limner.adapters.journal_sqlite import SQLiteJournal
from limner.errors import StorageError
from tests.faults.injection import Nth, failing_at, harm
from tests.journeys.seeded import threads_inline
from tests.studio import ScriptedStore, Studio, tag

pytestmark = pytest.mark.anyio

TEXT = tag("a cat")


@pytest.fixture(autouse=True)
def _on_the_loop() -> Iterator[None]:
    with threads_inline():
        yield


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite3"


@pytest.fixture
def store() -> ScriptedStore:
    return ScriptedStore()


def studio(path: Path, store: ScriptedStore) -> Studio:
    return Studio(store=store, journal=SQLiteJournal(path, busy_timeout_ms=0))


async def leave_a_session(path: Path, store: ScriptedStore) -> None:
    """A process ends while an image is made."""
    here = studio(path, store)
    here.painter.hold()
    async with here:
        await here.limner.seal("m", TEXT)
        await here.tick(0)


def content_of(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


@contextmanager
def held_by_somebody(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


async def test_a_journal_that_somebody_holds_is_refused_and_taken_up_later(path: Path, store: ScriptedStore):
    await leave_a_session(path, store)
    with held_by_somebody(path):
        before = content_of(path)
        with pytest.raises(StorageError, match="locked"):
            await studio(path, store).__aenter__()
        assert content_of(path) == before
    async with studio(path, store) as here:
        assert len(here.limner.recovered.resumed) == 1
        await here.tick(0)
        assert len((await here.limner.finished("m")).placed) == 1


async def test_a_full_disk_lets_no_journal_begin_and_leaves_none(path: Path, store: ScriptedStore):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(StorageError):
            await studio(path, store).__aenter__()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert content_of(path) is None
    async with studio(path, store) as here:
        assert len((await here.illustrate("m", TEXT)).placed) == 1


async def test_a_past_that_cannot_be_read_delays_an_image_and_costs_none(path: Path, store: ScriptedStore):
    await leave_a_session(path, store)
    journal = SQLiteJournal(path, busy_timeout_ms=0)
    asked = Nth(1)
    harm(journal, "_past_sessions", asked, failing_at("SELECT"))
    async with Studio(store=store, journal=journal) as here:
        await here.tick(0)
        await here.tick(2_000)
        assert len((await here.limner.finished("m")).placed) == 1
        assert len(here.painter.requests) == 1
    assert asked.struck == 1
