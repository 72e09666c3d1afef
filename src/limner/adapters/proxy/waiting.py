"""What a client is sent while its reply waits for pictures: to keep the connection, and to show progress.

Progress is sent as reasoning, where it is asked for. Some programs show that only with what comes next:
SillyTavern (1.19) redraws at most thirty times a second, its box of thoughts one redraw late, and takes no
comment for a reason to. So pieces of text with nothing in them follow each line, and hold the connection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

import anyio

from limner.adapters.proxy.progress import ProgressLines
from limner.adapters.proxy.setting import ReplySetting
from limner.workflows.progress_events import PromptProgress

REDRAW_MS = 100
"""How long behind a line, and behind one another, the two chunks come that have it shown, in ms."""

HELD_BACK_MS = 1_000
"""How long a picture waits before that is told, in ms: one whose turn is about to come is not told of."""

_REDRAWS = 2
_NO_TEXT: Mapping[str, str] = {"content": ""}


class Waiting:
    """Tells one client. `show` sends it a chunk with this delta, `comment` what is no part of the reply.

    `prompt_ids` are the pictures that are waited for; `thought` is what the model thought last, which our
    first line must not run into.
    """

    def __init__(
        self,
        setting: ReplySetting,
        show: Callable[[Mapping[str, str]], Awaitable[None]],
        comment: Callable[[str], Awaitable[None]],
        prompt_ids: Iterable[str],
        thought: str = "",
    ) -> None:
        self._setting = setting
        self._show = show
        self._comment = comment
        self._lines = ProgressLines(prompt_ids)
        self._before = "\n\n" if thought and not thought.endswith("\n") else ""
        self._news = anyio.Event()

    async def tell(self, event: PromptProgress) -> None:
        """Say how far a picture is, if that is news."""
        await self._say(self._lines.take(event))

    async def run(self) -> None:
        """Hold the connection until cancelled, and see to it that what is told is shown."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._hold_the_line)
            if self._setting.wants_progress:
                tasks.start_soon(self._have_it_shown)
                tasks.start_soon(self._tell_who_waits)

    async def _say(self, lines: Iterable[str]) -> None:
        for line in lines:
            if self._setting.wants_progress:
                before, self._before = self._before, ""
                await self._show({"reasoning_content": f"{before}{line}"})
                self._news.set()

    async def _hold_the_line(self) -> None:
        while True:
            await self._setting.pause()
            if self._setting.wants_progress:
                await self._show(_NO_TEXT)
            else:
                await self._comment(f"limner {self._lines.summary}")

    async def _have_it_shown(self) -> None:
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            for _ in range(_REDRAWS):
                await self._setting.alarm.sleep(REDRAW_MS)
                await self._show(_NO_TEXT)

    async def _tell_who_waits(self) -> None:
        while True:
            await self._setting.alarm.sleep(HELD_BACK_MS)
            await self._say(self._lines.held_back())
