"""Who may do what, and what a page of another site may not."""

from __future__ import annotations

import json

import pytest
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request

from limner.adapters.web.access import MessageToken, is_cross_site
from limner.errors import InvalidSetting
from tests.adapters.web.chat import chat
from tests.support import settle

pytestmark = pytest.mark.anyio

READS = [
    "/status?message=fox",
    "/text?message=fox",
    "/machine?message=fox",
    "/preview?message=fox&prompt=none",
    "/events?message=fox",
    "/machine.svg",
    "/tags",
    "/limner-message.js",
    "/limner-message/words.js",
    f"/images/{'f' * 64}.png",
    f"/thumbnails/{'f' * 64}.png",
]
CHANGES = {
    "/regenerate": {"message": "fox", "image": "https://images.test/1.png"},
    "/retry": {"message": "fox", "prompt": "none"},
    "/cancel": {"message": "fox"},
}


# --- the token


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize("token", [None, "", "wrong", "é", "of-another"])
async def test_a_change_without_the_messages_token_is_refused(path, token):
    async with chat(hold=True) as page:
        await page.start("a fox")
        if token == "of-another":
            token = page.studio.limner.message_token("hen")
        headers = {} if token is None else {"limner-token": token}
        answer = await page.browser.post(path, CHANGES[path], headers)
        assert (answer.status, answer.kind) == (403, "refused")
        assert "Limner-Token" in answer.json["error"]["hint"]
        assert page.studio.state("fox") == "draining"
        await page.finish()


async def test_a_change_with_the_messages_token_is_made():
    async with chat(hold=True) as page:
        await page.start("a fox")
        assert (await page.post("/cancel", message="fox")).status == 200
        assert page.studio.state("fox") is None


async def test_the_token_counts_for_its_own_message_only_whatever_the_address_says():
    async with chat(hold=True) as page:
        await page.start("a fox")
        await page.start("a hen", message_id="hen")
        token = page.studio.limner.message_token("fox")
        answer = await page.browser.ask(
            "POST",
            "/cancel",
            query="message=fox",
            headers={"limner-token": token, "content-type": "application/json"},
            pieces=[b'{"message": "hen"}'],
        )
        assert answer.status == 403
        assert page.studio.state("hen") == "draining"
        await page.finish()


async def test_reading_is_open_to_whoever_knows_the_message():
    async with chat() as page:
        await page.start("a fox")
        for path in ("/status", "/text", "/machine"):
            assert (await page.browser.get(path, message="fox")).status == 200


# --- the host's word


async def test_the_host_is_asked_for_every_request_what_is_wanted_and_of_which_message():
    asked: list[tuple[str, str | None]] = []

    def authorise(request: Request, action: str, message_id: str | None) -> bool:
        assert request.headers["cookie"] == "session=1"
        asked.append((action, message_id))
        return False

    async with chat(app={"authorise": authorise}, headers={"cookie": "session=1"}) as page:
        for address in READS:
            path, _, query = address.partition("?")
            assert (await page.browser.ask("GET", path, query=query)).status == 403
        for path, fields in CHANGES.items():
            answer = await page.browser.post(path, fields)
            assert (answer.status, answer.kind) == (403, "refused")
            assert "Limner-Token" not in answer.json["error"]["hint"]
    assert asked == [
        *[("read", "fox")] * 5,
        *[("read", None)] * 4,
        *[("images", None)] * 2,
        ("regenerate", "fox"),
        ("retry", "fox"),
        ("cancel", "fox"),
    ]


async def test_a_coroutine_function_may_decide_too():
    async def authorise(request: Request, action: str, message_id: str | None) -> bool:
        await settle()
        return message_id == "fox"

    async with chat(app={"authorise": authorise}) as page:
        await page.start("a fox")
        assert (await page.browser.get("/status", message="fox")).status == 200
        assert (await page.browser.get("/status", message="hen")).status == 403


async def test_of_several_messages_in_one_stream_every_one_is_asked_for():
    def authorise(request: Request, action: str, message_id: str | None) -> bool:
        return message_id != "hen"

    async with chat(app={"authorise": authorise}) as page:
        answer = await page.browser.ask("GET", "/events", query="message=fox&message=cat&message=hen")
        assert answer.status == 403


