"""A stand-in for the server that nobody thought of: one request with JSON, one answer with the image in it.

It is strict about what it is sent, as such servers are: a key in a header or in the query, a prompt that is a
text, a seed that is a number of 32 bits with a sign.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.responses import JSONResponse, Response

from tests.adapters.servers.local import Received, WebServer

PAINT = "/paint"
FILES = "/files/"


class PlainServer:
    """Answers `PAINT` with what `shape` makes, and hands out the image itself below `FILES`."""

    def __init__(
        self, web: WebServer, image: bytes, shape: Callable[[], object], key: str = "secret-key"
    ) -> None:
        self.shape = shape
        self.key = key
        self.asked: list[dict[str, Any]] = []
        self._image = image
        web.on(PAINT, self._paint)
        web.on_below(f"{PAINT}/", self._paint)
        web.on_below(FILES, self._file)

    async def _paint(self, request: Received) -> Response:
        if self.key not in (
            request.headers.get("x-key"),
            request.query.get("token"),
            request.json.get("key"),
        ):
            return JSONResponse({"error": "who are you?"}, 401)
        seed = request.json.get("seed", 0)
        if not isinstance(seed, int) or seed >= 2**31:
            return JSONResponse(
                {"detail": [{"loc": ["body", "seed"], "msg": "not a number of 32 bits"}]}, 422
            )
        self.asked.append(request.json)
        answer = self.shape()
        return answer if isinstance(answer, Response) else JSONResponse(answer)

    async def _file(self, request: Received) -> Response:
        return Response(self._image, media_type="image/png")
