"""A Discord bot that answers whoever mentions it, with pictures. With a storyteller for a model.

pip install discord.py /path/to/limner
DISCORD_TOKEN=… python examples/discord_bot.py
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator

import discord

from limner import Limner
from limner.adapters.sinks.discord import DiscordChat


async def model(question: str) -> AsyncIterator[str]:
    """Stands for your language model. Its client's own chunks will do, too, for `self.chat.answer` below.

    Where their class does not say whose they are: `self.chat.answer(…, text_of="openai")`.
    """
    reply = (
        f"You asked: {question}\n\nThe keeper lit the lamp.\n\n"
        '<!--img-prompt="a lighthouse at night, a beam over the sea"-->\n\n'
        "By morning the storm was gone.\n\n"
        '<!--img-prompt="a calm sea at sunrise, gulls"-->\n'
    )
    for start in range(0, len(reply), 5):
        await asyncio.sleep(0.02)
        yield reply[start : start + 5]


class Bot(discord.Client):
    """Answers where it is mentioned, and in direct messages."""

    def __init__(self, limner: Limner) -> None:
        # A bot is told the text of messages that mention it, and of direct ones, without asking for more.
        super().__init__(intents=discord.Intents(guilds=True, messages=True))
        self.chat = DiscordChat(limner, discord)

    async def on_message(self, message: discord.Message) -> None:
        """Stream the reply; its pictures come when they are there."""
        if message.author.bot or self.user is None:
            return
        if message.guild is None or self.user in message.mentions:
            question = message.content.replace(self.user.mention, "").strip()
            await self.chat.answer(message, model(question))

    async def on_interaction(self, interaction: discord.Interaction) -> None:
        """A click on a picture's button."""
        await self.chat.clicked(interaction)


async def main(token: str) -> None:
    """Run until interrupted, and wait for pictures that are under way."""
    async with Limner(data_dir="limner-data") as limner, Bot(limner) as bot:
        discord.utils.setup_logging()
        await bot.start(token)


if __name__ == "__main__":
    if not os.environ.get("DISCORD_TOKEN"):
        sys.exit("discord_bot.py: DISCORD_TOKEN is not set; docs/chats.md says where a bot gets its token")
    asyncio.run(main(os.environ["DISCORD_TOKEN"]))