async def test_a_host_can_add_to_the_token_rule():
    async with chat(hold=True) as page:
        token_rule = MessageToken(page.studio.limner)

        def authorise(request: Request, action: str, message_id: str | None) -> bool:
            return "cookie" in request.headers and token_rule(request, action, message_id)  # type: ignore[arg-type]

        page.browser = type(page.browser)(page.studio.limner.asgi(authorise=authorise))
        await page.start("a fox")
        assert (await page.post("/cancel", message="fox")).status == 403
        token = {"limner-token": page.studio.limner.message_token("fox")}
        assert (await page.browser.post("/cancel", {"message": "fox"}, {"cookie": "a=1"})).status == 403
        both = {"cookie": "a=1", **token}
        assert (await page.browser.post("/cancel", {"message": "fox"}, both)).status == 200


async def test_a_hosts_own_refusal_is_passed_on():
    def authorise(request: Request, action: str, message_id: str | None) -> bool:
        raise HTTPException(401, "log in first", {"www-authenticate": "Bearer"})

    async with chat(app={"authorise": authorise}) as page:
        answer = await page.browser.get("/status", message="fox")
        assert (answer.status, answer.kind) == (401, "refused")
        assert answer.json["error"]["message"] == "log in first"
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_host_that_fails_lets_nobody_in_and_tells_only_the_log(caplog):
    def authorise(request: Request, action: str, message_id: str | None) -> bool:
        raise RuntimeError("no connection to db.internal")

    async with chat(hold=True, app={"authorise": authorise}) as page:
        await page.start("a fox")
        answer = await page.post("/cancel", message="fox")
        assert (answer.status, answer.kind) == (500, "internal_error")
        assert "db.internal" not in answer.body.decode()
        assert "Traceback" not in answer.body.decode()
        assert page.studio.state("fox") == "draining"
        [line] = [record.getMessage() for record in caplog.records]
        assert "request_failed" in line
        assert "db.internal" in line
        assert page.studio.limner.message_token("fox") not in line
        await page.finish()


# --- other sites


@pytest.mark.parametrize(
    ("headers", "other"),
    [
        ({}, False),
        ({"sec-fetch-site": "same-origin", "origin": "https://chat.test"}, False),
        ({"sec-fetch-site": "same-origin", "origin": "https://in-front-of-a-proxy.test"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "same-site", "origin": "https://sibling.chat.test"}, True),
        ({"sec-fetch-site": "cross-site", "origin": "https://evil.test"}, True),
        ({"sec-fetch-site": "cross-site"}, True),
        ({"sec-fetch-site": "", "origin": "https://chat.test"}, True),
        ({"sec-fetch-site": "whatever comes next"}, True),
        ({"origin": "https://chat.test"}, False),
        ({"origin": "http://chat.test"}, False),
        ({"origin": "https://CHAT.test"}, False),
        ({"origin": "https://chat.test:443"}, False),
        ({"origin": "http://chat.test:8000"}, True),
        ({"origin": "http://chat.test:8000", "host": "chat.test:8000"}, False),
        ({"origin": "http://chat.test", "host": "chat.test:80"}, False),
        ({"origin": "https://evil.test"}, True),
        ({"origin": "https://chat.test.evil.test"}, True),
        ({"origin": "https://evil.test/chat.test"}, True),
        ({"origin": "null"}, True),
        ({"origin": ""}, True),
        ({"origin": "", "host": ""}, True),
        ({"origin": "chat.test"}, True),
        ({"origin": "http://[", "host": "["}, True),
        ({"origin": "file://chat.test"}, True),
        ({"origin": "https://friend.test", "sec-fetch-site": "cross-site"}, False),
        ({"origin": "https://friend.test:8443", "sec-fetch-site": "cross-site"}, True),
    ],
)
def test_where_a_request_comes_from_is_what_the_browser_says(headers, other):
    given = Headers({"host": "chat.test", **headers})
    assert is_cross_site(given, frozenset({"https://friend.test"})) is other


@pytest.mark.parametrize("path", CHANGES)
async def test_a_page_of_another_site_changes_nothing_even_with_a_token(path):
    async with chat(hold=True) as page:
        await page.start("a fox")
        token = page.studio.limner.message_token("fox")
        headers = {"limner-token": token, "origin": "https://evil.test", "sec-fetch-site": "cross-site"}
        answer = await page.browser.post(path, CHANGES[path], headers)
        assert (answer.status, answer.kind) == (403, "cross_site")
        assert "access-control-allow-origin" not in answer.headers
        assert page.studio.state("fox") == "draining"
        await page.finish()


FRIEND = {"origin": "https://friend.test", "sec-fetch-site": "cross-site"}
FRIENDS = {"allowed_origins": ["https://friend.test"]}


