"""What somebody sees who opens the proxy's address in a browser, and what a stopped server says."""

from __future__ import annotations

import anyio
import httpx
import pytest
from starlette.types import Message, Scope

from limner.adapters.proxy.app import Proxy
from tests.adapters.proxy.house import proxy_before
from tests.support import settle


def test_the_page_says_what_to_type_and_what_is_in_force(web, tmp_path):
    about = {"chat server": "http://127.0.0.1:1", "painter": "<script>alert(1)</script>"}
    with proxy_before(web.url, tmp_path, about=about) as house:
        page = httpx.get(f"{house.url}/")
    assert page.headers["content-type"].startswith("text/html")
    assert f"<code>{house.url}/v1</code>" in page.text
    assert "<dd>http://127.0.0.1:1</dd>" in page.text
    assert "<script" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_the_page_names_the_address_that_readers_know_it_by(web, tmp_path):
    with proxy_before(web.url, tmp_path, public_url="https://chat.example/") as house:
        assert "<code>https://chat.example/v1</code>" in httpx.get(f"{house.url}/").text


@pytest.mark.anyio
async def test_a_request_that_the_server_cuts_off_is_told_so_in_the_shape_of_the_api():
    sent: list[Message] = []

    class Hanging(Proxy):
        """Whose upstream never answers."""

        def __init__(self) -> None:
            """Without parts: it does not come to them."""

        async def _answer(self, *_: object) -> None:
            await anyio.sleep_forever()

    async def receive() -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    async def send(message: Message) -> None:
        await anyio.lowlevel.checkpoint()
        sent.append(message)

    scope: Scope = {"type": "http"}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Hanging(), scope, receive, send)
        await settle()
        tasks.cancel_scope.cancel()
    assert sent[0]["status"] == 503
    assert b'"code":"stopped"' in sent[1]["body"]
