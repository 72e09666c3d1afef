"""A chat request on its way to the model: what the client asked of us and our pictures are taken out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from limner.adapters.proxy.history import (
    TagMemory,
    is_ours,
    without_pictures,
    without_progress,
    without_thoughts_of_ours,
)
from limner.adapters.proxy.wishes import BODY_FIELD, Wishes, wishes_of
from limner.errors import InvalidSetting
from limner.text import PromptPatterns

_SYSTEM_ROLES = ("system", "developer")
_REASONING = ("reasoning_content", "reasoning")
_TASK = "### Task:"


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What goes upstream, and how the reply is to be illustrated; `follows`: whether it is looked at."""

    body: bytes
    wishes: Wishes
    follows: bool


class ChatRequests:
    """Prepares chat requests.

    `instruction` is what teaches the model the tags; None where there are only regular expressions, which say
    what is found and not what to write.
    """

    def __init__(
        self, patterns: PromptPatterns, memory: TagMemory, defaults: Wishes, instruction: str | None
    ) -> None:
        self._patterns = patterns
        self._memory = memory
        self._defaults = defaults
        self._instruction = instruction

    def prepare(self, body: bytes, header: str | None) -> ChatRequest:
        """The request as it goes upstream: the same bytes, unless there is something to be changed in it.

        What is no JSON object passes as it is; the upstream will say what it thinks of it. Raises
        `InvalidSetting` for wishes that cannot be meant.
        """
        try:
            request = json.loads(body)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict):
            return ChatRequest(body, self._defaults, follows=False)
        wishes = wishes_of(self._defaults, header, request.get(BODY_FIELD))
        changed = BODY_FIELD in request
        request.pop(BODY_FIELD, None)
        messages = request.get("messages")
        if isinstance(messages, list):
            changed = self._clean(messages) or changed
            if wishes.teach and wishes.illustrate and not _is_task(request):
                changed = self._teach(messages) or changed
        sent = json.dumps(request).encode("ascii") if changed else body
        return ChatRequest(sent, wishes, wishes.illustrate and _wants_text(request))

    def _teach(self, messages: list[Any]) -> bool:
        if self._instruction is None:
            raise InvalidSetting(
                "limner.teach needs a tag to teach; the proxy knows only regular expressions"
            )
        for message in messages:
            if not isinstance(message, dict) or message.get("role") not in _SYSTEM_ROLES:
                continue
            content = message.get("content")
            if isinstance(content, str):
                message["content"] = f"{content}\n\n{self._instruction}" if content else self._instruction
                return True
            if isinstance(content, list):
                content.append({"type": "text", "text": self._instruction})
                return True
        messages.insert(0, {"role": "system", "content": self._instruction})
        return True

    def _clean(self, messages: list[Any]) -> bool:
        """Take our pictures out of the messages; whether there were any.

        Of the pictures that others than the assistant send along only those in texts, where they are surely
        ours: programs send a whole conversation as one text to have it continued, summed up or named.
        """
        changed = False
        for message in messages:
            if not isinstance(message, dict):
                continue
            if message.get("role") != "assistant":
                changed = self._clean_texts(message, self._without_sure_pictures) or changed
                continue
            changed = _drop_pictures(message.get("content")) or changed
            changed = self._clean_texts(message, self._without_pictures) or changed
            for name in _REASONING:
                changed = _rewrite(message, name, without_progress) or changed
        return changed

    def _clean_texts(self, message: dict[str, Any], rewritten: Callable[[str], str]) -> bool:
        content = message.get("content")
        if not isinstance(content, list):
            return _rewrite(message, "content", rewritten)
        changed = False
        for part in content:
            if isinstance(part, dict):
                changed = _rewrite(part, "text", rewritten) or changed
        return changed

    def _without_pictures(self, text: str) -> str:
        return without_pictures(without_thoughts_of_ours(text), self._patterns, self._memory)

    def _without_sure_pictures(self, text: str) -> str:
        return without_pictures(text, self._patterns, self._memory, said_by_model=False)


def _drop_pictures(content: object) -> bool:
    if not isinstance(content, list):
        return False
    kept = [part for part in content if not _is_picture_of_ours(part)]
    dropped = len(kept) != len(content)
    content[:] = kept
    return dropped


def _rewrite(holder: dict[str, Any], name: str, rewritten: Callable[[str], str]) -> bool:
    before = holder.get(name)
    if not isinstance(before, str):
        return False
    holder[name] = rewritten(before)
    return holder[name] is not before and holder[name] != before


def _is_picture_of_ours(part: object) -> bool:
    if not isinstance(part, dict) or part.get("type") != "image_url":
        return False
    image = part.get("image_url")
    address = image.get("url") if isinstance(image, dict) else image
    return isinstance(address, str) and is_ours(address)


def _wants_text(request: dict[str, Any]) -> bool:
    """Whether the reply will be one text for a reader: not several, and none that a program parses."""
    several = request.get("n")
    form = request.get("response_format")
    kind = form.get("type", "text") if isinstance(form, dict) else "text"
    return several in (None, 1) and kind == "text" and not _is_task(request)


def _is_task(request: dict[str, Any]) -> bool:
    """Whether a program asks for itself: Open WebUI for titles, tags and follow-up questions.

    They are one message of its user's, in one piece, that begins like its templates (0.12.4, `config.py`).
    """
    messages = request.get("messages")
    if request.get("stream") or not isinstance(messages, list):
        return False
    asked = [each for each in messages if isinstance(each, dict) and each.get("role") not in _SYSTEM_ROLES]
    if len(asked) != 1 or asked[0].get("role") != "user":
        return False
    content = asked[0].get("content")
    return isinstance(content, str) and content.lstrip().startswith(_TASK)
