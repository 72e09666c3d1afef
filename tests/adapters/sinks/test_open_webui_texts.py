"""The texts of Open WebUI's messages, and what becomes of their parts."""

from __future__ import annotations

from typing import Any

import pytest

from limner.adapters.sinks.open_webui import OpenWebUISettings
from limner.adapters.sinks.open_webui_texts import share_out, texts_in, with_prompts, without_prompts

LAMP, SEA = '<!--img-prompt="a lighthouse"-->', '<!--img-prompt="a calm sea"-->'


def test_a_prompt_without_an_image_stays():
    assert without_prompts(f"{LAMP} and {SEA}\n\n![a](u.png)") == f"{LAMP} and ![a](u.png)"


def test_images_of_others_stay_and_take_no_prompts_place():
    text = f"{LAMP} is here: ![logo](https://elsewhere.test/l.png)"
    assert without_prompts(text) == text
    assert with_prompts(text, lambda url: False) == text


def test_prompts_come_back_for_images():
    shown = "A ![a lighthouse](/cache/limner/1.png) B"
    assert with_prompts(shown, OpenWebUISettings().is_ours) == f"A {LAMP} B"


def output(*items: list[str]) -> dict[str, Any]:
    return {
        "content": "",
        "output": [
            {"type": "message", "content": [{"type": "output_text", "text": text} for text in item]}
            for item in items
        ],
    }


def test_the_parts_of_an_item_are_one_text_and_items_are_several():
    message = output(["Then all w", "as quiet."], [], ["The", " end."])
    assert [text for text, _ in texts_in(message)] == ["Then all was quiet.", "The end."]


def test_what_stands_in_no_prompt_stays_in_its_part():
    message = output(["A", f" b {LAMP} c", "", "d", f" {SEA}"])
    [(_, put)] = texts_in(message)
    put("A b ![a lighthouse](u.png) cd ![a calm sea](v.png)")
    assert message == output(["A", " b ![a lighthouse](u.png) c", "", "d", " ![a calm sea](v.png)"])


def test_a_text_that_is_put_back_changes_nothing():
    message = output([f"A {LAMP}", f" b {SEA}", "c"])
    [(text, put)] = texts_in(message)
    put(text)
    assert message == output([f"A {LAMP}", f" b {SEA}", "c"])


def test_parts_of_a_request_are_texts_of_their_own():
    message = {
        "content": [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}]
    }
    assert [text for text, _ in texts_in(message)] == ["a", "b"]


def test_a_message_without_output_has_one_text():
    message = {"content": "a"}
    [(text, put)] = texts_in(message)
    put(f"{text}b")
    assert message == {"content": "ab"}


@pytest.mark.parametrize("seam", range(len(f"One {LAMP} two") + 1))
def test_an_image_goes_into_the_part_in_which_its_prompt_begins(seam):
    before, image = f"One {LAMP} two", "![a lighthouse](u.png)"
    first, second = share_out(f"One {image} two", [before[:seam], before[seam:]])
    if seam <= len("One "):
        assert (first, second) == (before[:seam], f"{'One '[seam:]}{image} two")
    elif seam >= len(f"One {LAMP}"):
        assert (first, second) == (f"One {image}{before[len(f'One {LAMP}') : seam]}", before[seam:])
    else:
        assert (first, second) == (f"One {image}", " two")


def test_line_breaks_behind_an_image_stay_with_it():
    assert share_out("A ![a](u.png)\n\n b", [f"A {LAMP}", " b"]) == ["A ![a](u.png)\n\n", " b"]
    assert share_out("A ![a](u.png)b", [f"A {LAMP}", "\n\nb"]) == ["A ![a](u.png)", "b"]


def test_no_text_is_lost_where_the_parts_cannot_be_told_apart():
    assert share_out(f"A {LAMP}{SEA} b", [f"A {LAMP}", " b"]) == [f"A {LAMP}{SEA} b", ""]
