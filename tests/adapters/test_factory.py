"""From words to a generator."""

from __future__ import annotations

import json
import os
import traceback
from typing import Any

import pytest

from limner.adapters.comfyui import ComfyUIGenerator
from limner.adapters.factory import BACKENDS, POSSIBLE, generator_from
from limner.adapters.gemini import GeminiGenerator
from limner.adapters.horde import HordeGenerator
from limner.adapters.json_generator import JSONGenerator
from limner.adapters.openai_images import OpenAIImagesGenerator
from limner.adapters.pollinations import PollinationsGenerator
from limner.adapters.sdapi import SdapiGenerator
from limner.adapters.sketch import SketchGenerator
from limner.errors import InvalidSetting
from tests.adapters.servers.comfyui import WORKFLOW


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    settings = [name for name in os.environ if name.startswith("LIMNER_")]
    for name in (*settings, "OPENAI_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("spec", "kind", "shown"),
    [
        ("sketch", SketchGenerator, ""),
        (" Sketch ", SketchGenerator, ""),
        ("sdapi=http://127.0.0.1:7860", SdapiGenerator, "http://127.0.0.1:7860/"),
        ("http://127.0.0.1:7860", SdapiGenerator, "http://127.0.0.1:7860/"),
        ("HTTPS://host/a=b", SdapiGenerator, "https://host/a=b/"),
        ("openai=https://api.openai.com", OpenAIImagesGenerator, "https://api.openai.com/v1/"),
        ("horde", HordeGenerator, "https://aihorde.net/api/v2/"),
        ("Horde=http://127.0.0.1:7001", HordeGenerator, "http://127.0.0.1:7001/api/v2/"),
        ("gemini=http://proxy", GeminiGenerator, "http://proxy/v1beta/"),
        ("pollinations", PollinationsGenerator, "https://image.pollinations.ai/prompt/"),
        ("pollinations=http://h", PollinationsGenerator, "http://h/image/"),
    ],
)
def test_a_name_and_an_address_choose_the_generator(spec, kind, shown):
    generator = generator_from(spec)
    assert type(generator) is kind
    assert shown in repr(generator)


def test_options_reach_the_generator_and_none_counts_as_not_given():
    assert type(generator_from("sketch", width=100, height=None)) is SketchGenerator
    with pytest.raises(InvalidSetting, match="width"):
        generator_from("sketch", width=1)
    assert "model='flux'" in repr(generator_from("openai=http://h", model="flux", size=None))
    assert "model='gpt-image-1'" in repr(generator_from("openai=http://h"))


