"""A stand-in for Open WebUI that loads and calls a filter as its version 0.12 does.

Reproduced are: the frontmatter; the module of its own that the pasted text is run in; valves that are set
before each call; arguments by the names in a handler's signature; events in their order; a reply that is kept
as structured output; what the outlet changes in it; and what the page shows, which is the output where there
is one. Not reproduced are the models, the users and the database.
"""

from __future__ import annotations

import copy
import inspect
import re
import sys
import types
from collections.abc import Iterable
from typing import Any


def load_filter(source: str) -> tuple[Any, dict[str, str]]:
    """The filter object of a pasted text, and its frontmatter."""
    for old, new in {"from utils": "from open_webui.utils", "from apps": "from open_webui.apps"}.items():
        source = source.replace(old, new)
    module = types.ModuleType("function_limner")
    sys.modules[module.__name__] = module
    try:
        exec(source, module.__dict__)
    finally:
        del sys.modules[module.__name__]
    lines = source.splitlines()
    assert lines[0].strip() == '"""'
    end = lines.index('"""', 1)
    found = (re.match(r"^\s*([a-z_]+):\s*(.*)\s*$", line, re.IGNORECASE) for line in lines[1:end])
    return module.Filter(), dict(match.groups() for match in found if match)  # type: ignore[misc]


def chunk(**delta: Any) -> dict[str, Any]:
    """An event of a model's stream."""
    return {"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}]}


class OpenWebUI:
    """One chat. `valves` are what the administrator has saved; `structured`: replies are kept as output."""

    def __init__(self, source: str, *, structured: bool = True, **valves: Any) -> None:
        self.filter, self.frontmatter = load_filter(source)
        self.valves = valves
        self.events: list[dict[str, Any]] = []
        self.history: list[dict[str, Any]] = []
        self.requests: list[list[dict[str, Any]]] = []
        self._structured = structured

    @property
    def statuses(self) -> list[dict[str, Any]]:
        return [event["data"] for event in self.events if event["type"] == "status"]

    @property
    def shown(self) -> str:
        """The last reply as the page shows it."""
        message = self.history[-1]
        if message.get("output"):
            return output_text(message["output"])
        return str(message["content"])

    async def ask(self, question: str, *rounds: Iterable[dict[str, Any]], stop: bool = False) -> None:
        """A question and its reply, which streams in one round, or in several with a tool call in between."""
        message_id = f"message-{len(self.history)}"
        self.history.append({"id": f"q{len(self.history)}", "role": "user", "content": question})
        extra = self._extra(message_id)
        messages = [{"role": m["role"], "content": self._content(m)} for m in self.history]
        body = await self._call("inlet", {"model": "m", "messages": messages}, extra)
        self.requests.append(body["messages"])
        output: list[dict[str, Any]] = []
        for events in rounds:
            text = await self._stream(events, extra)
            if output:
                output.append({"type": "function_call", "name": "clock", "arguments": "{}"})
            output.append({"type": "message", "content": [{"type": "output_text", "text": text}]})
        reply: dict[str, Any] = {"id": message_id, "role": "assistant", "content": ""}
        reply |= {"output": output} if self._structured else {"content": output_text(output)}
        self.history.append(reply)
        if not stop:  # the button: the outlet is not called then
            await self.outlet(message_id)

    async def go_on(self, events: Iterable[dict[str, Any]], *, stop: bool = False) -> None:
        """The button Continue below the last reply: the same message, whose last item gets one more part."""
        reply = self.history[-1]
        messages = [{"role": m["role"], "content": self._content(m)} for m in self.history]
        extra = self._extra(reply["id"])
        await self._call("inlet", {"model": "m", "messages": messages}, extra)
        text = await self._stream(events, extra)
        reply["output"][-1]["content"].append({"type": "output_text", "text": text})
        if not stop:
            await self.outlet(reply["id"])

    async def outlet(self, message_id: str) -> None:
        """What happens when the reply is complete."""
        messages = [{**copy.deepcopy(m), "content": self._content(m)} for m in self.history]
        body = {"model": "m", "messages": messages, "chat_id": "chat", "session_id": "s", "id": message_id}
        result = await self._call("outlet", body, self._extra(message_id))
        for message, changed in zip(self.history, result["messages"], strict=True):
            if changed["content"] != self._content(message):
                message.update(content=changed["content"])
            if changed.get("output") and changed["output"] != message.get("output"):
                message.update(output=changed["output"])

    async def _stream(self, events: Iterable[dict[str, Any]], extra: dict[str, Any]) -> str:
        text = ""
        for event in events:
            event = await self._call("stream", event, extra)
            for choice in event.get("choices", []):
                text += choice["delta"].get("content") or ""
        return text

    def _content(self, message: dict[str, Any]) -> str:
        return message["content"] or output_text(message.get("output") or [])

    def _extra(self, message_id: str) -> dict[str, Any]:
        async def emit(event: dict[str, Any]) -> None:
            self.events.append(copy.deepcopy(event))
            if event["type"] == "replace":
                for message in self.history:
                    if message["id"] == message_id:
                        message["content"] = event["data"]["content"]

        metadata = {"chat_id": "chat", "message_id": message_id, "session_id": "s", "user_id": "u"}
        return {
            "__event_emitter__": emit,
            "__event_call__": None,
            "__user__": {"id": "u"},
            "__metadata__": metadata,
            "__request__": None,
            "__model__": {"id": "m"},
        }

    async def _call(self, handler: str, data: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        function = getattr(self.filter, handler)
        self.filter.valves = self.filter.Valves(**self.valves)
        names = inspect.signature(function).parameters
        given = {"event" if handler == "stream" else "body": data}
        result = await function(**given, **{name: value for name, value in extra.items() if name in names})
        assert isinstance(result, dict)
        return result


def output_text(output: list[dict[str, Any]]) -> str:
    """The text of a structured reply."""
    texts = [
        "".join(part["text"] for part in item["content"]) for item in output if item["type"] == "message"
    ]
    return "\n".join(text for text in texts if text.strip())
