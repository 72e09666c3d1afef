"""A process that ends while ComfyUI paints for it, killed or in order: the next waits for the same job."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from itertools import takewhile
from pathlib import Path

import anyio
import pytest

from limner.adapters.comfyui import ComfyUIGenerator
from limner.adapters.image_folder import FolderImageStore
from limner.adapters.journal_memory import MemoryJournal
from limner.adapters.journal_sqlite import SQLiteJournal
from limner.adapters.limner import Limner
from limner.adapters.message_memory import MemoryMessageStore
from limner.workflows.ports import Journal, JournalRecord
from tests.adapters.servers.comfyui import WORKFLOW, ComfyServer
from tests.adapters.servers.local import PATIENCE_S

PROCESS = """
import sys
import anyio
from limner.adapters.comfyui import ComfyUIGenerator
from limner.adapters.journal_sqlite import SQLiteJournal
from limner.adapters.limner import Limner

class Journal(SQLiteJournal):
    async def append(self, records):
        has_job = any(prompt.job_id for record in records for prompt in record.session.prompts.values())
        if has_job and until == "accepted":
            print("accepted", flush=True)
            await anyio.sleep_forever()
        await super().append(records)
        if has_job and until == "noted":
            print("noted", flush=True)

async def main(url, folder, text):
    generator = ComfyUIGenerator(url, f"{folder}/flow.json")
    journal = Journal(f"{folder}/journal.sqlite3")
    async with Limner(generator, data_dir=folder, journal=journal, backoff_ms=1) as limner:
        print("begun", flush=True)
        if text:
            async for _ in limner.illustrate("message", text):
                pass
        result = await limner.finished("message")
        print(result.state, len(result.placed), flush=True)
        print((await limner.store.read("message")).text, flush=True)
    await generator.aclose()

