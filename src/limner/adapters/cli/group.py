"""The command `limner`, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import io
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Any, NoReturn

import click

from limner.adapters.cli.backends import backends_command
from limner.adapters.cli.check import check_command
from limner.adapters.cli.demo import demo_command
from limner.adapters.cli.diagrams import diagrams_command
from limner.adapters.cli.errors import EXIT_CODES_HELP, ExitCode, fault_of
from limner.adapters.cli.illustrate import illustrate_command
from limner.adapters.cli.logs import configure_logs, verbosity, verbosity_option
from limner.adapters.cli.parameters import likely
from limner.adapters.cli.serve import serve_command
from limner.adapters.cli.sessions import sessions_command


class LimnerGroup(click.Group):
    """A group whose every error ends as `limner: …` on stderr: never a traceback, never a usage dump."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **settings: Any) -> NoReturn:
        """Run the command line and exit. The parameters are those of `click.Command.main`."""
        # Ours, whatever the caller wants: click's own handling would print a second kind of error.
        settings["standalone_mode"] = False
        configure_logs(0)
        for stream in (sys.stdout, sys.stderr):
            # A terminal or a pipe of another encoding shows what it does not have as an escape.
            if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
                stream.reconfigure(errors="backslashreplace")
        try:
            code = super().main(args, *rest, **settings)
        except click.ClickException as error:
            code = _usage(error)
        except (click.Abort, KeyboardInterrupt):
            _complain("interrupted; nothing half written")
            code = ExitCode.INTERRUPTED
        except Exception as error:  # noqa: BLE001 - a traceback is no answer to a person
            fault = fault_of(error)
            _complain(*fault.lines)
            if verbosity() > 1:
                traceback.print_exception(error)
            code = fault.exit_code
        sys.exit(code if isinstance(code, int) else ExitCode.OK)


def _usage(error: click.ClickException) -> int:
    command = getattr(getattr(error, "ctx", None), "command_path", "limner")
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message())
        return ExitCode.OK
    if possibilities := getattr(error, "possibilities", None):
        typed = getattr(error, "option_name", None) or getattr(error, "command_name", None) or ""
        possibilities[:] = likely(typed, possibilities)
    message = " ".join(error.format_message().split()).rstrip(".")
    _complain(f"{message} (see {command} --help)")
    return ExitCode.USAGE


def _complain(*lines: str) -> None:
    with suppress(OSError):
        click.echo("\n".join((f"limner: {lines[0]}", *lines[1:])), err=True)


@click.group(
    cls=LimnerGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXIT_CODES_HELP,
)
@click.version_option(version("limner"), message="limner %(version)s")
@verbosity_option
def main() -> None:
    """Paint the pictures that a text asks for, and write them into it.

    A text asks for a picture with a tag: <!--img-prompt="a lighthouse at night"-->

    \b
    Examples:
      limner demo
      limner illustrate story.md
      limner illustrate --openai http://127.0.0.1:11434 --model llama3.2 "a night at sea"
      limner serve --upstream http://127.0.0.1:11434 --teach
      limner illustrate --help
    """


main.add_command(illustrate_command)
main.add_command(demo_command)
main.add_command(diagrams_command)
main.add_command(check_command)
main.add_command(sessions_command)
main.add_command(backends_command)
main.add_command(serve_command)
