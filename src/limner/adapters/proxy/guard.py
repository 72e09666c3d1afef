"""Who may ask a proxy: nobody who came by another site's page.

The proxy has no password. That it answers only to who can reach it is what protects it, its upstream's
credentials and the painter's money; but a browser that can reach it runs pages of others. So two things are
looked at: a page of another name that points here (DNS rebinding) has that name as its host, and a page of
another site may send without being asked only what is no JSON.

Where only this machine can reach the proxy, all names that it is known by are known. Where others can, their
names for it are theirs to choose; then only those are refused that a stranger can have registered and point
here: no address, no name of one word, and none below a domain that is not given away.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from limner.adapters.web.access import is_cross_site

OWN_NAMES = ("127.0.0.1", "localhost", "[::1]", "host.docker.internal")

PRIVATE_DOMAINS = ("localhost", "test", "local", "home.arpa", "internal", "home", "corp", "lan")
"""Where nobody can register a name.

`localhost` and `test`: RFC 6761; `local`: RFC 6762; `home.arpa`: RFC 8375; `internal`: reserved by ICANN for
private use (2024); `home`, `corp`: refused by ICANN since so many networks use them (2018); `lan`: no such
domain exists, and RFC 6762, appendix G, names it among those that networks use.
"""

_HOST = re.compile(r"(?:\[([^\[\]]+)\]|([^\[\]:]*))(?::[0-9]*)?")


class Guard:
    """Refuses what comes by a name that only points here (421) and other sites' posts without JSON (403).

    `hosts` are names that it is known by besides those of this machine. `is_open` says that other machines
    reach it, too, and may call it by any name that is no stranger's.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = (), *, is_open: bool = False) -> None:
        self._app = app
        self._hosts = {_name_of(host) for host in (*OWN_NAMES, *hosts)}
        self._is_open = is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        name = _name_of(host)
        if name not in self._hosts and not (self._is_open and _cannot_be_a_strangers(name)):
            told = f"this proxy is not known as {host[:100]!r}; name it with --public-url or --allow-host"
            return _refused(421, "wrong_host", told)
        # JSON is sent by a page only after the browser has asked, and that question goes to the upstream.
        is_json = headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
        if is_json or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return None
        if is_cross_site(headers, frozenset()):
            return _refused(403, "cross_site", "a page of another site may send JSON only")
        return None


def _name_of(host: str) -> str:
    """A host as it is compared: in small letters, without a port, brackets, and the dot at the end."""
    host = host.casefold()
    parts = _HOST.fullmatch(host)
    name: str = host if parts is None else parts[1] or parts[2] or ""
    return name.removesuffix(".")


def _cannot_be_a_strangers(name: str) -> bool:
    if "." not in name or name.endswith(tuple(f".{domain}" for domain in PRIVATE_DOMAINS)):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _refused(status: int, code: str, message: str) -> Response:
    error = {"error": {"message": message, "type": "invalid_request_error", "code": code}}
    return Response(json.dumps(error), status, media_type="application/json")
