"""Telling a host that cannot be asked: one that only shows what it is sent, such as a chat program.

A `Sink` is such a host's message: it shows a line of status, and can be given a new text. A `Teller` follows
the message's sessions and tells it, calmly: chat programs keep every line, or count every change against a
limit. The text with the images is told exactly once for each session that placed some.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple, Protocol

import anyio

from limner.errors import LimnerError
from limner.states import SessionKind
from limner.states.outcome import Counts, Result
from limner.states.values import check_whole_number
from limner.text import describe, find_images
from limner.workflows.clock import Alarm
from limner.workflows.logs import brief, log
from limner.workflows.progress_events import SessionEnded, SessionProgress
from limner.workflows.session_manager import SessionManager

_FAILURES_TOLD = 3
_PROMPT_TOLD = 60
_KEEP_MESSAGES = 10_000


class StatusLine(NamedTuple):
    """One line on the images of a message. `done`: the last one; `failed`: and something went wrong."""

    text: str
    done: bool = False
    failed: bool = False


class Picture(NamedTuple):
    """An image that stands in a message, and the prompt that it was made from."""

    url: str
    prompt: str


class Illustrated(NamedTuple):
    """A message with its images: the whole text, and the images in it that Limner made, in its order."""

    message_id: str
    text: str
    pictures: tuple[Picture, ...]


class Sink(Protocol):
    """A message of a host that is told. Calls come one after the other."""

    async def show_status(self, line: StatusLine) -> None:
        """Show the line instead of the one before. What this raises is logged, and does no harm else."""

    async def replace_text(self, message: Illustrated) -> None:
        """Show this text, or these pictures, instead of what is shown. What this raises, `tell` raises."""


class Teller:
    """Tells sinks about their messages. `interval_ms` is the least time between two lines of status.

    One for all messages of a host.
    """

    def __init__(self, manager: SessionManager, *, interval_ms: int = 1_000) -> None:
        check_whole_number("interval_ms", interval_ms, 0)
        self._manager = manager
        self._interval_ms = interval_ms
        self._called_again: dict[str, bool] = {}
        self._told: OrderedDict[str, str] = OrderedDict()  # message id to the last session that was told

    async def tell(self, message_id: str, sink: Sink) -> Result | None:
        """Follow the message's session to its end and tell `sink`; give its result.

        Call this when a message begins to be illustrated, and after every click on one of its images. While
        one call follows a message, another gives None at once, and the first goes on with the session that
        the other was for. Raises `UnknownMessage`, `StorageError`, and what `replace_text` raises.
        """
        if message_id in self._called_again:
            self._called_again[message_id] = True
            return None
        result: Result | None = None
        again = True
        try:
            while again:
                self._called_again[message_id] = False
                result = await self._tell_session(message_id, sink) or result
                again = self._called_again[message_id]
        finally:
            del self._called_again[message_id]
        return result

    async def _tell_session(self, message_id: str, sink: Sink) -> Result | None:
        outbox = _Outbox(message_id, sink, self._manager.alarm, self._interval_ms)
        result: Result | None = None
        failure: LimnerError | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(outbox.run)
            try:
                async for event in self._manager.progress.events(message_id, remember=self._manager.remember):
                    if self._told.get(message_id) == event.session_id:
                        continue
                    if isinstance(event, SessionProgress):
                        outbox.put(progress_line(event.kind, event.counts))
                    elif isinstance(event, SessionEnded):
                        result = event.result
            except LimnerError as error:
                failure = error  # raised below: out of the task group it would come in a group
            outbox.close()
        if failure is not None:
            raise failure
        if result is not None:
            await self._tell_end(result, sink, outbox)
        return result

    async def _tell_end(self, result: Result, sink: Sink, outbox: _Outbox) -> None:
        self._told[result.message_id] = result.session_id
        self._told.move_to_end(result.message_id)
        while len(self._told) > _KEEP_MESSAGES:
            self._told.popitem(last=False)
        if result.placed:
            text = await self._manager.read_text(result.message_id)
            await sink.replace_text(Illustrated(result.message_id, text, self._pictures(result, text)))
        line = last_line(result)
        if line is not None:
            await outbox.send(line)

    def _pictures(self, result: Result, text: str) -> tuple[Picture, ...]:
        registry = self._manager.registry
        nodes = [
            (image.src, registry.get_prompt_for_image(result.message_id, image.src))
            for image in find_images(text, self._manager.patterns)
        ]
        # A host reads the files of these addresses, and what else a text names may be any file.
        return tuple(
            Picture(url, node.text)
            for url, node in nodes
            if node is not None and registry.is_made(result.message_id, url)
        )


class _Outbox:
    """Sends the newest line at once, and the next one no sooner than an interval later."""

    def __init__(self, message_id: str, sink: Sink, alarm: Alarm, interval_ms: int) -> None:
        self._message_id = message_id
        self._sink = sink
        self._alarm = alarm
        self._interval_ms = interval_ms
        self._next: StatusLine | None = None
        self._shown: StatusLine | None = None
        self._changed = anyio.Event()
        self._pause = anyio.CancelScope()
        self._closed = False

    def put(self, line: StatusLine | None) -> None:
        """The line to show from now on; None changes nothing."""
        if line is not None:
            self._next = line
            self._changed.set()

    def close(self) -> None:
        """Send nothing more from `run`, and let it end."""
        self._closed = True
        self._changed.set()
        self._pause.cancel()

    async def run(self) -> None:
        """Send what is put, until closed."""
        while True:
            await self._changed.wait()
            self._changed = anyio.Event()
            if self._closed:
                return
            if self._next is None or self._next == self._shown:
                continue
            await self.send(self._next)
            with self._pause:
                await self._alarm.sleep(self._interval_ms)
            self._pause = anyio.CancelScope()
            if self._closed:
                return

    async def send(self, line: StatusLine) -> None:
        """Send a line now."""
        self._shown = line
        try:
            await self._sink.show_status(line)
        except Exception as error:  # noqa: BLE001 - the host's own; a line of status is a nicety
            log.warning("sink_failed", message_id=self._message_id, error=brief(error))


def progress_line(kind: SessionKind, counts: Counts) -> StatusLine | None:
    """A line such as `Generating 3/5 images…` or `Regenerating 2/2…`; None where there are no images."""
    if not counts.total:
        return None
    if kind is SessionKind.REGENERATION:
        return StatusLine(f"Regenerating {counts.settled}/{counts.total}…")
    return StatusLine(f"Generating {counts.settled}/{_images(counts.total)}…")


def last_line(result: Result) -> StatusLine | None:
    """The line that says how it ended, and what failed; None where there were no images."""
    placed = len(result.placed)
    total = placed + len(result.unplaced) + len(result.failed)
    if result.problem is not None:
        total = len(result.prompts)  # else a prompt that was cancelled is one that the text has no more
    if not total:
        return None
    if placed == total and result.problem is None:
        again = "" if result.kind is SessionKind.STREAMING else " again"
        return StatusLine(f"Painted {_images(total)}{again}", done=True)
    reasons = [
        f"“{_shortened(failed.prompt)}”: {failed.problem.message}"
        for failed in result.failed[:_FAILURES_TOLD]
    ]
    if len(result.failed) > _FAILURES_TOLD:
        reasons.append(f"and {len(result.failed) - _FAILURES_TOLD} more")
    if result.unplaced:
        reasons.append(f"{_images(len(result.unplaced))} not placed ({result.unplaced[0].reason})")
    if result.problem is not None:
        reasons.append(result.problem.message)
    shown = f"Painted {placed}/{_images(total)}"
    return StatusLine(f"{shown}. {'; '.join(reasons)}" if reasons else shown, done=True, failed=bool(reasons))


def _shortened(prompt: str) -> str:
    line = describe(prompt)
    return line if len(line) <= _PROMPT_TOLD else f"{line[: _PROMPT_TOLD - 1].rstrip()}…"


def _images(number: int) -> str:
    return f"{number} image" if number == 1 else f"{number} images"
