"""The story that is told again and again, and how one process plays its part of it.

A message is streamed with three prompts, two of them equal. One of the equal ones is turned away at its first
attempt and retried; the third is refused for good. The host saves the first half of the text as it comes. The
images are written; then somebody clicks both of them within two seconds: a batch, and a second write.
"""

from __future__ import annotations

from collections.abc import Callable
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
from limner.errors import BackendError, Moderated, Unavailable
from limner.workflows.prompts import prompt_id
from tests.crash.evidence import clicked_in
from tests.crash.host import Host, Pace, Script
from tests.crash.place import ADDRESS, Place
from tests.crash.points import Points
from tests.crash.server import Client, Line
from tests.crash.watched import WatchedImages, WatchedJournal, WatchedMessages, middles_watched
from tests.journeys.seeded import run_seeded, threads_inline
from tests.studio import tag

MESSAGE = "a message"
FOX, REFUSED = "a fox", "a refused thing"
HALF = f"It began. {tag(FOX)}\n\nThen came {tag(REFUSED)} and "
STORY = Script(MESSAGE, f"{HALF}once more {tag(FOX)}, and that was all.", saved=len(HALF))
BUSY = prompt_id(MESSAGE, FOX, 1)

PACE = Pace(before_stream=0.1, between_pieces=0.3, between_clicks=0.7)
PAINTING_S = 1.5
EPOCH = 1_700_000_000_000

Plant = Callable[[Limner], None]


class Telling(NamedTuple):
    """How a story is told: on which event loop, in which order, by what kind of painter.

    `painter`: see `Client`. `stream_again`: the host streams a message again that the store does not have.
    `plant` is a fault to plant into the Limner.
    """

    backend: str = "asyncio"
    seed: int = 0
    painter: str = "plain"
    stream_again: bool = True
    plant: Plant | None = None


class Doom(NamedTuple):
    """When a life begins (virtual ms), at which point it dies (None: never), whether amid a write."""

    starts_at: int = EPOCH
    kill_at: int | None = None
    torn: bool = False


def fate(line: Line) -> BackendError | None:
    """What the server has against a job of the story."""
    if line.prompt == REFUSED:
        return Moderated("this is not painted here")
    if line.prompt_id == BUSY and line.attempt == 1:
        return Unavailable("come again")
    return None


def live(telling: Telling, folder: Path, life: int, doom: Doom) -> None:
    """One life, number `life` of those that are lived in `folder`. Patches what is global; for a process."""
    place = Place(folder)
    module: Any = local_engine
    # Two lives that find the same do the same, to the name of each session.
    numbers = count(life << 64)
    module.uuid4 = lambda: UUID(int=next(numbers))
    began = 0.0

    def clock() -> int:
        return doom.starts_at + round((anyio.current_time() - began) * 1000)

    async def play(_: int) -> None:
        nonlocal began
        began = anyio.current_time()
        await _play(telling, place, life, clock, points)

    points = Points(place.points(life), clock, doom.kill_at, torn=doom.torn)
    with threads_inline(), middles_watched(points.reach):
        run_seeded(telling.backend, telling.seed, play)


async def _play(telling: Telling, place: Place, life: int, clock: Callable[[], int], points: Points) -> None:
    reach = points.reach
    painter = Client(
        place.ledger,
        telling.painter,
        fate,
        life=life,
        clock=clock,
        reach=reach,
        painting_s=lambda _: PAINTING_S,
    )
    clicked = clicked_in(place.journal)
    async with SQLiteMessageStore(place.messages) as messages:
        store = WatchedMessages(messages, reach)
        limner = Limner(
            painter,
            store=store,
            images=WatchedImages(FolderImageStore(place.images, ADDRESS), reach),
            journal=WatchedJournal(SQLiteJournal(place.journal), reach),
            clock=clock,
            shutdown_timeout_ms=0,
        )
        if telling.plant is not None:
            telling.plant(limner)
        async with limner:
            host = Host(STORY, PACE, clicked, limner, store, messages, place.told, reach)
            await host.play(stream_again=telling.stream_again or life == 1)
