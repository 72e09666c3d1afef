"""`limner illustrate --openai`: a reply is streamed from a chat server and illustrated as it arrives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from starlette.responses import JSONResponse, Response

from limner.text import PRESETS, extract_image_prompts, find_images
from tests.adapters.servers.local import RawServer, Wire, chunk, head

CHAT = "/v1/chat/completions"
TXT2IMG = "/sdapi/v1/txt2img"
REPLY = 'Once.\n\n<!--img-prompt="a fox, \\"Reynard\\""-->\n\nUpon a time.\n\n<img_prompt="a sea">\n'


def event(content: str) -> bytes:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': content}}]})}\n\n".encode()


def reply(text: str, size: int = 3) -> bytes:
    return b"".join(event(text[at : at + size]) for at in range(0, len(text), size)) + b"data: [DONE]\n\n"


@pytest.fixture
def chat(web):
    web.answer(CHAT, Response(reply(REPLY), media_type="text/event-stream"))
    return web


def test_the_reply_becomes_an_illustrated_story(run, chat, tmp_path):
    result = run("illustrate", "--openai", chat.url, "--model", "llama", "a fox at sea", "--json")
    assert result.exit_code == 0, result.stderr
    text = (tmp_path / "story.md").read_text(encoding="utf-8")
    images = find_images(text)
    assert len(images) == 2
    for image in images:
        assert (tmp_path / image.src).is_file()
    told = json.loads(result.stdout)
    assert [placed["prompt"] for placed in told["placed"]] == ['a fox, "Reynard"', "a sea"]
    assert told["output"] == "story.md"


def test_the_model_is_taught_the_tag_and_the_key_goes_into_the_header_only(run, chat, monkeypatch):
    monkeypatch.setenv("LIMNER_OPENAI_KEY", "sk-secret")
    result = run("illustrate", "--openai", chat.url, "--model", "llama", "a fox at sea", "-vv")
    (request,) = chat.received
    system, user = request.json["messages"]
    assert '<!--img-prompt="DESCRIPTION"-->' in system["content"]
    assert user == {"role": "user", "content": "a fox at sea"}
    assert request.headers["authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in result.output


@pytest.mark.parametrize("preset", PRESETS)
def test_what_the_model_is_taught_is_what_is_found(run, web, preset):
    web.answer(CHAT, Response(reply("hello"), media_type="text/event-stream"))
    run("illustrate", "--openai", web.url, "--model", "llama", "x", "--preset", preset)
    system = web.received[0].json["messages"][0]["content"]
    found = extract_image_prompts(system, PRESETS[preset])
    assert [match.prompt for match in found] == ["DESCRIPTION"]
    assert "three to six pictures" in system


def test_the_system_prompt_can_be_replaced_and_the_request_read_from_standard_input(run, chat):
    run("illustrate", "--openai", chat.url, "--model", "m", "--system", "Be brief.", "-", stdin="from a pipe")
    assert chat.received[0].json["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "from a pipe"},
    ]


def test_an_unreachable_chat_server_is_one_line_and_code_3(run, tmp_path):
    result = run("illustrate", "--openai", "http://127.0.0.1:9", "--model", "m", "x")
    assert result.exit_code == 3
    assert result.stderr == (
        f"limner: cannot reach http://127.0.0.1:9{CHAT}: connection refused. "
        "Check that the service runs and that its address is right.\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_chat_server_that_refuses_is_quoted(run, web, tmp_path):
    web.answer_json(CHAT, {"error": {"message": "model 'm' not found", "type": "not_found"}}, status=404)
    result = run("illustrate", "--openai", web.url, "--model", "m", "x")
    assert result.exit_code == 3
    assert "answered 404: model 'm' not found" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_reply_is_an_error_and_no_file(run, web, tmp_path, text):
    web.answer(CHAT, Response(reply(text), media_type="text/event-stream"))
    result = run("illustrate", "--openai", web.url, "--model", "m", "x")
    assert result.exit_code == 3
    assert result.stderr.startswith("limner: the chat server sent an empty reply.")
    assert list(tmp_path.iterdir()) == []


def test_of_a_reply_that_breaks_off_what_had_arrived_is_illustrated_and_kept(run, tmp_path):
    def script(wire: Wire) -> None:
        wire.send(head(content_type="text/event-stream", transfer_encoding="chunked"))
        wire.send(chunk(event('A <img_prompt="fox"> and')))

    with RawServer(script) as server:
        result = run("illustrate", "--openai", server.url, "--model", "m", "x", "--json")
    told = json.loads(result.stdout)
    assert result.exit_code == told["exit_code"] == 1
    assert told["error"]["kind"] == "unavailable"
    assert "limner: the reply broke off: " in result.stderr
    text = (tmp_path / "story.md").read_text()
    assert text.startswith('A <img_prompt="fox">![fox](')
    assert text.endswith(" and")


def test_a_reply_is_kept_even_if_none_of_its_images_could_be_made(run, chat, tmp_path):
    result = run(
        "illustrate", "--openai", chat.url, "--model", "m", "x", "-g", "http://127.0.0.1:9", "--attempts", "1"
    )
    assert result.exit_code == 3
    assert (tmp_path / "story.md").read_text() == REPLY


def test_lone_surrogates_in_a_reply_end_as_replacement_characters(run, web, tmp_path):
    web.answer(
        CHAT, Response(b'data: {"choices": [{"delta": {"content": "a\\ud800b"}}]}\n\ndata: [DONE]\n\n')
    )
    result = run("illustrate", "--openai", web.url, "--model", "m", "x")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "story.md").read_text(encoding="utf-8") == "a\N{REPLACEMENT CHARACTER}b"


def test_painting_begins_while_the_reply_still_runs(run, png):
    """The chat server holds the end of its reply back until a picture was asked for."""
    import base64
    import threading

    from tests.adapters.servers.local import PATIENCE_S, WebServer

    asked = threading.Event()
    painter = WebServer()

    async def paint(_):
        asked.set()
        return JSONResponse({"images": [base64.b64encode(png).decode()]})

    painter.on(TXT2IMG, paint)
    in_time: list[bool] = []

    def script(wire: Wire) -> None:
        wire.send(head(content_type="text/event-stream", transfer_encoding="chunked"))
        wire.send(chunk(event('A <img_prompt="fox"> and')))
        in_time.append(asked.wait(PATIENCE_S))
        wire.send(chunk(event(" more.")) + chunk(b"data: [DONE]\n\n") + chunk(b""))

    try:
        with RawServer(script) as server:
            result = run("illustrate", "--openai", server.url, "--model", "m", "x", "-g", painter.url)
    finally:
        painter.close()
    assert result.exit_code == 0, result.stderr
    assert in_time == [True]
    assert Path("story.md").read_text().endswith(" and more.")
