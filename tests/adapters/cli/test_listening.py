"""Where a server listens, as one types it, and whether an address leads there."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from limner.adapters.cli.listening import leads_here, to_type

FOREIGN = "203.0.113.7"


NAMES = {
    "me.lan": [FOREIGN, "127.0.0.1"],
    "here.lan": ["127.0.0.1"],
    "chat.lan": [FOREIGN],
    "six.lan": ["::1"],
}


@pytest.fixture(autouse=True)
def _there_are_no_other_names(monkeypatch) -> None:
    look_up = socket.getaddrinfo

    def by_hand(name: str, *arguments: Any, **options: Any) -> list[Any]:
        numeric = {**options, "flags": socket.AI_NUMERICHOST}
        return [
            found for address in NAMES.get(name, [name]) for found in look_up(address, *arguments, **numeric)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", by_hand)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://127.0.0.1:8808/v1", "127.0.0.1"),
        ("http://127.0.0.1:8808", "0.0.0.0"),
        ("http://me.lan:8808", "127.0.0.1"),
        ("http://me.lan:8808", "0.0.0.0"),
        ("http://127.0.0.1:8808", "here.lan"),
        ("http://0.0.0.0:8808", "127.0.0.1"),
        ("http://[::ffff:127.0.0.1]:8808", "0.0.0.0"),
        (f"http://{FOREIGN}:8808", FOREIGN),
        ("http://six.lan:8808", "::1"),
    ],
)
def test_who_asks_there_asks_this_process(url: str, host: str):
    assert leads_here(url, host, 8808)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://127.0.0.1:8809", "127.0.0.1"),
        ("http://127.0.0.1:8809", "0.0.0.0"),
        ("http://127.0.0.1", "0.0.0.0"),
        (f"http://{FOREIGN}:8808", "0.0.0.0"),
        ("http://chat.lan:8808", "0.0.0.0"),
        ("http://chat.lan:8808", "127.0.0.1"),
        ("http://127.0.0.1:8808", FOREIGN),
        ("http://six.lan:8808", "0.0.0.0"),
        ("http://nobody.lan:8808", "0.0.0.0"),
        ("http://..:8808", "0.0.0.0"),
        ("http://127.0.0.1:8808", "nobody.lan"),
    ],
)
def test_who_asks_there_asks_somebody_else(url: str, host: str):
    assert not leads_here(url, host, 8808)


@pytest.mark.parametrize(("scheme", "port"), [("http", 80), ("https", 443)])
def test_an_address_without_a_port_has_that_of_its_scheme(scheme: str, port: int):
    assert leads_here(f"{scheme}://127.0.0.1", "127.0.0.1", port)
    assert not leads_here(f"{scheme}://127.0.0.1", "127.0.0.1", 8808)


def test_names_are_only_looked_up_where_the_port_is_the_same(monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("looked up")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert not leads_here("http://chat.lan:11434", "0.0.0.0", 8808)


@pytest.mark.parametrize(
    ("host", "typed"),
    [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("192.168.1.5", "192.168.1.5"), ("localhost", "localhost")],
)
def test_who_listens_everywhere_is_shown_by_an_address_that_one_can_type(host: str, typed: str):
    assert to_type(host) == typed
