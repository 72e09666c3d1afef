"""One text illustrated from beginning to end, whoever asks for it: the heart of `limner illustrate`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import anyio

from limner.adapters.cli.display import Display
from limner.adapters.cli.inputs import LARGEST_TEXT
from limner.adapters.limner import Limner
from limner.adapters.visible import VisibleText
from limner.errors import AnswerTooLarge, BackendError, LimnerError
from limner.states.outcome import Result
from limner.text import TagPattern
from limner.workflows.progress_events import PromptProgress

MESSAGE_ID = "text"
"""The one message of the run. Always the same, so that the same text gives the same seeds."""

HOPELESS = frozenset(
    {"auth", "no_balance", "unavailable", "wrong_address", "image_timeout", "image_not_stored"}
)
"""Failures that are the server's, the account's or the disk's: the next prompt would meet the same.

A time limit that passes may be the image's own fault. Where it passes for all that run at once and nothing
was made, it is the server that hangs, or a limit that no image keeps.
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a text.

    `prompts` are all that were found without an image, by id; `broken_off` says why a streamed reply ended
    early. `seconds` are from the start to the end of the session.
    """

    text: str
    result: Result
    prompts: Mapping[str, PromptProgress]
    broken_off: BackendError | None
    seconds: float


@dataclass(slots=True)
class _Watch:
    """The images' side: notes every event, shows it, and gives up where there is no hope."""

    limner: Limner
    display: Display
    at_once: int
    prompts: dict[str, PromptProgress] = field(default_factory=dict)
    text_is_final: bool = False

    async def run(self) -> None:
        async for event in self.limner.events(MESSAGE_ID):
            self.display.take(event)
            if isinstance(event, PromptProgress):
                self.prompts[event.prompt_id] = event
                if event.state == "failed" and self.text_is_final and self._is_hopeless():
                    await self._give_up()

    def _is_hopeless(self) -> bool:
        return is_hopeless(self.prompts.values(), self.at_once)

    async def _give_up(self) -> None:
        with suppress(LimnerError):  # the session may just have ended by itself
            await self.limner.cancel(MESSAGE_ID)


def is_hopeless(prompts: Collection[PromptProgress], at_once: int) -> bool:
    """Whether as many images as run at once have failed for reasons that are not theirs, and none was made.

    Going on would take a thousand prompts through a thousand refusals.
    """
    if any(prompt.state == "completed" for prompt in prompts):
        return False
    kinds = [prompt.problem.kind for prompt in prompts if prompt.state == "failed" and prompt.problem]
    return len(kinds) >= min(at_once, len(prompts)) > 0 and HOPELESS.issuperset(kinds)


async def illustrate_text(limner: Limner, text: str, display: Display, at_once: int) -> Outcome:
    """Illustrate a finished text. `at_once`: how many images are made at once."""
    return await _illustrate(limner, text, display, at_once, VisibleText(()))


async def illustrate_stream(
    limner: Limner,
    tokens: AsyncIterable[str],
    display: Display,
    at_once: int,
    patterns: Iterable[str | TagPattern],
) -> Outcome:
    """Illustrate a text while it arrives, and show it.

    If the source breaks off, what had arrived is illustrated. Where nothing had arrived: raises the
    source's `BackendError`, alone or in a group, or `NoReply`.
    """
    return await _illustrate(limner, _bounded(tokens), display, at_once, VisibleText(patterns))


class NoReply(BackendError):
    """The chat server's reply has no text."""

    kind = "no_reply"
    hint = "Check the model's name, or ask for something else."


async def _illustrate(
    limner: Limner, source: str | AsyncIterable[str], display: Display, at_once: int, visible: VisibleText
) -> Outcome:
    began = time.monotonic()
    arrived: list[str] = []
    broken_off: BackendError | None = None
    watch = _Watch(limner, display, at_once)
    async with anyio.create_task_group() as watching, anyio.create_task_group() as redrawing:
        redrawing.start_soon(display.run)
        try:
            async for piece in limner.illustrate(MESSAGE_ID, source):
                if not arrived:
                    watching.start_soon(watch.run)
                arrived.append(piece)
                if not isinstance(source, str):
                    for shown in visible.feed(piece):
                        display.text(shown)
        except BackendError as error:
            if not arrived:
                raise
            broken_off = error
        for shown in visible.finish():
            display.text(shown)
        if not isinstance(source, str) and not "".join(arrived).strip():
            raise broken_off or NoReply("the chat server sent an empty reply")
        watch.text_is_final = True
        result = await limner.finished(MESSAGE_ID)
        redrawing.cancel_scope.cancel()
    stored = await limner.store.read(MESSAGE_ID)
    # A session that was cancelled while the text still came has not saved it.
    text = "".join(arrived) if stored is None else stored.text
    return Outcome(text, result, watch.prompts, broken_off, time.monotonic() - began)


async def _bounded(tokens: AsyncIterable[str]) -> AsyncIterator[str]:
    """The tokens, up to the size that a file may have: a model that never stops must not fill the memory."""
    length = 0
    async for token in tokens:
        length += len(token)
        if length > LARGEST_TEXT:
            raise AnswerTooLarge(f"the reply is longer than {LARGEST_TEXT} characters")
        yield token
