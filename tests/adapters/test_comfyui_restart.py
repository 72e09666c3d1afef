"""A process that dies while ComfyUI paints for it: the next one waits for the same job."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

import pytest

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
