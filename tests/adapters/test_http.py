"""The HTTP client, against servers that behave badly."""

from __future__ import annotations

import logging
import re
import socket
import traceback

import anyio
import httpx
import pytest
from starlette.responses import JSONResponse, RedirectResponse, Response

from limner.adapters.http import HttpClient, took_the_connection
from limner.errors import (
    AnswerTooLarge,
    AuthFailed,
    BackendError,
    BadRequest,
    InvalidSetting,
    RateLimited,
    Unavailable,
    WrongAddress,
)
from tests.adapters.servers.local import RawServer, Received, Wire, chunk, happened, head

pytestmark = pytest.mark.anyio


async def get(url: str, path: str = "x", **settings: object) -> object:
    client = HttpClient(url, **settings)  # type: ignore[arg-type]
    try:
        return await client.get_json(path)
    finally:
        await client.aclose()


async def test_json_goes_out_and_comes_back(web):
    web.answer_json("/api/x", {"answer": [1, 2]})
    client = HttpClient(f"{web.url}/api", headers={"x-key": "secret-value"})
    assert await client.post_json("x", {"q": "ü \ud800"}) == {"answer": [1, 2]}
    await client.aclose()
    (received,) = web.received
    assert received.json == {"q": "ü ?"}
    assert received.headers["x-key"] == "secret-value"


async def test_large_json_is_parsed_too(web):
    web.answer_json("/x", {"text": "é" * 300_000})
    assert await get(web.url) == {"text": "é" * 300_000}


async def test_an_endless_body_is_given_up_at_the_limit():
    def script(wire: Wire) -> None:
        wire.send(head(transfer_encoding="chunked"))
        wire.send_until_cut(chunk(b"x" * 65536))

    with RawServer(script) as server:
        with pytest.raises(AnswerTooLarge, match="more than 1000000 bytes"):
            await get(server.url, max_bytes=1_000_000)
        await happened(server.was_cut)
        # What went beyond the limit lay in the socket's buffers.
        assert server.sent < 32_000_000


async def test_an_answer_that_announces_too_much_is_not_even_begun():
    def script(wire: Wire) -> None:
        wire.send(head(content_length=str(10 * 1024**3)))
        wire.wait_until_cut()

    with RawServer(script) as server:
        with pytest.raises(AnswerTooLarge, match="10737418240 bytes"):
            await get(server.url)
        await happened(server.was_cut)


async def test_an_answer_that_drips_without_end_is_given_up_in_time():
    class Drip(httpx.AsyncByteStream):
        closed = False

        async def __aiter__(self):
            while not self.closed:
                await anyio.lowlevel.checkpoint()
                yield b" "

        async def aclose(self) -> None:
            self.closed = True

    async def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Drip())

    with pytest.raises(Unavailable, match=r"did not finish its answer within 0\.001 s"):
        await get("http://host", timeout_ms=1, transport=httpx.MockTransport(answer))


async def test_a_call_without_bounds_keeps_that_of_connecting():
    asked: list[object] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.extensions["timeout"])
        return httpx.Response(200, json=1)

    client = HttpClient(
        "http://host", connect_timeout_ms=3, read_timeout_ms=4, transport=httpx.MockTransport(answer)
    )
    await client.post_json("x", {})
    await client.post_json("x", {}, unbounded=True)
    await client.fetch("GET", "x", unbounded=True)
    async with client.stream("x", {}, unbounded=True):
        pass
    await client.aclose()
    bounded = {"connect": 0.003, "read": 0.004, "write": 0.004, "pool": None}
    assert asked == [bounded, *[{**bounded, "read": None, "write": None}] * 3]


async def test_a_held_answer_can_be_cancelled(web):
    web.hold("/x")
    client = HttpClient(web.url)
    async with anyio.create_task_group() as group:
        group.start_soon(client.get_json, "x")
        await happened(web.arrived)
        group.cancel_scope.cancel()
    await client.aclose()


