"""The demo's real server in a thread, with a writer and a painter that do what a test says, when it says."""

from __future__ import annotations

import io
import queue
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
from PIL import Image, ImageDraw

from limner.adapters.demo.serving import Play, Stage, listening_socket, serve
from limner.adapters.demo.writers import StoryWriter, Turn, Writer
from limner.adapters.sketch import SketchGenerator
from limner.errors import BackendError, Moderated
from limner.workflows.ports import Capabilities, GenerationRequest, Generator, ProgressCallback

PATIENCE_S = 30


class ToldWriter:
    """Writes what the test hands it with `write`, to the `end` of each reply, or to what it fails with."""

    name = "the test"

    def __init__(self) -> None:
        self.turns: list[list[Turn]] = []
        self.left = threading.Semaphore(0)
        self._pieces: queue.Queue[str | BackendError | None] = queue.Queue()

    def write(self, *pieces: str) -> None:
        for piece in pieces:
            self._pieces.put(piece)

    def end(self) -> None:
        self._pieces.put(None)

    def fail(self, error: BackendError) -> None:
        self._pieces.put(error)

    @asynccontextmanager
    async def reply(self, turns: Sequence[Turn]) -> AsyncIterator[AsyncIterator[str]]:
        self.turns.append(list(turns))
        try:
            yield self._handed_over()
        finally:
            self.left.release()

    async def _handed_over(self) -> AsyncIterator[str]:
        while True:
            try:
                piece = self._pieces.get_nowait()
            except queue.Empty:
                await anyio.sleep(0.01)
                continue
            if piece is None:
                return
            if isinstance(piece, BackendError):
                raise piece
            yield piece


class HeldPainter:
    """Paints a card of one colour, another one each time; half way it waits where the test says so.

    Prompts that contain `fails` fail as often as `failures` says.
    """

    capabilities = Capabilities(progress=True, preview=True, cancel=True)

    def __init__(self, *, held: bool = False, failures: int = 0) -> None:
        self.painted: list[str] = []
        self._released = threading.Event()
        self._failures = failures
        if not held:
            self._released.set()

    def hold(self) -> None:
        self._released.clear()

    def release(self) -> None:
        self._released.set()

    async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        number = len(self.painted)
        self.painted.append(request.prompt)
        report(0.5, card(number, 60, 40))
        await anyio.to_thread.run_sync(self._released.wait, abandon_on_cancel=True)
        if "fails" in request.prompt and self._failures > 0:
            self._failures -= 1
            raise Moderated("the painter has run out of blue")
        return card(number, 480, 320)

    async def aclose(self) -> None:
        self._released.set()


def card(number: int, width: int, height: int) -> bytes:
    """A picture whose colour tells which one it is."""
    colours = ("#35506b", "#7a4b2b", "#4d6b3c", "#6b3c5e", "#2f6b68", "#8a6d2f", "#594a7a")
    image = Image.new("RGB", (width, height), colours[number % len(colours)])
    ImageDraw.Draw(image).ellipse((width / 3, height / 4, 2 * width / 3, 3 * height / 4), fill="#f0e4c8")
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


class DemoThread:
    """The server of the page, with everything in `folder`. `start` again on the same port after `stop`."""

    def __init__(
        self,
        folder: Path,
        writer: Writer | None = None,
        painter: Generator | None = None,
        *,
        debounce_ms: int = 600,
    ) -> None:
        self.folder = folder
        self.play = Play(
            writer or StoryWriter(token_ms=0),
            painter or SketchGenerator(240, 160, steps=3),
            "the offline painter" if painter is None else "the test",
            captions=painter is not None,
            debounce_ms=debounce_ms,
        )
        self._port: int | None = 0
        self._thread: threading.Thread | None = None
        self._stage = Stage()
        self.address = ""

    def start(self) -> str:
        """Serve, and return the address once it answers."""
        listening = listening_socket(self._port)
        self._port = listening.getsockname()[1]
        self._stage = Stage()
        answers = threading.Event()

        self._thread = threading.Thread(target=anyio.run, args=[self._serve, listening, answers.set])
        self._thread.start()
        assert answers.wait(PATIENCE_S)
        self.address = self._stage.address
        return self.address

    async def _serve(self, listening: socket.socket, answers: Callable[[], None]) -> None:
        await serve(self.play, self.folder, listening, stage=self._stage, opened=lambda _: answers())

    def stop(self) -> None:
        """End it as Ctrl-C does: what is under way stays for the next start."""
        if self._thread is not None:
            self._stage.end()
            self._thread.join(PATIENCE_S)
            assert not self._thread.is_alive()
            self._thread = None
