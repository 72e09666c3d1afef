"""Keys and passwords, kept out of whatever is shown: messages, logs, journals, representations."""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping

MASK = "***"
"""What stands where a secret stood."""

# Replacing a word of one to three letters would garble every message, and it protects nothing.
_SHORTEST = 4
_CUT = "…"
_LONGEST_ADDRESS = 200


class Secrets:
    """What a client must not show, in every form in which a server may give it back.

    `headers` and `auth` (user and password) are those that go to the server; `others` are secret besides.
    Each is known as it stands, percent-encoded in whole or in part, and with the escapes of JSON and HTML;
    the user with the password also in base64, as Basic authentication sends them.
    """

    def __init__(
        self,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        others: Iterable[str] = (),
    ) -> None:
        found = {*others}
        for value in (headers or {}).values():
            # "Bearer KEY": the key is secret also without the word before it.
            found |= {value, value.rpartition(" ")[2], *_of_basic(value)}
        if auth is not None:
            found |= {auth[1], *_as_basic(auth)}
        forms = {form for secret in found for form in _forms(secret) if len(form) >= _SHORTEST}
        self._forms = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(_percent_encoded, self._forms))) if forms else None

    def taken_out_of(self, words: str) -> str:
        """`words` with every secret replaced, also one that was cut short where the words were."""
        if self._pattern is None:
            return words
        words = self._pattern.sub(MASK, words)
        return _CUT.join(map(self._without_a_beginning, words.split(_CUT))) if _CUT in words else words

    def _without_a_beginning(self, words: str) -> str:
        for form in self._forms:
            for length in range(min(len(form), len(words)), _SHORTEST - 1, -1):
                if words.endswith(form[:length]):
                    return words[:-length] + MASK
        return words


def shown_address(text: str) -> str:
    """An address as somebody typed it, fit for a message: no user, no password, no query.

    It may be mistyped, so it is not taken apart by the rules of addresses: whatever stands before the last
    "@" is left out.
    """
    head, slashes, rest = text.strip().partition("//")
    if not slashes:
        head, rest = "", head
    _, at, host = rest.rpartition("@")
    shown = f"{head}{slashes}{MASK}@{host}" if at else f"{head}{slashes}{rest}"
    shown = shown.partition("?")[0]
    return shown if len(shown) <= _LONGEST_ADDRESS else f"{shown[: _LONGEST_ADDRESS - 1]}{_CUT}"


def _as_basic(auth: tuple[str, str]) -> Iterator[str]:
    encoded = base64.b64encode(":".join(auth).encode("utf-8", "replace")).decode()
    yield encoded.rstrip("=")
    yield encoded


def _of_basic(header: str) -> Iterator[str]:
    """What is secret besides in the value of a header for Basic authentication."""
    scheme, _, encoded = header.partition(" ")
    if scheme.casefold() == "basic":
        yield encoded.strip().rstrip("=")
        try:
            yield base64.b64decode(encoded.strip()).decode("utf-8", "replace").partition(":")[2]
        except (binascii.Error, ValueError):
            return


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield html.escape(secret)
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]


def _percent_encoded(form: str) -> str:
    """A pattern for `form`, each character of which may be percent-encoded. Which ones are, tastes differ."""
    return "".join(_character(character) for character in form)


def _character(character: str) -> str:
    if character.isascii() and character.isalnum():
        return character
    encoded = "".join(f"%{byte:02x}" for byte in character.encode("utf-8", "replace"))
    plus = r"|\+" if character == " " else ""
    return f"(?:{re.escape(character)}|(?i:{encoded}){plus})"
