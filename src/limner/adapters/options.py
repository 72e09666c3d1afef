"""The options of a generator, read off its class, and their values as they are written in text.

The command line and the environment have only text. What an option takes is said by its annotation, so there
is no second list of options that could differ from the first.
"""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Union, get_args, get_origin

from limner.errors import InvalidSetting

REQUIRED = inspect.Parameter.empty
"""The default of an option that has none."""

_SECRETS = ("api_key", "auth", "headers")
_TRUTHS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a generator. `takes` is its type, and `default` what it is without being given."""

    name: str
    takes: Any
    default: Any

    @property
    def is_secret(self) -> bool:
        """Whether its value may be shown nowhere."""
        return self.name in _SECRETS

    @property
    def form(self) -> str:
        """How its value is written, in a word or two."""
        return _FORMS[_written_as(self.takes)]

    def value_of(self, text: str) -> Any:
        """What is meant by `text`. Raises `InvalidSetting`, which shows the text unless it is a secret."""
        try:
            return _READERS[_written_as(self.takes)](text)
        except ValueError as error:
            if self.is_secret:
                # Not with the error below it, which shows the text.
                raise InvalidSetting(f"{self.name} takes {self.form}, not what was given") from None
            raise InvalidSetting(f"{self.name} takes {self.form}, not {text[:80]!r}") from error


def options_of(make: Callable[..., object]) -> Mapping[str, Option]:
    """The options that a class or function takes, by their names."""
    return {
        name: Option(name, parameter.annotation, parameter.default)
        for name, parameter in inspect.signature(make, eval_str=True).parameters.items()
    }


def closest(name: str, known: Iterable[str]) -> str:
    """The one of the `known` names that is most like `name`; empty where none is like it."""
    return next(iter(get_close_matches(name, list(known), 1, cutoff=0.7)), "")


def _written_as(takes: Any) -> Any:
    """The one type in the form of which a value is written: text, where text is one of several."""
    if get_origin(takes) in (Union, types.UnionType):
        possible = [each for each in get_args(takes) if each is not type(None)]
        return str if str in possible else _written_as(possible[0])
    return get_origin(takes) or takes


def _truth(text: str) -> bool:
    try:
        return _TRUTHS[text.strip().casefold()]
    except KeyError:
        raise ValueError(text) from None


def _pair(text: str) -> tuple[str, str]:
    name, colon, secret = text.partition(":")
    if not colon:
        raise ValueError
    return name, secret


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(text)  # noqa: TRY004 - the text is at fault, not a type in the program
    return value


_READERS: Mapping[Any, Callable[[str], Any]] = {
    str: str,
    int: int,
    float: float,
    bool: _truth,
    tuple: _pair,
    Sequence: _list,
    Mapping: _object,
}
_FORMS: Mapping[Any, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "NAME:PASSWORD",
    Sequence: "a list with commas",
    Mapping: "a JSON object",
}
