"""A Chainlit chat whose replies are illustrated. Offline, with a storyteller for a model.

pip install chainlit /path/to/limner
chainlit run examples/chainlit_app.py
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import chainlit as cl

from limner import Limner
from limner.adapters.sinks.background import BackgroundLimner
from limner.adapters.sinks.chainlit import REGENERATE, ChainlitChat

background = BackgroundLimner(lambda: Limner(data_dir="limner-data"))
chat: ChainlitChat


async def model(question: str) -> AsyncIterator[str]:
    """Stands for your language model. Its client's own chunks will do, too, for `chat.answer` below.

    Where their class does not say whose they are: `chat.answer(…, text_of="openai")`.
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


@cl.on_app_startup
async def start() -> None:
    """One Limner serves the whole app."""
    global chat
    chat = ChainlitChat(await background.start(), cl)


@cl.on_app_shutdown
async def stop() -> None:
    """Waits for pictures that are under way."""
    await background.stop()


@cl.on_message
async def on_message(message: cl.Message) -> None:
    """Stream the reply; its pictures come when they are there."""
    await chat.answer(model(message.content))


@cl.action_callback(REGENERATE)
async def regenerate(action: cl.Action) -> None:
    """A click on a picture's button."""
    await chat.regenerate(action)
