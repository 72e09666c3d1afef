"""A stand-in for OpenAI's `/v1/images/generations`, streaming included.

The protocol is that of the published interface description: events `image_generation.partial_image` with
`partial_image_index`, one `image_generation.completed`, an `error` in between, and no mark of the end. It is
strict: it refuses parameters that it does not know, and streaming without partial images.
"""

from __future__ import annotations

import json

from starlette.responses import JSONResponse, Response

from tests.adapters.servers.local import Received, WebServer

PATH = "/v1/images/generations"

_KNOWN = {
    "model",
    "prompt",
    "n",
    "size",
    "quality",
    "background",
    "output_format",
    "output_compression",
    "moderation",
}
_STREAMING = {"stream", "partial_images"}


def event(kind: str, **fields: object) -> bytes:
    """One event of the stream, named twice as OpenAI does."""
    data = json.dumps({"type": kind, **fields})
    return f"event: {kind}\ndata: {data}\n\n".encode()


def partial(image: object, index: int = 0) -> bytes:
    return event("image_generation.partial_image", b64_json=image, partial_image_index=index)


def completed(image: object) -> bytes:
    return event("image_generation.completed", b64_json=image, usage={"total_tokens": 3})


class OpenAIImagesServer:
    """Answers with `image` (base64 text); when streaming, with `previews` of it before.

    Without `streams` it is a server that knows of no streaming, and says so.
    """

    def __init__(self, web: WebServer, image: str, *, streams: bool = True) -> None:
        self.image = image
        self.streams = streams
        self.asked: list[dict[str, object]] = []
        web.on(PATH, self._generate)

    async def _generate(self, request: Received) -> Response:
        self.asked.append(request.json)
        known = _KNOWN | _STREAMING if self.streams else _KNOWN
        for name in request.json:
            if name not in known:
                return _refused(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
        if not request.json.get("stream"):
            return JSONResponse({"created": 1, "data": [{"b64_json": self.image}]})
        wanted = request.json.get("partial_images", 0)
        if not wanted:
            return _refused("Streaming must have non-zero partial images.", "partial_images", None)
        body = b"".join(partial(self.image, index) for index in range(wanted)) + completed(self.image)
        return Response(body, media_type="text/event-stream")


def _refused(message: str, parameter: str, code: str | None) -> Response:
    error = {"message": message, "type": "invalid_request_error", "param": parameter, "code": code}
    return JSONResponse({"error": error}, 400)
