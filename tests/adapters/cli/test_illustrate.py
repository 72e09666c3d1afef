"""`limner illustrate FILE`: a finished text in, the illustrated text and its images out."""

from __future__ import annotations

import json
from base64 import b64encode
from io import BytesIO
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from limner.text import find_images, strip_illustrations
from tests.adapters.cli.conftest import STORY, files_in
from tests.adapters.servers.sdapi import SdapiServer


def test_the_text_gets_its_images_and_stands_beside_the_input(run, story, tmp_path):
    result = run("illustrate", story)
    assert result.exit_code == 0, result.stderr
    text = (tmp_path / "story.illustrated.md").read_text(encoding="utf-8")
    images = find_images(text)
    assert [image.syntax for image in images] == ["markdown", "markdown"]
    assert strip_illustrations(text) == STORY
    assert story.read_text(encoding="utf-8") == STORY
    assert "2 of 2 images placed" in result.stderr
    assert result.stdout == ""


def test_addresses_of_images_are_relative_to_the_text_and_lead_to_the_files(run, story, tmp_path):
    place = tmp_path / "out"
    place.mkdir()
    assert run("illustrate", story, "-o", "out/ü story.md", "--images", "bild er/ä").exit_code == 0
    images = find_images((place / "ü story.md").read_text(encoding="utf-8"))
    assert len(images) == 2
    for image in images:
        assert (place / unquote(image.src)).read_bytes().startswith(b"\xff\xd8\xff")
        assert image.src.startswith("../bild%20er/%C3%A4/")


def test_an_illustrated_text_illustrated_again_stays_as_it_is(run, story, tmp_path):
    run("illustrate", story)
    illustrated = tmp_path / "story.illustrated.md"
    before = illustrated.read_bytes()
    result = run("illustrate", illustrated, "-o", "again.md")
    assert result.exit_code == 0
    assert (tmp_path / "again.md").read_bytes() == before
    assert "2 prompts, all illustrated already" in result.stderr
    assert not (tmp_path / "again-images").exists()


def test_a_text_without_prompts_is_copied_and_said_to_be_so(run, tmp_path):
    (tmp_path / "plain.txt").write_bytes(b"nothing to paint\n")
    result = run("illustrate", "plain.txt")
    assert result.exit_code == 0
    assert (
        'no image prompt found (looked for <!--img-prompt="…"-->, <img_prompt="…">): plain.illustrated.txt'
        in result.stderr
    )
    assert (tmp_path / "plain.illustrated.txt").read_bytes() == b"nothing to paint\n"


def test_where_no_prompt_was_found_the_tags_that_were_asked_for_are_named(run, tmp_path):
    (tmp_path / "x.md").write_text('<img_prompt="fox">')
    result = run("illustrate", "x.md", "--preset", "t2i", "--pattern", r"\[draw: (\w+)\]")
    assert r"(looked for <t2i>…</t2i>, the pattern \[draw: (\w+)\])" in result.stderr


def test_trying_the_images_folder_out_leaves_nothing_behind(run, tmp_path):
    (tmp_path / "plain.md").write_text("nothing to paint")
    (tmp_path / "there").mkdir()
    for folder in ("there", "new/deep/er"):
        assert run("illustrate", "plain.md", "--images", folder).exit_code == 0
    assert list((tmp_path / "there").iterdir()) == []
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("text", ["", "\r\n", "\ufeffa\r\nb\r\n", "no end of line", "é🐉\u2028x\x0b\n"])
def test_every_byte_of_the_text_stays(run, tmp_path, text):
    (tmp_path / "x.md").write_bytes(text.encode())
    assert run("illustrate", "x.md").exit_code == 0
    assert (tmp_path / "x.illustrated.md").read_bytes() == text.encode()


