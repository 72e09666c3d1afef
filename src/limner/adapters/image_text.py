"""Images that come as text: base64, with or without a `data:` prefix."""

from __future__ import annotations

import base64
import binascii

import anyio.to_thread

from limner.adapters.sniffing import one_line
from limner.errors import NoImage, NotAnImage

_DECODE_IN_PLACE_CHARACTERS = 256 * 1024
_WHITE_SPACE = str.maketrans("", "", " \t\r\n")


async def image_from_text(text: object) -> bytes:
    """The bytes that `text` encodes. Raises `NoImage` for nothing, `NotAnImage` for anything unreadable."""
    if text is None or text == "":
        raise NoImage("the service sent an empty image")
    if not isinstance(text, str):
        raise NotAnImage(f"the service sent a {type(text).__name__} where base64 was expected")
    if len(text) <= _DECODE_IN_PLACE_CHARACTERS:
        return _decoded(text)
    return await anyio.to_thread.run_sync(_decoded, text)


def _decoded(text: str) -> bytes:
    payload = text
    if text.startswith("data:"):
        header, comma, payload = text.partition(",")
        if not comma or not header.casefold().endswith(";base64"):
            raise NotAnImage(f"the service sent a data: URI that is not base64: {one_line(text, 60)}")
    payload = payload.translate(_WHITE_SPACE)
    try:
        return base64.b64decode(payload + "=" * (-len(payload) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise NotAnImage(f"the service sent text that is not base64: {one_line(payload, 60)}") from error
