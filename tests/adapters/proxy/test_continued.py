"""A reply that breaks off, gets its pictures there, and is continued: the model sees none of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from limner.adapters.proxy.hidden import hidden_pictures
from limner.adapters.proxy.history import TagMemory, without_pictures
from limner.adapters.proxy.pictures import IMAGES_PATH, Picture, at_the_end, missing_ends
from limner.adapters.proxy.setting import ReplySetting
from limner.adapters.proxy.wishes import PROFILES, ProfileName, Wishes
from limner.text import (
    DEFAULT_PATTERNS,
    HTML,
    MARKDOWN,
    PRESETS,
    DeferredImage,
    PromptPatterns,
    compile_patterns,
    extract_image_prompts,
    render_image,
)
from limner.workflows.clock import Alarm
from limner.workflows.progress_events import Thumbnail
from tests.adapters.proxy.house import CHAT, DONE, FOX, SEA, Stream, client_of, piece, proxy_before
from tests.support import ManualClock

PATTERNS = compile_patterns()
SETS = [
    compile_patterns(patterns) for patterns in (DEFAULT_PATTERNS, PRESETS["t2i"], PRESETS["imggen-braces"])
]
PUBLIC = "https://chat.example"
DATA = "data:image/webp;base64,UklGRg=="
STORED = f"{PUBLIC}{IMAGES_PATH}/{'a1' * 32}.png"

TAGS = [FOX, SEA, "<t2i>a barn</t2i>", '{{ImgGen="a green boat"}}']
PARTS = [
    *TAGS,
    *(
        "\n\n",
        "\r\n",
        " and ",
        '"',
        "\\",
        '"-->',
        "![",
        "[a](http://a.example 'b",
        '<img alt="',
        "<!-- ",
        "<think>",
    ),
    *("</think>", "`", "```\n", "- ```\n", "> "),
]
TEXTS = st.lists(st.one_of(st.sampled_from(TAGS), st.sampled_from(PARTS), st.text(max_size=4))).map("".join)


@st.composite
def broken_off(draw: st.DrawFn) -> tuple[str, str]:
    """A text up to any character, and what comes behind it: the other half, or anything else."""
    text = draw(TEXTS)
    cut = draw(st.integers(0, len(text)))
    return text[:cut], draw(st.one_of(st.just(text[cut:]), TEXTS))


def pictures_of(text: str, patterns: PromptPatterns = PATTERNS) -> list[Picture]:
    return [
        Picture(
            DeferredImage(str(number), match.prompt, match.occurrence, f"{IMAGES_PATH}/{number:064x}.png"),
            Thumbnail(b"picture %d" % number, "image/webp", final=True),
            match.full_match,
            match.start,
        )
        for number, match in enumerate(extract_image_prompts(text, patterns))
    ]


def setting(profile: ProfileName, patterns: PromptPatterns) -> ReplySetting:
    return ReplySetting(
        Wishes(profile), PUBLIC, patterns, TagMemory(), Alarm(ManualClock()), keep_alive_ms=5_000
    )


CUT_IN_A_TAG = (f'{FOX} then <!--img-prompt="an old light', 'house at dusk"-->')


@pytest.mark.parametrize("said_by_model", [True, False])
@pytest.mark.parametrize("patterns", SETS, ids=["default", "t2i", "imggen-braces"])
@pytest.mark.parametrize("profile", PROFILES)
@given(broken=broken_off())
@example(broken=CUT_IN_A_TAG)
@example(broken=(f'{FOX} then <img_prompt="an old light', 'house at dusk">'))
@example(broken=(f'{FOX} then <img alt="', '" src="http://a.example/1.png">'))
@example(broken=(f"{FOX} then [a](http://a.example 'b", "')"))
@example(broken=("<t2i>a fox</t2i> then <t2i>an old light", "house</t2i>"))
def test_wherever_a_reply_is_cut_and_whatever_follows_no_picture_of_it_reaches_the_model(
    profile: ProfileName, patterns: PromptPatterns, said_by_model: bool, broken: tuple[str, str]
):
    text, continued = broken
    pictures = at_the_end(pictures_of(text, patterns), profile, PUBLIC)
    for ends in (missing_ends(text, patterns), ""):  # a client may drop what closes a tag
        sent = text + ends + pictures + continued
        seen = without_pictures(sent, patterns, TagMemory(), said_by_model=said_by_model)
        assert "data:image/" not in seen
        assert IMAGES_PATH not in seen


@pytest.mark.parametrize("patterns", SETS, ids=["default", "t2i", "imggen-braces"])
@pytest.mark.parametrize("profile", PROFILES)
@given(broken=broken_off())
@example(broken=CUT_IN_A_TAG)
@example(broken=(f'{FOX} then <!--img-prompt="an old \\', '"light\\" house"-->'))
@example(broken=(f"{FOX} then <!--img-", 'prompt="a boat"-->'))
@example(broken=(f"{FOX}\n```\nprint(", "1)\n```\n\nSo."))
@example(broken=(f'{FOX}\n```\n<img_prompt="a', ' boat">\n```\n\nSo.'))
@example(broken=(f"All {FOX} is {SEA} still.", "  And it goes on"))
@example(broken=(f"{FOX}\n\n", "\n\nmore"))
@example(broken=(f"{FOX}\r\n\r", "\nmore"))
def test_a_reply_that_was_continued_is_seen_as_if_no_pictures_had_been_in_between(
    profile: ProfileName, patterns: PromptPatterns, broken: tuple[str, str]
):
    text, continued = broken
    reply = setting(profile, patterns)
    pictures = pictures_of(text, patterns)
    sent = text + reply.below(text, pictures) + continued
    kept = text + (continued if continued.strip() or not pictures else "")
    assert without_pictures(sent, patterns, reply.memory) == kept


@pytest.mark.parametrize("broken", [CUT_IN_A_TAG, (f"{FOX}\n```\nprint(", "1)\n```\n\nSo.")])
def test_what_closed_the_reply_is_known_although_the_client_has_rewritten_white_space_and_addresses(broken):
    text, continued = broken
    reply = setting("markdown-data", PATTERNS)
    (picture,) = pictures_of(text)
    ends, _, _ = reply.below(text, [picture]).partition("\n\n")
    moved = "![a red fox in the snow](/api/v1/files/7/content)"
    sent = f"User: hi\nAssistant: {text}{ends}\r\n\r\n{moved}{continued}"
    seen = without_pictures(sent, PATTERNS, reply.memory, said_by_model=False)
    assert seen == f"User: hi\nAssistant: {text}{continued}"


def test_a_tag_that_the_model_closed_itself_stays_closed():
    text = f'{FOX} then <!--img-prompt="an old light'
    reply = setting("markdown", PATTERNS)
    reply.below(text, pictures_of(text))
    whole = f'{text}"-->'
    assert without_pictures(whole + reply.below(whole, pictures_of(whole)), PATTERNS, reply.memory) == whole


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        (CUT_IN_A_TAG[0], '"-->'),
        (f'{FOX} then <img_prompt="an old light', '">'),
        (f"{FOX} then <!--img-pro", "-->"),
        (f'{FOX}\n```\n<img_prompt="a', '">\n```'),
        (f"{FOX} then.", ""),
    ],
)
def test_pictures_are_shown_where_the_reply_breaks_off_in_a_tag(text: str, ends: str):
    below = setting("markdown", PATTERNS).below(text, pictures_of(text))
    assert below.startswith(f"{ends}\n\n![a red fox in the snow](")


@pytest.mark.parametrize("profile", PROFILES)
def test_what_a_client_shows_and_continues_comes_back_to_the_model_as_it_wrote_it(web, tmp_path, profile):
    text, continued = CUT_IN_A_TAG
    web.answer(CHAT, Stream([piece(text), piece(finish="length"), DONE]).response)
    with proxy_before(web.url, tmp_path, defaults=Wishes(profile)) as house:
        asked: list[Any] = [{"role": "user", "content": "a story"}]
        client = client_of(house)
        chunks = list(client.chat.completions.create(model="m", messages=asked, stream=True))
        shown = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert shown.startswith(f'{text}"-->\n\n')
        for told in (shown, f"{shown}{continued}"):
            web.answer(CHAT, Stream([piece("So."), piece(finish="stop"), DONE]).response)
            said: list[Any] = [*asked, {"role": "assistant", "content": told}]
            list(client.chat.completions.create(model="m", messages=said, stream=True))
    _, first, second = (json.loads(request.body)["messages"][-1]["content"] for request in web.received)
    assert (first, second) == (text, f"{text}{continued}")


def test_nothing_is_closed_where_no_pictures_come():
    assert setting("markdown", PATTERNS).below(CUT_IN_A_TAG[0], []) == ""


def test_line_breaks_that_the_client_has_rewritten_go_with_the_pictures():
    told = f"{FOX} end.\r\n\r\n![a red fox in the snow]({DATA}) more"
    assert without_pictures(told, PATTERNS, TagMemory()) == f"{FOX} end. more"


def test_the_tag_that_a_continued_reply_makes_is_seen_without_the_picture_in_it():
    text, continued = CUT_IN_A_TAG
    for address in (DATA, STORED):
        seen = without_pictures(
            f"{text}![a red fox in the snow]({address}){continued}", PATTERNS, TagMemory()
        )
        assert seen == text + continued


def test_a_picture_in_a_tag_leaves_no_tag_in_that_tag_although_its_own_is_gone():
    told = f'<!--img-prompt="an old light ![a boat]({DATA}) house"-->'
    assert without_pictures(told, PATTERNS, TagMemory()) == '<!--img-prompt="an old light  house"-->'


@pytest.mark.parametrize("picture", ["![a fox](https://a.example/fox.png)", "![a fox](fox.png)"])
def test_a_picture_from_elsewhere_stays_in_a_tag(picture: str):
    told = f'{FOX} <!--img-prompt="an old light {picture} house"-->'
    assert without_pictures(told, PATTERNS, TagMemory()) == told


@pytest.mark.parametrize("profile", [HTML, MARKDOWN])
@given(
    prompt=st.text(), address=st.sampled_from([STORED, f"http://[::1]:8808{IMAGES_PATH}/1.png?a=1&b", DATA])
)
def test_what_we_write_is_known_for_what_it_is(profile, prompt: str, address: str):
    (found,) = hidden_pictures(f'<!--img-prompt="an {render_image(profile, address, prompt)}', [])
    assert found.src == address
    assert found.syntax == profile.syntax


@pytest.mark.parametrize(
    "part", ["![", "![a](", "![a](b", '<img src="', '<img src="a" alt="b" title="', "![a](data:image/"]
)
def test_looking_for_hidden_pictures_takes_time_in_proportion_to_the_text(part: str):
    assert not list(hidden_pictures(part * 100_000, []))
