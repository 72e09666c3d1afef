"""What a client wants of Limner for one reply, and how it says so.

In the request's body, which is what chat clients let people add to::

    "limner": {"profile": "markdown", "progress": "reasoning", "teach": true, "illustrate": true}

or in a header: `Limner-Options: profile=markdown; progress=reasoning`. What the body says goes first, then
the header, then the options of the command. Neither reaches the upstream.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, cast

from limner.errors import InvalidSetting

BODY_FIELD = "limner"
HEADER = b"limner-options"

ProfileName = Literal["markdown-data", "markdown", "html"]
Progress = Literal["none", "reasoning"]

PROFILES: tuple[ProfileName, ...] = ("markdown-data", "markdown", "html")
PROGRESS: tuple[Progress, ...] = ("none", "reasoning")

_POSSIBLE: Mapping[str, tuple[str, ...]] = {"profile": PROFILES, "progress": PROGRESS}
_WORDS = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}


@dataclass(frozen=True, slots=True)
class Wishes:
    """How one reply is to be illustrated.

    `profile`: how a picture is written: Markdown with the thumbnail in a `data:` address, Markdown or HTML
    with the address of the whole picture. `progress`: where the client is told how far the pictures are.
    `teach`: whether the model is told how to ask for pictures. `illustrate`: False leaves the reply alone.
    """

    profile: ProfileName = "markdown-data"
    progress: Progress = "none"
    teach: bool = False
    illustrate: bool = True


def wishes_of(defaults: Wishes, header: str | None, given: object) -> Wishes:
    """The wishes of one request; `given` is what the body has in `limner`, None where it has nothing.

    Raises `InvalidSetting` for a name that is none, and for a value that cannot be meant.
    """
    wishes = _with(defaults, _of_header(header)) if header else defaults
    if given is None:
        return wishes
    if not isinstance(given, dict):
        raise InvalidSetting(f'limner must be an object such as {{"profile": "html"}}, not {given!r:.60}')
    return _with(wishes, cast("Mapping[str, Any]", given))


def _of_header(header: str) -> dict[str, object]:
    """The options in a header, as a body would have them: there, words stand for true and false."""
    options: dict[str, object] = {}
    for each in header.split(";"):
        name, equals, value = (part.strip() for part in each.partition("="))
        name = name.lower()
        if not each.strip():
            continue
        if name in _POSSIBLE:
            if not value:
                raise InvalidSetting(f"limner.{name} needs a value: one of {', '.join(_POSSIBLE[name])}")
            options[name] = value
        else:
            options[name] = _WORDS.get(value.lower(), value) if equals else True
    return options


def _with(wishes: Wishes, given: Mapping[str, Any]) -> Wishes:
    names = [field.name for field in fields(Wishes)]
    changes: dict[str, Any] = {}
    for name, value in given.items():
        if name not in names:
            raise InvalidSetting(f"limner has no option {name!r:.60}; it has: {', '.join(names)}")
        if name == "progress" and not value:
            changes[name] = "none"
        elif name in _POSSIBLE:
            changes[name] = _one_of(name, value, _POSSIBLE[name])
        else:
            changes[name] = _yes_or_no(name, value)
    return replace(wishes, **changes)


def _one_of(name: str, value: object, possible: tuple[str, ...]) -> str:
    if value not in possible:
        raise InvalidSetting(f"limner.{name} must be one of {', '.join(possible)}, not {value!r:.60}")
    return str(value)


def _yes_or_no(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise InvalidSetting(f"limner.{name} must be true or false, not {value!r:.60}")
