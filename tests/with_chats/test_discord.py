"""The example bot on the real discord.py, which speaks to a stand-in for Discord (`discord_server`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import discord
import pytest
from discord.gateway import DiscordWebSocket
from discord.http import Route
from PIL import Image
from yarl import URL

from tests.with_chats import load_example
from tests.with_chats.discord_server import DiscordServer

pytestmark = pytest.mark.anyio

discord_bot = load_example("discord_bot")


@pytest.fixture
def anyio_backend() -> str:
    """discord.py runs on asyncio only."""
    return "asyncio"


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[DiscordServer]:
    """Discord, with the example bot connected to it."""
    server = DiscordServer()
    await server.start()
    monkeypatch.setattr(Route, "BASE", server.url)
    monkeypatch.setattr(DiscordWebSocket, "DEFAULT_GATEWAY", URL(server.gateway))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(discord.utils, "setup_logging", lambda: None)
    bot = asyncio.create_task(discord_bot.main("token"))
    ready = asyncio.create_task(server.ready.wait())
    await asyncio.wait([bot, ready], timeout=30, return_when=asyncio.FIRST_COMPLETED)
    assert ready.done(), bot
    yield server
    bot.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bot
    await server.stop()


async def until(condition: Any, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what the bot does, it does in its own time
            await asyncio.sleep(0.05)


async def test_a_reply_streams_gets_its_pictures_and_a_click_paints_one_again(server: DiscordServer) -> None:
    await server.say("tell me")
    await until(lambda: server.replies() and server.replies()[0]["attachments"])
    [reply] = server.replies()
    assert reply["content"] == (
        "You asked: tell me\n\nThe keeper lit the lamp.\n\nBy morning the storm was gone."
    )
    assert [picture["description"] for picture in reply["attachments"]] == [
        "a lighthouse at night, a beam over the sea",
        "a calm sea at sunrise, gulls",
    ]
    for picture in reply["attachments"]:
        Image.open(BytesIO(bytes.fromhex(picture["data"]))).verify()
    assert len(server.buttons(reply)) == 2
    assert any("Generating" in status for status in server.statuses)

    before = [picture["data"] for picture in reply["attachments"]]
    await server.click(reply["id"], server.buttons(reply)[1])
    await until(lambda: server.replies()[0]["attachments"][1]["data"] != before[1])
    [reply] = server.replies()
    assert reply["attachments"][0]["data"] == before[0]
    assert server.interactions == [discord.InteractionResponseType.deferred_message_update.value]
    assert any(status.startswith("-# Regenerating") for status in server.statuses)
    assert "-#" not in reply["content"]

    assert server.refused == []
    times = [at for at, _ in server.changes]
    assert min(later - earlier for earlier, later in pairwise(times[1:])) > 1.1


async def test_a_long_reply_becomes_several_messages_with_the_pictures_at_the_last(
    server: DiscordServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def long_story(question: str) -> AsyncIterator[str]:
        for number in range(60):
            yield f"{number}. " + "once upon a time " * 5 + "\n\n"
        yield '<!--img-prompt="a fox"-->'

    monkeypatch.setattr(discord_bot, "model", long_story)
    await server.say("a long one")
    await until(lambda: server.replies() and server.replies()[-1]["attachments"])
    replies = server.replies()
    assert len(replies) > 2
    assert [bool(reply["attachments"]) for reply in replies] == [False] * (len(replies) - 1) + [True]
    assert "\n\n".join(reply["content"] for reply in replies).count("once upon a time") == 300
    assert server.refused == []


async def test_an_old_button_says_so(server: DiscordServer) -> None:
    await server.say("tell me")
    await until(lambda: server.replies() and server.replies()[0]["attachments"])
    await server.click(server.replies()[0]["id"], "limner:1:0")
    await until(lambda: server.interactions)
    assert server.interactions == [discord.InteractionResponseType.channel_message.value]