async def test_nobody_listening_is_told_in_one_line():
    with RawServer(lambda wire: None) as server:
        url = server.url
    with pytest.raises(Unavailable) as caught:
        await get(url)
    assert re.fullmatch(r"cannot reach http://127\.0\.0\.1:[0-9]+/x: connection refused", str(caught.value))


async def test_an_unknown_host_is_told_in_one_line():
    async def answer(_: httpx.Request) -> httpx.Response:
        # As on both event loops: the resolver's error lies below the library's own, trio's in a group.
        cause = ExceptionGroup("attempts", [socket.gaierror(socket.EAI_NONAME, "Name or service not known")])
        raise httpx.ConnectError("All connection attempts failed") from cause

    with pytest.raises(Unavailable) as caught:
        await get("http://typo", transport=httpx.MockTransport(answer))
    assert str(caught.value) == "cannot reach http://typo/x: its host name cannot be resolved"


async def test_a_reset_in_the_middle_of_the_body_is_unavailable():
    def script(wire: Wire) -> None:
        wire.send(head(content_length="1000") + b'{"half')
        wire.reset()

    with RawServer(script) as server, pytest.raises(Unavailable, match="cut the connection"):
        await get(server.url)


async def test_a_body_that_ends_early_is_unavailable():
    with (
        RawServer(lambda wire: wire.send(head(content_length="1000") + b'{"half')) as server,
        pytest.raises(Unavailable, match="cut the connection"),
    ):
        await get(server.url)


async def test_a_server_that_hangs_up_without_a_word_is_unavailable():
    with RawServer(lambda wire: None) as server, pytest.raises(Unavailable, match="cut the connection"):
        await get(server.url)


async def test_an_answer_that_is_no_http_is_an_error_of_the_backend():
    with RawServer(lambda wire: wire.send(b"SSH-2.0-OpenSSH\r\n")) as server, pytest.raises(BackendError):
        await get(server.url)


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (httpx.ConnectTimeout("x"), "cannot reach http://host/x: no connection in time"),
        (httpx.ReadTimeout("x"), "http://host/x fell silent"),
    ],
)
async def test_timeouts_are_unavailable(failure, words):
    async def answer(_: httpx.Request) -> httpx.Response:
        raise failure

    with pytest.raises(Unavailable, match=words):
        await get("http://host", transport=httpx.MockTransport(answer))


async def test_an_html_page_is_told_from_json(web):
    web.answer("/x", Response("<!doctype html><title>Login</title>", media_type="text/html"))
    with pytest.raises(BackendError, match="without usable JSON: it is an HTML page"):
        await get(web.url)


async def test_what_is_no_json_is_shown_without_the_keys_in_it(web):
    web.answer("/x", Response("no account for abcdefgh", media_type="text/plain"))
    with pytest.raises(BackendError) as caught:
        await get(web.url, secrets=("abcdefgh",))
    assert str(caught.value).endswith("without usable JSON: it is text: no account for ***")
    assert "abcdefgh" not in str(caught.value.__cause__)


@pytest.mark.parametrize("body", ["[" * 100_000, '{"a":', "", "9" * 5000])
async def test_json_that_is_broken_or_hostile_is_an_error_of_the_backend(web, body):
    web.answer("/x", Response(body, media_type="application/json"))
    with pytest.raises(BackendError, match="without usable JSON"):
        await get(web.url)


async def test_only_of_what_is_asked_for_a_page_is_a_wrong_address(web):
    web.answer("/x", Response("<!doctype html><title>Please wait</title>", media_type="text/html"))
    client = HttpClient(web.url)
    with pytest.raises(WrongAddress):
        await client.post_json("x", {})
    with pytest.raises(BackendError) as caught:
        await client.get_json("x")
    await client.aclose()
    assert type(caught.value) is BackendError


async def test_a_path_that_is_not_there_is_a_wrong_address_but_for_files(web):
    client = HttpClient(web.url)
    with pytest.raises(WrongAddress):
        await client.post_json("x", {})
    with pytest.raises(BadRequest) as caught:
        await client.get_bytes("x.png")
    await client.aclose()
    assert type(caught.value) is BadRequest


