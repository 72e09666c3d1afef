"""Images kept in the message itself, as small pictures in `data:` addresses."""

from __future__ import annotations

import base64

from limner.adapters.inspection import PillowInspector
from limner.errors import StorageError


class ThumbnailStore:
    """An `ImageStore` that keeps no file: an image's address is a thumbnail of it.

    For hosts whose readers can load nothing from where Limner runs. `longer_side` is that of the thumbnail,
    in pixels; 512 make some 20 to 60 kB of text.
    """

    def __init__(self, longer_side: int = 512) -> None:
        self._inspector = PillowInspector(thumbnail_px=longer_side)

    async def put(self, data: bytes, media_type: str) -> str:
        """The image's thumbnail as an address. Raises `StorageError` for what is no image."""
        small = await self._inspector.thumbnail(data)
        if small is None:
            raise StorageError(f"no thumbnail could be made of an image of {media_type}")
        thumbnail, thumbnail_type = small
        return f"data:{thumbnail_type};base64,{base64.b64encode(thumbnail).decode('ascii')}"
