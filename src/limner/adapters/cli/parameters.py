"""Kinds of values that options of the command line take, beside those that click has."""

from __future__ import annotations

import math
from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Any, get_args

import click

from limner.workflows.overrides import Override

_OVERRIDES: tuple[Override, ...] = get_args(Override)
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


def overrides_from(
    context: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> tuple[Override, ...]:
    """What prompts may ask for themselves: names, lists with commas, or `all`. A callback for click."""
    names = [name.strip().casefold() for each in given for name in each.split(",") if name.strip()]
    for name in names:
        if name != "all" and name not in _OVERRIDES:
            raise click.BadParameter(
                f"{name!r} is none of {', '.join(_OVERRIDES)}, all", ctx=context, param=parameter
            )
    return tuple(name for name in _OVERRIDES if name in names or "all" in names)


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
