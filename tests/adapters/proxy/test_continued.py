"""A reply that breaks off, gets its pictures there, and is continued: the model sees none of them."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from limner.adapters.proxy.hidden import hidden_pictures
from limner.adapters.proxy.history import TagMemory, without_pictures
from limner.adapters.proxy.pictures import IMAGES_PATH, Picture, at_the_end
from limner.adapters.proxy.wishes import PROFILES, ProfileName
from limner.text import (
    DEFAULT_PATTERNS,
    HTML,
    MARKDOWN,
    PRESETS,
    DeferredImage,
    compile_patterns,
    extract_image_prompts,
    render_image,
)
from limner.workflows.progress_events import Thumbnail
from tests.adapters.proxy.house import FOX, SEA

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


def pictures_of(text: str, patterns: object = PATTERNS) -> list[Picture]:
    return [
        Picture(
            DeferredImage(str(number), match.prompt, match.occurrence, f"{IMAGES_PATH}/{number:064x}.png"),
            Thumbnail(b"picture %d" % number, "image/webp", final=True),
            match.full_match,
            match.start,
        )
        for number, match in enumerate(extract_image_prompts(text, patterns))  # type: ignore[arg-type]
    ]


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
    profile: ProfileName, patterns: object, said_by_model: bool, broken: tuple[str, str]
):
    text, continued = broken
    sent = text + at_the_end(text, pictures_of(text, patterns), profile, PUBLIC) + continued
    seen = without_pictures(sent, patterns, TagMemory(), said_by_model=said_by_model)  # type: ignore[arg-type]
    assert "data:image/" not in seen
    assert IMAGES_PATH not in seen


@pytest.mark.parametrize("profile", PROFILES)
@given(broken=broken_off())
@example(broken=(f"All {FOX} is {SEA} still.", "  And it goes on"))
@example(broken=(f"{FOX}\n\n", "\n\nmore"))
@example(broken=(f"{FOX}\r\n\r", "\nmore"))
def test_a_reply_that_was_continued_is_seen_as_if_no_pictures_had_been_in_between(
    profile: ProfileName, broken: tuple[str, str]
):
    text, continued = broken
    added = at_the_end(text, pictures_of(text), profile, PUBLIC)
    closed_fence = added.partition("\n\n")[0]
    kept = text + closed_fence + (continued if continued.strip() or not pictures_of(text) else "")
    assert without_pictures(text + added + continued, PATTERNS, TagMemory()) == kept


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
