"""What somebody sees who opens the proxy's address in a browser: that it runs, and what to type where."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib.resources import files
from string import Template

from starlette.requests import Request
from starlette.responses import HTMLResponse

_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


class Page:
    """The page. `about` is what it says of the proxy, line by line: what is meant, and what it is."""

    def __init__(self, about: Mapping[str, str], public_url: str | None) -> None:
        self._template = Template((files("limner.adapters.proxy") / "page.html").read_text(encoding="utf-8"))
        self._rows = "\n".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in about.items()
        )
        self._public_url = public_url

    async def answer(self, request: Request) -> HTMLResponse:
        """The page, with the address by which it was asked for."""
        base = self._public_url or str(request.base_url)
        address = escape(f"{base.rstrip('/')}/v1")
        return HTMLResponse(self._template.substitute(address=address, rows=self._rows), headers=_HEADERS)
