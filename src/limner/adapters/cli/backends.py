"""The commands `limner backends` and `limner backends test`, and the option `--set` for whoever paints."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import anyio
import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from limner.adapters.cli.errors import BadInput, ExitCode, fault_of, with_hint
from limner.adapters.cli.lines import counted, print_grid
from limner.adapters.cli.logs import verbosity_option
from limner.adapters.cli.outputs import check_place, write_bytes
from limner.adapters.cli.parameters import Seconds
from limner.adapters.factory import BACKENDS, Backend, backend_of
from limner.adapters.options import REQUIRED, Option
from limner.adapters.sniffing import one_line
from limner.adapters.trial import Trial, try_out
from limner.errors import BackendError, QueueFull, RateLimited
from limner.workflows.ports import Generator

TEST_PROMPT = "a lighthouse at night, a keeper with a lamp"
_EXIT_CODES = """\b
Exit codes:
  0    there is a picture
  2    bad usage, or a setting that cannot be meant
  3    the server refused, could not be reached, or sent no usable image
  4    the picture could not be written"""

Function = TypeVar("Function", bound=Callable[..., Any])


def set_option(command: Function) -> Function:
    """The option `--set`, for every command that chooses who paints."""
    return click.option(
        "--set",
        "set_options",
        multiple=True,
        metavar="NAME=VALUE",
        help="An option of who paints (limner backends lists them); repeatable.",
    )(command)


def options_from(
    spec: str, given: Sequence[str], besides: Mapping[str, tuple[str, str | None]] | None = None
) -> dict[str, Any]:
    """The options of the generator that `spec` names: those of `--set`, and those with a flag of their own.

    `besides` are the latter: by the flag, the option and its value, None where it was not given.

    Raises `BadInput`, `InvalidSetting`.
    """
    backend = backend_of(spec)[0]
    known = backend.options
    options: dict[str, Any] = {}
    typed: dict[str, str] = {}
    for flag, (name, value) in (besides or {}).items():
        if value is None:
            continue
        if name not in known:
            raise BadInput(f"{flag} is not for {backend.name}, which has the options {', '.join(known)}")
        options[name] = known[name].value_of(value)
        typed[name] = flag
    for each in given:
        name, equals, text = each.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise BadInput(f"--set takes NAME=VALUE, not {one_line(each, 60)!r}")
        if name in typed:
            raise BadInput(f"{typed[name]} and --set {name}=… say the same; give one of them")
        if name in options:
            raise BadInput(f"the option {name} was given twice")
        # What the generator does not have is refused by the factory, which names what it has.
        options[name] = known[name].value_of(text) if name in known else text
    return options


@click.group("backends", invoke_without_command=True, short_help="List who can paint, and try one for real.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array on standard output.")
@verbosity_option
@click.pass_context
def backends_command(context: click.Context, as_json: bool) -> None:
    """List who can paint, with the options of each.

    An option is given in Python as a keyword, on the command line as --set NAME=VALUE, or in the environment
    in the variable that is named here.

    \b
    Examples:
      limner backends
      limner backends test sdapi=http://127.0.0.1:7860 --set steps=4
      LIMNER_SDAPI_STEPS=4 limner illustrate story.md -g sdapi=http://127.0.0.1:7860
    """
    if context.invoked_subcommand is not None:
        return
    if as_json:
        click.echo(json.dumps([_as_json(backend) for backend in BACKENDS.values()], indent=2))
        return
    console = Console(highlight=False)
    for number, backend in enumerate(BACKENDS.values()):
        if number:
            console.print()
        _show(console, backend)


def _show(console: Console, backend: Backend) -> None:
    console.print(Text.assemble((f"{backend.name}{backend.behind}", "bold"), f"  {backend.about}"))
    # Narrow, so that the longest variable fits into eighty columns.
    table = Table.grid(padding=(0, 1), pad_edge=False)
    for _ in range(4):
        table.add_column(overflow="fold")
    for option in backend.options.values():
        table.add_row(
            f"  {option.name}",
            option.form.removeprefix("a "),
            _default(option),
            ", ".join(_variables(backend, option)),
            style="default",
        )
    print_grid(console, table)


def _variables(backend: Backend, option: Option) -> list[str]:
    """Those of the environment that the option is taken from, the first one that is set."""
    return list(backend.keys) if option.name == "api_key" else [backend.variable_of(option.name)]


def _default(option: Option) -> str:
    if option.default is REQUIRED:
        return "needed"
    return "" if option.default in (None, "") else str(option.default)


def _as_json(backend: Backend) -> dict[str, Any]:
    return {
        "name": backend.name,
        "behind": backend.behind,
        "about": backend.about,
        "options": [
            {
                "name": option.name,
                "takes": option.form,
                "needed": option.default is REQUIRED,
                "default": None if option.default is REQUIRED else option.default,
                "variables": _variables(backend, option),
            }
            for option in backend.options.values()
        ],
    }


# --- trying one


@backends_command.command("test", epilog=_EXIT_CODES, short_help="Have one picture made.")
@click.argument("who", metavar="[WHO]", envvar="LIMNER_GENERATOR")
@set_option
@click.option("--prompt", metavar="TEXT", default=TEST_PROMPT, show_default=True, help="What to paint.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Keep it."
)
@click.option(
    "--timeout",
    type=Seconds(0.001, 86400),
    default=120,
    show_default=True,
    metavar="SECONDS",
    help="How long it may take.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@verbosity_option
@click.pass_context
def test_command(
    context: click.Context,
    who: str,
    set_options: tuple[str, ...],
    prompt: str,
    output: Path | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Have one picture made by WHO, and say what was found: reachable, authorised, what it can do.

    Without WHO, by whom LIMNER_GENERATOR names. The picture costs what a picture costs there.

    \b
    Examples:
      limner backends test sketch
      limner backends test sdapi=http://127.0.0.1:7860 --set steps=4 -o first.png
      limner backends test comfyui=http://127.0.0.1:8188 --set workflow=flow.json
    """
    try:
        trial = _trial(who, set_options, prompt, output, timeout)
    except Exception as error:
        if as_json:
            fault = fault_of(error)
            told = {"kind": fault.kind, "message": fault.message, "hint": getattr(error, "hint", "")}
            click.echo(json.dumps({"exit_code": int(fault.exit_code), "error": told}, indent=2))
        raise
    if as_json:
        click.echo(json.dumps(_trial_as_json(trial), indent=2))
    else:
        _tell(Console(highlight=False), trial, output)
    context.exit(ExitCode.OK if trial.error is None else ExitCode.BACKEND)


