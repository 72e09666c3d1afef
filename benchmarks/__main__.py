"""`make bench`: what things cost here and now, beside what they are compared to. Prints tables.

Every number is the median of several rounds; what is compared is measured in turns within one run, so that a
busy machine slows down both. Read the ratios before the microseconds.
"""

from __future__ import annotations

import gc
import platform
import re
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from rich.console import Console
from rich.table import Table

from benchmarks.durability import bench_durability
from benchmarks.first_token import bench_first_token
from benchmarks.proxy import bench_proxy
from limner.states import (
    SESSION,
    FoundPrompt,
    GenerationStarted,
    GenerationSucceeded,
    Image,
    PromptFound,
    Session,
    SessionKind,
    SessionMachine,
    SessionSettings,
    StreamStarted,
    handle,
)
from limner.states.draft import SessionDraft
from limner.text import PromptScanner, compile_patterns

ROUNDS = 7
COMPARED_LENGTHS = (4_000, 16_000, 64_000)
LONG_LENGTHS = (125_000, 250_000, 500_000, 1_000_000)
EVENTS = 20_000
SESSIONS = 200
PROMPTS = (1, 10, 100, 1_000)
TOKEN = 4
"""Characters per chunk: about what one token of English is."""

PROSE = (
    "The keeper climbed the stairs with the lamp in his left hand, counting as he went, for the tower had "
    "two hundred and eleven steps and he liked to know where he was. "
)
TAG = '<img_prompt="a lighthouse at night, rain on the panes, a keeper with a lamp on a spiral stair">'


def chunks_of(text: str) -> list[str]:
    return [text[start : start + TOKEN] for start in range(0, len(text), TOKEN)]


