"""`limner demo` from beginning to end, as fast as the machine can: the files, the writes, the numbers."""

from __future__ import annotations

import io
import re
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import pytest
from justhtml import JustHTML
from rich.console import Console

from limner.adapters.cli import performance
from limner.adapters.cli.demo import run_demo
from limner.adapters.cli.performance import DemoNumbers, Pace, story
from limner.adapters.sketch import SketchGenerator
from limner.text import extract_image_prompts, find_images, strip_illustrations
from tests.adapters.cli.screen import Screen

AT_ONCE = Pace(token_ms=0, step_ms=0, steps=1, click_gap_ms=0, debounce_ms=1)


def perform(folder: Path, console: Console) -> tuple[DemoNumbers, str]:
    with pytest.MonkeyPatch.context() as patch:
        # Cards as small as stamps: what is painted is not what these tests are about.
        patch.setattr(performance, "SketchGenerator", partial(SketchGenerator, 96, 64))
        numbers = run_demo(folder, console, AT_ONCE)
    assert isinstance(console.file, io.StringIO)
    return numbers, console.file.getvalue()


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Path, DemoNumbers, str]:
    """The demo in a pipe: its folder, its numbers, what it printed."""
    folder = tmp_path_factory.mktemp("demo") / "made" / "here"
    return folder, *perform(folder, Console(file=io.StringIO(), width=80))


def test_the_story_is_of_a_good_length_and_has_five_prompts_in_both_tags():
    text = story()
    prompts = extract_image_prompts(text)
    assert len({match.prompt for match in prompts}) == 5
    assert {match.full_match[:4] for match in prompts} == {"<!--", "<img"}
    assert 250 <= len(re.sub(r"<[^>]*>", "", text).split()) <= 350


def test_every_prompt_has_its_picture_in_the_markdown_and_the_pictures_are_there(demo):
    folder, _, _ = demo
    text = (folder / "story.md").read_text(encoding="utf-8")
    images = find_images(text)
    assert len(images) == 5
    for image in images:
        assert (folder / unquote(image.src)).read_bytes().startswith(b"\xff\xd8\xff")
    assert strip_illustrations(text) == story()


def test_the_page_needs_nothing_but_itself(demo):
    folder, _, _ = demo
    page = (folder / "story.html").read_text(encoding="utf-8")
    document = JustHTML(page, sanitize=False)
    images = document.query("img")
    assert len(images) == 5
    for image in images:
        attributes = image.attrs or {}
        assert (attributes["src"] or "").startswith("data:image/jpeg;base64,")
        assert attributes["alt"]
    for name in ("script", "link", "iframe"):
        assert document.query(name) == []
    # A picture's bytes may spell anything by chance.
    around = re.sub(r'data:image/jpeg;base64,[^"]*', "", page)
    assert "url(" not in around
    assert "http" not in re.sub(r"http-equiv", "", around)
    assert "img-prompt" not in page
    assert "img_prompt" not in page


def test_there_were_two_writes_of_images_and_the_numbers_say_so(demo):
    folder, numbers, printed = demo
    assert numbers.image_writes == (5, 2)
    assert numbers.text_saves == 1
    assert (numbers.prompts, numbers.placed, numbers.replaced) == (5, 5, 2)
    assert 0 < numbers.first_picture < numbers.last_write
    assert 0 < numbers.text_ended < numbers.last_write
    assert "writes of pictures    2: one with 5 pictures, then one with 2 pictures" in printed
    # Five pictures and the two that replaced some of them; the replaced ones are kept.
    assert len(list((folder / "story-images").iterdir())) == 7


def test_a_pipe_reads_the_story_and_what_happened_and_where_the_files_are(demo):
    folder, _, printed = demo
    for line in ("“No,” said Mara.", f"  {folder / 'story.html'}", f"  {folder / 'story.md'}"):
        assert line in printed.splitlines()
    assert printed.count("] painted ") == 7
    after_clicks = printed.partition("Picture 2 is clicked")[2]
    assert "Picture 4 is clicked" in after_clicks
    assert sorted(re.findall(r"\] painted (\d):", after_clicks)) == ["2", "4"]
    assert "\x1b" not in printed


@pytest.mark.parametrize(
    "settings", [{"color_system": "truecolor"}, {"color_system": "256"}, {"no_color": True}]
)
def test_a_terminal_of_80_columns_shows_the_story_without_torn_lines(tmp_path, settings):
    console = Console(
        file=io.StringIO(), force_terminal=True, width=80, height=24, legacy_windows=False, **settings
    )
    numbers, printed = perform(tmp_path, console)
    assert numbers.image_writes == (5, 2)
    shown = " ".join(" ".join(Screen(80).show(printed)).split())
    prose = " ".join(re.sub(r"<[^\n]*>", "", story()).split())
    for sentence in re.findall(r"[^.]+\.", prose):
        assert sentence.strip() in shown
    if settings == {"no_color": True}:
        assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|38;)", printed)


def test_the_numbers_do_not_flatter():
    late = DemoNumbers(5, 5, 2, 9.0, 8.0, 12.0, (5, 2), 1)
    assert "at 9.0 s, 1.0 s after the text ended at 8.0 s" in "\n".join(late.lines())
