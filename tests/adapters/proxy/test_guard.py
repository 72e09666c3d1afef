"""Who may ask a proxy: nobody who came by another site's page."""

from __future__ import annotations

import httpx
import pytest
from starlette.responses import PlainTextResponse

from limner.adapters.proxy.guard import PRIVATE_DOMAINS, Guard

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
HERE = "http://127.0.0.1:8808"


async def ask(method: str = "POST", *, is_open: bool = False, **headers: str) -> httpx.Response:
    guarded = Guard(PlainTextResponse("passed"), ["Chat.Example", "::2"], is_open=is_open)
    transport = httpx.ASGITransport(app=guarded)
    async with httpx.AsyncClient(transport=transport, base_url=HERE) as client:
        return await client.request(
            method, CHAT, headers={n.replace("_", "-"): v for n, v in headers.items()}
        )


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8808",
        "localhost",
        "localhost.:8808",
        "LOCALHOST:1",
        "[::1]:8808",
        "[::1]",
        "[::2]:1",
        "host.docker.internal:8808",
        "chat.example:443",
    ],
)
async def test_who_names_this_machine_passes(host: str, is_open: bool):
    assert (await ask(host=host, is_open=is_open)).text == "passed"


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example.:8808",
        "127.0.0.1.evil.example",
        "evil.localhost.example",
        "evil-local.example",
        "[::1].evil.example",
        "127.0.0.1:8808.evil.example",
    ],
)
async def test_a_name_that_only_points_here_is_refused(host: str, is_open: bool):
    answer = await ask(host=host, is_open=is_open)
    assert answer.status_code == 421
    assert "--allow-host" in answer.json()["error"]["message"]


STRANGERS_CANNOT_HAVE = [
    "192.168.1.5:8808",
    "203.0.113.7",
    "[fe80::1]:8808",
    "[fe80::1%25eth0]",
    "limner:8808",
    "my-machine",
    "my-machine.:8808",
    *(f"box.{domain}:8808" for domain in PRIVATE_DOMAINS),
    "a.b.Home.Arpa",
]


@pytest.mark.parametrize("host", STRANGERS_CANNOT_HAVE)
async def test_where_other_machines_reach_it_every_name_passes_that_no_stranger_can_have(host: str):
    assert (await ask(host=host, is_open=True)).text == "passed"


@pytest.mark.parametrize("host", STRANGERS_CANNOT_HAVE)
async def test_where_only_this_machine_reaches_it_those_are_names_of_other_machines(host: str):
    assert (await ask(host=host)).status_code == 421


FOREIGN = [
    {"sec_fetch_site": "cross-site"},
    {"sec_fetch_site": "same-site"},
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:3000"},
]


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("content_type", ["text/plain", "", "multipart/form-data", "application/jsonp"])
@pytest.mark.parametrize("headers", FOREIGN)
async def test_what_another_sites_page_may_send_without_a_question_is_refused(
    headers: dict[str, str], content_type: str, is_open: bool
):
    answer = await ask(is_open=is_open, content_type=content_type, **headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_site")


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("headers", FOREIGN)
async def test_json_of_another_sites_page_passes_since_the_browser_has_asked(
    headers: dict[str, str], is_open: bool
):
    answer = await ask(is_open=is_open, content_type="application/json; charset=utf-8", **headers)
    assert answer.text == "passed"


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
async def test_questions_pass(method: str, headers: dict[str, str]):
    assert (await ask(method, is_open=False, **headers)).text == "passed"


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("headers", [{}, {"origin": HERE}, {"sec_fetch_site": "same-origin"}])
async def test_programs_that_are_no_browsers_pass_and_pages_of_its_own(
    headers: dict[str, str], is_open: bool
):
    assert (await ask(is_open=is_open, content_type="text/plain", **headers)).text == "passed"
