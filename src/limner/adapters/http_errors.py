"""From a server's refusal to a typed error that keeps the server's own words."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import urljoin

from limner.adapters.sniffing import describe, one_line
from limner.errors import (
    AuthFailed,
    BackendError,
    BadRequest,
    JobLost,
    Moderated,
    NoBalance,
    QueueFull,
    RateLimited,
    Unavailable,
    WrongAddress,
)

_LONGEST_WORDS = 300
# OpenSSL's names for an answer that is none of TLS; which one depends on its version.
_NO_TLS = (
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "RECORD_LAYER_FAILURE",
    "PACKET_LENGTH_TOO_LONG",
    "UNKNOWN_PROTOCOL",
)
# A pause of more than a day is a mistake in a header, or as good as a refusal.
_LONGEST_PAUSE_MS = 24 * 60 * 60 * 1000

_BY_STATUS: Mapping[int, type[BackendError]] = {
    400: BadRequest,
    401: AuthFailed,
    402: NoBalance,
    403: AuthFailed,
    404: BadRequest,
    405: BadRequest,
    413: BadRequest,
    414: BadRequest,
    415: BadRequest,
    422: BadRequest,
    429: RateLimited,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}

_PASSING = (RateLimited, QueueFull, Unavailable)

# Codes that say more than the status they come with.
_BY_CODE: Mapping[str, type[BackendError]] = {
    # OpenAI and those who speak its protocol.
    "moderation_blocked": Moderated,
    "content_policy_violation": Moderated,
    "content_filter": Moderated,
    "contentfilter": Moderated,
    "insufficient_quota": NoBalance,
    "billing_hard_limit_reached": NoBalance,
    "project_spend_limit_exceeded": NoBalance,
    "insufficient_balance": NoBalance,
    "invalid_api_key": AuthFailed,
    "rate_limit_exceeded": RateLimited,
    "queue_full": QueueFull,
    # AI Horde's `rc`.
    "corruptprompt": Moderated,
    "kudosupfront": NoBalance,
    "sharedkeyempty": NoBalance,
    "sharedkeyinsufficientkudos": NoBalance,
    "toomanyprompts": QueueFull,
    "maintenancemode": Unavailable,
    "requestnotfound": JobLost,
    "requestexpired": JobLost,
    # Google's reasons.
    "api_key_invalid": AuthFailed,
    "billing_disabled": NoBalance,
    # Pollinations.
    "safety_error": Moderated,
}

# Google has one status, RESOURCE_EXHAUSTED, for a minute's limit and for an account that has run dry. A
# day's quota counts with the latter: the pause that comes with it is that of the minute's limit.
_OUT_OF_CREDIT = re.compile(
    r"credits? (?:are|is) depleted|spend(?:ing)? cap|\blimit: 0\b|enable billing|billed users", re.IGNORECASE
)
# OpenAI's image models have one type for a prompt that is refused and for a parameter that is wrong.
_OF_SAFETY = re.compile(r"safety system|moderation|content polic", re.IGNORECASE)
_NO_SUCH_PATH = re.compile(
    r"(?:40[45][ :-]*)?(?:(?:page|file|path|route|url) )?(?:not found|method not allowed)\.?$"
    r"|it is an HTML page",
    re.IGNORECASE,
)
_RETRY_IN = re.compile(r"retry in (\d+(?:\.\d+)?)(ms|s)\b")


class ServerWords(NamedTuple):
    """What a server says about an error.

    `text` is a sentence, `code` what errors are told apart by ("" if none), `pause_ms` the pause that the
    body asks for.
    """

    text: str
    code: str = ""
    pause_ms: int | None = None


def error_from_answer(
    where: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    now: datetime | None = None,
    *,
    base: str = "",
) -> BackendError:
    """The error for an answer with a status other than 2xx.

    `where` names the address, `body` is the beginning of the answer, `now` the time that a date in
    `retry-after` is compared with (default: the present). `base` is the server's address, as far as somebody
    has set it: where its API is not found below it, that is `WrongAddress`.
    """
    if 300 <= status < 400:
        there = headers.get("location", "?")
        if base:
            # What has to be set is the address without the path that was asked for.
            there = urljoin(where, there).removesuffix(where.removeprefix(base))
        kind = WrongAddress if base else BadRequest
        return kind(f"{where} has moved ({status}); use {one_line(there, 200)}", status=status)
    pause_ms = retry_after_ms(headers, now or datetime.now(UTC))
    words = words_from_body(body)
    error = typed_error(f"{where} answered {status}", words, status, pause_ms)
    if base and status in (404, 405) and type(error) is BadRequest and _says_nothing_more(words):
        return WrongAddress(str(error), status=status)
    return error


def error_from_broken_json(where: str, body: bytes, error: Exception) -> BackendError:
    """The error for an answer that was to be JSON and could not be read; `error` is the parser's."""
    seen = describe(body)
    if seen.startswith("it is an HTML page"):
        return WrongAddress(f"{where} answered without usable JSON: {seen}", status=200)
    is_cut = isinstance(error, json.JSONDecodeError) and (
        error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated")
    )
    how = "cut short" if is_cut else "broken"
    told = seen.replace("it is JSON:", f"it is JSON that is {how}:", 1)
    return BackendError(f"{where} answered without usable JSON: {told}", status=200)


