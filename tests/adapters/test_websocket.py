"""Websockets, against peers that behave well and badly."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

import anyio
import pytest
from wsproto.utilities import generate_accept_token

from limner.adapters.http import HttpClient
from limner.adapters.websocket import WebSocket
from limner.errors import AnswerTooLarge, AuthFailed, BackendError, BadRequest, Unavailable
from tests.adapters.servers.local import RawServer, Wire, happened, head

pytestmark = pytest.mark.anyio

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def accept_of(wire: Wire) -> str:
    key = re.search(rb"(?i)sec-websocket-key: (\S+)", wire.server.heads[-1])
    assert key is not None
    return generate_accept_token(key[1]).decode()


def welcome(wire: Wire) -> bytes:
    return head(
        "101 Switching Protocols",
        upgrade="websocket",
        connection="Upgrade",
        sec_websocket_accept=accept_of(wire),
    )


def frame(kind: int, payload: bytes, *, final: bool = True) -> bytes:
    """A frame as a server sends it: without a mask."""
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + struct.pack(">H", size)
    return bytes([kind | (0x80 if final else 0)]) + length + payload


def read_frame(wire: Wire) -> tuple[int, bytes]:
    """A short frame as a client sends it: with a mask."""
    first, size = wire.receive(2)
    mask = wire.receive(4)
    payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(wire.receive(size & 0x7F)))
    return first & 0x0F, payload


async def received(script: Callable[[Wire], None], count: int = 1, limit: int = 1000) -> list[str | bytes]:
    """The first `count` messages of a websocket to a server that follows `script` after the handshake."""

    def whole(wire: Wire) -> None:
        wire.send(welcome(wire))
        script(wire)

    with RawServer(whole) as server:
        client = HttpClient(server.url)
        try:
            async with client.websocket("ws", max_message_bytes=limit) as socket:
                return [await socket.receive() for _ in range(count)]
        finally:
            await client.aclose()


async def test_texts_and_bytes_arrive_whole():
    def script(wire: Wire) -> None:
        wire.send(frame(TEXT, "ü".encode()) + frame(BINARY, b"\x00\x01") + frame(TEXT, b""))
        wire.wait_until_cut()

    assert await received(script, 3) == ["ü", b"\x00\x01", ""]


async def test_a_message_in_pieces_is_put_together_even_with_a_ping_between_them():
    text = "zwölf".encode()

    def script(wire: Wire) -> None:
        # The cut goes through the middle of the ö.
        wire.send(frame(TEXT, text[:3], final=False))
        wire.send(frame(PING, b"still there?"))
        assert read_frame(wire) == (PONG, b"still there?")
        wire.send(frame(0, text[3:4], final=False) + frame(0, text[4:]) + frame(BINARY, b"next"))
        wire.wait_until_cut()

    assert await received(script, 2) == ["zwölf", b"next"]


async def test_what_comes_in_one_packet_with_the_handshake_is_not_lost():
    def script(wire: Wire) -> None:
        wire.send(welcome(wire) + frame(TEXT, b"early"))
        wire.wait_until_cut()

    with RawServer(script) as server:
        client = HttpClient(server.url)
        async with client.websocket("ws", max_message_bytes=100) as socket:
            assert await socket.receive() == "early"
        await client.aclose()


async def test_a_pong_that_nobody_asked_for_does_no_harm():
    def script(wire: Wire) -> None:
        wire.send(frame(PONG, b"") + frame(TEXT, b"on"))
        wire.wait_until_cut()

    assert await received(script) == ["on"]


async def test_text_goes_out_and_the_end_is_told():
    heard: list[tuple[int, bytes]] = []

    def script(wire: Wire) -> None:
        wire.send(welcome(wire))
        heard.append(read_frame(wire))
        heard.append(read_frame(wire))
        wire.wait_until_cut()

    with RawServer(script) as server:
        client = HttpClient(server.url)
        async with client.websocket("ws?clientId=a%2Fb", max_message_bytes=100) as socket:
            await socket.send("grüß")
        await happened(server.was_cut)
        await client.aclose()
        assert server.heads[0].startswith(b"GET /ws?clientId=a%2Fb HTTP/1.1")
    assert heard == [(TEXT, "grüß".encode()), (CLOSE, struct.pack(">H", 1000))]


async def test_a_peer_that_closes_is_unavailable_but_only_after_its_last_message():
    def script(wire: Wire) -> None:
        wire.send(welcome(wire))
        wire.send(frame(TEXT, b"last") + frame(CLOSE, struct.pack(">H", 1012) + b"going to\nrestart"))
        wire.wait_until_cut()

    with RawServer(script) as server:
        client = HttpClient(server.url)
        async with client.websocket("ws", max_message_bytes=100) as socket:
            assert await socket.receive() == "last"
            for _ in range(2):
                with pytest.raises(Unavailable, match=r"closed the websocket \(1012\): going to restart"):
                    await socket.receive()
            with pytest.raises(Unavailable, match="closed the websocket"):
                await socket.send("too late")
        await client.aclose()


async def test_a_connection_that_ends_without_a_word_is_unavailable():
    with pytest.raises(Unavailable, match="cut the websocket"):
        await received(lambda wire: wire.send(frame(TEXT, b"half", final=False)))


async def test_a_connection_that_is_reset_is_unavailable():
    def script(wire: Wire) -> None:
        wire.send(frame(TEXT, b"half", final=False))
        wire.reset()

    with pytest.raises(Unavailable, match="cut the websocket"):
        await received(script)


async def test_frames_that_make_no_sense_end_it():
    with pytest.raises(Unavailable, match=r"closed the websocket \(1002\)"):
        await received(lambda wire: wire.send(b"\xff" * 10))


@pytest.mark.parametrize("kind", [TEXT, BINARY])
async def test_a_message_without_end_is_given_up_at_the_limit(kind):
    cut: list[int] = []

    def script(wire: Wire) -> None:
        wire.send(frame(kind, b"x" * 60_000, final=False))
        wire.send_until_cut(frame(0, b"x" * 60_000, final=False))
        cut.append(wire.server.sent)

    with pytest.raises(AnswerTooLarge, match="more than 100000 bytes"):
        await received(script, limit=100_000)
    # What went beyond the limit lay in the socket's buffers.
    assert cut[0] < 32_000_000


async def test_a_frame_that_announces_too_much_is_given_up_at_the_limit():
    def script(wire: Wire) -> None:
        wire.send(b"\x82\x7f" + struct.pack(">Q", 10 * 1024**3))
        wire.send_until_cut(b"x" * 65536)

    with pytest.raises(AnswerTooLarge):
        await received(script, limit=100_000)


async def test_many_messages_may_be_more_than_the_limit_in_all():
    def script(wire: Wire) -> None:
        wire.send(frame(BINARY, b"x" * 100) * 50)
        wire.wait_until_cut()

    assert await received(script, 50, limit=100) == [b"x" * 100] * 50


class Silent:
    """A connection on which nothing comes within any time, but what a test lets through."""

    def __init__(self, *reads: bytes | None) -> None:
        self.reads = list(reads)
        self.waited: list[float] = []
        self.sent: list[bytes] = []

    async def read(self, max_bytes: int, timeout_s: float) -> bytes | None:
        await anyio.lowlevel.checkpoint()
        self.waited.append(timeout_s)
        return self.reads.pop(0) if self.reads else None

    async def write(self, data: bytes, timeout_s: float) -> None:
        self.sent.append(data)


async def test_a_silent_peer_is_pinged_and_lives_on_if_it_answers():
    stream = Silent(None, frame(PONG, b""), None, frame(TEXT, b"done"))
    socket = WebSocket(stream, "http://host/ws", max_message_bytes=100, ping_interval_ms=7_000)
    assert await socket.receive() == "done"
    assert stream.waited == [7] * 4
    assert [data[0] & 0x0F for data in stream.sent] == [PING, PING]


async def test_a_peer_that_does_not_even_answer_a_ping_is_gone():
    stream = Silent()
    socket = WebSocket(stream, "http://host/ws", max_message_bytes=100)
    with pytest.raises(Unavailable, match="http://host/ws fell silent"):
        await socket.receive()
    assert [data[0] & 0x0F for data in stream.sent] == [PING]
    assert stream.waited == [20, 20]


async def test_waiting_for_a_message_can_be_cancelled_and_the_peer_is_told():
    heard: list[tuple[int, bytes]] = []

    def script(wire: Wire) -> None:
        wire.send(welcome(wire) + frame(TEXT, b"hello"))
        heard.append(read_frame(wire))
        wire.wait_until_cut()

    with RawServer(script) as server:
        client = HttpClient(server.url)
        with anyio.CancelScope() as scope:
            async with client.websocket("ws", max_message_bytes=100) as socket:
                await socket.receive()
                scope.cancel()
                await socket.receive()
        await client.aclose()
        await happened(server.was_cut)
    assert heard == [(CLOSE, struct.pack(">H", 1000))]


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (head("403 Forbidden", content_length="0"), AuthFailed, "answered 403"),
        (head("404 Not Found", content_length="0"), BadRequest, "answered 404"),
        (head(content_length="4") + b"page", BackendError, "answered, but not as a websocket"),
        (
            head("101 Switching Protocols", upgrade="websocket", sec_websocket_accept="bm9wZQ=="),
            BackendError,
            "answered, but not as a websocket",
        ),
    ],
)
async def test_a_server_that_refuses_is_a_typed_error(answer, kind, words):
    with RawServer(lambda wire: wire.send(answer)) as server:
        client = HttpClient(server.url)
        with pytest.raises(BackendError, match=words) as caught:
            async with client.websocket("ws", max_message_bytes=100):
                pass
        await client.aclose()
    assert type(caught.value) is kind


async def test_nobody_listening_is_unavailable():
    with RawServer(lambda wire: None) as server:
        url = server.url
    client = HttpClient(url)
    with pytest.raises(Unavailable, match="connection refused"):
        async with client.websocket("ws", max_message_bytes=100):
            pass
    await client.aclose()


async def test_a_connection_on_which_it_was_refused_is_not_used_again(web):
    web.answer_json("/x", 1)
    client = HttpClient(web.url)
    for _ in range(20):
        with pytest.raises(BadRequest, match="answered 404"):
            async with client.websocket("ws", max_message_bytes=100):
                pass
        assert await client.get_json("x") == 1
    await client.aclose()
    assert [got.path for got in web.received] == ["/ws", "/x"] * 20
    ports = [got.port for got in web.received]
    assert all(refused != after for refused, after in zip(ports[::2], ports[1::2], strict=True))


async def test_keys_go_along_and_stay_out_of_errors():
    with RawServer(lambda wire: wire.send(head("401 Unauthorized", content_length="0"))) as server:
        host = server.url.removeprefix("http://")
        client = HttpClient(f"http://user:hunter22@{host}", headers={"x-key": "sesame-open!"})
        with pytest.raises(AuthFailed, match="/ws answered 401") as caught:
            async with client.websocket("ws?token=hush-hush", max_message_bytes=100):
                pass
        await client.aclose()
        assert b"sesame-open!" in server.heads[0]
        assert b"Basic dXNlcjpodW50ZXIyMg==" in server.heads[0]
    assert "hush" not in f"{caught.value!r}"
    assert "hunter22" not in f"{caught.value!r}"
