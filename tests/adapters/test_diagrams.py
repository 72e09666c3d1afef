"""The diagrams show every transition and nothing else, and a diagram that does not is noticed."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files as files_of
from itertools import pairwise
from pathlib import Path
from types import FunctionType
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from limner.adapters.diagrams import check_diagrams, files, write_diagrams
from limner.adapters.diagrams.dot import to_dot
from limner.adapters.diagrams.markdown import to_markdown
from limner.adapters.diagrams.mermaid import to_mermaid
from limner.adapters.diagrams.sheets import PROMPT_SHEET, SESSION_SHEET, SHEETS, Sheet
from limner.errors import InternalError, StorageError
from limner.states.compiler import StrictChart
from limner.states.table import Row, Table

COMMITTED = Path(__file__).parents[2] / "diagrams"
SVG = "{http://www.w3.org/2000/svg}"
LINK_TITLE = "{http://www.w3.org/1999/xlink}title"

Shown = tuple[str, str, str, bool]
"""A transition as a picture shows it: source, event with guard, target, internal."""

each_sheet = pytest.mark.parametrize("sheet", SHEETS, ids=lambda sheet: sheet.name)
each_row = pytest.mark.parametrize(
    ("sheet", "row"),
    [
        pytest.param(sheet, row, id=f"{sheet.name}-{row.source}-{row.event}-{place}")
        for sheet in SHEETS
        for rows in sheet.table.rows.values()
        for place, row in enumerate(rows)
    ],
)


# --- what the tables say, and what is read back from each form


def rows_of(table: Table) -> list[Row]:
    return [row for rows in table.rows.values() for row in rows]


def guard_of(table: Table, row: Row) -> str:
    if row.guards:
        return " and ".join(("" if wanted else "not ") + guard.__name__ for guard, wanted in row.guards)
    return "else" if len(table.rows[row.source, row.event]) > 1 else ""


def declared(table: Table) -> list[Shown]:
    found = []
    for row in rows_of(table):
        guard = guard_of(table, row)
        found.append(
            (row.source, row.event + (f" [{guard}]" if guard else ""), row.target, row.internal),
        )
    return sorted(found)


def read_mermaid(text: str) -> list[Shown]:
    aliases = {alias: names.split(",<br>") for names, alias in re.findall(r'state "(.+)" as (\w+)', text)}
    arrows = re.findall(r"^ +(\w+) --> (\w+) : (.+)$", text, re.MULTILINE)
    listed = re.findall(r"^ +(\w+) : (.+)$", text, re.MULTILINE)
    return sorted(
        [
            (source, label.replace("<br>", " "), target, False)
            for start, target, label in arrows
            for source in aliases.get(start, [start])
        ]
        + [(state, label, state, True) for state, label in listed if label != state]
    )


def joined(shown: str) -> list[str]:
    """The labels in an HTML-like label, with their line breaks taken out again."""
    lines = [html.unescape(re.sub("<[^>]*>", "", line)) for line in re.split("<br[^>]*>", shown)]
    labels: list[str] = []
    for line in filter(None, lines):
        if line.startswith("["):
            labels[-1] += f" {line}"
        elif labels and (labels[-1].endswith("_") or labels[-1].count("[") > labels[-1].count("]")):
            labels[-1] += line
        else:
            labels.append(line)
    return labels


def read_dot(text: str) -> list[Shown]:
    cluster = re.search(r"subgraph cluster_group {(.*?)\n  }", text, re.DOTALL)
    members = re.findall(r'^    "(\w+)" \[', cluster[1], re.MULTILINE) if cluster else []
    found: list[Shown] = []
    for tail, head, attributes in re.findall(r'^  "(\w+)" -> "(\w+)" \[(.*)\];$', text, re.MULTILINE):
        label = re.search(r"label=<(<table.*</table>)>", attributes)
        if "style=invis" in attributes:
            assert label is None
            continue
        assert label is not None
        if "dir=back" in attributes:
            tail, head = head, tail
        sources = members if "ltail=cluster_group" in attributes else [tail]
        found += [(source, text, head, False) for source in sources for text in joined(label[1])]
    for state, shown in re.findall(r'^ +"(\w+)" \[label=<(.*?)> fillcolor', text, re.MULTILINE):
        _, _, listed = shown.partition("<br/>")
        inside = listed.replace('<br align="left"/>\u00a0\u00a0[', " [")
        inside = inside.replace('<br align="left"/>\u00a0\u00a0', "")
        found += [(state, line.removeprefix("· "), state, True) for line in joined(inside)]
    return sorted(found)


def read_grid(page: str, heading: str) -> list[list[str]]:
    section = page.split(f"## {heading}", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().replace("`", "") for cell in line[1:-1].split(" | ")] for line in lines[2:]]


def read_titles(svg: Path) -> str:
    return "\n".join(node.get(LINK_TITLE, "") for node in ET.parse(svg).iter())


def changed(sheet: Sheet, old: Row, *new: Row) -> tuple[Sheet, ...]:
    """All sheets, with one transition of one of them replaced."""
    pair = (old.source, old.event)
    found = tuple(each for row in sheet.table.rows[pair] for each in (new if row is old else (row,)))
    rows = {**sheet.table.rows, pair: found}
    if not found:
        del rows[pair]
    other = replace(sheet, table=replace(sheet.table, rows=rows))
    return tuple(other if each is sheet else each for each in SHEETS)


def renamed(function: Callable[..., Any]) -> Any:
    assert isinstance(function, FunctionType)
    twin = FunctionType(function.__code__, function.__globals__, f"{function.__name__}_too")
    twin.__doc__ = function.__doc__
    return twin


# --- every form shows every transition


@each_sheet
def test_mermaid_shows_every_transition_and_no_other(sheet: Sheet):
    assert read_mermaid(to_mermaid(sheet)) == declared(sheet.table)


@each_sheet
def test_the_source_of_the_svg_shows_every_transition_and_no_other(sheet: Sheet):
    assert read_dot(to_dot(sheet)) == declared(sheet.table)


@each_sheet
def test_the_page_lists_every_transition_with_guard_kind_and_actions(sheet: Sheet):
    expected = [
        [
            row.source,
            row.event,
            guard_of(sheet.table, row),
            row.target,
            "internal" if row.internal else "external",
            ", ".join(action.__name__ for action in row.actions),
        ]
        for row in rows_of(sheet.table)
    ]
    assert sorted(read_grid(to_markdown(sheet), "All")) == sorted(expected)


@each_sheet
def test_the_committed_svg_carries_every_transition_with_its_actions(sheet: Sheet):
    titles = read_titles(COMMITTED / f"{sheet.name}.svg").splitlines()
    for row in rows_of(sheet.table):
        guard = guard_of(sheet.table, row)
        label = row.event + (f" [{guard}]" if guard else "")
        actions = ", ".join(action.__name__ for action in row.actions)
        assert f"{row.source}: {label} → {row.target}" + (f" ({actions})" if actions else "") in titles


@each_sheet
def test_the_page_contains_the_mermaid_diagram_in_a_fence(sheet: Sheet):
    assert f"```mermaid\n{to_mermaid(sheet)}```\n" in to_markdown(sheet)


@each_sheet
def test_the_matrix_answers_every_pair_and_marks_what_is_refused(sheet: Sheet):
    table = sheet.table
    matrix = read_grid(to_markdown(sheet), "What each state makes of each event")
    assert [line[0] for line in matrix] == list(table.events)
    for event, *answers in matrix:
        assert len(answers) == len(table.states)
        for state, answer in zip(table.states, answers, strict=True):
            rows = table.rows.get((state, event), ())
            can_be_refused = all(row.guards for row in rows)
            assert ("✗" in answer) is can_be_refused
            for row in rows:
                assert ("*stays*" if row.internal else row.target) in answer


@each_sheet
def test_every_state_event_guard_and_action_is_explained(sheet: Sheet):
    page = to_markdown(sheet)
    rows = rows_of(sheet.table)
    words = {
        "States": set(sheet.table.states),
        "Events": set(sheet.table.events),
        "Guards": {guard.__name__ for row in rows for guard, _ in row.guards},
        "Actions": {action.__name__ for row in rows for action in row.actions},
    }
    for heading, expected in words.items():
        explained = {line[0].split(" (")[0]: line[1] for line in read_grid(page, heading)}
        assert explained.keys() == expected
        assert all(explained.values())


def test_meanings_are_given_for_exactly_the_states_that_there_are():
    for sheet in SHEETS:
        assert sheet.meanings.keys() == set(sheet.table.states)


def test_every_chart_has_its_sheet():
    charts = {
        chart.__name__ for chart in StrictChart.__subclasses__() if chart.__module__.startswith("limner.")
    }
    assert {sheet.table.name for sheet in SHEETS} == charts


def test_an_action_without_a_docstring_is_refused():
    (row,) = PROMPT_SHEET.table.rows["queued", "generation_started"]
    bare = renamed(row.actions[0])
    bare.__doc__ = None
    _, sheet = changed(PROMPT_SHEET, row, replace(row, actions=(bare,)))
    with pytest.raises(InternalError, match="start_attempt_too"):
        to_markdown(sheet)


# --- the pictures read well


@each_sheet
def test_the_happy_path_is_made_of_declared_transitions_and_ends(sheet: Sheet):
    path = sheet.happy_path
    steps = {(row.source, row.event, row.target) for row in rows_of(sheet.table)}
    assert set(zip(path[::2], path[1::2], path[2::2], strict=False)) <= steps
    assert path[0] == sheet.table.initial
    assert path[-1] in sheet.table.final


@each_sheet
def test_the_committed_svg_draws_the_happy_path_as_one_straight_line_to_the_right(sheet: Sheet):
    ends: dict[tuple[str, ...], list[tuple[float, float]]] = {}
    for group in ET.parse(COMMITTED / f"{sheet.name}.svg").iter(f"{SVG}g"):
        for path in group.iterfind(f"{SVG}g/{SVG}a/{SVG}path[@stroke-width='2.2']"):
            points = [
                tuple(map(float, pair.split(",")))
                for pair in re.findall(r"[-\d.]+,[-\d.]+", path.get("d", ""))
            ]
            title = group.findtext(f"{SVG}title", "")
            ends[tuple(title.split("->"))] = [(points[0][0], points[0][1]), (points[-1][0], points[-1][1])]
    states = sheet.happy_path[::2]
    line = [ends[step] for step in pairwise(states)]
    heights = [y for end in line for _, y in end]
    assert max(heights) - min(heights) < 2
    places = [x for end in line for x, _ in end]
    assert places == sorted(places)


def test_a_way_out_that_many_states_share_is_one_arrow():
    assert to_mermaid(SESSION_SHEET).count("cancel_requested") == 1
    assert to_dot(SESSION_SHEET).count("ltail=cluster_group") == 1
    assert to_dot(PROMPT_SHEET).count("ltail=cluster_group") == 2


def test_a_way_out_that_two_states_share_is_two_arrows():
    without = {pair: rows for pair, rows in SESSION_SHEET.table.rows.items() if pair[1] != "cancel_requested"}
    two = {
        pair: SESSION_SHEET.table.rows[pair]
        for pair in [("idle", "cancel_requested"), ("sealed", "cancel_requested")]
    }
    sheet = replace(SESSION_SHEET, table=replace(SESSION_SHEET.table, rows=without | two))
    assert "cluster_group" not in to_dot(sheet)
    assert to_mermaid(sheet).count("cancel_requested") == 2
    assert read_dot(to_dot(sheet)) == declared(sheet.table)
    assert read_mermaid(to_mermaid(sheet)) == declared(sheet.table)


def test_a_meaning_with_quotes_and_bars_breaks_neither_the_page_nor_the_picture():
    meaning = 'says "no" | never \\ <b>'
    sheet = replace(PROMPT_SHEET, meanings={**PROMPT_SHEET.meanings, "failed": meaning})
    (line,) = [line for line in to_markdown(sheet).splitlines() if line.startswith("| `failed` (final)")]
    assert line == r'| `failed` (final) | says "no" \| never \ <b> |'
    assert r'tooltip="failed: says \"no\" | never \\ <b>"' in to_dot(sheet)


# --- writing


@pytest.fixture
def fake_dot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a script in the place of graphviz' `dot`."""

    def install(script: str) -> None:
        tools = tmp_path / "tools"
        tools.mkdir(exist_ok=True)
        (tools / "dot").write_text(script)
        (tools / "dot").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")

    return install


