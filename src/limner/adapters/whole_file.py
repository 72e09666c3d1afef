"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that nobody ever sees half of it: beside its place first, then by rename.

    What stood there before stands there until the new file is complete, and keeps standing if this fails. A
    link is followed. Something that is no regular file (a pipe, `/dev/null`) cannot be replaced by a
    rename without destroying it, so it is written to directly. The folder must exist. Raises `OSError`.
    """
    place = path.resolve()
    if place.exists() and not place.is_file() and not place.is_dir():
        place.write_bytes(data)
        return
    draft = place.with_name(f".{place.name[:100]}.{secrets.token_hex(8)}.part")
    try:
        # open() and not tempfile: the file shall have the rights that the umask gives, since another user's
        # web server may hand it out; temporary files are made readable to their owner only.
        with draft.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(place)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
    sync_folder(place.parent)


def sync_folder(folder: Path) -> None:
    """Bring the folder's names to the disk: a new file's name is there only then. Raises `OSError`."""
    # Windows has no such call and needs none.
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
