"""The story that is told again and again, and how one process plays its part of it.

A message is streamed with three prompts, two of them equal. One of the equal ones is turned away at its first
attempt and retried; the third is refused for good. The host saves the first half of the text as it comes. The
images are written; then somebody clicks both of them within two seconds: a batch, and a second write.

A host that starts again does what hosts do: it streams the message (again) if the store has none, because
then the user saw nothing that stayed, and its user clicks whatever has not been clicked yet.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import anyio

from limner.adapters import local_engine
from limner.adapters.image_folder import FolderImageStore
from limner.adapters.journal_sqlite import SQLiteJournal
from limner.adapters.limner import Limner
from limner.adapters.message_sqlite import SQLiteMessageStore
from limner.states import SessionKind, is_final
from limner.states.outcome import result_of
from limner.workflows.ports import MessageStore
from limner.workflows.prompts import prompt_id
from tests.crash.points import Points
from tests.crash.server import Client, Ledger
from tests.crash.watched import WatchedImages, WatchedJournal, WatchedMessages, middles_watched
from tests.journeys.seeded import run_seeded, threads_inline
from tests.studio import tag

MESSAGE = "a message"
FOX, REFUSED = "a fox", "a thing that is not painted"
HALF = f"It began. {tag(FOX)}\n\nThen came {tag(REFUSED)} and "
WHOLE = f"{HALF}once more {tag(FOX)}, and that was all."

ADDRESS = "https://images.test"
EPOCH = 1_700_000_000_000
BEFORE_STREAM_S = 0.1
"""So that what is done for a stream that died, and for the one after it, can be told apart by its time."""
BETWEEN_PIECES_S = 0.3
BETWEEN_CLICKS_S = 0.7

_HISTORY = """
CREATE TABLE history (number INTEGER PRIMARY KEY, id BLOB NOT NULL, text BLOB NOT NULL);
CREATE TRIGGER added AFTER INSERT ON limner_messages
    BEGIN INSERT INTO history (id, text) VALUES (new.id, new.text); END;
CREATE TRIGGER changed AFTER UPDATE ON limner_messages
    BEGIN INSERT INTO history (id, text) VALUES (new.id, new.text); END;
"""

Plant = Callable[[Limner], None]


class Place(NamedTuple):
    """Where everything lies. All of it outlives the process."""

    folder: Path

    @property
    def journal(self) -> Path:
        return self.folder / "journal.sqlite3"

    @property
    def messages(self) -> Path:
        return self.folder / "messages.sqlite3"

    @property
    def images(self) -> Path:
        return self.folder / "images"

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger"

    def points(self, life: int) -> Path:
        return self.folder / f"points-{life}"

    def output(self, life: int) -> Path:
        return self.folder / f"output-{life}"


class Telling(NamedTuple):
    """How the story is told: on which event loop, in which order, by what kind of painter.

    `painter` is "plain", "jobs" (it names its jobs) or "alike" (it paints equal prompts alike). `again`: the
    host streams a message again that the store does not have. `plant` is a fault to plant into the Limner.
    """

    backend: str = "asyncio"
    seed: int = 0
    painter: str = "plain"
    again: bool = True
    plant: Plant | None = None


def make_place(folder: Path) -> None:
    """An empty message database that keeps every version, written down within the write itself."""

    async def open_once() -> None:
        async with SQLiteMessageStore(place.messages):
            """Opening it makes its tables."""

    place = Place(folder)
    folder.mkdir(parents=True)
    with threads_inline():
        anyio.run(open_once)
    with closing(sqlite3.connect(place.messages)) as connection:
        connection.executescript(_HISTORY)


class Fate(NamedTuple):
    """When a life begins (virtual ms), at which point it dies (None: never), whether amid a write."""

    starts_at: int = EPOCH
    kill_at: int | None = None
    torn: bool = False


def live(telling: Telling, folder: Path, life: int, fate: Fate) -> None:
    """One life, number `life` of those that are lived in `folder`. Patches what is global; for a process."""
    place = Place(folder)
    module: Any = local_engine
    # Two lives that find the same do the same, to the name of each session.
    numbers = count(life << 64)
    module.uuid4 = lambda: UUID(int=next(numbers))
    began = 0.0

    def clock() -> int:
        return fate.starts_at + round((anyio.current_time() - began) * 1000)

    async def play(_: int) -> None:
        nonlocal began
        began = anyio.current_time()
        await _play(telling, place, life, clock, points)

    points = Points(place.points(life), clock, fate.kill_at, torn=fate.torn)
    with threads_inline(), middles_watched(points.reach):
        run_seeded(telling.backend, telling.seed, play)


async def _play(telling: Telling, place: Place, life: int, clock: Callable[[], int], points: Points) -> None:
    painter = Client(
        Ledger(place.ledger),
        life=life,
        clock=clock,
        reach=points.reach,
        resume=telling.painter == "jobs",
        alike=telling.painter == "alike",
        refused=REFUSED,
        busy=prompt_id(MESSAGE, FOX, 1),
    )
    async with SQLiteMessageStore(place.messages) as messages:
        store = WatchedMessages(messages, points.reach)
        limner = Limner(
            painter,
            store=store,
            images=WatchedImages(FolderImageStore(place.images, ADDRESS), points.reach),
            journal=WatchedJournal(SQLiteJournal(place.journal), points.reach),
            clock=clock,
            shutdown_timeout_ms=0,
        )
        if telling.plant is not None:
            telling.plant(limner)
        async with limner:
            if await messages.read(MESSAGE) is None and (telling.again or life == 1):
                await anyio.sleep(BEFORE_STREAM_S)
                async for _ in limner.illustrate(MESSAGE, _tokens(store)):
                    pass
            await _click(limner)


async def _tokens(store: MessageStore) -> AsyncIterator[str]:
    size = 20
    for start in range(0, len(WHOLE), size):
        end = min(start + size, len(WHOLE))
        if start < len(HALF) <= end:
            # A host that saves as it goes.
            yield WHOLE[start : len(HALF)]
            await store.write(MESSAGE, HALF, expected=None)
            start = len(HALF)
        await anyio.sleep(BETWEEN_PIECES_S)
        yield WHOLE[start:end]


async def _click(limner: Limner) -> None:
    """Click every image of the streamed message that nobody has clicked yet, and wait for the end."""
    live = limner.manager.get_session(MESSAGE)
    if live is not None and live.kind is SessionKind.STREAMING:
        await limner.finished(MESSAGE)
    past = await limner.manager.engine.past_sessions(MESSAGE)
    sessions = [*past, *limner.sessions()]
    clicked = {prompt.target_url for session in sessions for prompt in session.prompts.values()}
    placed = [
        image.image_url
        for session in past
        if session.kind is SessionKind.STREAMING
        for image in result_of(session).placed
    ]
    for url in placed:
        if url not in clicked:
            await limner.regenerate(MESSAGE, url)
            await anyio.sleep(BETWEEN_CLICKS_S)
    if sessions:
        await limner.finished(MESSAGE)
    assert all(is_final(session) for session in limner.sessions())
