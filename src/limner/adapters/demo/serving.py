"""The server of the demo's page: a port of this machine, Limner behind it, and an end that Ctrl-C brings."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import uvicorn

from limner.adapters.demo.app import Cast, demo_app
from limner.adapters.demo.chat import Chat, ChatStore
from limner.adapters.demo.conversation import Conversation
from limner.adapters.demo.writers import Writer
from limner.adapters.image_folder import FolderImageStore
from limner.adapters.limner import Limner
from limner.errors import InvalidSetting
from limner.workflows.ports import Generator

HOST = "127.0.0.1"
USUAL_PORT = 8807
_PORTS_TRIED = 20
_LAST_REQUESTS_S = 1


@dataclass(frozen=True, slots=True)
class Play:
    """What is served: who writes, who paints, and how long a click waits for others (`debounce_ms`).

    `captions`: whether the pictures need some; the cards of the offline painter bear theirs.
    """

    writer: Writer
    generator: Generator
    painter: str
    captions: bool = True
    max_concurrent: int = 2
    debounce_ms: int = 2_000


@dataclass(slots=True)
class Stage:
    """A demo that is being served: its `address` once there is one, and `end()` to end it from any thread."""

    address: str = ""
    _ending: Callable[[], None] | None = field(default=None, repr=False)

    def end(self) -> None:
        """End it, once it has begun; it takes a second at most until it has ended."""
        if self._ending is not None:
            self._ending()


def listening_socket(port: int | None) -> socket.socket:
    """A socket of this machine alone: at `port`, or at the usual one or the next that is free.

    Raises `InvalidSetting` where `port` is taken.
    """
    if port is not None:
        try:
            return _listen(port)
        except OSError as error:
            raise InvalidSetting(f"cannot listen at port {port}: {error.strerror or error}") from error
    for usual in range(USUAL_PORT, USUAL_PORT + _PORTS_TRIED):
        try:
            return _listen(usual)
        except OSError:
            continue
    return _listen(0)


def _listen(port: int) -> socket.socket:
    # With the protocol named, asyncio sends small pieces at once. Else the body of every answer would wait
    # until the browser has acknowledged the headers, some 40 ms.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere it means that two programs may share the port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen(100)
    except BaseException:
        listening.close()
        raise
    return listening


async def serve(
    play: Play,
    folder: Path,
    listening: socket.socket,
    *,
    stage: Stage | None = None,
    opened: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve the page until Ctrl-C, SIGTERM or `stage.end()`; everything is kept in `folder`.

    `opened` is called with the address once it answers. What is being written or painted then is taken up
    again by the next run on the same folder. Raises what `Limner` raises at its start.
    """
    stage = stage or Stage()
    stage.address = f"http://{HOST}:{listening.getsockname()[1]}/"
    store = ChatStore(folder / "messages.sqlite3")
    async with aclosing(store), aclosing(play.generator):
        limner = Limner(
            play.generator,
            store=store,
            images=FolderImageStore(folder / "images", "/limner/images/"),
            data_dir=folder,
            profile="markdown",
            max_concurrent=play.max_concurrent,
            debounce_ms=play.debounce_ms,
        )
        try:
            async with (
                limner,
                Chat(limner, store, Conversation(folder / "chat.sqlite3"), play.writer) as chat,
            ):
                app = demo_app(
                    chat,
                    Cast(play.writer.name, play.painter, play.captions),
                    own_port=lambda: _port_of(listening),
                )
                server = _Server(
                    uvicorn.Config(
                        app,
                        log_config=None,
                        log_level="critical",  # of the app's own faults `demo_app` tells
                        access_log=False,
                        lifespan="off",
                        ws="none",
                        server_header=False,
                        timeout_graceful_shutdown=_LAST_REQUESTS_S,
                    ),
                    started_with=lambda: opened(stage.address),
                )
                stage._ending = server.end
                await server.serve(sockets=[listening])
                # Left by an error, Limner finishes nothing more: what is under way goes on in the next run.
                raise _Ended
        except _Ended:
            pass


def _port_of(listening: socket.socket) -> int:
    port: int = listening.getsockname()[1]
    return port


class _Ended(Exception):
    """The person has ended the demo."""


class _Server(uvicorn.Server):
    """Ends at a signal without raising it again, and tells when it answers."""

    def __init__(self, config: uvicorn.Config, started_with: Callable[[], None]) -> None:
        super().__init__(config)
        self._started_with = started_with

    def end(self) -> None:
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started_with()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {each: signal.signal(each, self._on_signal) for each in signals}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _on_signal(self, _: int, __: FrameType | None) -> None:
        # A second one does not wait for requests that are still being answered.
        self.force_exit = self.should_exit
        self.should_exit = True


def open_browser(address: str) -> bool:
    """Show `address` in the person's browser; False where there is none that has a window."""
    if not os.environ.get("BROWSER") and not _has_screen():
        return False  # the standard library would start a text browser, in this very terminal
    try:
        return webbrowser.open(address)
    except webbrowser.Error:
        return False


def _has_screen() -> bool:
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
