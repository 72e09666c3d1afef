"""Each page of `make bench` runs, on next to nothing. How long anything takes is not looked at."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from benchmarks import __main__ as costs
from benchmarks import durability, proxy
from rich.console import Console


def printed(bench: Callable[[Console], None]) -> str:
    """What a page prints."""
    file = io.StringIO()
    bench(Console(file=file, width=200))
    return file.getvalue()


@pytest.fixture(autouse=True)
def _next_to_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "ROUNDS": 1,
        "COMPARED_LENGTHS": (2_000,),
        "LONG_LENGTHS": (4_000,),
        "EVENTS": 100,
        "SESSIONS": 2,
        "PROMPTS": (1, 2),
    }.items():
        monkeypatch.setattr(costs, name, value)
    for name, value in {
        "ROUNDS": 1,
        "RECOVERIES": 1,
        "SESSIONS_AT_WORK": (1, 2),
        "STEPS": 3,
        "LEFT_BEHIND": 3,
    }.items():
        monkeypatch.setattr(durability, name, value)


@pytest.mark.parametrize(
    ("bench", "rows"),
    [
        (costs.bench_streaming, ["2 kB", "4 kB", "A tag that never closes"]),
        (costs.bench_events, ["an image starts, 2 in the message", "an image is finished"]),
        (costs.bench_sessions, ["python-statemachine", "ratio"]),
        (durability.bench_durability, ["Events a second", "power-loss", "in the middle of its stream"]),
    ],
)
def test_each_page_of_the_bench_prints_its_rows(bench: Callable[[Console], None], rows: list[str]):
    said = printed(bench)
    for row in rows:
        assert row in said


def test_the_proxys_page_measures_every_way_that_a_token_takes():
    # It ends with an error where a token or a picture is missing.
    load = proxy.Load(conversations=2, tokens=4, tokens_per_second=1_000, rounds=1)
    said = printed(lambda console: proxy.bench_proxy(console, load))
    for way in (proxy.ALONE, proxy.THROUGH, proxy.PICTURES, proxy.SKETCHES):
        assert way in said