def _says_nothing_more(words: ServerWords) -> bool:
    """Whether a 404 is that of a path: one of a model or a job has more to say."""
    return not words.code and (not words.text or _NO_SUCH_PATH.match(words.text) is not None)


def typed_error(
    what: str, words: ServerWords, status: int | None = None, pause_ms: int | None = None
) -> BackendError:
    """The error that a code or, failing that, a status stands for; the message is `what: words`.

    `pause_ms` is the pause that the headers ask for; without one, that of the body counts.
    """
    kind = _BY_CODE.get(words.code.casefold())
    if kind is None and status is None and words.code.isdecimal():
        # In the middle of a stream there is no status any more; many servers put it into the code.
        status = int(words.code[:3])
    if kind is None:
        kind = _BY_STATUS.get(status or 0, BackendError)
    pause_ms = words.pause_ms if pause_ms is None else pause_ms
    if pause_ms and kind in _PASSING:
        what = f"{what} and asks for a pause of {pause_ms / 1000:g} s"
    text = f"{what}: {words.text}" if words.text else what
    return kind(text, retry_after_ms=pause_ms, status=status or 200)


def words_from_body(body: bytes) -> ServerWords:
    """The server's own words in the body of an error, JSON or not."""
    if not body.strip():
        return ServerWords("")
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return ServerWords(describe(body).removeprefix("it is text: "))
    return words_from_json(parsed)


def words_from_json(parsed: object) -> ServerWords:
    """The server's own words in an error that came as JSON.

    Understood are OpenAI's `{"error": {"message", "code", "type"}}`, Google's
    `{"error": {"message", "code", "status", "details"}}` (also in a list of its own), AUTOMATIC1111's
    `{"error", "detail", "errors"}`, FastAPI's `{"detail": [{"loc", "msg"}]}`, KoboldCpp's
    `{"detail": {"msg"}}`, AI Horde's `{"message", "rc"}`, plain `{"message"}`, and ComfyUI's
    `{"error": {"message", "details"}, "node_errors"}`.
    """
    if isinstance(parsed, list) and len(parsed) == 1 and isinstance(parsed[0], dict):
        parsed = parsed[0]
    if not isinstance(parsed, dict):
        return ServerWords(_short(parsed))
    error = parsed.get("error")
    if isinstance(error, dict):
        message = error.get("message") or error.get("detail") or error
        text = _short(message)
        if "node_errors" in parsed and (faults := node_faults(parsed["node_errors"]) or error.get("details")):
            text = one_line(f"{text}: {_short(faults)}", _LONGEST_WORDS)
        return ServerWords(text, _code(error, str(message)), _pause_ms(error, str(message)))
    parts = [
        _short(part)
        for part in (error, parsed.get("errors"), _detail(parsed.get("detail")), parsed.get("message"))
        if part
    ]
    # AUTOMATIC1111 says some things twice.
    text = ": ".join(dict.fromkeys(parts)) or _short(parsed)
    return ServerWords(one_line(text, _LONGEST_WORDS), str(parsed.get("code") or parsed.get("rc") or ""))


def _code(error: Mapping[str, object], message: str) -> str:
    """The code that says most: a known one before any other."""
    codes = [str(value) for value in (error.get("code"), error.get("type")) if value]
    if codes == ["image_generation_user_error"] and _OF_SAFETY.search(message):
        return "moderation_blocked"
    if "status" in error:
        if _is_out_of_credit(error, message):
            return "insufficient_quota"
        codes += [str(detail.get("reason")) for detail in _details(error) if detail.get("reason")]
    return next((code for code in codes if code.casefold() in _BY_CODE), codes[0] if codes else "")


