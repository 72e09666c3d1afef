"""The forms of an answer: JSON, some bytes, a file. With the headers that each of them needs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from limner.adapters.web.conditional import Verdict, judge

PUBLIC = "public, max-age=31536000, immutable"
"""For what an address gives everybody for ever."""
PRIVATE = "private, max-age=31536000, immutable"
"""For what it gives some for ever: no cache that several people share may keep it."""

_PIECE = 64 * 1024
_GUARDED = {
    # A browser takes an image for nothing else, and what is opened by itself may load and run nothing.
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'",
}


class JSONAnswer(Response):
    """JSON that no cache keeps."""

    media_type = "application/json"

    def __init__(self, content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(
            as_json(content), status, {**_GUARDED, "cache-control": "no-store", **(headers or {})}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; to a HEAD only its headers."""
        if scope["method"] == "HEAD":
            self.body = b""
        await super().__call__(scope, receive, send)


def as_json(content: object) -> bytes:
    """`content` as one line of JSON in UTF-8."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:  # half a character, from a broken stream
        return json.dumps(content, separators=(",", ":")).encode()


def bytes_answer(request: Request, data: bytes, media_type: str, etag: str, cache_control: str) -> Response:
    """Some bytes, or as much of them as the request asks for. `etag` has its quotes."""
    verdict = judge(request.method, request.headers, etag, len(data))
    headers = _headers(verdict, len(data), media_type, etag, cache_control)
    body = b"" if request.method == "HEAD" else data[verdict.start : verdict.stop]
    return Response(body, verdict.status, headers)


class FileAnswer:
    """A file that is open, or as much of it as the request asks for. It is closed when it was sent."""

    def __init__(
        self, request: Request, file: BinaryIO, media_type: str, etag: str, cache_control: str
    ) -> None:
        size = os.fstat(file.fileno()).st_size
        self._file = file
        self._verdict = judge(request.method, request.headers, etag, size)
        self._is_head = request.method == "HEAD"
        self.headers = _headers(self._verdict, size, media_type, etag, cache_control)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's form
        """Send it in pieces, none read before the one before it was taken."""
        try:
            headers = [(name.encode(), value.encode()) for name, value in self.headers.items()]
            await send({"type": "http.response.start", "status": self._verdict.status, "headers": headers})
            left = 0 if self._is_head else self._verdict.stop - self._verdict.start
            await anyio.to_thread.run_sync(self._file.seek, self._verdict.start)
            while left:
                piece = await anyio.to_thread.run_sync(self._file.read, min(_PIECE, left))
                if not piece:
                    return  # cut short meanwhile: an answer that ends too early is noticed, a made up one not
                left -= len(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except OSError:
            # The reader has gone, or the disk: either way there is nobody to be told, and nothing to tell.
            return
        finally:
            self._file.close()


def open_file(path: Path) -> BinaryIO | None:
    """The file, open; None where it has gone meanwhile. Raises `OSError`."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _headers(verdict: Verdict, size: int, media_type: str, etag: str, cache_control: str) -> dict[str, str]:
    headers = {"etag": etag, "cache-control": cache_control, **_GUARDED}
    if verdict.status in {200, 206}:
        headers |= {
            "content-type": media_type,
            "accept-ranges": "bytes",
            "content-length": str(verdict.stop - verdict.start),
        }
    elif verdict.status != 304:
        # An error, although it stands at an address that otherwise never changes.
        headers |= {"cache-control": "no-store", "content-length": "0"}
    if verdict.status == 206:
        headers["content-range"] = f"bytes {verdict.start}-{verdict.stop - 1}/{size}"
    if verdict.status == 416:
        headers["content-range"] = f"bytes */{size}"
    return headers
