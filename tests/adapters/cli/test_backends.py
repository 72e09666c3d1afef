"""`limner backends`: who can paint, and trying one for real."""

from __future__ import annotations

import json
import re
from base64 import b64encode

import pytest
from PIL import Image
from starlette.responses import JSONResponse

from limner.adapters.factory import BACKENDS
from limner.adapters.trial import Trial
from tests.adapters.servers.horde import HordeServer
from tests.adapters.servers.sdapi import SdapiServer
from tests.support import png

NOBODY = "http://127.0.0.1:9"


def told(result) -> dict[str, str]:
    """The lines of a trial, by their first word or words."""
    return dict(line.strip().split("  ", 1) for line in result.stdout.splitlines())


def answers(result) -> dict[str, str]:
    return {name: value.strip() for name, value in told(result).items()}


def test_every_backend_is_listed_with_its_options_and_their_variables(run):
    result = run("backends")
    assert result.exit_code == 0
    for backend in BACKENDS.values():
        assert f"{backend.name}{backend.behind}  {backend.about}" in result.stdout
    assert ["steps", "whole", "number", "16", "LIMNER_SKETCH_STEPS"] in [
        line.split() for line in result.stdout.splitlines()
    ]
    assert ["workflow", "text", "needed", "LIMNER_COMFYUI_WORKFLOW"] in [
        line.split() for line in result.stdout.splitlines()
    ]


def test_the_list_as_json_names_the_same(run):
    listed = {each["name"]: each for each in json.loads(run("backends", "--json").stdout)}
    assert list(listed) == list(BACKENDS)
    [key] = [option for option in listed["gemini"]["options"] if option["name"] == "api_key"]
    assert key["variables"] == ["LIMNER_GEMINI_KEY", "GEMINI_API_KEY"]


def test_no_key_is_shown(run, monkeypatch):
    monkeypatch.setenv("LIMNER_HORDE_KEY", "hunter2")
    for arguments in (["backends"], ["backends", "--json"], ["backends", "test", f"horde={NOBODY}"]):
        result = run(*arguments)
        assert "hunter2" not in result.stdout + result.stderr


def test_a_trial_has_one_picture_made_and_says_what_it_found(run, tmp_path):
    result = run("backends", "test", "sketch", "--set", "width=120", "--set", "height=80", "-o", "first.jpg")
    assert result.exit_code == 0, result.stderr
    found = answers(result)
    assert (found["reachable"], found["authorised"]) == ("yes", "yes")
    assert found["claims"] == "progress, preview, cancel"
    assert re.fullmatch(r"[1-9]\d* reports? of progress, [1-9]\d* previews?", found["seen"])
    assert "server" not in found
    assert found["picture"].startswith("120 × 80, image/")
    assert found["kept in"] == "first.jpg"
    with Image.open(tmp_path / "first.jpg") as image:
        assert image.size == (120, 80)


def test_options_go_to_the_server(run, web):
    SdapiServer(web, b64encode(png()).decode())
    result = run("backends", "test", web.url, "--set", "steps=4", "--set", "negative-prompt=blurry")
    assert result.exit_code == 0, result.stderr
    [sent] = [received.json for received in web.received if received.path.endswith("/txt2img")]
    assert (sent["steps"], sent["negative_prompt"]) == (4, "blurry")


def test_a_server_that_is_not_there_is_told_apart_from_one_that_refuses(run, web):
    result = run("backends", "test", f"sdapi={NOBODY}")
    assert result.exit_code == 3
    assert (answers(result)["reachable"], answers(result)["authorised"]) == ("no", "not known")
    assert answers(result)["seen"] == "0 reports of progress, 0 previews"
    assert answers(result)["claims"] == "progress, preview, cancel"
    assert result.stderr.startswith(f"limner: cannot reach {NOBODY}")
    web.answer_json("/sdapi/v1/txt2img", {"detail": "Not authenticated"}, status=401)
    result = run("backends", "test", web.url, "--json")
    assert result.exit_code == 3
    trial = json.loads(result.stdout)
    assert (trial["reachable"], trial["authorised"], trial["error"]["kind"]) == (True, False, "auth")


def test_what_was_found_out_of_the_server_is_told_apart_from_what_is_claimed(run, web):
    server = SdapiServer(web, b64encode(png()).decode(), "SD.Next")
    server.previews = [None, None]
    arguments = ("backends", "test", web.url, "--set", "poll_interval_ms=0")
    found = answers(run(*arguments))
    assert found["claims"] == "progress, preview, cancel"
    assert found["seen"].endswith(" reports of progress, 0 previews")
    assert found["server"] == "tells only of whatever it is doing, and is not told to stop"
    server = SdapiServer(web, b64encode(png()).decode())
    server.previews = [None, None]
    assert json.loads(run(*arguments, "--json").stdout)["findings"].startswith("tells of our image by its id")