DRAWS = """#!/bin/sh
while read -r line; do :; done
echo '<?xml version="1.0"?>'
echo '<svg xmlns="http://www.w3.org/2000/svg"/>'
"""

ALL_NAMES = {"session.mmd", "session.md", "session.svg", "prompt.mmd", "prompt.md", "prompt.svg"}


@pytest.fixture
def folder(tmp_path: Path, fake_dot: Callable[[str], None]) -> Path:
    """A folder with all diagrams of the machines as they are."""
    fake_dot(DRAWS)
    assert write_diagrams(tmp_path / "diagrams").missing_tool is None
    return tmp_path / "diagrams"


def test_all_files_are_written_and_reported_and_nothing_else_is_left_behind(folder: Path):
    report = write_diagrams(folder)
    assert {path.name for path in report.written} == ALL_NAMES
    assert {path.name for path in folder.iterdir()} == ALL_NAMES
    assert all(path.parent == folder for path in report.written)


def test_what_was_just_written_has_not_drifted(folder: Path):
    assert check_diagrams(folder) == ()


def test_the_committed_diagrams_match_the_machines():
    assert check_diagrams(COMMITTED) == ()


def test_with_the_tools_of_this_machine_the_svgs_are_drawn_or_their_absence_is_explained(tmp_path: Path):
    report = write_diagrams(tmp_path)
    assert (report.missing_tool is None) == (shutil.which("dot") is not None)
    drawn = {path.name for path in report.written}
    assert set(check_diagrams(tmp_path)) == ALL_NAMES - drawn


