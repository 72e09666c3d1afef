"""The command `limner demo`."""

from __future__ import annotations

from pathlib import Path

import anyio
import click
from rich.console import Console

from limner.adapters.cli.display import display_for
from limner.adapters.cli.logs import verbosity_option
from limner.adapters.cli.outputs import write_file
from limner.adapters.cli.page import page_of
from limner.adapters.cli.performance import DemoNumbers, Pace, outputs_in, perform
from limner.errors import StorageError
from limner.text import compile_patterns

DEFAULT_FOLDER = "demo-output"


@click.command("demo", short_help="Stream a story and paint it while it runs; offline, half a minute.")
@click.option(
    "-o", "--output", metavar="DIR", default=DEFAULT_FOLDER, show_default=True, help="Where the story goes."
)
@verbosity_option
def demo_command(output: str) -> None:
    """Stream a story at the pace of a language model and paint its pictures while the text still runs.

    Everything happens on this machine, without a network. The message is written once; then two pictures
    are clicked for a new one, and are replaced in one second write. The story stays as a page that
    holds its pictures, and as Markdown.

    \b
    Examples:
      limner demo
      limner demo --output /tmp/story
    """
    run_demo(Path(output), Console(highlight=False), Pace())


def run_demo(folder: Path, console: Console, pace: Pace) -> DemoNumbers:
    """Perform the demo on `console` and leave its files in `folder`. Raises `StorageError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the folder {folder}: {error.strerror}") from error
    outputs = outputs_in(folder)
    assert outputs.text is not None  # noqa: S101 - for the type checker: the demo always has files
    assert outputs.page is not None  # noqa: S101
    with display_for(console) as display:
        text, numbers = anyio.run(perform, outputs, display, pace)
    page = page_of(
        text,
        patterns=compile_patterns(),
        outputs=outputs,
        captions=False,
        footer=numbers.colophon(),
        lang="en",
    )
    write_file(outputs.page, page)
    write_file(outputs.text, text)
    for line in ("", *numbers.lines(), "", "Open:", f"  {outputs.page}", f"  {outputs.text}"):
        console.print(line, markup=False, soft_wrap=True)
    return numbers
