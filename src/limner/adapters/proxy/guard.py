"""Who may ask a proxy that listens to this machine only: nobody who came by another site's page.

Such a proxy has no password; that it answers to this machine alone is what protects it, its upstream's
credentials and the painter's money. A browser on this machine runs pages of others, so two things are looked
at: a page of another name that points here (DNS rebinding) has that name as its host, and a page of another
site may send without being asked only what is no JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

OWN_NAMES = ("127.0.0.1", "localhost", "[::1]", "host.docker.internal")


class OwnHostsOnly:
    """Refuses requests that name another host, with 421, and posts of other sites that are no JSON, with 403.

    `hosts` are names without a port, besides those of this machine.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._hosts = {name.casefold() for name in (*OWN_NAMES, *hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = _without_port(headers.get("host", ""))
        if host not in self._hosts:
            told = f"this proxy is not known as {host[:100]!r}; name it with --public-url or --allow-host"
            return _refused(421, "wrong_host", told)
        # JSON is sent by a page only after the browser has asked, and that question goes to the upstream.
        is_json = headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
        site = headers.get("sec-fetch-site")
        if site in ("cross-site", "same-site") and scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            told = "a page of another site may send JSON only"
            return None if is_json else _refused(403, "cross_site", told)
        return None


def _without_port(host: str) -> str:
    name, _, port = host.casefold().rpartition(":")
    # An IPv6 address without a port ends in a bracket.
    return name if name and port.isdecimal() else host.casefold()


def _refused(status: int, code: str, message: str) -> Response:
    error = {"error": {"message": message, "type": "invalid_request_error", "code": code}}
    return Response(json.dumps(error), status, media_type="application/json")
