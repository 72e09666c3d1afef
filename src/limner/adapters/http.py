"""HTTP for the adapters: bounded, with typed errors, and without a word about keys.

This is the only module that imports an HTTP client library. (Websockets begin as HTTP, so they are made here;
what is said over them is `limner.adapters.websocket`'s.)
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpcore
import httpx

from limner.adapters.http_answer import Answer
from limner.adapters.http_errors import error_from_answer, reason_of
from limner.adapters.http_parts import (
    Fetched,
    InOnePiece,
    address_fault,
    basic_authorization,
    checked_headers,
    pages_pass,
    parse_json,
    time_limit,
)
from limner.adapters.redaction import Secrets, shown_address
from limner.adapters.websocket import WebSocket, is_accepted, upgrade_headers
from limner.errors import AuthFailed, BackendError, InvalidSetting, Unavailable

MIB = 1024 * 1024
# An image of 32 MiB in base64, and the JSON around it.
MAX_ANSWER_BYTES = 48 * MIB
_MAX_ERROR_BYTES = 64 * 1024

# A proxy from the environment is meant for the world outside, not for a server on this machine.
_DIRECT: Mapping[str, None] = {"all://127.0.0.1": None, "all://localhost": None, "all://[::1]": None}


class HttpClient:
    """A client for one server.

    `base_url` is http or https; a user and password in it are used and then kept out of sight.
    `headers` go with each request to that server; what stands in them and in `secrets` is taken out of
    addresses and of the server's own words before they are shown. `max_bytes` bounds an answer,
    `connect_timeout_ms` the making of a connection, `read_timeout_ms` the wait for the next bytes,
    `timeout_ms` one whole request from the first byte sent to the last one read (None: no bound); a stream
    of events has no such bound. A call that is `unbounded` has neither of the latter two: it is the one that
    paints, and how long an image may take is the session's business. `without_key` is what to say where the
    server wants a key, a user or a password and none is sent.

    Every method raises a `limner.errors.BackendError`: `Unavailable` where the server cannot be reached
    or the connection breaks, `AnswerTooLarge`, or what the answer's status says (see `http_errors`).
    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        secrets: Iterable[str] = (),
        max_bytes: int = MAX_ANSWER_BYTES,
        connect_timeout_ms: int = 10_000,
        read_timeout_ms: int | None = 300_000,
        timeout_ms: int | None = 600_000,
        without_key: str = "",
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        sent = checked_headers(headers or {})
        secrets = tuple(secrets)
        url = _checked(base_url, Secrets(others=secrets))
        if auth is None and url.userinfo:
            auth = (url.username, url.password)
        self._secrets = Secrets(headers, auth, secrets)
        # The path ends in "/", so that joining a relative path keeps all of it.
        self._base_url = str(url.copy_with(userinfo=b"", query=None, fragment=None)).rstrip("/") + "/"
        self.address = self._where(httpx.URL(self._base_url))
        """The server's address, fit for a message. It ends in a slash."""
        self._headers = sent
        self._auth = httpx.BasicAuth(*auth) if auth else None
        self._max_bytes = max_bytes
        self._timeout_ms = timeout_ms
        self._without_key = without_key
        self._connect_timeout_ms = connect_timeout_ms
        self._client = httpx.AsyncClient(
            # Compressed answers could be small on the wire and endless in memory; none are asked for.
            headers={"accept-encoding": "identity", "user-agent": "limner"},
            timeout=self._timeouts(read_timeout_ms),
            # How many requests run at once is decided by the workflows' one global limit, not here.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=8),
            transport=transport,
            mounts=dict(_DIRECT) if transport is None else None,
        )

    def __repr__(self) -> str:
        """The address only: headers and credentials stay out."""
        return f"HttpClient({self.address!r})"

    async def get_json(self, path: str, *, max_bytes: int | None = None) -> object:
        """GET `path` and parse the answer as JSON."""
        with pages_pass():
            return await self._json("GET", path, None, max_bytes)

    async def post_json(
        self, path: str, body: Mapping[str, Any], *, max_bytes: int | None = None, unbounded: bool = False
    ) -> object:
        """POST `body` as JSON to `path` and parse the answer as JSON."""
        return await self._json("POST", path, body, max_bytes, unbounded=unbounded)

    async def post(self, path: str, body: Mapping[str, Any]) -> None:
        """POST `body` as JSON to `path`. Only the status of the answer counts, its body is not read."""
        await self._heard("POST", path, body)

    async def get_bytes(self, url: str, *, max_bytes: int | None = None) -> bytes:
        """GET a file at `url`, absolute or relative to the server, following up to 5 redirects.

        The headers and credentials of this client go along to its own server only.
        """
        file = self._url(url)
        with time_limit(self._where(file), self._timeout_ms):
            async with self._open_file(file) as answer:
                return await answer.read(max_bytes or self._max_bytes)

    async def fetch(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        max_bytes: int | None = None,
        shown: str = "",
        unbounded: bool = False,
    ) -> Fetched:
        """Ask for `path` and read whatever comes; only a GET follows redirects, up to 5.

        `body` goes along as JSON unless it is None. `shown` stands for the address in messages and in the
        client library's log, for one that says too much; it may be relative to the server.
        """
        url = self._url(path)
        where = self._where(url)
        if shown:
            where = shown if "://" in shown else f"{self.address}{shown}"
        with time_limit(where, None if unbounded else self._timeout_ms):
            opened = (
                self._open_file(url, where, unbounded=unbounded)
                if method == "GET" and body is None
                else self._open(method, url, body, where=where, unbounded=unbounded)
            )
            async with opened as answer:
                data = await answer.read(max_bytes or self._max_bytes)
                return Fetched(answer.where, answer.media_type, data)

    async def json_in(self, answer: Fetched) -> object:
        """The answer's body as JSON. Raises `BackendError` where it is none."""
        try:
            return await parse_json(answer.where, answer.data)
        except BackendError as error:
            raise error.in_words(self.without_secrets(str(error))) from error.__cause__

    async def delete(self, path: str) -> None:
        """DELETE `path`; what the server has to say about it is not read."""
        await self._heard("DELETE", path, None)

    def without_secrets(self, words: str) -> str:
        """`words` with the keys of this client taken out."""
        return self._secrets.taken_out_of(words)

    @asynccontextmanager
    async def stream(
        self, path: str, body: Mapping[str, Any], *, unbounded: bool = False
    ) -> AsyncIterator[Answer]:
        """POST `body` as JSON and hand out the answer before its body has come."""
        async with self._open("POST", self._url(path), body, unbounded=unbounded) as answer:
            yield answer

    @asynccontextmanager
    async def websocket(self, path: str, *, max_message_bytes: int) -> AsyncIterator[WebSocket]:
        """Open a websocket at `path`, with this client's headers and credentials.

        Raises as every method does where the server refuses, `BackendError` where it answers but knows no
        websockets. Making the connection is bounded by the client's timeouts for connecting and reading.
        """
        asked = upgrade_headers()
        async with self._open("GET", self._url(path), None, upgrade=asked) as answer:
            if not is_accepted(asked, answer.accept_header):
                raise BackendError(f"{answer.where} answered, but not as a websocket")
            socket = WebSocket(_Upgraded(answer), answer.where, max_message_bytes=max_message_bytes)
            try:
                yield socket
            finally:
                await socket.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _heard(self, method: str, path: str, body: object) -> None:
        url = self._url(path)
        with time_limit(self._where(url), self._timeout_ms):
            async with self._open(method, url, body):
                pass

    async def _json(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        max_bytes: int | None,
        *,
        unbounded: bool = False,
    ) -> object:
        url = self._url(path)
        with time_limit(self._where(url), None if unbounded else self._timeout_ms):
            async with self._open(method, url, body, unbounded=unbounded) as answer:
                return await answer.json(max_bytes or self._max_bytes)

    @asynccontextmanager
    async def _open_file(
        self, url: httpx.URL, where: str = "", *, unbounded: bool = False
    ) -> AsyncIterator[Answer]:
        for _ in range(5):
            opened = self._open("GET", url, None, follow=True, where=where, unbounded=unbounded)
            async with opened as answer:
                if answer.redirect is None:
                    yield answer
                    return
                url = url.join(answer.redirect)
        raise BackendError(f"{where or self._where(url)} redirects in circles")

    @asynccontextmanager
    async def _open(
        self,
        method: str,
        url: httpx.URL,
        body: object,
        *,
        follow: bool = False,
        where: str = "",
        upgrade: Mapping[str, str] | None = None,
        unbounded: bool = False,
    ) -> AsyncIterator[Answer]:
        where = where or self._where(url)
        if fault := address_fault(url.scheme, url.host, url.port):
            raise BackendError(f"will not fetch {where}: {fault}")
        ours = _origin(url) == _origin(httpx.URL(self._base_url))
        # A lone surrogate is no character and cannot be sent; it becomes a question mark.
        content = b"" if body is None else json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        headers = dict(self._headers) if ours else {}
        headers |= upgrade or {}
        if body is not None:
            headers["content-type"] = "application/json"
        request = self._client.build_request(
            method,
            url,
            headers=headers,
            content=content or None,
            timeout=self._timeouts(None) if unbounded else httpx.USE_CLIENT_DEFAULT,
        )
        request.stream = _Body(InOnePiece(content))
        request.url = _Logged(request.url, where)
        with _translated(where):
            response = await self._client.send(request, stream=True, auth=self._auth if ours else None)
        answer = Answer(response, where, _translated, self.json_in)
        async with aclosing(answer):
            if follow and response.has_redirect_location:
                answer.redirect = response.headers["location"]
            elif not response.is_success and (upgrade is None or response.status_code != 101):
                # Many servers close a connection on which they refused an upgrade. Left unread it is closed
                # here as well, and not taken for the next request.
                raise await self._refusal(answer, response, ours=ours, is_file=follow)
            yield answer

    async def _refusal(
        self, answer: Answer, response: httpx.Response, *, ours: bool, is_file: bool
    ) -> BackendError:
        upgrades = "upgrade" in response.request.headers
        beginning = await answer.beginning(0 if upgrades else _MAX_ERROR_BYTES)
        base = "" if is_file or upgrades else self.address
        error = error_from_answer(answer.where, response.status_code, response.headers, beginning, base=base)
        wants_key = ours and self._auth is None and self._without_key and isinstance(error, AuthFailed)
        words = f"{error} ({self._without_key})" if wants_key else str(error)
        return error.in_words(self.without_secrets(words))

    def _timeouts(self, read_timeout_ms: int | None) -> httpx.Timeout:
        silence_s = None if read_timeout_ms is None else read_timeout_ms / 1000
        return httpx.Timeout(silence_s, connect=self._connect_timeout_ms / 1000, pool=None)

    def _url(self, path: str) -> httpx.URL:
        try:
            return httpx.URL(self._base_url).join(path)
        except (httpx.InvalidURL, ValueError, UnicodeError) as error:
            # Not with the library's error below it, which may show the address.
            told = self.without_secrets(f"cannot use the address {path[:200]!r}: {error}")
            raise BackendError(told) from None

    def _where(self, url: httpx.URL) -> str:
        """An address for a message: no user, no password, no query, and no key in its path."""
        bare = str(url.copy_with(scheme="", userinfo=b"", query=None, fragment=None))
        # The scheme stays, whatever is secret: the client library takes what is logged for an address.
        where = f"{url.scheme}:{self.without_secrets(bare)}" if url.scheme else self.without_secrets(bare)
        return where if len(where) <= 200 else f"{where[:199]}…"


