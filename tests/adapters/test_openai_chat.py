"""Streamed chat completions, from servers that behave and from those that do not."""

from __future__ import annotations

import json

import anyio
import pytest
from starlette.responses import Response

from limner.adapters.openai_chat import stream_chat
from limner.errors import AuthFailed, BackendError, InvalidSetting, RateLimited, Unavailable
from tests.adapters.servers.local import RawServer, Wire, chunk, happened, head

pytestmark = pytest.mark.anyio

PATH = "/v1/chat/completions"
DONE = b"data: [DONE]\n\n"


def piece(content: str | None, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return f"data: {json.dumps({'choices': [choice]}, ensure_ascii=False)}\n\n".encode()


def answer(body: bytes, media_type: str = "text/event-stream") -> Response:
    return Response(body, media_type=media_type)


async def tokens_of(url: str, prompt="hello", **settings) -> list[str]:
    return [token async for token in stream_chat(url, "m", prompt, **settings)]


async def test_the_text_arrives_piece_by_piece(web):
    web.answer(PATH, answer(piece("") + piece("Once ") + piece("upon…") + piece(None, "stop") + DONE))
    assert await tokens_of(web.url) == ["Once ", "upon…"]


async def test_the_request_carries_the_messages_the_model_and_the_key(web):
    web.answer(PATH, answer(DONE))
    await tokens_of(web.url, "write", api_key="sk-1", system="You write.")
    await tokens_of(
        f"{web.url}/v1/", [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    )
    first, second = web.received
    assert first.json == {
        "model": "m",
        "stream": True,
        "messages": [{"role": "system", "content": "You write."}, {"role": "user", "content": "write"}],
    }
    assert first.headers["authorization"] == "Bearer sk-1"
    assert [message["role"] for message in second.json["messages"]] == ["user", "assistant"]


async def test_a_token_is_handed_out_before_the_next_one_comes():
    def script(wire: Wire) -> None:
        wire.send(head(content_type="text/event-stream", transfer_encoding="chunked") + chunk(piece("first")))
        wire.wait_until_cut()

    with RawServer(script) as server:
        async with stream_chat(server.url, "m", "x") as tokens:
            assert await anext(tokens) == "first"
        await happened(server.was_cut)


async def test_characters_and_events_may_be_cut_anywhere():
    stream = piece("é🐉") + b": comment\r\n\r\n" + piece("x") + DONE

    def script(wire: Wire) -> None:
        wire.send(head(content_type="text/event-stream", transfer_encoding="chunked"))
        for byte in stream:
            wire.send(chunk(bytes([byte])))
        wire.send(chunk(b""))

    with RawServer(script) as server:
        assert await tokens_of(server.url) == ["é🐉", "x"]


async def test_a_server_that_ignores_stream_is_understood(web):
    web.answer_json(PATH, {"choices": [{"message": {"role": "assistant", "content": "All at once."}}]})
    assert await tokens_of(web.url) == ["All at once."]
    async with stream_chat(web.url, "m", "x") as tokens:
        assert [token async for token in tokens] == ["All at once."]


async def test_events_without_their_media_type_are_understood(web):
    web.answer(PATH, answer(b"\n" + piece("x") + DONE, "text/plain"))
    assert await tokens_of(web.url) == ["x"]


async def test_the_mark_of_the_last_piece_ends_the_reply_though_the_connection_stays():
    def script(wire: Wire) -> None:
        wire.send(head(content_type="text/event-stream", transfer_encoding="chunked"))
        wire.send(chunk(piece("all", "stop")))
        wire.wait_until_cut()

    with RawServer(script) as server:
        assert await tokens_of(server.url) == ["all"]
        await happened(server.was_cut)


async def test_an_end_without_an_empty_line_is_an_end(web):
    web.answer(PATH, answer(piece("x") + b"data: [DONE]"))
    assert await tokens_of(web.url) == ["x"]


async def test_pieces_without_text_are_skipped(web):
    usage = b'data: {"choices": [], "usage": {"total_tokens": 3}}\n\n'
    role = b'data: {"choices": [{"delta": {"role": "assistant", "content": null}}]}\n\n'
    thought = b'data: {"choices": [{"delta": {"reasoning_content": "hmm"}}]}\n\n'
    web.answer(PATH, answer(b"data:\n\n" + usage + role + thought + piece("x") + DONE))
    assert await tokens_of(web.url) == ["x"]


async def collected_until_error(url: str) -> tuple[list[str], BackendError]:
    got: list[str] = []
    stream = stream_chat(url, "m", "x")
    while True:
        try:
            got.append(await anext(stream))
        except BackendError as error:
            return got, error


@pytest.mark.parametrize("ending", [b"", b'data: {"choices": [{"del', b": bye\n\n"])
async def test_a_stream_that_ends_early_is_unavailable_and_keeps_what_came(web, ending):
    web.answer(PATH, answer(piece("so far") + ending))
    got, error = await collected_until_error(web.url)
    assert got == ["so far"]
    assert isinstance(error, Unavailable)
    assert "ended the stream" in str(error)


async def test_an_answer_of_nothing_is_unavailable(web):
    web.answer(PATH, answer(b""))
    got, error = await collected_until_error(web.url)
    assert (got, type(error)) == ([], Unavailable)


async def test_a_connection_that_is_cut_is_unavailable_and_keeps_what_came():
    def script(wire: Wire) -> None:
        wire.send(
            head(content_type="text/event-stream", transfer_encoding="chunked") + chunk(piece("so far"))
        )
        wire.send(b"5\r\nda")

    with RawServer(script) as server:
        got, error = await collected_until_error(server.url)
    assert got == ["so far"]
    assert isinstance(error, Unavailable)
    assert "cut the connection" in str(error)


async def test_an_error_in_the_stream_is_typed_and_keeps_what_came(web):
    failure = b'data: {"error": {"message": "overloaded", "code": 429}}\n\n'
    web.answer(PATH, answer(piece("so far") + failure))
    got, error = await collected_until_error(web.url)
    assert got == ["so far"]
    assert isinstance(error, RateLimited)
    assert "overloaded" in str(error)


async def test_an_event_named_error_is_an_error(web):
    web.answer(PATH, answer(b'event: error\ndata: {"message": "model crashed"}\n\n'))
    _, error = await collected_until_error(web.url)
    assert "model crashed" in str(error)


async def test_an_error_that_comes_with_status_200_is_an_error(web):
    web.answer_json(PATH, {"error": "model not found"})
    _, error = await collected_until_error(web.url)
    assert "model not found" in str(error)


@pytest.mark.parametrize("data", ["{broken", "[1]", "7", '"text"', "[" * 50_000])
async def test_broken_json_in_the_stream_is_an_error_of_the_backend(web, data):
    web.answer(PATH, answer(f"data: {data}\n\n".encode() + DONE))
    _, error = await collected_until_error(web.url)
    assert type(error) is BackendError


@pytest.mark.parametrize("body", ["<html>Sign in</html>", "no such thing here\n"])
async def test_a_page_instead_of_a_stream_is_an_error_of_the_backend(web, body):
    web.answer(PATH, answer(body.encode(), "text/html"))
    _, error = await collected_until_error(web.url)
    assert type(error) is BackendError


@pytest.mark.parametrize("body", [{}, {"choices": []}, []])
async def test_json_that_is_no_reply_is_an_error_of_the_backend(web, body):
    web.answer_json(PATH, body)
    _, error = await collected_until_error(web.url)
    assert type(error) is BackendError


async def test_a_refusal_shows_when_the_stream_is_entered(web):
    web.answer_json(PATH, {"error": {"message": "bad key"}}, 401)
    stream = stream_chat(web.url, "m", "x", api_key="sk-secret")
    with pytest.raises(AuthFailed, match="bad key"):
        await stream.__aenter__()


async def test_a_line_without_end_is_given_up():
    def script(wire: Wire) -> None:
        wire.send(head(content_type="text/event-stream", transfer_encoding="chunked"))
        wire.send_until_cut(chunk(b"x" * 65536))

    with RawServer(script) as server:
        _, error = await collected_until_error(server.url)
        await happened(server.was_cut)
    assert error.kind == "answer_too_large"


async def test_a_stream_that_is_closed_early_is_at_its_end():
    def script(wire: Wire) -> None:
        wire.send(head(content_type="text/event-stream", transfer_encoding="chunked"))
        wire.send_until_cut(chunk(piece("again ")))

    with RawServer(script) as server:
        stream = stream_chat(server.url, "m", "x")
        assert await anext(stream) == "again "
        await stream.aclose()
        await stream.aclose()
        assert [token async for token in stream] == []
        await happened(server.was_cut)


async def test_a_stream_that_is_cancelled_closes_its_connection():
    def script(wire: Wire) -> None:
        wire.send(head(content_type="text/event-stream", transfer_encoding="chunked") + chunk(piece("x")))
        wire.wait_until_cut()

    with RawServer(script) as server:
        with anyio.CancelScope() as scope:
            async for _ in stream_chat(server.url, "m", "x"):
                scope.cancel()
        assert scope.cancelled_caught
        await happened(server.was_cut)


async def test_a_stream_that_was_never_begun_costs_nothing(web):
    stream = stream_chat(web.url, "m", "x")
    await stream.aclose()
    assert web.received == []


def test_a_chat_without_a_model_is_refused_at_once():
    with pytest.raises(InvalidSetting, match="model"):
        stream_chat("http://host", "", "x")


@pytest.mark.parametrize("media_type", ["text/event-stream", "application/json"])
async def test_the_key_is_in_no_error_that_comes_with_status_200(web, media_type):
    told = '{"error": {"message": "Incorrect API key provided: sk-secret."}}'
    web.answer(
        PATH, answer((told if media_type.endswith("json") else f"data: {told}\n\n").encode(), media_type)
    )
    with pytest.raises(BackendError, match=r"provided: \*\*\*") as caught:
        await tokens_of(web.url, api_key="sk-secret")
    assert "sk-secret" not in str(caught.value)
