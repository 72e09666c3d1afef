"""What the tests of the adapters share."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import pytest
from PIL import Image

from limner.workflows.ports import GenerationRequest
from tests.adapters.servers.comfyui import ComfyHost, ComfyServer
from tests.adapters.servers.local import WebServer

RequestMaker = Callable[..., GenerationRequest]


@pytest.fixture(scope="module")
def running_web_server() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.close()


@pytest.fixture
def web(running_web_server: WebServer) -> Iterator[WebServer]:
    """A web server that does nothing yet."""
    running_web_server.reset()
    yield running_web_server
    running_web_server.reset()


@pytest.fixture(scope="module")
def comfy_host() -> Iterator[ComfyHost]:
    host = ComfyHost()
    yield host
    host.close()


@pytest.fixture
def comfy(comfy_host: ComfyHost) -> Iterator[ComfyServer]:
    """A ComfyUI server that works."""
    server = comfy_host.begin()
    yield server
    server.close()


@pytest.fixture
def request_for() -> RequestMaker:
    """Makes a request for one image."""

    def make(
        prompt: str = "a red fox in the snow", seed: int = 7, job_id: str | None = None
    ) -> GenerationRequest:
        return GenerationRequest("prompt-1", "message-1", prompt, seed, job_id=job_id)

    return make


@pytest.fixture(scope="session")
def png() -> bytes:
    """A small, valid image file."""
    file = io.BytesIO()
    Image.new("RGB", (8, 6), (200, 40, 40)).save(file, "PNG")
    return file.getvalue()


class Progress:
    """Records what a generator reports."""

    def __init__(self) -> None:
        self.fractions: list[float] = []
        self.previews: list[bytes] = []
        self.job_ids: list[str] = []

    def __call__(
        self, fraction: float | None = None, preview: bytes | None = None, job_id: str | None = None
    ) -> None:
        if job_id is not None:
            self.job_ids.append(job_id)
        if fraction is not None:
            self.fractions.append(fraction)
        if preview is not None:
            self.previews.append(preview)


@pytest.fixture
def progress() -> Progress:
    return Progress()
