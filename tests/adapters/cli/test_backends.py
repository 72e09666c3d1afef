"""`limner backends`: who can paint, and trying one for real."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest
from PIL import Image

from limner.adapters.factory import BACKENDS
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
    assert found["can do"] == "progress, preview, cancel"
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
    assert result.stderr.startswith(f"limner: cannot reach {NOBODY}")
    web.answer_json("/sdapi/v1/txt2img", {"detail": "Not authenticated"}, status=401)
    result = run("backends", "test", web.url, "--json")
    assert result.exit_code == 3
    trial = json.loads(result.stdout)
    assert (trial["reachable"], trial["authorised"], trial["error"]["kind"]) == (True, False, "auth")


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


def test_the_environment_chooses_who_paints(run, story, monkeypatch):
    monkeypatch.setenv("LIMNER_GENERATOR", f"sdapi={NOBODY}")
    result = run("illustrate", story)
    assert result.exit_code == 3
    assert f"cannot reach {NOBODY}" in result.stderr
    assert run("illustrate", story, "-g", "sketch", "--set", "steps=1").exit_code == 0
