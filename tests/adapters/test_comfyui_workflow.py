"""Workflows as templates: what is filled in where, and what is refused."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.adapters.comfyui_workflow import LARGEST_WORKFLOW, load_workflow
from limner.errors import InvalidSetting

WORKFLOW: dict[str, Any] = {
    "3": {
        "class_type": "KSampler",
        "inputs": {"seed": "%seed%", "steps": 20, "model": ["4", 0], "positive": ["6", 0]},
        "_meta": {"title": "%prompt%"},
    },
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": "%width%", "height": "%height%"}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "best quality, %prompt%, 4k", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "%negative_prompt%", "clip": ["4", 1]}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "%width%/%seed%"}},
}
VALUES: dict[str, str | int] = {"prompt": "a fox", "negative": "blur", "seed": 7, "width": 640, "height": 480}


def filled(*inputs: object, **values: str | int) -> list[Any]:
    """The values of inputs after filling them in."""
    graph = {"1": {"class_type": "X", "inputs": {f"in{at}": value for at, value in enumerate(inputs)}}}
    return list(load_workflow(graph).filled({**VALUES, **values})["1"]["inputs"].values())


def test_a_place_that_is_the_whole_value_gets_the_value_with_its_type():
    assert filled("%seed%", "%width%", "%height%", "%prompt%") == [7, 640, 480, "a fox"]


def test_inside_a_longer_text_the_value_is_written_as_text():
    assert filled("best, %prompt%, seed %seed%", " %seed%") == ["best, a fox, seed 7", " 7"]


def test_the_negative_prompt_has_two_spellings():
    assert filled("%negative%", "no %negative_prompt%!") == ["blur", "no blur!"]


def test_places_are_found_inside_lists_and_mappings():
    assert filled({"__value__": ["%seed%", {"text": "%prompt%"}]}) == [
        {"__value__": [7, {"text": "a fox"}]},
    ]


def test_what_is_no_place_of_ours_is_left_alone():
    untouched: list[object] = [
        "%date:yyyy-MM-dd%",
        "100%",
        "%%",
        "%steps%",
        ["4", 0],
        1.5,
        None,
        True,
        "% prompt %",
    ]
    assert filled(*untouched) == untouched


def test_everything_but_the_inputs_stays_as_it_is():
    result = load_workflow(WORKFLOW).filled(VALUES)
    assert result["3"] == {
        "class_type": "KSampler",
        "inputs": {"seed": 7, "steps": 20, "model": ["4", 0], "positive": ["6", 0]},
        "_meta": {"title": "%prompt%"},
    }


def test_comfyuis_own_variables_in_a_file_name_are_no_places():
    template = load_workflow({"9": WORKFLOW["9"]})
    assert template.places == set()
    assert template.filled(VALUES)["9"]["inputs"]["filename_prefix"] == "%width%/%seed%"


@pytest.mark.parametrize(
    "prompt",
    [
        '"}, "x": {"class_type": "Evil',
        "%seed% %negative%",
        "\\g<0> \\1 \\",
        "{}{0}%s",
        "\x00\n\ud800",
        "%prompt%",
        "",
    ],
)
def test_nothing_in_a_prompt_changes_the_workflow_around_it(prompt):
    result = load_workflow(WORKFLOW).filled({**VALUES, "prompt": prompt})
    assert result["6"]["inputs"] == {"text": f"best quality, {prompt}, 4k", "clip": ["4", 1]}
    expected = load_workflow(WORKFLOW).filled(VALUES)
    del result["6"], expected["6"]
    assert result == expected


@given(st.text())
def test_any_prompt_survives_the_way_through_json(prompt):
    result = load_workflow(WORKFLOW).filled({**VALUES, "prompt": prompt})
    assert json.loads(json.dumps(result))["6"]["inputs"]["text"] == f"best quality, {prompt}, 4k"


def test_filling_in_changes_neither_the_template_nor_the_mapping_it_was_made_of():
    given_graph = deepcopy(WORKFLOW)
    template = load_workflow(given_graph)
    assert template.filled(VALUES) == template.filled(VALUES)
    assert template.filled({**VALUES, "prompt": "b"})["6"]["inputs"]["text"] == "best quality, b, 4k"
    given_graph["6"]["inputs"]["text"] = "changed later"
    assert template.filled(VALUES)["6"]["inputs"]["text"] == "best quality, a fox, 4k"
    assert WORKFLOW["6"]["inputs"]["text"] == "best quality, %prompt%, 4k"


def test_a_workflow_is_read_from_a_file(tmp_path):
    path = tmp_path / "flow.json"
    path.write_text(json.dumps(WORKFLOW), encoding="utf-8-sig")
    for spelled in (path, str(path)):
        template = load_workflow(spelled)
        assert template.places == {"prompt", "negative", "seed", "width", "height"}
        assert list(template.classes) == ["3", "5", "6", "7", "9"]


def test_numbers_may_stand_for_node_ids_in_a_mapping():
    assert load_workflow({3: {"class_type": "KSampler", "inputs": {}}}).classes == {"3": "KSampler"}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (
            "seed",
            r"""place for the seed \(why\): write "%seed%" as the value of node 3 \(KSampler\), input 'se""",
        ),
        ("prompt", r"""write "%prompt%" as the value of node 6 \(CLIPTextEncode\), input 'text' or node 7"""),
        (
            "negative",
            r"""no place for the negative prompt \(why\): write "%negative_prompt%" as the value of node 6""",
        ),
        ("width", r"""write "%width%" as the value of node 5 \(EmptyLatentImage\), input 'width'"""),
    ],
)
def test_a_place_that_is_missing_is_named_with_where_it_belongs(place, words):
    plain = json.loads(json.dumps(WORKFLOW).replace("%", ""))
    with pytest.raises(InvalidSetting, match=words):
        load_workflow(plain).require(place, "why")
    load_workflow(WORKFLOW).require(place, "why")