def message(length: int) -> str:
    """A story of about `length` characters with a prompt in every two thousand, or one that never ends."""
    part = (PROSE * 20)[: 2_000 - len(TAG)] + TAG
    return (part * (length // len(part) + 1))[:length]


def seconds(run: Callable[[], object]) -> float:
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    finally:
        gc.enable()


def in_turns(*runs: Callable[[], object], rounds: int | None = None) -> list[float]:
    """The median time of each run, measured in turns."""
    times = [[seconds(run) for run in runs] for _ in range(rounds or ROUNDS)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def scan_incrementally(chunks: list[str]) -> int:
    scanner = PromptScanner(compile_patterns())
    for chunk in chunks:
        scanner.feed(chunk)
    return len(scanner.matches)


WHOLE = re.compile(r'<!--img-prompt="((?:[^"\\]|\\.)*)"-->|<img_prompt="((?:[^"\\]|\\.)*)">', re.DOTALL)


def scan_whole_on_every_chunk(chunks: list[str]) -> int:
    text, found = "", 0
    for chunk in chunks:
        text += chunk
        found = sum(1 for _ in WHOLE.finditer(text))
    return found


def bench_streaming(console: Console) -> None:
    table = Table(title="A chunk of streamed text (4 characters)", title_justify="left")
    for column in ("message", "chunks", "Limner", "whole text each chunk", "ratio"):
        table.add_column(column, justify="right")
    for length in COMPARED_LENGTHS:
        chunks = chunks_of(message(length))
        expected = scan_whole_on_every_chunk(chunks)
        if scan_incrementally(chunks) != expected:
            sys.exit("the two scans do not agree; these numbers would mean nothing")
        ours, theirs = in_turns(
            partial(scan_incrementally, chunks),
            partial(scan_whole_on_every_chunk, chunks),
            rounds=3,
        )
        table.add_row(
            f"{length // 1000} kB",
            f"{len(chunks):,}",
            f"{ours / len(chunks) * 1e6:.2f} µs",
            f"{theirs / len(chunks) * 1e6:,.0f} µs",
            f"{theirs / ours:,.0f} ×",
        )
    for length in LONG_LENGTHS:
        chunks = chunks_of(message(length))
        (ours,) = in_turns(partial(scan_incrementally, chunks))
        table.add_row(
            f"{length // 1000} kB", f"{len(chunks):,}", f"{ours / len(chunks) * 1e6:.2f} µs", "not run", ""
        )
    console.print(table)
    longest = LONG_LENGTHS[-1]
    endless = PROSE.replace('"', "") * (longest // len(PROSE) + 1)
    never = chunks_of(('<img_prompt="' + endless)[:longest])
    half, full = in_turns(
        lambda: scan_incrementally(never[: len(never) // 2]), lambda: scan_incrementally(never)
    )
    console.print(
        f"A tag that never closes, {longest // 2_000} kB and {longest // 1000} kB of it: "
        f"{half / len(never) * 2e6:.2f} and {full / len(never) * 1e6:.2f} µs a chunk; "
        f"twice the text takes {full / half:.2f} times as long.\n"
        "Limit: one search in C per chunk, and the call of `feed` itself.\n"
    )


@dataclass
class _Model:
    state: str


def _session(prompts: int) -> Session:
    session = Session("s", "m", SessionKind.STREAMING, SessionSettings(), 0)
    session, _ = handle(session, StreamStarted(), 0)
    for number in range(prompts):
        session, _ = handle(session, PromptFound(FoundPrompt(f"p{number}", "a cat")), number)
    return session


def _times(count: int, call: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        for _ in range(count):
            call()

    return run


def bench_events(console: Console) -> None:
    count = EVENTS
    draft = SessionDraft(_session(1), 5)
    engine = SessionMachine(model=_Model("streaming"))
    slow = EVENTS // 100
    ours, theirs = in_turns(
        _times(count, lambda: SESSION.step("streaming", "prompt_settled", draft, None)),
        _times(slow, lambda: engine.send("prompt_settled", subject=draft, cause=None)),
    )
    ours, theirs = ours / count, theirs / slow
    table = Table(title="One event", title_justify="left")
    for column in ("what", "time", "against the library's engine"):
        table.add_column(column, justify="right" if column != "what" else "left")
    table.add_row("python-statemachine's own engine: one transition", f"{theirs * 1e6:.0f} µs", "1")
    table.add_row(
        "Limner's table: the same transition", f"{ours * 1e6:.2f} µs", f"{theirs / ours:,.0f} × faster"
    )
    for label, session, event in _whole_events():
        (time_taken,) = in_turns(_times(EVENTS // 10, partial(handle, session, event, 50)))
        each = time_taken / (EVENTS // 10)
        table.add_row(label, f"{each * 1e6:.1f} µs", f"{theirs / each:,.0f} × faster")
    console.print(table)
    console.print(
        "A whole event runs the prompt's table and the session's, keeps timers, and makes new values.\n"
        "Limit: making those values; in a message with many prompts, copying the dictionary of prompts.\n"
    )


def _whole_events() -> Iterator[tuple[str, Session, GenerationStarted | GenerationSucceeded]]:
    for prompts in PROMPTS:
        session = _session(prompts)
        yield (
            f"Limner's core, whole: an image starts, {prompts} in the message",
            session,
            GenerationStarted("p0"),
        )
    started, _ = handle(_session(10), GenerationStarted("p0"), 40)
    yield "Limner's core, whole: an image is finished, 10", started, GenerationSucceeded("p0", Image("u"))


def bench_sessions(console: Console) -> None:
    count = SESSIONS

    def make_engines() -> list[object]:
        return [SessionMachine(model=_Model("idle")) for _ in range(count)]

    def make_sessions() -> list[object]:
        return [
            Session(f"s{number}", "m", SessionKind.STREAMING, SessionSettings(), 0) for number in range(count)
        ]

    ours, theirs = in_turns(make_sessions, make_engines, rounds=5)
    sizes = []
    for make in (make_sessions, make_engines):
        gc.collect()
        tracemalloc.start()
        kept = make()
        sizes.append(tracemalloc.get_traced_memory()[0] / count)
        tracemalloc.stop()
        del kept
    table = Table(title="One session, idle", title_justify="left")
    for column in ("what", "time to make", "memory"):
        table.add_column(column, justify="right" if column != "what" else "left")
    table.add_row(
        "python-statemachine's own engine", f"{theirs / count * 1e6:,.0f} µs", f"{sizes[1] / 1024:.1f} kB"
    )
    table.add_row("Limner", f"{ours / count * 1e6:.2f} µs", f"{sizes[0] / 1024:.2f} kB")
    table.add_row("ratio", f"{theirs / ours:,.0f} ×", f"{sizes[1] / sizes[0]:,.0f} ×")
    console.print(table)


def main() -> None:
    """Run all benchmarks and print their tables."""
    console = Console(width=110)
    console.print(
        f"Python {platform.python_version()} on {platform.machine()}; medians of {ROUNDS} rounds, in turns.\n"
    )
    bench_streaming(console)
    bench_events(console)
    bench_sessions(console)
    bench_durability(console)
    bench_first_token(console)
    bench_proxy(console)


if __name__ == "__main__":
    main()
