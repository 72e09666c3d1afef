"""`limner demo`: the page or the terminal run, what each takes, and an end without a word too many."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from limner.adapters.cli import demo as demo_module
from tests.adapters.cli.conftest import start
from tests.adapters.servers.local import WebServer
from tests.journeys.test_cli_demo import AT_ONCE

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(demo_module, "Pace", lambda: AT_ONCE)


class Demo:
    """The command as a process that serves the page."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.process = start("demo", "--page", "--port", "0", *arguments, env=env)
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline().decode() + self.process.stdout.readline().decode()
        found = re.search(r"http://127\.0\.0\.1:\d+/", self.said)
        assert found, self.said + (self.process.stderr.read().decode() if self.process.stderr else "")
        self.address = found[0]

    def get(self, path: str = "") -> str:
        with urllib.request.urlopen(self.address + path, timeout=20) as answer:
            body: bytes = answer.read()
        return body.decode()

    def end(self, number: signal.Signals) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out.decode(), err.decode()


@pytest.fixture
def served():
    """Starts the page; whatever is left of it at the end is killed."""
    demos: list[Demo] = []

    def serve(*arguments: str, **settings) -> Demo:
        demos.append(Demo(*arguments, **settings))
        return demos[-1]

    yield serve
    for demo in demos:
        if demo.process.poll() is None:
            demo.process.kill()
        demo.process.communicate()


# --- which of the two


@pytest.mark.usefixtures("quick")
def test_without_a_terminal_the_story_is_told_right_here_and_one_line_says_why(run):
    result = run("demo")
    assert result.exit_code == 0
    first, *_ = result.stdout.splitlines()
    assert first == "No terminal here, so the story is told right here (limner demo --page shows the page)."
    assert Path("demo-output/story.html").is_file()


@pytest.mark.usefixtures("quick")
def test_no_browser_is_the_terminal_run_and_says_nothing_about_pages(run):
    result = run("demo", "--no-browser", "--output", "here")
    assert result.exit_code == 0
    assert "--page" not in result.stdout
    assert Path("here/story.md").is_file()


def test_at_a_terminal_it_is_the_page(tmp_path):
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "limner", "demo", "--port", "0"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "BROWSER": "true"},
    )
    try:
        os.close(slave)
        said = b""
        while b"Ctrl-C" not in said:
            said += os.read(master, 1000)
        assert b"The demo is at  http://127.0.0.1:" in said
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        os.close(master)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--no-browser", "--page"], "--no-browser tells its story in the terminal"),
        (["--no-browser", "--upstream", NOBODY], "--no-browser tells its story in the terminal"),
        (["--no-browser", "--port", "1"], "--no-browser tells its story in the terminal"),
        (["--model", "tiny"], "--model needs --upstream URL"),
        (["--upstream", NOBODY], "add --page"),
        (["--generator", "sketch"], "add --page"),
        (["--page", "--generator", "nobody"], "no generator 'nobody'"),
        (["--page", "--set", "colour=red"], "has no option 'colour'"),
        (["--page", "--port", "99999"], "99999"),
    ],
)
def test_what_contradicts_itself_is_refused_in_one_line(run, arguments, words):
    result = run("demo", *arguments)
    assert result.exit_code == 2
    [line] = result.stderr.splitlines()
    assert words in line


# --- the page


def test_the_page_is_served_until_ctrl_c_and_leaves_nothing_behind(served, tmp_path):
    demo = served(env={"TMPDIR": str(tmp_path)})
    assert "Written by the embedded storyteller, painted by the offline painter" in demo.said
    assert "for this run only" in demo.said
    assert "What shall be told?" in demo.get()
    assert any(tmp_path.iterdir())
    assert demo.end(signal.SIGINT) == (0, "The demo has ended.\n", "")
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_somebody_reads_ends_as_well(served):
    demo = served()
    with urllib.request.urlopen(demo.address + "api/changes", timeout=20) as changes:
        assert changes.readline().startswith(b"data: ")
        assert demo.end(signal.SIGTERM) == (0, "The demo has ended.\n", "")


def test_the_browser_is_shown_the_address(served, tmp_path):
    shown = tmp_path / "shown"
    os.mkfifo(shown)
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {shown}\n')
    browser.chmod(0o755)
    demo = served(env={"BROWSER": f"{browser} %s"})
    assert shown.read_text().strip() == demo.address


def test_a_conversation_is_kept_where_it_was_told_to_be(served, tmp_path):
    folder = tmp_path / "kept" / "here"
    demo = served("--data-dir", str(folder))
    assert f"is kept in {folder}" in demo.said
    demo.end(signal.SIGINT)
    assert (folder / "chat.sqlite3").is_file()


def test_a_port_that_is_taken_is_said_so(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("demo", "--page", "--port", str(port))
    assert result.exit_code == 2
    assert result.stderr.startswith(f"limner: cannot listen at port {port}: ")


def test_an_upstream_that_cannot_be_reached_is_told_at_once(run):
    result = run("demo", "--page", "--port", "0", "--upstream", NOBODY)
    assert result.exit_code == 3
    assert result.stderr.startswith("limner: cannot reach http://127.0.0.1:9/v1/models")


def test_the_first_model_of_the_upstream_writes_and_the_key_stays_here(served, tmp_path):
    server = WebServer()
    try:
        server.answer_json("/v1/models", {"data": [{"id": "tiny-1"}]})
        demo = served("--upstream", server.url, env={"LIMNER_OPENAI_KEY": "sk-very-secret"})
        assert server.received[0].headers["authorization"] == "Bearer sk-very-secret"
        assert "Written by tiny-1 at 127.0.0.1" in demo.said
        assert "tiny-1" in demo.get("api/conversation")
        for path in ("", "api/conversation", "static/demo.js"):
            assert "sk-very-secret" not in demo.get(path)
    finally:
        server.close()


def test_without_the_extra_one_line_says_what_to_install(run, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("limner.adapters.demo")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = run("demo", "--page")
    assert result.exit_code == 2
    [line] = result.stderr.splitlines()
    assert "pip install '/path/to/limner[server]'" in line
    assert "limner demo --no-browser" in line
