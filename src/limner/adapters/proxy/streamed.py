"""A reply that streams: every event goes to the client at once, and the pictures come before its end.

The text of the first choice is followed on the way. When it is complete and asks for pictures, what is left
of the stream (the chunk that says why it ended, the usage, `[DONE]`) is held back until they are made, since
clients stop listening at the end. `waiting` holds the connection meanwhile. A reply without prompts is held
up by nothing, and one that ends in an error gets no pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from limner.adapters.http_answer import Answer
from limner.adapters.proxy.events import DONE, EventCutter, data_of, event_of, parsed
from limner.adapters.proxy.illustration import Illustration
from limner.adapters.proxy.setting import ReplySetting
from limner.adapters.proxy.waiting import Waiting
from limner.adapters.proxy.wire import Client, error_body
from limner.errors import BackendError

_READ_ON_CHUNKS = 64
"""How many chunks are read on while pictures are made: the few that are left, not a second reply."""

_BLANK_LINE = (b"\n\n", b"\r\r", b"\r\n\r\n")
_TOOL_CALLS = ("tool_calls", "function_call")


class StreamedReply:
    """Passes one reply on. `run` returns when all of it was sent."""

    def __init__(
        self, answer: Answer, client: Client, illustration: Illustration, setting: ReplySetting
    ) -> None:
        self._answer = answer
        self._client = client
        self._illustration = illustration
        self._setting = setting
        self._cutter = EventCutter()
        self._head: Mapping[str, Any] = {}
        self._follows = True
        self._writing = anyio.Lock()
        self._cut: BackendError | None = None
        self._last = b""
        self._thought = ""
        self._without_text: Mapping[str, Any] = {}

    async def run(self) -> None:
        """Pass the reply on to its end, whatever that is. A connection that broke is told as an error."""
        while self._follows:
            chunk = await self._chunk()
            if chunk is None:
                await self._flush()
                await self._finish(b"")
                break
            await self._take(self._cutter.feed(chunk))
        while (chunk := await self._chunk()) is not None:
            await self._send(chunk)
        if self._cut is not None:
            await self._add(b"data: " + error_body(self._cut) + b"\n\n")
        await self._client.end()

    async def _chunk(self) -> bytes | None:
        if self._cut is not None:
            return None
        try:
            return await self._answer.chunk()
        except BackendError as error:
            self._cut = error
            return None

    async def _flush(self) -> None:
        """Take in what the end of the stream has cut off: an event without its blank line."""
        rest = self._cutter.rest()
        if rest:
            await self._take([(rest, True)])

    async def _take(self, pieces: Sequence[tuple[bytes, bool]]) -> None:
        """Pass events on and follow the text in them; at the end of the text, the pictures."""
        passing: list[bytes] = []
        texts: list[str] = []
        for index, (raw, is_event) in enumerate(pieces):
            ends = False
            if is_event:
                text, ends, shown = self._read(raw)
                if text:
                    texts.append(text)
                if ends:
                    if shown is not None:
                        passing.append(event_of(shown))
                        raw = event_of(self._without_text)
                    await self._pass(passing, texts)
                    rest = b"".join((raw, *(piece for piece, _ in pieces[index + 1 :]), self._cutter.rest()))
                    await self._finish(rest)
                    return
            passing.append(raw)
        await self._pass(passing, texts)

    async def _pass(self, passing: Sequence[bytes], texts: Sequence[str]) -> None:
        if passing:
            # The client goes first: what is made of the text is a matter for later.
            await self._send(passing[0] if len(passing) == 1 else b"".join(passing))
        for text in texts:
            await self._illustration.feed(text)

    def _read(self, raw: bytes) -> tuple[str, bool, Mapping[str, Any] | None]:
        """The text in an event, whether it ends the text, and the text's own chunk where it does both."""
        data = data_of(raw)
        if data == DONE:
            return "", True, None
        chunk = parsed(data) if data else None
        if chunk is not None and chunk.get("error"):
            # Clients read no further: pictures would reach nobody.
            self._follows = False
            return "", True, None
        choice = _first_choice(chunk) if chunk is not None else None
        if chunk is None or choice is None:
            return "", False, None
        self._head = self._head or chunk
        delta = choice.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        text = _text_of(delta.get("content"))
        if not text:
            self._thought = _thought_in(delta) or self._thought
        reason = choice.get("finish_reason")
        if not reason:  # some servers write "" until the end
            return text, False, None
        if reason in _TOOL_CALLS:
            self._follows = False
            return text, True, None
        if not text:
            return "", True, None
        # A last piece of text in the chunk that ends it must not wait for the pictures.
        self._without_text = _with_choice(chunk, {**choice, "delta": {**delta, "content": ""}})
        return text, True, _with_choice(chunk, {**choice, "finish_reason": None})

    async def _finish(self, rest: bytes) -> None:
        """The text is complete: the pictures, then `rest`; from here on everything passes as it comes."""
        follows, self._follows = self._follows, False
        if not follows or not await self._illustration.seal():
            if rest:
                await self._send(rest)
            return
        # Read on meanwhile: a server that cannot get rid of its last bytes may give up.
        outlet, inlet = anyio.create_memory_object_stream[bytes](_READ_ON_CHUNKS)
        async with inlet, anyio.create_task_group() as tasks:
            tasks.start_soon(self._read_on, outlet)
            await self._show_pictures()
            if rest:
                await self._send(rest)
            async for chunk in inlet:
                await self._send(chunk)

    async def _read_on(self, outlet: MemoryObjectSendStream[bytes]) -> None:
        async with outlet:
            while (chunk := await self._chunk()) is not None:
                await outlet.send(chunk)

    async def _show_pictures(self) -> None:
        waiting = Waiting(
            self._setting, self._show, self._comment, self._illustration.prompt_ids, self._thought
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(waiting.run)
            pictures = await self._illustration.pictures(waiting.tell)
            tasks.cancel_scope.cancel()
        if pictures:
            await self._show({"content": self._setting.below(self._illustration.text, pictures)})

    async def _show(self, delta: Mapping[str, str]) -> None:
        await self._add(event_of(self._chunk_with(delta)))

    async def _comment(self, text: str) -> None:
        await self._add(f": {text}\n\n".encode())

    async def _send(self, data: bytes) -> None:
        """Pass on what the server sent."""
        self._last = data
        await self._client.write(data)

    async def _add(self, event: bytes) -> None:
        """Send an event of our own, which must not become a part of one that the server left open."""
        async with self._writing:
            if self._last and not self._last.endswith(_BLANK_LINE):
                event = b"\n\n" + event
            self._last = event
            await self._client.write(event)

    def _chunk_with(self, delta: Mapping[str, Any]) -> Mapping[str, Any]:
        """A chunk of the same reply: its id, model and time, and whatever else the server tells in each."""
        head = {name: value for name, value in self._head.items() if name not in ("choices", "usage")}
        head.setdefault("object", "chat.completion.chunk")
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


def _first_choice(chunk: Mapping[str, Any]) -> dict[str, Any] | None:
    choices = chunk.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and not choice.get("index"):
            return choice
    return None


def _with_choice(chunk: Mapping[str, Any], choice: Mapping[str, Any]) -> Mapping[str, Any]:
    others = [other for other in chunk["choices"] if isinstance(other, dict) and other.get("index")]
    return {**chunk, "choices": [choice, *others]}


def _thought_in(delta: Mapping[str, Any]) -> str:
    thought = delta.get("reasoning_content") or delta.get("reasoning")
    return thought if isinstance(thought, str) else ""


def _text_of(content: object) -> str:
    if isinstance(content, list):
        # Some servers stream a list of parts.
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
