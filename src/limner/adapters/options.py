"""The options of a generator, read off its class, and their values as they are written in text.

The command line and the environment have only text. What an option takes is said by its annotation, so there
is no second list of options that could differ from the first. What a program gives is held to the same
annotation by `checked`.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, wraps
from typing import Any, ParamSpec, Union, get_args, get_origin

from limner.errors import InvalidSetting

REQUIRED = inspect.Parameter.empty
"""The default of an option that has none."""

Parameters = ParamSpec("Parameters")

# How a value is written that is one text or several.
_ONE_OR_SEVERAL = (str, Sequence)
_BY_CLASS = (str, bool, types.NoneType, os.PathLike)
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

    def check(self, value: object) -> None:
        """Raise `InvalidSetting` where `value` is not of the kind that the option takes."""
        if not _is_of(self.takes, value):
            shown = "what was given" if self.is_secret else f"{value!r:.60}"
            raise InvalidSetting(f"{self.name} must be {_kind_of(self.takes)}, not {shown}")


def checked(make: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """An `__init__` that holds its arguments to their annotations, and raises `InvalidSetting`."""

    @cache
    def known() -> Mapping[str, Option]:
        # Not before the first call, when every name that the annotations use is there.
        return options_of(make)

    @wraps(make)
    def held(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        given = inspect.signature(make).bind(*args, **kwargs).arguments
        for name, value in given.items():
            known()[name].check(value)
        make(*args, **kwargs)

    return held


def check_json(name: str, value: object) -> None:
    """Raise `InvalidSetting` unless `value` can be sent as JSON, which knows no NaN."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidSetting(f"{name} cannot be written as JSON: {error}") from error


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
    """The one type in the form of which a value is written: text, where text is one of several.

    Unless a list of texts is another: a text with a comma in it is then written for a list.
    """
    if _is_union(takes):
        possible = [each for each in get_args(takes) if each is not type(None)]
        if str not in possible:
            return _written_as(possible[0])
        return _ONE_OR_SEVERAL if any(get_origin(each) is Sequence for each in possible) else str
    return get_origin(takes) or takes


def _is_union(takes: Any) -> bool:
    return get_origin(takes) in (Union, types.UnionType)


def _is_of(takes: Any, value: object) -> bool:
    """Whether `value` is what the annotation says; what it says besides these few is left to the class."""
    if _is_union(takes):
        return any(_is_of(each, value) for each in get_args(takes))
    kind = get_origin(takes) or takes
    if kind is Sequence:
        return _are_texts(value, Sequence)
    if kind is tuple:
        return _are_texts(value, (tuple, list)) and len(value) == len(get_args(takes))  # type: ignore[arg-type]  # it is one of the two
    if kind is Mapping:
        return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)
    if kind in (int, float):
        numbers = (int,) if kind is int else (int, float)
        return isinstance(value, numbers) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind) if kind in _BY_CLASS else True


def _are_texts(value: object, kinds: Any) -> bool:
    return (
        isinstance(value, kinds)
        and not isinstance(value, str)
        and all(isinstance(each, str) for each in value)
    )


def _kind_of(takes: Any) -> str:
    kinds = [each for each in get_args(takes) if each is not type(None)] if _is_union(takes) else [takes]
    return " or ".join(dict.fromkeys(_KINDS[get_origin(each) or each] for each in kinds))


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


def _one_or_several(text: str) -> str | list[str]:
    return _list(text) if "," in text else text


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
    _ONE_OR_SEVERAL: _one_or_several,
    Mapping: _object,
}
_FORMS: Mapping[Any, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "NAME:PASSWORD",
    Sequence: "a list with commas",
    _ONE_OR_SEVERAL: "a text, or a list with commas",
    Mapping: "a JSON object",
}
_KINDS: Mapping[Any, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    tuple: "a pair of user and password",
    Sequence: "a list of texts",
    Mapping: "a mapping with texts as names",
    os.PathLike: "a path",
}
