"""Discord's sink with stand-ins for discord.py's objects, on a clock that stands still.

The real discord.py is in tests/with_chats. It runs on asyncio only.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable
from itertools import count, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from limner.adapters.sinks.discord import INTERVAL_MS, DiscordChat, split_message
from limner.errors import NoBalance
from tests.studio import Studio, tag
from tests.support import FakeImageStore, pieces, settle

pytestmark = pytest.mark.anyio

STORY = f"Once {tag('a cat')} met {tag('a dog')} there."


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Channel:
    """A channel with its messages, the times of all changes, and what a bot finds in the module."""

    def __init__(self, studio: Studio) -> None:
        self.messages: list[Any] = []
        self.changes: list[int] = []
        self.refusals: list[Exception] = []
        ids = count(100)
        channel = self

        class Message:
            def __init__(self, content: str, **given: Any) -> None:
                self.id = next(ids)
                self.channel = channel
                self.content = content
                self.__dict__.update({"attachments": [], "embeds": [], "view": None} | given)

            async def edit(self, **given: Any) -> None:
                channel.changes.append(studio.clock())
                if channel.refusals:
                    raise channel.refusals.pop(0)
                self.__dict__.update(given)

            async def delete(self) -> None:
                channel.changes.append(studio.clock())
                channel.messages.remove(self)

        class View:
            def __init__(self, timeout: object) -> None:
                self.children: list[Any] = []
                self.add_item = self.children.append

            def stop(self) -> None:
                pass

        def file(data: Any, **given: Any) -> Any:
            return SimpleNamespace(data=data.read(), **given)

        class Embed:
            def set_image(self, *, url: str) -> Embed:
                self.url = url
                return self

        self.make = Message
        self.module = SimpleNamespace(
            File=file,
            Embed=Embed,
            AllowedMentions=SimpleNamespace(none=lambda: "nobody"),
            ui=SimpleNamespace(View=View, Button=SimpleNamespace),
        )

    async def send(self, content: str = "", files: Any = (), **given: Any) -> Any:
        message = self.make(content, attachments=list(files), **given)
        self.messages.append(message)
        return message

    async def reply(self, content: str, *, mention_author: bool) -> Any:
        return await self.send(content)

    @property
    def texts(self) -> list[str]:
        return [message.content for message in self.messages]


class Click:
    """An interaction, as far as a bot looks at it."""

    def __init__(self, custom_id: str) -> None:
        self.data = {"custom_id": custom_id}
        self.answers: list[str] = []
        self.response = SimpleNamespace(defer=self._defer, send_message=self._say)
        self.followup = SimpleNamespace(send=self._say)

    async def _defer(self) -> None:
        self.answers.append("deferred")

    async def _say(self, text: str, *, ephemeral: bool) -> None:
        self.answers.append(text)


class InTheMessage:
    """An image store that keeps images in their addresses."""

    async def put(self, data: bytes, media_type: str) -> str:
        return f"data:{media_type};base64,{b64encode(data).decode()}"


async def settled(studio: Studio, chat: DiscordChat, *calls: Awaitable[object]) -> None:
    """Make the calls, and let as much time pass as they and the images want."""
    work = asyncio.gather(*calls)
    while not work.done():
        await studio.tick(INTERVAL_MS)
    await work
    images = asyncio.create_task(chat.replies.settled())
    while not images.done():
        await studio.tick(INTERVAL_MS)


async def answered(studio: Studio, text: str) -> tuple[Channel, DiscordChat]:
    """A reply whose images have come."""
    channel = Channel(studio)
    chat = DiscordChat(studio.limner, channel.module)
    await settled(studio, chat, chat.answer(channel, pieces(text, 40)))
    return channel, chat


async def test_the_text_is_shown_without_tags_with_the_images_and_a_button_each():
    async with Studio(images=InTheMessage()) as studio:
        channel, _ = await answered(studio, STORY)
        [message] = channel.messages
        assert message.content == "Once  met  there."
        assert [file.description for file in message.attachments] == ["a cat", "a dog"]
        assert [file.filename for file in message.attachments] == ["picture-1.png", "picture-2.png"]
        assert all(file.data.startswith(b"\x89PNG") for file in message.attachments)
        assert [button.label for button in message.view.children] == ["1", "2"]
        assert message.allowed_mentions == "nobody"


async def test_changes_are_an_interval_apart():
    async with Studio() as studio:
        channel, _ = await answered(studio, "word " * 300 + tag("a cat"))
        gaps = [later - earlier for earlier, later in pairwise(channel.changes)]
        assert gaps
        assert min(gaps) >= INTERVAL_MS


async def test_a_change_that_discord_refuses_costs_nothing_of_the_text():
    async with Studio(images=InTheMessage()) as studio:
        channel = Channel(studio)
        chat = DiscordChat(studio.limner, channel.module)

        async def reply() -> AsyncIterator[str]:
            yield "One "
            channel.refusals = [OSError("503 Service Unavailable")] * 2
            for piece in ("two ", "three ", tag("a cat"), "four"):
                studio.clock.tick(INTERVAL_MS)
                yield piece

        with capture_logs() as logs:
            await settled(studio, chat, chat.answer(channel, reply()))
        assert channel.refusals == []
        assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["sink_failed"]
        assert channel.texts == ["One two three four"]
        assert len(channel.messages[0].attachments) == 1


async def test_the_status_is_the_last_line_while_images_are_painted():
    async with Studio(hold=True) as studio:
        channel = Channel(studio)
        chat = DiscordChat(studio.limner, channel.module)
        answer = asyncio.create_task(chat.answer(channel, pieces(STORY)))
        for _ in range(3):
            await studio.tick(INTERVAL_MS)
        assert answer.done()
        assert channel.texts == ["Once  met  there.\n\n-# Generating 0/2 images…"]
        studio.painter.release_all()
        await settled(studio, chat)
        assert channel.texts == ["Once  met  there."]


async def test_a_failure_stays_to_be_read():
    async with Studio() as studio:
        studio.painter.answers["a dog"] = [NoBalance("empty")]
        channel, _ = await answered(studio, STORY)
        assert channel.texts == ["Once  met  there.\n\n-# Painted 1/2 images. “a dog”: empty"]


async def test_a_long_text_becomes_several_messages_and_the_images_hang_on_the_last():
    text = "\n\n".join(f"{number}. " + "words and words " * 30 for number in range(12))
    async with Studio() as studio:
        channel, _ = await answered(studio, f"{text}\n\n{tag('a cat')}")
        assert len(channel.messages) == 3
        assert all(0 < len(shown) <= 2000 for shown in channel.texts)
        assert "\n\n".join(channel.texts).split() == text.split()
        assert [bool(message.view) for message in channel.messages] == [False, False, True]


async def test_more_than_ten_images_fill_a_further_message():
    async with Studio(images=InTheMessage()) as studio:
        channel, _ = await answered(studio, " ".join(tag(f"cat {number}") for number in range(12)))
        assert [len(message.attachments) for message in channel.messages] == [10, 2]
        assert [b.custom_id[-3:] for b in channel.messages[1].view.children] == [":10", ":11"]


async def test_an_image_that_lies_elsewhere_is_embedded():
    async with Studio(images=FakeImageStore()) as studio:
        channel, _ = await answered(studio, f"Look: {tag('a cat')}")
        assert [embed.url for embed in channel.messages[0].embeds] == ["https://images.test/1.png"]


async def test_a_click_paints_one_image_again():
    async with Studio() as studio:
        channel, chat = await answered(studio, STORY)
        [message] = channel.messages
        before = [embed.url for embed in message.embeds]
        click = Click(message.view.children[1].custom_id)
        assert await chat.clicked(click)
        await settled(studio, chat)
        assert click.answers == ["deferred"]
        after = [embed.url for embed in message.embeds]
        assert after[0] == before[0]
        assert after[1] != before[1]


async def test_a_click_that_comes_too_early_is_answered():
    async with Studio() as studio:
        channel, chat = await answered(studio, STORY)
        studio.painter.hold()
        stream = studio.limner.illustrate(str(channel.messages[0].id), pieces(STORY))
        await anext(stream)
        click = Click(channel.messages[0].view.children[0].custom_id)
        assert await chat.clicked(click)
        assert len(click.answers) == 2
        assert "stream" in click.answers[1]
        await stream.aclose()


@pytest.mark.parametrize("custom_id", ["limner:100:7", "limner:7:0", "limner:100:x", "limner"])
async def test_a_button_of_a_reply_that_is_forgotten_says_so(custom_id):
    async with Studio() as studio:
        _, chat = await answered(studio, STORY)
        click = Click(custom_id)
        assert await chat.clicked(click)
        assert click.answers == ["This picture is too old to be painted again."]


async def test_buttons_of_others_are_left_to_them():
    async with Studio() as studio:
        chat = DiscordChat(studio.limner, Channel(studio).module)
        click = Click("another:1")
        assert not await chat.clicked(click)
        assert click.answers == []
        await settle()


# --- splitting


def test_a_text_that_fits_is_one_message():
    assert split_message("word " * 399) == ["word " * 398 + "word"]


def test_nothing_is_no_message():
    assert split_message(" \n") == []


@pytest.mark.parametrize("mark", ["\n\n", "\n", " "])
def test_a_text_is_cut_where_something_ends(mark):
    text = "a" * 1500 + mark + "b" * 1500
    assert split_message(text) == ["a" * 1500, "b" * 1500]


def test_a_word_that_is_too_long_is_cut_itself():
    assert [len(piece) for piece in split_message("a" * 4100)] == [2000, 2000, 100]


def test_characters_that_discord_counts_twice_count_twice():
    pieces_of_it = split_message("🦊" * 2001)
    assert [len(piece) for piece in pieces_of_it] == [1000, 1000, 1]


async def test_chunks_of_a_client_may_be_answered_with():
    async def chunks() -> Any:
        yield {"choices": [{"delta": {"content": "Hello"}}]}

    async with Studio() as studio:
        channel = Channel(studio)
        chat = DiscordChat(studio.limner, channel.module)
        await settled(studio, chat, chat.answer(channel, chunks(), text_of="openai"))
        assert channel.texts == ["Hello"]


# --- the example


def test_the_example_says_in_one_line_that_it_has_no_token(tmp_path: Path):
    (tmp_path / "discord.py").write_text("class Client: ...\n")
    example = Path(__file__).parents[3] / "examples" / "discord_bot.py"
    environ = {name: value for name, value in os.environ.items() if name != "DISCORD_TOKEN"}
    environ["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environ.get("PYTHONPATH", "")])
    ran = subprocess.run([sys.executable, example], env=environ, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == (
        "discord_bot.py: DISCORD_TOKEN is not set; docs/chats.md says where a bot gets its token\n"
    )
