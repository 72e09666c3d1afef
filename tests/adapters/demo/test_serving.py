"""Where the page is served, and what is opened to show it."""

from __future__ import annotations

import asyncio
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from limner.adapters.demo.serving import listening_socket, open_browser
from limner.errors import InvalidSetting


def test_two_demos_at_once_have_ports_of_their_own_on_this_machine_alone():
    with listening_socket(None) as first, listening_socket(None) as second:
        assert first.getsockname()[0] == second.getsockname()[0] == "127.0.0.1"
        assert first.getsockname()[1] != second.getsockname()[1]


def test_a_port_that_was_asked_for_is_that_one_or_none():
    with listening_socket(0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InvalidSetting, match=f"cannot listen at port {port}: "):
            listening_socket(port)
    with listening_socket(port) as free:
        assert free.getsockname()[1] == port


def test_without_a_screen_no_text_browser_takes_the_terminal(monkeypatch):
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("webbrowser.open", lambda _: pytest.fail("something was opened"))
    assert open_browser("http://127.0.0.1:1/") is False


@pytest.mark.parametrize("name", ["DISPLAY", "WAYLAND_DISPLAY", "BROWSER"])
def test_with_a_screen_or_a_browser_of_choice_the_address_is_opened(monkeypatch, name):
    opened: list[str] = []

    def show(address: str) -> bool:
        opened.append(address)
        return True

    monkeypatch.setenv(name, "something")
    monkeypatch.setattr("webbrowser.open", show)
    assert open_browser("http://127.0.0.1:1/") is True
    assert opened == ["http://127.0.0.1:1/"]


def test_an_answers_body_does_not_wait_until_its_headers_were_acknowledged():
    async def no_delay_of_what_is_accepted() -> int:
        connected: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = writer.get_extra_info("socket")
            connected.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with listening_socket(0) as listening:
            async with await asyncio.start_server(accepted, sock=listening):
                _, writer = await asyncio.open_connection(*listening.getsockname())
                no_delay = await connected
                writer.close()
                await writer.wait_closed()
        return no_delay

    # In a thread of its own: in this one a browser's tests may have a loop that goes on.
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(asyncio.run, no_delay_of_what_is_accepted()).result()
