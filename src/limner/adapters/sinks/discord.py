"""Discord: the reply is a message, or several where it is long; its images are attached to the last one.

Written for discord.py 2. Its module is handed in, since only the host needs it installed. Discord counts
every edit against a limit, so all that a reply shows goes through one calm place.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import AsyncIterable
from typing import Any

import anyio

from limner.adapters.limner import Limner
from limner.adapters.sinks.picture_files import picture_bytes
from limner.adapters.sinks.reading import ReadableStream, readable
from limner.adapters.sinks.replies import Replies
from limner.adapters.token_text import TextOf
from limner.errors import CallerError
from limner.text import PromptPatterns, describe
from limner.workflows.clock import Alarm
from limner.workflows.telling import Illustrated, Picture, StatusLine

INTERVAL_MS = 1_200
"""The least time between two changes of a reply. Discord allows some five in five seconds in a channel."""

LONGEST_MESSAGE = 2_000
MOST_FILES = 10
_NOTHING_YET = "…"
_BUTTON = "limner"
_KEEP_MESSAGES = 1_000


class DiscordSink:
    """One reply, of which `message` is the first part, as the bot has sent it.

    While the text streams, the status is its last line; a failure stays there.
    """

    def __init__(self, discord: Any, message: Any, patterns: PromptPatterns, alarm: Alarm) -> None:
        self.pictures: tuple[Picture, ...] = ()
        self._discord = discord
        self._patterns = patterns
        self._alarm = alarm
        self._stream = ReadableStream(patterns)
        self._parts: list[Any] = [message]
        self._shown: list[str | None] = [None]
        self._albums: list[Any] = []
        self._text = ""
        self._status = ""
        self._complete = False
        self._next_change = 0
        self._lock = anyio.Lock()

    async def write(self, text: str) -> None:
        """Take in a piece of the text, and show it if enough time has passed."""
        self._text += self._stream.feed(text)
        if self._alarm.clock() >= self._next_change:
            async with self._lock:
                await self._show_text()

    async def finish(self) -> None:
        """Show all of the text."""
        self._text += self._stream.finish()
        async with self._lock:
            self._complete = True
            await self._show_text()

    async def show_status(self, line: StatusLine) -> None:
        """Show a line below the text; the last one only if something failed."""
        async with self._lock:
            self._status = "" if line.done and not line.failed else f"-# {line.text}"
            # While the text streams, its next change shows the line as well.
            if self._complete:
                await self._show_text()

    async def replace_text(self, message: Illustrated) -> None:
        """Show the text without tags, attach the images, and give each a button."""
        async with self._lock:
            self._text = readable(message.text, self._patterns)
            self._status = ""
            self.pictures = message.pictures
            await self._show_text()
            await self._show_pictures(message)

    async def _show_text(self) -> None:
        # A blank line before the status, for Discord joins it to a list or a quote otherwise.
        text = "\n\n".join(part for part in (self._text.strip(), self._status) if part)
        chunks = split_message(text) or [_NOTHING_YET if not self.pictures else ""]
        for at, chunk in enumerate(chunks):
            if at == len(self._parts):
                await self._pause()
                self._parts.append(await self._parts[-1].channel.send(chunk, allowed_mentions=self._nobody))
                self._shown.append(chunk)
            elif self._shown[at] != chunk:
                await self._pause()
                await self._parts[at].edit(content=chunk, allowed_mentions=self._nobody)
                self._shown[at] = chunk
        while len(self._parts) > len(chunks):
            await self._pause()
            self._shown.pop()
            await self._parts.pop().delete()

    async def _show_pictures(self, message: Illustrated) -> None:
        groups = [
            list(enumerate(message.pictures))[start : start + MOST_FILES]
            for start in range(0, len(message.pictures), MOST_FILES)
        ]
        for at, group in enumerate(groups):
            files, embeds = await self._files(group)
            view = self._buttons(message.message_id, group)
            await self._pause()
            if at == 0:
                await self._parts[-1].edit(attachments=files, embeds=embeds, view=view)
            elif at <= len(self._albums):
                await self._albums[at - 1].edit(attachments=files, embeds=embeds, view=view)
            else:
                channel = self._parts[-1].channel
                self._albums.append(await channel.send(files=files, embeds=embeds, view=view))

    async def _files(self, group: list[tuple[int, Picture]]) -> tuple[list[Any], list[Any]]:
        """The images as files; those that lie elsewhere as embeds, which Discord loads itself."""
        files: list[Any] = []
        embeds: list[Any] = []
        for at, picture in group:
            found = await picture_bytes(picture.url)
            if found is not None:
                data, suffix = found
                description = describe(picture.prompt)
                name = f"picture-{at + 1}{suffix}"
                files.append(self._discord.File(io.BytesIO(data), filename=name, description=description))
            elif picture.url[:4].lower() == "http":
                embeds.append(self._discord.Embed().set_image(url=picture.url))
        return files, embeds

    def _buttons(self, message_id: str, group: list[tuple[int, Picture]]) -> Any:
        view = self._discord.ui.View(timeout=None)
        for at, _ in group:
            view.add_item(
                self._discord.ui.Button(
                    label=str(at + 1), emoji="🔁", custom_id=f"{_BUTTON}:{message_id}:{at}"
                )
            )
        view.stop()  # clicks are taken from the client's event, so discord.py need not keep the view
        return view

    @property
    def _nobody(self) -> Any:
        return self._discord.AllowedMentions.none()

    async def _pause(self) -> None:
        now = self._alarm.clock()
        if now < self._next_change:
            await self._alarm.sleep(self._next_change - now)
        self._next_change = self._alarm.clock() + INTERVAL_MS


class DiscordChat:
    """What a bot does with a Limner: `answer` in `on_message`, `clicked` in `on_interaction`.

    The last 1000 replies can be regenerated. `discord` is the module.
    """

    def __init__(self, limner: Limner, discord: Any) -> None:
        self.replies = Replies(limner, interval_ms=INTERVAL_MS)
        self._limner = limner
        self._discord = discord
        self._sinks: OrderedDict[str, DiscordSink] = OrderedDict()

    async def answer(
        self, message: Any, tokens: AsyncIterable[object], *, text_of: TextOf | None = None
    ) -> Any:
        """Stream a reply to `message`, and give its first part; its images come when they are there.

        `text_of` says what the tokens are, as in `Limner.illustrate`. Raises what `tokens` raises.
        """
        first = await message.reply(_NOTHING_YET, mention_author=False)
        sink = DiscordSink(self._discord, first, self._limner.manager.patterns, self._limner.alarm)
        message_id = str(first.id)
        self._sinks[message_id] = sink
        while len(self._sinks) > _KEEP_MESSAGES:
            self._sinks.popitem(last=False)
        await self.replies.stream(message_id, tokens, sink, text_of=text_of)
        return first

    async def clicked(self, interaction: Any) -> bool:
        """Paint the image of a button again; says whether the click was one on such a button."""
        mark, _, rest = str((interaction.data or {}).get("custom_id", "")).partition(":")
        if mark != _BUTTON:
            return False
        message_id, _, number = rest.rpartition(":")
        sink = self._sinks.get(message_id)
        if sink is None or not number.isdecimal() or int(number) >= len(sink.pictures):
            await interaction.response.send_message(
                "This picture is too old to be painted again.", ephemeral=True
            )
            return True
        await interaction.response.defer()
        try:
            await self.replies.regenerate(message_id, sink.pictures[int(number)].url, sink)
        except CallerError as error:
            await interaction.followup.send(str(error), ephemeral=True)
        return True


def split_message(text: str, longest: int = LONGEST_MESSAGE) -> list[str]:
    """The text in pieces that fit into a message, cut at a paragraph, a line or a word where one ends.

    Lengths are those of Discord's own programs (UTF-16), which never are less than Python's.
    """
    pieces: list[str] = []
    rest = text.strip()
    while rest:
        head = rest[:longest]
        while _length(head) > longest:
            head = head[: len(head) - (_length(head) - longest + 1) // 2]
        if len(head) < len(rest):
            ends = (head.rfind(mark, longest // 2) for mark in ("\n\n", "\n", " "))
            head = head[: next((end for end in ends if end > 0), len(head))]
        pieces.append(head.rstrip())
        rest = rest[len(head) :].lstrip()
    return pieces


def _length(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
