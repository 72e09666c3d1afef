"""What was journaled, replayed, gives the same sessions again, event by event.

Random lives of two messages go through the real engine into a real journal, in groups and one by one, with
the process ending now and then, also with events in line that were never written down.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.abc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.adapters import journal_sqlite
from limner.adapters.journal_format import EVENTS
from limner.adapters.journal_sqlite import SQLiteJournal
from limner.adapters.local_engine import LocalEngine
from limner.errors import EventRefused
from limner.states import (
    CancelRequested,
    Event,
    FoundPrompt,
    GenerationAccepted,
    GenerationFailed,
    GenerationSucceeded,
    InsertionFailed,
    ProcessRestarted,
    PromptFound,
    RegenerationRequested,
    Session,
    SessionKind,
    SessionSettings,
    StreamEnded,
    TimePassed,
    handle,
)
from limner.states.exploration import events_for
from limner.states.message import Step, replay
from limner.workflows.clock import Alarm
from limner.workflows.ports import JournalRecord
from tests.crash.evidence import read_journal
from tests.journeys.seeded import threads_inline
from tests.states.scripts import GAPS, SETTINGS
from tests.support import ManualClock, quick_folder, settle

WORDS = st.one_of(
    st.sampled_from(
        ["", "\ud800", "half \udc00 a pair", "NUL \x00 in it", '"\'`\\"', "\n\r\u2028", "😀", "%s;--"]
    ),
    st.text(st.characters(), max_size=8),
)


class Turn(NamedTuple):
    """What the world does next: after `gap` ms, to one of two messages, one of the events that are possible.

    `word` stands in every text of the event. With `held` the journal lets nothing be written down meanwhile.
    """

    gap: int
    message: int
    choice: int
    word: str
    held: bool


TURNS = st.builds(Turn, GAPS, st.integers(0, 1), st.integers(0, 10**6), WORDS, st.booleans())


class HeldJournal(SQLiteJournal):
    """A journal that writes when it may."""

    held = False
    most_at_once = 0
    lost = 0

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._released = anyio.Event()

    async def append(self, records: Sequence[JournalRecord]) -> None:
        if self.held:
            self._released = anyio.Event()
            try:
                await self._released.wait()
            except anyio.get_cancelled_exc_class():
                self.lost += len(records)
                raise
        await super().append(records)
        self.most_at_once = max(self.most_at_once, len(records))

    def release(self) -> None:
        self.held = False
        self._released.set()


class Life:
    """Two messages over several processes, which share a journal's file and a clock."""

    def __init__(self, path: Path, session_settings: SessionSettings, names: tuple[str, str]) -> None:
        self.told: list[Step] = []
        self.processes = 0
        self.most_at_once = 0
        self.lost = 0
        self._path = path
        self._settings = session_settings
        self._messages = (f"m{names[0]}", f"n{names[1]}")
        self._clock = ManualClock(0)

    async def run(self, turns: Sequence[Turn]) -> None:
        """Take all turns, in as many processes as they want."""
        left = list(turns)
        while True:
            await self._process(left)
            if not left:
                return

    def committed(self, step: Step) -> None:
        self.told.append(step)

    async def _process(self, turns: list[Turn]) -> None:
        self.processes += 1
        journal = HeldJournal(self._path)
        alarm = Alarm(self._clock)
        engine = LocalEngine(journal, alarm, self._settings)
        await engine.open()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(engine.run, self)
            await engine.resume()
            self.check(engine)
            while turns:
                turn = turns.pop(0)
                self._clock.tick(turn.gap)
                alarm.ring()
                await settle()
                if turn.held:
                    journal.held = True
                else:
                    journal.release()
                message_id = self._messages[turn.message]
                event = chosen(engine.live_session(message_id), self._clock(), turn)
                if isinstance(event, ProcessRestarted):
                    break
                tasks.start_soon(self._post, engine, message_id, event)
                await settle()
                if not journal.held:
                    self.check(engine)
            tasks.cancel_scope.cancel()
        self.most_at_once = max(self.most_at_once, journal.most_at_once)
        self.lost += journal.lost
        await engine.aclose()

    async def _post(self, engine: LocalEngine, message_id: str, event: Event) -> None:
        with suppress(EventRefused):  # the senseless ones are among them
            await engine.post(message_id, event)

    def check(self, engine: LocalEngine) -> None:
        """Compare what is in the file, replayed, with what is stored there and with what was told."""
        with closing(sqlite3.connect(self._path)) as journal:
            sessions, events = read_journal(journal)
        for stored in sessions:
            opened = Session(stored.id, stored.message_id, stored.kind, stored.settings, stored.opened_at)
            rows = events[stored.id]
            replayed = list(replay(opened, ((row.event, row.at) for row in rows)))
            assert [row.event for row in rows] == [step.event for step in self.told_of(stored)]
            assert list(map(whole, replayed)) == [whole(step.session) for step in self.told_of(stored)]
            assert [row.state for row in rows] == [session.state for session in replayed]
            assert whole(replayed[-1]) == whole(stored)
        live = {session.id for session in engine.live_sessions()}
        assert live == {session.id for session in sessions if session.ended_at is None}

    def told_of(self, session: Session) -> list[Step]:
        """The committed steps of one session."""
        return [step for step in self.told if step.session.id == session.id]


