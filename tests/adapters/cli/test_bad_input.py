"""Whatever is wrong, the command answers with one clear line, the right code, and leaves nothing behind."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from starlette.responses import JSONResponse

from limner.adapters.cli.errors import fault_of
from limner.errors import NoBalance, Unavailable
from tests.adapters.cli.conftest import PATIENCE_S, files_in, start
from tests.adapters.servers.local import happened

TXT2IMG = "/sdapi/v1/txt2img"
NOBODY = "http://127.0.0.1:9"  # "discard": nothing listens there

BAD_COMMANDS = {
    ("nofile.md",): "no file nofile.md",
    (".",): ". is a folder, not a text file",
    ("picture.md",): "picture.md is not text: byte 0x00 at offset 8",
    ("latin.md",): "latin.md is not UTF-8 text: byte 0xe4 at offset 3",
    ("utf16.md",): "utf16.md is UTF-16, not UTF-8; convert it first (iconv -f UTF-16 -t UTF-8)",
    ("story.md/x",): "cannot read story.md/x: Not a directory",
    ("story.md", "-o", "story.md"): "story.md is the input; name another output with -o",
    ("story.md", "-o", "./link.md"): "link.md is the input; name another output with -o",
    ("story.md", "--page", "story.md"): "story.md is the input; name another output with -o",
    ("story.md", "-o", "."): ". is a folder, not a file",
    (
        "story.md",
        "-o",
        "x.html",
        "--page",
        "x.html",
    ): "x.html would be both the text and the page; name another page",
    ("story.md", "--page", "-"): "--page needs a file; standard output is for the text (-o -)",
    ("a night at the lighthouse",): (
        "no file a night at the lighthouse; to have it written, add --openai URL --model NAME"
    ),
    ("a night at sea " * 100,): (
        f"cannot read {('a night at sea ' * 100)[:199]}…: File name too long; "
        "to have it written, add --openai URL --model NAME"
    ),
    ("story.md", "-g", "127.0.0.1:7860"): (
        "no generator '127.0.0.1:7860'; an address needs http:// before it: http://127.0.0.1:7860"
    ),
    ("story.md", "--images", "/proc/limner/x"): (
        "cannot put images into the folder /proc/limner/x: No such file or directory"
    ),
    ("story.md", "--images", "/proc"): ("cannot put images into the folder /proc: No such file or directory"),
    ("story.md", "-o", "nowhere/x.md"): "no folder nowhere to write x.md into",
    ("story.md", "--images", "latin.md"): "latin.md is a file; the images need a folder",
    ("story.md", "--preset", "nope"): (
        "no preset 'nope'; there are: default, pic, t2i, imggen, imggen-braces"
    ),
    ("story.md", "-g", "crayons"): (
        "no generator 'crayons'; possible are: "
        "sketch, sdapi=URL, openai=URL, comfyui=URL, horde[=URL], gemini[=URL], pollinations[=URL], "
        "json=FILE, diffusers=MODEL, or the URL of a server that speaks sdapi"
    ),
    ("story.md", "-g", f"comfyui={NOBODY}"): (
        "the generator comfyui needs a workflow: the option workflow (on the command line --set "
        "workflow=…), or LIMNER_COMFYUI_WORKFLOW in the environment"
    ),
    ("story.md", "-g", f"comfyui={NOBODY}", "--workflow", "no.json"): (
        "cannot read the workflow no.json: no such file or directory"
    ),
    ("story.md", "-g", f"comfyui={NOBODY}", "--workflow", "editor.json"): (
        "the workflow editor.json is in the editor's format, not in ComfyUI's API format: export it with "
        "File > Export Workflow (API); in older versions Workflow > Export (API), or Save (API Format), a "
        "button that the setting Enable Dev mode Options adds"
    ),
    ("story.md", "-g", f"comfyui={NOBODY}", "--workflow", "plain.json"): (
        "the workflow plain.json has no place for the prompt (each image's own text goes there): write "
        "\"%prompt%\" as the value of node 6 (CLIPTextEncode), input 'text'"
    ),
    ("story.md", "--workflow", "plain.json"): (
        "--workflow is not for sketch, which has the options width, height, steps, step_ms"
    ),
    ("story.md", "--set", "steps"): "--set takes NAME=VALUE, not 'steps'",
    ("story.md", "--set", "steps=many"): "steps takes a whole number, not 'many'",
    ("story.md", "--set", "stps=4"): (
        "the generator sketch has no option 'stps'; did you mean 'steps'? it has: width, height, steps, "
        "step_ms"
    ),
    ("story.md", "--set", "steps=4", "--set", "steps=5"): "the option steps was given twice",
    ("story.md", "-g", "horde", "--image-model", "a", "--set", "model=b"): (
        "--image-model and --set model=… say the same; give one of them"
    ),
    ("story.md", "-g", f"sdapi={NOBODY}", "--set", "auth=secret"): (
        "auth takes NAME:PASSWORD, not what was given"
    ),
    ("story.md", "--model", "m"): "--model needs --openai URL",
    ("story.md", "--system", "s"): "--system needs --openai URL",
    ("-", "--json"): "--json needs standard output for itself; name a file for the text with -o",
    ("hello", "--openai", NOBODY): "--openai needs --model NAME",
    (" ", "--openai", NOBODY, "--model", "m"): "--openai needs to be told what to write about",
    ("hello", "--openai", NOBODY, "--model", "m", "--pattern", "(x)"): (
        "with only --pattern the model must be told what to write; add --system TEXT or a --preset"
    ),
    (): "Missing argument 'FILE|-|REQUEST' (see main illustrate --help)",
    ("story.md", "--zzz"): "No such option '--zzz' (see main illustrate --help)",
    ("story.md", "--prompt-override", "width,colour"): (
        "Invalid value for '--prompt-override': 'colour' is none of negative, seed, width, height, steps, "
        "all (see main illustrate --help)"
    ),
    ("story.md", "--bogus"): "No such option '--bogus' (see main illustrate --help)",
    ("story.md", "--timout", "9"): (
        "No such option '--timout'. Did you mean '--timeout'? (see main illustrate --help)"
    ),
    ("story.md", "--timeout", "nan"): (
        "Invalid value for '--timeout': 'nan' is not a time in seconds (see main illustrate --help)"
    ),
    ("story.md", "--min-interval", "NaN"): (
        "Invalid value for '--min-interval': 'NaN' is not a time in seconds (see main illustrate --help)"
    ),
    ("story.md", "--timeout", "0"): (
        "Invalid value for '--timeout': 0.0 is not in the range 0.001<=x<=86400 (see main illustrate --help)"
    ),
}


@pytest.fixture(autouse=True)
def bad_files(tmp_path, story):
    (tmp_path / "picture.md").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    (tmp_path / "latin.md").write_bytes("für".encode("latin-1").replace(b"f\xfcr", b"abc\xe4"))
    (tmp_path / "utf16.md").write_bytes("text".encode("utf-16"))
    (tmp_path / "link.md").symlink_to("story.md")
    (tmp_path / "editor.json").write_text('{"nodes": [], "links": []}')
    (tmp_path / "plain.json").write_text('{"6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a"}}}')


@pytest.mark.parametrize("arguments", BAD_COMMANDS, ids=" ".join)
def test_bad_usage_gets_one_line_and_code_2(run, tmp_path, arguments):
    before = files_in(tmp_path)
    result = run("illustrate", *arguments, stdin="x")
    assert result.stderr == f"limner: {BAD_COMMANDS[arguments]}\n"
    assert result.exit_code == 2
    assert bool(result.stdout) == ("--json" in arguments)
    assert files_in(tmp_path) == before


def test_an_endless_input_is_refused(run):
    result = run("illustrate", "/dev/zero")
    assert (result.exit_code, result.stderr) == (2, "limner: /dev/zero is larger than 64 MiB\n")


@pytest.mark.parametrize(
    ("pattern", "shown"),
    [
        ("(a|b(", ["bad pattern, at position 5: missing )", "  (a|b(", "       ^"]),
        (
            "(漢字)[z-a]",
            ["bad pattern, at position 8: bad character range", "  (漢字)[z-a]", "            ^"],
        ),
        ("abc", ["bad pattern: it has no group (…) that captures the prompt", "  abc"]),
        ("(a)*", ["bad pattern: it matches the empty text", "  (a)*"]),
    ],
)
def test_a_bad_pattern_is_shown_with_a_caret_at_the_fault(run, pattern, shown):
    result = run("illustrate", "story.md", "--pattern", pattern)
    assert result.exit_code == 2
    assert result.stderr.rstrip("\n").split("\n") == [f"limner: {shown[0]}", *shown[1:]]


def test_of_a_long_pattern_the_part_around_the_fault_is_shown(run):
    result = run("illustrate", "story.md", "--pattern", "(" + "a\n" * 5_000 + ")(" + "b" * 5_000)
    _, shown, caret = result.stderr.rstrip("\n").split("\n")
    assert len(shown) <= 70
    assert caret.strip() == "^"


def test_a_pattern_that_takes_too_long_is_refused_before_anything_is_painted(run, tmp_path):
    (tmp_path / "x.md").write_text("x" * 5_000)
    result = run("illustrate", "x.md", "--pattern", "((x+x+)+y)(?=z)|(x+)+q")
    assert result.exit_code == 2
    assert "took more than 100 ms on one text" in result.stderr


def test_a_server_that_cannot_be_reached_is_code_3_and_no_text_is_written(run, tmp_path):
    before = files_in(tmp_path)
    result = run("illustrate", "story.md", "-g", NOBODY, "--attempts", "1", "-q")
    assert result.stderr == (
        "limner: no image for “a red fox in the snow” and 1 more: "
        f"cannot reach {NOBODY}{TXT2IMG}: connection refused. "
        "Check that the service runs and that its address is right.\n"
    )
    assert result.exit_code == 3
    assert files_in(tmp_path) == before


def test_a_server_that_cannot_be_reached_is_told_in_json_with_what_to_do(run):
    told = json.loads(run("illustrate", "story.md", "-g", NOBODY, "--attempts", "1", "--json").stdout)
    assert told["state"] == "failed"
    assert told["error"] == {
        "kind": "unavailable",
        "message": f"cannot reach {NOBODY}{TXT2IMG}: connection refused. "
        "Check that the service runs and that its address is right.",
    }


def test_a_server_that_refuses_is_quoted(run, web):
    web.answer_json(TXT2IMG, {"detail": "model not loaded"}, status=401)
    result = run("illustrate", "story.md", "-g", web.url, "--json")
    told = json.loads(result.stdout)
    assert result.exit_code == told["exit_code"] == 3
    assert [failed["kind"] for failed in told["failed"]] == ["auth", "auth"]
    assert "model not loaded" in told["failed"][0]["reason"]
    assert told["files"] == told["placed"] == []
    assert "answered 401: model not loaded" in result.stderr


def test_a_thousand_prompts_are_not_taken_through_a_thousand_refusals(run, web, tmp_path):
    (tmp_path / "many.md").write_text("\n".join(f'<img_prompt="fox {n}">' for n in range(1_000)))
    web.answer_json(TXT2IMG, {"detail": "who are you?"}, status=403)
    result = run("illustrate", "many.md", "-g", web.url, "--json", "-q")
    told = json.loads(result.stdout)
    assert result.exit_code == 3
    assert told["state"] == "failed"
    assert told["error"]["kind"] == "auth"
    assert len(told["failed"]) + len(told["cancelled"]) == told["prompts"] == 1_000
    assert len([request for request in web.received if request.path == TXT2IMG]) < 20
    assert len(result.stderr.splitlines()) == 2


def test_a_server_that_hangs_is_given_up_like_one_that_refuses(run, web, tmp_path):
    (tmp_path / "many.md").write_text("\n".join(f'<img_prompt="fox {n}">' for n in range(9)))
    web.hold(TXT2IMG)
    result = run("illustrate", "many.md", "-g", web.url, "--timeout", "0.2", "--json", "-q")
    told = json.loads(result.stdout)
    assert result.exit_code == 3
    assert (len(told["failed"]), len(told["cancelled"])) == (2, 7)
    failed, given_up = result.stderr.splitlines()
    assert failed == (
        "limner: no image for “fox 0” and 1 more: not finished within 0.2 s. Raise --timeout, or see whether "
        "the server paints at all: limner backends test WHO."
    )
    assert given_up == "limner: given up: 7 prompts"


def test_what_to_do_is_said_once_for_each_kind_of_failure(run, web):
    async def refuse(request):
        return JSONResponse({"detail": f"no {request.json['prompt']} today"}, 402)

    web.on(TXT2IMG, refuse)
    lines = run("illustrate", "story.md", "-g", web.url, "-q").stderr.splitlines()
    assert [line.rpartition(" today")[2] for line in lines] == [f". {NoBalance.hint}", ""]


def test_a_sentence_that_has_its_full_stop_gets_no_second_one():
    assert fault_of(Unavailable("The model is loading.")).lines == (
        f"The model is loading. {Unavailable.hint}",
    )
    assert fault_of(Unavailable("it is loading")).lines == (f"it is loading. {Unavailable.hint}",)


def test_what_was_made_is_written_when_some_images_fail(run, web, tmp_path, png):
    async def paint_foxes(request):
        if "fox" in request.json["prompt"]:
            return JSONResponse({"images": [base64.b64encode(png).decode()]})
        return JSONResponse({"detail": "only foxes here"}, 422)

    web.on(TXT2IMG, paint_foxes)
    result = run("illustrate", "story.md", "-g", web.url)
    assert result.exit_code == 1
    assert (tmp_path / "story.illustrated.md").read_text().count("![") == 1
    assert "1 of 2 images placed" in result.stderr
    assert "no image for “a lighthouse at night”" in result.stderr
    assert "only foxes here" in result.stderr


def test_images_that_cannot_be_stored_are_code_4(run, tmp_path, web, png):
    async def paint_and_take_the_place(_):
        (tmp_path / "pictures").touch()
        return JSONResponse({"images": [base64.b64encode(png).decode()]})

    web.on(TXT2IMG, paint_and_take_the_place)
    result = run(
        "illustrate", "story.md", "--images", "pictures", "-g", web.url, "--attempts", "1", "-q", "--json"
    )
    told = json.loads(result.stdout)
    assert result.exit_code == told["exit_code"] == 4
    assert told["state"] == "failed"
    assert told["error"]["kind"] == "image_not_stored"
    assert "cannot store an image in pictures" in result.stderr
    assert not (tmp_path / "story.illustrated.md").exists()


def test_a_folder_that_vanishes_meanwhile_is_code_4_and_one_line(run, story, tmp_path, web, png):
    (tmp_path / "out").mkdir()

    async def paint_and_remove_the_folder(_):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        return JSONResponse({"images": [base64.b64encode(png).decode()]})

    web.on(TXT2IMG, paint_and_remove_the_folder)
    result = run("illustrate", story, "-o", "out/x.md", "--images", "pictures", "-g", web.url, "-q", "--json")
    assert result.exit_code == 4
    assert result.stderr == (
        "limner: cannot write out/x.md: No such file or directory; the finished images are in pictures\n"
    )
    assert json.loads(result.stdout)["error"]["kind"] == "storage_error"


def test_a_refusal_comes_as_json_where_json_was_asked_for(run):
    result = run("illustrate", "nofile.md", "--json")
    assert json.loads(result.stdout) == {
        "state": "failed",
        "exit_code": 2,
        "error": {"kind": "bad_input", "message": "no file nofile.md"},
    }
    assert result.stderr == "limner: no file nofile.md\n"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.anyio
async def test_an_interrupted_run_leaves_nothing_half_written(tmp_path, web, how):
    before = files_in(tmp_path)
    web.hold(TXT2IMG)
    # Where the tests run in the background of a shell, interrupts are ignored, by what they start, too.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = start("illustrate", "story.md", "-g", web.url)
    signal.signal(signal.SIGINT, inherited)
    try:
        await happened(web.arrived)
        process.send_signal(how)
        web.released.set()
        _, complaint = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert complaint.decode().splitlines()[-1] == "limner: interrupted; nothing half written"
        assert "Traceback" not in complaint.decode()
        assert "session_left_unfinished" not in complaint.decode()
    assert files_in(tmp_path) == before


def test_a_reader_who_has_had_enough_is_no_traceback(tmp_path):
    (tmp_path / "long.md").write_text("word " * 200_000)
    process = start("illustrate", "long.md", "-o", "-", "-q")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    complaint = process.stderr.read()
    process.stderr.close()
    assert process.wait(PATIENCE_S) == 1
    assert complaint == b""


def test_a_fault_of_ours_is_one_line_too_and_asks_for_a_report():
    fault = fault_of(ExceptionGroup("tasks", [ZeroDivisionError("oh")]))
    assert fault.exit_code == 70
    assert fault.lines == ("a fault in Limner, please report it (-vv shows where): ZeroDivisionError: oh",)


def test_it_runs_as_a_module_with_a_bare_environment(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "limner", "illustrate", "nofile.md"],
        capture_output=True,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, b"limner: no file nofile.md\n")
