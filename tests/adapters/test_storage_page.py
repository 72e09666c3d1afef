"""The message store that docs/storage.md shows does what the page says."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from limner.errors import MessageGone, VersionConflict
from limner.workflows.ports import MessageStore

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[2] / "docs" / "storage.md"


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE chat (id TEXT PRIMARY KEY, body TEXT, revision INTEGER)")
    yield connection
    connection.close()


@pytest.fixture
def store(connection: sqlite3.Connection) -> MessageStore:
    (example,) = re.findall(r"```python\n(.*?class ChatTable.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    made: MessageStore = names["ChatTable"](connection)
    return made


async def test_the_example_writes_only_over_the_version_that_was_read(store):
    assert await store.read("m") is None
    first = await store.write("m", "one", expected=None)
    with pytest.raises(VersionConflict):
        await store.write("m", "again", expected=None)
    second = await store.write("m", "two", expected=first)
    with pytest.raises(VersionConflict):
        await store.write("m", "three", expected=first)
    stored = await store.read("m")
    assert stored is not None
    assert (stored.text, stored.version) == ("two", second)


async def test_the_example_tells_a_message_that_is_gone(store, connection):
    version = await store.write("m", "one", expected=None)
    connection.execute("DELETE FROM chat")
    with pytest.raises(MessageGone):
        await store.write("m", "two", expected=version)
