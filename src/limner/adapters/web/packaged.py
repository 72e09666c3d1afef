"""The files that come with the package: the element with its modules, and the picture of a session."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response

from limner.adapters.web.answers import bytes_answer
from limner.adapters.web.problems import RequestRefused

_STATIC = resources.files("limner.adapters.web") / "static"
_MODULES = "limner-message"


def picture_answer(request: Request) -> Response:
    """The diagram of a session, as SVG."""
    return _answer(request, "session.svg", "image/svg+xml")


def element_answer(request: Request) -> Response:
    """The module that a page loads for the element."""
    return _answer(request, "limner-message.js", "text/javascript; charset=utf-8")


def module_answer(request: Request, name: str) -> Response:
    """One of those that the element consists of. Raises `RequestRefused` where there is none of that name."""
    if name not in _module_names():
        raise RequestRefused(404, "not_found", "the element has no such module")
    return _answer(request, f"{_MODULES}/{name}", "text/javascript; charset=utf-8")


def _answer(request: Request, path: str, media_type: str) -> Response:
    data, etag = _read(path)
    return bytes_answer(request, data, media_type, etag, "no-cache")


@cache
def _module_names() -> frozenset[str]:
    """A name is compared, never joined to a path before it is known, so none leads anywhere else."""
    return frozenset(file.name for file in (_STATIC / _MODULES).iterdir() if file.name.endswith(".js"))


@cache
def _read(path: str) -> tuple[bytes, str]:
    data = (_STATIC / path).read_bytes()
    return data, f'"{sha256(data).hexdigest()[:32]}"'
