"""Image addresses: when two are the same, and which may stand in a message."""

from __future__ import annotations

import re
from urllib.parse import unquote

from limner.errors import InvalidImageURL
from limner.text.entities import decode_attribute

# What browsers drop from an address: C0 controls and spaces around it, tabs and line breaks anywhere
# (WHATWG URL, 4.4). They must be gone before the scheme is looked at.
_AROUND = "".join(map(chr, range(0x21)))
_ANYWHERE = re.compile(r"[\t\n\r]")

# RFC 3986 without ' ( ) and the brackets, which can end an attribute, a Markdown address or a description.
_PLAIN = re.compile(r"[A-Za-z0-9\-._~:/?#@!$&*+,;=%]*")
_UNSAFE = re.compile(r"%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9\-._~:/?#@!$&*+,;=%]+")
_ENCODED = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")

_AUTHORITY = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*:)?//[^/?#]*")
_IPV6_BRACKETS = re.compile(r"%5B([0-9A-Fa-f:.]+)%5D(?=$|:\d*$)")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*\Z")
_BEFORE_COLON = re.compile(r"([^:/?#]*):")
_NOISE = re.compile(r"[\x00-\x20\x7f-\xa0\xad\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff]+")
_ALLOWED = frozenset({"http", "https", "file", "data"})
_DANGEROUS = frozenset({"javascript", "vbscript", "livescript", "data", "blob", "filesystem", "about"})
_HEAD = 2_000  # a disguised scheme is looked for this far into an address


def same_url(a: str, b: str) -> bool:
    """Whether two addresses are the same, however each is written in a text; see `normalise_url`."""
    return a == b or normalise_url(a) == normalise_url(b)


def normalise_url(url: str) -> str:
    """An address in the one form that equal addresses share. Not for display.

    HTML entities are decoded, white space around it is dropped, characters that need it are percent-encoded,
    those that do not are not; scheme and host are in lower case. `%2F` and `/` stay different, as they are to
    servers; query and fragment count. Relative addresses stay relative.
    """
    encoded = encode_url(decode_attribute(clean_url(url)))
    if "%" in encoded:
        encoded = _ENCODED.sub(_normalise_octet, encoded)
    authority = _AUTHORITY.match(encoded)
    if authority is not None:
        before, at, host = authority.group().rpartition("@")
        prefix = authority.group(1) or ""
        if at:
            return prefix.lower() + before[len(prefix) :] + at + host.lower() + encoded[authority.end() :]
        return host.lower() + encoded[authority.end() :]
    scheme = _BEFORE_COLON.match(encoded)
    return scheme.group().lower() + encoded[scheme.end() :] if scheme else encoded


def _normalise_octet(match: re.Match[str]) -> str:
    char = chr(int(match.group(1), 16))
    return char if char in _UNRESERVED else match.group().upper()


def clean_url(url: str) -> str:
    """An address without what browsers drop from it."""
    return _ANYWHERE.sub("", url.strip(_AROUND))


def encode_url(url: str) -> str:
    """An address with everything percent-encoded that could end an attribute or a Markdown address.

    What is encoded already stays so. Lone surrogates are encoded like any code point.
    """
    url = clean_url(url)
    if _PLAIN.fullmatch(url) and "%" not in url:
        return url
    url = _UNSAFE.sub(_encode, url)
    authority = _AUTHORITY.match(url)
    if authority is None:
        return url
    return _IPV6_BRACKETS.sub(r"[\1]", authority.group()) + url[authority.end() :]


def _encode(match: re.Match[str]) -> str:
    return "".join(f"%{octet:02X}" for octet in match.group().encode("utf-8", "surrogatepass"))


def check_url(url: str) -> None:
    """Raise `InvalidImageURL` unless the address is http, https, file, an image in `data:`, or relative.

    `javascript:` and its like are also recognised with white space, control or invisible characters in them,
    and written with entities or percent-encoding, in case a host decodes once more than it should.
    """
    cleaned = clean_url(url)
    if not cleaned:
        raise InvalidImageURL(url, "it is empty")
    found = _BEFORE_COLON.match(cleaned)
    if found is not None and _SCHEME.match(found.group(1)):
        scheme = found.group(1).lower()
        if scheme not in _ALLOWED:
            raise InvalidImageURL(url, f"the scheme {scheme}: is not allowed")
        if scheme == "data" and cleaned[:11].lower() != "data:image/":
            raise InvalidImageURL(url, "a data: address must hold an image")
        return
    head = cleaned[:_HEAD]
    decoded = decode_attribute(head)
    for written in (head, decoded, unquote(head), unquote(decoded), decode_attribute(unquote(decoded))):
        found = _BEFORE_COLON.match(_NOISE.sub("", written))
        if found is not None and found.group(1).lower() in _DANGEROUS:
            raise InvalidImageURL(url, f"it is {found.group(1).lower()}: in disguise")
