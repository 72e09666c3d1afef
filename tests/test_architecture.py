"""The house rules that a machine can check, read from the source of every module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "limner"
MODULES = sorted(PACKAGE.rglob("*.py"))

MAY_IMPORT = {
    "errors": set(),
    "text": {"errors", "text"},
    "states": {"errors", "states"},
    "workflows": {"errors", "text", "states", "workflows"},
    "adapters": {"errors", "text", "states", "workflows", "adapters", ""},
    "testing": {"errors", "workflows", "adapters", "testing"},
    "__main__": {"adapters"},
    "__init__": {"errors", "text", "states", "workflows", "adapters"},
}
"""Imports point one way. "" is the package itself, where its version is."""

READS_TIME_OR_CHANCE = {"time", "datetime", "random", "sched", "secrets"}


def imports(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def part_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def named(module: Path) -> str:
    return str(module.relative_to(PACKAGE))


@pytest.mark.parametrize("module", MODULES, ids=named)
def test_imports_point_one_way(module: Path) -> None:
    for name in imports(module):
        if name.split(".")[0] == "limner":
            imported = name.split(".")[1] if "." in name else ""
            assert imported in MAY_IMPORT[part_of(module)], f"{named(module)} imports {name}"


@pytest.mark.parametrize("module", MODULES, ids=named)
def test_every_module_says_what_it_is(module: Path) -> None:
    assert ast.get_docstring(ast.parse(module.read_text()))


def test_a_module_that_grows_past_450_lines_has_become_two() -> None:
    grown = {
        named(module): lines for module in MODULES if (lines := len(module.read_text().splitlines())) > 450
    }
    assert not grown


def importers(*packages: str) -> list[str]:
    return [named(m) for m in MODULES if any(name.split(".")[0] in packages for name in imports(m))]


def test_one_module_imports_the_http_client() -> None:
    # httpcore is the transport below httpx, and raises the errors of a connection that became a websocket.
    assert importers("httpx", "httpcore") == ["adapters/http.py"]


def test_one_module_speaks_the_websocket_protocol() -> None:
    # It is handed connections that the HTTP client has made, and imports none itself.
    assert importers("wsproto") == ["adapters/websocket.py"]


def test_one_package_imports_pytest_and_is_imported_by_no_other() -> None:
    # It is no dependency: whoever installs Limner to run it does without.
    assert {Path(name).parts[0] for name in importers("pytest")} == {"testing"}


def test_only_the_clock_reads_the_time() -> None:
    readers = {
        named(module)
        for module in MODULES
        if part_of(module) in {"states", "text", "workflows"}
        and any(name.split(".")[0] in READS_TIME_OR_CHANCE for name in imports(module))
    }
    # The limit on users' own patterns is one of processor time; nothing but a refusal depends on it.
    pattern_limit = {"text/regex_scan.py", "text/user_regex.py"}
    assert readers == {"workflows/clock.py"} | pattern_limit


def test_nothing_in_the_workflows_sleeps_by_itself() -> None:
    for module in MODULES:
        if part_of(module) in {"states", "text", "workflows"}:
            for node in ast.walk(ast.parse(module.read_text())):
                if isinstance(node, ast.Attribute) and node.attr in {"sleep", "sleep_until", "sleep_forever"}:
                    owner = ast.unparse(node.value)
                    assert owner.endswith("alarm"), f"{named(module)} calls {owner}.{node.attr}"


def test_the_pure_parts_await_nothing_and_touch_no_files() -> None:
    for module in MODULES:
        if part_of(module) in {"states", "text"}:
            tree = ast.parse(module.read_text())
            for node in ast.walk(tree):
                assert not isinstance(node, (ast.AsyncFunctionDef, ast.Await)), named(module)
            foreign = {name.split(".")[0] for name in imports(module)} & {
                "anyio",
                "asyncio",
                "pathlib",
                "os",
                "io",
            }
            assert not foreign, f"{named(module)} imports {foreign}"


@pytest.mark.parametrize("folder", ["states", "workflows", "adapters"])
def test_the_folders_at_the_top_are_links_into_the_package(folder: str) -> None:
    link = ROOT / folder
    assert link.is_symlink()
    assert link.resolve() == PACKAGE / folder


def test_type_checkers_are_told_that_the_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()
