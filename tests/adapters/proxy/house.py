"""A proxy behind a real server, a painter that does what the test says, and scripts for the upstream."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import anyio
import anyio.to_thread
import httpx
import openai
from starlette.responses import StreamingResponse

from limner.adapters.http import Relay
from limner.adapters.image_folder import FolderImageStore
from limner.adapters.journal_memory import MemoryJournal
from limner.adapters.limner import Limner
from limner.adapters.message_memory import MemoryMessageStore
from limner.adapters.openai_api import openai_base_url
from limner.adapters.proxy.app import ProxySettings, proxy_app
from limner.adapters.proxy.pictures import IMAGES_PATH
from limner.adapters.proxy.wishes import Wishes
from limner.errors import BackendError
from limner.workflows.ports import Capabilities, GenerationRequest, JournalRecord, ProgressCallback
from tests.adapters.servers.local import PATIENCE_S, RunningApp
from tests.support import png

_LEADS_EVERYWHERE = (
    ModuleType,
    type,
    FunctionType,
    CodeType,
    FrameType,
    asyncio.AbstractEventLoop,
    asyncio.Future,
)

KEY = "sk-a-secret-key"
CHAT = "/v1/chat/completions"
HEAD: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1_700_000_000,
    "model": "scripted",
    "system_fingerprint": "fp_1",
}
FOX = '<!--img-prompt="a red fox in the snow"-->'
SEA = '<img_prompt="a \\"grey\\" sea">'


def piece(content: str | None = None, *, finish: str | None = None, **delta: Any) -> bytes:
    """One chunk of a reply, as OpenAI writes it."""
    told = {**({"content": content} if content is not None else {}), **delta}
    choice = {"index": 0, "delta": told, "logprobs": None, "finish_reason": finish}
    return f"data: {json.dumps({**HEAD, 'choices': [choice]})}\n\n".encode()


USAGE = (
    f"data: {json.dumps({**HEAD, 'choices': [], 'usage': {'prompt_tokens': 9, 'completion_tokens': 21}})}\n\n"
).encode()
DONE = b"data: [DONE]\n\n"


def reply_of(text: str, size: int = 5) -> list[bytes]:
    """A whole reply as a model streams it."""
    return [
        piece("", role="assistant"),
        *(piece(text[at : at + size]) for at in range(0, len(text), size)),
        piece(finish="stop"),
        USAGE,
        DONE,
    ]


class Stream:
    """What an upstream streams: `events`, then, if `held` is set, nothing until `release` was called."""

    def __init__(
        self,
        events: Sequence[bytes],
        rest: Sequence[bytes] = (),
        media_type: str = "text/event-stream",
        *,
        held: bool = False,
    ) -> None:
        self.gone = threading.Event()
        self.released = threading.Event()
        self.response = StreamingResponse(self._body(events, rest, held), media_type=media_type)

    async def _body(self, events: Sequence[bytes], rest: Sequence[bytes], held: bool) -> AsyncIterator[bytes]:
        try:
            for event in events:
                yield event
            if held:
                await anyio.to_thread.run_sync(self.released.wait, PATIENCE_S, abandon_on_cancel=True)
            for event in rest:
                yield event
        except BaseException:
            self.gone.set()
            raise


class Painter:
    """Paints at once; with `hold` only once `released` is set. Lives in the server's thread."""

    capabilities = Capabilities()

    def __init__(self, *, hold: bool = False, error: BackendError | None = None, same: bool = False) -> None:
        self.requests: list[GenerationRequest] = []
        self.started = threading.Event()
        self.released = threading.Event()
        self.cancelled = threading.Event()
        self.error = error
        self.same = same
        if not hold:
            self.released.set()

    async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        self.requests.append(request)
        self.started.set()
        try:
            await anyio.to_thread.run_sync(self.released.wait, PATIENCE_S, abandon_on_cancel=True)
        except anyio.get_cancelled_exc_class():
            self.cancelled.set()
            raise
        if self.error is not None:
            raise self.error
        return png(1 if self.same else len(self.requests))

    async def aclose(self) -> None:
        """Nothing to close."""


