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
from limner.workflows.ports import StoredImages

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


# --- finding an image again


async def stored(folder: Path, data: bytes = b"bytes") -> Path:
    await FolderImageStore(folder).put(data, "image/png")
    return folder / (hashlib.sha256(data).hexdigest() + ".png")


async def test_an_image_is_found_by_the_name_in_its_address(tmp_path):
    store = FolderImageStore(tmp_path / "images", "/limner/images")
    url = await store.put(b"bytes", "image/avif")
    found = store.find(url.rpartition("/")[2])
    assert found is not None
    assert found.read_bytes() == b"bytes"
    assert isinstance(store, StoredImages)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "secret.png",
        "../secret.png",
        "a" * 64,
        "a" * 64 + ".svg",
        "a" * 64 + ".png\n",
        "a" * 64 + ".png\0.png",
        "A" * 64 + ".png",
        "a" * 63 + "é.png",
        "a" * 63 + "\u0663.png",
        "a" * 60_000 + ".png",
        "/etc/passwd",
        "../" + "a" * 64 + ".png",
        "..\\" + "a" * 64 + ".png",
        "\ud800" * 64 + ".png",
    ],
    ids=ascii,
)
async def test_nothing_but_the_name_of_an_image_is_looked_for(tmp_path, name):
    await stored(tmp_path / "images")
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / f"{'a' * 64}.png").write_bytes(b"secret")
    for known in ("secret.png", f"{'a' * 64}.svg"):
        (tmp_path / "images" / known).write_bytes(b"secret")
    assert FolderImageStore(tmp_path / "images").find(name) is None


async def test_what_is_not_there_is_not_found(tmp_path):
    path = await stored(tmp_path / "images")
    assert FolderImageStore(tmp_path / "images").find("b" * 64 + ".png") is None
    assert FolderImageStore(tmp_path / "none").find(path.name) is None
    assert FolderImageStore(path).find(path.name) is None


async def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path):
    path = await stored(tmp_path / "images")
    (tmp_path / "secret").write_bytes(b"secret")
    out, around, inside = (path.with_name(f"{letter * 64}.png") for letter in "cde")
    out.symlink_to(tmp_path / "secret")
    around.symlink_to(around)
    inside.symlink_to(path.name)
    store = FolderImageStore(tmp_path / "images")
    assert store.find(out.name) is None
    assert store.find(around.name) is None
    assert store.find(inside.name) == path


async def test_a_folder_that_is_a_link_itself_is_followed(tmp_path):
    path = await stored(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    assert FolderImageStore(tmp_path / "link").find(path.name) == path


async def test_a_folder_in_the_place_of_an_image_is_none(tmp_path):
    (tmp_path / f"{'a' * 64}.png").mkdir()
    assert FolderImageStore(tmp_path).find(f"{'a' * 64}.png") is None


async def test_a_folder_that_cannot_be_read_is_a_storage_error(tmp_path, monkeypatch):
    def refuse(self: Path, strict: bool = False) -> Path:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "resolve", refuse)
    with pytest.raises(StorageError, match=r"cannot look for an image in .*: Permission denied"):
        FolderImageStore(tmp_path).find("a" * 64 + ".png")
