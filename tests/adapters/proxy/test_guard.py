"""Who may ask a proxy that listens to this machine only."""

from __future__ import annotations

import httpx
import pytest
from starlette.responses import PlainTextResponse

from limner.adapters.proxy.guard import OwnHostsOnly

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"


async def ask(method: str = "POST", **headers: str) -> httpx.Response:
    guarded = OwnHostsOnly(PlainTextResponse("passed"), ["Chat.Example"])
    transport = httpx.ASGITransport(app=guarded)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8808") as client:
        return await client.request(
            method, CHAT, headers={n.replace("_", "-"): v for n, v in headers.items()}
        )


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8808", "localhost", "LOCALHOST:1", "[::1]:8808", "[::1]", "chat.example:443"]
)
async def test_who_names_this_machine_passes(host: str):
    assert (await ask(host=host)).text == "passed"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8808", "127.0.0.1.evil.example", "[::2]:8808"]
)
async def test_a_name_that_only_points_here_is_refused(host: str):
    answer = await ask(host=host)
    assert answer.status_code == 421
    assert "--allow-host" in answer.json()["error"]["message"]


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_what_another_sites_page_may_send_without_a_question_is_refused(site: str):
    answer = await ask(sec_fetch_site=site, content_type="text/plain")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_site")


async def test_json_of_another_sites_page_passes_since_the_browser_has_asked():
    answer = await ask(sec_fetch_site="cross-site", content_type="application/json; charset=utf-8")
    assert answer.text == "passed"


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
async def test_questions_pass(method: str):
    assert (await ask(method, sec_fetch_site="cross-site")).text == "passed"


async def test_programs_that_are_no_browsers_pass():
    assert (await ask(content_type="text/plain")).text == "passed"
