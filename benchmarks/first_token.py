"""What a reader waits longer for the first token of a reply because it is illustrated."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable
from pathlib import Path

import anyio
from rich.console import Console
from rich.table import Table

from limner.adapters.limner import Limner
from limner.adapters.message_memory import MemoryMessageStore

REPLIES = 300
MODEL_THINKS_S = 0.01
"""How long the model takes for its first token: much less than any does."""

_Through = Callable[[str, AsyncIterable[str]], AsyncIterable[str]]


class _Model:
    """Tells when its first token came."""

    def __init__(self) -> None:
        self.came = 0.0

    async def reply(self) -> AsyncIterator[str]:
        await anyio.sleep(MODEL_THINKS_S)
        self.came = time.perf_counter()
        yield "Once upon a time "
        yield "there was a scribe."


async def _delays(replies: int, ways: dict[str, _Through]) -> dict[str, list[float]]:
    delays: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(replies):
        for name, through in ways.items():
            model = _Model()
            first = True
            async for _ in through(f"{name} {number}", model.reply()):
                if first:
                    delays[name].append(time.perf_counter() - model.came)
                    first = False
    return delays


async def _measured(replies: int, folder: Path) -> dict[str, list[float]]:
    async with Limner(store=MemoryMessageStore(), data_dir=folder) as limner:

        async def after_the_commit(message_id: str, tokens: AsyncIterable[str]) -> AsyncIterator[str]:
            async for token in tokens:
                stream = await limner.manager.open_stream(message_id)
                stream.feed(token)
                yield token
            await stream.seal()

        return await _delays(
            replies,
            {
                "the model alone": lambda _, tokens: tokens,
                "through `illustrate`": limner.illustrate,
                "if it waited for the journal": after_the_commit,
            },
        )


def bench_first_token(console: Console, replies: int = REPLIES) -> None:
    """One reply after the other, with the journal on this machine's disk."""
    with tempfile.TemporaryDirectory() as folder:
        delays = anyio.run(_measured, replies, Path(folder))
    table = Table(title="From the model's first token to the reader's", title_justify="left")
    for column in ("what", "p50", "p99"):
        table.add_column(column, justify="right" if column != "what" else "left")
    for name, seconds in delays.items():
        p50, p99 = (statistics.quantiles(seconds, n=100)[at - 1] for at in (50, 99))
        table.add_row(name, f"{p50 * 1e6:,.0f} µs", f"{p99 * 1e6:,.0f} µs")
    console.print(table)
    console.print("Limit: one turn of the event loop; where it waits, the disk (a commit and its fsync).\n")
