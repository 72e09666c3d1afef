"""Earlier pictures are taken out of a conversation, and their prompts stay in it."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from limner.adapters.proxy import history
from limner.adapters.proxy.code import open_fence
from limner.adapters.proxy.history import (
    TagMemory,
    without_pictures,
    without_progress,
    without_thoughts_of_ours,
)
from limner.adapters.proxy.pictures import IMAGES_PATH, Picture, at_the_end, in_the_text, missing_ends
from limner.adapters.proxy.requests import ChatRequests
from limner.adapters.proxy.wishes import PROFILES, ProfileName, Wishes
from limner.text import PRESETS, DeferredImage, compile_patterns, extract_image_prompts, find_images
from limner.workflows.progress_events import Thumbnail
from tests.adapters.proxy.house import FOX, SEA

PATTERNS = compile_patterns()
STORED = f"https://chat.example/limner/images/{'a1' * 32}.png"
DATA = "data:image/webp;base64,UklGRg=="


def without(text: str, memory: TagMemory | None = None) -> str:
    return without_pictures(text, PATTERNS, memory or TagMemory())


def pictures_of(text: str) -> list[Picture]:
    return [
        Picture(
            DeferredImage(str(number), match.prompt, match.occurrence, f"{IMAGES_PATH}/{number:064x}.png"),
            Thumbnail(b"picture %d" % number, "image/webp", final=True),
            match.full_match,
            match.start,
        )
        for number, match in enumerate(extract_image_prompts(text, PATTERNS))
    ]


PARTS = [FOX, SEA, "\n", "\n\n", "> ", "```\n", "```html\n", "    ~~~\n", "`", "``", "\\", "<!-- x -->", "- "]
TEXTS = st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=8))).map("".join)


@pytest.mark.parametrize("profile", PROFILES)
@given(text=TEXTS)
@example(text=f"{FOX}\r")
def test_what_was_added_below_a_reply_is_taken_off_it_exactly(profile: ProfileName, text: str):
    pictures = pictures_of(text)
    ended = text + missing_ends(text, PATTERNS)
    shown = ended + at_the_end(pictures, profile, "https://chat.example")
    assert without(shown) == ended
    assert ended == text + (f"\n{open_fence(text)}" if open_fence(text) else "")


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("text", [f"Once.\n\n{FOX}\n\nThen {SEA}.", FOX, f"{FOX}{FOX}\n{SEA}"])
def test_what_was_placed_in_a_reply_is_taken_out_of_it_exactly(profile: ProfileName, text: str):
    shown = in_the_text(text, pictures_of(text), profile, "https://chat.example", PATTERNS)
    assert shown != text
    assert without(shown) == text


@pytest.mark.parametrize("said_by_model", [True, False])
@pytest.mark.parametrize("profile", PROFILES)
@given(text=TEXTS)
def test_what_was_placed_in_a_reply_is_taken_out_of_it_exactly_whoever_sends_it(
    profile: ProfileName, said_by_model: bool, text: str
):
    shown = in_the_text(text, pictures_of(text), profile, "https://chat.example", PATTERNS)
    assert without_pictures(shown, PATTERNS, TagMemory(), said_by_model=said_by_model) == text


@pytest.mark.parametrize("profile", PROFILES)
@given(text=TEXTS)
def test_a_conversation_as_one_text_loses_every_picture_and_nothing_else(profile: ProfileName, text: str):
    added = missing_ends(text, PATTERNS) + at_the_end(pictures_of(text), profile, "https://chat.example")
    around = "A: what then?\nB: {}\n\nA: and ![mine](data:image/png;base64,AA==) or ![b](http://b.example/b)?"
    sent = without_pictures(around.format(text + added), PATTERNS, TagMemory(), said_by_model=False)
    pictures = [image.src for image in find_images(sent, PATTERNS)]
    assert pictures == ["data:image/png;base64,AA==", "http://b.example/b"]
    assert extract_image_prompts(sent, PATTERNS) == extract_image_prompts(around.format(text), PATTERNS)


@pytest.mark.parametrize("address", [STORED, DATA, f"http://127.0.0.1:8808{IMAGES_PATH}/{'0' * 64}.webp#2"])
def test_a_tag_that_the_client_has_dropped_is_put_back_from_the_description(address: str):
    assert without(f"Once.\n\n![a red fox in the snow]({address})") == f"Once.\n\n{FOX}"
    assert without(f'Once <img src="{address}" alt="a red fox in the snow"> more') == f"Once {FOX} more"


def test_a_tag_is_put_back_as_the_model_wrote_it_as_long_as_it_is_remembered():
    memory = TagMemory(keep=1)
    memory.note(STORED, 'a "grey" sea', SEA)
    told = f"Once ![a grey sea]({STORED.replace('https://chat.example', '')}) more"
    assert without(told, memory) == f"Once {SEA} more"
    memory.note(DATA, "another", FOX)
    assert without(told, memory) == 'Once <!--img-prompt="a grey sea"--> more'


def test_tags_are_remembered_up_to_so_many_characters():
    memory = TagMemory(characters=100)
    for number in range(5):
        prompt = f"{number}" * 15
        memory.note(f"{DATA}{number}", prompt, f"<p>{prompt}</p>")
    numbers = range(5)
    assert [number for number in numbers if memory.of(f"{DATA}{number}")] == [3, 4]
    assert [number for number in numbers if memory.described(f"{number}" * 15)] == [3, 4]
    for _ in range(9):
        memory.note(f"{DATA}4", "4" * 15, f"<p>{'4' * 15}</p>")
    assert memory.of(f"{DATA}3") is not None
    memory.note(f"{DATA}9", "9" * 60, "9" * 60)
    assert memory.of(f"{DATA}9") is None


def test_each_tag_answers_for_one_picture():
    told = f"{FOX} and\n\n![a red fox in the snow]({STORED})\n\n![a red fox in the snow]({DATA})"
    assert without(told) == f"{FOX} and\n\n{FOX}"


class Looked:
    """Counts the characters that a pattern is let look at."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self.pattern = pattern
        self.characters = 0

    def search(self, text: str, start: int = 0, end: int = sys.maxsize) -> re.Match[str] | None:
        self.characters += min(end, len(text)) - start
        return self.pattern.search(text, start, end)