def test_windows_line_ends_stay(run, tmp_path):
    text = 'a\r\n\r\n<!--img-prompt="fox"-->\r\n\r\nb\r\n'
    (tmp_path / "x.md").write_bytes(text.encode())
    assert run("illustrate", "x.md").exit_code == 0
    written = (tmp_path / "x.illustrated.md").read_bytes().decode()
    assert "![fox](" in written
    assert strip_illustrations(written) == text


def test_html_files_get_html_images(run, tmp_path):
    (tmp_path / "x.HTML").write_text('<p>a <img_prompt="a fox"></p>')
    assert run("illustrate", "x.HTML").exit_code == 0
    assert '<img src="x-images/' in (tmp_path / "x.illustrated.HTML").read_text()


def test_the_profile_can_be_chosen_against_the_suffix(run, story, tmp_path):
    assert run("illustrate", story, "--profile", "html").exit_code == 0
    assert (tmp_path / "story.illustrated.md").read_text().count("<img src=") == 2


def test_standard_input_goes_to_standard_output_with_images_beside(run, tmp_path):
    result = run("illustrate", "-", stdin=b'x <!--img-prompt="fox"--> y\r\n')
    assert result.exit_code == 0
    (image,) = find_images(result.stdout_bytes.decode())
    assert (tmp_path / image.src).is_file()
    assert image.src.startswith("limner-images/")
    assert result.stdout_bytes.endswith(b" y\r\n")


def test_standard_output_can_be_chosen_for_a_file(run, story):
    result = run("illustrate", story, "-o", "-", "-q")
    assert strip_illustrations(result.stdout) == STORY
    assert result.stderr == ""


def test_json_is_the_only_thing_on_standard_output(run, story, tmp_path):
    result = run("illustrate", story, "--json")
    told = json.loads(result.stdout)
    assert result.exit_code == told["exit_code"] == 0
    assert told["state"] == "done"
    assert told["prompts"] == 2
    assert told["unplaced"] == told["failed"] == told["cancelled"] == []
    assert told["error"] is None
    assert told["output"] == str(tmp_path / "story.illustrated.md")
    assert [placed["prompt"] for placed in told["placed"]] == [
        "a red fox in the snow",
        "a lighthouse at night",
    ]
    assert files_in(tmp_path) == {str(Path(file).relative_to(tmp_path)) for file in told["files"]} | {
        "story.md"
    }
    assert [placed["file"] for placed in told["placed"]] == told["files"][1:]
    assert told["seconds"] > 0


def test_patterns_and_presets_replace_the_default_tags(run, tmp_path):
    (tmp_path / "x.md").write_text('<t2i>a</t2i> [[draw: b]] <img_prompt="c">')

    def prompts(*options: str) -> list[str]:
        told = json.loads(run("illustrate", "x.md", "--json", *options).stdout)
        return [placed["prompt"] for placed in told["placed"]]

    assert prompts() == ["c"]
    assert prompts("--preset", "t2i") == ["a"]
    assert prompts("--pattern", r"\[\[draw: ([^\]]+)\]\]", "--preset", "t2i") == ["a", "b"]
    assert prompts("--preset", "default", "--preset", "t2i") == ["a", "c"]


def test_prompts_in_fenced_code_count_unless_told_otherwise(run, tmp_path):
    (tmp_path / "x.md").write_text('```\n<img_prompt="c">\n```\n')
    told = json.loads(run("illustrate", "x.md", "--json", "--no-code-fences").stdout)
    assert told["prompts"] == 0
    told = json.loads(run("illustrate", "x.md", "--json").stdout)
    assert told["prompts"] == 1


def test_equal_prompts_are_several_pictures(run, tmp_path):
    (tmp_path / "x.md").write_text('<img_prompt="fox"> and <img_prompt="fox">')
    assert run("illustrate", "x.md").exit_code == 0
    one, two = find_images((tmp_path / "x.illustrated.md").read_text())
    assert one.src != two.src


