"""Open WebUI: a filter function that illustrates the replies of every model.

Open WebUI calls a filter three times. `inlet` sees the request before the model does, `stream` every event of
the reply, `outlet` the finished reply, and what `outlet` gives back is what the chat keeps. So images are
painted while the reply streams, and come into the text in `outlet`, where each takes the place of its prompt,
which Open WebUI would show. On the way in the prompts take the images' place again. Status lines go through
the event emitter; so does the text (as `replace`) to versions that keep no structured output.

What a filter may be called with is in Open WebUI's documentation of filter functions and of events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeGuard

from limner.adapters.image_folder import FolderImageStore
from limner.adapters.journal_memory import MemoryJournal
from limner.adapters.limner import Limner
from limner.adapters.message_memory import MemoryMessageStore
from limner.adapters.sinks.background import BackgroundLimner
from limner.adapters.sinks.open_webui_texts import texts_in, with_prompts, without_prompts
from limner.adapters.sinks.replies import Replies
from limner.adapters.sinks.thumbnail_store import ThumbnailStore
from limner.adapters.token_text import text_of
from limner.errors import InvalidSetting, LimnerError, NotRunning
from limner.workflows.logs import brief, log
from limner.workflows.ports import ImageStore
from limner.workflows.telling import Illustrated, StatusLine

Emitter = Callable[[dict[str, Any]], Awaitable[object]]
"""Open WebUI's `__event_emitter__`."""

# Between the items of a structured reply, which are illustrated as one text. Invisible, and of no language.
_BETWEEN = "\n\n\u2063\u2063\u2063\n\n"
_CACHE_URL = "/cache/limner"
_INTERVAL_MS = 1_000  # every line is kept in the chat

QUIET_MS = 10_000
"""How long no text may come before a line on images that are all settled is hidden.

Of a reply that was stopped Open WebUI says nothing, and the line would shimmer for ever. Models seldom pause
longer between two tokens; where one does, the line is back with its next image.
"""


@dataclass(frozen=True, slots=True)
class OpenWebUISettings:
    """What the valves say.

    * `generator`, `max_concurrent`, `max_per_message`, `min_interval_ms`: those of `Limner`.
    * `pictures`: where images go. `"files"`: into Open WebUI's own cache folder, whose files it shows to
      whoever is logged in. `"thumbnails"`: small, into the message itself. `"folder"`: into `folder`, which
      some server of yours hands out at `base_url`.
    * `wait_seconds`: how long a finished reply waits for its images.
    * `instruction`: what the model is told, in its system message; `""`: nothing.
    """

    generator: str = "sketch"
    pictures: Literal["files", "thumbnails", "folder"] = "files"
    folder: str = ""
    base_url: str = ""
    max_concurrent: int = 4
    max_per_message: int = 3
    min_interval_ms: int = 0
    wait_seconds: int = 300
    instruction: str = ""

    def limner(self) -> Limner:
        """A Limner of these settings, which keeps nothing on disk but the images. Raises `InvalidSetting`."""
        return Limner(
            self.generator,
            store=MemoryMessageStore(),
            images=self._images(),
            journal=MemoryJournal(),
            profile="markdown",  # Open WebUI shows HTML as it is written
            max_concurrent=self.max_concurrent,
            max_per_message=self.max_per_message,
            min_interval_ms=self.min_interval_ms,
            drain_timeout_ms=self.wait_seconds * 1_000,
            on_drain_timeout="insert",
        )

    def is_ours(self, url: str) -> bool:
        """Whether an image in a message is one of Limner's, from these settings or earlier ones."""
        places = [f"{_CACHE_URL}/", "data:image/", self.base_url]
        return any(place and url.startswith(place) for place in places)

    def _images(self) -> ImageStore:
        if self.pictures == "thumbnails":
            return ThumbnailStore()
        if self.pictures == "folder":
            if not self.folder or not self.base_url:
                raise InvalidSetting("pictures='folder' needs a folder and the base_url that it is served at")
            return FolderImageStore(self.folder, self.base_url)
        if self.pictures == "files":
            return FolderImageStore(_cache_folder() / "limner", _CACHE_URL)
        raise InvalidSetting(f"pictures must be 'files', 'thumbnails' or 'folder', not {self.pictures!r:.60}")


def _cache_folder() -> Path:
    try:
        from open_webui.config import CACHE_DIR
    except ImportError as error:
        raise InvalidSetting("pictures='files' works inside of Open WebUI only") from error
    return Path(CACHE_DIR)


