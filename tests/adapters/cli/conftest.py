"""Running the command line: in this process for the many cases, as a process of its own for the real ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner, Result

from limner.adapters.cli import main

PATIENCE_S = 60

STORY = """# Ärger im Wald

One.

<!--img-prompt="a red fox in the snow"-->

Two.

<img_prompt="a lighthouse at night">

Three.
"""


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The command writes where it stands, reads keys from the environment and configures the logs."""
    monkeypatch.chdir(tmp_path)
    settings = [name for name in os.environ if name.startswith("LIMNER_")]
    for name in (*settings, "OPENAI_API_KEY", "GEMINI_API_KEY", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    # `sketch` paints for real, but stamps: the size of a card is not what these tests are about.
    for name, value in (("WIDTH", "96"), ("HEIGHT", "64"), ("STEPS", "1")):
        monkeypatch.setenv(f"LIMNER_SKETCH_{name}", value)
    yield
    structlog.reset_defaults()


@pytest.fixture
def story(tmp_path: Path) -> Path:
    """A Markdown file with two prompts."""
    path = tmp_path / "story.md"
    path.write_text(STORY, encoding="utf-8")
    return path


Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """Runs the command in this process."""

    def run_command(*arguments: str | os.PathLike[str], stdin: bytes | str | None = None) -> Result:
        return CliRunner().invoke(main, [os.fspath(argument) for argument in arguments], input=stdin)

    return run_command


def start(*arguments: str, env: Mapping[str, str] | None = None, **settings) -> subprocess.Popen[bytes]:
    """Start the command as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "limner", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **(env or {})},
        **settings,
    )


def files_in(folder: Path) -> set[str]:
    """The names of everything in a folder, at any depth."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
