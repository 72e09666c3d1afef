"""Images go where their prompt or their predecessor stands in the current text, and nothing else moves."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.errors import InvalidSetting
from limner.text import (
    HTML,
    MARKDOWN,
    DeferredImage,
    InsertionMode,
    PlacedImage,
    Profile,
    TagPattern,
    UnplacedImage,
    UnplacedReason,
    compile_patterns,
    extract_image_prompts,
    find_images,
    place_images,
    render_image,
    same_url,
    strip_illustrations,
)
from tests.text.strategies import any_text, pieces, tagged_texts

CAT = '<img_prompt="cat">'


def behind_prompt(url: str, prompt: str = "cat", occurrence: int = 0, prompt_id: str = "p1") -> DeferredImage:
    return DeferredImage(prompt_id, prompt, occurrence, url)


def instead_of(target: str, url: str, prompt: str = "cat", prompt_id: str = "p1") -> DeferredImage:
    return DeferredImage(prompt_id, prompt, 0, url, InsertionMode.REPLACE_IMAGE, target)


def behind_image(target: str, url: str, prompt: str = "cat", prompt_id: str = "p1") -> DeferredImage:
    return DeferredImage(prompt_id, prompt, 0, url, InsertionMode.APPEND_AFTER_IMAGE, target)


def cat(url: str, profile: Profile = HTML) -> str:
    return render_image(profile, url, "cat")


# --- behind the prompt


@pytest.mark.parametrize("profile", [HTML, MARKDOWN])
def test_a_new_image_stands_directly_behind_its_tag(profile):
    result = place_images(f"A {CAT} sat.", [behind_prompt("/1")], profile=profile)
    assert result.text == f"A {CAT}{cat('/1', profile)} sat."
    assert result.placed == (PlacedImage("p1", "/1"),)
    assert result.unplaced == ()
    assert result.changed


def test_equal_prompts_are_told_apart_by_their_occurrence():
    text = f"{CAT} {CAT} {CAT}"
    result = place_images(text, [behind_prompt("/3", occurrence=2), behind_prompt("/2", occurrence=1)])
    assert result.text == f"{CAT} {CAT}{cat('/2')} {CAT}{cat('/3')}"


def test_the_place_is_that_in_the_current_text():
    assert place_images(f"moved\n\n{CAT} x", [behind_prompt("/1")]).text == f"moved\n\n{CAT}{cat('/1')} x"


def test_images_for_one_place_stand_in_the_order_given():
    images = [behind_prompt("/1"), behind_prompt("/2", prompt_id="p2")]
    assert place_images(f"{CAT} x", images).text == f"{CAT}{cat('/1')}{cat('/2')} x"


def test_a_prompt_that_is_gone_leaves_its_image_listed():
    images = [behind_prompt("/1", "dog"), behind_prompt("/2"), behind_prompt("/3", occurrence=1)]
    result = place_images(f"{CAT} x", images)
    assert result.placed == (PlacedImage("p1", "/2"),)
    assert result.unplaced == (
        UnplacedImage("p1", "/1", UnplacedReason.PROMPT_GONE),
        UnplacedImage("p1", "/3", UnplacedReason.PROMPT_GONE),
    )


def test_a_prompt_in_a_reasoning_block_is_gone():
    result = place_images(f"<think>{CAT}</think>", [behind_prompt("/1")])
    assert [image.reason for image in result.unplaced] == ["prompt-gone"]


def test_without_images_nothing_changes():
    result = place_images(f"A {CAT}", [])
    assert (result.text, result.changed) == (f"A {CAT}", False)


# --- in the place of an image, or behind it


@pytest.mark.parametrize(
    "old",
    [
        '<img src="/a b?x=1&amp;y=2">',
        "<img alt='>' src='/a%20b?x=1&y=2'/>",
        "![an old one](</a b?x=1&amp;y=2>)",
        '![old](/a%20b?x=1&y=2 "title")',
    ],
)
@pytest.mark.parametrize("profile", [HTML, MARKDOWN])
def test_an_image_is_replaced_however_it_is_written(old, profile):
    text = f"{CAT}{old} and <img data-src='/a%20b?x=1&y=2'>"
    result = place_images(text, [instead_of("/a b?x=1&y=2", "/new")], profile=profile)
    assert result.text == f"{CAT}{cat('/new', profile)} and <img data-src='/a%20b?x=1&y=2'>"
    assert result.placed == (PlacedImage("p1", "/new", "/a b?x=1&y=2"),)


def test_all_copies_of_an_image_are_replaced():
    result = place_images("<img src=/1> ![x](/1) ![y](/2)", [instead_of("/1", "/new")])
    assert result.text == f"{cat('/new')} {cat('/new')} ![y](/2)"


def test_an_image_is_appended_behind_the_first_copy():
    result = place_images("<img src=/1> <img src=/1>", [behind_image("/1", "/new")])
    assert result.text == f"<img src=/1>{cat('/new')} <img src=/1>"
    assert result.placed == (PlacedImage("p1", "/new"),)


@pytest.mark.parametrize("make", [instead_of, behind_image])
def test_an_image_that_is_gone_leaves_its_successor_listed(make):
    result = place_images(f"{CAT} no image", [make("/1", "/new")])
    assert result.unplaced == (UnplacedImage("p1", "/new", UnplacedReason.IMAGE_GONE),)
    assert not result.changed


def test_a_target_that_was_replaced_is_followed_to_its_successor():
    replaced = {"/1": "/2", "/2": "/3", "/3": "/4"}
    result = place_images("<img src=/3>", [instead_of("/1", "/new")], replaced=replaced)
    assert result.text == cat("/new")
    assert result.placed == (PlacedImage("p1", "/new", "/3"),)


def test_successors_that_go_in_a_circle_end():
    result = place_images("x", [instead_of("/1", "/new")], replaced={"/1": "/2", "/2": "/1"})
    assert [image.reason for image in result.unplaced] == ["image-gone"]


def test_of_two_that_replace_one_image_the_last_is_placed_and_the_first_listed():
    images = [instead_of("/1", "/a", prompt_id="a"), instead_of("/1", "/b", prompt_id="b")]
    result = place_images("<img src=/1>", images)
    assert result.text == cat("/b")
    assert result.placed == (PlacedImage("b", "/b", "/1"),)
    assert result.unplaced == (UnplacedImage("a", "/a", UnplacedReason.SUPERSEDED),)


def test_an_image_can_be_replaced_and_followed_in_one_batch():
    images = [behind_image("/1", "/b", prompt_id="b"), instead_of("/1", "/a", prompt_id="a")]
    result = place_images(f"{CAT}<img src=/1><img src=/2>", [*images, behind_prompt("/c", prompt_id="c")])
    assert result.text == f"{CAT}{cat('/c')}{cat('/a')}{cat('/b')}<img src=/2>"
    assert [image.prompt_id for image in result.placed] == ["b", "a", "c"]


def test_an_image_that_another_of_the_batch_replaces_is_listed():
    images = [behind_prompt("/1", prompt_id="a"), instead_of("/1", "/b", prompt_id="b")]
    result = place_images(f"{CAT}<img src=/1>", images)
    assert result.text == f"{CAT}{cat('/b')}"
    assert result.placed == (PlacedImage("b", "/b", "/1"),)
    assert result.unplaced == (UnplacedImage("a", "/1", UnplacedReason.SUPERSEDED),)
    again = place_images(result.text, images)
    assert (again.text, again.placed, again.unplaced) == (result.text, result.placed, result.unplaced)


def test_an_image_mode_without_a_target_is_refused():
    with pytest.raises(InvalidSetting, match="target_url"):
        DeferredImage("p1", "cat", 0, "/1", InsertionMode.REPLACE_IMAGE)


def test_a_mode_may_come_back_from_storage_as_a_string_but_must_be_known():
    image = DeferredImage("p1", "cat", 0, "/1", "replace-image", "/2")  # type: ignore[arg-type]
    assert image.mode is InsertionMode.REPLACE_IMAGE
    with pytest.raises(ValueError, match="nowhere"):
        DeferredImage("p1", "cat", 0, "/1", "nowhere")  # type: ignore[arg-type]


# --- idempotence


def test_an_image_that_stands_in_the_text_is_not_placed_again():
    text = f"{CAT} x <img src='/a%20b'>"
    result = place_images(text, [behind_prompt("/a b")])
    assert (result.text, result.changed) == (text, False)
    assert result.placed == (PlacedImage("p1", "/a b"),)


def test_after_a_crash_a_finished_replacement_is_found_finished():
    text = f"{CAT}<img src=/1>"
    images = [instead_of("/1", "/2")]
    once = place_images(text, images)
    again = place_images(once.text, images)
    assert again.placed == once.placed == (PlacedImage("p1", "/2", "/1"),)
    assert not again.changed


def test_two_prompts_with_the_same_image_each_get_it_in_one_batch():
    images = [behind_prompt("/1"), behind_prompt("/1", occurrence=1, prompt_id="p2")]
    assert place_images(f"{CAT} {CAT}", images).text == f"{CAT}{cat('/1')} {CAT}{cat('/1')}"


def test_one_image_given_twice_for_one_place_stands_there_once():
    result = place_images(CAT, [behind_prompt("/1"), behind_prompt("/1")])
    assert result.text == f"{CAT}{cat('/1')}"
    assert len(result.placed) == 2


@st.composite
def batches(draw, text):
    """Images for prompts and images that are in the text, and for some that are not."""
    prompts = [(match.prompt, match.occurrence) for match in extract_image_prompts(text)]
    targets = [image.src for image in find_images(text)]
    count = draw(st.integers(1, 5))
    batch = []
    for number in range(count):
        prompt, occurrence = draw(st.sampled_from([*prompts, ("gone", 0)]))
        tail = draw(any_text(6))
        url = draw(st.sampled_from((f"https://x.example/{number}?{tail}", f"/new{number}{tail}")))
        mode = draw(st.sampled_from(tuple(InsertionMode)))
        target = draw(st.sampled_from([*targets, "/gone"]))
        batch.append(DeferredImage(f"p{number}", prompt, occurrence, url, mode, target))
    return batch


TEXTS = tagged_texts(
    pieces("![", "](", ")", "<img src=/1>", "![x](/2)", "<img src='", '<img alt="', " src=/3>", "\n- ", "> ")
)
PROFILES = st.sampled_from((HTML, MARKDOWN))


@settings(max_examples=300, deadline=None)
@given(st.data(), TEXTS, PROFILES)
def test_every_image_is_listed_and_placing_twice_changes_nothing(data, text, profile):
    batch = data.draw(batches(text))
    once = place_images(text, batch, profile=profile)
    assert len(once.placed) + len(once.unplaced) == len(batch)
    assert {image.prompt_id for image in once.placed + once.unplaced} == {i.prompt_id for i in batch}
    for image in once.placed:
        assert any(same_url(found.src, image.image_url) for found in find_images(once.text))
    again = place_images(once.text, batch, profile=profile)
    assert again.text == once.text
    assert not again.changed
    assert {image.prompt_id for image in again.placed} == {image.prompt_id for image in once.placed}


@settings(max_examples=200, deadline=None)
@given(st.data(), TEXTS, PROFILES)
def test_the_text_around_the_images_stays_and_so_do_its_prompts(data, text, profile):
    batch = [image for image in data.draw(batches(text)) if image.mode == "append-after-prompt"]
    result = place_images(text, batch, profile=profile)
    before = [match.full_match for match in extract_image_prompts(text)]
    assert [match.full_match for match in extract_image_prompts(result.text)] == before
    rest = iter(result.text)
    assert all(char in rest for char in text)


@settings(max_examples=200, deadline=None)
@given(st.data(), TEXTS, PROFILES)
def test_two_batches_place_what_one_batch_places(data, text, profile):
    batch = [image for image in data.draw(batches(text)) if image.mode == "append-after-prompt"]
    half = len(batch) // 2
    first = place_images(text, batch[:half], profile=profile)
    second = place_images(first.text, batch[half:], profile=profile)
    whole = place_images(text, batch, profile=profile)
    assert first.placed + second.placed == whole.placed
    assert first.unplaced + second.unplaced == whole.unplaced
    assert sorted(i.src for i in find_images(second.text)) == sorted(i.src for i in find_images(whole.text))


# --- hostile prompts and addresses


@pytest.mark.parametrize("prompt", [r"\g<0> \1 $1 $& %s {0}", '">&<img src=x onerror=y>', "](x) ![y](z)"])
@pytest.mark.parametrize("profile", [HTML, MARKDOWN])
def test_nothing_in_a_prompt_acts(prompt, profile):
    tag = f"<t2i>{prompt}</t2i>"
    patterns = [TagPattern("<t2i>", "</t2i>", quoted=False, name="t2i")]
    result = place_images(f"a {tag} b", [behind_prompt("/$1\\1", prompt)], patterns=patterns, profile=profile)
    assert result.text == f"a {tag}{render_image(profile, '/$1%5C1', prompt)} b"
    assert [image.src for image in find_images(result.text, patterns)] == ["/$1%5C1"]


def test_an_address_that_must_not_stand_in_a_message_is_listed():
    result = place_images(f"{CAT} {CAT}", [behind_prompt("javascript:x"), behind_prompt("/1", occurrence=1)])
    assert result.text == f"{CAT} {CAT}{cat('/1')}"
    assert result.unplaced == (UnplacedImage("p1", "javascript:x", UnplacedReason.INVALID_URL),)


@pytest.mark.parametrize("profile", [HTML, MARKDOWN])
@pytest.mark.parametrize(
    ("pattern", "prompt"),
    [
        (r"draw (\w+ and draw \w+)", "a and draw b"),
        (TagPattern("IMG: ", ".", quoted=False, name="line"), "a IMG: b"),
    ],
)
def test_a_description_that_reads_as_a_prompt_is_left_out(pattern, prompt, profile):
    text = "draw a and draw b. IMG: a IMG: b."
    patterns = compile_patterns([pattern])
    before = extract_image_prompts(text, patterns)
    result = place_images(text, [behind_prompt("/1", prompt)], patterns=patterns, profile=profile)
    assert result.placed
    assert [m.full_match for m in extract_image_prompts(result.text, patterns)] == [
        m.full_match for m in before
    ]


def test_a_guard_that_reads_as_a_prompt_is_left_out():
    patterns = compile_patterns([r"<!--(.*?)-->"])
    result = place_images("<!--cat-->\nnext", [behind_prompt("/1")], patterns=patterns)
    assert [match.prompt for match in extract_image_prompts(result.text, patterns)] == ["cat"]
    assert result.text == '<!--cat--><img src="/1" alt="" title="">\nnext'


# --- what has to stand around an image


def test_a_markdown_image_goes_to_a_line_of_its_own_behind_a_line_that_begins_with_a_comment():
    text = '<!--img-prompt="cat"--> x\n\n  > - <!--img-prompt="dog"-->\n'
    images = [behind_prompt("/1"), behind_prompt("/2", "dog")]
    assert place_images(text, images, profile=MARKDOWN).text == (
        '<!--img-prompt="cat"-->\n![cat](/1) x\n\n  > - <!--img-prompt="dog"-->\n  >   ![dog](/2)\n'
    )


@pytest.mark.parametrize(
    ("text", "added"),
    [
        ('One\r\n\r\n<!--img-prompt="cat"--> x\r\n', "\r\n"),
        ('<!--img-prompt="cat"--> x\r\n', "\r\n"),
        ('> <!--img-prompt="cat"-->\r\n> x\r\n', "\r\n> "),
        ('One\n<!--img-prompt="cat"--> x\r\n', "\n"),
        ('<!--img-prompt="cat"--> x', "\n"),
    ],
)
def test_the_line_break_before_a_markdown_image_is_the_one_that_the_text_begins_with(text, added):
    images = [behind_prompt("/1"), behind_prompt("/2", prompt_id="p2")]
    placed = place_images(text, images[:1], profile=MARKDOWN).text
    assert placed == text.replace("-->", f"-->{added}![cat](/1)")
    # Nor does an image that stands there already change which one that is.
    again = place_images(placed, images[1:], profile=MARKDOWN).text
    assert again == text.replace("-->", f"-->{added}![cat](/2){added}![cat](/1)")


@pytest.mark.parametrize("before", ["x ", "# ", "| ", "-"])
def test_a_markdown_image_stays_on_the_line_of_a_comment_inside_it(before):
    text = f'{before}<!--img-prompt="cat"--> x'
    assert "\n" not in place_images(text, [behind_prompt("/1")], profile=MARKDOWN).text


def test_a_comment_of_several_lines_begins_its_line_where_it_begins():
    text = '<!--img-prompt="a\ncat"--> x'
    result = place_images(text, [behind_prompt("/1", "a\ncat")], profile=MARKDOWN)
    assert result.text == '<!--img-prompt="a\ncat"-->\n![a cat](/1) x'


@pytest.mark.parametrize(
    ("text", "guarded"),
    [
        (f"{CAT}\nnext", True),
        (f"- {CAT} \n  next", True),
        (f"{CAT} {CAT}\nnext", True),
        (f"{CAT}\n\nnext", False),
        (f"{CAT}", False),
        (f"{CAT}\n", False),
        (f"{CAT} x\nnext", False),
        (f"x {CAT}\nnext", False),
    ],
)
def test_an_html_image_alone_on_its_line_is_guarded_from_the_line_below(text, guarded):
    result = place_images(text, [behind_prompt("/1")])
    assert result.text == text.replace(CAT, CAT + cat("/1") + ("<!--limner-->" if guarded else ""), 1)


def test_a_guard_does_not_end_a_comment_that_the_tag_stands_in():
    text = f"<!-- not shown\n{CAT}\nnor this -->"
    assert place_images(text, [behind_prompt("/1")]).text == text.replace(CAT, CAT + cat("/1"))
    text = f"<!-- not shown -->\n\n{CAT}\nbut this"
    assert "<!--limner-->" in place_images(text, [behind_prompt("/1")]).text


def test_a_replaced_html_image_needs_no_guard_that_it_had_not():
    assert place_images("<img src=/1>\nnext", [instead_of("/1", "/2")]).text == f"{cat('/2')}\nnext"


def test_an_html_image_in_place_of_a_markdown_image_is_guarded():
    result = place_images("![x](/1)\nnext", [instead_of("/1", "/2")])
    assert result.text == f"{cat('/2')}<!--limner-->\nnext"


# --- size


@pytest.mark.parametrize("profile", [HTML, MARKDOWN])
def test_a_thousand_images_in_a_megabyte(profile):
    text = "".join(f'{"word " * 200}\n<!--img-prompt="picture {i}"-->\n' for i in range(1_000))
    images = [behind_prompt(f"/{i}", f"picture {i}", prompt_id=f"p{i}") for i in range(1_000)]
    result = place_images(text, images, profile=profile)
    assert len(result.placed) == 1_000
    assert [image.src for image in find_images(result.text)] == [f"/{i}" for i in range(1_000)]
    again = place_images(result.text, images, profile=profile)
    assert not again.changed


@pytest.mark.parametrize("profile", [HTML, MARKDOWN])
@pytest.mark.parametrize(
    ("begin", "between"),
    [
        pytest.param("", "", id="tag by tag"),
        pytest.param("", "\n", id="line by line"),
        pytest.param(" " * 200_000, " ", id="behind blanks"),
        pytest.param("> " * 100_000, " ", id="behind quote marks"),
    ],
)
def test_a_line_of_many_tags_is_read_once_for_all_their_images(profile, begin, between):
    # Work in proportion to the square of the length would take minutes here.
    count = 6_000
    text = begin + between.join(f'<!--img-prompt="a\n{i}"-->' for i in range(count)) + "\nnext"
    images = [behind_prompt(f"/{i}", f"a\n{i}", prompt_id=f"p{i}") for i in range(count)]
    result = place_images(text, images, profile=profile)
    assert len(result.placed) == count
    assert strip_illustrations(result.text) == text


def test_a_hundred_thousand_copies_of_an_image_do_not_blow_up_the_text():
    url = "data:image/png;base64," + "A" * 1_000
    result = place_images("![](/1)" * 100_000, [instead_of("/1", url)])
    assert len(result.text) < 3_000_000
    assert result.placed[0].replaced_url == "/1"


def test_a_prompt_of_a_hundred_thousand_characters():
    prompt = "very " * 20_000 + "long"
    result = place_images(f'<img_prompt="{prompt}">', [behind_prompt("/1", prompt)])
    assert len(result.text) < len(prompt) + 1_000


def test_a_line_of_many_containers_and_tags_does_not_blow_up_the_text():
    text = ">" * 50_000 + '<!--img-prompt="cat"-->' * 500
    images = [behind_prompt(f"/{i}", occurrence=i) for i in range(500)]
    for profile in (HTML, MARKDOWN):
        assert len(place_images(text, images, profile=profile).text) < 2 * len(text)