def test_a_megabyte_of_hostile_text_is_no_trouble(run, tmp_path):
    text = '<!--img-prompt="' * 30_000 + "[" * 200_000 + "<img src=" * 30_000 + '\n\n<img_prompt="fox">\n'
    (tmp_path / "x.md").write_text(text)
    result = run("illustrate", "x.md", "--json")
    assert result.exit_code == 0, result.stderr


def test_an_output_that_stood_there_is_replaced_and_a_link_followed(run, story, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "out.md").write_text("old")
    (tmp_path / "out.md").symlink_to("real/out.md")
    assert run("illustrate", story, "-o", "out.md").exit_code == 0
    assert (tmp_path / "out.md").is_symlink()
    assert "![" in (tmp_path / "real" / "out.md").read_text()


def test_a_device_is_written_to_and_not_replaced(run, story, tmp_path):
    assert run("illustrate", story, "-o", "/dev/null").exit_code == 0
    assert Path("/dev/null").is_char_device()
    assert (tmp_path / "limner-images").is_dir()


def test_the_page_holds_its_images_itself(run, story, tmp_path):
    assert run("illustrate", story, "--page", "story.html").exit_code == 0
    page = (tmp_path / "story.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 2
    assert "story-images" not in page
    assert "img-prompt" not in page


@pytest.mark.parametrize("path", ["..%2Fsecret.txt", "{folder}%2Fsecret.txt"])
def test_a_text_from_elsewhere_cannot_draw_local_files_into_the_page(run, story, tmp_path, path):
    (tmp_path / "secret.txt").write_text("nobody else may read this", encoding="utf-8")
    address = path.format(folder=quote(str(tmp_path), safe=""))
    with story.open("a", encoding="utf-8") as file:
        file.write(f"\n![y](story-images/{address})\n")
    assert run("illustrate", story, "--page", "story.html").exit_code == 0
    page = (tmp_path / "story.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == page.count(";base64,") == 2


def test_the_page_holds_the_images_of_an_earlier_run_too(run, story, tmp_path):
    assert run("illustrate", story, "-o", "out.md").exit_code == 0
    assert (
        run("illustrate", "out.md", "-o", "again.md", "--images", "out-images", "--page", "p.html").exit_code
        == 0
    )
    assert (tmp_path / "p.html").read_text(encoding="utf-8").count("data:image/jpeg;base64,") == 2


def test_the_same_text_gives_the_same_pictures(run, story, tmp_path):
    run("illustrate", story, "-o", "a.md", "--images", "pictures")
    run("illustrate", story, "-o", "b.md", "--images", "pictures")
    assert (tmp_path / "a.md").read_bytes() == (tmp_path / "b.md").read_bytes()


@pytest.mark.parametrize("stripped", [False, True])
def test_what_a_server_writes_into_its_files_stays_unless_told_otherwise(run, story, tmp_path, web, stripped):
    text = PngInfo()
    text.add_text("parameters", "a red fox, steps: 20")
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=text)
    SdapiServer(web, b64encode(file.getvalue()).decode())
    flags = ["--strip-metadata"] if stripped else []
    assert run("illustrate", story, "-g", web.url, *flags).exit_code == 0
    [path] = (tmp_path / "story-images").iterdir()
    assert (b"steps: 20" in path.read_bytes()) is not stripped


def test_prompts_ask_for_settings_themselves_only_where_they_may(run, tmp_path):
    (tmp_path / "story.md").write_text('<img_prompt="a fox --width 70 --height 80">')
    for flags, size in (
        ([], (96, 64)),
        (["--prompt-override", "width", "--prompt-override", "height"], (70, 80)),
        (["--prompt-override", "width, seed"], (70, 64)),
        (["--prompt-override", "all"], (70, 80)),
    ):
        assert run("illustrate", "story.md", *flags).exit_code == 0
        [path] = (tmp_path / "story-images").iterdir()
        with Image.open(path) as image:
            assert image.size == size
        path.unlink()
