"""What `limner serve` adds to each token: many conversations through it, beside the upstream alone.

Upstream, proxy and client are processes of their own. Each token carries the time at which the upstream sent
it (the monotonic clock is the same for all processes of a machine), so the client knows how long each was on
its way. Upstream and client do as little as they can, so that what is measured is the proxy.

Pictures come from the upstream's process, as they do from any server that paints; in the last row the offline
painter makes them in the proxy's own, which has one thread for all Python in it.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Literal

from PIL import Image
from rich.console import Console
from rich.table import Table

PATIENCE_S = 60
_ROOT = Path(__file__).parent.parent

ALONE = "the upstream alone"
THROUGH = "through Limner"
PICTURES = "the same, a picture in one of ten"
SKETCHES = "… painted in the proxy's process"


@dataclass(frozen=True)
class Load:
    """`rounds` times so many conversations at once, each of so many tokens."""

    conversations: int = 200
    tokens: int = 120
    tokens_per_second: int = 20
    rounds: int = 2


ONE_IN = 10
"""One reply in so many has a picture."""

_SPREAD_TOKENS = 20
_PICTURE = b"data:image/"
_PORT_ALONE = re.compile(rb"^(\d+)$")
_PORT_READY = re.compile(rb":(\d+)/v1 is ready")
_STAMP = re.compile(rb"@(\d+)")
_TAG = '<img_prompt=\\"a lighthouse at night\\">'


# --- the upstream


class Upstream(asyncio.Protocol):
    """Streams a reply to each request, as many tokens a second as it says; and paints, small and at once."""

    painted = 0

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
            if b"/images/generations " in head:
                self._paint()
            else:
                reply = self._stream(asks["tokens"], asks["tokens_per_second"], asks["tag"])
                self.task = asyncio.ensure_future(reply)

    def connection_lost(self, _: Exception | None) -> None:
        if self.task is not None:
            self.task.cancel()

    def _paint(self) -> None:
        Upstream.painted += 1
        file = io.BytesIO()
        # No two are equal, or the second would be stored already.
        colour = (Upstream.painted >> 8 & 255, Upstream.painted & 255, 99)
        Image.new("RGB", (64, 64), colour).save(file, "PNG")
        answer = json.dumps({"data": [{"b64_json": base64.b64encode(file.getvalue()).decode()}]}).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self.transport.write(head % len(answer) + answer)

    async def _stream(self, tokens: int, tokens_per_second: int, tag: bool) -> None:
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
            due += 1 / tokens_per_second
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
    """In milliseconds: each token's way, and the wait for each reply's first one. And the pictures seen."""

    tokens: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    pictures: int = 0


class Conversation(asyncio.Protocol):
    def __init__(self, request: bytes, delays: Delays) -> None:
        self.request = request
        self.delays = delays
        self.over = asyncio.get_running_loop().create_future()
        self.seen = 0
        self.last = b""

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
        self.delays.pictures += (self.last + data).count(_PICTURE)
        self.last = data[1 - len(_PICTURE) :]
        if b"[DONE]" in data:
            self.transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        self.over.set_result(self.seen)


def request_for(load: Load, tag: bool) -> bytes:
    asks = {"tokens": load.tokens, "tokens_per_second": load.tokens_per_second, "tag": tag}
    body = json.dumps({"stream": True, "messages": [], **asks}).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (len(body), body)
    )


async def converse(port: int, load: Load, tags: bool) -> Delays:
    delays = Delays()
    loop = asyncio.get_running_loop()

    async def one(number: int) -> int:
        # Spread over the time of some tokens, as people are; not all in the same instant.
        await asyncio.sleep(number / load.conversations * _SPREAD_TOKENS / load.tokens_per_second)
        request = request_for(load, tags and number % ONE_IN == 0)
        _, conversation = await loop.create_connection(
            lambda: Conversation(request, delays), "127.0.0.1", port
        )
        seen: int = await conversation.over
        return seen

    seen = await asyncio.gather(*(one(number) for number in range(load.conversations)))
    if set(seen) != {load.tokens}:
        sys.exit(f"some got {min(seen)} of {load.tokens} tokens; these numbers would mean nothing")
    wanted = -(-load.conversations // ONE_IN) if tags else 0
    if delays.pictures != wanted:
        sys.exit(f"{delays.pictures} of {wanted} pictures came; these numbers would mean nothing")
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
def process(
    *arguments: str, says: Literal["stdout", "stderr"], port: re.Pattern[bytes]
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process, and the port in the first line that has one, of what it says on that stream."""
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
        stdout=subprocess.PIPE if says == "stdout" else subprocess.DEVNULL,
        stderr=subprocess.PIPE if says == "stderr" else None,
        env=environment,
        cwd=_ROOT,
    ) as running:
        stream = running.stdout if says == "stdout" else running.stderr
        assert stream is not None
        try:
            found = _port_in(stream, port)
            # Who reads no further would hold up a process that has much to say.
            threading.Thread(target=stream.read, daemon=True).start()
            yield running, found
        finally:
            running.send_signal(signal.SIGINT)
            running.wait(PATIENCE_S)


