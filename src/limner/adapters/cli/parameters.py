"""Kinds of values that options of the command line take, beside those that click has."""

from __future__ import annotations

import math
from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Any

import click

_LIKE = 0.6


class Seconds(click.FloatRange):
    """A time in seconds. click takes `nan` for a number in any range; no clock does."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number that is meant, or a complaint of click's."""
        seconds = float(super().convert(value, param, ctx))
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a time in seconds", param, ctx)
        return seconds


def likely(typed: str, possibilities: Iterable[str]) -> list[str]:
    """Those of click's suggestions for an option or command that could be meant by what was typed.

    click compares them with their dashes, by which any two options are half alike.
    """
    plain = typed.strip("-")
    return [
        each
        for each in possibilities
        if (name := each.strip("-")).startswith(plain) or SequenceMatcher(None, plain, name).ratio() >= _LIKE
    ]
