"""From a refusal to a typed error."""

from __future__ import annotations

import json
import ssl
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.adapters.http_errors import (
    error_from_answer,
    error_from_broken_json,
    reason_of,
    retry_after_ms,
    words_from_body,
)
from limner.errors import (
    AuthFailed,
    BackendError,
    BadRequest,
    JobLost,
    Moderated,
    NoBalance,
    QueueFull,
    RateLimited,
    Unavailable,
    WrongAddress,
)

NOW = datetime(2031, 5, 4, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequest),
        (401, AuthFailed),
        (402, NoBalance),
        (403, AuthFailed),
        (404, BadRequest),
        (422, BadRequest),
        (429, RateLimited),
        (500, BackendError),
        (502, Unavailable),
        (503, Unavailable),
        (504, Unavailable),
        (414, BadRequest),
        (418, BackendError),
    ],
)
def test_the_status_decides_the_kind(status, kind):
    error = error_from_answer("http://host/x", status, {}, b"", NOW)
    assert type(error) is kind
    assert str(error) == f"http://host/x answered {status}"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "moderation_blocked", Moderated),
        (400, "content_policy_violation", Moderated),
        (400, "contentFilter", Moderated),
        (429, "insufficient_quota", NoBalance),
        (400, "billing_hard_limit_reached", NoBalance),
        (429, "project_spend_limit_exceeded", NoBalance),
    ],
)
def test_a_code_says_more_than_the_status(status, code, kind):
    body = json.dumps({"error": {"message": "No.", "code": code, "type": "x"}}).encode()
    assert type(error_from_answer("here", status, {}, body, NOW)) is kind


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"message": "no", "rc": "CorruptPrompt"}, Moderated),
        (403, {"message": "no", "rc": "KudosUpfront"}, NoBalance),
        (429, {"message": "no", "rc": "TooManyPrompts"}, QueueFull),
        (400, {"message": "no", "rc": "MaintenanceMode"}, Unavailable),
        (404, {"message": "no", "rc": "RequestNotFound"}, JobLost),
        (404, {"message": "no", "rc": "WorkerNotFound"}, BadRequest),
        (400, {"error": {"message": "no", "code": "BAD_REQUEST", "type": "safety_error"}}, Moderated),
    ],
)
def test_a_code_is_found_wherever_the_service_puts_it(status, body, kind):
    assert type(error_from_answer("here", status, {}, json.dumps(body).encode(), NOW)) is kind


def google(
    message: str = "No.", code: int = 429, status: str = "RESOURCE_EXHAUSTED", *details: object
) -> dict[str, dict[str, object]]:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


def quota(quota_id: str, value: str = "15") -> dict[str, object]:
    violation = {"quotaMetric": "generate_requests", "quotaId": quota_id, "quotaValue": value}
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}


def retry_in(delay: object) -> dict[str, object]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


MINUTE, DAY = "GenerateRequestsPerMinutePerProjectPerModel", "GenerateRequestsPerDayPerProjectPerModel"


@pytest.mark.parametrize(
    ("body", "kind", "pause_ms"),
    [
        (
            google("Slow down.", 429, "RESOURCE_EXHAUSTED", quota(MINUTE), retry_in("37s")),
            RateLimited,
            37_000,
        ),
        (google("x", 429, "RESOURCE_EXHAUSTED", retry_in("22.991448336s")), RateLimited, 22_992),
        ([google("x", 429, "RESOURCE_EXHAUSTED", retry_in("1s"))], RateLimited, 1000),
        (google("Please retry in 5.5s."), RateLimited, 5500),
        (google("Please retry in 831.2ms."), RateLimited, 832),
        (google("Resource has been exhausted (e.g. check quota)."), RateLimited, None),
        (google("x", 429, "RESOURCE_EXHAUSTED", retry_in("soon"), retry_in(3)), RateLimited, None),
        (google("x", 429, "RESOURCE_EXHAUSTED", quota(MINUTE), quota(DAY), retry_in("9s")), NoBalance, 9000),
        (google("x", 429, "RESOURCE_EXHAUSTED", quota(MINUTE, "0"), retry_in("9s")), NoBalance, 9000),
        (google("Quota exceeded for metric: requests, limit: 0, model: m"), NoBalance, None),
        (google("Your prepayment credits are depleted."), NoBalance, None),
        (google("Your project has exceeded its monthly spending cap."), NoBalance, None),
    ],
)
def test_googles_limits_are_told_from_an_account_that_has_run_dry(body, kind, pause_ms):
    error = error_from_answer("here", 429, {}, json.dumps(body).encode(), NOW)
    assert type(error) is kind
    assert error.retry_after_ms == pause_ms


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, google("Bad key.", 400, "INVALID_ARGUMENT", {"reason": "API_KEY_INVALID"}), AuthFailed),
        (400, google("Bad field.", 400, "INVALID_ARGUMENT", {"reason": "ELSE"}, "odd"), BadRequest),
        (400, google("This API is only accessible to billed users.", 400, "INVALID_ARGUMENT"), NoBalance),
        (400, google("No free tier here. Please enable billing.", 400, "FAILED_PRECONDITION"), NoBalance),
        (403, google("No.", 403, "PERMISSION_DENIED", {"reason": "BILLING_DISABLED"}), NoBalance),
        (403, google("No.", 403, "PERMISSION_DENIED"), AuthFailed),
        (404, google("No such model.", 404, "NOT_FOUND"), BadRequest),
        (500, google("Internal.", 500, "INTERNAL"), BackendError),
        (503, google("Overloaded.", 503, "UNAVAILABLE"), Unavailable),
    ],
)
def test_googles_reasons_say_more_than_its_statuses(status, body, kind):
    error = error_from_answer("here", status, {}, json.dumps(body).encode(), NOW)
    assert type(error) is kind
    assert str(error) == f"here answered {status}: {body['error']['message']}"


