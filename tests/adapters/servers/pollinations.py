"""A stand-in for Pollinations, as far as images go.

The protocol is that of gen.pollinations.ai (src/docs and src/schemas/image.ts of the project): the prompt is
the rest of the path, slashes and all; a seed above 31 bits is refused; an address is painted once and then
kept; prompts that are refused are a 422 with a code of their own.
"""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from tests.adapters.servers.local import Received, WebServer

IMAGE = "/image/"


class PollinationsServer:
    """Paints `image` for whoever has the key and a balance. `answer` is sent instead of the image."""

    def __init__(self, web: WebServer, image: bytes, key: str = "secret-key") -> None:
        self.image = image
        self.key = key
        self.balance = 1.0
        self.answer: Response | None = None
        self.painted: dict[str, bytes] = {}
        web.on_below(IMAGE, self._paint)

    async def _paint(self, request: Received) -> Response:
        if request.headers.get("authorization") != f"Bearer {self.key}":
            return refused(401, "UNAUTHORIZED", "an API key is needed")
        if self.balance <= 0:
            return refused(402, "PAYMENT_REQUIRED", "your pollen balance is 0.0")
        if self.answer is not None:
            return self.answer
        if int(request.query.get("seed", "0")) > 0x7FFF_FFFF:
            return refused(400, "BAD_REQUEST", "seed: Too big: expected number to be <=2147483647")
        image = self.painted.setdefault(f"{request.raw_path}?{sorted(request.query.items())}", self.image)
        return Response(image, media_type="image/jpeg")


def refused(status: int, code: str, words: str) -> Response:
    """An error as Pollinations tells it."""
    error = {"message": words, "code": code, "timestamp": "2031-05-04T12:00:00.000Z"}
    return JSONResponse({"success": False, "error": error, "status": status}, status)
