"""What all servers that speak OpenAI's protocol share: the address, the key, the shape of an error."""

from __future__ import annotations

import re

from limner.adapters.http import HttpClient
from limner.errors import InvalidSetting

_VERSION = re.compile(r"/v\d+[a-z0-9]*(?:/|$)")
_ENDPOINT = re.compile(r"/(?:images/generations|chat/completions|models)/?$")


def openai_client(base_url: str, api_key: str | None) -> HttpClient:
    """A client for the server at `base_url`, with `api_key` as its bearer token where there is one."""
    key = (api_key or "").strip()
    return HttpClient(
        openai_base_url(base_url),
        headers={"authorization": f"Bearer {key}"} if key else {},
        without_key="" if key else "no key was sent: api_key, or LIMNER_OPENAI_KEY in the environment",
    )


def openai_base_url(base_url: str) -> str:
    """The address up to and with the version, however much of it was given.

    People paste `http://localhost:11434`, `https://api.openai.com/v1` or the whole address of an
    endpoint. Without a version in its path (`/v1`, `/v1beta`, `/v4` …) an address gets `/v1`.
    """
    address = base_url.strip()
    if not address:
        raise InvalidSetting("the address of the OpenAI-compatible server is empty")
    address = _ENDPOINT.sub("", address.partition("?")[0]).rstrip("/")
    return address if _VERSION.search(address) else f"{address}/v1"
