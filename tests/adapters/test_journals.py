"""What every journal promises its engine, whoever keeps it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from limner.adapters.journal_memory import MemoryJournal
from limner.adapters.journal_sqlite import Durability, SQLiteJournal
from limner.workflows.ports import Journal, JournalContents
from tests.adapters.lives import cancelled, finished, regenerated, streamed

pytestmark = pytest.mark.anyio

Reopen = Callable[[], Journal]


@pytest.fixture(params=["memory", "sqlite, power-loss", "sqlite, process-death"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Reopen:
    """Gives the same journal again, as the next process has it."""
    kind: str = request.param
    if kind == "memory":
        journal = MemoryJournal()
        return lambda: journal
    durability: Durability = "power-loss" if kind.endswith("loss") else "process-death"
    return lambda: SQLiteJournal(tmp_path / "new" / "journal.sqlite3", durability=durability)


async def contents_of(journal: Journal) -> JournalContents:
    """What the next process finds."""
    contents = await journal.open()
    await journal.aclose()
    return contents


async def test_a_new_journal_is_empty(reopen: Reopen):
    journal = reopen()
    assert await journal.open() == JournalContents()
    assert await journal.past_sessions("m") == []
    await journal.aclose()


async def test_live_sessions_come_back_as_they_were_and_in_the_order_in_which_they_began(reopen: Reopen):
    journal = reopen()
    await journal.open()
    lives = [streamed(f"s{number}", f"m{number}", start=number, prompts=number) for number in range(4)]
    for life in lives:
        await journal.append(life)
    await journal.aclose()
    contents = await contents_of(reopen())
    assert contents.live == tuple(life[-1].session for life in lives)
    for before, after in zip(lives, contents.live, strict=True):
        assert list(after.prompts) == list(before[-1].session.prompts), "the prompts' order"
    assert contents.ended == 0
    assert contents.last_event_at == 3 + 5


async def test_it_makes_no_difference_into_how_many_groups_the_records_are_split(reopen: Reopen):
    journal = reopen()
    await journal.open()
    life = streamed("one", "m1", prompts=3)
    await journal.append(life)
    for record in streamed("each", "m2", prompts=3):
        await journal.append([record])
    await journal.aclose()
    whole, split = (await contents_of(reopen())).live
    assert split.state == whole.state
    assert [prompt.state for prompt in split.prompts.values()] == [
        prompt.state for prompt in whole.prompts.values()
    ]
    assert split == streamed("each", "m2", prompts=3)[-1].session


async def test_records_of_many_sessions_may_be_mixed_in_one_group(reopen: Reopen):
    journal = reopen()
    await journal.open()
    lives = [streamed("a", "m1"), finished("b", "m2"), regenerated("c", "m3")]
    mixed = []
    while any(lives):
        mixed += [life.pop(0) for life in lives if life]
    await journal.append(mixed)
    await journal.aclose()
    journal = reopen()
    contents = await journal.open()
    assert [session.id for session in contents.live] == ["a"]
    assert contents.ended == 2
    assert await journal.past_sessions("m2") == [finished("b", "m2")[-1].session]
    await journal.aclose()


async def test_ended_sessions_are_not_live_and_are_found_by_their_message_oldest_first(reopen: Reopen):
    journal = reopen()
    await journal.open()
    lives = [finished("s1"), cancelled("s2", start=100), regenerated("s3", start=200)]
    for life in [*lives, streamed("s4", start=5_000), finished("x", "another")]:
        await journal.append(life)
    await journal.aclose()
    journal = reopen()
    contents = await journal.open()
    assert [session.id for session in contents.live] == ["s4"]
    assert contents.ended == 4
    assert list(await journal.past_sessions("m")) == [life[-1].session for life in lives]
    assert [session.id for session in await journal.past_sessions("another")] == ["x"]
    assert await journal.past_sessions("nobody") == []
    await journal.aclose()


@pytest.mark.parametrize("message_id", ["", "m'; DROP TABLE sessions;", "\x00", "half \ud83d", "%", "漢字"])
async def test_a_message_id_may_be_any_text(reopen: Reopen, message_id: str):
    journal = reopen()
    await journal.open()
    await journal.append(finished("s", message_id))
    assert [session.message_id for session in await journal.past_sessions(message_id)] == [message_id]
    await journal.aclose()


async def test_it_can_be_closed_twice_and_opened_again(reopen: Reopen):
    journal = reopen()
    await journal.open()
    await journal.append(streamed("s"))
    await journal.aclose()
    await journal.aclose()
    assert [session.id for session in (await journal.open()).live] == ["s"]
    await journal.append(finished("t", "other"))
    await journal.aclose()


async def test_to_append_nothing_is_no_fault(reopen: Reopen):
    journal = reopen()
    await journal.open()
    await journal.append([])
    assert (await journal.past_sessions("m")) == []
    await journal.aclose()


async def test_a_long_session_with_a_thousand_prompts_comes_back_whole(reopen: Reopen):
    journal = reopen()
    await journal.open()
    life = streamed("s", prompts=1_000)
    await journal.append(life)
    await journal.aclose()
    assert (await contents_of(reopen())).live == (life[-1].session,)
