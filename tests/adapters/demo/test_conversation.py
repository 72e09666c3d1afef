"""What was said stays: after a restart, with what became of each reply."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

from limner.adapters.demo.conversation import Conversation, Trouble
from limner.errors import StorageError

pytestmark = pytest.mark.anyio


async def loaded(path) -> Conversation:
    conversation = Conversation(path)
    await conversation.load()
    return conversation


@pytest.fixture
async def conversation(tmp_path):
    return await loaded(tmp_path / "new" / "chat.sqlite3")


async def test_a_conversation_is_found_again_in_its_order(conversation, tmp_path):
    said = await conversation.add("said", "a line\nof two")
    reply = await conversation.add("writing")
    await conversation.change(reply.id, "broken", Trouble("unavailable", "no answer", "Try again."))
    again = await loaded(tmp_path / "new" / "chat.sqlite3")
    assert [(entry.id, entry.state, entry.text) for entry in again.entries] == [
        (said.id, "said", "a line\nof two"),
        (reply.id, "broken", ""),
    ]
    assert again.entries[1].problem == Trouble("unavailable", "no answer", "Try again.")
    later = await again.add("said", "more")
    assert later.position > again.entries[1].position


async def test_a_reply_that_was_being_written_when_the_process_ended_is_interrupted(conversation, tmp_path):
    await conversation.add("writing")
    again = await loaded(tmp_path / "new" / "chat.sqlite3")
    assert [entry.state for entry in again.entries] == ["interrupted"]


async def test_every_change_has_a_newer_revision_and_wakes_who_waits(conversation):
    woken = 0

    async def wait() -> None:
        nonlocal woken
        await changed.wait()
        woken += 1

    revisions = [conversation.revision]
    changes: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: conversation.add("writing"),
        lambda: conversation.change(conversation.entries[0].id, "written"),
        lambda: conversation.drop(conversation.entries[0].id),
    )
    for change in changes:
        changed = conversation.changed
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await change()
        revisions.append(conversation.revision)
    assert woken == 3
    assert revisions == sorted(set(revisions))
    assert conversation.cleared_at == conversation.revision


async def test_a_conversation_that_was_cleared_is_empty_after_a_restart(conversation, tmp_path):
    await conversation.add("said", "a secret")
    gone = await conversation.clear()
    assert [entry.text for entry in gone] == ["a secret"]
    assert conversation.entries == []
    assert (await loaded(tmp_path / "new" / "chat.sqlite3")).entries == []


async def test_what_became_of_a_reply_that_is_gone_is_nobodys_business(conversation):
    await conversation.change("gone", "written")
    assert conversation.entries == []


async def test_a_file_that_is_no_database_is_a_storage_error(tmp_path):
    (tmp_path / "chat.sqlite3").write_text("no database, but long enough to be looked at" * 30)
    with pytest.raises(StorageError, match="not a database"):
        await loaded(tmp_path / "chat.sqlite3")


async def test_what_cannot_be_kept_is_not_there_and_blocks_nothing(conversation, tmp_path):
    said = await conversation.add("said", "a line")
    file = tmp_path / "new" / "chat.sqlite3"
    file.rename(tmp_path / "elsewhere")
    file.mkdir()
    with pytest.raises(StorageError):
        await conversation.add("writing")
    assert conversation.entries == [said]


async def test_what_became_of_a_reply_is_shown_also_where_it_cannot_be_kept(conversation, tmp_path):
    reply = await conversation.add("writing")
    file = tmp_path / "new" / "chat.sqlite3"
    file.rename(tmp_path / "elsewhere")
    file.mkdir()
    with pytest.raises(StorageError):
        await conversation.change(reply.id, "written")
    assert [entry.state for entry in conversation.entries] == ["written"]