async def test_a_server_that_wants_a_key_is_told_where_it_is_taken_from_if_none_was_sent(web):
    web.answer_json("/x", {"detail": "Who are you?"}, 401)
    for auth, told in ((None, r"Who are you\? \(set KEY\)$"), (("me", "secret"), r"Who are you\?$")):
        client = HttpClient(web.url, auth=auth, without_key="set KEY")
        with pytest.raises(AuthFailed) as caught:
            await client.post_json("x", {})
        await client.aclose()
        assert re.search(told, str(caught.value))


@pytest.mark.parametrize("port", ["0", "65536", "70000", "99999", "-1"])
async def test_a_port_that_there_is_not_is_refused_at_once_and_fetched_from_by_nobody(port, web):
    with pytest.raises(InvalidSetting, match=r"port|usable address"):
        HttpClient(f"http://127.0.0.1:{port}")
    client = HttpClient(web.url)
    with pytest.raises(BackendError, match=r"will not fetch|cannot use the address"):
        await client.get_bytes(f"http://127.0.0.1:{port}/x.png")
    await client.aclose()


async def test_a_connection_that_is_cut_was_taken():
    with RawServer(lambda wire: wire.reset()) as server, pytest.raises(Unavailable) as caught:
        await get(server.url)
    assert took_the_connection(caught.value)
    with pytest.raises(Unavailable) as refused:
        await get("http://127.0.0.1:9")
    assert not took_the_connection(refused.value)


async def test_a_refusal_keeps_the_servers_words_and_its_pause(web):
    web.answer_json("/x", {"error": {"message": "Slow down."}}, 429, {"Retry-After": "7"})
    with pytest.raises(RateLimited, match=r"answered 429 and asks for a pause of 7 s: Slow down\.") as caught:
        await get(web.url)
    assert caught.value.retry_after_ms == 7000


async def test_an_endless_refusal_costs_no_more_than_its_beginning():
    def script(wire: Wire) -> None:
        wire.send(head("500 Oops", transfer_encoding="chunked"))
        wire.send_until_cut(chunk(b"no " * 20_000))

    with RawServer(script) as server:
        with pytest.raises(BackendError, match="answered 500: no no"):
            await get(server.url)
        await happened(server.was_cut)


async def test_keys_stay_out_of_errors_and_reprs(web):
    key = "sk-very-secret"
    web.answer_json("/x", {"error": {"message": f"Incorrect API key provided: {key}"}}, 401)
    host = web.url.removeprefix("http://")
    client = HttpClient(f"http://user:hunter22@{host}?key=abcdef", headers={"authorization": f"Bearer {key}"})
    with pytest.raises(AuthFailed) as caught:
        await client.get_json("x?token=abcdef")
    await client.aclose()
    told = f"{caught.value} {caught.value!r} {client!r}"
    assert "***" in told
    for secret in (key, "hunter22", "abcdef"):
        assert secret not in told


async def test_whatever_else_is_secret_stays_out_of_the_servers_words(web):
    web.answer_json("/x", {"error": "no account for abcdefgh; try 123"}, 403)
    client = HttpClient(web.url, secrets=("abcdefgh", "123"))
    with pytest.raises(AuthFailed, match=r"no account for \*\*\*; try 123"):
        await client.get_json("x")
    await client.aclose()


async def test_a_key_in_the_path_is_shown_nowhere(web, caplog):
    caplog.set_level(logging.DEBUG)
    client = HttpClient(f"{web.url}/v1/abc%2Fdef/", secrets=("abc/def", "user-7"))
    with pytest.raises(BadRequest) as caught:
        await client.get_json("user-7/x")
    unusable = "http://user-7:port/x"
    with pytest.raises(BackendError) as refused:
        await client.get_json(unusable)
    await client.aclose()
    assert web.received[0].raw_path == "/v1/abc%2Fdef/user-7/x"
    assert str(caught.value) == f"{web.url}/v1/***/***/x answered 404: Not Found"
    logged = "\n".join(entry.getMessage() for entry in caplog.records if "uvicorn" not in entry.name)
    assert f"HTTP Request: GET {web.url}/v1/***/***/x " in logged
    told = f"{client!r} {logged} {''.join(traceback.format_exception(refused.value))}"
    assert not any(secret in told for secret in ("abc/def", "abc%2Fdef", "user-7"))