class Relay:
    """Passes requests on to one server as they are, and its answers back, whatever their status.

    Nothing is added, followed, decoded, or kept for the next request: no cookies. A user and password in
    `base_url` go with requests that bring no authorisation. The timeouts are those of `HttpClient`.
    """

    def __init__(
        self, base_url: str, *, connect_timeout_ms: int = 10_000, read_timeout_ms: int = 600_000
    ) -> None:
        url = _checked(base_url, Secrets())
        self.base_url = str(url.copy_with(userinfo=b"", query=None, fragment=None)).rstrip("/")
        self._authorization = basic_authorization(url.userinfo)
        seconds = httpx.Timeout(read_timeout_ms / 1000, connect=connect_timeout_ms / 1000, pool=None)
        self._extensions = {"timeout": seconds.as_dict()}
        self._client = httpx.AsyncClient(
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32),
            mounts=dict(_DIRECT),
        )

    @asynccontextmanager
    async def send(
        self, method: str, target: str, headers: Sequence[tuple[bytes, bytes]], body: AsyncIterator[bytes]
    ) -> AsyncIterator[Answer]:
        """Send a request for `target`, what comes behind `base_url`, and hand out the answer.

        `headers` go as they are, with the server's own `host`. Raises `Unavailable` where the server cannot
        be reached or the connection breaks.
        """
        path, _, query = target.partition("?")
        where = f"{self.base_url}{path}"[:200]
        url = httpx.URL(f"{self.base_url}{path}", query=query.encode("ascii") if query else None)
        if self._authorization and not any(name == b"authorization" for name, _ in headers):
            headers = [*headers, (b"authorization", self._authorization)]
        request = httpx.Request(
            method,
            _Logged(url, where),
            headers=[(b"host", url.netloc), *headers],
            stream=_Body(body),
            extensions=self._extensions.copy(),
        )
        with _translated(where):
            response = await self._client.send(request, stream=True)
        async with aclosing(Answer(response, where, _translated, raw=True)) as answer:
            yield answer

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()


