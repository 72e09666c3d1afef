"""The text in a chunk, for the chunk types of the clients that people stream with.

No client is imported: a chunk is read by the names of its fields, as an object or as the dict that it was
parsed from. So whatever speaks one of these shapes is understood, too, from another package as well.

Each client has its trap, and a text that is counted twice would be illustrated twice:

* OpenAI's helper stream tells each piece twice, as the chunk and as `content.delta`; the chunk counts, since
  only it says which choice it is of. Of several choices the first is the reply.
* Anthropic's helper stream tells each piece twice, as `content_block_delta` and as `text`; the first counts,
  since it is also what comes without the helper.
* LangGraph streams the messages that any node writes, the user's and the tools' among them; the model's
  count.
* pydantic-ai tells a part's first piece at its start, and the whole of it once more at its end.

Reasoning, tool calls, refusals and the rest of what clients stream are no text of the reply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, cast

from limner.errors import InvalidSetting

WHOLE_REPLY = "this is a whole reply; ask for it with stream=True, or pass its text"

TextOf = Literal["openai", "anthropic", "langchain", "pydantic-ai"] | Callable[[Any], str]
"""How a chunk's text is had: the name of a client, or a function of the host's own."""


def text_of(given: TextOf | None = None) -> Callable[[object], str]:
    """A function that gives a chunk's text, `""` for a chunk without any.

    `given` is the name of a client; or a function from chunk to text; or None, for chunks that are `str`
    or of a class of such a client. Raises `InvalidSetting` for anything else; so does the function, for a
    chunk that it does not know. What a function of the host's own raises passes through.
    """
    if given is None:
        return _recognised
    if isinstance(given, str):
        if given in READERS:
            return READERS[given]
        raise InvalidSetting(f"text_of must be {_POSSIBLE}, not {given!r:.60}")
    if callable(given):
        return _Own(given)
    raise InvalidSetting(f"text_of must be {_POSSIBLE}, not {given!r:.60}")


def is_whole_reply(tokens: object) -> bool:
    """Whether this is a client's whole reply, as it comes where no stream was asked for.

    Such an object is iterable, but what it gives are its fields.
    """
    if isinstance(tokens, str):
        return False
    kind = _field(tokens, "type")
    if kind == "ai" or (kind == "message" and _field(tokens, "role") == "assistant"):
        return _field(tokens, "content", _MISSING) is not _MISSING
    if _field(tokens, "object") == "response":
        return isinstance(_field(tokens, "output"), list)
    choices = _field(tokens, "choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return _field(first, "message") is not None and _field(first, "delta") is None


def _recognised(chunk: object) -> str:
    if isinstance(chunk, str):
        return chunk
    # A message and what is known about it: LangGraph's pairs, maybe within another pair.
    candidates: Iterable[object] = (chunk,)
    if isinstance(chunk, tuple):
        candidates = chunk[0:1] + (chunk[-1][0:1] if chunk and isinstance(chunk[-1], tuple) else ())
    for candidate in candidates:
        for base in type(candidate).__mro__:
            package = base.__module__.partition(".")[0]
            name = _PACKAGES.get(package)
            if name is not None:
                return READERS[name](chunk)
    if isinstance(chunk, bytes | bytearray):
        raise InvalidSetting("a chunk of bytes is no text yet: decode it")
    raise InvalidSetting(f"no text is known of a chunk of {_class(chunk)}: give text_of={_POSSIBLE}")


class _Own:
    """A function of the host's own, held to its promise."""

    def __init__(self, function: Callable[[Any], str]) -> None:
        self._function = function

    def __call__(self, chunk: object) -> str:
        text: object = self._function(chunk)
        if not isinstance(text, str):
            raise InvalidSetting(f"text_of must give a str, and gave {text!r:.60}")
        return text


# --- the clients


def _openai(chunk: object) -> str:
    if isinstance(chunk, str):
        return chunk
    kind = _field(chunk, "type")
    if kind == "response.output_text.delta":
        return _text(_field(chunk, "delta"))
    if kind == "chunk":
        chunk = _field(chunk, "chunk")
    elif isinstance(kind, str):
        return ""
    choices = _field(chunk, "choices", _MISSING)
    if choices is _MISSING:
        raise _unlike("openai", chunk)
    for choice in choices or ():
        if (_field(choice, "index") or 0) == 0:
            return _choice(choice)
    return ""


