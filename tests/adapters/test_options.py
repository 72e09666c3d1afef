"""The options of a generator, read off its class, and their values in text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from limner.adapters.options import REQUIRED, Option, options_of
from limner.errors import InvalidSetting


class Painter:
    def __init__(
        self,
        base_url: str,
        *,
        steps: int | None = None,
        scale: float = 1.5,
        safe: bool = False,
        model: str | Sequence[str] | None = None,
        styles: Sequence[str] | None = None,
        auth: tuple[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        """Nothing is painted here."""


OPTIONS = options_of(Painter)


def test_options_are_those_of_the_class_with_their_defaults():
    assert list(OPTIONS) == ["base_url", "steps", "scale", "safe", "model", "styles", "auth", "params"]
    assert OPTIONS["base_url"].default is REQUIRED
    assert (OPTIONS["steps"].default, OPTIONS["scale"].default) == (None, 1.5)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("base_url", "http://h=1", "http://h=1"),
        ("steps", " 20 ", 20),
        ("scale", "6.5", 6.5),
        ("safe", "Yes", True),
        ("safe", "0", False),
        ("model", "a, b", ["a", "b"]),
        ("model", "a b", "a b"),
        ("styles", "oil, ink,", ["oil", "ink"]),
        ("auth", "me:pass:word", ("me", "pass:word")),
        ("params", '{"n": [1, null]}', {"n": [1, None]}),
    ],
)
def test_a_value_is_read_as_the_option_takes_it(name: str, text: str, value: object):
    read = OPTIONS[name].value_of(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("steps", "2.5", "steps takes a whole number, not '2.5'"),
        ("scale", "much", "scale takes a number, not 'much'"),
        ("safe", "perhaps", "safe takes true or false, not 'perhaps'"),
        ("params", "[1]", "params takes a JSON object, not '[1]'"),
        ("params", "{", "params takes a JSON object, not '{'"),
        ("auth", "hunter2", "auth takes NAME:PASSWORD, not what was given"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line_and_no_secret_is_shown(name: str, text: str, told: str):
    with pytest.raises(InvalidSetting) as caught:
        OPTIONS[name].value_of(text)
    assert str(caught.value) == told


@pytest.mark.parametrize("name", ["api_key", "auth", "headers"])
def test_keys_passwords_and_headers_are_secrets(name: str):
    assert Option(name, str, None).is_secret
    assert not Option("steps", int, None).is_secret