def whole(session: Session) -> object:
    """A session, with the order of its prompts."""
    return session, list(session.prompts)


def chosen(live: Session | None, now: int, turn: Turn) -> Event:
    """An event that the world can bring to a message now, with the turn's word in its texts.

    Mostly one that is accepted and leads on, or a life would be over before anything has happened in it.
    """
    kind = list(SessionKind)[turn.choice % 2]
    session = live or Session("", "", kind, SessionSettings(), now)
    possible = list(events_for(session, 4))
    if turn.choice % 8:
        leading_on = [event for event in possible if leads_on(session, event, now)]
        possible = leading_on or possible
    return worded(possible[turn.choice // 8 % len(possible)], turn.word)


def leads_on(session: Session, event: Event, now: int) -> bool:
    """Whether the session accepts the event, and changes by it, without beginning anew."""
    if isinstance(event, (CancelRequested, ProcessRestarted)):
        return False
    try:
        after, _ = handle(session, event, now)
    except EventRefused:
        return False
    return after != session


def worded(event: Event, word: str) -> Event:
    """The event, with `word` in everything that is new in it and anybody's text."""
    match event:
        case PromptFound(prompt):
            return PromptFound(_worded(prompt, word))
        case StreamEnded(prompts):
            return StreamEnded(tuple(_worded(prompt, word) for prompt in prompts))
        case RegenerationRequested(target_url=str(target)) if target.startswith("old"):
            return replace(event, node_id=word, text=word, target_url=target + word)
        case GenerationAccepted(prompt_id, job_id):
            return GenerationAccepted(prompt_id, job_id + word)
        case GenerationSucceeded(prompt_id, image):
            return GenerationSucceeded(prompt_id, image._replace(url=image.url + word))
        case GenerationFailed(prompt_id, problem):
            return GenerationFailed(prompt_id, problem._replace(message=word))
        case InsertionFailed(problem):
            return InsertionFailed(problem._replace(message=word))
        case CancelRequested():
            return CancelRequested(word)
        case _:
            return event


def _worded(prompt: FoundPrompt, word: str) -> FoundPrompt:
    return prompt._replace(text=word) if prompt.text == "new" else prompt


def live(
    backend: str, turns: Sequence[Turn], session_settings: SessionSettings, names: tuple[str, str] = ("", "")
) -> Life:
    """Live it all, below a folder that is gone afterwards."""
    with quick_folder() as folder, threads_inline():
        life = Life(folder / "journal.sqlite3", session_settings, names)
        anyio.run(life.run, turns, backend=backend)
        return life


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=150, deadline=None)
@given(turns=st.lists(TURNS, max_size=40), chosen_settings=SETTINGS, names=st.tuples(WORDS, WORDS))
def test_replaying_a_journal_gives_the_same_sessions_event_by_event(
    backend: str, turns: list[Turn], chosen_settings: SessionSettings, names: tuple[str, str]
):
    live(backend, turns, chosen_settings, names)


def drawn_turns(seed: int) -> list[Turn]:
    """Forty turns as the strategy draws them, from dice instead of a search."""
    dice = random.Random(seed)
    gaps = [0, 0, 1, 999, 1_000, 2_000, 5_000, 120_000, 300_000]
    return [
        Turn(
            dice.choice(gaps),
            dice.randrange(2),
            dice.randrange(10**6),
            dice.choice('"\0x'),
            dice.random() < 0.3,
        )
        for _ in range(40)
    ]


def live_all(times: int) -> list[Life]:
    return [live("asyncio", drawn_turns(seed), SessionSettings()) for seed in range(times)]


def test_such_lives_have_everything_in_them():
    lives = live_all(60)
    told = {step.event.name for life in lives for step in life.told}
    assert told == set(EVENTS)
    assert max(life.processes for life in lives) > 1
    assert max(life.most_at_once for life in lives) > 2
    assert sum(life.lost for life in lives) > 2


@pytest.mark.parametrize("kind", [TimePassed, GenerationAccepted, ProcessRestarted])
def test_an_event_that_is_missing_in_a_journal_would_be_seen(
    kind: type[Event], monkeypatch: pytest.MonkeyPatch
):
    event_rows = journal_sqlite._event_rows

    def forgetful(
        records: Sequence[JournalRecord], numbers: dict[str, int]
    ) -> Iterator[tuple[int, str, int]]:
        return event_rows([record for record in records if not isinstance(record.event, kind)], numbers)

    monkeypatch.setattr(journal_sqlite, "_event_rows", forgetful)
    with pytest.RaisesGroup(AssertionError, flatten_subgroups=True):
        live_all(60)
