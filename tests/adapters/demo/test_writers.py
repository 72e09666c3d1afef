"""Who writes: the storyteller at its pace, or a model that is told what it needs and no more."""

from __future__ import annotations

import pytest

from limner.adapters.demo.storyteller import tell
from limner.adapters.demo.writers import (
    MOST_REMEMBERED,
    StoryWriter,
    Turn,
    UpstreamWriter,
    first_model,
    remembered,
)
from limner.errors import BackendError
from tests.adapters.demo.upstream import chat_reply, sse
from tests.adapters.servers.local import Received, WebServer

pytestmark = pytest.mark.anyio

ILLUSTRATED = 'Once.\n\n<!--img-prompt="a sea"-->\n![a sea](/limner/images/a.png)\n\nThe end.'


@pytest.fixture(scope="module")
def shared_server():
    server = WebServer()
    yield server
    server.close()


@pytest.fixture
def server(shared_server):
    shared_server.reset()
    return shared_server


async def text_of(writer, *turns: Turn) -> str:
    async with writer.reply(turns) as pieces:
        return "".join([piece async for piece in pieces])


async def test_the_storyteller_tells_of_the_last_line():
    turns = Turn("user", "a cat"), Turn("assistant", "…"), Turn("user", "a dragon")
    assert await text_of(StoryWriter(token_ms=0), *turns) == tell("a dragon")


async def test_a_model_is_sent_the_conversation_without_pictures_and_is_taught_the_tags(server):
    server.answer("/v1/chat/completions", chat_reply("A", " story."))
    writer = UpstreamWriter(server.url, "tiny", "sk-secret-key")
    turns = Turn("user", "one"), Turn("assistant", ILLUSTRATED), Turn("user", "two")
    assert await text_of(writer, *turns) == "A story."
    [request] = server.received
    assert request.headers["authorization"] == "Bearer sk-secret-key"
    assert request.json["model"] == "tiny"
    system, *said = request.json["messages"]
    assert system["role"] == "system"
    assert '<!--img-prompt="DESCRIPTION"-->' in system["content"]
    assert [message["role"] for message in said] == ["user", "assistant", "user"]
    assert said[1]["content"] == 'Once.\n\n<!--img-prompt="a sea"-->\n\nThe end.'


async def test_the_page_is_told_the_model_and_its_host_and_no_key():
    writer = UpstreamWriter("http://user:secret@chat.example:9000/v1", "tiny", "sk-secret-key")
    assert writer.name == "tiny at chat.example"


def test_what_does_not_fit_any_more_stays_behind_from_the_oldest_on():
    long = "x" * (MOST_REMEMBERED // 2)
    turns = [Turn("user", "old"), Turn("assistant", long), Turn("user", long), Turn("user", "new")]
    assert [turn.text[:3] for turn in remembered(turns)] == ["xxx", "new"]
    assert remembered([Turn("user", "x" * (2 * MOST_REMEMBERED))])[0].text == "x" * (2 * MOST_REMEMBERED)


def test_a_conversation_that_is_sent_begins_with_the_person_and_has_no_empty_replies():
    turns = [Turn("assistant", "left over"), Turn("user", "a"), Turn("assistant", " "), Turn("user", "b")]
    assert remembered(turns) == [Turn("user", "a"), Turn("user", "b")]


async def test_without_a_name_the_first_model_that_the_server_lists_writes(server):
    server.answer_json("/v1/models", {"data": [{"id": "first"}, {"id": "second"}]})
    assert await first_model(server.url, None) == "first"


@pytest.mark.parametrize("listed", [{"data": []}, {"data": "no"}, {"data": [{"id": 3}, "x"]}, {}, []])
async def test_a_server_that_lists_no_model_is_told_of_with_what_to_do(server, listed):
    server.answer_json("/v1/models", listed)
    with pytest.raises(BackendError, match="lists no model; name one with --model"):
        await first_model(server.url, None)


async def test_an_upstream_that_refuses_says_so(server):
    async def refuse(_: Received):
        return sse("", status=401)

    server.on("/v1/chat/completions", refuse)
    with pytest.raises(BackendError):
        await text_of(UpstreamWriter(server.url, "tiny", None), Turn("user", "a"))