class Recording(MemoryJournal):
    """The proxy's journal, which keeps nothing of what has ended; and `appended`, for the test."""

    def __init__(self) -> None:
        super().__init__(keep=0)
        self.appended: list[JournalRecord] = []

    async def append(self, records: Sequence[JournalRecord]) -> None:
        self.appended += records
        await super().append(records)


class Telling(Limner):
    """The proxy's Limner, which tells when it has forgotten a message."""

    def __init__(self, *parts: Any, **settings: Any) -> None:
        super().__init__(*parts, **settings)
        self.has_forgotten = threading.Event()

    async def forget(self, message_id: str) -> None:
        await super().forget(message_id)
        self.has_forgotten.set()


class House:
    """The running proxy and its parts."""

    def __init__(self, upstream: str, folder: Path, painter: Painter, settings: ProxySettings) -> None:
        self.painter = painter
        self.store = MemoryMessageStore()
        self.journal = Recording()
        self.limner = Telling(
            painter,
            store=self.store,
            journal=self.journal,
            images=FolderImageStore(folder / "images", IMAGES_PATH),
            patterns=settings.patterns.patterns,
            max_attempts=1,
            shutdown_timeout_ms=0,
        )
        self.relay = Relay(openai_base_url(upstream))
        self._running = RunningApp(proxy_app(self.limner, self.store, self.relay, settings), lifespan="on")
        self.url = self._running.url
        self.clients: list[openai.OpenAI] = []

    def messages(self) -> dict[str, Any]:
        """What the proxy's Limner keeps of conversations."""
        return self.store._messages

    def holders_of(self, words: str) -> list[str]:
        """Where the proxy's Limner has these words; what the test's own parts remember does not count."""
        return holders_of(words, self.limner, [self.painter, self.journal.appended])

    def close(self) -> None:
        self.painter.released.set()
        for client in self.clients:
            client.close()
        self._running.close()


@contextmanager
def proxy_before(
    upstream: str,
    folder: Path,
    *,
    painter: Painter | None = None,
    defaults: Wishes = Wishes(),  # noqa: B008 - it is frozen
    **settings: Any,
) -> Iterator[House]:
    """A running proxy before `upstream`."""
    house = House(upstream, folder, painter or Painter(), ProxySettings(defaults=defaults, **settings))
    try:
        yield house
    finally:
        house.close()


def client_of(house: House, **settings: Any) -> openai.OpenAI:
    """The official client, with the proxy for its server. It is closed with the house."""
    client = openai.OpenAI(base_url=f"{house.url}/v1", api_key=KEY, max_retries=0, **settings)
    house.clients.append(client)
    return client


def raw_post(
    url: str, body: object, headers: Mapping[str, str] | None = None
) -> tuple[int, Mapping[str, str], bytes]:
    """POST JSON, and get the status, the headers (in lower case) and the bytes of the answer."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = httpx.post(url, content=sent, headers={"content-type": "application/json", **(headers or {})})
    return answer.status_code, answer.headers, answer.content


def holders_of(words: str, root: object, but: Sequence[object] = ()) -> list[str]:
    """Where there is a text or bytes with these words, among all that can be reached from an object.

    `but` is what is not looked into.
    """
    found: list[str] = []
    seen = {id(root), *map(id, but)}
    queue: list[tuple[object, str]] = [(root, type(root).__name__)]
    for thing, where in queue:
        for part in gc.get_referents(thing):
            here = f"{where[-300:]} > {type(part).__name__}"
            if isinstance(part, (str, bytes)):
                if words in part if isinstance(part, str) else words.encode() in part:
                    found.append(here)
            elif id(part) not in seen and not isinstance(part, _LEADS_EVERYWHERE):
                seen.add(id(part))
                queue.append((part, here))
    return found


def happens(event: threading.Event) -> None:
    """Wait for something that another thread does."""
    assert event.wait(PATIENCE_S), "what the test waits for did not happen"
