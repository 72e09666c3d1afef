"""Replies that stream through the proxy, read by the official client."""

from __future__ import annotations

import base64
import io
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionChunk
from PIL import Image

from limner.adapters.proxy.wishes import Wishes
from limner.errors import Moderated
from limner.text import find_images
from tests.adapters.proxy.house import (
    CHAT,
    DONE,
    FOX,
    SEA,
    USAGE,
    House,
    Painter,
    Stream,
    client_of,
    happens,
    piece,
    proxy_before,
    raw_post,
    reply_of,
)

ASKED: list[Any] = [{"role": "user", "content": "a story"}]


def streamed(house: House, **wanted: Any) -> openai.Stream[ChatCompletionChunk]:
    return client_of(house).chat.completions.create(
        model="scripted", messages=ASKED, stream=True, extra_body=wanted or None
    )


def contents(chunks: list[ChatCompletionChunk]) -> list[str]:
    return [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]


def test_the_pictures_come_in_one_chunk_behind_the_text_and_before_the_end(web, tmp_path):
    text = f"Once.\n\n{FOX}\n\nThen {SEA}."
    web.answer(CHAT, Stream(reply_of(text)).response)
    with proxy_before(web.url, tmp_path) as house:
        chunks = list(streamed(house))
    *_, pictures, finish, usage = chunks
    assert "".join(contents(chunks[:-3])) == text
    assert finish.choices[0].finish_reason == "stop"
    assert usage.usage is not None
    assert usage.usage.completion_tokens == 21
    assert (pictures.id, pictures.model, pictures.created) == ("chatcmpl-1", "scripted", 1_700_000_000)
    images = find_images(pictures.choices[0].delta.content or "")
    assert [image.alt for image in images] == ["a red fox in the snow", "a grey sea"]
    for image in images:
        kind, _, data = image.src.partition(";base64,")
        assert kind in ("data:image/png", "data:image/webp")
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (8, 8)


def test_the_painting_begins_while_the_text_still_streams(web, tmp_path):
    stream = Stream(reply_of(f"Once {FOX} and")[:-3], reply_of(" the end")[1:], held=True)
    web.answer(CHAT, stream.response)
    painter = Painter()
    with proxy_before(web.url, tmp_path, painter=painter) as house, streamed(house) as chunks:
        seen = [next(chunks)]
        while "and" not in "".join(contents(seen)):
            seen.append(next(chunks))
        happens(painter.started)
        stream.released.set()
        seen += list(chunks)
    assert "".join(contents(seen)).startswith(f"Once {FOX} and the end\n\n![a red fox in the snow](data:")


def test_text_reaches_the_client_while_the_upstream_is_silent(web, tmp_path):
    stream = Stream([piece("first")], [piece(" last"), piece(finish="stop"), DONE], held=True)
    web.answer(CHAT, stream.response)
    with proxy_before(web.url, tmp_path) as house, streamed(house) as chunks:
        assert next(chunks).choices[0].delta.content == "first"
        stream.released.set()
        assert contents(list(chunks)) == [" last", ""]


def test_a_reply_without_prompts_passes_byte_for_byte_and_costs_no_session(web, tmp_path):
    events = [
        b": a comment\n\n",
        b"event: odd\nid: 7\nretry: 10\ndata: {}\n\n",
        piece("", role="assistant"),
        piece(reasoning_content='I think <img_prompt="no">'),
        piece("plain ", logprobs={"content": []}, future_field=[1, {"a": "ü"}]),
        b"data: {not json}\n\n",
        b'data: "a string"\r\n\r\n',
        piece("text").replace(b"\n\n", b"\r\n\r\n"),
        piece(finish="stop"),
        USAGE,
        DONE,
    ]
    web.answer(CHAT, Stream(events).response)
    with proxy_before(web.url, tmp_path) as house:
        status, headers, body = raw_post(f"{house.url}{CHAT}", {"messages": ASKED, "stream": True})
        assert (status, body) == (200, b"".join(events))
        assert headers["content-type"].startswith("text/event-stream")
        assert not house.journal.appended


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_however_the_network_cuts_it_the_events_stay_the_same(web, tmp_path, size):
    events = reply_of(f"Once {FOX} upon")
    web.piece_size = size
    web.answer(CHAT, Stream([b"".join(events)]).response)
    with proxy_before(web.url, tmp_path) as house:
        _, _, body = raw_post(f"{house.url}{CHAT}", {"messages": ASKED, "stream": True})
    before, _, behind = body.partition(b'data: {"id":"chatcmpl-1","object"')
    assert before == b"".join(events[:-3])
    assert behind.endswith(b"\n\n" + b"".join(events[-3:]))


