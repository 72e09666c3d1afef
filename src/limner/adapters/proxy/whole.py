"""A reply that comes whole: its pictures are put into the text, each behind its tag."""

from __future__ import annotations

import json
from typing import Any

import anyio.to_thread

from limner.adapters.http import MIB
from limner.adapters.http_answer import Answer
from limner.adapters.http_parts import PARSE_IN_PLACE_BYTES
from limner.adapters.proxy.illustration import Illustration
from limner.adapters.proxy.setting import ReplySetting
from limner.adapters.proxy.wire import Client, Headers, passed_on
from limner.workflows.progress_events import PromptProgress

MAX_REPLY_BYTES = 32 * MIB
"""A reply up to this size is looked into; a larger one passes as it comes."""


async def pass_on(answer: Answer, client: Client, beginning: bytes = b"") -> None:
    """Pass the body on as it comes; `beginning` was read before. Raises `Unavailable` where it breaks off."""
    if beginning:
        await client.write(beginning)
    while (chunk := await answer.chunk()) is not None:
        await client.write(chunk)
    await client.end()


class WholeReply:
    """Passes one reply on, with its pictures in it."""

    def __init__(
        self, answer: Answer, client: Client, illustration: Illustration, setting: ReplySetting
    ) -> None:
        self._answer = answer
        self._client = client
        self._illustration = illustration
        self._setting = setting

    async def run(self) -> None:
        """Read the reply, have its pictures made, and send it. What is no such reply passes as it is."""
        body = bytearray()
        while (chunk := await self._answer.chunk()) is not None:
            body += chunk
            if len(body) > MAX_REPLY_BYTES:
                await self._client.start(self._answer.status, passed_on(self._answer.headers))
                await pass_on(self._answer, self._client, bytes(body))
                return
        data = bytes(body)
        if len(data) > PARSE_IN_PLACE_BYTES:
            reply = await anyio.to_thread.run_sync(_parsed, data)
        else:
            reply = _parsed(data)
        message = _message_of(reply)
        if message is not None:
            illustrated = await self._illustrated(message["content"])
            if illustrated is not None:
                message["content"] = illustrated
                data = json.dumps(reply).encode("ascii")
        headers: Headers = passed_on(self._answer.headers, b"content-length")
        await self._client.start(
            self._answer.status, [*headers, (b"content-length", str(len(data)).encode())]
        )
        await self._client.end(data)

    async def _illustrated(self, text: str) -> str | None:
        """The text with its pictures; None where there are none."""
        await self._illustration.feed(text)
        if not await self._illustration.seal():
            return None
        pictures = await self._illustration.pictures(_nobody_is_told)
        return self._setting.placed(text, pictures) if pictures else None


async def _nobody_is_told(_: PromptProgress) -> None:
    """There is no way to tell anything before the reply is sent."""


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _message_of(reply: Any) -> dict[str, Any] | None:
    """The one message of a reply that is a text for a reader; None for any other."""
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        return None
    message = choices[0].get("message")
    if not isinstance(message, dict) or message.get("tool_calls") or message.get("function_call"):
        return None
    return message if isinstance(message.get("content"), str) and message["content"] else None