def test_what_stands_before_a_picture_is_not_looked_for_in_the_pictures_before_it(monkeypatch):
    looked = Looked(history._BEFORE)
    monkeypatch.setattr(history, "_BEFORE", looked)
    pictures = "".join(f"\n\n![a red fox in the snow]({DATA}{'A' * 1_000})" for _ in range(20))
    assert without(f"Once {FOX * 20}{pictures}") == f"Once {FOX * 20}"
    assert 0 < looked.characters <= 20 * 4


@given(before=st.text(st.sampled_from("\r\n x"), max_size=8))
def test_the_line_breaks_before_a_picture_go_with_it_whatever_stands_before_them(before: str):
    said = f"{FOX} end{before}"
    expected = history._BEFORE.sub("", said, count=1)
    assert without(f"{said}![a red fox in the snow]({DATA})") == expected


def test_a_picture_that_the_client_keeps_under_its_own_address_is_known_by_its_tag():
    assert without(f"{FOX} end.\n\n![a red fox in the snow](/api/v1/files/7/content)") == f"{FOX} end."


@pytest.mark.parametrize(
    "address",
    [
        "/chat/api/v1/files/7f/content",
        "https://chat.example/api/v1/files/7f/content",
    ],
)
def test_the_address_of_a_kept_picture_may_have_a_host_and_a_path_before_it(address: str):
    assert without(f"{FOX}![a red fox in the snow]({address}) end.") == f"{FOX} end."
    assert without(f"{FOX} ![a grey sea]({address})") == f"{FOX} ![a grey sea]({address})"
    assert without(f"![a red fox in the snow]({address})") == f"![a red fox in the snow]({address})"


@pytest.mark.parametrize(
    "address",
    [
        "https://pictures.example/fox.png",
        "//pictures.example/api/v1/files/7/content",
        "/fox.png",
        "https://pictures.example/fox?x=/api/v1/files/7/content",
    ],
)
@pytest.mark.parametrize("between", ["", "\n", " and\n\n"])
def test_a_picture_from_elsewhere_stays_although_it_has_a_tags_description(address: str, between: str):
    for picture in (f"![a red fox in the snow]({address})", f'<img src="{address}" alt="other">'):
        told = f"{FOX}{between}{picture} end."
        assert without(told) == told


