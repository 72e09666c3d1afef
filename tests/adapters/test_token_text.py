"""The text of chunks. OpenAI's are the real ones, parsed by its client; those of the other clients are
small look-alikes: classes with the same fields, that say they come from the client's package.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from openai.lib.streaming.chat import ChunkEvent, ContentDeltaEvent, ContentDoneEvent
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import (
    Response,
    ResponseReasoningTextDeltaEvent,
    ResponseTextDeltaEvent,
    ResponseTextDoneEvent,
)

from limner.adapters.token_text import is_whole_reply, text_of
from limner.errors import InvalidSetting


def joined(chunks: Iterable[object], given: Any = None) -> str:
    return "".join(map(text_of(given), chunks))


def of_package(package: str, **fields: object) -> Any:
    """An object with these fields, of a class that is defined in the package."""
    return type("Chunk", (), {"__module__": f"{package}.types.chunk"} | fields)()


def test_text_is_its_own_text() -> None:
    assert joined(["A ", "", "fox"]) == "A fox"


@pytest.mark.parametrize("name", ["openai", "anthropic", "langchain", "pydantic-ai"])
def test_a_clients_stream_of_mere_text_is_text_by_any_name(name: str) -> None:
    assert joined(["A ", "fox"], name) == "A fox"


# --- OpenAI


def completion(*choices: dict[str, Any]) -> ChatCompletionChunk:
    return ChatCompletionChunk.model_validate(
        {
            "id": "c",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "finish_reason": None, "delta": {}} | choice for choice in choices],
        }
    )


COMPLETION = [
    completion(),
    completion({"delta": {"role": "assistant", "content": ""}}),
    completion({"delta": {"content": "A "}}),
    completion({"delta": {"reasoning_content": "hm"}}),
    completion({"index": 1, "delta": {"content": "another reply"}}, {"delta": {"content": "fox"}}),
    completion({"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}}),
    completion({"delta": {"refusal": "no"}}),
    completion({"finish_reason": "stop"}),
]


@pytest.mark.parametrize("given", [None, "openai"])
def test_openai_completions_give_the_content_of_their_first_choice(given: str | None) -> None:
    assert joined(COMPLETION, given) == "A fox"


def test_openai_completions_may_be_dicts() -> None:
    assert joined([chunk.model_dump() for chunk in COMPLETION], "openai") == "A fox"


def test_a_compatible_server_may_send_content_in_blocks_and_leave_fields_out() -> None:
    blocks = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "fox"}]
    chunks = [
        {"choices": None},
        {"choices": [{"delta": None}]},
        {"choices": [{"delta": {"content": blocks}}]},
    ]
    assert joined(chunks, "openai") == "fox"


def test_openais_helper_tells_each_piece_twice_and_it_counts_once() -> None:
    said = [
        ChunkEvent.model_construct(type="chunk", chunk=completion({"delta": {"content": "fox"}})),
        ContentDeltaEvent(type="content.delta", delta="fox", snapshot="fox"),
        ContentDoneEvent[None](type="content.done", content="fox"),
    ]
    assert joined(said) == "fox"


def test_openai_responses_give_their_output_and_no_reasoning() -> None:
    place: dict[str, Any] = {"item_id": "i", "output_index": 0, "content_index": 0, "sequence_number": 1}
    events = [
        ResponseReasoningTextDeltaEvent(type="response.reasoning_text.delta", delta="hm", **place),
        ResponseTextDeltaEvent(type="response.output_text.delta", delta="A ", logprobs=[], **place),
        ResponseTextDeltaEvent(type="response.output_text.delta", delta="fox", logprobs=[], **place),
        ResponseTextDoneEvent(type="response.output_text.done", text="A fox", logprobs=[], **place),
    ]
    assert joined(events) == "A fox"
    assert joined([event.model_dump() for event in events], "openai") == "A fox"


def test_a_class_that_derives_from_a_clients_is_recognised() -> None:
    class Traced(ChatCompletionChunk):
        pass

    chunk = Traced.model_validate(completion({"delta": {"content": "fox"}}).model_dump())
    assert joined([chunk]) == "fox"


# --- Anthropic

MESSAGE: list[dict[str, Any]] = [
    {"type": "message_start", "message": {"content": []}},
    {"type": "ping"},
    {"type": "content_block_start", "content_block": {"type": "thinking", "thinking": ""}},
    {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "hm"}},
    {"type": "content_block_start", "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "A "}},
    {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "fox"}},
    {"type": "content_block_stop", "content_block": {"type": "text", "text": "A fox"}},
    {"type": "content_block_start", "content_block": {"type": "tool_use", "input": {}}},
    {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "{}"}},
    {"type": "message_stop", "message": {"content": [{"type": "text", "text": "A fox"}]}},
]


def as_objects(package: str, value: Any) -> Any:
    """Events as a client hands them out: objects through and through."""
    if isinstance(value, dict):
        return of_package(package, **{name: as_objects(package, field) for name, field in value.items()})
    return value


def test_anthropics_events_give_what_is_said_and_no_thoughts() -> None:
    assert joined(MESSAGE, "anthropic") == "A fox"
    assert joined(as_objects("anthropic", event) for event in MESSAGE) == "A fox"


def test_anthropics_helper_tells_each_piece_twice_and_it_counts_once() -> None:
    deltas = [event for event in MESSAGE if event.get("delta", {}).get("type") == "text_delta"]
    said = [
        twin
        for event in deltas
        for twin in (event, {"type": "text", "text": event["delta"]["text"], "snapshot": "A fox"})
    ]
    assert joined(as_objects("anthropic", event) for event in said) == "A fox"


# --- LangChain


def message(content: object, kind: str = "AIMessageChunk") -> Any:
    return of_package("langchain_core", type=kind, content=content)


BLOCKS = [{"type": "text", "text": "A "}, {"type": "reasoning", "reasoning": "hm"}, "fox"]


def test_langchains_messages_give_their_text_or_that_of_their_blocks() -> None:
    assert joined([message("A "), message("fox"), message([])]) == "A fox"
    assert joined([message(BLOCKS)], "langchain") == "A fox"


def test_langgraphs_pairs_give_the_models_messages_only() -> None:
    about = {"langgraph_node": "agent"}
    pairs = [(message("A "), about), (message("42", "tool"), about), (message("hi", "human"), about)]
    assert joined([*pairs, (message("fox", "ai"), about)]) == "A fox"


def test_langgraphs_pairs_are_found_behind_a_subgraph_and_a_stream_mode() -> None:
    pair = (message("fox"), {"langgraph_node": "agent"})
    told = [(("outer:1",), pair), ("messages", pair), (("outer:1",), "messages", pair)]
    other = [("updates", {"agent": {"messages": [message("fox")]}}), ("custom", "fox"), ("values", ())]
    assert joined(told[:1]) == "fox"
    assert joined([*told, *other], "langchain") == "fox" * 3


def test_langgraphs_second_format_is_understood() -> None:
    pair: tuple[object, object] = (message("fox"), {})
    values = {"type": "values", "ns": (), "data": {"messages": [message("fox")]}}
    sent = {"type": "messages", "ns": [], "data": [{"type": "AIMessageChunk", "content": " sat"}, {}]}
    assert joined([{"type": "messages", "ns": (), "data": pair}, values, sent], "langchain") == "fox sat"


def test_langchains_events_give_what_the_model_says_and_not_what_a_chain_repeats() -> None:
    def event(name: str, **data: object) -> dict[str, object]:
        return {"event": name, "name": "ChatModel", "run_id": "1", "data": data}

    told = [
        event("on_chat_model_start", input={}),
        event("on_chat_model_stream", chunk=message("A ")),
        event("on_chain_stream", chunk=message("A ")),
        event("on_llm_stream", chunk=of_package("langchain_core", text="fox")),
        event("on_tool_end", output=message("42", "tool")),
        event("on_chat_model_end", output=message("A fox")),
    ]
    assert joined(told, "langchain") == "A fox"


def test_a_dict_with_data_that_langchain_does_not_make_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="does not fit a chunk of dict"):
        joined([{"data": message("fox")}], "langchain")


# --- pydantic-ai


@dataclass
class Part:
    content: str
    part_kind: str = "text"


@dataclass
class Delta:
    content_delta: str | None
    part_delta_kind: str = "text"


def test_pydantic_ais_events_give_the_start_of_a_text_and_what_follows() -> None:
    events: list[dict[str, Any]] = [
        {"event_kind": "part_start", "part": Part("hm", "thinking")},
        {"event_kind": "part_delta", "delta": Delta("hm", "thinking")},
        {"event_kind": "part_start", "part": Part("A ")},
        {"event_kind": "final_result"},
        {"event_kind": "part_delta", "delta": Delta("fox")},
        {"event_kind": "part_delta", "delta": Delta(None, "tool_call")},
        {"event_kind": "part_end", "part": Part("A fox")},
        {"event_kind": "agent_run_result"},
    ]
    objects = [of_package("pydantic_ai", **event) for event in events]
    assert joined(objects) == "A fox"
    assert joined([*objects[:3], "fox"], "pydantic-ai") == "A fox"


# --- a function of the host's own, and what is refused


def test_a_function_of_the_hosts_own_is_asked_for_every_chunk() -> None:
    assert joined([{"t": "A "}, {"t": "fox"}], lambda chunk: chunk["t"]) == "A fox"


def test_what_a_function_of_the_hosts_own_raises_passes_through() -> None:
    with pytest.raises(KeyError, match="t"):
        joined([{}], lambda chunk: chunk["t"])


def test_a_function_that_gives_no_text_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="text_of must give a str, and gave None"):
        joined([{}], lambda chunk: chunk.get("t"))


@pytest.mark.parametrize("given", ["gemini", 7, ["openai"]])
def test_what_is_neither_a_name_nor_a_function_is_refused_with_the_names(given: object) -> None:
    with pytest.raises(
        InvalidSetting, match="'openai', 'anthropic', 'langchain', 'pydantic-ai' or a function"
    ):
        text_of(given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("chunk", "named"),
    [({"choices": []}, "dict"), (None, "NoneType"), ((), "tuple"), (Part("fox"), "Part")],
)
def test_a_chunk_of_an_unknown_class_is_refused_with_the_names(chunk: object, named: str) -> None:
    with pytest.raises(InvalidSetting, match=rf"{named}: give text_of='openai'.*'pydantic-ai' or a function"):
        joined([chunk])


@pytest.mark.parametrize("chunk", [b"fox", bytearray(b"fox")])
def test_bytes_have_to_be_decoded(chunk: object) -> None:
    with pytest.raises(InvalidSetting, match="decode it"):
        joined([chunk])


def test_openais_text_completions_give_their_text() -> None:
    assert (
        joined(
            [{"object": "text_completion", "choices": [{"text": "A "}]}, {"choices": [{"text": "fox"}]}],
            "openai",
        )
        == "A fox"
    )


def test_a_whole_reply_among_the_chunks_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="this is a whole reply"):
        joined([{"object": "chat.completion", "choices": [{"message": {"content": "A fox"}}]}], "openai")


@pytest.mark.parametrize("name", ["openai", "anthropic", "langchain", "pydantic-ai"])
def test_a_chunk_that_does_not_fit_the_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidSetting, match=rf"text_of='{name}' does not fit a chunk of elsewhere.*Chunk"):
        joined([of_package("elsewhere", words="fox")], name)


# --- a whole reply, where a stream was to be asked for

CHOICE = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "A fox"}}
CHAT = ChatCompletion.model_validate(
    {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [CHOICE]}
)
RESPONSE = Response.model_construct(object="response", output=[])
WHOLE = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "A fox"}]}


@pytest.mark.parametrize(
    "reply",
    [
        CHAT,
        CHAT.model_dump(),
        RESPONSE,
        RESPONSE.model_dump(),
        as_objects("anthropic", WHOLE),
        WHOLE,
        message("A fox", "ai"),
        message(BLOCKS, "ai"),
    ],
)
def test_a_whole_reply_is_recognised(reply: object) -> None:
    assert is_whole_reply(reply)


@pytest.mark.parametrize(
    "tokens",
    [
        "A fox",
        [CHAT],
        ["A ", "fox"],
        COMPLETION[2],
        {"choices": []},
        {"choices": [{"message": None, "delta": {"content": "fox"}}]},
        {"type": "message", "role": "user", "content": "hi"},
        message("fox"),
        iter(["fox"]),
        None,
    ],
)
def test_a_stream_or_a_chunk_is_no_whole_reply(tokens: object) -> None:
    assert not is_whole_reply(tokens)