class OpenWebUISink:
    """One reply: status lines go to the emitter, the illustrated text is kept in `text` for the outlet.

    `told` is set when there is nothing more to wait for, `line_stands` while a line is shown that is not the
    last one. `heard_at`: when the last piece of the reply came, in ms since 1970; 0: it did not stream.
    """

    def __init__(self, emit: Emitter | None) -> None:
        self.text: str | None = None
        self.told = asyncio.Event()
        self.line_stands = asyncio.Event()
        self.heard_at = 0
        self._line = StatusLine("")
        self._emit = emit
        self._emitting = asyncio.Lock()

    async def show_status(self, line: StatusLine) -> None:
        """Show the line above the reply; a last one that says nothing of failure hides it."""
        async with self._emitting:
            self._line = line
            if line.done:
                self.line_stands.clear()
            else:
                self.line_stands.set()
            await self._show(line, hidden=line.done and not line.failed)

    async def hide_status(self) -> None:
        """Hide the line that stands, until there is another one. What the emitter raises is logged."""
        async with self._emitting:
            if self.line_stands.is_set():
                self.line_stands.clear()
                try:
                    await self._show(self._line._replace(done=True), hidden=True)
                except Exception as error:  # noqa: BLE001 - the host's own; a line of status is a nicety
                    log.warning("sink_failed", error=brief(error))

    async def replace_text(self, message: Illustrated) -> None:
        """Keep the text."""
        self.text = message.text

    async def _show(self, line: StatusLine, *, hidden: bool) -> None:
        if self._emit is not None:
            data = {"description": line.text, "done": line.done, "hidden": hidden}
            await self._emit({"type": "status", "data": data})


class OpenWebUIFilter:
    """What the filter does. `settings` gives the valves as they are now.

    What goes wrong with the images is shown as a status, and the reply is as it would be without them.
    """

    def __init__(self, settings: Callable[[], OpenWebUISettings]) -> None:
        self._settings = settings

    async def inlet(
        self, body: dict[str, Any], metadata: Mapping[str, Any] | None, emit: Emitter | None
    ) -> dict[str, Any]:
        """The request with prompts for the images in earlier replies, and with the instruction."""
        messages = body.get("messages") or []
        is_ours = self._settings().is_ours
        for message in messages:
            if message.get("role") == "assistant":
                for text, put in texts_in(message):
                    put(with_prompts(text, is_ours))
        if _is_reply(metadata):
            try:
                settings = self._settings()
                await _worker(settings)
            except LimnerError as error:
                await OpenWebUISink(emit).show_status(_no_pictures(error))
            else:
                _instruct(messages, settings.instruction)
        return body

    async def stream(
        self, event: dict[str, Any], metadata: Mapping[str, Any] | None, emit: Emitter | None
    ) -> dict[str, Any]:
        """The event as it is; the text in it is looked at for prompts."""
        piece = _piece(event)
        if piece and _is_reply(metadata):
            try:
                worker = await _worker(self._settings())
                await worker.observe(metadata["message_id"], piece, emit)
            except LimnerError as error:
                log.debug("call_refused", call="stream", error=str(error))  # the outlet tells the user
        return event

    async def outlet(
        self, body: dict[str, Any], metadata: Mapping[str, Any] | None, emit: Emitter | None
    ) -> dict[str, Any]:
        """The chat with the images in its last reply, when they are there or `wait_seconds` have passed."""
        message = next(
            (m for m in reversed(body.get("messages") or []) if m.get("role") == "assistant"), None
        )
        # Where the page asks for this, as it did in earlier versions, the ids are in the body only.
        ids = {"chat_id": body.get("chat_id"), "message_id": body.get("id"), **(metadata or {})}
        if message is None or not _is_reply(ids):
            return body
        texts = texts_in(message)
        try:
            worker = await _worker(self._settings())
            text = await worker.illustrate(ids["message_id"], _BETWEEN.join(text for text, _ in texts), emit)
        except LimnerError as error:
            await OpenWebUISink(emit).show_status(_no_pictures(error))
            return body
        pieces = [] if text is None else text.split(_BETWEEN)
        if pieces and len(pieces) == len(texts):
            for (_, put), piece in zip(texts, pieces, strict=True):
                put(without_prompts(piece))
            if message.get("output"):
                message["content"] = "\n".join(text for text, _ in texts_in(message) if text.strip())
            elif emit is not None:
                await emit({"type": "replace", "data": {"content": message["content"]}})
        return body


# --- what runs in this process


