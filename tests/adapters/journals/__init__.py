"""A sample journal of each released format, kept for ever.

`format-N.sqlite3` was written by the first version with that format, through `make`. A sample is never made
again: what it is for is to be read by versions that could not write it any more.

    python -m tests.adapters.journals
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from limner.adapters.journal_sqlite import SQLiteJournal
from limner.workflows.ports import JournalRecord
from tests.adapters.lives import cancelled, finished, regenerated, streamed, unwritten, vanished

HERE = Path(__file__).parent


def sample(number: int) -> Path:
    """The sample of format `number`."""
    return HERE / f"format-{number}.sqlite3"


def lives() -> Sequence[list[JournalRecord]]:
    """What stands in the samples: every kind of event, and every end that a session can come to."""
    return [
        finished("a1", "message 1", 1_000),
        cancelled("b2", "message 2", 2_000),
        regenerated("c3", "message 1", 10_000),
        vanished("d4", "message 4", 20_000),
        unwritten("e5", "message 5", 30_000),
        streamed("f6", "message 2", 40_000, prompts=3),
        streamed("g7", "message 7 \ud83d", 50_000, prompts=1),
    ]


async def make(path: Path) -> None:
    """Write the sample of the present format. Raises `FileExistsError` for one that is there."""
    if path.exists():
        raise FileExistsError(f"{path} is kept for ever; a new format has a new number")
    journal = SQLiteJournal(path)
    await journal.open()
    for life in lives():
        for record in life:
            await journal.append([record])
    await journal.aclose()
    path.with_name(f"{path.name}.lock").unlink()