@pytest.mark.parametrize(
    ("environment", "option", "key"),
    [
        ({}, None, None),
        ({"OPENAI_API_KEY": "open"}, None, "open"),
        ({"OPENAI_API_KEY": "open", "LIMNER_OPENAI_KEY": "ours"}, None, "ours"),
        ({"OPENAI_API_KEY": "open", "LIMNER_OPENAI_KEY": ""}, None, "open"),
        ({"LIMNER_OPENAI_KEY": "ours"}, "given", "given"),
    ],
)
def test_the_key_comes_from_the_option_or_the_environment(environment, option, key, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    generator = generator_from("openai=http://h", api_key=option)
    assert isinstance(generator, OpenAIImagesGenerator)
    sent = generator._client._headers.get("authorization")
    assert sent == (f"Bearer {key}" if key else None)


@pytest.fixture
def workflow(tmp_path):
    path = tmp_path / "flow.json"
    path.write_text(json.dumps(WORKFLOW))
    return str(path)


def test_a_workflow_chooses_what_comfyui_paints_with(workflow):
    generator = generator_from("comfyui=http://host:8188", workflow=workflow, output_node="9", width=None)
    assert type(generator) is ComfyUIGenerator
    assert repr(generator) == "ComfyUIGenerator('http://host:8188/')"
    assert type(generator_from("ComfyUI=http://host:8188", workflow=WORKFLOW)) is ComfyUIGenerator
    with pytest.raises(InvalidSetting, match="no place for the width"):
        generator_from("comfyui=http://host:8188", workflow=workflow, width=512)


def test_the_workflow_and_the_key_for_comfyui_may_come_from_the_environment(workflow, monkeypatch):
    monkeypatch.setenv("LIMNER_COMFYUI_WORKFLOW", workflow)
    plain = generator_from("comfyui=http://host:8188")
    assert isinstance(plain, ComfyUIGenerator)
    assert "authorization" not in plain._client._headers
    monkeypatch.setenv("LIMNER_COMFYUI_KEY", "ours")
    keyed = generator_from("comfyui=http://host:8188")
    assert isinstance(keyed, ComfyUIGenerator)
    assert keyed._client._headers["authorization"] == "Bearer ours"
    with pytest.raises(InvalidSetting, match=r"other\.json"):
        generator_from("comfyui=http://host:8188", workflow="other.json")


def test_comfyui_without_a_workflow_is_refused_with_where_to_name_one(monkeypatch):
    monkeypatch.setenv("LIMNER_COMFYUI_WORKFLOW", "")
    with pytest.raises(InvalidSetting, match=r"--set workflow=…\), or LIMNER_COMFYUI_WORKFLOW in"):
        generator_from("comfyui=http://host:8188")


def test_every_option_may_come_from_the_environment_and_what_is_given_goes_before(monkeypatch):
    monkeypatch.setenv("LIMNER_OPENAI_MODEL", "flux")
    assert "model='flux'" in repr(generator_from("openai=http://h"))
    assert "model='other'" in repr(generator_from("openai=http://h", model="other"))
    monkeypatch.setenv("LIMNER_OPENAI_MODEL", "")
    assert "model='gpt-image-1'" in repr(generator_from("openai=http://h"))


@pytest.mark.parametrize(
    ("backend", "name"),
    [(backend, option.name) for backend in BACKENDS.values() for option in backend.options.values()],
    ids=lambda each: getattr(each, "name", each),
)
def test_an_option_of_another_kind_is_refused_by_its_name(backend, name, tmp_path):
    description = tmp_path / "server.json"
    description.write_text('{"url": "http://h/%prompt%?w=%width%&h=%height%", "image": "$.image"}')
    needed = {"workflow": WORKFLOW} if backend.name == "comfyui" else {}
    behinds: dict[str, list[Any]] = {
        "=URL": ["http://h"],
        "=FILE": [str(description)],
        "=MODEL": [lambda prompt: prompt],
    }
    with pytest.raises(InvalidSetting, match=rf"\b{name} must be (a|True|of type (int|str))\b"):
        backend.made({**needed, name: object()}, *behinds.get(backend.behind, []))
    if backend.options[name].form in ("a number", "a whole number"):
        with pytest.raises(InvalidSetting, match=rf"\b{name} must be (a|of type int)\b"):
            backend.made({**needed, name: float("nan")}, *behinds.get(backend.behind, []))


@pytest.mark.parametrize(
    ("spec", "options", "told"),
    [
        (
            "comfyui=http://h",
            {"workflow": WORKFLOW, "headers": {"x": 1}},
            "value of the header x must be a text",
        ),
        ("comfyui=http://h", {"workflow": WORKFLOW, "headers": {"bad name": "v"}}, "name 'bad name'"),
        ("comfyui=http://h", {"workflow": WORKFLOW, "headers": {"": "v"}}, "name ''"),
        ("comfyui=http://h", {"workflow": WORKFLOW, "headers": {1: "v"}}, "headers must be a mapping"),
        ("sdapi=http://h", {"auth": "user:sk-secret"}, "auth must be a pair of user and password, not what"),
        ("sdapi=http://h", {"auth": ("sk-secret",)}, "auth must be a pair of user and password, not what"),
        ("sdapi=http://h", {"options": ["a"]}, r"options must be a mapping .*, not \['a'\]"),
        ("sdapi=http://h", {"options": {"eta": float("nan")}}, "options cannot be written as JSON"),
        ("sdapi=http://h", {"cfg_scale": float("inf")}, "cfg_scale must be a number, not inf"),
        ("horde", {"model": 5}, "model must be a text or a list of texts, not 5"),
        ("horde", {"params": {"x": float("nan")}}, "params cannot be written as JSON"),
        ("horde", {"nsfw": "no"}, "nsfw must be True or False, not 'no'"),
        ("gemini", {"api_key": 5}, "api_key must be a text, not what was given"),
        ("gemini", {"api_key": "k", "options": {"x": object()}}, "options cannot be written as JSON"),
    ],
)
def test_a_setting_that_no_server_could_take_is_refused_at_once(spec, options, told):
    with pytest.raises(InvalidSetting, match=told) as caught:
        generator_from(spec, **options)
    assert "sk-secret" not in str(caught.value)


def test_headers_from_the_environment_are_held_to_the_same(monkeypatch):
    monkeypatch.setenv("LIMNER_COMFYUI_HEADERS", '{"x": 1}')
    with pytest.raises(InvalidSetting, match="the value of the header x must be a text"):
        generator_from("comfyui=http://h", workflow=WORKFLOW)


@pytest.mark.parametrize(
    ("given", "sent"), [("A", ["A"]), ("A,B", ["A", "B"]), ("A, B,", ["A", "B"]), ("My Model", ["My Model"])]
)
def test_several_models_are_named_in_text_with_commas(given, sent, monkeypatch):
    monkeypatch.setenv("LIMNER_HORDE_MODEL", given)
    generator = generator_from("horde")
    assert isinstance(generator, HordeGenerator)
    assert generator._flags["models"] == sent


def test_a_variable_that_cannot_be_meant_is_named(monkeypatch):
    monkeypatch.setenv("LIMNER_SDAPI_STEPS", "many")
    with pytest.raises(InvalidSetting) as caught:
        generator_from("http://h")
    assert (
        str(caught.value) == "LIMNER_SDAPI_STEPS in the environment: steps takes a whole number, not 'many'"
    )


def test_a_variable_that_is_not_used_may_hold_anything(monkeypatch):
    monkeypatch.setenv("LIMNER_SDAPI_STEPS", "many")
    assert type(generator_from("http://h", steps=3)) is SdapiGenerator
    assert type(generator_from("sketch")) is SketchGenerator


def test_a_variable_that_nothing_is_taken_from_is_warned_of(monkeypatch, caplog):
    monkeypatch.setenv("LIMNER_SDAPI_STEPZ", "3")
    monkeypatch.setenv("LIMNER_OPENAI_API_KEY", "secret")
    with caplog.at_level("WARNING", "limner"):
        generator_from("sketch")
        assert caplog.messages == []
        generator_from("http://h")
        generator_from("openai=http://h")
    assert caplog.messages == [
        "unknown_variable variable='LIMNER_SDAPI_STEPZ' closest='LIMNER_SDAPI_STEPS'",
        "unknown_variable variable='LIMNER_OPENAI_API_KEY' closest='LIMNER_OPENAI_KEY'",
    ]


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=lambda backend: backend.name)
def test_every_option_has_a_form_in_text_and_a_variable_of_its_own(backend):
    forms = [option.form for option in backend.options.values()]
    assert all(forms)
    variables = [backend.variable_of(name) for name in backend.options]
    assert len(set(variables)) == len(variables)
    assert all(name.startswith(f"LIMNER_{backend.name.upper()}_") for name in variables)


