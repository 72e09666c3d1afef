"""`limner check`, `limner diagrams`, and what all commands share."""

from __future__ import annotations

import io

import pytest
import structlog
from rich.console import Console

from limner import __version__
from limner.adapters.cli import check, main
from limner.adapters.cli.check import Walk, shown, walk_all
from limner.adapters.cli.counting import CountingStore
from limner.adapters.cli.logs import configure_logs
from limner.adapters.message_memory import MemoryMessageStore
from limner.states import OnDrainTimeout, SessionKind
from limner.states.exploration import Exploration, Violation, explore
from limner.workflows.logs import log
from tests.adapters.cli.screen import Screen


def test_check_walks_both_kinds_with_both_timeouts_and_sums_up(run):
    result = run("check", "--prompts", "1")
    assert result.exit_code == 0
    heading, *rows, verdict = result.stdout.splitlines()
    assert heading.split()[-2:] == ["broken", "seconds"]
    assert all(len(heading) == len(row) and float(row.split()[-1]) >= 0 for row in rows)
    assert len(rows) == 8
    states = [
        explore(k, kind, answer).states for k in (0, 1) for kind in SessionKind for answer in OnDrainTimeout
    ]
    assert [int(row.split()[3].replace(",", "")) for row in rows] == states
    assert verdict.startswith(f"{sum(states):,} states, ")
    assert "every invariant holds in all of them" in verdict
    assert max(map(len, rows)) <= 80


def test_on_a_terminal_the_lines_are_not_torn_by_what_says_that_it_goes_on():
    plain, screen = (
        Console(file=io.StringIO(), width=80),
        Console(file=io.StringIO(), width=80, force_terminal=True, legacy_windows=False),
    )
    walks = list(walk_all(1))
    for console in (plain, screen):
        assert list(shown(iter(walks), 1, console)) == walks
    assert isinstance(plain.file, io.StringIO)
    assert isinstance(screen.file, io.StringIO)
    lines = [line for line in Screen(80).show(screen.file.getvalue()) if line]
    assert lines == plain.file.getvalue().splitlines()


def test_a_violation_is_code_1_with_the_shortest_way_to_it(run, monkeypatch):
    found = Exploration(0, OnDrainTimeout.FAIL, violations=[Violation(3, "the sum is wrong", ("a", "b"))])
    walk = Walk(SessionKind.STREAMING, OnDrainTimeout.FAIL, found, 0.5)
    monkeypatch.setattr(check, "walk_all", lambda prompts: iter([walk]))
    result = run("check")
    assert result.exit_code == 1
    assert "1 violation" in result.stdout
    assert "invariant 3: the sum is wrong\n  after: a → b" in result.stderr


def test_diagrams_are_written_and_then_match(run, tmp_path):
    result = run("diagrams")
    assert result.exit_code == 0
    assert "wrote diagrams/session.md" in result.stdout
    if (tmp_path / "diagrams" / "session.svg").exists():
        assert run("diagrams", "--check").exit_code == 0


def test_diagrams_that_differ_are_named_with_the_command_that_mends_them(run, tmp_path):
    run("diagrams", "--output", "d")
    (tmp_path / "d" / "prompt.mmd").write_text("drawn by hand")
    (tmp_path / "d" / "session.md").unlink()
    result = run("diagrams", "--check", "--output", "d")
    assert result.exit_code == 1
    assert "limner: d/prompt.mmd does not match the state machines\n" in result.stderr
    assert "limner: d/session.md is missing\n" in result.stderr
    assert result.stderr.endswith("limner: to mend it: limner diagrams --output d\n")


def test_diagrams_that_were_never_drawn_are_missing(run):
    result = run("diagrams", "--check")
    assert result.exit_code == 1
    assert "limner: diagrams/session.md is missing\n" in result.stderr
    assert "does not match" not in result.stderr


def test_without_graphviz_the_rest_is_written_and_the_lack_is_said(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run("diagrams")
    assert result.exit_code == 0
    assert "graphviz's `dot` is not installed" in result.stderr
    assert result.stderr.startswith("limner: ")
    assert (tmp_path / "diagrams" / "session.mmd").exists()


def test_a_folder_that_cannot_be_written_is_code_4(run, tmp_path):
    (tmp_path / "file").write_text("")
    for command in ("diagrams", "demo"):
        result = run(command, "--output", "file/x")
        assert result.exit_code == 4
        assert result.stderr.startswith("limner: cannot ")
        assert result.stderr.count("\n") == 1


def test_the_version_is_the_package_s(run):
    assert run("--version").stdout == f"limner {__version__}\n"


@pytest.mark.parametrize("command", ["illustrate", "demo", "diagrams", "check"])
def test_help_has_examples_and_fits_a_terminal(run, command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"  limner {command}" in result.stdout.split("Examples:")[1]
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_help_of_all_names_the_commands_and_the_exit_codes(run):
    for arguments in ((), ("-h",)):
        result = run(*arguments)
        assert result.exit_code == 0
        for word in (*main.commands, "Examples:", "Exit codes:", "130"):
            assert word in result.stdout


def test_an_unknown_command_is_one_line(run):
    result = run("paint")
    assert (result.exit_code, result.stderr) == (2, "limner: No such command 'paint' (see main --help)\n")


@pytest.mark.parametrize(("level", "seen"), [(0, ["odd"]), (1, ["odd", "generation_failed", "fine"])])
def test_log_lines_go_to_stderr_as_loud_as_asked_for(capsys, level, seen):
    configure_logs(level)
    log.warning("odd", n=1)
    log.warning("generation_failed")  # the command's own last lines say it
    log.info("fine")
    log.debug("tiny")
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert len(lines) == len(seen)
    for line, event in zip(lines, seen, strict=True):
        assert event in line
    structlog.reset_defaults()


@pytest.mark.anyio
async def test_writes_are_counted_by_what_they_brought():
    store = CountingStore(MemoryMessageStore())
    version = await store.write("m", "text", expected=None)
    version = await store.write("m", "text ![a](a.png) ![b](b.png)", expected=version)
    version = await store.write("m", "text ![a](a.png) ![c](c.png)", expected=version)
    await store.write("m", "text! ![a](a.png) ![c](c.png)", expected=version)
    assert [write.new_images for write in store.writes] == [0, 2, 1, 0]
    assert [write.new_images for write in store.image_writes] == [2, 1]
    stored = await store.read("m")
    assert stored is not None
    assert stored.text.startswith("text!")
