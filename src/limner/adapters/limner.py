"""Limner put together: the class that a chat server embeds.

It chooses the parts (who paints, where messages and images are kept) and offers the seven things a host does
with them. What it does with them is in `limner.workflows`, what may happen at all in `limner.states`.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Sequence,
)
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, TypeVar

from limner.adapters.arguments import async_pieces, check_port, check_text, lacks_of, profile_from, steps_from
from limner.adapters.callable import CallableGenerator
from limner.adapters.factory import generator_from
from limner.adapters.image_folder import FolderImageStore
from limner.adapters.inspection import PillowInspector
from limner.adapters.journal_sqlite import Durability, SQLiteJournal, WhenInUse
from limner.adapters.lifecycle import Lifecycle
from limner.adapters.local_engine import LocalEngine
from limner.adapters.message_sqlite import SQLiteMessageStore
from limner.adapters.message_tokens import MessageTokens
from limner.adapters.observing import Observing
from limner.adapters.token_text import TextOf
from limner.adapters.token_text import text_of as reader_of
from limner.errors import InvalidSetting
from limner.states import InsertionMode, OnDrainTimeout, SessionSettings
from limner.states.limiter import Limits
from limner.states.outcome import Result
from limner.states.values import check_whole_number
from limner.text import DEFAULT_PATTERNS, Profile, TagPattern, compile_patterns
from limner.workflows.clock import Alarm, Clock, WallClock
from limner.workflows.monitor import POLL_INTERVAL_MS, StreamingMonitor
from limner.workflows.overrides import Override
from limner.workflows.ports import Generator, ImageInspector, ImageStore, Journal, MessageStore
from limner.workflows.recovery import RecoveryReport
from limner.workflows.session_manager import SessionManager
from limner.workflows.steps import ImageStep, PromptStep, TagsPosition

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from limner.adapters.web.access import Authorise

Painter = Callable[[str], Awaitable[bytes]]
Chunk = TypeVar("Chunk")


class Limner(Observing):
    """Illustrates messages. Use it as `async with Limner(...) as limner:`, on asyncio or trio.

    Who and where:

    * `generator`: who paints. `"sketch"` (offline), the address of a server that speaks the AUTOMATIC1111
      API, `"openai=URL"`, `"horde"` and what else `limner.adapters.factory.generator_from` understands,
      any `async def paint(prompt) -> bytes`, or any `limner.workflows.ports.Generator`. Without one,
      what `LIMNER_GENERATOR` in the environment names, or else `"sketch"`.
    * `store`: where the messages are; without one, a SQLite file in `data_dir`.
    * `images`: where finished images go; without one, a folder in `data_dir`, with `file:` addresses.
    * `journal`: where events are kept: a file's path, or any `limner.workflows.ports.Journal`; without one,
      a SQLite file in `data_dir`. `durability` and `journal_in_use` are those of
      `limner.adapters.journal_sqlite.SQLiteJournal`, for a path.

    What and how:

    * `patterns`: what marks a prompt (see `limner.text.compile_patterns`); `in_code_fences`: also there.
    * `profile`: how an image is written, `"html"` or `"markdown"`.
    * `max_concurrent`, `max_per_message`, `min_interval_ms`: the one global limit, see `set_limits`.
    * `common_tags`: words that go before (or with `tags_position="suffix"` behind) every prompt.
    * `prompt_overrides`: which settings a prompt may ask for itself, of `"negative"`, `"seed"`, `"width"`,
      `"height"` and `"steps"`; none unless you say so. See `limner.workflows.overrides`.
    * `before_generation`, `after_generation`: steps of the host's own, one or several; see
      `limner.workflows.steps`.
    * `debounce_ms`, `drain_timeout_ms`, `image_timeout_ms`, `max_attempts`, `backoff_ms`,
      `on_drain_timeout`, `max_restarts`: see `limner.states.SessionSettings`. Times are milliseconds.
    * `shutdown_timeout_ms`: how long leaving the block waits for sessions that have begun to finish.
    * `web_secret`: what `message_token` is made with; without one, a file in `data_dir` that is made then.

    Raises `InvalidSetting` or `InvalidPattern` at once for what cannot be meant.
    """

    def __init__(
        self,
        generator: Generator | Painter | str | None = None,
        *,
        store: MessageStore | None = None,
        images: ImageStore | None = None,
        journal: Journal | str | Path | None = None,
        durability: Durability = "power-loss",
        journal_in_use: WhenInUse = "refuse",
        data_dir: str | Path = "limner-data",
        patterns: Iterable[str | TagPattern] = DEFAULT_PATTERNS,
        in_code_fences: bool = True,
        profile: Profile | Literal["html", "markdown"] = "html",
        inspector: ImageInspector | None = None,
        common_tags: str = "",
        tags_position: TagsPosition = "prefix",
        prompt_overrides: Collection[Override] = (),
        before_generation: PromptStep | Sequence[PromptStep] = (),
        after_generation: ImageStep | Sequence[ImageStep] = (),
        max_concurrent: int = 4,
        max_per_message: int = 3,
        min_interval_ms: int = 0,
        debounce_ms: int = 2_000,
        drain_timeout_ms: int = 300_000,
        image_timeout_ms: int = 120_000,
        max_attempts: int = 3,
        backoff_ms: int = 1_000,
        on_drain_timeout: OnDrainTimeout | Literal["fail", "insert"] = "fail",
        max_restarts: int = 3,
        shutdown_timeout_ms: int = 30_000,
        web_secret: bytes | None = None,
        clock: Clock | None = None,
    ) -> None:
        if on_drain_timeout not in tuple(OnDrainTimeout):
            raise InvalidSetting(f"on_drain_timeout must be 'fail' or 'insert', not {on_drain_timeout!r}")
        settings = SessionSettings(
            debounce_ms=debounce_ms,
            drain_timeout_ms=drain_timeout_ms,
            image_timeout_ms=image_timeout_ms,
            max_attempts=max_attempts,
            backoff_ms=backoff_ms,
            on_drain_timeout=OnDrainTimeout(on_drain_timeout),
            max_restarts=max_restarts,
        ).check()
        limits = Limits(max_concurrent, max_per_message, min_interval_ms).check()
        folder = Path(data_dir)
        self._own: list[Generator | SQLiteMessageStore] = []
        self.generator = self._generator(generator)
        check_port("store", store, "read", "write")
        check_port("images", images, "put")
        if journal is None or isinstance(journal, (str, Path)):
            path = folder / "journal.sqlite3" if journal is None else journal
            journal = SQLiteJournal(path, durability=durability, in_use=journal_in_use)
        check_port("journal", journal, "open", "append", "past_sessions", "aclose")
        if not isinstance(getattr(journal, "durable", None), bool):
            raise InvalidSetting(
                f"journal={journal!r:.60} cannot be used: its `durable` is not True or False"
            )
        check_port("inspector", inspector, "inspect", "thumbnail")
        if store is None:
            store = SQLiteMessageStore(folder / "messages.sqlite3")
            self._own.append(store)
        self.store = store
        self.images = images or FolderImageStore(folder / "images")
        self.inspector = inspector or PillowInspector()
        self.alarm = Alarm(clock or WallClock())
        self.manager = SessionManager(
            engine=LocalEngine(journal, self.alarm, settings),
            generator=self.generator,
            inspector=self.inspector,
            images=self.images,
            store=store,
            alarm=self.alarm,
            patterns=compile_patterns(patterns, in_code_fences=in_code_fences),
            profile=profile_from(profile),
            limits=limits,
            steps=steps_from(
                common_tags, tags_position, before_generation, after_generation, prompt_overrides
            ),
        )
        check_whole_number("shutdown_timeout_ms", shutdown_timeout_ms, 0)
        self._lifecycle = Lifecycle(self.manager, self._own, shutdown_timeout_ms)
        self._tokens = MessageTokens(folder / "web-secret", web_secret)
        self._epoch = secrets.token_hex(4)
        self.recovered = RecoveryReport()
        """What the last start found in the journal."""

    def _generator(self, given: Generator | Painter | str | None) -> Generator:
        given = os.environ.get("LIMNER_GENERATOR") or "sketch" if given is None else given
        if isinstance(given, str):
            made = generator_from(given)
            self._own.append(made)
            return made
        if isinstance(given, type):
            raise InvalidSetting(
                f"generator={given!r:.60} cannot be used: it is a class; pass an object of it"
            )
        lacks = lacks_of(given)
        if isinstance(given, Generator) and not lacks:
            return given
        if callable(given):
            return CallableGenerator(given)
        if hasattr(given, "generate"):
            raise InvalidSetting(f"generator={given!r:.60} cannot be used: it lacks {'; '.join(lacks)}")
        raise InvalidSetting(f"generator must be a name, a coroutine function or a Generator, not {given!r}")

    async def __aenter__(self) -> Self:
        """Start, after taking over what an earlier process left in the journal; see `recovered`.

        Raises `JournalInUse`, `JournalDamaged`, `JournalTooNew`, `JournalUnreadable`, `StorageError`.
        """
        self.recovered = await self._lifecycle.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._lifecycle.stop(kind, error, traceback)

    # --- a message's text

    async def illustrate(
        self,
        message_id: str,
        tokens: AsyncIterable[Chunk] | Iterable[Chunk],
        *,
        seal: bool = True,
        text_of: TextOf | None = None,
    ) -> AsyncGenerator[Chunk, None]:
        """Pass a message's text through, piece by piece, and illustrate it on the way.

        Each piece is handed on at once, as it is. Pieces may be texts or the chunks of OpenAI's, Anthropic's,
        LangChain's and pydantic-ai's clients; `text_of` says which, where their class does not show it (see
        `limner.adapters.token_text`), or is a function that gives a chunk's text.

        When the last one has come, the text is sealed: it is saved where the store lacks it (see
        `limner.states.sealing.settle_text`) and scanned once more. If `tokens` raises, or you stop early, the
        text so far is sealed all the same, since that is what the reader has. (Who breaks out of the loop
        does well to hold this in `contextlib.aclosing`; otherwise it is sealed when it is thrown away, or
        after ten minutes without a piece.) With `seal=False` all that waits for your call of `seal`. `tokens`
        may also be a `str`, a message that arrives whole.

        A live session of the same message is cancelled first. Raises `InvalidSetting` for what is no text.
        Raises `StorageError` at the end, when the text has passed: the store could not be asked, or the
        journal could not take the session; then the text is saved, and a later `seal` illustrates it.
        """
        self._check_call(message_id)
        pieces = async_pieces(tokens)
        text_in = reader_of(text_of)
        whole = tokens if isinstance(tokens, str) else None
        stream = await self.manager.begin_streaming_session(message_id)
        complete = False
        try:
            if isinstance(tokens, str):
                if not seal:
                    stream.observe(tokens)
                yield tokens  # type: ignore[misc]  # a text is an iterable of texts
            else:
                async for token in pieces:
                    stream.feed(text_in(token))
                    yield token
            complete = True
        finally:
            if seal and not complete:
                # Nothing may wait here: this also runs when the generator is thrown away.
                stream.seal_soon(whole)
        if seal:
            await stream.seal(whole)

    async def observe(self, message_id: str, text: str) -> None:
        """Take in a snapshot: all the text that the message has so far. End it with `seal`.

        For hosts that cannot hand over the pieces. The first snapshot begins the session. The text may be
        rewritten between two snapshots. After a `cancel` snapshots are taken in, and ignored, until the
        `seal`. Raises `MessageBusy` while the message's images are still under way after a seal.
        """
        self._check_call(message_id)
        if not isinstance(text, str):
            raise InvalidSetting(f"text must be a str, not {type(text).__name__}")
        stream = await self.manager.open_stream(message_id)
        stream.observe(text)

    @asynccontextmanager
    async def monitor(
        self,
        message_id: str,
        read_text: Callable[[], str | Awaitable[str]],
        *,
        poll_interval_ms: int = POLL_INTERVAL_MS,
    ) -> AsyncIterator[StreamingMonitor]:
        """Poll `read_text` for the text so far while the block runs; at its end look once more and seal."""
        self._check_call(message_id)
        check_whole_number("poll_interval_ms", poll_interval_ms, 1)
        stream = await self.manager.start_streaming_session(message_id)
        monitor = StreamingMonitor(stream, read_text, self.alarm, poll_interval_ms)
        self.manager.start_monitor(monitor)
        try:
            yield monitor
        except BaseException:
            stream.seal_soon()
            raise
        finally:
            monitor.stop()
        try:
            await monitor.check_for_new_prompts()
        finally:
            stream.seal_soon()
        await stream.seal()

    async def seal(self, message_id: str, text: str | None = None) -> None:
        """Say that a message's text is final, and illustrate what is in it.

        `text` is the final text, where the host knows better than what was streamed. For a message
        without an open stream this is the whole job: `text`, or what the store has, is illustrated;
        prompts that an image follows already are left as they are.

        Raises `UnknownMessage` where there is neither a stream nor a text; `MessageBusy` while the
        message's images are under way already; `StorageError`.
        """
        self._check_call(message_id)
        await self.manager.seal_stream(message_id, text)

    # --- its images

    async def regenerate(
        self,
        message_id: str,
        image_url: str,
        *,
        mode: InsertionMode
        | Literal["replace-image", "append-after-image", "append-after-prompt"] = "replace-image",
    ) -> None:
        """Ask for a new image from the prompt of one that stands in the message; returns at once.

        Clicks within `debounce_ms` of each other are one batch and one write; await `finished` for it. A
        click on an image that was replaced meanwhile is meant for its successor.

        Raises `RegenerationDuringStreaming`, `UnknownMessage`, `UnknownImage`, `StorageError`.
        """
        try:
            wanted = InsertionMode(mode)
        except ValueError:
            modes = ", ".join(repr(known.value) for known in InsertionMode)
            raise InvalidSetting(f"mode must be one of {modes}, not {mode!r}") from None
        self._check_call(message_id)
        check_text("image_url", image_url)
        await self.manager.queue_regeneration(message_id, image_url, wanted)

    async def retry(self, message_id: str, prompt_id: str) -> None:
        """Ask once more for an image that failed; returns at once.

        `prompt_id` is the one in the result or the progress event. It goes into the same batch as what is
        clicked by `regenerate`, behind its prompt; where a regeneration failed, that is made again.

        Raises `RegenerationDuringStreaming`, `UnknownMessage`, `UnknownPrompt`, `NothingToRetry`,
        `StorageError`.
        """
        self._check_call(message_id)
        check_text("prompt_id", prompt_id)
        await self.manager.queue_retry(message_id, prompt_id)

    async def cancel(self, message_id: str) -> Result:
        """Cancel the message's session: no image of it will be inserted, finished ones stay listed.

        Raises `CancelTooLate` once the write has begun or all is over, `UnknownMessage`.
        """
        self._check_call(message_id)
        return await self.manager.cancel_session(message_id)

    async def forget(self, message_id: str) -> None:
        """Drop what this process keeps of a message: its progress, thumbnails, prompts and events.

        For messages that were deleted, and for conversations that must leave nothing behind. A session that
        is live is not ended by it: this waits until nothing of the message is under way, and who does not
        wait that long does not undo it. What the store, the image store and a durable journal have stays
        theirs, and a message that they know is known again when it is asked for. Raises `NotRunning`, also
        where Limner is closed before that.
        """
        self._check_call(message_id)
        await self.manager.forget(message_id)

    def message_token(self, message_id: str) -> str:
        """The token by which a page may change the message's images.

        The same for ever, as long as the secret is (see `limner.adapters.message_tokens`). Raises
        `StorageError` where the secret cannot be kept.
        """
        check_text("message_id", message_id)
        return self._tokens.token(message_id)

    def is_message_token(self, message_id: str, token: str) -> bool:
        """Whether `token` is the message's."""
        return self._tokens.is_token(message_id, token)

    # --- the whole

    def asgi(self, *, authorise: Authorise | None = None, allowed_origins: Iterable[str] = ()) -> Starlette:
        """The web app to mount: images, progress as server-sent events, clicks, and `<limner-message>`.

        `authorise(request, action, message_id)` says who may do what; without it reading is open and a change
        takes the `message_token`. Pages of `allowed_origins` may use the app from another site. Needs the
        extra `limner[server]`; see docs/web.md.

        Raises `InvalidSetting`, also where `images` has no `base_url` by which a page could load them.
        """
        from limner.adapters.web.app import asgi_app

        return asgi_app(self, authorise=authorise, allowed_origins=allowed_origins)

    def set_limits(
        self,
        *,
        max_concurrent: int | None = None,
        max_per_message: int | None = None,
        min_interval_ms: int | None = None,
    ) -> Limits:
        """Change the global limit while running, and return what is in force.

        `max_concurrent` images at once, `max_per_message` of one message, starts `min_interval_ms` apart.
        Calls that run go on; a lower limit is reached as they finish. Raises `InvalidSetting`.
        """
        given = {
            "max_concurrent": max_concurrent,
            "max_per_message": max_per_message,
            "min_interval_ms": min_interval_ms,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        self.manager.processor.change_limits(self.manager.processor.limits._replace(**changes))
        return self.manager.processor.limits