async def test_a_page_of_an_allowed_origin_may_read_and_change():
    async with chat(hold=True, app=FRIENDS) as page:
        await page.start("a fox")
        read = await page.browser.ask("GET", "/status", query="message=fox", headers=FRIEND)
        assert read.headers["access-control-allow-origin"] == "https://friend.test"
        assert "origin" in read.headers["vary"].lower()
        async with page.browser.reading("/events", "message=fox", FRIEND) as reader:
            assert reader.headers["access-control-allow-origin"] == "https://friend.test"
        refused = await page.browser.post("/cancel", {"message": "fox"}, FRIEND)
        assert (refused.status, refused.kind) == (403, "refused")
        assert refused.headers["access-control-allow-origin"] == "https://friend.test"
        token = {"limner-token": page.studio.limner.message_token("fox")}
        done = await page.browser.post("/cancel", {"message": "fox"}, {**FRIEND, **token})
        assert done.status == 200
        assert done.headers["access-control-allow-origin"] == "https://friend.test"


async def test_an_error_of_ours_can_be_read_by_an_allowed_origin_too():
    def authorise(request: Request, action: str, message_id: str | None) -> bool:
        raise RuntimeError("broken")

    async with chat(app={**FRIENDS, "authorise": authorise}) as page:
        answer = await page.browser.ask("GET", "/tags", headers=FRIEND)
        assert answer.status == 500
        assert answer.headers["access-control-allow-origin"] == "https://friend.test"
        assert (await page.browser.ask("GET", "/none", headers=FRIEND)).headers["access-control-allow-origin"]


async def test_what_is_cached_for_one_origin_is_not_given_to_another(tmp_path):
    (tmp_path / f"{'f' * 64}.png").write_bytes(b"x")
    async with chat(folder=tmp_path, app=FRIENDS) as page:
        for headers in ({}, FRIEND, {"origin": "https://evil.test"}):
            answer = await page.browser.ask("GET", f"/images/{'f' * 64}.png", headers=headers)
            assert answer.status == 200
            assert answer.headers["vary"] == "Origin"
            assert answer.headers.get("access-control-allow-origin") == (
                "https://friend.test" if headers == FRIEND else None
            )


@pytest.mark.parametrize(
    ("origin", "method", "headers", "allowed"),
    [
        ("https://friend.test", "POST", "content-type, limner-token", True),
        ("https://friend.test", "GET", "last-event-id", True),
        ("https://friend.test", "POST", "Authorization", True),
        ("https://friend.test", "DELETE", "", False),
        ("https://friend.test", "POST", "x-other", False),
        ("https://evil.test", "POST", "limner-token", False),
        ("null", "POST", "limner-token", False),
    ],
)
async def test_a_browser_that_asks_first_is_told_what_an_origin_may_do(origin, method, headers, allowed):
    ask = {"origin": origin, "access-control-request-method": method}
    if headers:
        ask["access-control-request-headers"] = headers
    async with chat(app=FRIENDS) as page:
        answer = await page.browser.ask("OPTIONS", "/regenerate", headers=ask)
        assert answer.status == (200 if allowed else 400)
        if origin != "https://friend.test":
            assert "access-control-allow-origin" not in answer.headers
        else:
            assert answer.headers["access-control-allow-origin"] == origin
        assert "access-control-allow-credentials" not in answer.headers


async def test_without_allowed_origins_nobody_is_told_anything():
    ask = {"origin": "https://friend.test", "access-control-request-method": "POST"}
    async with chat() as page:
        answer = await page.browser.ask("OPTIONS", "/regenerate", headers=ask)
        assert (answer.status, answer.kind) == (405, "method_not_allowed")
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "origins",
    [
        "https://friend.test",
        ["*"],
        ["https://*.friend.test"],
        ["null"],
        [""],
        ["friend.test"],
        ["https://friend.test/"],
        ["https://friend.test/chat"],
        ["https://Friend.test"],
        ["https://user@friend.test"],
        ["https://friend.test "],
        ["ftp://friend.test"],
        [None],
        [b"https://friend.test"],
    ],
    ids=str,
)
async def test_what_is_no_origin_is_refused_when_the_app_is_made(origins):
    with pytest.raises(InvalidSetting, match="allowed_origins"):
        async with chat(app={"allowed_origins": origins}):
            pass


async def test_answers_tell_no_secret():
    async with chat() as page:
        await page.start("a fox")
        answer = await page.post("/cancel", message="fox")
        token = page.studio.limner.message_token("fox")
        assert answer.status == 409
        assert token not in answer.body.decode() + json.dumps(answer.headers)