def test_a_last_piece_of_text_in_the_chunk_that_ends_it_comes_before_the_pictures(web, tmp_path):
    web.answer(CHAT, Stream([piece(f"Once {FOX}"), piece(" end.", finish="stop"), DONE]).response)
    with proxy_before(web.url, tmp_path) as house:
        chunks = list(streamed(house))
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, None, "stop"]
    once, end, pictures, nothing = contents(chunks)
    assert (once, end, nothing) == (f"Once {FOX}", " end.", "")
    assert "![a red fox" in pictures


def test_a_server_that_says_no_reason_for_the_end_is_understood(web, tmp_path):
    web.answer(CHAT, Stream([piece(f"Once {FOX}"), DONE]).response)
    with proxy_before(web.url, tmp_path) as house:
        _, pictures = contents(list(streamed(house)))
    assert "![a red fox" in pictures


def test_a_stream_that_ends_without_a_word_gets_its_pictures(web, tmp_path):
    web.answer(CHAT, Stream([piece(f"Once {FOX}")]).response)
    with proxy_before(web.url, tmp_path) as house:
        _, pictures = contents(list(streamed(house)))
    assert "![a red fox" in pictures


def test_pictures_are_not_shown_as_code_where_the_reply_ends_in_a_code_block(web, tmp_path):
    web.answer(CHAT, Stream(reply_of(f"{FOX}\n```python\nprint(")).response)
    with proxy_before(web.url, tmp_path) as house:
        assert "print(\n```\n\n![a red fox" in "".join(contents(list(streamed(house))))


def test_progress_comes_as_reasoning_where_the_client_asks_for_it(web, tmp_path):
    web.answer(CHAT, Stream(reply_of(f"{FOX} {SEA}")).response)
    with proxy_before(web.url, tmp_path) as house:
        chunks = list(streamed(house, limner={"progress": "reasoning"}))
        told = [getattr(chunk.choices[0].delta, "reasoning_content", "") for chunk in chunks if chunk.choices]
        lines = [line for line in told if line]
        assert (
            '[limner] 2/2 painted: a "grey" sea\n' in lines or "[limner] 2/2 painted: a red fox" in lines[-1]
        )
        web.answer(CHAT, Stream(reply_of(FOX)).response)
        for chunk in streamed(house):
            assert not chunk.choices or not hasattr(chunk.choices[0].delta, "reasoning_content")


def test_chunks_without_text_that_have_progress_shown_do_the_official_client_no_harm(web, tmp_path):
    web.answer(CHAT, Stream(reply_of(f"Once {FOX}")).response)
    painter = Painter(hold=True)
    with (
        proxy_before(web.url, tmp_path, painter=painter, keep_alive_ms=1) as house,
        client_of(house).chat.completions.stream(
            model="scripted", messages=ASKED, extra_body={"limner": {"progress": "reasoning"}}
        ) as stream,
    ):
        empty = 0
        for event in stream:
            if event.type == "chunk" and event.chunk.choices:
                empty += event.chunk.choices[0].delta.content == ""
            if empty > 2:  # the first one begins the reply
                painter.released.set()
        message = stream.get_final_completion().choices[0].message
    assert (message.content or "").startswith(f"Once {FOX}\n\n![a red fox in the snow](data:")


def test_a_picture_that_fails_is_a_calm_line_and_the_reply_is_whole(web, tmp_path):
    events = reply_of(f"Once {FOX}.")
    painter = Painter(error=Moderated("the picture was refused"))
    with proxy_before(web.url, tmp_path, painter=painter) as house:
        web.answer(CHAT, Stream(events).response)
        _, _, body = raw_post(f"{house.url}{CHAT}", {"messages": ASKED, "stream": True})
        assert body == b"".join(events)
        web.answer(CHAT, Stream(events).response)
        told = {"messages": ASKED, "stream": True, "limner": {"progress": "reasoning"}}
        _, _, body = raw_post(f"{house.url}{CHAT}", told)
    assert b"[limner] 1/1 no picture of: a red fox in the snow (the picture was refused)\\n" in body
    assert body.endswith(b"".join(events[-3:]))


