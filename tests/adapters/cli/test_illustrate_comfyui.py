"""`limner illustrate --generator comfyui=URL`: the whole way through a workflow."""

from __future__ import annotations

import json

import pytest

from limner.text import find_images, strip_illustrations
from tests.adapters.cli.conftest import STORY
from tests.adapters.servers.comfyui import WORKFLOW


@pytest.fixture(autouse=True)
def flow(tmp_path):
    (tmp_path / "flow.json").write_text(json.dumps(WORKFLOW))


def test_a_text_is_illustrated_by_a_workflow(run, story, tmp_path, comfy):
    result = run("illustrate", story, "-g", f"comfyui={comfy.url}", "--workflow", "flow.json")
    assert result.exit_code == 0, result.stderr
    text = (tmp_path / "story.illustrated.md").read_text(encoding="utf-8")
    assert len(find_images(text)) == 2
    assert strip_illustrations(text) == STORY
    prompts = [sent["prompt"]["6"]["inputs"]["text"] for sent in comfy.asked("/prompt")]
    assert sorted(prompts) == ["a lighthouse at night", "a red fox in the snow"]


def test_the_workflow_may_come_from_the_environment(run, story, comfy, monkeypatch):
    monkeypatch.setenv("LIMNER_COMFYUI_WORKFLOW", "flow.json")
    result = run("illustrate", story, "-g", f"comfyui={comfy.url}")
    assert result.exit_code == 0, result.stderr
    assert len(comfy.asked("/prompt")) == 2


def test_a_workflow_that_the_server_refuses_is_told_in_its_words(run, story, tmp_path, comfy):
    graph = {**WORKFLOW, "10": {"class_type": "RareNode", "inputs": {}}}
    (tmp_path / "flow.json").write_text(json.dumps(graph))
    result = run("illustrate", story, "-g", f"comfyui={comfy.url}", "--workflow", "flow.json")
    assert result.exit_code == 3
    assert "Node 'RareNode' not found. The custom node may not be installed." in result.stderr
    assert not (tmp_path / "story.illustrated.md").exists()
