"""A process that ends while ComfyUI paints for it, killed or in order: the next waits for the same job."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from itertools import takewhile
from pathlib import Path

import anyio
import pytest

from limner.adapters.comfyui import ComfyUIGenerator
from limner.adapters.image_folder import FolderImageStore
from limner.adapters.journal_memory import MemoryJournal
from limner.adapters.limner import Limner
from limner.adapters.message_memory import MemoryMessageStore
from limner.workflows.ports import Journal
from tests.adapters.servers.comfyui import WORKFLOW, ComfyServer
from tests.adapters.servers.local import PATIENCE_S

PROCESS = """
import sys
import anyio
from limner.adapters.comfyui import ComfyUIGenerator
from limner.adapters.limner import Limner

def job_is_noted(limner):
    return any(prompt.job_id for session in limner.sessions() for prompt in session.prompts.values())

async def main(url, folder, text):
    generator = ComfyUIGenerator(url, f"{folder}/flow.json")
    async with Limner(generator, data_dir=folder) as limner:
        if text:
            async for _ in limner.illustrate("message", text):
                pass
        while not job_is_noted(limner):
            await anyio.sleep(0.01)
        print("noted", flush=True)
        result = await limner.finished("message")
        print(result.state, len(result.placed), flush=True)
        print((await limner.store.read("message")).text, flush=True)
    await generator.aclose()

anyio.run(main, *sys.argv[2:], backend=sys.argv[1])
"""


@contextmanager
def process(
    backend: str, server: ComfyServer, folder: Path, text: str = ""
) -> Iterator[subprocess.Popen[str]]:
    """A process that has written down the id of its job; it is dead in the end."""
    arguments = [sys.executable, "-c", PROCESS, backend, server.url, str(folder), text]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        assert child.stdout is not None
        try:
            lines = list(takewhile(lambda line: line != "noted\n", child.stdout))
            assert child.poll() is None, "".join(lines)
            yield child
        finally:
            child.kill()


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize(("before", "after"), [("asyncio", "trio"), ("trio", "asyncio")])
def test_a_job_outlives_the_process_that_queued_it(is_new, before, after, comfy, tmp_path):
    (tmp_path / "flow.json").write_text(json.dumps(WORKFLOW))
    comfy.is_new = is_new
    comfy.hold_at = "sampling"
    with process(before, comfy, tmp_path, 'A tale. <img_prompt="a fox"> The end.'):
        assert comfy.reached.wait(PATIENCE_S)
    with process(after, comfy, tmp_path) as child:
        comfy.release()
        told, _ = child.communicate(timeout=PATIENCE_S)
    assert "\ndone 1\n" in f"\n{told}"
    assert told.count("<img ") == 1
    assert len(comfy.asked("/prompt")) == 1
    assert comfy.interrupted == []


@asynccontextmanager
async def block(
    server: ComfyServer, store: MemoryMessageStore, folder: Path, journal: Path | Journal
) -> AsyncIterator[Limner]:
    """Limner's block as one process would have it; leaving it waits for no image."""
    async with aclosing(ComfyUIGenerator(server.url, WORKFLOW, poll_interval_ms=1)) as generator:
        limner = Limner(
            generator, store=store, images=FolderImageStore(folder), journal=journal, shutdown_timeout_ms=0
        )
        with anyio.fail_after(PATIENCE_S):
            async with limner:
                yield limner


async def job_noted(limner: Limner) -> None:
    while not any(prompt.job_id for session in limner.sessions() for prompt in session.prompts.values()):
        await anyio.lowlevel.checkpoint()


@pytest.fixture
def store() -> MemoryMessageStore:
    return MemoryMessageStore({"m": '<!--img-prompt="a fox"-->'})


@pytest.mark.anyio
@pytest.mark.parametrize("place", ["queue", "sampling"])
async def test_leaving_the_block_leaves_the_job_to_the_next_process(place, comfy, store, tmp_path):
    journal = tmp_path / "journal.sqlite3"
    comfy.hold_at = place
    async with block(comfy, store, tmp_path, journal) as limner:
        await limner.seal("m")
        await job_noted(limner)
        await comfy.until(comfy.reached.is_set)
    comfy.release()
    async with block(comfy, store, tmp_path, journal) as limner:
        result = await limner.finished("m")
    assert len(result.placed) == 1
    assert len(comfy.asked("/prompt")) == 1
    assert comfy.interrupted == []


@pytest.mark.anyio
async def test_a_job_that_is_cancelled_by_its_user_is_stopped(comfy, store, tmp_path):
    comfy.hold_at = "sampling"
    async with block(comfy, store, tmp_path, tmp_path / "journal.sqlite3") as limner:
        await limner.seal("m")
        await job_noted(limner)
        await comfy.until(comfy.reached.is_set)
        await limner.cancel("m")
        await comfy.until(lambda: bool(comfy.interrupted))


@pytest.mark.anyio
async def test_where_no_journal_outlives_the_process_the_job_is_stopped(comfy, store, tmp_path):
    comfy.hold_at = "sampling"
    async with block(comfy, store, tmp_path, MemoryJournal()) as limner:
        await limner.seal("m")
        await job_noted(limner)
        await comfy.until(comfy.reached.is_set)
    assert len(comfy.interrupted) == 1
