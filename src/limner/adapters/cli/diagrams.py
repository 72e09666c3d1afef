"""The command `limner diagrams`."""

from __future__ import annotations

from pathlib import Path

import click

from limner.adapters.cli.errors import ExitCode
from limner.adapters.cli.logs import verbosity_option
from limner.adapters.diagrams import check_diagrams, write_diagrams

DEFAULT_FOLDER = "diagrams"


@click.command("diagrams", short_help="Draw the state machines, or check that the drawings are current.")
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    default=DEFAULT_FOLDER,
    show_default=True,
    help="The folder of the diagrams.",
)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if a file does not match the code.")
@verbosity_option
@click.pass_context
def diagrams_command(context: click.Context, output: str, check: bool) -> None:
    """Draw the state machines as Mermaid, as tables, and as SVG.

    The SVG files need graphviz; without it the others are written and the command says what is missing.

    \b
    Examples:
      limner diagrams
      limner diagrams --check
      limner diagrams --output /tmp/machines
    """
    folder = Path(output)
    if check:
        context.exit(_check(folder))
    report = write_diagrams(folder)
    for path in report.written:
        click.echo(f"wrote {path}")
    if report.missing_tool is not None:
        click.echo(f"limner: {report.missing_tool}", err=True)


def _check(folder: Path) -> ExitCode:
    stale = check_diagrams(folder)
    if not stale:
        click.echo(f"{folder} matches the state machines")
        return ExitCode.OK
    for name in stale:
        what = "does not match the state machines" if (folder / name).exists() else "is missing"
        click.echo(f"limner: {folder / name} {what}", err=True)
    where = "" if str(folder) == DEFAULT_FOLDER else f" --output {folder}"
    click.echo(f"limner: to mend it: limner diagrams{where}", err=True)
    return ExitCode.INCOMPLETE
