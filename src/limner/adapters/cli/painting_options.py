"""The options that say who paints, what, and how often: the same for every command that paints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeVar, get_args

import click

from limner.adapters.cli.backends import options_from, set_option
from limner.adapters.cli.errors import BadInput
from limner.adapters.cli.parameters import Seconds, overrides_from
from limner.adapters.factory import POSSIBLE
from limner.text import DEFAULT_PATTERNS, PRESETS, TagPattern
from limner.workflows.overrides import Override


@dataclass(frozen=True, slots=True, kw_only=True)
class PaintingSettings:
    """What the options below are given as; None where they were not."""

    generator: str
    image_model: str | None
    workflow: str | None
    set_options: tuple[str, ...]
    pattern: tuple[str, ...]
    preset: tuple[str, ...]
    code_fences: bool
    max_concurrent: int
    min_interval: float
    timeout: float
    attempts: int
    prompt_override: tuple[Override, ...]
    strip_metadata: bool

    @property
    def patterns(self) -> tuple[str | TagPattern, ...]:
        """What marks a prompt: the presets, then the regular expressions; without either the defaults.

        Raises `BadInput` for a preset that does not exist.
        """
        for name in self.preset:
            if name not in PRESETS:
                raise BadInput(f"no preset {name!r}; there are: {', '.join(PRESETS)}")
        tags = [tag for name in self.preset for tag in PRESETS[name]]
        return (*tags, *self.pattern) or DEFAULT_PATTERNS

    @property
    def generator_options(self) -> dict[str, Any]:
        """The options of the generator. Raises `BadInput`, `InvalidSetting`."""
        besides = {"--image-model": ("model", self.image_model), "--workflow": ("workflow", self.workflow)}
        return options_from(self.generator, self.set_options, besides)


Function = TypeVar("Function", bound=Callable[..., Any])

_OPTIONS: Sequence[Callable[[Any], Any]] = (
    click.option(
        "-g",
        "--generator",
        metavar="WHO",
        default="sketch",
        show_default=True,
        envvar="LIMNER_GENERATOR",
        help=f"Who paints: {POSSIBLE}; without it LIMNER_GENERATOR.",
    ),
    set_option,
    click.option("--image-model", metavar="NAME", help="The model that paints, where there is a choice."),
    click.option(
        "--workflow", metavar="FILE", help="The workflow that comfyui=URL paints with, in API format."
    ),
    click.option(
        "--pattern",
        multiple=True,
        metavar="REGEX",
        help="A regular expression whose first group is the prompt.",
    ),
    click.option("--preset", multiple=True, metavar="NAME", help=f"A set of tags: {', '.join(PRESETS)}."),
    click.option(
        "--code-fences/--no-code-fences", default=True, help="Whether tags in fenced code count. They do."
    ),
    click.option(
        "--max-concurrent",
        type=click.IntRange(1, 1000),
        default=2,
        show_default=True,
        metavar="N",
        help="How many images are made at once.",
    ),
    click.option(
        "--min-interval",
        type=Seconds(0, 3600),
        default=0,
        metavar="SECONDS",
        help="The least time between two starts.",
    ),
    click.option(
        "--timeout",
        type=Seconds(0.001, 86400),
        default=120,
        show_default=True,
        metavar="SECONDS",
        help="How long one image may take, with its repetitions.",
    ),
    click.option(
        "--attempts",
        type=click.IntRange(1, 100),
        default=3,
        show_default=True,
        metavar="N",
        help="How often an image is tried.",
    ),
    click.option(
        "--prompt-override",
        multiple=True,
        metavar="NAME",
        callback=overrides_from,
        help=f"Let prompts ask for this themselves ({', '.join(get_args(Override))}, all): "
        "a red fox --width 768; repeatable, also with commas.",
    ),
    click.option(
        "--strip-metadata",
        is_flag=True,
        help="Leave out of the image files what servers write into them besides the picture.",
    ),
)


def painting_options(command: Function) -> Function:
    """Add the options to a command, in this order."""
    return reduce(lambda made, option: option(made), reversed(_OPTIONS), command)
