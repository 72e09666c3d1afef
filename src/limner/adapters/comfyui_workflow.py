"""A ComfyUI workflow as a template: where the prompt, the seed and the size go; refused where they cannot.

The workflow is what ComfyUI exports in its API format: a mapping of node ids to `{"class_type", "inputs"}`.
A place is written into the value of an input: `%prompt%`, `%negative_prompt%` (or `%negative%`), `%seed%`,
`%width%`, `%height%`. Where it is the whole value, the number or text itself is put there; inside a longer
text it is written as text. What is filled in is never looked through again, so a prompt may say `%seed%`.

In inputs named `filename_prefix` nothing is a place: ComfyUI has a `%width%` and `%height%` of its own there.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from limner.errors import InvalidSetting

LARGEST_WORKFLOW = 16 * 1024 * 1024
"""Bytes. Real ones have some ten thousand."""

_PLACES = ("prompt", "negative_prompt", "negative", "seed", "width", "height")
_PLACE = re.compile(f"%({'|'.join(_PLACES)})%")
_LIKE_A_PLACE = re.compile(r"%([A-Za-z_]{3,20})%")
_NOT_OURS = "filename_prefix"
_API_FORMAT = (
    "export it with File > Export Workflow (API); in older versions Workflow > Export (API), or Save (API "
    "Format), a button that the setting Enable Dev mode Options adds"
)
# Under what names the nodes that come with ComfyUI, and most others, take these values.
_USUAL_INPUTS = {
    "prompt": ("text", "prompt", "clip_l", "t5xxl"),
    "negative": ("text", "negative_prompt", "negative"),
    "seed": ("seed", "noise_seed"),
    "width": ("width",),
    "height": ("height",),
}
_SHOWN_CANDIDATES = 3
_DEEPEST = 50
# How like a place a word between percent signs is that can only be one with a typing error.
_LIKE = 0.8


class WorkflowTemplate:
    """A workflow with places. `classes` are the nodes' ids and classes, in the workflow's order.

    Raises `InvalidSetting` for a place with a typing error, which ComfyUI would take for a text.
    """

    def __init__(self, graph: Mapping[str, Any], name: str) -> None:
        self._graph = graph
        self._name = name
        self.classes: dict[str, str] = {id_: str(node["class_type"]) for id_, node in graph.items()}
        self.places = frozenset(
            _canonical(found[1]) for _, text in self._written() for found in _PLACE.finditer(text)
        )
        self._refuse_typing_errors()

    def require(self, place: str, why: str) -> None:
        """Raise `InvalidSetting`, with what to write where, unless the workflow has this place."""
        if place in self.places:
            return
        words, written = ("negative prompt", "negative_prompt") if place == "negative" else (place, place)
        raise InvalidSetting(
            f'{self._name} has no place for the {words} ({why}): write "%{written}%" as the value of '
            f"{self._candidates(place)}"
        )

    def require_node(self, node_id: str) -> None:
        """Raise `InvalidSetting` unless the workflow has this node."""
        if node_id not in self.classes:
            known = ", ".join(f"{id_} ({kind})" for id_, kind in list(self.classes.items())[:20])
            raise InvalidSetting(f"{self._name} has no node {node_id!r}; it has: {known}")

    def filled(self, values: Mapping[str, str | int]) -> dict[str, Any]:
        """The workflow with `values` in its places; the places that have no value stay as they are."""
        return {
            id_: {
                **node,
                "inputs": {
                    key: value if key == _NOT_OURS else _filled(value, values)
                    for key, value in node["inputs"].items()
                },
            }
            for id_, node in self._graph.items()
        }

    def _written(self) -> Iterator[tuple[str, str]]:
        """Every text that may hold a place, with the input where it stands."""
        for id_, node in self._graph.items():
            for key, value in node["inputs"].items():
                if key != _NOT_OURS:
                    for text in _texts(value):
                        yield _input(id_, node, key), text

    def _refuse_typing_errors(self) -> None:
        for where, text in self._written():
            for found in _LIKE_A_PLACE.finditer(text):
                near = get_close_matches(found[1].casefold(), _PLACES, 1, cutoff=_LIKE)
                if near and found[1] not in _PLACES:
                    raise InvalidSetting(
                        f'{self._name} has "{found[0]}" in {where}, which is no place: write "%{near[0]}%"'
                    )

    def _candidates(self, place: str) -> str:
        """The inputs where such a value stands now, most likely; not those that are another place already."""
        usual = _USUAL_INPUTS[place]
        found = [
            _input(id_, node, key)
            for id_, node in self._graph.items()
            for key, value in node["inputs"].items()
            # A list is a link to another node's output: that node's input would be the place.
            if key in usual and not isinstance(value, list) and not _PLACE.search(str(value))
        ]
        if not found:
            return "the input that takes it"
        more = f" (and {len(found) - _SHOWN_CANDIDATES} more)" if len(found) > _SHOWN_CANDIDATES else ""
        return " or ".join(found[:_SHOWN_CANDIDATES]) + more


def _input(id_: str, node: Mapping[str, Any], key: str) -> str:
    return f"node {id_} ({node['class_type']}), input {key!r}"


def load_workflow(source: str | os.PathLike[str] | Mapping[str, Any]) -> WorkflowTemplate:
    """The workflow in a file, or given as a mapping, which is copied.

    Raises `InvalidSetting` where there is none, where it is no JSON, or not in ComfyUI's API format.
    """
    if isinstance(source, Mapping):
        return _template(_copied(source), "the workflow")
    path = Path(source)
    name = f"the workflow {path}"
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_WORKFLOW + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise InvalidSetting(f"cannot read {name}: {(reason or str(error)).lower()}") from error
    if len(data) > LARGEST_WORKFLOW:
        raise InvalidSetting(f"{name} has more than {LARGEST_WORKFLOW} bytes, which no workflow has")
    try:
        graph = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InvalidSetting(f"{name} is not JSON: {error}") from error
    return _template(graph, name)


def _copied(graph: Mapping[str, Any]) -> object:
    try:
        copied: object = json.loads(json.dumps(dict(graph), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidSetting(f"the workflow cannot be written as JSON: {error}") from error
    return copied


def _template(graph: object, name: str) -> WorkflowTemplate:
    if not isinstance(graph, dict) or not graph:
        raise InvalidSetting(f"{name} is not in ComfyUI's API format, a mapping of nodes: {_API_FORMAT}")
    if isinstance(graph.get("nodes"), list):
        raise InvalidSetting(f"{name} is in the editor's format, not in ComfyUI's API format: {_API_FORMAT}")
    for id_, node in graph.items():
        if not isinstance(node, dict) or not isinstance(node.get("class_type"), str):
            raise InvalidSetting(
                f"{name} is not in ComfyUI's API format: its entry {id_!r} has no class_type; {_API_FORMAT}"
            )
        if not isinstance(node.setdefault("inputs", {}), dict):
            raise InvalidSetting(f"{name}: the inputs of node {id_!r} are no mapping of names to values")
    try:
        return WorkflowTemplate(graph, name)
    except RecursionError as error:
        raise InvalidSetting(f"{name} is nested too deeply") from error


def _texts(value: object, depth: int = 0) -> Iterator[str]:
    if depth > _DEEPEST:
        raise RecursionError
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part, depth + 1)


def _filled(value: Any, values: Mapping[str, str | int]) -> Any:
    if isinstance(value, list):
        return [_filled(part, values) for part in value]
    if isinstance(value, dict):
        return {key: _filled(part, values) for key, part in value.items()}
    if not isinstance(value, str):
        return value
    whole = _PLACE.fullmatch(value)
    if whole is not None:
        return values.get(_canonical(whole[1]), value)
    return _PLACE.sub(lambda found: str(values.get(_canonical(found[1]), found[0])), value)


def _canonical(place: str) -> str:
    return "negative" if place == "negative_prompt" else place
