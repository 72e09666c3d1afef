"""Who may do what: the host's own word, or the message's token; and no click from another site.

Two questions that have nothing to do with each other. *May this person do that?* is the host's to answer.
*Did this person mean to?* is answered here: a page of another site can make a browser send a request, with
all the cookies that go with it, but it cannot make it lie about where the request came from.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Literal, Protocol
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request

from limner.adapters.web.problems import RequestRefused
from limner.errors import InvalidSetting

Action = Literal["images", "read", "regenerate", "retry", "cancel"]
"""What somebody wants: `images` and `read` change nothing, the others do."""

Authorise = Callable[[Request, Action, str | None], bool | Awaitable[bool]]
"""The host's word on a request: what is wanted, and of which message (None: of none in particular)."""

TOKEN_HEADER = "limner-token"  # noqa: S105 - the name of the header, no token

_ORIGIN = re.compile(r"https?://[^\s/?#@\\*]+")
_DEFAULT_PORT = {"http": ":80", "https": ":443"}


class KnowsTokens(Protocol):
    """What can tell whether a token is a message's."""

    def is_message_token(self, message_id: str, token: str) -> bool:
        """Whether `token` is the message's, compared in constant time."""


class MessageToken:
    """The rule without a word of the host's: reading is open, a change takes the message's token.

    The token is looked for in the header `Limner-Token`, which no other site's page can send along. To be
    called by an `authorise` of the host's that adds to it.
    """

    def __init__(self, limner: KnowsTokens) -> None:
        self._limner = limner

    def __call__(self, request: Request, action: Action, message_id: str | None) -> bool:
        """Whether the request may do that."""
        if action in {"images", "read"}:
            return True
        given = request.headers.get(TOKEN_HEADER)
        return (
            bool(given) and message_id is not None and self._limner.is_message_token(message_id, given or "")
        )


class Access:
    """Lets a request through or raises `RequestRefused`."""

    def __init__(self, authorise: Authorise, allowed_origins: frozenset[str]) -> None:
        self._authorise = authorise
        self._allowed_origins = allowed_origins

    @property
    def is_open(self) -> bool:
        """Whether everybody may read everything."""
        return type(self._authorise) is MessageToken

    async def check(self, request: Request, action: Action, message_id: str | None = None) -> None:
        """Ask the host's word. What it raises goes through."""
        answer = self._authorise(request, action, message_id)
        if inspect.isawaitable(answer):
            answer = await answer
        if not answer:
            raise RequestRefused(
                403,
                "refused",
                f"not allowed: {action}",
                "Send the message's token in the header Limner-Token."
                if self.is_open
                else "Ask whoever runs this server.",
            )

    def check_site(self, request: Request) -> None:
        """Refuse what a page of another site makes a browser send."""
        if is_cross_site(request.headers, self._allowed_origins):
            raise RequestRefused(
                403,
                "cross_site",
                "a page of another site may not do this",
                "Name the page's origin in allowed_origins.",
            )


def is_cross_site(headers: Headers, allowed_origins: frozenset[str]) -> bool:
    """Whether a browser says that a page of another origin sends this.

    `Sec-Fetch-Site` is what the browser itself found out, so it counts first. Without it (older browsers, and
    addresses that are neither https nor local) `Origin` has to be this server's name. Without both it is no
    browser that sends.
    """
    origin = headers.get("origin")
    if origin is not None and origin in allowed_origins:
        return False
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in {"same-origin", "none"}
    return origin is not None and not _is_at(origin, headers.get("host", ""))


def _is_at(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    port = _DEFAULT_PORT.get(parts.scheme)
    if port is None or not parts.netloc:
        return False
    return parts.netloc.lower().removesuffix(port) == host.lower().removesuffix(port)


def origins_from(given: Iterable[str]) -> frozenset[str]:
    """The origins whose pages may do everything. Raises `InvalidSetting`."""
    if isinstance(given, str):
        raise InvalidSetting(f"allowed_origins must be a list of origins, not the text {given!r:.60}")
    origins = frozenset(given)
    checked: frozenset[object] = origins
    for origin in checked:
        if not isinstance(origin, str) or _ORIGIN.fullmatch(origin) is None or origin != origin.lower():
            raise InvalidSetting(
                f"allowed_origins: {origin!r:.60} is no origin such as 'https://chat.example' or "
                "'http://localhost:3000' (in small letters, without a path; every one has to be named)"
            )
    return origins