def _is_out_of_credit(error: Mapping[str, object], message: str) -> bool:
    """Whether Google's error is one that no waiting mends."""
    for detail in _details(error):
        violations = detail.get("violations")
        for violation in violations if isinstance(violations, list) else ():
            if isinstance(violation, dict) and (
                "PerDay" in str(violation.get("quotaId")) or str(violation.get("quotaValue")) == "0"
            ):
                return True
    return _OUT_OF_CREDIT.search(message) is not None


def _pause_ms(error: Mapping[str, object], message: str) -> int | None:
    """The pause in Google's `RetryInfo`, "37s" or "22.99s", or failing that in its words."""
    for detail in _details(error):
        delay = detail.get("retryDelay")
        seconds = _number(delay.removesuffix("s")) if isinstance(delay, str) else None
        if seconds is not None:
            return _bounded(seconds * 1000)
    found = _RETRY_IN.search(message) if "status" in error else None
    return None if found is None else _bounded(float(found[1]) * (1 if found[2] == "ms" else 1000))


def _details(error: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict):
            yield detail


def node_faults(node_errors: object) -> str:
    """ComfyUI's account of what is wrong with which node of a workflow; empty where nothing is."""
    told = []
    for id_, node in list(node_errors.items())[:5] if isinstance(node_errors, dict) else ():
        errors = node.get("errors") if isinstance(node, dict) else None
        faults = [
            ": ".join(
                part for part in (str(error.get("message") or ""), str(error.get("details") or "")) if part
            )
            for error in (errors[:5] if isinstance(errors, list) else ())
            if isinstance(error, dict)
        ]
        if faults:
            told.append(f"node {id_} ({node.get('class_type')}): {', '.join(faults)}")
    return one_line("; ".join(told), _LONGEST_WORDS)


def _detail(detail: object) -> object:
    """FastAPI's list of faults as one sentence, KoboldCpp's `msg`; anything else as it is."""
    if isinstance(detail, dict):
        return detail.get("msg") or detail
    if not isinstance(detail, list):
        return detail
    return "; ".join(_fault(fault) for fault in detail[:5] if isinstance(fault, dict))


def _fault(fault: Mapping[str, object]) -> str:
    place = fault.get("loc")
    steps = ".".join(str(step) for step in place) if isinstance(place, list) else ""
    return f"{steps}: {fault.get('msg')}" if steps else str(fault.get("msg"))


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return one_line(text, _LONGEST_WORDS)


def retry_after_ms(headers: Mapping[str, str], now: datetime) -> int | None:
    """The pause in milliseconds that the headers ask for, or None; never negative, at most a day.

    `retry-after-ms` (OpenAI) is exact and goes first; `retry-after` (RFC 9110, 10.2.3) is a number of
    seconds or a date. `headers` must look names up without regard to case, or have lower-case names.
    """
    exact = _number(headers.get("retry-after-ms"))
    if exact is not None:
        return _bounded(exact)
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None:
        return _bounded(seconds * 1000)
    if value is None:
        return None
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return _bounded((date - now).total_seconds() * 1000)


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else None
    except ValueError:
        return None
    return number if number is not None and math.isfinite(number) else None


def _bounded(pause_ms: float) -> int:
    return min(max(math.ceil(pause_ms), 0), _LONGEST_PAUSE_MS)


def reason_of(error: BaseException) -> str:
    """The operating system's own word for what went wrong, dug out of the libraries' layers."""
    layers: list[BaseException | None] = [error]
    for layer in layers:  # grows while it is walked; errors form no circles
        if isinstance(layer, ssl.SSLCertVerificationError):
            known = "; SSL_CERT_FILE can name a file with it" if "self-signed" in layer.verify_message else ""
            return f"certificate not accepted ({layer.verify_message}{known})"
        if isinstance(layer, ssl.SSLError):
            # Not by its number, which is none of the operating system's.
            if layer.reason in _NO_TLS:
                return "it does not speak TLS; try http:// instead of https://"
            return f"TLS failed ({(layer.reason or 'no reason was given').replace('_', ' ').lower()})"
        if isinstance(layer, socket.gaierror):
            return "its host name cannot be resolved"
        if isinstance(layer, OSError) and layer.errno in errno.errorcode:
            return os.strerror(layer.errno or 0).lower()
        if isinstance(layer, BaseExceptionGroup):
            layers.extend(layer.exceptions)
        if layer is not None and len(layers) < 100:
            layers.extend((layer.__cause__, layer.__context__))
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
