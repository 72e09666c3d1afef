"""A job that a process left at a backend is taken up by the next process, over real HTTP."""

from __future__ import annotations

import base64
import io
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, closing
from pathlib import Path

import anyio
import pytest
from PIL import Image

from limner.adapters.horde import HordeGenerator
from limner.adapters.image_folder import FolderImageStore
from limner.adapters.journal_memory import MemoryJournal
from limner.adapters.limner import Limner
from limner.adapters.message_memory import MemoryMessageStore
from limner.text import find_images
from tests.adapters.servers.horde import API, HordeServer
from tests.adapters.servers.local import PATIENCE_S, WebServer

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def running_web_server() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.close()


@pytest.fixture
def web(running_web_server: WebServer) -> Iterator[WebServer]:
    running_web_server.reset()
    yield running_web_server
    running_web_server.reset()


@pytest.fixture
def server(web: WebServer) -> HordeServer:
    file = io.BytesIO()
    Image.new("RGB", (8, 6), (200, 40, 40)).save(file, "PNG")
    server = HordeServer(web, base64.b64encode(file.getvalue()).decode())
    server.endless = True
    return server


@asynccontextmanager
async def process(
    url: str, store: MemoryMessageStore, folder: Path, journal: str = "first.sqlite3"
) -> AsyncIterator[Limner]:
    """A Limner as one process would have it, on what the process before left."""
    images = FolderImageStore(folder / "images")
    async with aclosing(HordeGenerator(url, poll_interval_ms=0, submit_interval_ms=0)) as generator:
        limner = Limner(
            generator,
            store=store,
            images=images,
            journal=folder / journal,
            shutdown_timeout_ms=0,
            backoff_ms=1,
        )
        async with limner:
            yield limner


def copy_with_job(journal: Path, to: Path) -> bool:
    """Copy the journal, as a killed process would leave it, and say whether a job's id is in it."""
    with closing(sqlite3.connect(journal)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)
    return b"0000-0" in to.read_bytes()


async def copied(journal: Path, to: Path) -> None:
    with anyio.fail_after(PATIENCE_S):
        while not copy_with_job(journal, to):
            await anyio.lowlevel.checkpoint()


async def begun(web: WebServer, server: HordeServer, folder: Path) -> MemoryMessageStore:
    """One message with one prompt, whose image a process has asked for before it was killed."""
    text = 'Look: <!--img-prompt="a fox"-->'
    store = MemoryMessageStore({"m": text})
    async with process(web.url, store, folder) as limner:
        await limner.seal("m")
        await copied(folder / "first.sqlite3", folder / "second.sqlite3")
    # What the first process did after the copy, a killed one would not have done.
    for job in server.jobs.values():
        job.withdrawn = False
    web.received.clear()
    return store


async def test_a_job_is_asked_for_by_its_id_instead_of_being_paid_for_again(web, server, tmp_path):
    store = await begun(web, server, tmp_path)
    server.endless = False
    async with process(web.url, store, tmp_path, "second.sqlite3") as limner:
        result = await limner.finished("m")
    assert len(result.placed) == 1
    message = await store.read("m")
    assert message is not None
    assert len(find_images(message.text)) == 1
    assert [got.path for got in web.received if got.method == "POST"] == []
    assert len(server.jobs) == 1


async def test_a_job_that_the_backend_has_lost_meanwhile_is_begun_anew(web, server, tmp_path):
    store = await begun(web, server, tmp_path)
    server.jobs.clear()
    server.endless = False
    async with process(web.url, store, tmp_path, "second.sqlite3") as limner:
        with anyio.fail_after(PATIENCE_S):
            result = await limner.finished("m")
    assert len(result.placed) == 1
    assert [got.path for got in web.received if got.method == "POST"] == [f"{API}async"]


async def test_leaving_the_block_leaves_the_job_to_the_next_process(web, server, tmp_path):
    store = MemoryMessageStore({"m": '<!--img-prompt="a fox"-->'})
    async with process(web.url, store, tmp_path) as limner:
        await limner.seal("m")
        await copied(tmp_path / "first.sqlite3", tmp_path / "unused.sqlite3")
    assert not server.withdrawn.is_set()
    server.endless = False
    async with process(web.url, store, tmp_path) as limner:
        with anyio.fail_after(PATIENCE_S):
            result = await limner.finished("m")
    assert len(result.placed) == 1
    assert len(server.jobs) == 1


async def test_a_job_that_nobody_wants_any_more_is_withdrawn(web, server, tmp_path):
    store = MemoryMessageStore({"m": '<!--img-prompt="a fox"-->'})
    async with process(web.url, store, tmp_path) as limner:
        await limner.seal("m")
        await copied(tmp_path / "first.sqlite3", tmp_path / "unused.sqlite3")
        await limner.cancel("m")
        with anyio.fail_after(PATIENCE_S):
            while not server.withdrawn.is_set():
                await anyio.lowlevel.checkpoint()


async def test_where_no_journal_outlives_the_process_nothing_is_left_to_a_next_one(web, server, tmp_path):
    store = MemoryMessageStore({"m": '<!--img-prompt="a fox"-->'})
    async with aclosing(HordeGenerator(web.url, poll_interval_ms=0, submit_interval_ms=0)) as generator:
        limner = Limner(
            generator,
            store=store,
            images=FolderImageStore(tmp_path),
            journal=MemoryJournal(),
            shutdown_timeout_ms=0,
        )
        async with limner:
            await limner.seal("m")
            with anyio.fail_after(PATIENCE_S):
                while not limner.sessions()[0].prompts[next(iter(limner.sessions()[0].prompts))].job_id:
                    await anyio.lowlevel.checkpoint()
    assert server.withdrawn.is_set()