@pytest.mark.parametrize(
    ("spec", "environment", "header", "sent"),
    [
        ("horde", {}, "apikey", "0000000000"),
        ("horde", {"LIMNER_HORDE_KEY": "ours"}, "apikey", "ours"),
        ("gemini", {"LIMNER_GEMINI_KEY": "ours", "GEMINI_API_KEY": "open"}, "x-goog-api-key", "ours"),
        ("gemini", {"GEMINI_API_KEY": "open"}, "x-goog-api-key", "open"),
        ("pollinations", {}, "authorization", None),
        ("pollinations", {"LIMNER_POLLINATIONS_KEY": "ours"}, "authorization", "Bearer ours"),
    ],
)
def test_each_service_has_a_key_of_its_own(spec, environment, header, sent, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    generator = generator_from(spec)
    assert isinstance(generator, (HordeGenerator, GeminiGenerator, PollinationsGenerator))
    assert generator._client._headers.get(header) == sent


def test_gemini_without_a_key_is_refused_at_once():
    with pytest.raises(InvalidSetting, match="LIMNER_GEMINI_KEY"):
        generator_from("gemini")


def test_any_other_server_is_described_by_a_file(tmp_path):
    file = tmp_path / "odd=name.json"
    file.write_text(
        '{"url": "http://h/paint", "body": {"p": "%prompt%", "w": "%width%"}, "image": "$.image"}'
    )
    generator = generator_from(f"json={file}", width=512, height=None)
    assert type(generator) is JSONGenerator
    assert repr(generator) == "JSONGenerator('http://h/paint')"
    with pytest.raises(InvalidSetting, match="json has no option 'model'; it has: width, height, negative_p"):
        generator_from(f"json={file}", model="x")
    with pytest.raises(InvalidSetting, match="no option 'file'"):
        generator_from(f"json={file}", file="other")
    with pytest.raises(InvalidSetting, match="no width was given"):
        generator_from(f"json={file}")


def test_what_is_possible_is_told_in_one_line():
    assert POSSIBLE == (
        "sketch, sdapi=URL, openai=URL, comfyui=URL, horde[=URL], gemini[=URL], pollinations[=URL], "
        "json=FILE, diffusers=MODEL, or the URL of a server that speaks sdapi"
    )


@pytest.mark.parametrize("spec", ["", "dalle", "ftp://h", "crayons=http://h"])
def test_anything_else_is_refused_with_a_list_of_what_is_possible(spec):
    with pytest.raises(InvalidSetting, match="'; possible are: sketch, sdapi=URL, openai=URL, comfyui=URL"):
        generator_from(spec)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("sdapi", "sdapi needs an address: sdapi=URL"),
        ("OpenAI=", "openai needs an address: openai=URL"),
        ("comfyui", "comfyui needs an address: comfyui=URL"),
        ("json", "json needs a file: json=FILE"),
        ("diffusers=", "diffusers needs a model: diffusers=MODEL"),
        ("horde=", "horde needs an address behind the =: horde or horde=URL"),
        ("sketch=1", "sketch takes nothing behind its name"),
        ("sketch=", "sketch takes nothing behind its name"),
    ],
)
def test_a_name_without_what_belongs_behind_it_is_told_what_that_is(spec, told):
    with pytest.raises(InvalidSetting) as caught:
        generator_from(spec)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ("skech", "sketch"),
        ("openia", "openai=URL"),
        ("openia=http://h", "openai=http://h"),
        ("comfy=", "comfyui=URL"),
        ("sdapi:http://me:secret@h", "sdapi=http://***@h"),
        ("sdapi http://h", "sdapi=http://h"),
        ("hord", "horde[=URL]"),
    ],
)
def test_a_name_with_a_typing_error_is_recognised(spec, meant):
    with pytest.raises(InvalidSetting) as caught:
        generator_from(spec)
    assert f"; did you mean {meant}? possible are: " in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:9477", "localhost:9477", "localhost/sd", "sd.example.org", "[::1]:7860", "h:80/a=b"],
)
def test_an_address_without_its_scheme_is_told_with_it(address):
    with pytest.raises(InvalidSetting) as caught:
        generator_from(address)
    assert str(caught.value).endswith(f"; an address needs http:// before it: http://{address}")
    with pytest.raises(InvalidSetting) as caught:
        generator_from(f"openai={address}")
    assert str(caught.value).endswith(f"; did you mean openai=http://{address}")