SPACER = '<img src="data:image/gif;base64,R0lGOD" alt="spacer">'


@pytest.mark.parametrize(
    "told",
    [
        f"```html\n{SPACER}\n```",
        f"So:\n~~~\n{SPACER}",
        f"1. So:\n\n   ```html\n   {SPACER}\n   ```\n\nand on",
        f"- - ````\n    ```\n    {SPACER}\n    ````",
        f"> ```\n> {SPACER}\n> ```",
        f"Write `{SPACER}`, then.",
        f"Write ``a ` {SPACER}\n b``, then {FOX}",
        f"\\\\`{SPACER}`",
    ],
)
def test_what_the_model_wrote_as_code_stays(told: str):
    assert without(told) == told


@pytest.mark.parametrize(
    "around",
    [
        "` {} and no end",
        "`\n\n{}`",
        "\\`{}`",
        "`a` {} `b`",
        "``a` {} b",
        "- ```\n{}",
        "    ```\n{}",
        "```\na\n```\n{}",
        "```x`\n{}",
        '<!--img-prompt="`"-->{} `',
    ],
)
def test_what_is_no_code_loses_its_data_pictures(around: str):
    assert "R0lGOD" not in without(around.format(SPACER))


@pytest.mark.parametrize("around", ["```\n{}\n```", "so `{}` it"])
def test_a_picture_of_ours_goes_from_code_too(around: str):
    memory = TagMemory()
    memory.note("data:image/gif;base64,R0lGOD", "a fox", FOX)
    assert without(around.format(SPACER), memory) == around.format(FOX)
    assert without(around.format(f"![a grey sea]({STORED})")) == around.format(
        '<!--img-prompt="a grey sea"-->'
    )
    assert without(around.format(f"{FOX}![a red fox in the snow]({DATA})")) == around.format(FOX)


def test_looking_for_code_takes_time_in_proportion_to_the_text():
    hostile = ["`" * n + " " for n in range(1, 600)]
    for text in (
        "".join(hostile),
        "    ```x\n" * 50_000,
        "\\" * 300_000 + "`",
        "- " * 200_000,
        "` `` " * 50_000,
    ):
        assert "R0lGOD" not in without(f"{text}\n\n{SPACER}")


def test_pictures_of_others_stay():
    told = 'See ![a map](https://maps.example/1.png) and <img src="x.png" alt="">.'
    assert without(told) == told


def test_a_description_that_says_nothing_leaves_no_tag():
    assert without(f"Once ![]({STORED}) more") == "Once  more"


def test_only_a_tag_that_can_be_written_is_written():
    plain = compile_patterns(PRESETS["t2i"])
    assert without_pictures(f"![a fox]({STORED})!", plain, TagMemory()) == "<t2i>a fox</t2i>!"
    assert without_pictures(f"![a]({STORED})!", compile_patterns([r"\[\[(.+?)\]\]"]), TagMemory()) == "!"


def test_progress_is_taken_out_of_what_the_model_thought():
    assert (
        without_progress("I think.\n[limner] painting: a fox\nSo.\n[limner] 1/1 painted") == "I think.\nSo.\n"
    )


def test_a_thought_about_limner_is_no_progress():
    thought = "The user asks what '[limner] ' means.\n[limner] is a proxy, [limner] 2/3 of the time.\n"
    assert without_progress(thought) == thought


