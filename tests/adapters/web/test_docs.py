"""The server on the page about the web app runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Route

from tests.adapters.web.browser import Browser
from tests.adapters.web.chat import chat

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[3] / "docs" / "web.md"


async def test_the_server_on_the_page_streams_and_illustrates(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIMNER_GENERATOR", raising=False)
    [example, *_] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, "docs/web.md", "exec"), names)
    browser = Browser(names["app"])
    async with names["lifespan"](names["app"]):
        page = await browser.get("/", message="m1")
        token = re.findall(r'token="(.+?)"', page.body.decode())[0]
        reply = await browser.ask("POST", "/reply")
        assert reply.status == 202
        assert "Look: " in await names["limner"].text("m1")
        result = await names["limner"].finished("m1")
        [placed] = result.placed
        assert (await browser.get(placed.image_url)).headers["content-type"].startswith("image/")
        click = {"message": "m1", "image": placed.image_url}
        assert (await browser.post("/limner/regenerate", click)).status == 403
        assert (await browser.post("/limner/regenerate", click, {"limner-token": token})).status == 202
        cancelled = await browser.post("/limner/cancel", {"message": "m1"}, {"limner-token": token})
        assert cancelled.json["state"] == "cancelled"


async def test_every_route_is_on_the_page():
    told = {
        (method, re.sub(r"[?].*|NAME", "", path))
        for method, path in re.findall(r"^\| `(GET|POST) ([^`]+)`", PAGE.read_text(), re.MULTILINE)
    }
    async with chat() as page:
        routes = {
            ("POST" if "POST" in route.methods else "GET", route.path.strip("/").removesuffix("{name}"))
            for route in page.studio.limner.asgi().routes
            if isinstance(route, Route) and route.methods
        }
    assert told == routes
