"""Who writes the replies: the embedded storyteller, or a model behind an OpenAI-compatible server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from limner.adapters.cli.performance import stream
from limner.adapters.cli.teaching import system_prompt
from limner.adapters.demo.storyteller import tell
from limner.adapters.openai_api import openai_base_url, openai_client
from limner.adapters.openai_chat import stream_chat
from limner.errors import BackendError
from limner.text import DEFAULT_PATTERNS, strip_illustrations

MOST_REMEMBERED = 60_000
"""How many characters of the conversation go along to a model; what is older stays behind."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What somebody said. `role` is `"user"` or `"assistant"`."""

    role: str
    text: str


class Writer(Protocol):
    """Writes the next reply of a conversation."""

    @property
    def name(self) -> str:
        """Who that is, for the page."""

    def reply(self, turns: Sequence[Turn]) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """The reply to the last turn, piece by piece. Raises `BackendError`."""


@dataclass(frozen=True, slots=True)
class StoryWriter:
    """The embedded storyteller, at the pace of a model: a piece every `token_ms` milliseconds."""

    token_ms: int = 30
    name: str = "the embedded storyteller"

    @asynccontextmanager
    async def reply(self, turns: Sequence[Turn]) -> AsyncIterator[AsyncIterator[str]]:
        """A story about what was said last."""
        async with aclosing(stream(tell(turns[-1].text if turns else ""), self.token_ms)) as pieces:
            yield pieces


class UpstreamWriter:
    """A model behind the OpenAI-compatible server at `url`, which is taught to write the tags.

    The key goes to that server and nowhere else; the page never sees it.
    """

    def __init__(self, url: str, model: str, api_key: str | None) -> None:
        self._url = url
        self._model = model
        self._api_key = api_key

    @property
    def name(self) -> str:
        """The model, and where it is."""
        return f"{self._model} at {urlsplit(openai_base_url(self._url)).hostname or 'the upstream'}"

    @asynccontextmanager
    async def reply(self, turns: Sequence[Turn]) -> AsyncIterator[AsyncIterator[str]]:
        """What the model says to the conversation, without the pictures that stand in it."""
        messages = [{"role": turn.role, "content": turn.text} for turn in remembered(turns)]
        async with stream_chat(
            self._url,
            self._model,
            messages,
            api_key=self._api_key,
            system=system_prompt(DEFAULT_PATTERNS, "story"),
        ) as pieces:
            yield pieces


def remembered(turns: Sequence[Turn]) -> list[Turn]:
    """The newest turns without their pictures, as many as fit; the last one in any case."""
    kept: list[Turn] = []
    room = MOST_REMEMBERED
    for turn in reversed(turns):
        text = strip_illustrations(turn.text) if turn.role == "assistant" else turn.text
        room -= len(text)
        if kept and room < 0:
            break
        if text.strip():
            kept.append(Turn(turn.role, text))
    # A conversation begins with what the person said; some servers refuse any other.
    while len(kept) > 1 and kept[-1].role != "user":
        kept.pop()
    return kept[::-1]


async def first_model(url: str, api_key: str | None) -> str:
    """The first model that the server lists. Raises `BackendError`, also where it lists none."""
    client = openai_client(url, api_key)
    try:
        answer = await client.get_json("models")
    finally:
        await client.aclose()
    listed = answer.get("data") if isinstance(answer, dict) else answer
    for model in listed if isinstance(listed, list) else ():
        name = model.get("id") if isinstance(model, dict) else None
        if isinstance(name, str) and name:
            return name
    raise BackendError(f"{client.address}models lists no model; name one with --model")
