"""What passes through the proxy as it is: other paths, errors, what servers do wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import anyio.lowlevel
import httpx
import openai
import pytest
from starlette.responses import Response, StreamingResponse

from limner.errors import Unavailable
from tests.adapters.proxy.house import (
    CHAT,
    DONE,
    FOX,
    Painter,
    Stream,
    client_of,
    happens,
    piece,
    proxy_before,
    raw_post,
    reply_of,
)
from tests.adapters.servers.local import RawServer, Wire, chunk, head

ASKED: list[Any] = [{"role": "user", "content": "a story"}]
STREAM = {"messages": ASKED, "stream": True}


def test_models_are_listed_by_the_official_client(web, tmp_path):
    model = {"id": "scripted", "object": "model", "created": 1, "owned_by": "us"}
    web.answer_json("/v1/models", {"object": "list", "data": [model]})
    with proxy_before(web.url, tmp_path) as house:
        assert [model.id for model in client_of(house).models.list()] == ["scripted"]


@pytest.mark.parametrize("base", ["", "/v1", "/v1/", "/api/v1"])
def test_the_upstream_may_be_given_with_its_version_or_without(web, tmp_path, base):
    path = "/api/v1/models" if base.startswith("/api") else "/v1/models"
    web.answer_json(path, {"data": []})
    with proxy_before(web.url + base, tmp_path) as house:
        assert httpx.get(f"{house.url}/v1/models").json() == {"data": []}


def test_any_other_path_passes_with_method_query_body_status_and_headers(web, tmp_path):
    answer = Response(
        b"\x00gone", 410, {"x-odd": "1", "set-cookie": "a=b", "connection": "x-hop", "x-hop": "2"}
    )
    web.answer("/v1/files/a b/c", answer)
    with proxy_before(web.url, tmp_path) as house:
        got = httpx.request(
            "DELETE",
            f"{house.url}/v1/files/a%20b/c?x=1&y=%2F",
            content=b"\x01\x02",
            headers={"x-mine": "m", "connection": "x-drop", "x-drop": "d", "accept-encoding": "br"},
        )
        assert (got.status_code, got.content, got.headers["x-odd"]) == (410, b"\x00gone", "1")
        assert "x-hop" not in got.headers
        httpx.get(f"{house.url}/v1/files/a%20b/c")
    first, second = web.received
    assert (first.method, first.raw_path, first.query) == (
        "DELETE",
        "/v1/files/a%20b/c",
        {"x": "1", "y": "/"},
    )
    assert first.body == b"\x01\x02"
    assert first.headers["x-mine"] == "m"
    assert first.headers["accept-encoding"] == "br"
    assert "x-drop" not in first.headers
    assert "cookie" not in second.headers  # nobody gets what was set for somebody else


def test_cookies_pass_in_neither_direction(web, tmp_path):
    # A browser sends those of every program on this machine, and would keep the upstream's for all of them.
    web.answer("/v1/models", Response(b"{}", headers={"set-cookie": "theirs=1", "x-odd": "1"}))
    web.answer(CHAT, Response(b"{}", media_type="application/json", headers={"set-cookie": "theirs=1"}))
    cookies = {"cookie": "session=of-another-program", "cookie2": "$Version=1"}
    with proxy_before(web.url, tmp_path) as house:
        got = httpx.get(f"{house.url}/v1/models", headers=cookies)
        _, headers, _ = raw_post(f"{house.url}{CHAT}", {"messages": ASKED}, cookies)
    assert got.headers["x-odd"] == "1"
    assert "set-cookie" not in got.headers
    assert "set-cookie" not in headers
    assert len(web.received) == 2
    assert not any("cookie" in name for request in web.received for name in request.headers)


def test_a_body_of_unknown_length_passes_through(web, tmp_path):
    web.answer_json("/v1/audio/transcriptions", {"text": "hello"})
    with proxy_before(web.url, tmp_path) as house:
        body = iter([b"part one, ", b"part two"])
        assert httpx.post(f"{house.url}/v1/audio/transcriptions", content=body).json() == {"text": "hello"}
    assert web.received[0].body == b"part one, part two"


def test_a_compressed_answer_is_left_compressed(web, tmp_path):
    import gzip

    packed = gzip.compress(b'{"data": []}')
    web.answer("/v1/models", Response(packed, headers={"content-encoding": "gzip"}))
    with proxy_before(web.url, tmp_path) as house:
        assert httpx.get(f"{house.url}/v1/models").json() == {"data": []}


def test_the_questions_of_browsers_are_the_upstreams_to_answer(web, tmp_path):
    web.answer(
        CHAT, Response(status_code=204, headers={"access-control-allow-origin": "https://chat.example"})
    )
    with proxy_before(web.url, tmp_path) as house:
        got = httpx.options(
            f"{house.url}{CHAT}",
            headers={"origin": "https://chat.example", "access-control-request-method": "POST"},
        )
    assert (got.status_code, got.headers["access-control-allow-origin"]) == (204, "https://chat.example")
    assert web.received[0].headers["origin"] == "https://chat.example"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/../admin",
        "/v1/%2e%2e/admin",
        "/v1/..%2fadmin",
        "/v1/..%5cadmin",
        "/v1/a/./b",
        "/%761/models",
        "/other",
    ],
)
def test_no_path_leads_past_the_version(web, tmp_path, path):
    with proxy_before(web.url, tmp_path) as house:
        host = house.url.removeprefix("http://")
        import socket

        with socket.create_connection((host.split(":")[0], int(host.split(":")[1]))) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
            answer = b""
            while part := connection.recv(65536):
                answer += part
    assert answer.startswith(b"HTTP/1.1 404")
    assert b'"error"' in answer
    assert not web.received


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_errors_pass_with_status_body_and_headers(web, tmp_path, status, kind, stream):
    body = {"error": {"message": "as it is", "type": "t", "code": "c", "param": None}}
    web.answer_json(CHAT, body, status, {"retry-after": "7"})
    with proxy_before(web.url, tmp_path) as house, pytest.raises(kind) as caught:
        client_of(house).chat.completions.create(model="m", messages=ASKED, stream=stream)
    assert caught.value.response.json() == body
    assert caught.value.response.headers["retry-after"] == "7"


def test_an_upstream_that_cannot_be_reached_is_an_error_that_clients_can_read(tmp_path):
    with proxy_before("http://127.0.0.1:9", tmp_path) as house:
        with pytest.raises(openai.InternalServerError) as caught:
            client_of(house).chat.completions.create(model="m", messages=ASKED)
        assert httpx.get(f"{house.url}/v1/models").status_code == 502
    error = caught.value
    assert error.status_code == 502
    assert isinstance(error.body, dict)
    assert error.body["code"] == "unavailable"
    assert "connection refused" in error.body["message"]
    assert error.body["message"].endswith(Unavailable.hint)


@pytest.mark.parametrize(
    ("given", "header"),
    [
        ({"profile": "pdf"}, ""),
        ("yes", ""),
        ({"colour": 1}, ""),
        ({"teach": "maybe"}, ""),
        ({"teach": "yes"}, ""),
        ({"illustrate": 1}, ""),
        (None, "progress=loud"),
        (None, "teach=perhaps"),
    ],
)
def test_a_wish_that_cannot_be_meant_is_refused_by_name(web, tmp_path, given, header):
    body = {**STREAM, "limner": given}
    with proxy_before(web.url, tmp_path) as house:
        status, _, got = raw_post(f"{house.url}{CHAT}", body, {"limner-options": header})
    assert status == 400
    assert "limner" in json.loads(got)["error"]["message"]
    assert not web.received


def test_a_refusal_says_what_is_wrong_and_nothing_else(web, tmp_path):
    with proxy_before(web.url, tmp_path) as house:
        status, _, got = raw_post(f"{house.url}{CHAT}", {**STREAM, "limner": {"teach": "yes"}})
    assert (status, json.loads(got)["error"]) == (
        400,
        {
            "message": "limner.teach must be true or false, not 'yes'",
            "type": "limner_error",
            "param": None,
            "code": "invalid_setting",
        },
    )


def test_a_client_that_hangs_up_ends_the_upstream_and_the_painting(web, tmp_path):
    stream = Stream([piece(f"Once {FOX}"), piece(" and")], held=True)
    web.answer(CHAT, stream.response)
    painter = Painter(hold=True)
    with proxy_before(web.url, tmp_path, painter=painter) as house:
        chunks = client_of(house).chat.completions.create(model="m", messages=ASKED, stream=True)
        next(chunks)
        happens(painter.started)
        chunks.close()
        happens(painter.cancelled)
        happens(stream.gone)
    assert house.messages() == {}


def test_a_client_that_hangs_up_before_the_answer_ends_the_upstream(tmp_path):
    arrived = threading.Event()

    def script(wire: Wire) -> None:
        arrived.set()
        wire.wait_until_cut()

    with RawServer(script) as upstream, proxy_before(upstream.url, tmp_path) as house:
        import socket

        host = house.url.removeprefix("http://")
        with socket.create_connection((host.split(":")[0], int(host.split(":")[1]))) as connection:
            connection.sendall(f"GET /v1/models HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
            happens(arrived)
        happens(upstream.was_cut)


def test_a_client_that_hangs_up_while_pictures_are_made_ends_them(web, tmp_path):
    web.answer(CHAT, Stream(reply_of(f"Once {FOX}")).response)
    painter = Painter(hold=True)
    with proxy_before(web.url, tmp_path, painter=painter) as house:
        chunks = client_of(house).chat.completions.create(model="m", messages=ASKED, stream=True)
        next(chunks)
        happens(painter.started)
        chunks.close()
        happens(painter.cancelled)


def upstream_that_sends(*parts: bytes, reset: bool = False):
    def script(wire: Wire) -> None:
        wire.send(head(content_type="text/event-stream", transfer_encoding="chunked"))
        for part in parts:
            wire.send(chunk(part))
        if reset:
            wire.reset()

    return RawServer(script)


def test_a_connection_that_breaks_off_is_told_behind_the_pictures_of_what_had_come(tmp_path):
    with upstream_that_sends(piece(f"Once {FOX}"), b'data: {"id": "ha') as upstream:
        with proxy_before(upstream.url, tmp_path) as house:
            chunks = client_of(house).chat.completions.create(model="m", messages=ASKED, stream=True)
            seen = [next(chunks).choices[0].delta.content or ""]
            with pytest.raises((openai.APIError, ValueError)):
                seen.extend(chunk.choices[0].delta.content or "" for chunk in chunks)
        with proxy_before(upstream.url, tmp_path) as house:
            _, _, body = raw_post(f"{house.url}{CHAT}", STREAM)
    assert seen[0] == f"Once {FOX}"
    broken, pictures, error, nothing = body.split(b"\n\n")[1:]
    assert broken == b'data: {"id": "ha'
    assert b"![a red fox" in pictures
    assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "unavailable"
    assert nothing == b""


def test_an_endless_line_is_passed_on_and_fills_no_memory(tmp_path):
    def script(wire: Wire) -> None:
        wire.send(head(content_type="text/event-stream", transfer_encoding="chunked"))
        wire.send(chunk(b"data: "))
        wire.send_until_cut(chunk(b"x" * 65536))

    with RawServer(script) as upstream, proxy_before(upstream.url, tmp_path) as house:
        got = 0
        with httpx.stream("POST", f"{house.url}{CHAT}", json=STREAM) as answer:
            for part in answer.iter_raw():
                got += len(part)
                if got > 8 * 1024 * 1024:
                    break
        happens(upstream.was_cut)


def test_an_endless_reply_of_prompts_fills_no_memory(tmp_path):
    def script(wire: Wire) -> None:
        wire.send(head(content_type="text/event-stream", transfer_encoding="chunked"))
        wire.send_until_cut(chunk(piece("x" * 20_000) * 4))

    with RawServer(script) as upstream, proxy_before(upstream.url, tmp_path) as house:
        got = 0
        with httpx.stream("POST", f"{house.url}{CHAT}", json=STREAM) as answer:
            for part in answer.iter_raw():
                got += len(part)
                if got > 2_000_000:
                    break
        happens(upstream.was_cut)


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("text/html", b"<html>busy</html>"),
        ("text/event-stream", b"<html>busy</html>"),
        ("application/json", b"data: {}\n\n"),
        ("application/octet-stream", b"\x00\xff"),
        ("text/event-stream", b""),
        (
            "text/event-stream",
            b'data: {"choices": 7}\n\ndata: [{}]\n\ndata: {"choices": [null, {"delta": 1}]}\n\n',
        ),
    ],
)
def test_what_is_no_reply_passes_as_it_is(web, tmp_path, media_type, body):
    async def once() -> AsyncIterator[bytes]:
        yield body

    web.answer(CHAT, StreamingResponse(once(), media_type=media_type))
    with proxy_before(web.url, tmp_path) as house:
        status, headers, got = raw_post(f"{house.url}{CHAT}", STREAM)
    assert (status, got) == (200, body)
    assert headers["content-type"].startswith(media_type)


@pytest.mark.parametrize("sent", [b"{broken", b"[]", b"", b'"text"'])
def test_a_request_that_is_none_is_the_upstreams_to_judge(web, tmp_path, sent):
    web.answer_json(CHAT, {"error": {"message": "no"}}, 422)
    with proxy_before(web.url, tmp_path) as house:
        status, _, _ = raw_post(f"{house.url}{CHAT}", sent, {"content-type": "text/json"})
    assert status == 422
    assert web.received[0].body == sent


def test_a_server_that_hangs_or_floods_does_not_hold_up_another_conversation(web, tmp_path):
    stalled = Stream([piece("one")], held=True)
    flood = StreamingResponse(_flood(), media_type="text/event-stream")
    with proxy_before(web.url, tmp_path) as house:
        client = client_of(house)
        web.answer(CHAT, stalled.response)
        slow = client.chat.completions.create(model="m", messages=ASKED, stream=True)
        assert next(slow).choices[0].delta.content == "one"
        web.answer(CHAT, flood)
        flooded = client.chat.completions.create(model="m", messages=ASKED, stream=True)
        next(flooded)
        web.answer(CHAT, Stream(reply_of(f"Once {FOX}")).response)
        quick = list(client.chat.completions.create(model="m", messages=ASKED, stream=True))
        assert "![a red fox" in (quick[-3].choices[0].delta.content or "")
        slow.close()
        flooded.close()
        happens(stalled.gone)


async def _flood() -> AsyncIterator[bytes]:
    events = piece("flood ") * 100
    while True:
        await anyio.lowlevel.checkpoint()
        yield events


def test_an_error_in_the_middle_of_a_stream_passes_at_once(web, tmp_path):
    error = b'data: {"error": {"message": "out of memory", "code": 500}}\n\n'
    web.answer(CHAT, Stream([piece("Once"), error]).response)
    with proxy_before(web.url, tmp_path) as house, pytest.raises(openai.APIError, match="out of memory"):
        list(client_of(house).chat.completions.create(model="m", messages=ASKED, stream=True))


@pytest.mark.parametrize("more", [{}, {"choices": [{"index": 0, "delta": {}, "finish_reason": "error"}]}])
def test_a_reply_that_ends_in_an_error_gets_no_pictures_and_ends_their_painting(web, tmp_path, more):
    error = f"data: {json.dumps({'error': {'message': 'out of memory', 'code': 500}, **more})}\n\n".encode()
    events = [piece(f"Once {FOX}"), piece(" and"), error, DONE]
    painter = Painter(hold=True)
    with proxy_before(web.url, tmp_path, painter=painter) as house:
        web.answer(CHAT, Stream(events).response)
        _, _, body = raw_post(f"{house.url}{CHAT}", STREAM)
        assert body == b"".join(events)
        if painter.started.is_set():
            happens(painter.cancelled)
        web.answer(CHAT, Stream(events).response)
        with pytest.raises(openai.APIError, match="out of memory"):
            list(client_of(house).chat.completions.create(model="m", messages=ASKED, stream=True))
    assert house.messages() == {}


def test_a_server_that_keeps_the_connection_open_behind_the_end_holds_up_nobody(web, tmp_path):
    stream = Stream([piece(f"Once {FOX}"), piece(finish="stop"), DONE], held=True)
    web.answer(CHAT, stream.response)
    with proxy_before(web.url, tmp_path) as house:
        chunks = client_of(house).chat.completions.create(model="m", messages=ASKED, stream=True)
        assert next(chunks).choices[0].delta.content == f"Once {FOX}"
        assert "![a red fox" in (next(chunks).choices[0].delta.content or "")
        assert next(chunks).choices[0].finish_reason == "stop"
        stream.released.set()
        assert list(chunks) == []