def test_a_bad_address_is_refused_without_its_password():
    with pytest.raises(InvalidSetting, match="not an http or https address") as caught:
        generator_from("sdapi=me:secret@localhost:7860")
    assert str(caught.value).endswith("did you mean sdapi=http://***@localhost:7860")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        ("openia=sk-secret", "no generator 'openia=…'; "),
        ("sketch=sk-secret", "sketch takes nothing behind its name"),
        ("openai=eyJhbGci.sk-secret.Sf1KxwRJ", "not an http or https address (it has no http:// before it)"),
        ("openai=sk-secret", "not an http or https address (it has no http:// before it)"),
        ("http//user:sk-secret@host", "no generator 'http//***@host'; "),
        ("http//user:sk-secret=@host", "no generator 'http//***@host'; "),
        ("ftp://user:sk-secret@host?a=sk-secret", "no generator 'ftp://***@host'; "),
        ("sdapi=https://user:sk-secret@host:port", "not a usable address: 'https://***@host:port'"),
    ],
)
def test_what_is_mistyped_is_shown_without_keys_and_passwords(spec, shown):
    with pytest.raises(InvalidSetting) as caught:
        generator_from(spec)
    assert shown in str(caught.value)
    assert "sk-secret" not in "".join(traceback.format_exception(caught.value))


def test_a_secret_in_the_environment_that_cannot_be_read_is_not_shown(monkeypatch):
    monkeypatch.setenv("LIMNER_COMFYUI_HEADERS", '["Bearer topsecretkey"]')
    with pytest.raises(InvalidSetting, match="LIMNER_COMFYUI_HEADERS in the environment: ") as caught:
        generator_from("comfyui=http://h", workflow=WORKFLOW)
    assert "topsecretkey" not in "".join(traceback.format_exception(caught.value))


def test_an_option_that_the_generator_does_not_have_is_refused():
    with pytest.raises(
        InvalidSetting, match="sketch has no option 'model'; it has: width, height, steps, step_ms"
    ):
        generator_from("sketch", model="x")
    with pytest.raises(InvalidSetting, match=r"no option 'stepz'; did you mean 'steps'\? it has: width"):
        generator_from("sketch", stepz=3)
    with pytest.raises(InvalidSetting, match="no option 'base_url'"):
        generator_from("sdapi=http://h", base_url="http://other")
