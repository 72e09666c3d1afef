"""Streamed replies from every server that speaks OpenAI's `/chat/completions`."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Self

import anyio

from limner.adapters.http import MIB, HttpClient
from limner.adapters.http_answer import Answer
from limner.adapters.http_errors import typed_error, words_from_json
from limner.adapters.openai_api import openai_client
from limner.adapters.sniffing import describe, one_line
from limner.adapters.sse import EventParser, ServerSentEvent
from limner.errors import BackendError, InvalidSetting, Unavailable

_PATH = "chat/completions"
_MAX_WHOLE_REPLY_BYTES = 16 * MIB
_CLOSING_TIME_S = 2

Message = Mapping[str, object]


def stream_chat(
    base_url: str,
    model: str,
    prompt_or_messages: str | Sequence[Message],
    *,
    api_key: str | None = None,
    system: str | None = None,
) -> ChatStream:
    """Ask for a reply and iterate over its text as it arrives.

    `base_url` may or may not end in `/v1`. `prompt_or_messages` is what the user says, or the whole list
    of messages (`{"role": …, "content": …}`); `system` goes in front of either.

    The request is sent at the first token, or by `async with`, which is also the way to leave early::

        async with stream_chat("http://127.0.0.1:11434", "llama3.2", "a story") as tokens:
            async for token in tokens:
                ...

    Raises `InvalidSetting` at once; a `BackendError` while iterating: what the server's status or its
    own error says, `Unavailable` where the connection breaks or ends before the reply does. What had
    arrived by then has been handed out already.
    """
    if not model:
        raise InvalidSetting("a chat needs the name of a model")
    given: Sequence[Message] = (
        [{"role": "user", "content": prompt_or_messages}]
        if isinstance(prompt_or_messages, str)
        else prompt_or_messages
    )
    messages = [*([{"role": "system", "content": system}] if system else []), *given]
    return ChatStream(
        openai_client(base_url, api_key), {"model": model, "messages": messages, "stream": True}
    )


class ChatStream:
    """An asynchronous iterator over the text of one reply; made by `stream_chat`.

    It closes its connection at the end, at an error and on leaving `async with`. Who neither reads to the
    end nor uses `async with` calls `aclose()`. Not a generator, because one that is left early is closed
    by the garbage collector, at a time and in a task of its own choosing.
    """

    def __init__(self, client: HttpClient, body: Mapping[str, object]) -> None:
        self._client = client
        self._body = body
        self._where = f"{client.address}{_PATH}"
        self._stack = AsyncExitStack()
        self._answer: Answer | None = None
        self._parser: EventParser | None = None
        self._tokens: deque[str] = deque()
        self._ended = False
        # An error that came in one chunk with text: the text is handed out first.
        self._failure: BackendError | None = None

    async def __aenter__(self) -> Self:
        """Send the request and wait for the head of the answer, so that a refusal shows at once."""
        try:
            await self._open()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection."""
        await self.aclose()

    def __aiter__(self) -> Self:
        """The stream is its own iterator: it can be read once."""
        return self

    async def __anext__(self) -> str:
        """The next piece of text, never empty."""
        try:
            while not self._tokens and not self._ended:
                await self._read_on(await self._open())
            if not self._tokens and self._failure is not None:
                raise self._failure
        except BaseException:
            await self.aclose()
            raise
        if not self._tokens:
            await self.aclose()
            raise StopAsyncIteration
        return self._tokens.popleft()

    async def aclose(self) -> None:
        """Stop the reply and close the connection. Doing so twice does no harm."""
        self._ended = True
        self._failure = None
        self._tokens.clear()
        # Shielded, because a stream is most often left early by being cancelled.
        with anyio.move_on_after(_CLOSING_TIME_S, shield=True):
            await self._stack.aclose()
            await self._client.aclose()

    async def _open(self) -> Answer:
        if self._answer is None:
            self._answer = await self._stack.enter_async_context(self._client.stream(_PATH, self._body))
            if self._answer.media_type == "text/event-stream":
                self._parser = EventParser()
        return self._answer

    async def _read_on(self, answer: Answer) -> None:
        """Read one chunk and take in what it completes."""
        chunk = await answer.chunk()
        if chunk is None:
            for event in self._parser.flush() if self._parser else ():
                self._take_or_fail(event, cut_off=True)
            if not self._ended:
                self._fail(Unavailable(f"{self._where} ended the stream before the reply was complete"))
            return
        if self._parser is None:
            if not chunk.strip():
                return
            self._parser = await self._recognise(answer, chunk)
        for event in [] if self._ended else self._parser.feed(chunk):
            if not self._ended:
                self._take_or_fail(event)

    async def _recognise(self, answer: Answer, beginning: bytes) -> EventParser:
        """What is this, if its media type does not say that it is a stream of events?"""
        first = beginning.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
        if first in b"{[":
            # A server that does not stream answers with the whole reply at once.
            self._take_whole(await answer.json(_MAX_WHOLE_REPLY_BYTES, already=beginning))
        elif first not in b"deir:":  # data, event, id, retry, or a comment
            raise BackendError(f"{self._where} answered with no stream of events: {describe(beginning)}")
        return EventParser()

    def _take_or_fail(self, event: ServerSentEvent, *, cut_off: bool = False) -> None:
        try:
            self._take(event, cut_off=cut_off)
        except BackendError as error:
            self._fail(error)

    def _fail(self, error: BackendError) -> None:
        self._failure = error
        self._ended = True

    def _take(self, event: ServerSentEvent, *, cut_off: bool = False) -> None:
        """Take in one event: text, the end, or an error."""
        data = event.data.strip()
        if data == "[DONE]":
            self._ended = True
            return
        if not data:
            return
        try:
            parsed = json.loads(data)
        except (ValueError, RecursionError) as error:
            if cut_off:
                raise Unavailable(f"{self._where} ended the stream in the middle of an event") from error
            raise BackendError(f"{self._where} streams broken JSON: {one_line(data, 80)}") from error
        if not isinstance(parsed, dict):
            raise BackendError(f"{self._where} streams something unexpected: {one_line(data, 80)}")
        if parsed.get("error") or event.event == "error":
            raise self._error_in(parsed)
        choice = _first_choice(parsed)
        self._add(_text_of(choice.get("delta")))
        # Some servers keep the connection open behind the last piece, so its mark is the end as well.
        self._ended = choice.get("finish_reason") is not None

    def _take_whole(self, parsed: object) -> None:
        self._ended = True
        if not isinstance(parsed, dict):
            raise BackendError(f"{self._where} answered with JSON that is no reply")
        if parsed.get("error"):
            raise self._error_in(parsed)
        choice = _first_choice(parsed)
        if not choice:
            raise BackendError(f"{self._where} answered without a reply")
        self._add(_text_of(choice.get("message")))

    def _error_in(self, parsed: object) -> BackendError:
        # These words come with status 200, past the place where keys are taken out of a refusal.
        words = words_from_json(parsed)
        return typed_error(
            f"{self._where} reports an error", words._replace(text=self._client.without_secrets(words.text))
        )

    def _add(self, text: str) -> None:
        if text:
            self._tokens.append(text)


def _first_choice(parsed: Mapping[str, object]) -> Mapping[str, object]:
    """The first choice, or an empty one: a report of the tokens used has none."""
    choices = parsed.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _text_of(part: object) -> str:
    text = part.get("content") if isinstance(part, dict) else None
    return text if isinstance(text, str) else ""
