"""Chat requests on their way to the model: which are taught and followed, and which are left as they are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from limner.adapters.proxy.history import TagMemory
from limner.adapters.proxy.requests import ChatRequests
from limner.adapters.proxy.wishes import Wishes
from limner.text import compile_patterns

# As Open WebUI 0.12.4 asks for a title.
TASK = {
    "role": "user",
    "content": "### Task:\nGenerate a concise title summarizing the chat history.\n### Guidelines: …",
}


@pytest.fixture
def requests() -> ChatRequests:
    return ChatRequests(compile_patterns(), TagMemory(), Wishes(teach=True), "Write tags.")


def asked(*messages: dict[str, Any], **fields: object) -> bytes:
    return json.dumps({"model": "m", "messages": messages, **fields}).encode()


@pytest.mark.parametrize("before", [(), ({"role": "system", "content": "You are terse."},)])
def test_what_a_program_asks_for_itself_is_neither_taught_nor_followed(requests, before):
    body = asked(*before, TASK, stream=False)
    prepared = requests.prepare(body, None)
    assert (prepared.body, prepared.follows) == (body, False)


@pytest.mark.parametrize(
    "body",
    [
        asked(TASK, stream=True),
        asked({"role": "user", "content": "Hello"}),
        asked({"role": "user", "content": "What does ### Task: mean?"}),
        asked({"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Yes?"}, TASK),
        asked({"role": "assistant", "content": "### Task: done"}),
    ],
    ids=["in a stream", "a line", "in the middle", "in a conversation", "by the model"],
)
def test_what_a_person_asks_is_taught_and_followed(requests, body):
    prepared = requests.prepare(body, None)
    assert prepared.follows
    assert "Write tags." in prepared.body.decode()


@pytest.mark.parametrize("messages", [None, "text", [None], [["user"]], [{}], [{"role": "user"}]])
def test_what_is_no_conversation_is_left_to_the_upstream(requests, messages):
    assert requests.prepare(json.dumps({"messages": messages}).encode(), None).follows