def _trial(who: str, set_options: Sequence[str], prompt: str, output: Path | None, timeout: float) -> Trial:
    # Before anything is painted: a picture costs something.
    if output is not None:
        check_place(output)
    backend, behind = backend_of(who)
    generator = backend.made(options_from(who, set_options), *behind)
    trial = anyio.run(_try_and_close, generator, backend.name, prompt, timeout)
    if trial.image is not None and output is not None:
        write_bytes(output, trial.image.data)
    return trial


async def _try_and_close(generator: Generator, name: str, prompt: str, time_limit_s: float) -> Trial:
    async with aclosing(generator):
        return await try_out(generator, name, prompt, time_limit_s)


def _tell(console: Console, trial: Trial, output: Path | None) -> None:
    answers = {True: "yes", False: "no", None: "not known"}
    claims = [name for name, value in asdict(trial.capabilities).items() if value]
    image = trial.image
    rows = {
        "reachable": answers[trial.reachable],
        "authorised": answers[trial.authorised],
        "seen": f"{counted(trial.reports, 'report')} of progress, {counted(trial.previews, 'preview')}",
        "claims": ", ".join(claims) or "images only",
        "picture": "none"
        if image is None
        else f"{image.width} × {image.height}, {image.media_type}, {len(image.data) / 1000:,.0f} kB",
        "took": f"{trial.seconds:.1f} s",
    }
    if trial.findings:
        rows["server"] = trial.findings
    if trial.job_ids:
        rows["job"] = one_line(", ".join(trial.job_ids), 200)
    if output is not None and image is not None:
        rows["kept in"] = str(output)
    table = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        table.add_row(Text(name, "dim"), Text(value))
    print_grid(console, table)
    if trial.error is not None:
        click.echo(f"limner: {with_hint(fault_of(trial.error).message, _hint(trial.error))}", err=True)


def _hint(error: BackendError) -> str:
    """What to do next. One picture was asked for, so there is no number of them to lower."""
    return "Wait a while, then try again." if isinstance(error, (RateLimited, QueueFull)) else error.hint


def _trial_as_json(trial: Trial) -> dict[str, Any]:
    image = trial.image
    return {
        "backend": trial.backend,
        "reachable": trial.reachable,
        "authorised": trial.authorised,
        "capabilities": asdict(trial.capabilities),
        "progress_reports": trial.reports,
        "previews": trial.previews,
        "job_ids": trial.job_ids,
        "findings": trial.findings,
        "seconds": round(trial.seconds, 3),
        "image": None
        if image is None
        else {
            "width": image.width,
            "height": image.height,
            "media_type": image.media_type,
            "bytes": len(image.data),
        },
        "error": None
        if trial.error is None
        else {"kind": trial.error.kind, "message": fault_of(trial.error).message, "hint": _hint(trial.error)},
    }