def _choice(choice: object) -> str:
    delta = _field(choice, "delta")
    if delta is None and _field(choice, "message") is not None:
        raise InvalidSetting(WHOLE_REPLY)
    # Without one it is a piece of a text completion, the older form.
    return _text(_field(choice, "text")) if delta is None else _content(_field(delta, "content"))


def _anthropic(chunk: object) -> str:
    if isinstance(chunk, str):
        return chunk
    kind = _field(chunk, "type")
    if not isinstance(kind, str):
        raise _unlike("anthropic", chunk)
    if kind == "content_block_delta":
        return _text_block(_field(chunk, "delta"), "text_delta")
    if kind == "content_block_start":
        return _text_block(_field(chunk, "content_block"), "text")
    return ""


def _langchain(chunk: object) -> str:
    if isinstance(chunk, str):
        return chunk
    if isinstance(chunk, dict) and "data" in chunk:
        if isinstance(chunk.get("event"), str):
            return _langchain_event(chunk["event"], _field(chunk["data"], "chunk"))
        if not isinstance(chunk.get("type"), str):
            raise _unlike("langchain", chunk)
        if chunk["type"] != "messages":
            return ""
        chunk = chunk["data"]
    if isinstance(chunk, (tuple, list)) and chunk:
        # (message, metadata), or this behind the name of the stream mode, the subgraph's, or both.
        pair = chunk[-1] if isinstance(chunk[-1], tuple) and chunk[-1] else chunk
        return _message(pair[0])
    if _field(chunk, "content", _MISSING) is _MISSING:
        raise _unlike("langchain", chunk)
    return _message(chunk)


def _langchain_event(event: str, chunk: object) -> str:
    """What `astream_events` tells, of which a model's own events are the text; a chain's repeat them."""
    if event == "on_chat_model_stream":
        return _message(chunk)
    return _text(_field(chunk, "text")) if event == "on_llm_stream" else ""


def _message(message: object) -> str:
    return _content(_field(message, "content")) if _field(message, "type") in _MODELS_MESSAGES else ""


def _pydantic_ai(chunk: object) -> str:
    if isinstance(chunk, str):
        return chunk
    kind = _field(chunk, "event_kind")
    if not isinstance(kind, str):
        raise _unlike("pydantic-ai", chunk)
    if kind == "part_start":
        part = _field(chunk, "part")
        return _text(_field(part, "content")) if _field(part, "part_kind") == "text" else ""
    if kind == "part_delta":
        delta = _field(chunk, "delta")
        return _text(_field(delta, "content_delta")) if _field(delta, "part_delta_kind") == "text" else ""
    return ""


READERS: Mapping[str, Callable[[object], str]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "langchain": _langchain,
    "pydantic-ai": _pydantic_ai,
}
"""The table: a client's name, and what gives the text of its chunks."""

_PACKAGES = {
    "openai": "openai",
    "anthropic": "anthropic",
    "langchain_core": "langchain",
    "pydantic_ai": "pydantic-ai",
}
"""Where the chunks' classes, or classes that they derive from, are defined."""

_POSSIBLE = ", ".join(map(repr, READERS)) + " or a function that gives a chunk's text"

_MODELS_MESSAGES = {"AIMessageChunk", "ai"}

_MISSING = object()


# --- what they share


def _field(chunk: object, name: str, default: object = None) -> Any:
    """A field of an object, or of the dict that such an object is parsed from."""
    return chunk.get(name, default) if isinstance(chunk, dict) else getattr(chunk, name, default)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _text_block(block: object, kind: str) -> str:
    return _text(_field(block, "text")) if _field(block, "type") == kind else ""


def _content(content: object) -> str:
    """The text of a message's content: a text, or blocks of which some are text."""
    if isinstance(content, list):
        blocks = cast("list[object]", content)
        return "".join(block if isinstance(block, str) else _text_block(block, "text") for block in blocks)
    return _text(content)


def _unlike(name: str, chunk: object) -> InvalidSetting:
    return InvalidSetting(f"text_of={name!r} does not fit a chunk of {_class(chunk)}")


def _class(chunk: object) -> str:
    kind = type(chunk)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