class _Worker:
    """A Limner of some settings, and the replies that it has under way.

    Open WebUI says nothing of a reply that was stopped. Its stream counts as abandoned after a while, its
    session ends, and with that it is forgotten here, too.
    """

    def __init__(self, settings: OpenWebUISettings) -> None:
        self.background = BackgroundLimner(settings.limner)
        self._replies: tuple[Limner, Replies] | None = None
        self._texts: dict[str, str] = {}
        self._sinks: dict[str, OpenWebUISink] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def observe(self, message_id: str, piece: str, emit: Emitter | None) -> None:
        """Take in a piece of a reply."""
        limner, replies = await self._running()
        text = self._texts[message_id] = self._texts.get(message_id, "") + piece
        await limner.observe(message_id, text)
        sink = self._sinks.get(message_id) or self._follow(limner, replies, message_id, emit)
        sink.heard_at = limner.alarm.clock()

    async def illustrate(self, message_id: str, text: str, emit: Emitter | None) -> str | None:
        """The illustrated text of a finished reply; None where there are no images in it."""
        limner, replies = await self._running()
        await limner.seal(message_id, text)
        sink = self._sinks.get(message_id) or self._follow(limner, replies, message_id, emit)
        await sink.told.wait()
        return sink.text

    async def _running(self) -> tuple[Limner, Replies]:
        limner = await self.background.start()
        if self._replies is None or limner is not self._replies[0]:
            self._replies = limner, Replies(limner, interval_ms=_INTERVAL_MS)
        return self._replies

    def _follow(
        self, limner: Limner, replies: Replies, message_id: str, emit: Emitter | None
    ) -> OpenWebUISink:
        sink = self._sinks[message_id] = OpenWebUISink(emit)

        async def tell() -> None:
            hiding = asyncio.create_task(_hide_when_quiet(limner, message_id, sink))
            try:
                await replies.follow(message_id, sink)
            finally:
                hiding.cancel()
            self._texts.pop(message_id, None)
            self._sinks.pop(message_id, None)
            sink.told.set()
            if isinstance(limner.store, MemoryMessageStore):
                await limner.store.delete(message_id)

        task = asyncio.create_task(tell(), name=f"limner follows {message_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return sink


async def _hide_when_quiet(limner: Limner, message_id: str, sink: OpenWebUISink) -> None:
    """Hide the line of a reply whenever neither text nor images are to be expected, until cancelled."""
    with suppress(NotRunning):
        while True:
            await sink.line_stands.wait()
            rest = sink.heard_at + QUIET_MS - limner.alarm.clock()
            if rest > 0:
                await limner.alarm.sleep(rest)
            elif limner.counts(message_id).outstanding:
                await limner.manager.progress.wait_all_complete(message_id)
                await limner.alarm.sleep(_INTERVAL_MS)  # the line that says so, or the text, comes first
            else:
                await sink.hide_status()


_WORKERS: dict[OpenWebUISettings, _Worker] = {}
"""By their settings. Not the filter's own: Open WebUI makes a new filter whenever the function is saved."""

_STOPPING: set[asyncio.Task[None]] = set()


async def _worker(settings: OpenWebUISettings) -> _Worker:
    """The worker of these settings, running. One of others ends when its replies are complete."""
    worker = _WORKERS.get(settings)
    if worker is None:
        for other in list(_WORKERS):
            task = asyncio.create_task(_WORKERS.pop(other).background.stop(), name="limner stops")
            _STOPPING.add(task)
            task.add_done_callback(_STOPPING.discard)
        worker = _WORKERS[settings] = _Worker(settings)
    await worker.background.start()
    return worker


async def stop_workers() -> None:
    """End what runs in this process, when its replies are complete."""
    for settings in list(_WORKERS):
        await _WORKERS.pop(settings).background.stop()
    while _STOPPING:
        await asyncio.wait(_STOPPING)


# --- Open WebUI's data


def _is_reply(metadata: Mapping[str, Any] | None) -> TypeGuard[Mapping[str, Any]]:
    """Whether this is a reply in a chat, and not a title for one or a call of the API."""
    return bool(
        metadata and metadata.get("chat_id") and metadata.get("message_id") and not metadata.get("task")
    )


def _piece(event: Mapping[str, Any]) -> str:
    """The text in an event of the stream, among which are Open WebUI's own."""
    is_models = "choices" in event or str(event.get("type", "")).startswith("response.")
    return text_of("openai")(event) if is_models else ""


def _instruct(messages: list[dict[str, Any]], instruction: str) -> None:
    """Add the instruction to the system message, which is the first one."""
    if not instruction:
        return
    if not messages or messages[0].get("role") != "system":
        messages.insert(0, {"role": "system", "content": instruction})
        return
    *_, (text, put) = texts_in(messages[0]) or [("", partial(messages[0].__setitem__, "content"))]
    put(f"{text}\n\n{instruction}".strip())


def _no_pictures(error: LimnerError) -> StatusLine:
    return StatusLine(f"No images: {error}", done=True, failed=True)
