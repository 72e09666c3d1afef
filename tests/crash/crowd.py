"""Many messages at once, in real time and with real threads: one life of the long run.

Everything is short (pauses, pictures, the debounce), so that a life of some tenths of a second is full of
things that can be cut off.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

import anyio

from limner.adapters.image_folder import FolderImageStore
from limner.adapters.limner import Limner
from limner.adapters.message_sqlite import SQLiteMessageStore
from limner.errors import BackendError, Moderated, Unavailable
from tests.crash.evidence import clicked_in
from tests.crash.host import Host, Pace, Script
from tests.crash.place import ADDRESS, Place, add_row
from tests.crash.server import Client, Line
from tests.studio import tag

REFUSED, BUSY = "a refused thing", "a busy fox"
PROMPTS = ("a fox", "a fox", "an owl", BUSY, REFUSED)
PACE = Pace(before_stream=0.005, between_pieces=0.002, between_clicks=0.02)
DEBOUNCE_MS = 60
BACKOFF_MS = 20
LONGEST_PAINTING_S = 0.06


class Crowd(NamedTuple):
    """What happens to some messages, who paints (see `Client`), and on which event loop."""

    backend: str
    painter: str
    scripts: tuple[Script, ...]


def draw_crowd(dice: random.Random) -> Crowd:
    """Five to thirty messages."""

    def script(number: int) -> Script:
        prompts = [tag(dice.choice(PROMPTS)) for _ in range(dice.randint(0, 4))]
        text = "\n\nand then ".join(["Once upon a time", *prompts, "it ended."])
        saved = dice.choice([0, dice.randrange(len(text))])
        return Script(f"message {number}", text, saved, clicks=dice.random() < 0.7)

    backend = dice.choice(["asyncio", "trio"])
    painter = dice.choice(["plain", "jobs", "alike"])
    return Crowd(backend, painter, tuple(script(number) for number in range(dice.randint(5, 30))))


def fate(line: Line) -> BackendError | None:
    """What the server has against a job."""
    if line.prompt == REFUSED:
        return Moderated("this is not painted here")
    if line.prompt == BUSY and line.attempt == 1:
        return Unavailable("come again")
    return None


def live_in_crowd(crowd: Crowd, folder: Path, life: int) -> None:
    """One life, until all messages are finished. Writes down when its recovery is over."""
    anyio.run(_live, crowd, Place(folder), life, backend=crowd.backend)


async def _live(crowd: Crowd, place: Place, life: int) -> None:
    painter = Client(
        place.ledger,
        crowd.painter,
        fate,
        life=life,
        clock=lambda: limner.alarm.clock(),
        reach=_pass,
        painting_s=lambda number: random.Random(number).uniform(0, LONGEST_PAINTING_S),
    )
    clicked = clicked_in(place.journal)
    async with SQLiteMessageStore(place.messages) as messages:
        limner = Limner(
            painter,
            store=messages,
            images=FolderImageStore(place.images, ADDRESS),
            journal=place.journal,
            debounce_ms=DEBOUNCE_MS,
            backoff_ms=BACKOFF_MS,
            shutdown_timeout_ms=0,
        )
        async with limner, anyio.create_task_group() as tasks:
            add_row(place.recovered, [life])
            for script in crowd.scripts:
                host = Host(script, PACE, clicked, limner, messages, messages, place.told, _pass)
                tasks.start_soon(host.play)


def _pass(_: str) -> None:
    """Nobody counts points in real time."""
