"""What every message store keeps to, whatever is behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from limner.adapters.message_callbacks import CallbackMessageStore
from limner.adapters.message_memory import MemoryMessageStore
from limner.adapters.message_sqlite import SQLiteMessageStore
from limner.errors import MessageGone, StorageError, VersionConflict
from limner.workflows.ports import MessageStore

pytestmark = pytest.mark.anyio

NASTY_TEXTS = [
    "",
    "\x00 in \x00",
    "\ud800 half \udfff",
    "🐉\u202e\ufeff",
    "'; DROP TABLE x; --",
    "é" * 500_000,
]


class Harness:
    """A store, and a way to delete a message behind its back."""

    def __init__(
        self, store: MessageStore, host: MemoryMessageStore | SQLiteMessageStore | dict[str, str]
    ) -> None:
        self.store = store
        self._host = host

    async def delete(self, message_id: str) -> None:
        if isinstance(self._host, dict):
            del self._host[message_id]
        else:
            assert await self._host.delete(message_id)


def callback_store(texts: dict[str, str]) -> CallbackMessageStore:
    async def read(message_id: str) -> str | None:
        await anyio.lowlevel.checkpoint()
        return texts.get(message_id)

    async def write(message_id: str, text: str) -> None:
        await anyio.lowlevel.checkpoint()
        texts[message_id] = text

    return CallbackMessageStore(read=read, write=write)


@pytest.fixture(params=["memory", "sqlite", "callbacks"])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
    if request.param == "memory":
        memory = MemoryMessageStore()
        yield Harness(memory, memory)
    elif request.param == "sqlite":
        async with SQLiteMessageStore(tmp_path / "messages.db") as sqlite:
            yield Harness(sqlite, sqlite)
    else:
        texts: dict[str, str] = {}
        yield Harness(callback_store(texts), texts)


async def test_a_message_that_was_never_written_is_not_there(harness):
    assert await harness.store.read("m") is None


@pytest.mark.parametrize("text", NASTY_TEXTS, ids=range(len(NASTY_TEXTS)))
async def test_every_text_comes_back_as_it_went_in(harness, text):
    message_id = f"id {text[:20]}"
    version = await harness.store.write(message_id, text, expected=None)
    stored = await harness.store.read(message_id)
    assert (stored.text, stored.version) == (text, version)


async def test_a_write_with_the_present_version_succeeds_and_changes_it(harness):
    first = await harness.store.write("m", "one", expected=None)
    second = await harness.store.write("m", "two", expected=first)
    assert first != second
    stored = await harness.store.read("m")
    assert (stored.text, stored.version) == ("two", second)


async def test_a_write_with_an_old_version_is_refused_and_writes_nothing(harness):
    first = await harness.store.write("m", "one", expected=None)
    await harness.store.write("m", "two", expected=first)
    with pytest.raises(VersionConflict, match="changed by someone else"):
        await harness.store.write("m", "three", expected=first)
    assert (await harness.store.read("m")).text == "two"


async def test_a_message_that_exists_cannot_be_created(harness):
    await harness.store.write("m", "one", expected=None)
    with pytest.raises(VersionConflict, match="exists already"):
        await harness.store.write("m", "two", expected=None)
    assert (await harness.store.read("m")).text == "one"


async def test_a_message_that_was_deleted_is_gone_and_stays_so(harness):
    version = await harness.store.write("m", "one", expected=None)
    await harness.delete("m")
    with pytest.raises(MessageGone):
        await harness.store.write("m", "two", expected=version)
    assert await harness.store.read("m") is None


async def test_a_deleted_message_can_be_created_again(harness):
    await harness.store.write("m", "one", expected=None)
    await harness.delete("m")
    await harness.store.write("m", "two", expected=None)
    assert (await harness.store.read("m")).text == "two"


async def test_of_many_writers_with_one_version_exactly_one_succeeds(harness):
    version = await harness.store.write("m", "start", expected=None)
    outcomes: list[str] = []

    async def write(name: str) -> None:
        try:
            await harness.store.write("m", name, expected=version)
        except VersionConflict:
            outcomes.append("refused")
        else:
            outcomes.append(name)

    async with anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(write, f"writer {number}")
    assert outcomes.count("refused") == 9
    (winner,) = set(outcomes) - {"refused"}
    assert (await harness.store.read("m")).text == winner


async def test_messages_do_not_touch_each_other(harness):
    versions = {name: await harness.store.write(name, name, expected=None) for name in ("a", "b")}
    await harness.store.write("a", "changed", expected=versions["a"])
    stored = await harness.store.read("b")
    assert (stored.text, stored.version) == ("b", versions["b"])


# --- what the stores have besides


async def test_the_memory_store_begins_with_given_messages_and_counts_writes():
    store = MemoryMessageStore({"m": "text"})
    stored = await store.read("m")
    assert stored is not None
    assert store.writes == 0
    await store.write("m", "new", expected=stored.version)
    with pytest.raises(VersionConflict):
        await store.write("m", "newer", expected=stored.version)
    assert store.writes == 1
    assert await store.delete("m") is True
    assert await store.delete("m") is False
    await store.aclose()


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_version_is_never_given_out_twice_not_even_after_a_deletion(kind, tmp_path):
    store = MemoryMessageStore() if kind == "memory" else SQLiteMessageStore(tmp_path / "db")
    first = await store.write("m", "one", expected=None)
    await store.delete("m")
    second = await store.write("m", "one", expected=None)
    await store.aclose()
    assert first != second


async def test_a_version_made_of_text_is_the_same_for_the_same_text():
    store = callback_store(texts := {"m": "one"})
    first = await store.read("m")
    texts["m"] = "two"
    texts["m"] = "one"
    assert await store.read("m") == first


@pytest.mark.parametrize("verb", ["read", "write"])
async def test_what_a_callback_raises_is_a_storage_error(verb):
    async def broken(*_: str) -> str | None:
        raise RuntimeError("the\nhost is down")

    async def nothing(*_: str) -> str | None:
        return None

    store = CallbackMessageStore(
        read=broken if verb == "read" else nothing, write=broken if verb == "write" else nothing
    )
    with pytest.raises(StorageError, match=f"could not {verb} message 'm': the host is down"):
        await store.write("m", "text", expected=None)


async def test_a_callback_may_raise_a_typed_error_of_its_own():
    async def gone(_: str) -> str | None:
        raise MessageGone("moved to the archive")

    async def unused(*_: str) -> None: ...

    with pytest.raises(MessageGone, match="archive"):
        await CallbackMessageStore(read=gone, write=unused).read("m")


async def test_the_callbacks_may_be_plain_functions():
    texts = {"m": "old"}
    store = CallbackMessageStore(read=texts.get, write=texts.__setitem__)
    stored = await store.read("m")
    assert stored is not None
    await store.write("m", "new", expected=stored.version)
    assert texts == {"m": "new"}


async def test_a_callback_that_reads_no_text_is_named():
    store = CallbackMessageStore(read=lambda message_id: b"bytes", write=lambda *_: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(StorageError, match="could not read message 'm': got bytes"):
        await store.read("m")
