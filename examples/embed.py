"""A chat server's part in a nutshell: stream, watch, click, read. Offline; run it from anywhere.

.venv/bin/python examples/embed.py
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator

import anyio

from limner import Limner, PromptProgress, SessionProgress

REPLY = (
    "The keeper lit the lamp.\n\n"
    '<!--img-prompt="a lighthouse at night, a beam over the sea"-->\n\n'
    "By morning the storm was gone.\n\n"
    '<!--img-prompt="a calm sea at sunrise, gulls"-->\n'
)


async def model() -> AsyncIterator[str]:
    """Stands for your language model: the reply in small pieces."""
    for start in range(0, len(REPLY), 5):
        yield REPLY[start : start + 5]


async def watch(limner: Limner) -> None:
    """What a page would show while it waits."""
    async for event in limner.events("message-1"):
        if isinstance(event, SessionProgress):
            print(f"  {event.state}: {event.counts.completed} of {event.counts.total}")
        elif isinstance(event, PromptProgress) and event.state == "completed":
            print(f"  painted: {event.prompt}")


async def main() -> None:
    """Stream one message, then click its first picture."""
    with tempfile.TemporaryDirectory() as folder:
        async with Limner(data_dir=folder, profile="markdown") as limner:
            async for delta in limner.illustrate("message-1", model()):
                print(delta, end="")
            await watch(limner)
            result = await limner.finished("message-1")

            print("one click, two seconds of quiet, one write:")
            await limner.regenerate("message-1", result.placed[0].image_url)
            await watch(limner)

            message = await limner.store.read("message-1")
            assert message is not None
            print(message.text)


if __name__ == "__main__":
    anyio.run(main)
