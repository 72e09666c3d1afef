"""What `limner serve` adds to each token: many conversations through it, beside the upstream alone.

Upstream, proxy and client are processes of their own. Each token carries the time at which the upstream sent
it (the monotonic clock is the same for all processes of a machine), so the client knows how long each was on
its way. Upstream and client do as little as they can, so that what is measured is the proxy.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.table import Table

CONVERSATIONS = 200
TOKENS_PER_SECOND = 20
SECONDS = 6
ROUNDS = 2
PATIENCE_S = 60

_STAMP = re.compile(rb"@(\d+)")
_TAG = '<img_prompt=\\"a lighthouse at night\\">'


# --- the upstream


class Upstream(asyncio.Protocol):
    """Streams a reply to each request, as many tokens a second as a model that is not hurried."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.request = b""
        self.task: asyncio.Task[None] | None = None

    def data_received(self, data: bytes) -> None:
        self.request += data
        head, blank, body = self.request.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if blank and len(body) >= int(length.group(1) if length else 0):
            asks = json.loads(body)
            self.request = b""
            self.task = asyncio.ensure_future(self._stream(asks["tokens"], asks["tag"]))

    def connection_lost(self, _: Exception | None) -> None:
        if self.task is not None:
            self.task.cancel()

    async def _stream(self, tokens: int, tag: bool) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        self.transport.write(head)
        loop = asyncio.get_running_loop()
        due = loop.time()
        for number in range(tokens):
            text = f"{_TAG} " if tag and number == 1 else "word"
            event = (
                b'data: {"id":"chatcmpl-123","object":"chat.completion.chunk","created":1700000000,'
                b'"model":"stand-in","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":'
                b'{"content":"' + text.encode() + b' @%d"},"logprobs":null,"finish_reason":null}]}\n\n'
            ) % time.monotonic_ns()
            self.transport.write(b"%x\r\n%b\r\n" % (len(event), event))
            due += 1 / TOKENS_PER_SECOND
            await asyncio.sleep(due - loop.time())
        done = (
            b'data: {"id":"chatcmpl-123","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
            b"data: [DONE]\n\n"
        )
        self.transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(done), done))


async def serve_upstream() -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# --- the client


@dataclass
class Delays:
    """In milliseconds: each token's way, and the wait for each reply's first one."""

    tokens: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)


class Conversation(asyncio.Protocol):
    def __init__(self, request: bytes, delays: Delays) -> None:
        self.request = request
        self.delays = delays
        self.over = asyncio.get_running_loop().create_future()
        self.seen = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.asked = time.monotonic_ns()
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        for stamp in _STAMP.findall(data):
            if not self.seen:
                self.delays.firsts.append((now - self.asked) / 1e6)
            self.seen += 1
            self.delays.tokens.append((now - int(stamp)) / 1e6)
        if b"[DONE]" in data:
            self.transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        self.over.set_result(self.seen)


def request_for(tokens: int, tag: bool) -> bytes:
    body = json.dumps({"stream": True, "messages": [], "tokens": tokens, "tag": tag}).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (len(body), body)
    )


async def converse(port: int, conversations: int, tokens: int, tags: bool) -> Delays:
    delays = Delays()
    loop = asyncio.get_running_loop()

    async def one(number: int) -> int:
        # Spread over the time of some tokens, as people are; not all in the same instant.
        await asyncio.sleep(number / conversations)
        request = request_for(tokens, tags and number % 10 == 0)
        _, conversation = await loop.create_connection(
            lambda: Conversation(request, delays), "127.0.0.1", port
        )
        seen: int = await conversation.over
        return seen

    seen = await asyncio.gather(*(one(number) for number in range(conversations)))
    if set(seen) != {tokens}:
        sys.exit(f"some conversations got {min(seen)} of {tokens} tokens; these numbers would mean nothing")
    return delays


# --- the run


