"""The body that a JSON server is sent: a JSON value with places for the prompt and its companions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote

from limner.errors import InvalidSetting

PLACES = ("prompt", "negative_prompt", "seed", "width", "height")
"""What may stand between percent signs."""

_PLACE = re.compile(r"%(?:%|([A-Za-z_][A-Za-z0-9_]*)%)")
_PLACE_IN_ADDRESS = re.compile(f"%({'|'.join(PLACES)})%")

Value = str | int


def places_in(body: object) -> set[str]:
    """The names of the places in `body`. Raises `InvalidSetting` for one that there is no value for."""
    found = {name for text in _texts(body) for name in _PLACE.findall(text) if name}
    for name in sorted(found.difference(PLACES)):
        known = ", ".join(f"%{place}%" for place in PLACES)
        raise InvalidSetting(f"the body has a place %{name}%; there are {known} (and %% for a percent sign)")
    return found


def places_in_address(url: str) -> set[str]:
    """The names of the places in an address, where `%20` and the like are something else."""
    return set(_PLACE_IN_ADDRESS.findall(url))


def address_before_places(url: str) -> str:
    """The part of an address that is the same for every prompt."""
    return _PLACE_IN_ADDRESS.split(url, maxsplit=1)[0]


def filled(body: object, values: Mapping[str, Value]) -> object:
    """`body` with its places filled in.

    A text that is nothing but a place becomes the value itself, a number for `%seed%`; within a text a value
    becomes text, and `%%` a percent sign. Names in objects stay as they are.
    """
    if isinstance(body, str):
        whole = _PLACE.fullmatch(body)
        if whole is not None and whole[1]:
            return values[whole[1]]
        return _PLACE.sub(lambda found: str(values[found[1]]) if found[1] else "%", body)
    if isinstance(body, Mapping):
        return {name: filled(value, values) for name, value in body.items()}
    if isinstance(body, (list, tuple)):
        return [filled(value, values) for value in body]
    return body


def filled_address(url: str, values: Mapping[str, Value]) -> str:
    """`url` with its places filled in, percent-encoded so that each stays one part of the address."""
    return _PLACE_IN_ADDRESS.sub(lambda found: quote(str(values[found[1]]), safe="", errors="replace"), url)


def _texts(body: object) -> Iterator[str]:
    if isinstance(body, str):
        yield body
    elif isinstance(body, Mapping):
        for value in body.values():
            yield from _texts(value)
    elif isinstance(body, (list, tuple)):
        for value in body:
            yield from _texts(value)
