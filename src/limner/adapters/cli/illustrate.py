"""The command `limner illustrate`."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass

import anyio
import click
from rich.console import Console

from limner.adapters.cli.display import Display, display_for
from limner.adapters.cli.errors import EXIT_CODES_HELP, BadInput, fault_of
from limner.adapters.cli.inputs import STDIN, read_text
from limner.adapters.cli.logs import verbosity_option
from limner.adapters.cli.outputs import STDOUT, Outputs, ProfileName, plan_outputs, write_file, write_text
from limner.adapters.cli.page import page_of
from limner.adapters.cli.painting_options import PaintingSettings, painting_options
from limner.adapters.cli.report import Report, fault_as_json
from limner.adapters.cli.run import Outcome, illustrate_stream, illustrate_text
from limner.adapters.cli.teaching import system_prompt
from limner.adapters.factory import generator_from, openai_key_from_environment
from limner.adapters.image_folder import FolderImageStore
from limner.adapters.inspection import PillowInspector
from limner.adapters.journal_memory import MemoryJournal
from limner.adapters.limner import Limner
from limner.adapters.message_memory import MemoryMessageStore
from limner.adapters.openai_chat import stream_chat
from limner.errors import StorageError
from limner.text import (
    PromptPatterns,
    compile_patterns,
    extract_image_prompts,
)

FOREVER_MS = 7 * 24 * 60 * 60 * 1000
"""The drain timeout: here a person waits, who can press Ctrl-C, and each image has its own limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(PaintingSettings):
    """The options of the command, as they were given; None where they were not."""

    source: str
    output: str | None
    images: str | None
    page: str | None
    profile: ProfileName | None
    openai: str | None
    model: str | None
    system: str | None
    as_json: bool
    quiet: bool


