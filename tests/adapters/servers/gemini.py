"""A stand-in for Google's Generative Language API, as far as images go.

The protocol is that of https://ai.google.dev/api/generate-content and of Imagen's `predict`. Its oddities are
kept: a refusal is a 200 without an image, a key that is not valid is a 400, one status says both that a
minute's limit is reached and that the account has run dry, and the pause asked for stands in the body.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from tests.adapters.servers.local import Received, WebServer

MODELS = "/v1beta/models/"
RPC = "type.googleapis.com/google.rpc."


class GeminiServer:
    """Answers for the models `gemini-image` and `imagen-4`. `answer` is sent instead of the image."""

    def __init__(self, web: WebServer, image: object, key: str = "secret-key") -> None:
        self.image = image
        self.key = key
        self.answer: Response | None = None
        web.on_below(MODELS, self._ask)

    async def _ask(self, request: Received) -> Response:
        if "key" in request.query or request.headers.get("x-goog-api-key") != self.key:
            reason = {"@type": f"{RPC}ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}
            return google_error(400, "INVALID_ARGUMENT", "the key is not valid", reason)
        if self.answer is not None:
            return self.answer
        model, _, method = request.path.removeprefix(MODELS).partition(":")
        if (model, method) == ("gemini-image", "generateContent"):
            return self._content(request.json)
        if (model, method) == ("imagen-4", "predict"):
            return self._predict(request.json)
        return google_error(404, "NOT_FOUND", f"there is no model {model} that can {method}")

    def _content(self, asked: dict[str, Any]) -> Response:
        config = asked.get("generationConfig", {})
        if not 0 <= config.get("seed", 0) <= 0x7FFF_FFFF:
            return google_error(400, "INVALID_ARGUMENT", "generation_config.seed is no TYPE_INT32")
        image = {"inlineData": {"mimeType": "image/png", "data": self.image}}
        return JSONResponse(content({"text": "Here it is:"}, image))

    def _predict(self, asked: dict[str, Any]) -> Response:
        if "seed" in asked["parameters"]:
            return google_error(400, "INVALID_ARGUMENT", "seed is not supported here")
        return JSONResponse({"predictions": [{"mimeType": "image/png", "bytesBase64Encoded": self.image}]})


def content(*parts: dict[str, Any], finish: str = "STOP", **more: object) -> dict[str, Any]:
    """An answer of `generateContent` with these parts."""
    candidate = {
        "content": {"role": "model", "parts": list(parts)},
        "finishReason": finish,
        "index": 0,
        **more,
    }
    return {
        "candidates": [candidate],
        "usageMetadata": {"promptTokenCount": 8},
        "modelVersion": "gemini-image",
    }


def google_error(status: int, name: str, words: str, *details: dict[str, Any]) -> Response:
    """An error as all of Google's interfaces tell it."""
    error = {"code": status, "message": words, "status": name, "details": list(details)}
    return JSONResponse({"error": error}, status)
