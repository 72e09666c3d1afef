"""The command `limner serve`: what it refuses, how it starts, and how it ends."""

from __future__ import annotations

import re
import signal
import socket
import sys
import threading
from typing import Any

import httpx
import pytest
from starlette.responses import Response

from limner.adapters.cli.errors import BadInput
from limner.errors import UnknownMessage
from tests.adapters.cli.conftest import PATIENCE_S, start
from tests.adapters.proxy.house import CHAT, FOX, Stream, holders_of, piece, reply_of
from tests.adapters.servers.local import WebServer
from tests.studio import Studio, tag
from tests.support import png


@pytest.mark.parametrize("url", ["", "127.0.0.1:11434", "ftp://host/v1", "http://"])
def test_an_upstream_that_is_no_address_is_one_line(run, url):
    result = run("serve", "--upstream", url)
    assert result.exit_code == 2
    assert result.stderr.startswith("limner: ")
    assert result.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_one_line(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("serve", "--upstream", "http://127.0.0.1:9", "--port", str(port))
    assert result.exit_code == 2
    assert result.stderr == (f"limner: port {port} of 127.0.0.1 is in use; choose another one with --port\n")


@pytest.mark.parametrize("host", ["no such host", "203.0.113.7"])
def test_a_host_that_is_not_this_machine_is_one_line(run, host):
    result = run("serve", "--upstream", "http://127.0.0.1:9", "--host", host, "--port", "0")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("package", ["uvicorn", "starlette"])
def test_without_the_extra_it_says_how_to_install_it(run, monkeypatch, package):
    for name in [name for name in sys.modules if name.startswith("limner.adapters.proxy")]:
        monkeypatch.delitem(sys.modules, name)
    missing = [name for name in sys.modules if name.split(".")[0] == package]
    for name in [package, *missing]:
        monkeypatch.setitem(sys.modules, name, None)
    result = run("serve", "--upstream", "http://127.0.0.1:9", "--port", "0")
    assert result.exit_code == 2
    assert "pip install '/path/to/limner[server]'" in result.stderr
    assert result.stderr.count("\n") == 1


def test_only_regular_expressions_cannot_be_taught(run):
    result = run("serve", "--upstream", "http://127.0.0.1:9", "--pattern", r"\[(.+)\]", "--teach")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "add a --preset" in result.stderr


@pytest.mark.parametrize("upstream", ["http://127.0.0.1:8808", "http://localhost:8808/v1"])
def test_a_proxy_before_itself_is_refused(run, upstream):
    result = run("serve", "--upstream", upstream)
    assert result.exit_code == 2
    assert "is this proxy itself" in result.stderr


def test_a_proxy_before_another_name_of_its_machine_is_refused(run, monkeypatch):
    look_up = socket.getaddrinfo
    known = {"my-machine.lan": "127.0.0.1"}
    monkeypatch.setattr("limner.adapters.cli.serve.Limner", None)  # it must not come so far
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda name, *rest, **more: look_up(known.get(name, name), *rest, **more)
    )
    result = run("serve", "--host", "0.0.0.0", "--upstream", "http://my-machine.lan:8808/v1")
    assert result.exit_code == 2
    assert "is this proxy itself" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("address", ["foo", "ftp://x", "http://", "http://[x"])
def test_an_address_that_no_reader_can_follow_is_refused(run, address):
    result = run("serve", "--upstream", "http://127.0.0.1:9", "--public-url", address)
    assert result.exit_code == 2
    assert result.stderr.startswith("limner: --public-url")
    assert result.stderr.count("\n") == 1


@pytest.fixture
def made_of(run, monkeypatch, tmp_path):
    """What the command makes its Limner of; then it ends."""
    made: dict[str, Any] = {}

    def make(*_: object, **settings: Any) -> None:
        made.update(settings)
        raise BadInput("that was all")

    def serve(*arguments: str) -> dict[str, Any]:
        monkeypatch.setattr("limner.adapters.cli.serve.Limner", make)
        result = run("serve", "--upstream", "http://127.0.0.1:9", "--data-dir", str(tmp_path), *arguments)
        assert result.stderr == "limner: that was all\n"
        return made

    return serve


@pytest.mark.anyio
async def test_pictures_that_are_not_finished_are_not_looked_at_since_no_reply_shows_them(made_of):
    assert await made_of()["inspector"].thumbnail(png(1)) is None


@pytest.mark.anyio
async def test_its_journal_keeps_nothing_of_a_reply_that_has_ended(made_of):
    async with Studio(journal=made_of()["journal"]) as studio:
        await studio.illustrate("m", tag("a cat on a mat"))
        await studio.limner.forget("m")
        with pytest.raises(UnknownMessage):
            await studio.limner.finished("m")
        assert not holders_of("a cat on a mat", studio.limner, [studio.painter, studio.store])


@pytest.mark.parametrize(
    ("given", "per_message"), [([], 2), (["--max-concurrent", "5"], 5), (["--max-per-message", "1"], 1)]
)
def test_one_reply_may_have_all_images_at_once_made_unless_less_is_asked_for(made_of, given, per_message):
    assert made_of(*given)["max_per_message"] == per_message


