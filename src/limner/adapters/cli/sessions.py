"""The commands `limner sessions`, `limner sessions show` and `limner sessions prune`."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from limner.adapters.cli.errors import BadInput, ExitCode
from limner.adapters.cli.logs import verbosity_option
from limner.adapters.cli.session_json import history_as_json, sessions_as_json
from limner.adapters.cli.session_tables import print_history, print_sessions
from limner.adapters.journal_prune import prune
from limner.adapters.journal_reader import JournalReader, JournalView
from limner.adapters.journal_salvage import JournalSalvage
from limner.adapters.sniffing import one_line
from limner.adapters.sqlite_pages import may_be_cut_or_overwritten
from limner.errors import JournalDamaged, JournalTooNew, JournalUnreadable

DEFAULT_JOURNAL = Path("limner-data") / "journal.sqlite3"
"""Where a `Limner` without `journal=` and `data_dir=` keeps it."""

_EXIT_CODES = """\b
Exit codes:
  0    all that was asked for was read
  2    bad usage, no such journal, or no such session
  4    the journal is damaged (what is left of it was printed), of a newer format, or no journal"""
_WIDE = 10_000
_DURATION = re.compile(r"(\d{1,6})\s*([smhdw])")
_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}

Function = TypeVar("Function", bound=Callable[..., Any])
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Before:
    """What was said before the command's own name; it holds for the command, too."""

    journal: Path | None
    as_json: bool = False
    of_the_list: bool = False


def journal_option(command: Function) -> Function:
    """The option `--journal`, which may be given to the group or to its command."""
    return click.option(
        "--journal",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help=f"The journal; without it {DEFAULT_JOURNAL}.",
    )(command)


@click.group(
    "sessions",
    invoke_without_command=True,
    epilog=_EXIT_CODES,
    short_help="List live and past sessions; show or prune them.",
)
@journal_option
@click.option("--live", is_flag=True, help="Only sessions that have not ended.")
@click.option("--message", metavar="ID", help="Only sessions of this message.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array on standard output.")
@verbosity_option
@click.pass_context
def sessions_command(
    context: click.Context, journal: Path | None, live: bool, message: str | None, as_json: bool
) -> None:
    """List the sessions of a journal, the newest first. The server may be running.

    Of a damaged file everything is listed that can still be read; then the exit code is 4.

    \b
    Examples:
      limner sessions
      limner sessions --live --journal /var/lib/chat/limner.sqlite3
      limner sessions show 3f2a
      limner sessions prune --older-than 30d
    """
    context.obj = _Before(journal, as_json=as_json, of_the_list=live or message is not None)
    if context.invoked_subcommand is not None:
        return

    def show(view: JournalView) -> None:
        found = view.sessions(live_only=live, message_id=message)
        if as_json:
            click.echo(sessions_as_json(found))
        else:
            # To be pasted as it is.
            where = f" --journal {shlex.quote(str(journal))}" if journal is not None else ""
            print_sessions(_console(), found, f"limner sessions show ID{where}")

    context.exit(_look(_chosen(context, journal), show))


@sessions_command.command("show", short_help="Print the history of one session.")
@click.argument("wanted", metavar="ID")
@journal_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@verbosity_option
@click.pass_context
def show_command(context: click.Context, wanted: str, journal: Path | None, as_json: bool) -> None:
    """Print one session: its prompts, and every event with its time and the state after it.

    ID is a session's id, or as much of its beginning as no other one shares, or a message's id if the
    message has had one session only.

    \b
    Examples:
      limner sessions show 3f2a
      limner sessions show 3f2a --json | jq .events
    """
    before = _before(context)

    def show(view: JournalView) -> None:
        history = view.history(_the_one(view, wanted))
        if history is None:
            raise BadInput(f"no session {one_line(wanted, 80)!r}")
        if as_json or before.as_json:
            click.echo(history_as_json(history))
        else:
            print_history(_console(), history)

    context.exit(_look(_chosen(context, journal), show))


