"""A chat server is killed while it paints, and the next process finishes what it had promised.

Run it: `.venv/bin/python examples/restart.py`. It starts itself twice on one folder; the first is ended by
`kill -9`, when one of two pictures is finished.
"""

import os
import signal
import subprocess
import sys
import tempfile

import anyio

from limner import Limner, PromptProgress
from limner.adapters.sketch import SketchGenerator

REPLY = """Two views: <!--img-prompt="a lighthouse at night, rain"-->
and <!--img-prompt="the same lighthouse at dawn"-->
"""


async def serve(folder: str, doomed: bool) -> None:
    """One process's life; a doomed one ends when its first picture is finished."""
    painter = SketchGenerator(steps=8, step_ms=30)
    # One picture at a time, so that one is finished and one is not when the end comes.
    async with Limner(painter, data_dir=folder, profile="markdown", max_concurrent=1) as limner:
        left = limner.recovered
        print(f"  taken up from the journal: {len(left.resumed)} session(s)")
        if doomed:
            async for _ in limner.illustrate("reply-1", [REPLY]):
                pass
        painted: set[str] = set()
        async for event in limner.events("reply-1"):
            if not isinstance(event, PromptProgress):
                continue
            if event.state == "generating" and event.prompt_id not in painted:
                painted.add(event.prompt_id)
                print(f"  paints: {event.prompt}", flush=True)
            if event.state == "completed":
                when = "finished" if event.prompt_id in painted else "was finished before"
                print(f"  {when}: {event.prompt}", flush=True)
                if doomed:
                    os.kill(os.getpid(), signal.SIGKILL)
        result = await limner.finished("reply-1")
        stored = await limner.store.read("reply-1")
        assert stored is not None
        print(f"  {result.state}: {len(result.placed)} of 2 pictures placed, in one write\n\n{stored.text}")


def main() -> None:
    """Run the two processes, or, as one of them, serve."""
    if len(sys.argv) == 3:
        anyio.run(serve, sys.argv[2], sys.argv[1] == "doomed")
        return
    with tempfile.TemporaryDirectory() as folder:
        print("the first process", flush=True)
        subprocess.run([sys.executable, __file__, "doomed", folder], check=False)
        print("killed. The next process", flush=True)
        subprocess.run([sys.executable, __file__, "next", folder], check=True)


if __name__ == "__main__":
    main()
