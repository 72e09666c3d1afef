"""The app behind a real server, asked over real connections: what only shows there."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from limner.adapters.web.event_stream import LOOK_MS
from limner.workflows.progress_events import Thumbnail
from tests.adapters.servers.local import PATIENCE_S
from tests.adapters.web.chat import Chat, chat
from tests.studio import tag

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """uvicorn runs on asyncio only."""
    return "asyncio"


class Host:
    """A chat at `/limner` of a server, and a client of it."""

    def __init__(self, page: Chat, server: uvicorn.Server, address: tuple[str, int]) -> None:
        self.page = page
        self.server = server
        self.address = address
        self.client = httpx.AsyncClient(
            base_url=f"http://{address[0]}:{address[1]}", trust_env=False, timeout=PATIENCE_S
        )

    async def no_streams(self) -> None:
        """Wait until nobody follows a message any more."""
        progress = self.page.studio.limner.manager.progress
        tracks = progress._tracks.values()
        while any(track.mailboxes for track in tracks) or any(progress._expected.values()):
            for _ in range(100):
                await anyio.lowlevel.checkpoint()
            gc.collect()


@asynccontextmanager
async def host(folder: Path, *, hold: bool = False) -> AsyncIterator[Host]:
    """The server runs in the test's own event loop, and without a time limit on its end."""
    with anyio.fail_after(PATIENCE_S):
        async with chat(folder=folder, hold=hold) as page, anyio.create_task_group() as tasks:
            app = Starlette(routes=[Mount("/limner", page.studio.limner.asgi())])
            listening = socket.create_server(("127.0.0.1", 0))  # the server closes it
            config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none")
            server = uvicorn.Server(config)
            tasks.start_soon(server.serve, [listening])
            running = Host(page, server, listening.getsockname())
            async with running.client:
                yield running
                server.should_exit = True
                await stopped(running)


async def stopped(running: Host) -> None:
    """Ring the alarm, as time passes, until the server has no connection with an answer under way."""
    while running.server.server_state.tasks:
        running.page.studio.clock.tick(LOOK_MS)
        running.page.studio.limner.alarm.ring()
        await anyio.lowlevel.checkpoint()


async def read_until(lines: AsyncIterator[str], name: str) -> dict[str, object]:
    """The data of the next event of that name."""
    async for line in lines:
        if line == f"event: {name}":
            data = await anext(lines)
            found: dict[str, object] = json.loads(data.removeprefix("data: "))
            return found
    raise AssertionError(f"the stream ended before {name}")


