"""Replies that come whole, read by the official client."""

from __future__ import annotations

import json
from typing import Any

from limner.adapters.proxy.wishes import Wishes
from limner.text import find_images, strip_illustrations
from tests.adapters.proxy.house import (
    CHAT,
    FOX,
    KEY,
    SEA,
    Painter,
    client_of,
    happens,
    proxy_before,
    raw_post,
)
from tests.adapters.servers.local import RawServer, Wire, head

ASKED: list[Any] = [{"role": "user", "content": "a story"}]


def reply(content: str | None, **message: Any) -> dict[str, Any]:
    told = {"role": "assistant", "content": content, "refusal": None, **message}
    return {
        "id": "chatcmpl-2",
        "object": "chat.completion",
        "created": 1,
        "model": "scripted",
        "choices": [{"index": 0, "message": told, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "odd": {"x": 1.5}},
        "future": ["ü"],
    }


def test_each_picture_stands_behind_its_tag_and_the_rest_is_kept(web, tmp_path):
    text = f"Once.\n\n{FOX}\n\nThen {SEA}."
    web.answer_json(CHAT, reply(text), headers={"x-request-id": "r7"})
    with proxy_before(web.url, tmp_path) as house:
        got = client_of(house).chat.completions.with_raw_response.create(model="m", messages=ASKED)
    assert got.headers["x-request-id"] == "r7"
    sent = json.loads(got.content)
    illustrated = sent["choices"][0]["message"].pop("content")
    expected = reply(text)
    del expected["choices"][0]["message"]["content"]
    assert sent == expected
    first, second = find_images(illustrated)
    assert illustrated.index(FOX) < first.start < illustrated.index(SEA) < second.start
    assert first.src.startswith("data:image/")
    assert strip_illustrations(illustrated) == text


def test_html_where_the_client_asks_for_it_in_a_header(web, tmp_path):
    web.answer_json(CHAT, reply(f"Once {FOX}"))
    with proxy_before(web.url, tmp_path) as house:
        body = {"model": "m", "messages": ASKED}
        _, _, got = raw_post(f"{house.url}{CHAT}", body, {"Limner-Options": "profile=html"})
    assert f'<img src=\\"{house.url}/limner/images/' in got.decode()
    assert "limner-options" not in web.received[0].headers


def test_a_reply_without_prompts_or_without_a_text_passes_byte_for_byte(web, tmp_path):
    call = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": FOX}}]
    with proxy_before(web.url, tmp_path) as house:
        for answer in (
            json.dumps(reply("Once."), indent=3).encode(),
            json.dumps(reply(None, tool_calls=call)).encode(),
            json.dumps(reply(FOX, tool_calls=call)).encode(),
            json.dumps({**reply("x"), "choices": []}).encode(),
            b'["no", "reply"]',
            b"{broken",
            b"",
        ):
            with RawServer(answering(answer)) as upstream, proxy_before(upstream.url, tmp_path) as other:
                status, _, got = raw_post(f"{other.url}{CHAT}", {"messages": ASKED})
            assert (status, got) == (200, answer)
        assert not house.painter.requests


def answering(body: bytes):
    def script(wire: Wire) -> None:
        wire.send(
            head(content_type="application/json", content_length=str(len(body)), connection="close") + body
        )

    return script


def test_a_client_that_gives_up_takes_its_pictures_along(web, tmp_path):
    painter = Painter(hold=True)
    web.answer_json(CHAT, reply(f"Once {FOX}"))
    with proxy_before(web.url, tmp_path, painter=painter) as house:
        import socket

        host, _, port = house.url.removeprefix("http://").partition(":")
        body = json.dumps({"messages": ASKED}).encode()
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(
                f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\n\r\n".encode()
                + body
            )
            happens(painter.started)
        happens(painter.cancelled)
    assert house.messages() == {}


def test_the_model_is_taught_only_where_it_is_asked_for(web, tmp_path):
    web.answer_json(CHAT, reply("Once."))
    system: list[Any] = [{"role": "system", "content": "Be brief."}, *ASKED]
    parts: list[Any] = [{"role": "developer", "content": [{"type": "text", "text": "Be brief."}]}, *ASKED]
    teach: Any = {"limner": {"teach": True}}
    with proxy_before(web.url, tmp_path, instruction="Write tags.") as house:
        create = client_of(house).chat.completions.create
        create(model="m", messages=ASKED)
        create(model="m", messages=ASKED, extra_body=teach)
        create(model="m", messages=system, extra_body=teach)
        create(model="m", messages=parts, extra_body=teach)
    untaught, made, added, part = (request.json["messages"] for request in web.received)
    assert untaught == ASKED
    assert made == [{"role": "system", "content": "Write tags."}, *ASKED]
    assert added[0] == {"role": "system", "content": "Be brief.\n\nWrite tags."}
    assert part[0]["content"] == [
        {"type": "text", "text": "Be brief."},
        {"type": "text", "text": "Write tags."},
    ]
    assert all("limner" not in request.json for request in web.received)


def test_the_key_goes_upstream_and_nowhere_else(web, tmp_path, capfd):
    web.answer_json(CHAT, reply(f"Once {FOX}"))
    with proxy_before(web.url, tmp_path, defaults=Wishes(progress="reasoning")) as house:
        client_of(house).chat.completions.create(model="m", messages=ASKED)
        (request,) = web.received
        assert request.headers["authorization"] == f"Bearer {KEY}"
        web.answer_json(CHAT, {"error": {"message": "no"}}, 401)
        raw_post(f"{house.url}{CHAT}", {"messages": ASKED}, {"authorization": f"Bearer {KEY}"})
    seen = [repr(house.journal.appended), repr(house.painter.requests), *capfd.readouterr()]
    seen += [path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()]
    assert not [text for text in seen if KEY in text]
