"""What a stand-in for an OpenAI-compatible chat server answers."""

from __future__ import annotations

import json

from starlette.responses import Response


def sse(body: str, status: int = 200) -> Response:
    return Response(body, status, media_type="text/event-stream")


def chat_reply(*pieces: str) -> Response:
    """A streamed reply of these pieces."""
    return sse("".join(map(chunk_of, pieces)) + "data: [DONE]\n\n")


def chunk_of(piece: str) -> str:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': piece}}]})}\n\n"
