"""What the documentation shows is true: its code runs, its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from limner.adapters.inspection import PillowInspector
from limner.testing import ERROR_KINDS, GeneratorContract, ProgressRecorder, make_request

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "diagrams").glob("*.md")),
]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
NAME = re.compile(r"`(limner(?:\.\w+)+)")


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page_name(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_names_of_the_package_exist(page: Path) -> None:
    for name in NAME.findall(page.read_text()):
        found = leads_somewhere(name)
        assert found, f"{page_name(page)} speaks of {name}"


def leads_somewhere(name: str) -> bool:
    """Whether a dotted name leads to a module, or to something in one."""
    from importlib import import_module

    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            thing: object = import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            if not hasattr(thing, part):
                return False
            thing = getattr(thing, part)
        return True
    return False


def test_the_first_example_of_the_testing_page_runs() -> None:
    [example, *_] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "testing.md").read_text(), re.DOTALL)
    exec(compile(example, "docs/testing.md", "exec"), {})


@pytest.mark.anyio
async def test_the_generator_of_the_backends_page_paints() -> None:
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "backends.md").read_text(), re.DOTALL)
    [example] = [one for one in examples if "def aclose" in one]
    names: dict[str, Any] = {}
    exec(compile(example, "docs/backends.md", "exec"), names)
    progress = ProgressRecorder()
    image = await names["limner"].generator.generate(make_request(), progress)
    assert (await PillowInspector().inspect(image)).width == 512
    assert progress.fractions == [0, 1]


def test_the_contract_example_of_the_testing_page_passes(tmp_path: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "testing.md").read_text(), re.DOTALL)
    [example] = [one for one in examples if "GeneratorContract" in one]
    (tmp_path / "test_example.py").write_text(example)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    tests = sum(name.startswith("test_") for name in dir(GeneratorContract)) - 1 + len(ERROR_KINDS)
    assert f"{tests * 2} passed" in run.stdout


def test_the_embedding_example_runs() -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "embed.py")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "done: 2 of 2" in run.stdout
    assert run.stdout.count("![") == 2


def test_the_restart_example_runs() -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "restart.py")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "taken up from the journal: 1 session(s)" in run.stdout
    assert "done: 2 of 2 pictures placed, in one write" in run.stdout
    assert run.stdout.count("![") == 2
