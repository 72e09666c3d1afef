"""Fakes and tools that tests of several parts share. Fakes keep real promises; nothing here is a mock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import sniffio
from PIL import Image as PillowImage

from limner.workflows.ports import Capabilities, GenerationRequest, ProgressCallback


def png(colour: int = 0) -> bytes:
    """A real, tiny picture; another colour gives other bytes."""
    buffer = BytesIO()
    PillowImage.new("RGB", (8, 8), (colour % 256, colour // 256 % 256, 99)).save(buffer, "PNG")
    return buffer.getvalue()


async def settle() -> None:
    """Let every task run until all of them wait for something that only the test can bring.

    `anyio.wait_all_tasks_blocked` sleeps on asyncio, which would hang while time is frozen.
    """
    if sniffio.current_async_library() == "trio":
        import trio.testing

        await trio.testing.wait_all_tasks_blocked()
        return
    loop = asyncio.get_running_loop()
    idle_turns = 0
    while idle_turns < 3:
        await asyncio.sleep(0)
        # asyncio has no public way to ask whether a callback is ready to run.
        idle_turns = 0 if loop._ready else idle_turns + 1  # type: ignore[attr-defined]


@contextmanager
def quick_folder() -> Iterator[Path]:
    """A folder for the time of a test, in memory where the system has such a place, so that no fsync waits.

    What a process wrote survives its death there as it does on a disk.
    """
    in_memory = Path("/dev/shm")
    with TemporaryDirectory(dir=in_memory if in_memory.is_dir() else None) as folder:
        yield Path(folder)


class ManualClock:
    """A clock that stands still until a test moves it. Milliseconds."""

    def __init__(self, now: int = 1_700_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def tick(self, milliseconds: int) -> None:
        self.now += milliseconds


Answer = bytes | BaseException | Callable[[GenerationRequest], Awaitable[bytes]] | None


class FakePainter:
    """A generator that does what the test says.

    `answers` maps a prompt to what its attempts give, in order (the last one stays): bytes, an error to
    raise, or a function. A prompt without an entry gets a picture of its own. With `hold=True` a call
    waits until `release(prompt)` or `release_all()`.
    """

    def __init__(self, *, hold: bool = False, capabilities: Capabilities | None = None) -> None:
        self.capabilities = capabilities or Capabilities()
        self.answers: dict[str, list[Answer]] = {}
        self.requests: list[GenerationRequest] = []
        self.cancelled: list[str] = []
        self.running: list[str] = []
        self.most_at_once = 0
        self.closed = False
        self.reports: dict[str, ProgressCallback] = {}
        self._hold = hold
        self._gates: dict[str, anyio.Event] = {}

    @property
    def prompts(self) -> list[str]:
        """The prompts of all calls, in the order in which they started."""
        return [request.prompt for request in self.requests]

    def hold(self) -> None:
        """From now on calls wait to be released."""
        self._hold = True

    def release(self, prompt: str) -> None:
        self._gates.setdefault(prompt, anyio.Event()).set()

    def release_all(self) -> None:
        self._hold = False
        for gate in self._gates.values():
            gate.set()

    async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        self.requests.append(request)
        self.running.append(request.prompt)
        self.reports[request.prompt] = report
        self.most_at_once = max(self.most_at_once, len(self.running))
        try:
            if self._hold:
                gate = self._gates.setdefault(request.prompt, anyio.Event())
                await gate.wait()
                self._gates.pop(request.prompt, None)
            return await self._answer(request)
        except anyio.get_cancelled_exc_class():
            self.cancelled.append(request.prompt)
            raise
        finally:
            self.running.remove(request.prompt)

    async def _answer(self, request: GenerationRequest) -> bytes:
        script = self.answers.get(request.prompt)
        if not script:
            return png(len(self.requests))
        answer = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(answer, BaseException):
            raise answer
        if callable(answer):
            return await answer(request)
        return answer  # type: ignore[return-value]  # None is what a bad generator returns

    async def aclose(self) -> None:
        self.closed = True


class FakeImageStore:
    """Keeps images in memory under `https://images.test/N.png`; equal bytes get equal addresses.

    The `n`-th call raises the error at `failures[n]` (counted from 1).
    """

    def __init__(self) -> None:
        self.images: dict[str, bytes] = {}
        self.failures: dict[int, Exception] = {}
        self.calls = 0
        self._addresses: dict[bytes, str] = {}

    async def put(self, data: bytes, media_type: str) -> str:
        self.calls += 1
        await anyio.lowlevel.checkpoint()
        if self.calls in self.failures:
            raise self.failures[self.calls]
        url = self._addresses.setdefault(data, f"https://images.test/{len(self._addresses) + 1}.png")
        self.images[url] = data
        return url


async def pieces(text: str, size: int = 4) -> AsyncIterator[str]:
    """The text as a model streams it: in small pieces, with a chance for others to run in between."""
    for start in range(0, len(text), size):
        await anyio.lowlevel.checkpoint()
        yield text[start : start + size]
