"""What the tests of the adapters share."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import pytest
from PIL import Image

from limner.testing import ProgressRecorder, make_request
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
    return make_request


@pytest.fixture(scope="session")
def png() -> bytes:
    """A small, valid image file."""
    file = io.BytesIO()
    Image.new("RGB", (8, 6), (200, 40, 40)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def progress() -> ProgressRecorder:
    return ProgressRecorder()