async def test_a_host_that_is_secret_is_shown_nowhere_either(web):
    web.answer("/x", Response(b"x", headers={"set-cookie": "a=b"}))
    client = HttpClient(web.url, secrets=("http", "127.0.0.1"))
    assert await client.get_bytes("x") == b"x"
    with pytest.raises(BadRequest, match=r"://\*\*\*:[0-9]+/y answered 404"):
        await client.get_bytes("y")
    await client.aclose()


async def test_credentials_are_taken_out_as_they_were_sent(web):
    async def echo(got: Received) -> Response:
        return JSONResponse({"error": f"bad header {got.headers['authorization']}"}, 401)

    web.on("/x", echo)
    client = HttpClient(web.url, auth=("user", "hunter22"))
    with pytest.raises(AuthFailed, match=r"answered 401: bad header Basic \*\*\*"):
        await client.get_json("x")
    await client.aclose()


async def test_the_client_librarys_own_log_shows_no_query(web, caplog):
    caplog.set_level(logging.DEBUG)
    web.answer("/x", Response(b"x"))
    client = HttpClient(web.url)
    await client.get_bytes("x?key=abcdef")
    await client.aclose()
    # The stand-in server's own log is not ours.
    logged = "\n".join(entry.getMessage() for entry in caplog.records if "uvicorn" not in entry.name)
    assert f"HTTP Request: GET {web.url}/x " in logged
    assert "abcdef" not in logged


async def test_whatever_comes_is_fetched_with_its_media_type(web):
    web.answer("/x", Response(b"PNG", media_type="image/png"))
    web.answer_json("/y", {"a": 1})
    client = HttpClient(web.url)
    assert await client.fetch("GET", "x") == (f"{web.url}/x", "image/png", b"PNG")
    answer = await client.fetch("POST", "y", ["list"])
    assert (answer.media_type, await client.json_in(answer)) == ("application/json", {"a": 1})
    await client.aclose()
    assert [(got.method, got.body) for got in web.received] == [("GET", b""), ("POST", b'["list"]')]


async def test_what_is_fetched_is_bounded_too(web):
    web.answer("/x", Response(b"x" * 100))
    client = HttpClient(web.url)
    with pytest.raises(AnswerTooLarge):
        await client.fetch("GET", "x", max_bytes=99)
    await client.aclose()


async def test_a_fetch_follows_redirects_where_nothing_was_sent(web):
    web.answer("/x", RedirectResponse("/y"))
    web.answer("/y", Response(b"y"))
    client = HttpClient(web.url)
    assert (await client.fetch("GET", "x")).data == b"y"
    with pytest.raises(BadRequest, match="has moved"):
        await client.fetch("POST", "x", {})
    await client.aclose()


async def test_a_path_that_says_too_much_is_shown_as_something_else(web, caplog):
    caplog.set_level(logging.DEBUG)
    client = HttpClient(web.url)
    with pytest.raises(BadRequest) as caught:
        await client.fetch("GET", "image/my%20diary?seed=1", shown="image/...")
    await client.aclose()
    assert str(caught.value) == f"{web.url}/image/... answered 404: Not Found"
    assert web.received[0].raw_path == "/image/my%20diary"
    logged = [entry.getMessage() for entry in caplog.records if "uvicorn" not in entry.name]
    assert any(f"GET {web.url}/image/... " in line for line in logged)
    assert not any("diary" in line for line in logged)


