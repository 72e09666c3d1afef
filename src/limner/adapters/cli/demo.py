"""The command `limner demo`: the page where somebody sits at a terminal, the terminal run elsewhere."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import click
from rich.console import Console

from limner.adapters.cli.backends import options_from, set_option
from limner.adapters.cli.display import display_for
from limner.adapters.cli.errors import BadInput
from limner.adapters.cli.logs import verbosity_option
from limner.adapters.cli.outputs import write_file
from limner.adapters.cli.page import page_of
from limner.adapters.cli.performance import DemoNumbers, Pace, outputs_in, perform
from limner.adapters.factory import BACKENDS, POSSIBLE, generator_from, openai_key_from_environment
from limner.errors import InvalidSetting, StorageError
from limner.text import compile_patterns
from limner.workflows.ports import Generator

DEFAULT_FOLDER = "demo-output"
OFFLINE_PAINTER = "the offline painter"


@dataclass(frozen=True, slots=True)
class PageSettings:
    """The options of the page, as they were given; None where they were not."""

    upstream: str | None
    model: str | None
    generator: str | None
    set_options: tuple[str, ...]
    data_dir: Path | None
    port: int | None

    @property
    def are_given(self) -> bool:
        """Whether anything was asked for that only the page has."""
        return any((self.upstream, self.model, self.generator, self.set_options, self.data_dir, self.port))


@click.command(
    "demo",
    short_help="A small chat whose stories are painted while they are written; offline.",
)
@click.option("--no-browser", is_flag=True, help="No page: one story, told and painted in the terminal.")
@click.option("--page", is_flag=True, help="The page, even where there is no terminal.")
@click.option("--upstream", metavar="URL", help="Let a model write: an OpenAI-compatible server.")
@click.option("--model", metavar="NAME", help="The model, with --upstream; else the first that it lists.")
@click.option("-g", "--generator", metavar="WHO", help=f"Who paints: {POSSIBLE}.")
@set_option
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep the conversation and its pictures here, instead of for this run.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="N",
    help="The page's port; without it 8807 or the next that is free. 0: any.",
)
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    default=DEFAULT_FOLDER,
    show_default=True,
    help="Where the story of --no-browser goes.",
)
@verbosity_option
def demo_command(
    no_browser: bool,
    page: bool,
    upstream: str | None,
    model: str | None,
    generator: str | None,
    set_options: tuple[str, ...],
    data_dir: Path | None,
    port: int | None,
    output: str,
) -> None:
    """A small chat in the browser, whose stories are painted while they are written.

    Type a line, and an embedded storyteller writes a story about it; the offline painter paints its pictures
    meanwhile. Click two pictures, and both are replaced in one write. Everything happens on this machine,
    without a network. Ctrl-C ends it.

    With --upstream a real model writes, with --generator somebody else paints. The key, where one is needed,
    is taken from LIMNER_OPENAI_KEY or OPENAI_API_KEY.

    With --no-browser, and where there is no terminal, one story is told and painted right here, and stays as
    files.

    \b
    Examples:
      limner demo
      limner demo --upstream http://127.0.0.1:11434 --model llama3.2
      limner demo --upstream http://127.0.0.1:11434 -g sdapi=http://127.0.0.1:7860
      limner demo --no-browser --output /tmp/story
    """
    settings = PageSettings(upstream, model, generator, set_options, data_dir, port)
    if no_browser and (page or settings.are_given):
        raise BadInput("--no-browser tells its story in the terminal and takes none of the page's options")
    if model is not None and upstream is None:
        raise BadInput("--model needs --upstream URL")
    if no_browser or not (page or _somebody_sits_here()):
        if settings.are_given:
            raise BadInput("there is no terminal here, and these options are the page's; add --page")
        if not no_browser:
            click.echo(
                "No terminal here, so the story is told right here (limner demo --page shows the page)."
            )
        run_demo(Path(output), Console(highlight=False), Pace())
        return
    run_page(settings, Pace())


def _somebody_sits_here() -> bool:
    return sys.stdout.isatty() and sys.stdin.isatty()


# --- the page


def run_page(settings: PageSettings, pace: Pace) -> None:
    """Serve the page until Ctrl-C.

    Raises `InvalidSetting`, `BadInput`, `BackendError` where the upstream does not answer, `StorageError`.
    """
    try:
        from limner.adapters.demo.serving import listening_socket
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn"):
            raise
        raise InvalidSetting(
            "the page needs an extra: pip install '/path/to/limner[server]'; "
            "limner demo --no-browser does without"
        ) from error
    generator, painter = _generator(settings, pace)
    with _folder(settings.data_dir) as folder, listening_socket(settings.port) as listening:
        anyio.run(_serve, settings, pace, generator, painter, folder, listening)
    click.echo("The demo has ended.")


def _generator(settings: PageSettings, pace: Pace) -> tuple[Generator, str]:
    """Who paints, and what the page calls it."""
    who = settings.generator or os.environ.get("LIMNER_GENERATOR") or "sketch"
    options = options_from(who, settings.set_options)
    if who != "sketch":
        return generator_from(who, **options), who.partition("=")[0]
    for name, value in (("steps", pace.steps), ("step_ms", pace.step_ms)):
        if not os.environ.get(BACKENDS["sketch"].variable_of(name)):
            options.setdefault(name, value)
    return generator_from(who, **options), OFFLINE_PAINTER


@contextmanager
def _folder(data_dir: Path | None) -> Iterator[Path]:
    if data_dir is None:
        with tempfile.TemporaryDirectory(prefix="limner-demo-", ignore_cleanup_errors=True) as temporary:
            yield Path(temporary)
        return
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the folder {data_dir}: {error.strerror}") from error
    yield data_dir


async def _serve(
    settings: PageSettings,
    pace: Pace,
    generator: Generator,
    painter: str,
    folder: Path,
    listening: socket.socket,
) -> None:
    from limner.adapters.demo.serving import Play, open_browser, serve
    from limner.adapters.demo.writers import StoryWriter, UpstreamWriter, Writer, first_model

    writer: Writer = StoryWriter(pace.token_ms)
    if settings.upstream is not None:
        key = openai_key_from_environment()
        model = settings.model or await first_model(settings.upstream, key)
        writer = UpstreamWriter(settings.upstream, model, key)
    play = Play(
        writer,
        generator,
        painter,
        captions=painter != OFFLINE_PAINTER,
        max_concurrent=pace.max_concurrent,
        debounce_ms=pace.debounce_ms,
    )
    kept = "for this run only (--data-dir keeps it)" if settings.data_dir is None else f"in {folder}"

    def answers(address: str) -> None:
        # The browser may take its time, and some wait until its window is closed.
        threading.Thread(target=open_browser, args=[address], daemon=True).start()
        click.echo(f"The demo is at  {address}  (Ctrl-C ends it)")
        click.echo(f"Written by {writer.name}, painted by {painter}; the conversation is kept {kept}.")

    await serve(play, folder, listening, opened=answers)


# --- the terminal run


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