def test_a_pause_in_the_headers_goes_before_one_in_the_body():
    body = json.dumps(google("x", 429, "RESOURCE_EXHAUSTED", retry_in("37s"))).encode()
    assert error_from_answer("here", 429, {"retry-after": "2"}, body, NOW).retry_after_ms == 2000


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "The model does not exist.", "type": "t"}}, "The model does not exist."),
        ({"error": "model not found"}, "model not found"),
        ({"detail": "Not Found"}, "Not Found"),
        (
            {"error": "OutOfMemoryError", "detail": "", "body": "", "errors": "CUDA out of memory"},
            "OutOfMemoryError: CUDA out of memory",
        ),
        (
            {"detail": [{"loc": ["body", "steps"], "msg": "not an integer", "type": "t"}]},
            "body.steps: not an integer",
        ),
        ({"message": "quota"}, "quota"),
        (["odd"], '["odd"]'),
        (
            {
                "error": {
                    "type": "prompt_outputs_failed_validation",
                    "message": "Failed",
                    "details": "",
                },
                "node_errors": {
                    "4": {
                        "class_type": "Loader",
                        "dependent_outputs": ["9"],
                        "errors": [{"message": "Value not in list", "details": "name: 'a' not in ['b']"}],
                    },
                    "5": {"class_type": "Empty", "errors": []},
                    "6": {"class_type": "Text", "errors": [{"message": "A"}, {"details": "B"}]},
                },
            },
            "Failed: node 4 (Loader): Value not in list: name: 'a' not in ['b']; node 6 (Text): A, B",
        ),
        (
            {
                "error": {
                    "type": "missing_node_type",
                    "message": "Node 'X' not found.",
                    "details": "Node ID '#3'",
                },
                "node_errors": {},
            },
            "Node 'X' not found.: Node ID '#3'",
        ),
        (
            {"error": {"message": "Prompt has no outputs", "details": ""}, "node_errors": []},
            "Prompt has no outputs",
        ),
    ],
)
def test_the_servers_own_words_are_kept_whatever_their_shape(body, words):
    assert words_from_body(json.dumps(body).encode()).text == words


def test_a_body_that_is_no_json_is_described():
    assert words_from_body(b"<html><h1>502 Bad Gateway</h1>").text.startswith("it is an HTML page: <html>")
    assert words_from_body(b"upstream gone").text == "upstream gone"


def test_words_stay_short_and_on_one_line():
    body = json.dumps({"error": {"message": "a\nb\x1b[31m " + "long " * 10_000}}).encode()
    words = words_from_body(body).text
    assert len(words) <= 300
    assert words.isprintable()


@given(st.binary(max_size=300))
def test_no_body_makes_the_translation_fail(body):
    error = error_from_answer("here", 500, {}, body, NOW)
    assert "\n" not in str(error)
    assert len(str(error)) < 500


@given(
    st.recursive(
        st.none() | st.text() | st.floats() | st.booleans(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(
                st.sampled_from(
                    [
                        *(
                            "error",
                            "detail",
                            "errors",
                            "message",
                            "code",
                            "type",
                            "loc",
                            "msg",
                            "node_errors",
                        ),
                        *("rc", "status", "details", "violations", "quotaId", "reason", "retryDelay"),
                    ]
                ),
                x,
            )
        ),
    )
)
def test_no_json_makes_the_translation_fail(parsed):
    error = error_from_answer("here", 400, {}, json.dumps(parsed).encode(), NOW)
    assert isinstance(error, BackendError)


def test_a_redirect_of_a_request_tells_the_new_address():
    error = error_from_answer("http://a", 301, {"location": "https://a/"}, b"", NOW)
    assert isinstance(error, BadRequest)
    assert "https://a/" in str(error)


@pytest.mark.parametrize(
    ("headers", "pause_ms"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3000),
        ({"retry-after": "0.25"}, 250),
        ({"retry-after-ms": "1234", "retry-after": "9"}, 1234),
        ({"retry-after": "Sun, 04 May 2031 12:00:30 GMT"}, 30_000),
        ({"retry-after": "Sun, 04 May 2031 11:00:00 GMT"}, 0),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "1e300"}, 86_400_000),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
    ],
)
def test_the_pause_asked_for_is_understood_as_seconds_milliseconds_or_a_date(headers, pause_ms):
    assert retry_after_ms(headers, NOW) == pause_ms


