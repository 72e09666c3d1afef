"""Images as files, named by what is in them."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import anyio
import pytest

from limner.adapters import image_folder
from limner.adapters.image_folder import FolderImageStore
from limner.errors import InvalidSetting, StorageError

pytestmark = pytest.mark.anyio


async def test_an_image_lies_under_the_hash_of_its_bytes(tmp_path):
    url = await FolderImageStore(tmp_path / "new" / "images", "https://host/img").put(b"bytes", "image/png")
    name = hashlib.sha256(b"bytes").hexdigest() + ".png"
    assert url == f"https://host/img/{name}"
    assert (tmp_path / "new" / "images" / name).read_bytes() == b"bytes"


@pytest.mark.parametrize(
    ("base", "prefix"),
    [("https://h/i", "https://h/i/"), ("images/", "images/"), ("", ""), ("/img?file=", "/img?file=")],
)
async def test_the_address_is_the_base_and_the_name(tmp_path, base, prefix):
    url = await FolderImageStore(tmp_path, base).put(b"x", "image/webp")
    assert url == f"{prefix}{hashlib.sha256(b'x').hexdigest()}.webp"


async def test_without_a_base_the_address_is_the_files_own(tmp_path):
    folder = tmp_path / "ä folder"
    url = await FolderImageStore(folder).put(b"x", "image/jpeg")
    (file,) = folder.iterdir()
    assert url == file.as_uri()
    assert " " not in url


async def test_the_same_bytes_are_written_once(tmp_path, monkeypatch):
    store = FolderImageStore(tmp_path)
    first = await store.put(b"x", "image/png")
    monkeypatch.setattr(image_folder, "write_whole", lambda *_: pytest.fail("written again"))
    assert await store.put(b"x", "image/png") == first


async def test_a_file_that_was_cut_short_is_written_again(tmp_path):
    store = FolderImageStore(tmp_path)
    await store.put(b"whole", "image/png")
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"who")
    await store.put(b"whole", "image/png")
    assert file.read_bytes() == b"whole"


async def test_many_writers_of_one_image_do_not_disturb_each_other(tmp_path):
    store = FolderImageStore(tmp_path, "")
    urls: list[str] = []

    async def put() -> None:
        urls.append(await store.put(b"z" * 100_000, "image/png"))

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(put)
    (file,) = tmp_path.iterdir()
    assert set(urls) == {file.name}


async def test_a_full_disk_is_a_storage_error_and_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"cannot store an image in .*: No space left on device"):
        await FolderImageStore(tmp_path).put(b"x", "image/png")
    assert list(tmp_path.iterdir()) == []


async def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot store an image"):
        await FolderImageStore(tmp_path / "file" / "images").put(b"x", "image/png")


@pytest.mark.parametrize("media_type", ["text/html", "image/svg+xml", "", "image/png; charset=x"])
async def test_what_is_no_image_type_is_not_stored(tmp_path, media_type):
    with pytest.raises(StorageError, match="will not store"):
        await FolderImageStore(tmp_path).put(b"<script>", media_type)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="rights are a matter of POSIX")
async def test_the_file_has_the_rights_that_the_umask_gives(tmp_path):
    before = os.umask(0o027)
    try:
        await FolderImageStore(tmp_path).put(b"x", "image/png")
    finally:
        os.umask(before)
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("base", ["has space/", "line\nbreak", "tab\t"])
def test_a_base_that_no_address_can_have_is_refused(base):
    with pytest.raises(InvalidSetting, match="base_url"):
        FolderImageStore(Path(), base)
