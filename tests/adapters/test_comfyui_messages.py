"""What a ComfyUI server says of a job, and what is made of it."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.adapters.comfyui_messages import (
    Finished,
    Interrupted,
    JobMessages,
    OutputFile,
    QueueItem,
    Report,
    failure_from,
    is_image,
    output_files,
    read_history,
    read_queue,
)
from limner.errors import AuthFailed, BackendError, NoBalance, RateLimited

# Weights 1, 20, 1, 1, 1: the sampler takes nearly all the time, choosing one takes none.
CLASSES = {
    "4": "CheckpointLoaderSimple",
    "3": "KSampler",
    "8": "VAEDecode",
    "9": "SaveImage",
    "2": "KSamplerSelect",
}


def listener() -> JobMessages:
    messages = JobMessages("http://host/", CLASSES)
    messages.job_id = "ours"
    return messages


def say(messages: JobMessages, kind: str, **data: object) -> Report | None:
    return messages.take(json.dumps({"type": kind, "data": data}))


def fractions(messages: JobMessages, *told: tuple[str, dict[str, Any]]) -> list[float]:
    reports = [say(messages, kind, **{"prompt_id": "ours", **data}) for kind, data in told]
    return [report.fraction for report in reports if report and report.fraction is not None]


def test_the_fraction_follows_the_nodes_with_a_sampler_weighing_most():
    assert fractions(
        listener(),
        ("execution_start", {}),
        ("execution_cached", {"nodes": ["4"]}),
        ("executing", {"node": "3"}),
        ("progress", {"node": "3", "value": 5, "max": 20}),
        ("progress", {"node": "3", "value": 20, "max": 20}),
        ("executing", {"node": "8"}),
        ("executing", {"node": "9"}),
        ("executed", {"node": "9", "output": {}}),
        ("execution_success", {}),
    ) == pytest.approx([0, 1 / 24, 6 / 24, 21 / 24, 22 / 24, 23 / 24])


def test_newer_servers_tell_of_all_nodes_at_once():
    running = {"3": {"state": "running", "value": 10, "max": 20}, "4": {"state": "finished"}}
    assert fractions(
        listener(),
        ("progress_state", {"nodes": {"4": {"state": "running", "value": 0, "max": 1}}}),
        ("progress_state", {"nodes": running}),
        ("progress_state", {"nodes": running}),
        ("progress_state", {"nodes": {"3": {"state": "error"}, "new": {"state": "finished"}, "8": 1}}),
    ) == pytest.approx([0, 11 / 24])


def test_the_fraction_never_goes_back():
    assert fractions(
        listener(),
        ("progress", {"node": "3", "value": 15, "max": 20}),
        ("progress", {"node": "3", "value": 1, "max": 5}),
        ("progress", {"node": "3", "value": 16, "max": 20}),
    ) == pytest.approx([15 / 24, 16 / 24])


@pytest.mark.parametrize(
    ("value", "of"), [(1, 0), (None, 3), ("1", "2"), (float("nan"), 2), (1, float("inf")), ([], {}), (1, -2)]
)
def test_progress_that_is_no_number_is_passed_over(value, of):
    messages = listener()
    say(messages, "execution_start", prompt_id="ours")
    assert say(messages, "progress", prompt_id="ours", node="3", value=value, max=of) is None


def test_the_messages_of_other_jobs_are_passed_over():
    messages = listener()
    for kind in ("execution_start", "execution_success", "execution_error", "execution_interrupted"):
        assert say(messages, kind, prompt_id="theirs") is None
    assert say(messages, "executed", prompt_id="theirs", node="9", output={"images": []}) is None
    assert say(messages, "progress", prompt_id="theirs", node="3", value=5, max=5) is None
    assert say(messages, "executing", prompt_id="theirs", node=None) is None
    assert say(messages, "progress", node="3", value=5, max=5) is None
    assert (messages.is_over, messages.failure, messages.outputs) == (False, None, {})


def test_progress_without_an_id_is_that_of_the_job_at_work():
    messages = listener()
    assert say(messages, "progress", node="3", value=5, max=5) is None
    say(messages, "executing", prompt_id="ours", node="3")
    assert say(messages, "progress", value=5, max=5) == Report(20 / 24)
    say(messages, "execution_start", prompt_id="theirs")
    assert say(messages, "progress", node="4", value=5, max=5) is None


@pytest.mark.parametrize(
    "told",
    [("execution_success", {}), ("executing", {"node": None}), ("execution_interrupted", {"node_id": "3"})],
)
def test_the_end_of_the_job_is_noticed(told):
    messages = listener()
    assert not messages.is_over
    fractions(messages, told)
    assert messages.is_over


def test_a_branch_that_is_blocked_is_no_end_but_a_reason():
    messages = listener()
    blocked = {"exception_type": "ExecutionBlocked", "exception_message": "Execution Blocked: no mask"}
    say(messages, "execution_error", prompt_id="ours", node_id="9", node_type="SaveImage", **blocked)
    assert not messages.is_over
    assert messages.failure is None
    assert "Execution Blocked: no mask" in messages.remark


def preview(picture: bytes, kind: int = 1) -> bytes:
    return struct.pack(">II", kind, 1) + picture


def preview_with_metadata(picture: bytes, metadata: object) -> bytes:
    head = json.dumps(metadata).encode()
    return struct.pack(">II", 4, len(head)) + head + picture


def test_a_preview_without_a_name_is_that_of_the_job_at_work():
    messages = listener()
    assert messages.take(preview(b"early")) is None
    say(messages, "execution_start", prompt_id="ours")
    assert messages.take(preview(b"JPEG")) == Report(preview=b"JPEG")
    say(messages, "executing", prompt_id="ours", node=None)
    assert messages.take(preview(b"late")) is None


def test_a_preview_with_a_name_counts_by_that():
    messages = listener()
    ours = preview_with_metadata(b"JPEG", {"prompt_id": "ours", "node_id": "3", "image_type": "image/jpeg"})
    assert messages.take(ours) == Report(preview=b"JPEG")
    say(messages, "execution_start", prompt_id="ours")
    assert messages.take(preview_with_metadata(b"JPEG", {"prompt_id": "theirs"})) is None


def test_what_a_websocket_saver_sends_is_a_picture_and_no_preview():
    for message in (
        preview(b"PNG"),
        preview_with_metadata(b"PNG", {"prompt_id": "ours", "node_id": "10"}),
    ):
        messages = JobMessages("http://host/", {**CLASSES, "10": "SaveImageWebsocket"}, "ours")
        say(messages, "executing", prompt_id="ours", node="10")
        assert messages.take(message) is None
        assert messages.take(message.replace(b"PNG", b"GNP")) is None
        assert messages.pictures == {"10": b"PNG"}


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x00\x00\x00",
        preview(b""),
        struct.pack(">I", 3) + b"text",
        struct.pack(">II", 4, 10**9) + b"{}",
        struct.pack(">II", 4, 2) + b"[]JPEG",
        "",
        "[" * 100_000,
        '"text"',
        '{"type": "status"}',
        '{"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 1}}, "sid": "x"}}',
        '{"type": "progress_state", "data": {"prompt_id": "ours", "nodes": [1]}}',
        '{"type": "execution_cached", "data": {"prompt_id": "ours", "nodes": 7}}',
        '{"type": "executed", "data": {"prompt_id": "ours", "node": ["9"], "output": null}}',
        '{"type": "crystools.monitor", "data": {"cpu": 1}}',
        '{"type": ["odd"], "data": {"prompt_id": ["odd"]}}',
    ],
)
def test_what_cannot_be_read_is_passed_over(message):
    messages = listener()
    say(messages, "execution_start", prompt_id="ours")
    assert messages.take(message) is None
    assert not messages.is_over


@given(st.binary(max_size=60))
def test_no_bytes_make_listening_fail(data):
    messages = listener()
    say(messages, "execution_start", prompt_id="ours")
    messages.take(data)
    messages.take(struct.pack(">I", 4) + data)


@given(
    st.sampled_from(
        ["executing", "progress", "progress_state", "executed", "execution_cached", "execution_error"]
    ),
    st.dictionaries(
        st.sampled_from(["node", "nodes", "value", "max", "output", "exception_message", "node_id"]),
        st.recursive(
            st.none() | st.text() | st.floats() | st.integers(),
            lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["3", "state", "value", "max"]), x),
            max_leaves=5,
        ),
    ),
)
def test_no_message_makes_listening_fail(kind, data):
    messages = listener()
    report = say(messages, kind, **data, prompt_id="ours")
    assert report is None or 0 <= (report.fraction or 0) <= 1


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("Unauthorized: Please login first to use this node.", AuthFailed),
        ("Payment Required: Please add credits to your account to use this node.", NoBalance),
        ("Rate Limit Exceeded: The server returned 429 after all retry attempts.", RateLimited),
        ("Allocation on device", BackendError),
    ],
)
def test_a_failure_keeps_the_servers_words_and_is_typed_where_they_say_enough(words, kind):
    data = {
        "node_id": "3",
        "node_type": "KSampler",
        "exception_type": "torch.OutOfMemoryError",
        "exception_message": f"{words}\n\nTIPS: …\n",
    }
    error = failure_from("http://host/", "execution_error", data)
    assert type(error) is kind
    assert str(error) == (
        f"http://host/ failed in node 3 (KSampler): torch.OutOfMemoryError: {words} TIPS: …"
    )


def test_a_failure_without_words_says_so():
    error = failure_from("http://host/", "execution_error", {})
    assert str(error) == "http://host/ failed in node None (None): no reason was given"


FILE = {"filename": "a.png", "subfolder": "x", "type": "output"}


def entry(status: object, outputs: object = None) -> dict[str, Any]:
    return {"ours": {"prompt": [], "outputs": outputs, "status": status}}


def test_the_history_says_nothing_before_the_end():
    answers: list[object] = [{}, [], None, {"theirs": {}}, {"ours": None}]
    for answer in answers:
        assert read_history("http://host/", answer, "ours") is None


@pytest.mark.parametrize("status", [{"status_str": "success", "completed": True, "messages": []}, None])
def test_the_history_of_a_success_has_the_outputs(status):
    outputs = {"9": {"images": [FILE]}}
    assert read_history("http://host/", entry(status, outputs), "ours") == Finished(outputs)


def test_the_history_says_which_outputs_were_remembered_and_not_made_again():
    messages = [["execution_start", {}], ["execution_cached", {"nodes": ["4", "9", "10"]}]]
    told = {"ours": {"prompt": [1, "ours", {}, {}, ["9", "11"]], "status": {"messages": messages}}}
    assert read_history("http://host/", told, "ours") == Finished({}, remembered=frozenset({"9"}))


@pytest.mark.parametrize("item", [None, [], [1, "ours", {}, {}], [1, "ours", {}, {}, None]])
@pytest.mark.parametrize("message", [7, [], ["execution_cached"], ["execution_cached", None]])
def test_a_history_that_does_not_say_so_remembers_nothing(item, message):
    of_others = ["execution_cached", {"nodes": ["9"]}]
    for prompt, messages in ((item, [of_others]), ([1, "ours", {}, {}, ["9"]], [message]), (item, None)):
        told = {"ours": {"prompt": prompt, "status": {"messages": messages}}}
        assert read_history("http://host/", told, "ours") == Finished({})


def test_the_history_of_a_failure_has_the_reason():
    data = {"node_id": "3", "node_type": "KSampler", "exception_message": "out of memory"}
    messages = [["execution_start", {}], ["execution_cached", {}], ["execution_error", data]]
    end = read_history("http://host/", entry({"status_str": "error", "messages": messages}), "ours")
    assert end is not None
    assert "node 3 (KSampler): out of memory" in str(end.failure)


def test_the_history_of_an_interruption_is_told_from_other_failures():
    messages = [["execution_interrupted", {"node_id": "3", "node_type": "KSampler"}]]
    end = read_history("http://host/", entry({"status_str": "error", "messages": messages}), "ours")
    assert end is not None
    assert isinstance(end.failure, Interrupted)


@pytest.mark.parametrize("messages", [None, [], [7, ["execution_error"], ["execution_error", None]]])
def test_a_failure_without_a_message_is_one_all_the_same(messages):
    end = read_history("http://host/", entry({"status_str": "error", "messages": messages}), "ours")
    assert end is not None
    assert str(end.failure) == "http://host/ failed without a reason"


def test_the_queue_tells_what_runs_and_what_waits_and_for_whom():
    answer = {
        "queue_running": [[3, "a", {}, {"client_id": "us"}, ["9"]]],
        "queue_pending": [[4, "b", {}, {}, ["9"]], [5, "c", {}, {"client_id": None}, [], {}], "odd", [1]],
    }
    assert list(read_queue(answer)) == [
        QueueItem("a", "us", is_running=True),
        QueueItem("b", None, is_running=False),
        QueueItem("c", None, is_running=False),
    ]
    odd_answers: list[object] = [None, [], {"queue_running": 7}]
    for odd in odd_answers:
        assert list(read_queue(odd)) == []


def test_files_come_in_the_workflows_order_the_saved_ones_first():
    def file(name: str, type_: str = "output") -> dict[str, str]:
        return {"filename": name, "subfolder": "", "type": type_}

    outputs = {
        "grown": {"images": [file("6.png")]},
        "12": {"images": [file("3.png")], "animated": [True], "text": ["words"], "other": 1},
        "9": {"images": [file("1.png"), file("2.png")]},
        "11": {"images": [file("7.png", "temp")], "gifs": [file("8.gif", "temp")]},
        "10": {"images": None, "audio": [{"filename": ""}, {}, None]},
        "13": {"images": [{"filename": "4.png"}], "gifs": [file("5.mp4")]},
        "14": None,
    }
    files = output_files(outputs, ["9", "10", "11", "12", "13", "14"])
    assert [file.filename for file in files] == [
        "1.png", "2.png", "3.png", "4.png", "5.mp4", "6.png", "7.png", "8.gif",
    ]  # fmt: skip
    assert files[3] == OutputFile("4.png", "", "output")


@pytest.mark.parametrize(
    ("name", "type_", "image"),
    [
        ("a.png", "output", True),
        ("a.WEBP", "temp", True),
        ("a.jpg", "input", False),
        ("a.mp4", "output", False),
        ("a.flac", "output", False),
        ("png", "output", False),
    ],
)
def test_images_are_told_by_their_names(name, type_, image):
    assert is_image(OutputFile(name, "", type_)) is image