def _port_in(lines: IO[bytes], port: re.Pattern[bytes]) -> int:
    said: list[bytes] = []
    for line in lines:
        found = port.search(line)
        if found:
            return int(found.group(1))
        said.append(line)
    sys.exit(f"it ended before it was ready: {b''.join(said).decode(errors='replace')}")


@dataclass
class Run:
    delays: Delays
    seconds: float
    proxy_cpu: float | None


def run_client(port: int, load: Load, tag: bool, proxy: int | None = None) -> Run:
    before, began = cpu_seconds(proxy) if proxy else None, time.monotonic()
    arguments = [str(port), json.dumps(asdict(load)), "tag" if tag else ""]
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks.proxy", "client", *arguments],
        cwd=_ROOT,
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


def bench_proxy(console: Console, load: Load = Load()) -> None:
    runs: dict[str, list[Run]] = {name: [] for name in (ALONE, THROUGH, PICTURES, SKETCHES)}
    with (
        tempfile.TemporaryDirectory() as folder,
        process("benchmarks.proxy", "upstream", says="stdout", port=_PORT_ALONE) as (_, upstream),
        _proxy(upstream, folder, "--generator", f"openai=http://127.0.0.1:{upstream}") as (served, port),
        _proxy(upstream, folder, "--generator", "sketch") as (sketching, other_port),
    ):
        for _ in range(load.rounds):
            runs[ALONE].append(run_client(upstream, load, tag=False))
            runs[THROUGH].append(run_client(port, load, tag=False, proxy=served.pid))
            runs[PICTURES].append(run_client(port, load, tag=True, proxy=served.pid))
            runs[SKETCHES].append(run_client(other_port, load, tag=True, proxy=sketching.pid))
    _show(console, load, runs)


@contextmanager
def _proxy(upstream: int, folder: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    given = ["--upstream", f"http://127.0.0.1:{upstream}", "--port", "0", "--data-dir", folder, *arguments]
    with process("limner", "serve", *given, says="stderr", port=_PORT_READY) as running:
        yield running


def _show(console: Console, load: Load, runs: dict[str, list[Run]]) -> None:
    many, often = load.conversations, load.tokens_per_second
    table = Table(
        title=f"A token's way: {many} conversations at once, {often} tokens a second each",
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
            "" if name == ALONE else f"{p50 - alone[0]:.2f} ms",
            "" if name == ALONE else f"{p99 - alone[1]:.2f} ms",
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
        "First tokens come while all conversations are opened within a second, each with a connection of\n"
        "its own to the upstream, and pictures are made. Python runs one thread at a time, and what has no\n"
        "turn waits. In the last row it has to paint, too.\n"
    )


def main() -> None:
    role, *rest = sys.argv[1:] or ["all"]
    if role == "upstream":
        try:
            asyncio.run(serve_upstream())
        except KeyboardInterrupt:
            return
    elif role == "client":
        port, load, tag = rest
        delays = asyncio.run(converse(int(port), Load(**json.loads(load)), bool(tag)))
        print(json.dumps(asdict(delays)))
    else:
        bench_proxy(Console(width=110))


if __name__ == "__main__":
    main()
