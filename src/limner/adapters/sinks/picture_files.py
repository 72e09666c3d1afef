"""From an image's address in a message to its file, for hosts that are handed files."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit
from urllib.request import url2pathname

import anyio.to_thread

from limner.adapters.image_folder import SUFFIXES
from limner.errors import StorageError


def local_path(url: str) -> Path | None:
    """The file of a `file:` address, None for any other one."""
    parts = urlsplit(url)
    if parts.scheme.lower() != "file" or parts.netloc not in ("", "localhost"):
        return None
    return Path(url2pathname(parts.path))


async def picture_bytes(url: str) -> tuple[bytes, str] | None:
    """The bytes of a `file:` or `data:` address, and the suffix of their kind; None for any other one.

    Raises `StorageError` where the file cannot be read, or the address is broken.
    """
    path = local_path(url)
    if path is not None:
        try:
            return await anyio.to_thread.run_sync(path.read_bytes), path.suffix
        except OSError as error:
            raise StorageError(f"cannot read the image {path}: {error.strerror or error}") from error
    if url[:5].lower() != "data:":
        return None
    head, comma, body = url[5:].partition(",")
    media_type, *parameters = head.lower().split(";")
    try:
        data = unquote_to_bytes(body)
        if "base64" in parameters:
            data = base64.b64decode(data, validate=True)
    except (ValueError, binascii.Error) as error:
        raise StorageError(f"the image's data: address is broken: {error}") from error
    if not comma or not data:
        raise StorageError("the image's data: address is empty")
    return data, SUFFIXES.get(media_type, "")