async def test_a_deletion_waits_for_the_status_only(web):
    web.answer_json("/x", {}, 202)
    client = HttpClient(web.url)
    await client.delete("x")
    with pytest.raises(BadRequest, match="404"):
        await client.delete("y")
    await client.aclose()
    assert [got.method for got in web.received] == ["DELETE", "DELETE"]


async def test_a_user_and_password_in_the_address_are_used(web):
    web.answer_json("/x", 1)
    await get(web.url.replace("http://", "http://user:pass@"))
    assert web.received[0].headers["authorization"] == "Basic dXNlcjpwYXNz"


async def test_a_post_that_is_redirected_is_refused_with_the_new_address(web):
    web.answer("/x", RedirectResponse("https://elsewhere/sd/x"))
    client = HttpClient(web.url)
    with pytest.raises(WrongAddress, match=r"has moved \(307\); use https://elsewhere/sd/"):
        await client.post_json("x", {})
    await client.aclose()


async def test_a_file_is_fetched_through_redirects_and_foreign_hosts_get_no_key(web):
    def elsewhere(wire: Wire) -> None:
        wire.send(head(content_length="4") + b"file")

    with RawServer(elsewhere) as other:
        web.answer("/here", Response(b"own"))
        web.answer("/there", RedirectResponse(f"{other.url}/cdn/1.png?sig=1"))
        client = HttpClient(web.url, headers={"authorization": "Bearer secret"})
        assert await client.get_bytes("/here") == b"own"
        assert await client.get_bytes("there") == b"file"
        await client.aclose()
    assert [got.headers.get("authorization") for got in web.received] == ["Bearer secret"] * 2
    assert b"secret" not in b"".join(other.heads)


async def test_a_foreign_host_gets_no_key():
    seen: list[httpx.Headers] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        return httpx.Response(200, content=b"x")

    client = HttpClient(
        "https://api.example/v1",
        headers={"authorization": "Bearer secret"},
        transport=httpx.MockTransport(answer),
    )
    await client.get_bytes("https://api.example.evil/x")
    await client.get_bytes("http://api.example/x")
    await client.get_bytes("https://api.example:443/x")
    await client.aclose()
    assert [("authorization" in headers) for headers in seen] == [False, False, True]


async def test_redirects_in_circles_come_to_an_end(web):
    web.answer("/x", RedirectResponse("/x"))
    client = HttpClient(web.url)
    with pytest.raises(BackendError, match="redirects in circles"):
        await client.get_bytes("x")
    await client.aclose()
    assert len(web.received) == 5


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "gopher:x", "http://[bad/"])
async def test_only_web_addresses_are_fetched(web, url):
    client = HttpClient(web.url)
    with pytest.raises(BackendError):
        await client.get_bytes(url)
    await client.aclose()
    assert web.received == []


@pytest.mark.parametrize(
    "url", ["", "localhost:7860", "ftp://x", "http://", "http://[::1", "nonsense", "http://a b"]
)
def test_a_base_address_must_be_a_web_address(url):
    with pytest.raises(InvalidSetting, match="address"):
        HttpClient(url)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://user:hunter22@host:port", "not a usable address: 'https://***@host:port'"),
        ("http://user:hunter 22@host", "not an http or https address: 'http://***@host'"),
        ("ftp://user:hunter22@host?key=hunter22", "not an http or https address: 'ftp://***@host'"),
        ("http://host:hunter/22@host", "not a usable address: 'http://***@host'"),
        ("user:hunter22@host:7860", "not an http or https address (it has no http:// before it)"),
        ("hunter22", "not an http or https address (it has no http:// before it)"),
    ],
)
def test_a_mistyped_address_shows_no_password(url, told):
    with pytest.raises(InvalidSetting) as caught:
        HttpClient(url)
    assert str(caught.value) == told
    assert "hunter" not in "".join(traceback.format_exception(caught.value))


def test_a_key_that_no_header_can_carry_is_refused_without_being_shown():
    with pytest.raises(InvalidSetting) as caught:
        HttpClient("http://host", headers={"authorization": "Bearer sécret\n"})
    assert "cret" not in str(caught.value)
