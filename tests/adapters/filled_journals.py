"""Journals with real sessions in them: events go through the machines, and what comes of them is appended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import anyio

from limner.adapters.journal_sqlite import SQLiteJournal
from limner.states import (
    TIME_PASSED,
    CancelRequested,
    Event,
    FoundPrompt,
    GenerationAccepted,
    GenerationFailed,
    GenerationStarted,
    GenerationSucceeded,
    Image,
    InsertionWritten,
    PlacedImage,
    Problem,
    PromptFound,
    RegenerationRequested,
    Session,
    SessionSettings,
    StreamEnded,
    StreamStarted,
    is_final,
)
from limner.states.message import Opening, deliver
from limner.workflows.ports import JournalRecord
from limner.workflows.prompts import prompt_id

START = 1_700_000_000_000

ODD = 'two\nlines, a NUL \0, half a pair \ud83d, a fox 🦊, "quoted", \x1b[31mred\x07'


class Play:
    """Messages whose events are handled as an engine does, with times and session ids that are known.

    `records` is what has to be appended; `now` moves on by a millisecond with each event.
    """

    def __init__(self, now: int = START) -> None:
        self.now = now
        self.records: list[JournalRecord] = []
        self.everything: list[JournalRecord] = []
        self.live: dict[str, Session] = {}
        self.opened = 0

    @property
    def sessions(self) -> dict[str, Session]:
        """Every session as it is after its last event."""
        return {record.session.id: record.session for record in self.everything}

    def happen(self, message_id: str, *events: Event) -> Session:
        """Handle events of one message, in order."""
        for event in events:
            self.now += 1
            self.opened += 1
            opening = Opening(f"{self.opened:08x}feed", message_id, SessionSettings(max_attempts=2))
            before = self.live.get(message_id)
            for step in deliver(before, event, self.now, opening):
                known = before if before is not None and before.id == step.session.id else None
                self.records.append(JournalRecord(step.session, step.event, self.now, known))
                self.everything.append(self.records[-1])
                before = step.session
            assert before is not None
            self.live[message_id] = before
            if is_final(before):
                del self.live[message_id]
        return self.everything[-1].session

    def find(self, message_id: str, texts: Sequence[str]) -> tuple[FoundPrompt, ...]:
        """Stream a message with these prompts; none is painted yet."""
        found = tuple(FoundPrompt(prompt_id(message_id, text, n), text, n) for n, text in enumerate(texts))
        self.happen(message_id, StreamStarted(), *map(PromptFound, found), StreamEnded(found))
        return found

    def paint(self, message_id: str, painted: str) -> str:
        """Paint one of its prompts; return the image's address."""
        url = f"https://images.test/{painted}.png"
        image = Image(url, width=8, height=8, size=99)
        self.happen(
            message_id,
            GenerationStarted(painted),
            GenerationAccepted(painted, f"job of {painted}"),
            GenerationSucceeded(painted, image),
        )
        return url

    def fail(self, message_id: str, failed: str, message: str = "no such model") -> None:
        """Fail to paint one of its prompts, for good."""
        problem = Problem("bad_request", message)
        self.happen(message_id, GenerationStarted(failed), GenerationFailed(failed, problem))

    def write(self, message_id: str) -> Session:
        """Say that what is completed was written."""
        session = self.live[message_id]
        placed = tuple(
            PlacedImage(prompt.id, prompt.image.url, prompt.target_url)
            for prompt in session.prompts.values()
            if prompt.image is not None
        )
        return self.happen(message_id, InsertionWritten(placed))

    def illustrate(self, message_id: str, texts: Sequence[str]) -> Session:
        """A whole session of a message, from the stream to the write."""
        for prompt in self.find(message_id, texts):
            self.paint(message_id, prompt.id)
        return self.write(message_id)

    def click(self, message_id: str, image_url: str, text: str) -> Session:
        """A click on an image, two quiet seconds, a new image, and its write."""
        session = self.happen(message_id, RegenerationRequested("node", text, 0, image_url))
        self.paint(message_id, next(iter(session.prompts)))
        self.now += 2_000
        self.happen(message_id, TIME_PASSED)
        return self.write(message_id)

    def cancel(self, message_id: str, reason: str = "enough") -> Session:
        """Cancel its session."""
        return self.happen(message_id, CancelRequested(reason))


def some_of_everything(play: Play) -> None:
    """Ended and live sessions of every kind, with short and long and odd texts."""
    play.illustrate("story", ["a lighthouse at night", "a ship in a storm", "a cat, asleep"])
    play.click(
        "story", f"https://images.test/{prompt_id('story', 'a ship in a storm', 1)}.png", "a ship in a storm"
    )
    for prompt in play.find("unlucky", ["a fox", ODD]):
        play.fail("unlucky", prompt.id, f"refused: {ODD}")
    play.write("unlucky")
    play.find("cancelled", ["an owl"])
    play.cancel("cancelled", ODD)
    play.illustrate(ODD, [ODD, "plain"])
    play.illustrate("long", ["x" * 50_000 + " a very long prompt", "a short one"])
    play.illustrate("many", [f"picture number {n} of a long story" for n in range(300)])
    play.happen("empty", StreamStarted(), StreamEnded(()))
    play.happen("empty", InsertionWritten())
    play.find("painting", ["a horse", "a cow"])
    play.paint("painting", prompt_id("painting", "a horse", 0))
    play.happen("streaming", StreamStarted(), PromptFound(FoundPrompt("1f", "a tower", 0)))


async def append_all(journal: SQLiteJournal, play: Play, group: int = 7) -> None:
    """Append what has happened, a few records at a time, as they come."""
    records, play.records = play.records, []
    for start in range(0, len(records), group):
        await journal.append(records[start : start + group])


def make_journal(
    path: Path, what: Callable[[Play], None] = some_of_everything, play: Play | None = None
) -> Play:
    """A journal that was closed as it should be; also adds to one that is there."""
    made = play or Play()
    what(made)

    async def write() -> None:
        journal = SQLiteJournal(path, durability="process-death")
        await journal.open()
        await append_all(journal, made)
        await journal.aclose()

    anyio.run(write)
    return made
