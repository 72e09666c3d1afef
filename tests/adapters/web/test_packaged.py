"""The element, its modules and the picture of a session, as they come with the package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import limner
from tests.adapters.web.chat import chat

pytestmark = pytest.mark.anyio

STATIC = Path(limner.__file__).parent / "adapters" / "web" / "static"
FILES = sorted(file.relative_to(STATIC).as_posix() for file in STATIC.rglob("*") if file.is_file())
MEDIA_TYPES = {"svg": "image/svg+xml", "js": "text/javascript; charset=utf-8"}


@pytest.mark.parametrize("file", FILES)
async def test_what_belongs_to_the_package_is_served_and_asked_for_again(file):
    path = "/machine.svg" if file == "session.svg" else f"/{file}"
    async with chat() as page:
        answer = await page.browser.get(path)
        assert (answer.status, answer.body) == (200, (STATIC / file).read_bytes())
        assert answer.headers["content-type"] == MEDIA_TYPES[file.rpartition(".")[2]]
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-content-type-options"] == "nosniff"
        known = await page.browser.ask("GET", path, headers={"if-none-match": answer.headers["etag"]})
        assert (known.status, known.body) == (304, b"")
        head = await page.browser.ask("HEAD", path)
        assert (head.status, head.body, head.headers) == (200, b"", answer.headers)


def test_the_element_names_all_its_modules_so_that_a_browser_asks_for_all_at_once():
    named = re.findall(r'^import .*"\./(.+)";$', (STATIC / "limner-message.js").read_text(), re.MULTILINE)
    modules = [file for file in FILES if file.startswith("limner-message/")]
    assert sorted(named) == modules


@pytest.mark.parametrize(
    "name",
    [
        "",
        "none.js",
        "words",
        "words.js/",
        "WORDS.js",
        "words.js%00",
        "../limner-message.js",
        "..%2flimner-message.js",
        "%2e%2e/session.svg",
        "..%5csession.svg",
        "../../app.py",
        "..%2f..%2fapp.py",
        "%2fetc%2fpasswd",
        "w" * 50_000 + ".js",
    ],
)
async def test_the_element_has_no_other_modules(name):
    async with chat() as page:
        answer = await page.browser.get(f"/limner-message/{name}")
        assert (answer.status, answer.kind) == (404, "not_found")


async def test_each_state_in_the_picture_can_be_found_by_its_name():
    async with chat() as page:
        picture = (await page.browser.get("/machine.svg")).body.decode()
        for state in ("idle", "streaming", "debouncing", "sealed", "draining", "inserting", "done"):
            assert f'class="node">\n<title>{state}</title>' in picture
