"""The streaming workflow: from the first piece of text to the seal.

A `MessageStream` takes the text as the host has it: piece by piece (`feed`), or as snapshots of all there
is so far (`observe`). It never waits while text passes: what it finds goes into an outbox, which one task
empties in order. `seal` says that the text is final; it is scanned once more, and that scan counts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import anyio
import anyio.abc

from limner.errors import (
    EventRefused,
    MessageBusy,
    MessageGone,
    NotRunning,
    StorageError,
    VersionConflict,
)
from limner.states import PromptFound, StreamEnded, StreamStarted
from limner.states.sealing import SavedVersion, is_touched, settle_text
from limner.text import (
    PromptMatch,
    PromptPatterns,
    PromptScanner,
)
from limner.text.images import images_between
from limner.workflows.clock import Alarm
from limner.workflows.host import STORE_TIME_LIMIT_MS, call_host
from limner.workflows.insertion import MAX_CONFLICTS
from limner.workflows.logs import brief, log
from limner.workflows.ports import Engine, MessageStore
from limner.workflows.progress import ProgressManager
from limner.workflows.prompts import PromptRegistry
from limner.workflows.scanning import scan, without_images

MAX_PROMPTS = 1_000
"""How many prompts of one message are illustrated; a model that repeats itself writes thousands."""

IDLE_LIMIT_MS = 600_000
"""How long a stream may bring nothing before it counts as abandoned: longer than models think."""

SAVE_PAUSES_MS = (100, 500, 1_000, 2_000, 5_000)
"""The pauses, in ms, before a text that could not be saved is tried again; the last one again and again."""

SAVE_PATIENCE_MS = 300_000
"""For how long, in ms, that is tried. Its images cannot be written before, and wait."""

JOURNAL_PATIENCE_MS = 10_000
"""How long `MessageStream.seal` waits for a journal that cannot be written, before it lets its caller go."""


class _Seal(NamedTuple):
    """The text is final; `final_text` is what the host says it is, where it says so."""

    final_text: str | None


class MessageStream:
    """One message while its text arrives.

    `closed` once it takes no more text. `refused` where its session could not be opened. `muted` from then
    on, and once the session was cancelled: the text still comes, and is still saved at its end, but is not
    looked at for prompts any more. `rewrites` counts how often a
    snapshot was not only longer than the text before.
    """

    def __init__(
        self,
        message_id: str,
        *,
        engine: Engine,
        store: MessageStore,
        registry: PromptRegistry,
        progress: ProgressManager,
        patterns: PromptPatterns,
        alarm: Alarm,
        on_open: Callable[[MessageStream], None],
        on_refused: Callable[[MessageStream], None],
        on_end: Callable[[MessageStream], None],
        own_versions: dict[str, SavedVersion],
        max_prompts: int = MAX_PROMPTS,
    ) -> None:
        self.message_id = message_id
        self.session_id = ""
        self.closed = False
        self.muted = False
        self.refused = False
        self._superseded = False
        self._on_open = on_open
        self._on_refused = on_refused
        self._on_end = on_end
        self._own_versions = own_versions
        self._engine = engine
        self._store = store
        self._registry = registry
        self._progress = progress
        self._patterns = patterns
        self._scanner = PromptScanner(patterns)
        self._chunks: list[str] = []
        self.rewrites = 0
        self._alarm = alarm
        self._max_prompts = max_prompts
        self._told: set[str] = set()
        self._illustrated: set[str] = set()
        self._pieces = 0
        self._version_at_start: str | None = None
        self._existed = False
        self._looked = anyio.Event()
        self._idle = anyio.CancelScope()
        self._outbox, self._inbox = anyio.create_memory_object_stream[PromptMatch | _Seal](math.inf)
        self._asked = anyio.Event()
        self._opened = anyio.Event()
        self._began = anyio.Event()
        self._seal: _Seal | None = None
        self._ending = anyio.Event()
        self._tried = anyio.Event()
        self._settled = anyio.Event()
        self._settled_text = ""
        self._sealed = anyio.Event()
        self._error: StorageError | NotRunning | None = None
        self._save_error: StorageError | None = None

    async def begin(self, tasks: anyio.abc.TaskGroup) -> None:
        """Ask for the session, cancelling the one before it, and take the text in meanwhile.

        What is posted to the engine from here on stands in line behind that. Where the session before is just
        writing, this one opens after it. Where it cannot be opened, the text is still saved at its end,
        and `seal` raises why. A caller that is cancelled here leaves no session open.
        """
        tasks.start_soon(self._run, name=f"limner stream {self.message_id}")
        tasks.start_soon(self._save, name=f"limner text {self.message_id}")
        tasks.start_soon(self._note_version, name=f"limner store {self.message_id}")
        tasks.start_soon(self._end_when_idle, name=f"limner idle {self.message_id}")
        try:
            await self._asked.wait()
        except BaseException:
            # Nobody will feed this stream, and a session that has begun must come to an end.
            self.seal_soon()
            raise

    async def wait_opened(self) -> None:
        """Wait until the session is open, or waits for a write. Raises `StorageError`, `NotRunning`."""
        await self._opened.wait()
        if self._error is not None:
            raise self._error

    @property
    def text(self) -> str:
        """The text so far."""
        if len(self._chunks) > 1:
            self._chunks = ["".join(self._chunks)]
        return self._chunks[0] if self._chunks else ""

    @property
    def is_unsaved(self) -> bool:
        """Whether the text has ended and the store does not have it yet."""
        return self._ending.is_set() and not self._settled.is_set() and self._seal is not None

    def feed(self, chunk: str) -> None:
        """Take in the next piece of the text. Costs what the piece costs, and waits for nothing."""
        if not isinstance(chunk, str):
            raise TypeError(f"a piece of text must be a str, not {type(chunk).__name__}")
        if self.closed:
            return
        self._pieces += 1
        if not chunk:
            return  # a sign of life: a model that thinks, or calls a tool
        self._chunks.append(chunk)
        self._progress.text_changed(self.message_id)
        if self.muted:
            return
        for match in self._scanner.feed(chunk):
            self._outbox.send_nowait(match)

    def observe(self, text: str) -> None:
        """Take in a snapshot of all the text there is so far; it may also differ from the last one."""
        if self.closed:
            return
        self._pieces += 1
        known = self.text
        if not known:
            self._leave_illustrated(text)
        if text.startswith(known):
            if len(text) > len(known):
                self.feed(text[len(known) :])
            return
        # The host rewrote what was there. Prompts that are found again are the same prompts.
        self._chunks = []
        self.rewrites += 1
        self._scanner = PromptScanner(self._patterns)
        self.feed(text)

    def seal_soon(self, final_text: str | None = None) -> None:
        """Say that the text is final, without waiting for what follows from it."""
        if not self.closed:
            self.closed = True
            self._seal = _Seal(final_text)
            self._ending.set()
            self._outbox.send_nowait(self._seal)

    async def seal(self, final_text: str | None = None) -> None:
        """Say that the text is final, and wait until the session is sealed.

        `final_text` is the text as the host will keep it, where that differs from what was streamed.
        Raises `StorageError` where the text could not be saved, and goes on trying. Also where the journal
        cannot be written for ten seconds; the seal then stands in line. Raises `NotRunning` where Limner was
        closed before that.
        """
        self.seal_soon(final_text)
        if self._began.is_set():
            # Bounded by itself: each call of the store is.
            await self._tried.wait()
            if self._save_error is not None:
                raise self._save_error
        with anyio.move_on_after(JOURNAL_PATIENCE_MS / 1000):
            await self._sealed.wait()
        if self._save_error is not None:
            raise self._save_error
        if not self._sealed.is_set():
            text = "has its text; its images wait" if self._settled.is_set() else "waits"
            raise StorageError(f"message {self.message_id!r} {text} for the journal to be writable")
        if self._error is not None:
            raise self._error

    def mute(self) -> None:
        """Look for no more prompts: the session was cancelled. The text goes on."""
        self.muted = True

    def close(self) -> None:
        """Take no more text: the message has another stream now."""
        self.closed = True
        self._superseded = True
        self._outbox.close()

    async def _run(self) -> None:
        try:
            with self._inbox, self._outbox:
                if not await self._open():
                    return
                async for found in self._inbox:
                    if isinstance(found, _Seal):
                        await self._settled.wait()
                        await self._end()
                        return
                    if not self.muted:
                        await self._tell(found)
        except StorageError as error:
            self._error = error
            log.critical("journal_failed", message_id=self.message_id, error=str(error), hint=error.hint)
        except (NotRunning, anyio.get_cancelled_exc_class()) as end:
            self._error = NotRunning("Limner was closed before the text was sealed")
            if not isinstance(end, NotRunning):
                raise
        finally:
            self.closed = True
            self._asked.set()
            self._opened.set()
            self._began.set()
            self._ending.set()
            self._tried.set()
            self._settled.set()
            self._sealed.set()
            self._idle.cancel()
            self._on_end(self)

    async def _tell(self, match: PromptMatch) -> None:
        node = self._registry.register(self.message_id, match)
        if node.id in self._illustrated or node.id in self._told:
            return
        if len(self._told) == self._max_prompts:
            log.warning("too_many_prompts", message_id=self.message_id, at_most=self._max_prompts)
        self._told.add(node.id)
        if len(self._told) > self._max_prompts:
            return
        try:
            await self._engine.post(self.message_id, PromptFound(node.found), session_id=self.session_id)
        except EventRefused:
            self.mute()  # cancelled while this was on its way

    async def _open(self) -> bool:
        while not self._superseded:
            self._asked.set()
            try:
                session = await self._engine.post(self.message_id, StreamStarted())
            except MessageBusy:
                log.info("stream_waits_for_write", message_id=self.message_id)
                self._note_opened()
                await self._progress.wait_ended(self.message_id)
                # What that write has made of the message is not the host's doing.
                await self._looked.wait()
                await self._note_version()
            except StorageError as error:
                # The reader may have text already, so it is taken in to its end, and saved.
                self._error = error
                self.refused = True
                self.mute()
                self._on_refused(self)
                log.critical("journal_failed", message_id=self.message_id, error=str(error), hint=error.hint)
                self._opened.set()
                self._began.set()
                return True
            else:
                self.session_id = session.id
                self._note_opened()
                self._began.set()
                log.info("streaming_started", message_id=self.message_id, session_id=session.id)
                return True
        return False

    def _note_opened(self) -> None:
        if not self._opened.is_set():
            self._on_open(self)
            self._opened.set()

    async def _note_version(self) -> None:
        try:
            stored = await call_host(self._store.read(self.message_id), STORE_TIME_LIMIT_MS)
        except Exception as error:  # noqa: BLE001 - the store is asked again at the seal, where it counts
            log.warning("store_failed", message_id=self.message_id, error=brief(error))
        else:
            self._version_at_start = None if stored is None else stored.version
            self._existed = stored is not None
        finally:
            self._looked.set()

    async def _end_when_idle(self) -> None:
        """A host that lets go of a stream without a word must not leave a session behind for ever."""
        with self._idle:
            while not self.closed:
                before = self._pieces
                await self._alarm.sleep(IDLE_LIMIT_MS)
                if self._pieces == before and not self.closed:
                    log.warning("stream_idle", message_id=self.message_id, limit_ms=IDLE_LIMIT_MS)
                    self.seal_soon()

    def _leave_illustrated(self, text: str) -> None:
        """Leave alone what has its image already, in a text that the host had before this stream."""
        matches = scan(text, self._patterns)
        images = images_between(text, matches)
        self._registry.note_standing(self.message_id, (image.src for image in images))
        waiting = {match.start for match in without_images(text, matches, images)}
        self._illustrated = {
            self._registry.register(self.message_id, match).id
            for match in matches
            if match.start not in waiting
        }

    async def _save(self) -> None:
        # A task of its own, since the text must be saved even while the journal takes no prompt. But not
        # before the session has begun: until then the message belongs to the write of the session before.
        await self._ending.wait()
        await self._began.wait()
        if self._seal is None or (not self.session_id and not isinstance(self._error, StorageError)):
            return  # another stream has the message now, or Limner was closed before there was a session
        final_text = self._seal.final_text
        try:
            self._settled_text = await self._saved_at_last(final_text)
        finally:
            self._tried.set()
            self._settled.set()

    async def _saved_at_last(self, final_text: str | None) -> str:
        """The text that counts, as soon as the store has it. One that it never takes counts as it is."""
        given_up = self._alarm.clock() + SAVE_PATIENCE_MS
        pauses = itertools.chain(SAVE_PAUSES_MS, itertools.repeat(SAVE_PAUSES_MS[-1]))
        while True:
            try:
                text = await self._settle_text(final_text)
            except Exception as error:  # noqa: BLE001 - a host's own store may raise anything
                told = f"message {self.message_id!r} could not be read or saved: {brief(error)}"
                self._save_error = error if isinstance(error, StorageError) else StorageError(told)
                log.warning("store_failed", message_id=self.message_id, error=brief(error))
                # Who writes there all the time, or deletes, does not do so by accident.
                is_lasting = isinstance(error, VersionConflict | MessageGone)
                if is_lasting or self._alarm.clock() >= given_up:
                    return self.text if final_text is None else final_text
                self._tried.set()
                await self._alarm.sleep(next(pauses))
            else:
                self._save_error = None
                if self.refused and text != (self.text if final_text is None else final_text):
                    told = f"message {self.message_id!r} was not illustrated, and has another text by now"
                    self._save_error = StorageError(told)
                return text

    async def _end(self) -> None:
        if self._scanner.error is not None:
            error = self._scanner.error
            log.warning("pattern_too_slow", pattern=error.pattern, limit_ms=error.limit_ms)
        text = self._settled_text
        if self.muted:
            return
        if not self._chunks:
            self._leave_illustrated(text)
        nodes = [self._registry.register(self.message_id, match) for match in scan(text, self._patterns)]
        wanted = [node.found for node in nodes if node.id not in self._illustrated]
        if len(wanted) > self._max_prompts:
            log.warning("too_many_prompts", message_id=self.message_id, at_most=self._max_prompts)
        found = tuple(wanted[: self._max_prompts])
        try:
            await self._engine.post(self.message_id, StreamEnded(found), session_id=self.session_id)
        except EventRefused:
            return  # cancelled while this was on its way
        log.info(
            "streaming_sealed", message_id=self.message_id, session_id=self.session_id, prompts=len(found)
        )

    async def _settle_text(self, final_text: str | None) -> str:
        await self._looked.wait()
        conflicts = 0
        while True:
            stored = await call_host(self._store.read(self.message_id), STORE_TIME_LIMIT_MS)
            version = None if stored is None else stored.version
            saved = self._own_versions.get(self.message_id)
            settled = settle_text(
                self.text,
                final_text,
                None if stored is None else stored.text,
                touched=is_touched(version, self._version_at_start, saved, refused=self.refused),
                existed=self._existed,
            )
            self._existed = self._existed or stored is not None
            if settled.save and not self._superseded:
                write = self._store.write(self.message_id, settled.text, expected=version)
                try:
                    version = await call_host(write, STORE_TIME_LIMIT_MS)
                    self._own_versions[self.message_id] = SavedVersion(version, self.refused)
                except (VersionConflict, MessageGone):
                    conflicts += 1
                    if conflicts > MAX_CONFLICTS:
                        raise
                    continue  # the host was quicker: decide again with what it wrote
            return settled.text