@sessions_command.command("prune", short_help="Take out sessions that ended long ago.")
@click.option("--older-than", required=True, metavar="AGE", help="Such as 90m, 12h, 30d or 4w.")
@journal_option
@click.option("--dry-run", is_flag=True, help="Only say how many would go.")
@verbosity_option
@click.pass_context
def prune_command(context: click.Context, older_than: str, journal: Path | None, dry_run: bool) -> None:
    """Take the sessions out of a journal that ended longer ago than AGE, and make the file smaller.

    Live sessions stay, however old they are, and so do messages and images. The server may be running.

    \b
    Examples:
      limner sessions prune --older-than 30d
      limner sessions prune --older-than 4w --dry-run
    """
    if _before(context).as_json:
        raise click.UsageError("--json is for the list and for show", context)
    path = _chosen(context, journal)
    _must_be_there(path)
    before_ms = time.time_ns() // 1_000_000 - _milliseconds(older_than)
    if dry_run:
        click.echo(f"{_sessions(JournalReader(path).count_ended(before_ms))} would go")
        return
    done = prune(path, before_ms)
    given = "will be given back once nobody reads the file" if done.shrink_later else "given back"
    click.echo(f"{_sessions(done.sessions)} taken out, {_size(done.freed_bytes)} {given}")


def _before(context: click.Context) -> _Before:
    before = context.find_object(_Before) or _Before(None)
    if before.of_the_list:
        raise click.UsageError("--live and --message are for the list", context)
    return before


def _chosen(context: click.Context, journal: Path | None) -> Path:
    before = context.find_object(_Before) or _Before(None)
    return journal or before.journal or DEFAULT_JOURNAL


def _must_be_there(path: Path) -> None:
    if not path.exists():
        raise BadInput(f"no journal {path}; name it with --journal FILE")


def _look(path: Path, show: Callable[[JournalView], None]) -> ExitCode:
    """Show what is in a journal; where it is damaged, what is left of it."""
    _must_be_there(path)
    try:
        reader = JournalReader(path)
        reader.check()
        show(reader)
    except JournalTooNew:
        raise
    except JournalUnreadable as fault:
        with _salvaged(path, fault) as view:
            show(view)
        return ExitCode.STORAGE
    return ExitCode.OK


@contextmanager
def _salvaged(path: Path, fault: JournalUnreadable) -> Iterator[JournalView]:
    """What is left, and then one line on what is not. Raises the fault itself where nothing is left."""
    if not isinstance(fault, JournalDamaged) and not may_be_cut_or_overwritten(path):
        raise fault  # somebody else's database, which may be large
    with JournalSalvage(path) as salvage:
        if not salvage.find(""):
            raise fault
        yield salvage
        damage = salvage.damage
    lost = []
    if damage.unreadable_pages:
        lost.append(f"{damage.unreadable_pages:,} of {damage.pages:,} pages")
    if damage.unreadable_rows:
        rows = "1 row" if damage.unreadable_rows == 1 else f"{damage.unreadable_rows:,} rows"
        lost.append(f"{rows} on others" if lost else rows)
    what = (
        f"{' and '.join(lost)} cannot be read. This is what is left of it." if lost else "all rows were read."
    )
    click.echo(f"limner: {one_line(str(fault), 300)}; {what}", err=True)


def _the_one(view: JournalView, wanted: str) -> str:
    found = view.find(wanted)
    exact = [session for session in found if session.id == wanted]
    if not found:
        raise BadInput(f"no session {one_line(wanted, 80)!r}; `limner sessions` lists them")
    if len(found) > 1 and not exact:
        some = ", ".join(one_line(session.id, 64) for session in found[:5])
        more = ", …" if len(found) > 5 else ""
        of_message = all(session.message_id == wanted for session in found)
        listed = f" (limner sessions --message {shlex.quote(wanted)} lists them)" if of_message else ""
        raise BadInput(f"{len(found)} sessions fit {one_line(wanted, 80)!r}: {some}{more}{listed}")
    return (exact or found)[0].id


def _milliseconds(age: str) -> int:
    found = _DURATION.fullmatch(age.strip())
    if found is None:
        raise BadInput(f"an age is a number with s, m, h, d or w, such as 30d, not {one_line(age, 40)!r}")
    return int(found[1]) * _UNITS_MS[found[2]]


def _console() -> Console:
    # A pipe has no width: nothing is cut off there, so that it can be searched.
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDE)


def _sessions(count: int) -> str:
    return f"{count:,} session" + ("" if count == 1 else "s")


def _size(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "kB", "MB"):
        if size < 1_000:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1_000
    return f"{size:.1f} GB"