class _Upgraded:
    """The connection under an answer of 101, as `limner.adapters.websocket` wants it."""

    def __init__(self, answer: Answer) -> None:
        self._stream: httpcore.AsyncNetworkStream = answer.response.extensions["network_stream"]
        self._where = answer.where

    async def read(self, max_bytes: int, timeout_s: float) -> bytes | None:
        try:
            return await self._stream.read(max_bytes, timeout=timeout_s)
        except httpcore.ReadTimeout:
            return None
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise Unavailable(f"{self._where} cut the websocket: {reason_of(error)}") from error

    async def write(self, data: bytes, timeout_s: float) -> None:
        try:
            await self._stream.write(data, timeout=timeout_s)
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            raise Unavailable(f"{self._where} cut the websocket: {reason_of(error)}") from error


class _Body(httpx.AsyncByteStream):
    """The body of a request.

    The library's own is a generator, which a request that is cancelled while it is sent leaves to the
    garbage collector; trio warns about that.
    """

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces


class _Logged(httpx.URL):
    """An address as the client library writes it into its log: as it is shown in messages."""

    def __init__(self, url: httpx.URL, shown: str) -> None:
        super().__init__(url)
        self._shown = shown

    def __str__(self) -> str:
        return self._shown


@contextmanager
def _translated(where: str, status: int | None = None) -> Iterator[None]:
    """Turn the client library's errors into ours, one line each. `status`: that of an answer begun."""
    try:
        yield
    except httpx.ConnectTimeout as error:
        raise Unavailable(f"cannot reach {where}: no connection in time") from error
    except httpx.TimeoutException as error:
        raise Unavailable(f"{where} fell silent", status=status) from error
    except httpx.ConnectError as error:
        raise Unavailable(f"cannot reach {where}: {reason_of(error)}") from error
    except httpx.TransportError as error:
        raise Unavailable(f"{where} cut the connection: {reason_of(error)}", status=status) from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise BackendError(f"{where}: {reason_of(error)}", status=status) from error


def _checked(base_url: str, secrets: Secrets) -> httpx.URL:
    address = base_url.strip()
    # What is no address may be a key that was put into its place.
    shown = f": {secrets.taken_out_of(shown_address(address))!r}" if "://" in address else ""
    try:
        url = httpx.URL(address)
    except (httpx.InvalidURL, ValueError, UnicodeError):
        # Not with the library's reason: it quotes what it takes for the port, which may be a password.
        raise InvalidSetting(f"not a usable address{shown}") from None
    if fault := address_fault(url.scheme, "" if any(map(str.isspace, address)) else url.host, url.port):
        raise InvalidSetting(f"{fault}{shown or ' (it has no http:// before it)'}")
    return url


def took_the_connection(error: BackendError) -> bool:
    """Whether this error says that somebody took the connection, and cut it or fell silent."""
    nobody = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)
    return isinstance(error.__cause__, httpx.TransportError) and not isinstance(error.__cause__, nobody)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)
