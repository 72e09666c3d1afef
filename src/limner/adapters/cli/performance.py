"""What the demo does: a story streams, its pictures are painted meanwhile, two of them are clicked.

Nothing here is staged but the story and the pace. The numbers are measured while it happens.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import anyio

from limner.adapters.cli.counting import CountingStore
from limner.adapters.cli.display import Display
from limner.adapters.cli.outputs import Outputs
from limner.adapters.image_folder import FolderImageStore
from limner.adapters.journal_memory import MemoryJournal
from limner.adapters.limner import Limner
from limner.adapters.message_memory import MemoryMessageStore
from limner.adapters.sketch import SketchGenerator
from limner.adapters.visible import VisibleText
from limner.text import DEFAULT_PATTERNS
from limner.workflows.progress_events import PromptProgress

STORY_ID = "story"
CLICKED = (1, 3)
"""Which pictures are clicked, counted from 0."""

_TOKEN = re.compile(r"\s*(?:\w{1,6}|[^\w\s])|\s+")


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the demo goes.

    About 30 tokens a second is what a chat model of middle size does; 20 steps of 220 ms make a picture take
    about as long as a fast image model takes. `debounce_ms` is Limner's own default.
    """

    token_ms: int = 30
    step_ms: int = 220
    steps: int = 20
    click_gap_ms: int = 900
    debounce_ms: int = 2_000
    max_concurrent: int = 2


@dataclass(frozen=True, slots=True)
class DemoNumbers:
    """What was measured. Times are seconds since the first token."""

    prompts: int
    placed: int
    replaced: int
    first_picture: float
    text_ended: float
    last_write: float
    image_writes: tuple[int, ...]
    """How many images each write brought."""
    text_saves: int

    def lines(self) -> list[str]:
        """The numbers as lines for a person."""
        ahead = self.text_ended - self.first_picture
        compared = f"{ahead:.1f} s before" if ahead >= 0 else f"{-ahead:.1f} s after"
        ended = f"{self.text_ended:.1f} s"
        writes = ", then ".join(f"one with {images} pictures" for images in self.image_writes)
        return [
            f"prompts found         {self.prompts}",
            f"first picture ready   at {self.first_picture:.1f} s, {compared} the text ended at {ended}",
            f"pictures placed       {self.placed}, of which {self.replaced} were clicked and replaced",
            f"writes of pictures    {len(self.image_writes)}: {writes}",
            f"writes of the text    {self.text_saves}, at its end, as any chat server saves its message",
            f"all done              at {self.last_write:.1f} s",
        ]

    def colophon(self) -> str:
        """The numbers as a sentence under the page."""
        return (
            f"Limner painted {self.prompts} pictures; the first was ready at {self.first_picture:.1f} s, "
            f"while the text ran until {self.text_ended:.1f} s. "
            f"{len(self.image_writes)} writes, {self.replaced} pictures painted anew after a click."
        )


def outputs_in(folder: Path) -> Outputs:
    """The demo's files."""
    return Outputs(
        text=folder / "story.md",
        images=folder / "story-images",
        page=folder / "story.html",
        profile="markdown",
        base_url="story-images/",
    )


def story() -> str:
    """The story, as a model would have sent it."""
    return (files("limner.adapters.cli") / "story.md").read_text(encoding="utf-8")


async def stream(text: str, token_ms: int) -> AsyncGenerator[str, None]:
    """The text in pieces of a token's size, one every `token_ms` milliseconds."""
    for token in _TOKEN.findall(text):
        await anyio.sleep(token_ms / 1000)
        yield token


async def perform(
    outputs: Outputs, display: Display, pace: Pace, now: Callable[[], float] = time.monotonic
) -> tuple[str, DemoNumbers]:
    """Perform it; returns the illustrated text and what was measured."""
    store = CountingStore(MemoryMessageStore())
    async with (
        Limner(
            SketchGenerator(steps=pace.steps, step_ms=pace.step_ms),
            store=store,
            journal=MemoryJournal(),
            images=FolderImageStore(outputs.images, outputs.base_url),
            profile="markdown",
            max_concurrent=pace.max_concurrent,
            debounce_ms=pace.debounce_ms,
        ) as limner,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(display.run)
        began = now()
        watch = _Watch(limner, display, now)
        visible = VisibleText(DEFAULT_PATTERNS)
        display.note("A story streams at the pace of a model; its pictures are painted meanwhile.\n")
        started = False
        async for token in limner.illustrate(STORY_ID, stream(story(), pace.token_ms)):
            if not started:
                started = True
                tasks.start_soon(watch.run)
            for piece in visible.feed(token):
                display.text(piece)
        text_ended = now()
        for piece in visible.finish():
            display.text(piece)
        first = await limner.finished(STORY_ID)
        display.note(f"\n{len(first.placed)} pictures placed, with {_writes(store, 0)}.\n")
        writes_so_far = len(store.image_writes)
        for index in CLICKED:
            display.note(f"Picture {index + 1} is clicked: another one, please.")
            await limner.regenerate(STORY_ID, first.placed[index].image_url)
            await anyio.sleep(pace.click_gap_ms / 1000)
        second = await limner.finished(STORY_ID)
        display.note(f"\n{len(second.placed)} pictures replaced, with {_writes(store, writes_so_far)}.")
        ended = now()
        tasks.cancel_scope.cancel()
    message = await store.read(STORY_ID)
    return ("" if message is None else message.text), DemoNumbers(
        prompts=len(watch.found),
        placed=len(first.placed),
        replaced=len(second.placed),
        first_picture=watch.first_picture_at - began,
        text_ended=text_ended - began,
        last_write=ended - began,
        image_writes=tuple(write.new_images for write in store.image_writes),
        text_saves=len(store.writes) - len(store.image_writes),
    )


def _writes(store: CountingStore, since: int) -> str:
    count = len(store.image_writes) - since
    return f"{count} write" if count == 1 else f"{count} writes"


class _Watch:
    """Shows every event, and notes when the first picture was ready."""

    def __init__(self, limner: Limner, display: Display, now: Callable[[], float]) -> None:
        self.found: set[str] = set()
        self.first_picture_at = float("inf")
        self._limner = limner
        self._display = display
        self._now = now

    async def run(self) -> None:
        first_session = ""
        async for event in self._limner.events(STORY_ID, follow=True):
            first_session = first_session or event.session_id
            self._display.take(event)
            if isinstance(event, PromptProgress):
                if event.session_id == first_session:
                    self.found.add(event.prompt_id)
                if event.state == "completed":
                    self.first_picture_at = min(self.first_picture_at, self._now())