def test_a_limit_is_told_with_what_helps_one_picture(run, web):
    web.answer_json("/sdapi/v1/txt2img", {"detail": "slow down"}, 429, {"Retry-After": "9"})
    result = run("backends", "test", web.url)
    assert result.stderr.endswith(
        "answered 429 and asks for a pause of 9 s: slow down. Wait a while, then try again.\n"
    )


def test_a_server_that_hangs_is_told_with_what_helps(run, web):
    web.hold("/sdapi/v1/txt2img")
    result = run("backends", "test", web.url, "--timeout", "0.1")
    web.released.set()
    assert result.stderr.startswith("limner: no image within 0.1 s. Give it more time")


def test_a_server_that_wants_a_password_says_where_it_is_given(run, web):
    web.answer_json("/sdapi/v1/txt2img", {"detail": "Not authenticated"}, 401)
    assert "LIMNER_SDAPI_AUTH" in run("backends", "test", web.url).stderr
    assert "LIMNER_SDAPI_AUTH" not in run("backends", "test", web.url, "--set", "auth=a:b").stderr
    web.answer_json("/v1/images/generations", {"detail": "Not authenticated"}, 401)
    assert "LIMNER_OPENAI_KEY" in run("backends", "test", f"openai={web.url}").stderr


def test_an_answer_that_is_no_picture_is_told(run, web):
    SdapiServer(web, b64encode(b"nothing").decode())
    result = run("backends", "test", web.url)
    assert result.exit_code == 3
    assert answers(result)["picture"] == "none"
    assert answers(result)["authorised"] == "yes"


@pytest.mark.parametrize(
    "wrong",
    [
        ["crayons"],
        ["sketch", "--set", "steps"],
        ["sketch", "--set", "x=1"],
        [],
        ["sketch", "--timeout", "nan"],
    ],
)
def test_bad_usage_is_one_line_and_code_2(run, wrong):
    result = run("backends", "test", *wrong)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1


def test_a_place_that_takes_no_file_is_told_before_anything_is_painted(run, web):
    result = run("backends", "test", web.url, "-o", "nowhere/x.png")
    assert (result.exit_code, result.stderr) == (2, "limner: no folder nowhere to write x.png into\n")
    assert web.received == []


def test_a_picture_that_cannot_be_written_is_named_by_its_own_place(run, web, tmp_path):
    (tmp_path / "out").mkdir()

    async def paint_and_remove_the_folder(_):
        (tmp_path / "out").rmdir()
        return JSONResponse({"images": [b64encode(png()).decode()]})

    web.on("/sdapi/v1/txt2img", paint_and_remove_the_folder)
    result = run("backends", "test", web.url, "-o", "out/x.png", "--json")
    assert result.exit_code == json.loads(result.stdout)["exit_code"] == 4
    assert result.stderr == "limner: cannot write out/x.png: No such file or directory\n"


def test_where_a_trial_could_not_begin_json_is_an_object_all_the_same(run):
    result = run("backends", "test", "sdapi", "--json")
    assert json.loads(result.stdout) == {
        "exit_code": 2,
        "error": {
            "kind": "invalid_setting",
            "message": "sdapi needs an address: sdapi=URL",
            "hint": "Correct the setting.",
        },
    }
    assert result.stderr == "limner: sdapi needs an address: sdapi=URL\n"


def test_no_line_ends_in_blanks_and_one_is_no_plural(run, monkeypatch):
    monkeypatch.setattr("limner.adapters.cli.backends.try_out", one_report)
    listed, tried = run("backends").stdout, run("backends", "test", "sketch").stdout
    assert "seen        1 report of progress, 2 previews\n" in tried
    assert [line for line in (listed + tried).splitlines() if line != line.rstrip()] == []


async def one_report(generator, name, prompt, time_limit_s):
    return Trial(name, generator.capabilities, reports=1, previews=2)


def test_without_a_name_the_one_in_the_environment_is_tried(run, monkeypatch):
    assert run("backends", "test").exit_code == 2
    monkeypatch.setenv("LIMNER_GENERATOR", f"sdapi={NOBODY}")
    assert run("backends", "test").stderr.startswith(f"limner: cannot reach {NOBODY}")


def test_the_environment_chooses_who_paints(run, story, monkeypatch):
    monkeypatch.setenv("LIMNER_GENERATOR", f"sdapi={NOBODY}")
    result = run("illustrate", story)
    assert result.exit_code == 3
    assert f"cannot reach {NOBODY}" in result.stderr
    assert run("illustrate", story, "-g", "sketch", "--set", "steps=1").exit_code == 0


def test_several_models_are_named_with_commas(run, web, story):
    HordeServer(web, b64encode(png()).decode())
    for options in (
        ["backends", "test", f"horde={web.url}", "--set", "model=A, B"],
        ["illustrate", story, "-g", f"horde={web.url}", "--image-model", "A,B", "--attempts", "1"],
    ):
        web.received.clear()
        run(*options, "--set", "poll_interval_ms=0", "--set", "submit_interval_ms=0")
        asked = [received.json for received in web.received if received.path.endswith("/generate/async")]
        assert asked
        assert all(body["models"] == ["A", "B"] for body in asked)