@pytest.mark.parametrize("number", ["0", "-1", "few"])
def test_fewer_than_one_image_of_a_reply_at_once_is_one_line(run, number):
    result = run("serve", "--upstream", "http://127.0.0.1:9", "--max-per-message", number)
    assert result.exit_code == 2
    assert result.stderr.startswith("limner: ")
    assert "--max-per-message" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.fixture
def web():
    server = WebServer()
    yield server
    server.close()


class Served:
    """The command as a process; `url` is where it listens."""

    def __init__(self, *arguments: str) -> None:
        self.process = start("serve", "--port", "0", *arguments)
        assert self.process.stderr is not None
        self.said: list[str] = []
        while not self.said or "is ready" not in self.said[-1]:
            line = self.process.stderr.readline().decode()
            assert line, f"it ended: {self.said}"
            self.said.append(line)
        port = re.findall(r":(\d+)/v1", self.said[-1])[0]
        self.url = f"http://127.0.0.1:{port}"

    def interrupt(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGINT)
        _, rest = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, rest.decode()


@pytest.fixture
def served():
    running: list[Served] = []

    def serve(*arguments: str) -> Served:
        running.append(Served(*arguments))
        return running[-1]

    yield serve
    for each in running:
        if each.process.poll() is None:
            each.process.kill()
            each.process.communicate()


def test_it_illustrates_a_reply_and_ends_at_ctrl_c(served, web, tmp_path):
    web.answer(CHAT, Stream(reply_of(f"Once {FOX}")).response)
    proxy = served("--upstream", web.url, "--data-dir", str(tmp_path / "kept"), "--profile", "markdown")
    body = {"stream": True, "messages": [{"role": "user", "content": "x"}], "model": "m"}
    answer = httpx.post(f"{proxy.url}{CHAT}", json=body, timeout=PATIENCE_S)
    (address,) = re.findall(r"!\[a red fox in the snow\]\((\S+?)\)", answer.text)
    assert address.startswith(f"{proxy.url}/limner/images/")
    assert httpx.get(address).headers["content-type"].startswith("image/")
    assert proxy.interrupt() == (0, "limner: ended\n")
    assert len(list((tmp_path / "kept" / "images").iterdir())) == 1
    assert f"limner: chat server: {web.url}\n" in proxy.said


def test_a_model_is_taught_to_write_few_tags_since_it_writes_replies_and_no_stories(served, web):
    web.answer(CHAT, Stream(reply_of("Hello.")).response)
    proxy = served("--upstream", web.url, "--teach")
    body = {"stream": True, "messages": [{"role": "user", "content": "x"}], "model": "m"}
    httpx.post(f"{proxy.url}{CHAT}", json=body, timeout=PATIENCE_S)
    assert "at most two" in web.received[0].json["messages"][0]["content"]


def test_a_painter_that_fails_is_told_of_where_it_was_started(served, web):
    web.answer(CHAT, Stream(reply_of(FOX)).response)
    proxy = served("--upstream", web.url, "--generator", "sdapi=http://127.0.0.1:1", "--attempts", "1")
    httpx.post(f"{proxy.url}{CHAT}", json={"stream": True, "messages": []}, timeout=PATIENCE_S)
    code, said = proxy.interrupt()
    assert code == 0
    assert "generation_failed" in said
    assert "connection refused" in said


def test_ctrl_c_ends_it_cleanly_while_replies_still_stream(served, web):
    stream = Stream([piece("Once"), piece(f" {FOX}")], held=True)
    web.answer(CHAT, stream.response)
    proxy = served("--upstream", web.url)
    begun, ended = threading.Event(), threading.Event()

    def read() -> None:
        try:
            with httpx.stream("POST", f"{proxy.url}{CHAT}", json={"stream": True, "messages": []}) as answer:
                for _ in answer.iter_raw():
                    begun.set()
        except httpx.HTTPError:
            ended.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(PATIENCE_S)
    code, said = proxy.interrupt()
    # The picture may have been finished in that very moment, which is worth a line of the log.
    told = [line for line in said.splitlines() if "image_came_too_late" not in line]
    assert (code, told) == (0, ["limner: ended"])
    assert ended.wait(PATIENCE_S)
    assert stream.gone.wait(PATIENCE_S)
    reader.join()


def test_other_hosts_than_this_machine_are_warned_about(served, web):
    web.answer("/v1/models", Response(b"{}"))
    proxy = served("--upstream", web.url, "--host", "0.0.0.0")
    assert proxy.said[0].startswith("limner: listening on 0.0.0.0: whoever reaches it")
    assert httpx.get(f"{proxy.url}/v1/models").status_code == 200
    assert proxy.interrupt()[0] == 0


def test_pages_of_other_sites_are_kept_out_where_other_machines_are_not(served, web):
    web.answer("/v1/models", Response(b"{}"))
    web.answer(CHAT, Response(b"{}"))
    proxy = served("--upstream", web.url, "--host", "0.0.0.0", "--allow-host", "chat.example")
    for host, status in {"evil.example": 421, "chat.example": 200, "limner": 200, "192.0.2.1": 200}.items():
        assert httpx.get(f"{proxy.url}/v1/models", headers={"host": host}).status_code == status
    from_a_page = {"origin": "https://evil.example", "content-type": "text/plain"}
    assert httpx.post(f"{proxy.url}{CHAT}", content=b"{}", headers=from_a_page).status_code == 403