def test_an_input_that_is_another_place_already_is_not_offered():
    graph = deepcopy(WORKFLOW)
    graph["7"]["inputs"]["text"] = "blurry"
    with pytest.raises(InvalidSetting) as caught:
        load_workflow(graph).require("negative", "why")
    assert str(caught.value).endswith("as the value of node 7 (CLIPTextEncode), input 'text'")


@pytest.mark.parametrize(
    ("written", "meant"),
    [("%promt%", "%prompt%"), ("best, %Prompt%", "%prompt%"), ("%widht%", "%width%"), ("%negativ%", "%neg")],
)
def test_a_place_with_a_typing_error_is_named(written, meant):
    graph = deepcopy(WORKFLOW)
    graph["6"]["inputs"]["text"] = [{"deep": written}]
    place = "node 6 \\(CLIPTextEncode\\), input 'text'"
    with pytest.raises(InvalidSetting, match=f'"%.*%" in {place}, which is no place: write "{meant}'):
        load_workflow(graph)
    # Names of files are ComfyUI's own.
    graph["6"]["inputs"] = {"text": "a", "filename_prefix": written}
    load_workflow(graph)


def test_a_missing_place_that_could_be_anywhere_is_named_too():
    with pytest.raises(InvalidSetting, match="as the value of the input that takes it"):
        load_workflow({"1": {"class_type": "X"}}).require("seed", "why")
    many = {str(at): {"class_type": "KSampler", "inputs": {"seed": 1}} for at in range(5)}
    with pytest.raises(InvalidSetting, match=r"node 2 \(KSampler\), input 'seed' \(and 2 more\)"):
        load_workflow(many).require("seed", "why")


def test_a_node_that_is_missing_is_named_with_those_that_are_there():
    template = load_workflow(WORKFLOW)
    template.require_node("9")
    with pytest.raises(
        InvalidSetting, match=r"has no node '8'; it has: 3 \(KSampler\), 5 \(EmptyLatentImage\)"
    ):
        template.require_node("8")


@pytest.mark.parametrize(
    "graph",
    [
        {"last_node_id": 9, "nodes": [{"id": 3, "type": "KSampler"}], "links": [], "version": 0.4},
        {"nodes": []},
    ],
)
def test_the_editors_own_format_is_refused_with_how_to_export_the_other(graph):
    with pytest.raises(
        InvalidSetting, match=r"editor's format.*Export Workflow \(API\).*Save \(API Format\)"
    ):
        load_workflow(graph)


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        ({}, "a mapping of nodes"),
        ({"prompt": {"3": {"class_type": "KSampler"}}}, "its entry 'prompt' has no class_type; export it"),
        ({"3": "KSampler"}, "its entry '3' has no class_type"),
        ({"3": {"class_type": 3}}, "its entry '3' has no class_type"),
        ({"3": {"class_type": "KSampler", "inputs": []}}, "the inputs of node '3'"),
        ({"3": {"class_type": "X", "inputs": {"a": object()}}}, "cannot be written as JSON"),
        ({"3": {"class_type": "X", "inputs": {"a": float("nan")}}}, "cannot be written as JSON"),
    ],
)
def test_a_mapping_that_is_no_workflow_is_refused(graph, words):
    with pytest.raises(InvalidSetting, match=words):
        load_workflow(graph)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not JSON"),
        (b"{'a': 1}", "is not JSON"),
        (b"\xff\xfe{\x00", "is not JSON"),
        (b"[1, 2]", "not in ComfyUI's API format, a mapping of nodes"),
        (b"[" * 100_000, "is not JSON"),
        (
            b'{"3": {"class_type": "X", "inputs": {"a": ' + b"[" * 800 + b"]" * 800 + b"}}}",
            "nested too deeply",
        ),
        (b" " * (LARGEST_WORKFLOW + 1), "more than 16777216 bytes"),
    ],
)
def test_a_file_that_is_no_workflow_is_refused_by_its_name(content, words, tmp_path):
    path = tmp_path / "flow.json"
    path.write_bytes(content)
    with pytest.raises(InvalidSetting, match=words) as caught:
        load_workflow(path)
    assert "flow.json" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"), [("missing.json", "no such file"), ("", "is a directory"), ("a\0b", "null byte")]
)
def test_a_file_that_cannot_be_read_is_refused(name, words, tmp_path):
    with pytest.raises(InvalidSetting, match=words):
        load_workflow(f"{tmp_path}/{name}")
