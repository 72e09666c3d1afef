"""What lies on the disk when nobody lives: the journal, the messages in all their versions, images, calls.

Databases are read from a copy, so that looking changes nothing for the life that comes after.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from limner.adapters.journal_format import EventRow, read_body, to_event, to_session
from limner.states import Session, is_final
from tests.crash.host import Told, told_of
from tests.crash.place import Place
from tests.crash.points import Point, read_points
from tests.crash.server import Line, lines_of, number_of


@dataclass(frozen=True)
class Evidence:
    """What was found of one message after a life.

    `life` is its number, `points` are those that it passed (in a life that counts them), `died` says that it
    did not end by itself. `sessions` are all of the journal's, oldest first, with their `events`; `versions`
    every text that the message ever had; `images` has which job's picture is in which file; `told` is what
    the host was told.
    """

    life: int
    points: tuple[Point, ...]
    died: bool
    sessions: tuple[Session, ...] = ()
    events: Mapping[str, tuple[EventRow, ...]] = field(default_factory=dict)
    versions: tuple[str, ...] = ()
    ledger: tuple[Line, ...] = ()
    images: Mapping[str, int] = field(default_factory=dict)
    told: tuple[Told, ...] = ()

    def same_left(self, other: Evidence) -> bool:
        """Whether both lives left the same, at the same time, so that the next one would be the same, too."""
        return self._left == other._left

    @property
    def _left(self) -> object:
        return (
            self.last.at,
            self.sessions,
            self.events,
            self.versions,
            self.ledger,
            self.images,
            self.told,
        )

    @property
    def last(self) -> Point:
        """The last point that was passed; that at which it died."""
        return self.points[-1]

    @property
    def live(self) -> Session | None:
        """The session that had not ended."""
        return next((session for session in self.sessions if not is_final(session)), None)

    @property
    def text(self) -> str | None:
        """The message as it stands."""
        return self.versions[-1] if self.versions else None


class Contents(NamedTuple):
    """All sessions of a journal, oldest first, and the events of each by its id."""

    sessions: tuple[Session, ...]
    events: Mapping[str, tuple[EventRow, ...]]


def look(folder: Path, life: int, message_ids: Iterable[str], *, died: bool) -> dict[str, Evidence]:
    """What is there of each message after life number `life`."""
    place = Place(folder)
    points = tuple(read_points(place.points(life)))
    versions: dict[str, list[str]] = {}
    with _copied(place.messages) as messages:
        for message_id, text in messages.execute("SELECT id, text FROM history ORDER BY number"):
            versions.setdefault(message_id.decode(), []).append(text.decode("utf-8", "surrogatepass"))
    sessions, events = look_into_journal(place.journal)
    ledger, told = lines_of(place.ledger), told_of(place.told)
    images = {file.name: number_of(file.read_bytes()) for file in place.images.glob("[!.]*")}
    found = {}
    for message_id in message_ids:
        of_message = tuple(session for session in sessions if session.message_id == message_id)
        found[message_id] = Evidence(
            life,
            points,
            died,
            of_message,
            {session.id: events[session.id] for session in of_message},
            tuple(versions.get(message_id, ())),
            tuple(line for line in ledger if line.message_id == message_id),
            images,
            tuple(each for each in told if each.message_id == message_id),
        )
    return found


def look_into_journal(path: Path) -> Contents:
    """All that is in a journal; nothing where it was not made yet."""
    with _copied(path) as journal:
        made = journal.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        return read_journal(journal) if made else Contents((), {})


def read_journal(journal: sqlite3.Connection) -> Contents:
    """All that is in a journal."""
    prompts: dict[int, list[dict[str, Any]]] = {}
    for number, body, crc in journal.execute("SELECT session, body, crc FROM prompts"):
        prompts.setdefault(number, []).append(read_body(body, crc))
    events: dict[int, list[EventRow]] = {}
    for number, body, crc in journal.execute("SELECT session, body, crc FROM events ORDER BY number"):
        events.setdefault(number, []).append(to_event(read_body(body, crc)))
    sessions = {
        number: to_session(read_body(body, crc), prompts.get(number, []))
        for number, body, crc in journal.execute("SELECT number, body, crc FROM sessions ORDER BY number")
    }
    history = {session.id: tuple(events.get(number, ())) for number, session in sessions.items()}
    return Contents(tuple(sessions.values()), history)


def clicked_in(journal: Path) -> set[str]:
    """The images that were clicked, as far as that is in the journal."""
    sessions, _ = look_into_journal(journal)
    prompts = (prompt for session in sessions for prompt in session.prompts.values())
    return {prompt.target_url for prompt in prompts if prompt.target_url is not None}


@contextmanager
def _copied(path: Path) -> Iterator[sqlite3.Connection]:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, path.name)
        for suffix in ("", "-wal", "-journal"):
            beside = path.with_name(path.name + suffix)
            if beside.exists():
                shutil.copyfile(beside, copy.with_name(copy.name + suffix))
        with closing(sqlite3.connect(copy)) as connection:
            yield connection
