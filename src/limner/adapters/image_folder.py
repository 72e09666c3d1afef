"""Finished images kept as files in one folder, named by what is in them."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from pathlib import Path

import anyio.to_thread

from limner.adapters.whole_file import write_whole
from limner.errors import InvalidSetting, StorageError

# The formats that a browser shows and an `ImageInspector` lets through. Anything else, HTML above all,
# must not land in a folder that a web server hands out.
SUFFIXES = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "image/avif": ".avif",
}

MEDIA_TYPES = {suffix: media_type for media_type, suffix in SUFFIXES.items()}
"""By what a stored image's name ends in; the standard library's own table has no WebP before Python 3.13."""

_NAME = re.compile(rf"[0-9a-f]{{64}}(?:{'|'.join(re.escape(suffix) for suffix in SUFFIXES.values())})")


class FolderImageStore:
    """An `ImageStore` that writes each image to `folder` under the SHA-256 of its bytes.

    `folder` is made when the first image comes. An image appears whole: it is written beside its place,
    brought to the disk, then renamed. The same bytes are the same file, so putting an image again writes
    nothing. All files lie in one flat folder; today's file systems find a name among millions at once.

    `base_url` is what the folder is called by the message's reader, absolute (`https://host/images`) or
    relative to the message (`images/`); without it the URL is the file's own `file://` address.
    """

    def __init__(self, folder: str | os.PathLike[str], base_url: str | None = None) -> None:
        if base_url is not None and any(ch.isspace() or not ch.isprintable() for ch in base_url):
            raise InvalidSetting(f"base_url must not contain spaces or control characters: {base_url!r}")
        self._folder = Path(folder)
        self._base_url = base_url

    @property
    def base_url(self) -> str | None:
        """What the message's reader calls the folder; None: images have `file:` addresses."""
        return self._base_url

    async def put(self, data: bytes, media_type: str) -> str:
        """Keep the image and return its URL.

        Raises `StorageError` where the folder cannot be written, the disk is full, or `media_type` is
        none of PNG, JPEG, WebP, GIF and AVIF; no file is left behind then.
        """
        suffix = SUFFIXES.get(media_type)
        if suffix is None:
            raise StorageError(f"will not store {media_type!r}: not an image type that browsers show")
        # Not abandoned when cancelled: a thread that writes on after its caller has gone would surprise.
        path = await anyio.to_thread.run_sync(self._store, data, suffix)
        return self._url(path)

    def find(self, name: str) -> Path | None:
        """Where the image of that file name lies, or None where the folder has none.

        Only names that `put` gives are looked for, and a link that leads out of the folder is not followed.
        Waits for the disk. Raises `StorageError` where the folder cannot be read.
        """
        if _NAME.fullmatch(name) is None:
            return None
        try:
            folder = self._folder.resolve(strict=True)
            path = (folder / name).resolve(strict=True)
        except (FileNotFoundError, NotADirectoryError, RuntimeError):  # RuntimeError: links in a circle
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                return None
            reason = error.strerror or str(error)
            raise StorageError(f"cannot look for an image in {self._folder}: {reason}") from error
        return path if path.is_relative_to(folder) and path.is_file() else None

    def _store(self, data: bytes, suffix: str) -> Path:
        path = self._folder / (hashlib.sha256(data).hexdigest() + suffix)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if not _is_stored(path, len(data)):
                write_whole(path, data)
        except OSError as error:
            reason = error.strerror or str(error)
            raise StorageError(f"cannot store an image in {self._folder}: {reason}") from error
        return path

    def _url(self, path: Path) -> str:
        if self._base_url is None:
            return path.absolute().as_uri()
        separator = "" if self._base_url.endswith(("/", "=")) or not self._base_url else "/"
        return f"{self._base_url}{separator}{path.name}"


def _is_stored(path: Path, size: int) -> bool:
    # The name vouches for the bytes; the size catches a file that something else has cut short.
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False