def test_without_graphviz_the_rest_is_written_and_one_line_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", "")
    report = write_diagrams(tmp_path)
    assert report.missing_tool is not None
    assert report.missing_tool.startswith("graphviz's `dot` is not installed, so no SVG was written; ")
    assert "\n" not in report.missing_tool
    assert {path.suffix for path in report.written} == {".mmd", ".md"}
    assert check_diagrams(tmp_path) == ("session.svg", "prompt.svg")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            "#!/bin/sh\necho 'Error: cannot draw' >&2\necho more >&2\nexit 1\n",
            "failed, .*: Error: cannot draw",
        ),
        ("#!/bin/sh\nexit 3\n", "failed, .*: it gave no reason"),
        ("#!/bin/sh\nwhile :; do :; done\n", "did not end within"),
        ("#!/bin/sh\nexit 0\n", "gave no SVG"),
        ("#!/no/such/interpreter\n", "cannot be run"),
    ],
    ids=["fails", "fails-silently", "hangs", "says-nothing", "cannot-start"],
)
def test_a_broken_graphviz_costs_only_the_svgs(
    script: str, reason: str, tmp_path: Path, fake_dot: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
):
    fake_dot(script)
    monkeypatch.setattr(files, "DOT_TIMEOUT_S", 0.1)
    report = write_diagrams(tmp_path / "diagrams")
    assert re.fullmatch(f"graphviz's `dot` {reason}.*", report.missing_tool or "")
    assert {path.name for path in (tmp_path / "diagrams").iterdir()} == ALL_NAMES - {
        "session.svg",
        "prompt.svg",
    }


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path):
    (tmp_path / "diagrams").write_text("a file, not a folder")
    with pytest.raises(StorageError, match=r"cannot write .*session\.mmd"):
        write_diagrams(tmp_path / "diagrams")