async def test_a_reply_is_followed_from_its_first_word_to_the_pictures_in_it(tmp_path):
    async with host(tmp_path, hold=True) as running:
        page, client = running.page, running.client
        async with client.stream("GET", "/limner/events?message=fox&text=1") as stream:
            assert stream.status_code == 200
            assert stream.headers["content-type"].startswith("text/event-stream")
            lines = stream.aiter_lines()
            assert await anext(lines) == "retry: 2000"
            await page.studio.limner.observe("fox", "Look: ")
            assert (await read_until(lines, "text"))["text"] == "Look: "
            await page.studio.limner.observe("fox", f"Look: {tag('a fox')}")
            prompt = await read_until(lines, "prompt")
            page.studio.limner.manager.progress.report(
                "fox", str(prompt["prompt_id"]), thumbnail=Thumbnail(b"rough", "image/webp")
            )
            while prompt["preview"] is None:
                prompt = await read_until(lines, "prompt")
            preview = await client.get(f"/limner/{prompt['preview']}")
            assert (preview.content, preview.headers["content-type"]) == (b"rough", "image/webp")
            await page.studio.limner.seal("fox")
            page.studio.painter.release_all()
            ended = await read_until(lines, "ended")
            assert ended["state"] == "done"
        [url] = await page.studio.urls("fox")
        image = await client.get(url)
        assert image.status_code == 200
        part = await client.get(url, headers={"range": "bytes=1-3"})
        assert (part.status_code, part.content) == (206, b"PNG")
        assert part.headers["content-range"] == f"bytes 1-3/{len(image.content)}"
        again = await client.get(url, headers={"if-none-match": image.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        beyond = await client.get(url, headers={"range": "bytes=9999-"})
        assert beyond.status_code == 416
        head = await client.head(url)
        assert head.headers["content-length"] == str(len(image.content))
        clicked = await client.post(
            "/limner/regenerate",
            json={"message": "fox", "image": url},
            headers={"limner-token": page.studio.limner.message_token("fox")},
        )
        assert clicked.status_code == 202
        assert (await client.post("/limner/cancel", json={"message": "fox"})).status_code == 403
        await running.no_streams()


async def test_a_reader_who_hangs_up_is_forgotten(tmp_path):
    async with host(tmp_path) as running:
        for way in ("close", "reset"):
            reader, writer = await asyncio.open_connection(*running.address)
            writer.write(b"GET /limner/events?message=fox HTTP/1.1\r\nhost: chat.test\r\n\r\n")
            assert b"200" in await reader.readline()
            assert await reader.readuntil(b"retry: 2000\n\n")
            if way == "close":
                writer.close()
            else:
                writer.transport.abort()
            await running.no_streams()


async def test_for_a_reader_who_takes_nothing_off_the_wire_nothing_piles_up(tmp_path):
    async with host(tmp_path, hold=True) as running:
        page = running.page
        await page.start("a fox " * 4_000)
        [prompt] = page.studio.limner.progress("fox")
        progress = page.studio.limner.manager.progress
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(connection, running.address)
            ask = b"GET /limner/events?message=fox HTTP/1.1\r\nhost: chat.test\r\n\r\n"
            await loop.sock_sendall(connection, ask)
            while not progress._tracks["fox"].mailboxes:
                await anyio.lowlevel.checkpoint()
            for step in range(500):
                progress.report("fox", prompt.prompt_id, fraction=step / 500)
                for _ in range(10):
                    await anyio.lowlevel.checkpoint()
            assert [len(mailbox.pending) for mailbox in progress._tracks["fox"].mailboxes] == [1]
            buffered = [
                connected.transport.get_write_buffer_size()
                for connected in running.server.server_state.connections
            ]
            assert 0 < buffered[0] < 200_000
        await running.no_streams()
        await page.finish()


async def test_a_server_that_stops_does_not_wait_for_open_streams(tmp_path):
    async with host(tmp_path) as running:
        async with running.client.stream("GET", "/limner/events?message=fox") as stream:
            lines = stream.aiter_lines()
            await anext(lines)
            running.server.should_exit = True
            await stopped(running)
            assert [line async for line in lines] == [""]
        await running.no_streams()


@pytest.mark.parametrize(
    "target",
    [
        "/limner/images/../../secret.png",
        "/limner/images/..%2f..%2fsecret.png",
        "/limner/images/%2e%2e/secret.png",
        "/limner/images/....//secret.png",
        "/limner/images//etc/passwd",
        "/limner/images/%00",
        "/limner/images/" + "f" * 64 + ".png%00",
        "/limner/images/%c0%ae%c0%ae%c0%afsecret.png",
        "/limner/images/" + "f" * 20_000,
    ],
    ids=lambda target: target[:50],
)
async def test_no_path_that_a_client_writes_itself_leads_out(tmp_path, target):
    (tmp_path / "secret.png").write_bytes(b"secret")
    async with host(tmp_path / "images") as running:
        reader, writer = await asyncio.open_connection(*running.address)
        writer.write(f"GET {target} HTTP/1.1\r\nhost: chat.test\r\nconnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert b"secret" not in answer


async def test_a_body_without_end_is_cut_off(tmp_path):
    async with host(tmp_path) as running:
        reader, writer = await asyncio.open_connection(*running.address)
        writer.write(
            b"POST /limner/cancel HTTP/1.1\r\nhost: chat.test\r\ncontent-type: application/json\r\n"
            b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        )
        with_size = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
        for _ in range(6):
            writer.write(with_size)
        await writer.drain()
        assert b"413" in await reader.readline()
        writer.close()