def test_the_pause_reaches_the_error():
    error = error_from_answer("here", 429, {"retry-after": "2"}, b"", NOW)
    assert error.retry_after_ms == 2000


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": "moderation_blocked", "message": "safety_violations=[sexual]"}, Moderated),
        ({"code": None, "message": "Your request was rejected by our safety system."}, Moderated),
        ({"code": None, "message": "Streaming must have non-zero partial images."}, BadRequest),
        ({"code": "invalid_size", "message": "Sizes pass no moderation."}, BadRequest),
    ],
)
def test_a_refused_prompt_is_told_from_a_wrong_parameter_of_the_same_type(error, kind):
    body = json.dumps({"error": {"type": "image_generation_user_error", **error}}).encode()
    assert type(error_from_answer("here", 400, {}, body, NOW)) is kind


def test_the_words_of_koboldcpp_are_found_in_its_detail():
    body = b'{"detail": {"msg": "Server is busy; please try again later.", "type": "service_unavailable"}}'
    error = error_from_answer("here", 503, {}, body, NOW)
    assert type(error) is Unavailable
    assert str(error) == "here answered 503: Server is busy; please try again later."


BASE = "http://host/sd/"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, b"", WrongAddress),
        (404, b'{"detail": "Not Found"}', WrongAddress),
        (404, b"404 page not found\n", WrongAddress),
        (404, b"<!doctype html><title>Not here</title>", WrongAddress),
        (405, b'{"detail": "Method Not Allowed"}', WrongAddress),
        (404, b'{"detail": "Sampler not found"}', BadRequest),
        (404, b'{"error": {"message": "Not found", "code": "model_not_found"}}', BadRequest),
        (400, b"", BadRequest),
    ],
)
def test_a_path_that_is_not_there_is_told_from_a_thing_that_is_not(status, body, kind):
    assert type(error_from_answer(f"{BASE}api/paint", status, {}, body, NOW, base=BASE)) is kind
    # Of a file nobody has set the address.
    assert type(error_from_answer(f"{BASE}api/paint", status, {}, body, NOW)) is BadRequest


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("https://host/sd/api/paint", "https://host/sd/"),
        ("/new/api/paint", "http://host/new/"),
        ("https://elsewhere/login", "https://elsewhere/login"),
    ],
)
def test_an_api_that_has_moved_is_told_by_the_address_to_set(location, told):
    error = error_from_answer(f"{BASE}api/paint", 301, {"location": location}, b"", NOW, base=BASE)
    assert type(error) is WrongAddress
    assert str(error) == f"http://host/sd/api/paint has moved (301); use {told}"


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (429, "here answered 429 and asks for a pause of 1.5 s: No."),
        (503, "here answered 503 and asks for a pause of 1.5 s: No."),
        (402, "here answered 402: No."),
    ],
)
def test_a_pause_that_helps_is_told(status, told):
    error = error_from_answer("here", status, {"retry-after": "1.5"}, b'{"message": "No."}', NOW)
    assert str(error) == told


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"images": ["abc', 'it is JSON that is cut short: {"images": ["abc'),
        (b'{"images": [1, 2', 'it is JSON that is cut short: {"images": [1, 2'),
        (b'{"images": nothing}', 'it is JSON that is broken: {"images": nothing}'),
        (b"", "it is empty"),
        (b"hello", "it is text: hello"),
    ],
)
def test_json_that_cannot_be_read_is_told_as_what_it_is(body, told):
    with pytest.raises(ValueError) as fault:
        json.loads(body)
    error = error_from_broken_json("here", body, fault.value)
    assert type(error) is BackendError
    assert str(error) == f"here answered without usable JSON: {told}"


def test_a_page_where_json_was_asked_for_is_a_wrong_address():
    error = error_from_broken_json("here", b"<!doctype html><p>Welcome", ValueError())
    assert (type(error), error.status) == (WrongAddress, 200)


def tls_error(kind: type[ssl.SSLError], reason: str) -> ssl.SSLError:
    error = kind(1, f"[SSL: {reason}] …")
    error.reason = reason
    return error


def test_what_goes_wrong_with_tls_is_not_told_by_its_number():
    plain = tls_error(ssl.SSLError, "WRONG_VERSION_NUMBER")
    assert reason_of(plain) == "it does not speak TLS; try http:// instead of https://"
    assert reason_of(tls_error(ssl.SSLError, "NO_CIPHERS_AVAILABLE")) == "TLS failed (no ciphers available)"
    certificate = tls_error(ssl.SSLCertVerificationError, "CERTIFICATE_VERIFY_FAILED")
    assert isinstance(certificate, ssl.SSLCertVerificationError)
    certificate.verify_message = "self-signed certificate"
    assert reason_of(certificate) == (
        "certificate not accepted (self-signed certificate; SSL_CERT_FILE can name a file with it)"
    )