def test_a_file_that_cannot_be_put_in_place_leaves_no_draft_and_the_old_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(StorageError, match="Permission denied"):
        write_diagrams(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_two_processes_with_different_hash_seeds_write_the_same():
    script = (
        "from limner.adapters.diagrams.sheets import SHEETS\n"
        "from limner.adapters.diagrams.dot import to_dot\n"
        "from limner.adapters.diagrams.markdown import to_markdown\n"
        "for sheet in SHEETS: print(to_markdown(sheet), to_dot(sheet))\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-X", "utf8", "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert b"SessionMachine" in outputs.pop()


# --- drift


def names_of(sheet: Sheet, *suffixes: str) -> set[str]:
    return {sheet.name + suffix for suffix in suffixes}


@each_row
def test_a_dropped_transition_is_noticed_in_all_three_files(sheet: Sheet, row: Row, folder: Path):
    assert set(check_diagrams(folder, changed(sheet, row))) == names_of(sheet, ".mmd", ".md", ".svg")


@each_row
def test_a_transition_with_another_target_is_noticed_in_all_three_files(sheet: Sheet, row: Row, folder: Path):
    target = next(state for state in sheet.table.states if state not in (row.source, row.target))
    sheets = changed(sheet, row, replace(row, target=target, internal=False))
    assert set(check_diagrams(folder, sheets)) == names_of(sheet, ".mmd", ".md", ".svg")


def test_a_renamed_guard_is_noticed_in_all_three_files(folder: Path):
    for sheet in SHEETS:
        row = next(row for row in rows_of(sheet.table) if row.guards)
        ((guard, wanted),) = row.guards
        sheets = changed(sheet, row, replace(row, guards=((renamed(guard), wanted),)))
        assert set(check_diagrams(folder, sheets)) == names_of(sheet, ".mmd", ".md", ".svg")


def test_a_guard_with_the_opposite_value_is_noticed_in_all_three_files(folder: Path):
    for sheet in SHEETS:
        row = next(row for row in rows_of(sheet.table) if row.guards)
        ((guard, wanted),) = row.guards
        sheets = changed(sheet, row, replace(row, guards=((guard, not wanted),)))
        assert set(check_diagrams(folder, sheets)) == names_of(sheet, ".mmd", ".md", ".svg")


def test_a_renamed_action_is_noticed_where_actions_are_shown(folder: Path):
    for sheet in SHEETS:
        row = next(row for row in rows_of(sheet.table) if row.actions)
        sheets = changed(sheet, row, replace(row, actions=(renamed(row.actions[0]), *row.actions[1:])))
        assert set(check_diagrams(folder, sheets)) == names_of(sheet, ".md", ".svg")


@pytest.mark.parametrize("name", sorted(ALL_NAMES))
def test_an_edited_file_is_noticed(name: str, folder: Path):
    with (folder / name).open("ab") as file:
        file.write(b"\n")
    assert check_diagrams(folder) == (name,)


@pytest.mark.parametrize("name", sorted(ALL_NAMES))
def test_a_missing_file_is_noticed(name: str, folder: Path):
    (folder / name).unlink()
    assert check_diagrams(folder) == (name,)


def test_an_svg_that_was_not_drawn_by_us_is_noticed(folder: Path):
    (folder / "session.svg").write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    assert check_diagrams(folder) == ("session.svg",)


def test_an_svg_of_another_graphviz_version_has_not_drifted(folder: Path, fake_dot: Callable[[str], None]):
    before = (folder / "session.svg").read_bytes()
    fake_dot(DRAWS.replace("<svg ", '<svg width="9pt" '))
    write_diagrams(folder)
    assert (folder / "session.svg").read_bytes() != before
    assert check_diagrams(folder) == ()


def test_a_folder_that_is_not_there_lacks_every_file(tmp_path: Path):
    assert set(check_diagrams(tmp_path / "none")) == ALL_NAMES


def test_a_diagram_that_cannot_be_read_is_a_storage_error(folder: Path):
    (folder / "prompt.md").unlink()
    (folder / "prompt.md").mkdir()
    with pytest.raises(StorageError, match=r"cannot read .*prompt\.md"):
        check_diagrams(folder)


# --- the one that the web app shows, too


def test_the_picture_of_the_session_is_one_file_and_lies_in_the_package():
    shown = files_of("limner.adapters.web") / "static" / "session.svg"
    assert (COMMITTED / "session.svg").is_symlink()
    assert shown.read_bytes() == (COMMITTED / "session.svg").read_bytes()
    assert Path(str(shown)).samefile(COMMITTED / "session.svg")


def test_a_link_to_a_diagram_is_drawn_through_and_stays_a_link(folder: Path, tmp_path: Path):
    target = tmp_path / "package" / "session.svg"
    target.parent.mkdir()
    target.write_bytes(b"old")
    (folder / "session.svg").unlink()
    (folder / "session.svg").symlink_to("../package/session.svg")
    assert check_diagrams(folder) == ("session.svg",)
    write_diagrams(folder)
    assert (folder / "session.svg").is_symlink()
    assert b"limner: source" in target.read_bytes()
    assert check_diagrams(folder) == ()
