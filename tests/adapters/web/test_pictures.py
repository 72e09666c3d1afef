"""Images, small versions of them, and live previews, as an app hands them out."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import anyio
import pytest
from PIL import Image
from starlette.requests import Request

from limner.adapters.image_folder import FolderImageStore
from limner.adapters.inspection import PillowInspector
from limner.adapters.web import stored
from limner.errors import InvalidSetting, StorageError
from limner.workflows.progress_events import Thumbnail
from tests.adapters.web.chat import chat
from tests.studio import FakeInspector
from tests.support import png, settle

pytestmark = pytest.mark.anyio


def keep(folder: Path, data: bytes, suffix: str = "png") -> str:
    """Put an image into the folder; its name."""
    name = f"{hashlib.sha256(data).hexdigest()}.{suffix}"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    return name


def picture(side: int = 600, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((side, side)).convert("RGB").save(file, form)
    return file.getvalue()


# --- images


async def test_an_image_of_a_message_is_found_at_its_address(tmp_path):
    async with chat(folder=tmp_path / "images") as page:
        await page.start("a fox")
        await page.studio.limner.finished("fox")
        [url] = await page.studio.urls("fox")
        answer = await page.browser.get(url.removeprefix("/limner"))
        assert answer.status == 200
        assert answer.body == png(1)
        name = url.rpartition("/")[2]
        assert answer.headers == {
            "content-type": "image/png",
            "content-length": str(len(answer.body)),
            "etag": f'"{name.removesuffix(".png")}"',
            "accept-ranges": "bytes",
            "cache-control": "public, max-age=31536000, immutable",
            "x-content-type-options": "nosniff",
            "content-security-policy": "default-src 'none'",
        }


@pytest.mark.parametrize(
    ("suffix", "media_type"),
    [
        ("png", "image/png"),
        ("jpg", "image/jpeg"),
        ("webp", "image/webp"),
        ("gif", "image/gif"),
        ("avif", "image/avif"),
    ],
)
async def test_an_images_type_is_that_of_its_name(tmp_path, suffix, media_type):
    name = keep(tmp_path, b"<script>", suffix)
    async with chat(folder=tmp_path) as page:
        answer = await page.browser.get(f"/images/{name}")
        assert answer.headers["content-type"] == media_type
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_large_image_comes_whole_and_in_parts(tmp_path):
    data = bytes(range(256)) * 1_000
    name = keep(tmp_path, data)
    async with chat(folder=tmp_path) as page:
        ask = page.browser.ask
        assert (await ask("GET", f"/images/{name}")).body == data
        part = await ask("GET", f"/images/{name}", headers={"range": "bytes=100000-199999"})
        assert (part.status, part.body) == (206, data[100_000:200_000])
        assert part.headers["content-range"] == "bytes 100000-199999/256000"
        assert part.headers["content-length"] == "100000"
        beyond = await ask("GET", f"/images/{name}", headers={"range": "bytes=256000-"})
        assert (beyond.status, beyond.body) == (416, b"")
        assert beyond.headers["content-range"] == "bytes */256000"
        assert beyond.headers["cache-control"] == "no-store"
        known = await ask("GET", f"/images/{name}", headers={"if-none-match": part.headers["etag"]})
        assert (known.status, known.body) == (304, b"")
        assert known.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert known.headers["etag"] == part.headers["etag"]
        head = await ask("HEAD", f"/images/{name}")
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == "256000"


@pytest.mark.parametrize("route", ["/images/", "/thumbnails/"])
@pytest.mark.parametrize(
    "name",
    [
        "",
        "secret.png",
        "..%2fsecret.png",
        "../secret.png",
        "%2e%2e/secret.png",
        "..%5csecret.png",
        "%2fetc%2fpasswd",
        "/etc/passwd",
        "f" * 64 + ".png%00",
        "f" * 64 + ".png%0a",
        "f" * 64 + ".png/",
        "f" * 64 + ".svg",
        "f" * 64,
        "F" * 64 + ".png",
        "%EF%BC%86" * 64 + ".png",
        "%ff%fe" + "f" * 62 + ".png",
        "f" * 50_000 + ".png",
        "e" * 64 + ".png",
    ],
)
async def test_no_other_path_leads_anywhere(tmp_path, route, name):
    for path in (tmp_path / "secret.png", tmp_path / f"{'f' * 64}.png"):
        path.write_bytes(png())
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / f"{'f' * 64}.svg").write_text("<svg/>")
    async with chat(folder=tmp_path / "images") as page:
        answer = await page.browser.get(route + name)
        assert (answer.status, answer.kind) == (404, "not_found")
        assert str(tmp_path) not in answer.body.decode()


async def test_a_host_with_an_image_store_of_its_own_has_no_images_here(tmp_path):
    async with chat() as page:
        await page.start("a fox")
        for route in ("images", "thumbnails"):
            answer = await page.browser.get(f"/{route}/{'f' * 64}.png")
            assert (answer.status, answer.kind) == (404, "not_found")
        assert (await page.browser.get("/status", message="fox")).status == 200


async def test_images_that_no_page_could_show_are_refused_with_the_way_out(tmp_path):
    with pytest.raises(InvalidSetting, match=r'FolderImageStore\(FOLDER, base_url="/limner/images"\)'):
        async with chat(images=FolderImageStore(tmp_path)):
            pass


async def test_a_disk_that_fails_is_told_without_saying_where_it_is(tmp_path, monkeypatch):
    def fail(self: FolderImageStore, name: str) -> Path:
        raise StorageError(f"cannot look for an image in {tmp_path}: Input/output error")

    monkeypatch.setattr(FolderImageStore, "find", fail)
    async with chat(folder=tmp_path) as page:
        for route in ("images", "thumbnails"):
            answer = await page.browser.get(f"/{route}/{'f' * 64}.png")
            assert (answer.status, answer.kind) == (503, "storage_error")
            assert str(tmp_path) not in answer.body.decode()


async def test_an_image_that_goes_while_it_is_looked_for_is_not_found(tmp_path, monkeypatch):
    name = keep(tmp_path, png())
    monkeypatch.setattr(FolderImageStore, "find", lambda self, name: tmp_path / "gone" / name)
    async with chat(folder=tmp_path) as page:
        assert (await page.browser.get(f"/images/{name}")).status == 404


# --- small versions


async def test_a_small_version_is_made_of_an_image(tmp_path):
    name = keep(tmp_path, picture(600))
    async with chat(folder=tmp_path) as page:
        answer = await page.browser.get(f"/thumbnails/{name}")
        assert answer.status == 200
        with Image.open(io.BytesIO(answer.body)) as small:
            assert small.size == (256, 256)
            assert Image.MIME[str(small.format)] == answer.headers["content-type"]
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-security-policy"] == "default-src 'none'"
        etag = answer.headers["etag"]
        known = await page.browser.ask("GET", f"/thumbnails/{name}", headers={"if-none-match": etag})
        assert known.status == 304
        part = await page.browser.ask("GET", f"/thumbnails/{name}", headers={"range": "bytes=2-5"})
        assert (part.status, part.body) == (206, answer.body[2:6])
        head = await page.browser.get(f"/thumbnails/{name}", "HEAD")
        assert (head.body, head.headers["content-length"]) == (b"", str(len(answer.body)))


class CountingInspector(FakeInspector):
    """Counts what it makes small, and makes it only when the test says so."""

    def __init__(self) -> None:
        self.made = 0
        self.at_once = self.most_at_once = 0
        self.gate = anyio.Event()

    async def thumbnail(self, data: bytes) -> tuple[bytes, str] | None:
        self.made += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.gate.wait()
        self.at_once -= 1
        return await super().thumbnail(data)


async def test_many_who_ask_for_one_small_version_wait_for_one_making(tmp_path):
    name = keep(tmp_path, png())
    inspector = CountingInspector()
    async with chat(folder=tmp_path, inspector=inspector) as page, anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(page.browser.get, f"/thumbnails/{name}")
        await settle()
        inspector.gate.set()
    assert inspector.made == 1


async def test_only_some_images_are_in_memory_at_once(tmp_path):
    names = [keep(tmp_path, png(colour)) for colour in range(12)]
    inspector = CountingInspector()
    async with chat(folder=tmp_path, inspector=inspector) as page, anyio.create_task_group() as tasks:
        for name in names:
            tasks.start_soon(page.browser.get, f"/thumbnails/{name}")
        while inspector.at_once < stored.MAKERS:
            await anyio.lowlevel.checkpoint()
        inspector.gate.set()
    assert inspector.made == len(names)
    assert inspector.most_at_once == stored.MAKERS


async def test_what_is_kept_in_memory_is_bounded_and_the_oldest_goes_first(tmp_path):
    names = [keep(tmp_path, png(colour)) for colour in range(3)]
    inspector = CountingInspector()
    inspector.gate.set()
    size = len(b"small " + png(0))
    pictures = stored.StoredPictures(
        FolderImageStore(tmp_path, "/images"), inspector, cache_bytes=2 * size + size // 2
    )
    request = Request({"type": "http", "method": "GET", "headers": []})
    for name in (names[0], names[1], names[0], names[2]):
        await pictures.thumbnail(request, name)
    assert inspector.made == 3
    await pictures.thumbnail(request, names[0])
    assert inspector.made == 3
    await pictures.thumbnail(request, names[1])
    assert inspector.made == 4


async def test_of_what_is_no_image_and_of_what_is_too_large_there_is_no_small_version(tmp_path, monkeypatch):
    no_image, large = keep(tmp_path, b"no image"), keep(tmp_path, picture(300))
    monkeypatch.setattr(stored, "MAX_IMAGE", 100)
    async with chat(folder=tmp_path, inspector=PillowInspector()) as page:
        for name in (no_image, large):
            answer = await page.browser.get(f"/thumbnails/{name}")
            assert (answer.status, answer.kind) == (404, "not_found")


@pytest.mark.parametrize("allows", [lambda *_: True, lambda request, *_: "cookie" in request.headers])
async def test_where_the_host_decides_who_reads_no_shared_cache_keeps_an_image(tmp_path, allows):
    name = keep(tmp_path, picture(300))
    async with chat(folder=tmp_path, app={"authorise": allows}, headers={"cookie": "me"}) as page:
        for path in ("images", "thumbnails"):
            answer = await page.browser.get(f"/{path}/{name}")
            assert (answer.status, answer.headers["cache-control"]) == (
                200,
                "private, max-age=31536000, immutable",
            )


# --- live previews


async def test_a_preview_is_the_newest_picture_of_a_prompt(tmp_path):
    async with chat(hold=True) as page:
        await page.start("a fox")
        limner = page.studio.limner
        [prompt] = limner.progress("fox")
        nothing = await page.browser.get("/preview", message="fox", prompt=prompt.prompt_id)
        assert (nothing.status, nothing.kind) == (404, "not_found")

        for data in (b"rough", b"finer"):
            limner.manager.progress.report("fox", prompt.prompt_id, thumbnail=Thumbnail(data, "image/webp"))
            version = hashlib.sha256(data).hexdigest()[:16]
            answer = await page.browser.get("/preview", message="fox", prompt=prompt.prompt_id, v=version)
            assert (answer.status, answer.body) == (200, data)
            assert answer.headers["content-type"] == "image/webp"
            assert answer.headers["etag"] == f'"{version}"'
            assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
            assert answer.headers["x-content-type-options"] == "nosniff"

        old = hashlib.sha256(b"rough").hexdigest()[:16]
        for query in ({"v": old}, {}):
            answer = await page.browser.get("/preview", message="fox", prompt=prompt.prompt_id, **query)
            assert (answer.body, answer.headers["cache-control"]) == (b"finer", "no-cache")
        await page.finish()


async def test_the_address_of_a_preview_stands_in_the_status_and_leads_there():
    message_id = "a fox & a hen/ü?=#%"
    async with chat() as page:
        await page.start("a fox", message_id=message_id)
        await page.studio.limner.finished(message_id)
        status = await page.browser.get("/status", message=message_id)
        path, _, query = status.json["prompts"][0]["preview"].partition("?")
        assert path == "preview"
        answer = await page.browser.ask("GET", f"/{path}", query=query)
        assert answer.body == b"small " + png(1)
        assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize("query", [{"message": "fox"}, {"message": "fox", "prompt": "none"}])
async def test_a_preview_of_no_prompt_is_not_found(query):
    async with chat() as page:
        await page.start("a fox")
        assert (await page.browser.get("/preview", **query)).status == 404
