"""Where a server of ours listens, and whether an address leads to it."""

from __future__ import annotations

import errno
import ipaddress
import socket
from urllib.parse import urlsplit

from limner.adapters.cli.errors import BadInput

BACKLOG = 2048
_DEFAULT_PORT = {"http": 80, "https": 443}

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def listener(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises `BadInput` where that cannot be had."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except socket.gaierror as error:
        raise BadInput(f"--host {host!r}: {error.strerror}") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise BadInput(f"port {port} of {host} is in use; choose another one with --port") from error
        raise BadInput(f"cannot listen on {shown(host, port)}: {error.strerror}") from error


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach who listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def shown(host: str, port: int) -> str:
    """Host and port as an address has them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def to_type(host: str) -> str:
    """A host that one can type to reach who listens there; for all addresses, this machine's own."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - nothing listens here


def leads_here(url: str, host: str, port: int) -> bool:
    """Whether an http or https address is that of who listens at `host` and `port`, as far as one can tell.

    Names are looked up, but only where the port is the same. One that cannot be looked up leads elsewhere.
    """
    parts = urlsplit(url)
    if (parts.port or _DEFAULT_PORT.get(parts.scheme)) != port:
        return False
    asked = _addresses(parts.hostname or "")
    return any(_reaches(address, own) for own in _addresses(host)[:1] for address in asked)


def _reaches(address: _Address, listening: _Address) -> bool:
    if address.is_unspecified:  # as a target this means this machine
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    if listening.is_unspecified:
        return address.version == listening.version and _is_own(address)
    return address == listening


def _addresses(name: str) -> list[_Address]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        addresses = [ipaddress.ip_address(address[0]) for *_, address in found]
    except (OSError, ValueError):
        return []
    return [getattr(address, "ipv4_mapped", None) or address for address in addresses]


def _is_own(address: _Address) -> bool:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))  # which only works for an address of this machine
        except OSError:
            return False
    return True