def cpu_seconds(pid: int) -> float | None:
    """The processor time that a process has taken; None where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def process(*arguments: str, ready: IO[bytes] | str) -> Iterator[tuple[subprocess.Popen[bytes], bytes]]:
    """A process, and the first line that it says (on standard output or `"stderr"`)."""
    environment = {
        **os.environ,
        # Stamps: painting for real would measure the painter.
        **{
            f"LIMNER_SKETCH_{name}": value
            for name, value in (("WIDTH", "64"), ("HEIGHT", "64"), ("STEPS", "1"))
        },
    }
    with subprocess.Popen(
        [sys.executable, "-m", *arguments],
        stdout=subprocess.PIPE if ready == "stdout" else subprocess.DEVNULL,
        stderr=subprocess.PIPE if ready == "stderr" else None,
        env=environment,
    ) as running:
        stream = running.stdout if ready == "stdout" else running.stderr
        assert stream is not None
        try:
            yield running, stream.readline()
        finally:
            running.send_signal(signal.SIGINT)
            running.wait(PATIENCE_S)


@dataclass
class Run:
    delays: Delays
    seconds: float
    proxy_cpu: float | None


def run_client(port: int, tag: bool, proxy: int | None = None) -> Run:
    tokens = SECONDS * TOKENS_PER_SECOND
    before, began = cpu_seconds(proxy) if proxy else None, time.monotonic()
    arguments = [str(port), str(CONVERSATIONS), str(tokens), "tag" if tag else ""]
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks.proxy", "client", *arguments],
        stdout=subprocess.PIPE,
        check=True,
        timeout=PATIENCE_S,
    )
    seconds = time.monotonic() - began
    after = cpu_seconds(proxy) if proxy else None
    cpu = None if before is None or after is None else after - before
    return Run(Delays(**json.loads(told.stdout)), seconds, cpu)


def percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def bench_proxy(console: Console) -> None:
    runs: dict[str, list[Run]] = {
        "the upstream alone": [],
        "through Limner": [],
        "the same, a picture in one of ten": [],
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        process("benchmarks.proxy", "upstream", ready="stdout") as (_, line),
    ):
        upstream = int(line)
        arguments = ["--upstream", f"http://127.0.0.1:{upstream}", "--port", "0", "--data-dir", folder]
        with process("limner", "serve", *arguments, ready="stderr") as (proxy, said):
            port = int(re.findall(rb":(\d+)/v1", said)[0])
            for _ in range(ROUNDS):
                runs["the upstream alone"].append(run_client(upstream, tag=False))
                runs["through Limner"].append(run_client(port, tag=False, proxy=proxy.pid))
                runs["the same, a picture in one of ten"].append(run_client(port, tag=True, proxy=proxy.pid))
    _show(console, runs)


def _show(console: Console, runs: dict[str, list[Run]]) -> None:
    table = Table(
        title=f"A token's way: {CONVERSATIONS} conversations at once, {TOKENS_PER_SECOND} tokens a second",
        title_justify="left",
    )
    for column in ("", "p50", "p99", "added p50", "added p99", "first token", "CPU", "CPU a token"):
        table.add_column(column, justify="right" if column else "left")
    alone: tuple[float, float] | None = None
    for name, each in runs.items():
        tokens = [delay for run in each for delay in run.delays.tokens]
        p50, p99 = percentile(tokens, 50), percentile(tokens, 99)
        first = percentile([delay for run in each for delay in run.delays.firsts], 50)
        alone = alone or (p50, p99)
        cpu = [run.proxy_cpu for run in each if run.proxy_cpu is not None]
        busy = sum(cpu) / sum(run.seconds for run in each) if cpu else None
        table.add_row(
            name,
            f"{p50:.2f} ms",
            f"{p99:.2f} ms",
            "" if name == next(iter(runs)) else f"{p50 - alone[0]:.2f} ms",
            "" if name == next(iter(runs)) else f"{p99 - alone[1]:.2f} ms",
            f"{first:.2f} ms",
            "" if busy is None else f"{busy:.0%} of a core",
            "" if not cpu else f"{sum(cpu) / len(tokens) * 1e6:.0f} µs",
        )
    console.print(table)
    console.print(
        f"Three processes on {os.cpu_count()} cores; what else runs on them is in these numbers, too.\n"
        "Limit: each token is received and sent by itself, so that it waits for no other: a client library\n"
        "on the one side (most of the time), a server library on the other, two calls of the system.\n"
        "What Limner does with it (cutting, JSON, a scan for tags) is some 7 µs of it.\n"
    )


def main() -> None:
    role, *rest = sys.argv[1:] or ["all"]
    if role == "upstream":
        try:
            asyncio.run(serve_upstream())
        except KeyboardInterrupt:
            return
    elif role == "client":
        port, conversations, tokens, tag = rest
        delays = asyncio.run(converse(int(port), int(conversations), int(tokens), bool(tag)))
        print(json.dumps({"tokens": delays.tokens, "firsts": delays.firsts}))
    else:
        bench_proxy(Console(width=110))


if __name__ == "__main__":
    main()
