"""Stored images and small versions of them, by the names in their addresses."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO
from weakref import WeakValueDictionary

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.types import ASGIApp

from limner.adapters.image_folder import MEDIA_TYPES, FolderImageStore
from limner.adapters.web.answers import PUBLIC, FileAnswer, bytes_answer, open_file
from limner.adapters.web.problems import RequestRefused
from limner.errors import InvalidSetting, StorageError
from limner.workflows.ports import ImageInspector, ImageStore, StoredImages

MAX_IMAGE = 64 * 1024 * 1024
"""Of a larger file, in bytes, no small version is made."""
CACHE_BYTES = 16 * 1024 * 1024
"""How much of small versions is kept in memory."""
MAKERS = 4
"""How many images are in memory at once to be made small."""


@dataclass(frozen=True, slots=True)
class _Small:
    data: bytes = field(repr=False)
    media_type: str
    etag: str


class StoredPictures:
    """Hands out what an image store keeps, where it can be found there again, with `cache_control`.

    Raises `InvalidSetting` for a `FolderImageStore` whose images have `file:` addresses: no page could show
    them, so nobody would ask for them here.
    """

    def __init__(
        self,
        images: ImageStore,
        inspector: ImageInspector,
        *,
        cache_control: str = PUBLIC,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        if isinstance(images, FolderImageStore) and images.base_url is None:
            raise InvalidSetting(
                "the images have file: addresses, which no page can show; pass to Limner "
                'images=FolderImageStore(FOLDER, base_url="/limner/images"), with the path under which the '
                "app is mounted"
            )
        self._images = images if isinstance(images, StoredImages) else None
        self._inspector = inspector
        self._cache_control = cache_control
        self._cache_bytes = cache_bytes
        self._cache: OrderedDict[str, _Small] = OrderedDict()
        self._cached_bytes = 0
        self._being_made: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()
        self._makers = anyio.CapacityLimiter(MAKERS)

    async def image(self, request: Request, name: str) -> ASGIApp:
        """The image of that name. Raises `RequestRefused`, `StorageError`."""
        file = await anyio.to_thread.run_sync(self._open, name)
        media_type = MEDIA_TYPES.get(Path(name).suffix)
        if file is None or media_type is None:
            raise _not_found()
        return FileAnswer(request, file, media_type, f'"{Path(name).stem}"', self._cache_control)

    async def thumbnail(self, request: Request, name: str) -> ASGIApp:
        """A small version of it. Raises as `image` does."""
        small = self._cache.get(name) or await self._make(name)
        if name in self._cache:
            self._cache.move_to_end(name)
        return bytes_answer(request, small.data, small.media_type, small.etag, self._cache_control)

    async def _make(self, name: str) -> _Small:
        lock = self._being_made.get(name)
        if lock is None:
            lock = self._being_made[name] = anyio.Lock()
        async with lock:
            # Whoever had the lock before may have made it.
            if name in self._cache:
                return self._cache[name]
            async with self._makers:
                data = await anyio.to_thread.run_sync(self._read, name)
                made = None if data is None else await self._inspector.thumbnail(data)
            if made is None:
                raise _not_found()
            small = _Small(*made, f'"{sha256(made[0]).hexdigest()[:32]}"')
            self._keep(name, small)
            return small

    def _keep(self, name: str, small: _Small) -> None:
        self._cache[name] = small
        self._cached_bytes += len(small.data)
        while self._cached_bytes > self._cache_bytes:
            _, oldest = self._cache.popitem(last=False)
            self._cached_bytes -= len(oldest.data)

    def _open(self, name: str) -> BinaryIO | None:
        path = None if self._images is None else self._images.find(name)
        if path is None:
            return None
        try:
            return open_file(path)
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}") from error

    def _read(self, name: str) -> bytes | None:
        file = self._open(name)
        if file is None:
            return None
        with file:
            data = file.read(MAX_IMAGE + 1)
        return data if len(data) <= MAX_IMAGE else None


def _not_found() -> RequestRefused:
    return RequestRefused(404, "not_found", "there is no such image")