@pytest.mark.parametrize("between", ["", "\n\n"])
def test_progress_is_known_behind_a_thought_that_ends_no_line(between: str):
    told = f"I think.{between}[limner] painting: a fox\n[limner] 1/1 painted: a fox\n"
    assert without_progress(told) == "I think."


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("<think>[limner] painting: a fox\n[limner] 1/1 painted: a fox</think>\nOnce.", "Once."),
        ("<think>So.\n[limner] 1/1 painted: a fox</think>\nOnce.", "<think>So.\n</think>\nOnce."),
        ("<thinking>[limner] painting: a fox\n</thinking>Once.", "Once."),
        ("<think>So.</think>\nI say [limner] to it.", "<think>So.</think>\nI say [limner] to it."),
        ("<think>[limner] painting", "<think>[limner] painting"),
    ],
)
def test_progress_that_is_sent_as_a_thought_in_the_text_is_taken_out(told: str, kept: str):
    messages = [{"role": "assistant", "content": told}, {"role": "user", "content": told}]
    assert [message["content"] for message in prepared(messages)["messages"]] == [kept, told]


def test_looking_for_thoughts_takes_time_in_proportion_to_the_text():
    told = "<think>" * 200_000 + "[limner] "
    assert without_thoughts_of_ours(told) == told


def prepared(messages: list[Any], **request: Any) -> Any:
    requests = ChatRequests(PATTERNS, TagMemory(), Wishes(), None)
    return json.loads(requests.prepare(json.dumps({"messages": messages, **request}).encode(), None).body)


def test_the_assistants_pictures_go_and_the_users_stay():
    shown = f"{FOX}\n\n![a red fox in the snow]({DATA})"
    mine = "![mine](data:image/png;base64,AAAA)"
    part = {"type": "image_url", "image_url": {"url": DATA}}
    messages: list[Any] = [
        {"role": "user", "content": [part, {"type": "text", "text": f"See {mine}"}]},
        {"role": "user", "content": f"{mine} and <img src='http://pictures.example/1.png' alt=''>"},
        {"role": "assistant", "content": shown, "reasoning_content": "[limner] painting: x\n", "name": "a"},
        {"role": "assistant", "content": [{"type": "text", "text": f"{shown}{mine}"}, part]},
        {"role": "assistant", "content": None, "tool_calls": []},
        "odd",
    ]
    sent = prepared(messages)["messages"]
    assert sent[:2] == messages[:2]
    assert sent[2] == {"role": "assistant", "content": FOX, "reasoning_content": "", "name": "a"}
    assert sent[3]["content"] == [{"type": "text", "text": f'{FOX}<!--img-prompt="mine"-->'}]
    assert sent[4:] == messages[4:]


@pytest.mark.parametrize("role", ["system", "developer", "user", "tool"])
def test_a_conversation_that_is_sent_as_one_text_carries_no_picture_bytes(role: str):
    # With its tag; below /limner/images/; from an address that was given out; with a description of ours.
    memory = TagMemory()
    memory.note(DATA, 'a "grey" sea', SEA)
    told = (
        f"User: a story\nAssistant: Once {FOX}\n\n![a red fox in the snow](data:image/webp;base64,Rk9Y)\n"
        f"User: more\nAssistant: ![a barn]({STORED}) then ![]({DATA}) and"
        " ![a grey sea](data:image/jpeg;base64,AAAA) end"
    )
    kept = (
        f"User: a story\nAssistant: Once {FOX}\nUser: more\n"
        f'Assistant: <!--img-prompt="a barn"--> then {SEA} and {SEA} end'
    )
    requests = ChatRequests(PATTERNS, memory, Wishes(), None)
    parts = [{"type": "text", "text": told}, {"type": "image_url", "image_url": {"url": DATA}}]
    body = {"messages": [{"role": role, "content": told}, {"role": role, "content": parts}]}
    one, many = json.loads(requests.prepare(json.dumps(body).encode(), None).body)["messages"]
    assert one["content"] == kept
    assert many["content"] == [{"type": "text", "text": kept}, parts[1]]


def test_a_request_in_which_nothing_is_to_be_changed_stays_the_same_bytes():
    body = b'{ "messages" : [{"role":"assistant","content":"caf\\u00e9 ![x](http://y/z.png)"}], "seed": 1e3 }'
    assert ChatRequests(PATTERNS, TagMemory(), Wishes(), None).prepare(body, None).body == body


def test_a_pattern_that_is_too_slow_costs_no_request():
    slow = compile_patterns([r"((?:a+)+)b"], time_limit_ms=1)
    told = "a" * 5_000 + f" ![x]({DATA})"
    assert DATA not in without_pictures(told, slow, TagMemory())