def test_markdown_and_html_name_the_whole_picture_by_the_host_the_client_asked(web, tmp_path):
    with proxy_before(web.url, tmp_path) as house:
        web.answer(CHAT, Stream(reply_of(FOX)).response)
        markdown = contents(list(streamed(house, limner={"profile": "markdown"})))[-2]
        web.answer(CHAT, Stream(reply_of(FOX)).response)
        html = contents(list(streamed(house, limner={"profile": "html"})))[-2]
        for text in (markdown, html):
            (image,) = find_images(text)
            answer = httpx.get(image.src)
            assert (answer.headers["content-type"], answer.content[:4]) == ("image/png", b"\x89PNG")
    assert markdown.startswith(f"\n\n![a red fox in the snow]({house.url}/limner/images/")
    assert html.startswith(f'\n\n<img src="{house.url}/limner/images/')


def test_a_public_url_goes_before_the_host(web, tmp_path):
    defaults = Wishes(profile="markdown")
    web.answer(CHAT, Stream(reply_of(FOX)).response)
    with proxy_before(web.url, tmp_path, defaults=defaults, public_url="https://chat.example/p/") as house:
        assert "(https://chat.example/p/limner/images/" in "".join(contents(list(streamed(house))))


def test_two_equal_pictures_have_an_address_each(web, tmp_path):
    painter = Painter(same=True)
    web.answer(CHAT, Stream(reply_of(f"{FOX}\n{FOX}")).response)
    with proxy_before(web.url, tmp_path, painter=painter) as house:
        images = find_images(contents(list(streamed(house, limner={"profile": "markdown"})))[-2])
    shorter, longer = sorted((image.src for image in images), key=len)
    assert longer == f"{shorter}#2"


def test_a_reply_that_calls_tools_is_passed_on_without_waiting_for_pictures(web, tmp_path):
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    events = [piece(f"Look {FOX}"), piece(tool_calls=[call]), piece(finish="tool_calls"), USAGE, DONE]
    painter = Painter(hold=True)
    web.answer(CHAT, Stream(events).response)
    with proxy_before(web.url, tmp_path, painter=painter) as house:
        _, _, body = raw_post(f"{house.url}{CHAT}", {"messages": ASKED, "stream": True, "tools": []})
        assert body == b"".join(events)
        if painter.started.is_set():
            happens(painter.cancelled)


@pytest.mark.parametrize(
    "request_",
    [
        {"n": 2},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {}}},
        {"limner": {"illustrate": False}},
    ],
)
def test_what_is_no_text_for_a_reader_is_not_illustrated(web, tmp_path, request_):
    events = reply_of(f"Once {FOX}.")
    web.answer(CHAT, Stream(events).response)
    with proxy_before(web.url, tmp_path) as house:
        _, _, body = raw_post(f"{house.url}{CHAT}", {"messages": ASKED, "stream": True, **request_})
        assert body == b"".join(events)
        assert not house.painter.requests


def test_nothing_is_kept_of_a_conversation_but_its_pictures(web, tmp_path):
    with proxy_before(web.url, tmp_path) as house:
        for _ in range(3):
            web.answer(CHAT, Stream(reply_of(FOX)).response)
            list(streamed(house))
    assert house.messages() == {}
    assert not house.limner.sessions()


def test_nothing_is_left_of_a_reply_that_has_ended(web, tmp_path):
    stream = Stream([piece(f"Once {FOX}")], reply_of("."), held=True)
    web.answer(CHAT, stream.response)
    with proxy_before(web.url, tmp_path, defaults=Wishes("markdown")) as house:
        chunks = streamed(house)
        next(chunks)
        happens(house.painter.started)
        assert house.holders_of("a red fox in the snow")
        (session,) = house.limner.sessions()
        status = f"{house.url}/limner/status?message={session.message_id}"
        assert httpx.get(status).status_code == 200
        stream.released.set()
        (image,) = find_images("".join(contents(list(chunks))))
        happens(house.limner.has_forgotten)
        assert not house.holders_of("a red fox in the snow")
        assert httpx.get(status).status_code == 404
        assert httpx.get(image.src).status_code == 200


def test_an_empty_finish_reason_ends_nothing(web, tmp_path):
    stream = Stream([piece("Once ", finish=""), piece(FOX, finish=""), piece(" more", finish="stop"), DONE])
    web.answer(CHAT, stream.response)
    with proxy_before(web.url, tmp_path) as house:
        _, _, body = raw_post(f"{house.url}{CHAT}", {"stream": True, "messages": []})
    assert body.count(b"data:image/") == 1