backend, until, *rest = sys.argv[1:]
anyio.run(main, *rest, backend=backend)
"""


TEXT = 'A tale. <img_prompt="a fox"> The end.'


@contextmanager
def process(
    backend: str, server: ComfyServer, folder: Path, until: str, text: str = ""
) -> Iterator[subprocess.Popen[str]]:
    """A process that has come as far as `until`; it is dead in the end.

    "begun": Limner runs. "accepted": the server has answered with the job's id, which never gets into the
    journal. "noted": the id is in the journal. (Limner's own sessions have it a little before that.)
    """
    arguments = [sys.executable, "-c", PROCESS, backend, until, server.url, str(folder), text]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        assert child.stdout is not None
        try:
            lines = list(takewhile(lambda line: line != f"{until}\n", child.stdout))
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
    with process(before, comfy, tmp_path, "noted", TEXT):
        assert comfy.reached.wait(PATIENCE_S)
    with process(after, comfy, tmp_path, "begun") as child:
        comfy.release()
        told, _ = child.communicate(timeout=PATIENCE_S)
    assert "\ndone 1\n" in f"\n{told}"
    assert told.count("<img ") == 1
    assert len(comfy.asked("/prompt")) == 1
    assert comfy.interrupted == []


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(("gives_again", "painted"), [(True, 1), (False, 2)])
@pytest.mark.parametrize("is_new", [True, False])
def test_a_process_that_is_killed_before_its_jobs_id_is_written_down_costs_no_image(
    is_new, gives_again, painted, backend, comfy, tmp_path
):
    # Nobody knows the job any more, and the same prompt with the same seed is sent once more.
    (tmp_path / "flow.json").write_text(json.dumps(WORKFLOW))
    comfy.is_new, comfy.gives_again = is_new, gives_again
    comfy.hold_at = "sampling"
    with process(backend, comfy, tmp_path, "accepted", TEXT):
        assert comfy.reached.wait(PATIENCE_S)
    comfy.release()
    with process(backend, comfy, tmp_path, "begun") as child:
        told, _ = child.communicate(timeout=PATIENCE_S)
    assert "\ndone 1\n" in f"\n{told}"
    assert told.count("<img ") == 1
    first, again, *_ = comfy.asked("/prompt")
    assert first["prompt"] == again["prompt"]
    assert len(comfy.files) == painted


@asynccontextmanager
async def block(
    server: ComfyServer, store: MemoryMessageStore, folder: Path, journal: Journal
) -> AsyncIterator[Limner]:
    """Limner's block as one process would have it; leaving it waits for no image."""
    async with aclosing(ComfyUIGenerator(server.url, WORKFLOW, poll_interval_ms=1)) as generator:
        limner = Limner(
            generator, store=store, images=FolderImageStore(folder), journal=journal, shutdown_timeout_ms=0
        )
        with anyio.fail_after(PATIENCE_S):
            async with limner:
                yield limner


class TellingJournal(SQLiteJournal):
    """Tells when the id of a job is in it. Limner's own sessions have it a little before that."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "journal.sqlite3")
        self.job_noted = anyio.Event()

    async def append(self, records: Sequence[JournalRecord]) -> None:
        await super().append(records)
        if has_job(records):
            self.job_noted.set()


def has_job(records: Sequence[JournalRecord]) -> bool:
    return any(prompt.job_id for record in records for prompt in record.session.prompts.values())


async def job_begun(server: ComfyServer, limner: Limner) -> None:
    """Wait until the server works and Limner has its answer."""
    await server.until(server.reached.is_set)
    while not any(prompt.job_id for session in limner.sessions() for prompt in session.prompts.values()):
        await anyio.lowlevel.checkpoint()


@pytest.fixture
def store() -> MemoryMessageStore:
    return MemoryMessageStore({"m": '<!--img-prompt="a fox"-->'})


@pytest.mark.anyio
@pytest.mark.parametrize("place", ["queue", "sampling"])
async def test_leaving_the_block_leaves_the_job_to_the_next_process(place, comfy, store, tmp_path):
    journal = TellingJournal(tmp_path)
    comfy.hold_at = place
    async with block(comfy, store, tmp_path, journal) as limner:
        await limner.seal("m")
        await journal.job_noted.wait()
        await comfy.until(comfy.reached.is_set)
    comfy.release()
    async with block(comfy, store, tmp_path, SQLiteJournal(journal.path)) as limner:
        result = await limner.finished("m")
    assert len(result.placed) == 1
    assert len(comfy.asked("/prompt")) == 1
    assert comfy.interrupted == []


@pytest.mark.anyio
async def test_a_job_whose_id_does_not_get_into_the_journal_is_stopped_and_painted_by_the_next_process(
    comfy, store, tmp_path
):
    class Slow(SQLiteJournal):
        async def append(self, records: Sequence[JournalRecord]) -> None:
            if has_job(records):
                asked.set()
                await anyio.sleep_forever()
            await super().append(records)

    asked = anyio.Event()
    journal = Slow(tmp_path / "journal.sqlite3")
    comfy.hold_at = "queue"
    async with block(comfy, store, tmp_path, journal) as limner:
        await limner.seal("m")
        await asked.wait()
    assert comfy.queue == []
    comfy.release()
    async with block(comfy, store, tmp_path, SQLiteJournal(journal.path)) as limner:
        result = await limner.finished("m")
    assert len(result.placed) == 1
    assert len(comfy.asked("/prompt")) == 2


@pytest.mark.anyio
async def test_a_job_that_is_cancelled_by_its_user_is_stopped(comfy, store, tmp_path):
    comfy.hold_at = "sampling"
    async with block(comfy, store, tmp_path, SQLiteJournal(tmp_path / "journal.sqlite3")) as limner:
        await limner.seal("m")
        await job_begun(comfy, limner)
        await limner.cancel("m")
        await comfy.until(lambda: bool(comfy.interrupted))


@pytest.mark.anyio
async def test_where_no_journal_outlives_the_process_the_job_is_stopped(comfy, store, tmp_path):
    comfy.hold_at = "sampling"
    async with block(comfy, store, tmp_path, MemoryJournal()) as limner:
        await limner.seal("m")
        await job_begun(comfy, limner)
    assert len(comfy.interrupted) == 1