@click.command(
    "illustrate",
    epilog=EXIT_CODES_HELP,
    short_help="Paint the pictures that a text asks for and write them into it.",
)
@click.argument("source", metavar="FILE|-|REQUEST")
@click.option("-o", "--output", metavar="FILE", help="Where the text goes; - for standard output.")
@click.option("--images", metavar="DIR", help="Where the images go.")
@click.option("--page", metavar="FILE", help="Also write an HTML page that holds its images itself.")
@click.option("--profile", type=click.Choice(["html", "markdown"]), help="How an image is written.")
@painting_options
@click.option("--openai", metavar="URL", help="Stream a reply from this OpenAI-compatible chat server.")
@click.option("--model", metavar="NAME", help="The model that writes, with --openai.")
@click.option("--system", metavar="TEXT", help="The system prompt, instead of one that teaches the tags.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output at the end.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@verbosity_option
@click.pass_context
def illustrate_command(context: click.Context, /, **options: object) -> None:
    """Paint the pictures that a text asks for, and write them into it.

    FILE is a finished Markdown or HTML text with prompts in it, - standard input. The result is
    NAME.illustrated.md beside it, with the images in NAME-images; for standard input it goes to
    standard output, with the images in limner-images. The files appear whole, the text after its images.

    With --openai the argument is what to write about (- reads that from standard input): the reply is
    illustrated while it arrives, and becomes story.md. The key, where one is needed, is taken from
    LIMNER_OPENAI_KEY or OPENAI_API_KEY.

    --pattern and --preset replace the default tags; add --preset default to keep them.

    \b
    Examples:
      limner illustrate story.md
      limner illustrate story.md -o out.md --images pictures --page story.html
      limner illustrate story.md --generator sdapi=http://127.0.0.1:7860 --max-concurrent 1
      limner illustrate story.md --generator comfyui=http://127.0.0.1:8188 --workflow flow.json
      limner illustrate chat.html --preset pic --json
      limner illustrate notes.md --pattern '\\[\\[draw: ([^\\]]+)\\]\\]'
      cat story.md | limner illustrate - > illustrated.md
      limner illustrate --openai http://127.0.0.1:11434 --model llama3.2 "a night at sea"
    """
    settings = Settings(**options)  # type: ignore[arg-type]  # click gives what the options above declare
    try:
        report = _run(settings)
    except Exception as error:
        if settings.as_json:
            click.echo(fault_as_json(fault_of(error)))
        raise
    _tell(report, settings)
    context.exit(report.exit_code)


def _tell(report: Report, settings: Settings) -> None:
    for line in report.complaints():
        click.echo(f"limner: {line}", err=True)
    if not settings.quiet:
        click.echo(report.summary(), err=True)
    if settings.as_json:
        click.echo(report.as_json())


def _run(settings: Settings) -> Report:
    _refuse_contradictions(settings)
    patterns = settings.patterns
    compiled = compile_patterns(patterns, in_code_fences=settings.code_fences)
    text = settings.source if settings.openai and settings.source != STDIN else read_text(settings.source)
    outputs = plan_outputs(
        None if settings.openai else settings.source,
        settings.output,
        settings.images,
        settings.page,
        settings.profile,
    )
    # Looked at before anything is painted: a pattern that is too slow for this text is refused here.
    found = 0 if settings.openai else len(extract_image_prompts(text, compiled))
    console = Console(stderr=True)
    with display_for(console, quiet=settings.quiet, with_text=False) as display:
        outcome = anyio.run(_illustrate, settings, outputs, text, display)
    report = Report(outcome, outputs, max(0, found - len(outcome.prompts)), patterns)
    if report.has_text_to_write:
        _write(report, settings, compiled)
    return report


def _write(report: Report, settings: Settings, patterns: PromptPatterns) -> None:
    """The page and the text, after the images they show."""
    outputs, text = report.outputs, report.outcome.text
    try:
        if outputs.page is not None:
            captions = settings.generator != "sketch"
            page = page_of(text, patterns=patterns, outputs=outputs, captions=captions)
            write_file(outputs.page, page)
        write_text(outputs, text)
    except StorageError as error:
        kept = f"; the finished images are in {outputs.images}" if report.outcome.result.placed else ""
        raise StorageError(f"{error}{kept}") from error


def _refuse_contradictions(settings: Settings) -> None:
    to_stdout = settings.output == STDOUT or (
        settings.output is None and settings.source == STDIN and settings.openai is None
    )
    if settings.as_json and to_stdout:
        raise BadInput("--json needs standard output for itself; name a file for the text with -o")
    if settings.openai is None:
        for option, value in (("--model", settings.model), ("--system", settings.system)):
            if value is not None:
                raise BadInput(f"{option} needs --openai URL")
    elif settings.model is None:
        raise BadInput("--openai needs --model NAME")
    elif not settings.source.strip():
        raise BadInput("--openai needs to be told what to write about")


async def _illustrate(settings: Settings, outputs: Outputs, text: str, display: Display) -> Outcome:
    async with (
        aclosing(generator_from(settings.generator, **settings.generator_options)) as generator,
        Limner(
            generator,
            store=MemoryMessageStore(),
            journal=MemoryJournal(),
            images=FolderImageStore(outputs.images, outputs.base_url),
            patterns=settings.patterns,
            in_code_fences=settings.code_fences,
            profile=outputs.profile,
            prompt_overrides=settings.prompt_override,
            inspector=PillowInspector(strip_metadata=settings.strip_metadata),
            max_concurrent=settings.max_concurrent,
            max_per_message=settings.max_concurrent,
            min_interval_ms=round(settings.min_interval * 1000),
            image_timeout_ms=round(settings.timeout * 1000),
            max_attempts=settings.attempts,
            drain_timeout_ms=FOREVER_MS,
            on_drain_timeout="insert",
        ) as limner,
    ):
        at_once = settings.max_concurrent
        if settings.openai is None:
            return await illustrate_text(limner, text, display, at_once)
        tokens = stream_chat(
            settings.openai,
            settings.model or "",
            text,
            api_key=openai_key_from_environment(),
            system=system_prompt(settings.patterns, "story") if settings.system is None else settings.system,
        )
        async with tokens:
            return await illustrate_stream(limner, tokens, display, at_once, settings.patterns)
