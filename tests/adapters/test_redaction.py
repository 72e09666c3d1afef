"""Keys and passwords, in whatever form a server gives them back."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote, quote_plus

import pytest

from limner.adapters.redaction import Secrets, shown_address

KEY = 'sk/very "secret"+é&key'
ENCODED = base64.b64encode(b"user:hunter22").decode()


@pytest.mark.parametrize(
    "given_back",
    [
        KEY,
        quote(KEY, safe=""),
        quote(KEY),
        quote(KEY, safe="/+&"),
        quote(KEY, safe="").replace("%2F", "%2f"),
        quote_plus(KEY),
        html.escape(KEY),
        json.dumps(KEY)[1:-1],
        json.dumps(KEY, ensure_ascii=False)[1:-1],
    ],
)
def test_a_secret_is_taken_out_in_every_form_of_it(given_back):
    secrets = Secrets(others=[KEY])
    assert secrets.taken_out_of(f"no account for {given_back}, sorry") == "no account for ***, sorry"


@pytest.mark.parametrize("words", [f"Basic {ENCODED}", ENCODED.rstrip("="), "hunter22", "user:hunter22"])
def test_a_password_is_taken_out_as_it_stands_and_as_it_is_sent(words):
    for secrets in (
        Secrets(auth=("user", "hunter22")),
        Secrets(headers={"authorization": f"Basic {ENCODED}"}),
    ):
        told = secrets.taken_out_of(f"bad header: {words}")
        assert "***" in told
        assert not any(part in told for part in ("hunter22", ENCODED, ENCODED.rstrip("=")))


def test_a_header_is_secret_with_and_without_the_word_before_its_key():
    secrets = Secrets(headers={"authorization": "Bearer sk-1234"})
    assert secrets.taken_out_of("Bearer sk-1234, sk-1234") == "***, ***"


def test_a_header_that_only_claims_to_be_basic_is_secret_as_it_stands():
    assert Secrets(headers={"authorization": "Basic nonsense!"}).taken_out_of("got nonsense!") == "got ***"


def test_the_beginning_of_a_secret_that_was_cut_off_is_taken_out_too():
    secrets = Secrets(others=["sk-very-secret"])
    assert secrets.taken_out_of("the key sk-very-s…") == "the key ***…"
    assert secrets.taken_out_of("a (the key sk-v…); b sk…") == "a (the key ***…); b sk…"


def test_short_words_and_whatever_is_no_secret_stay():
    assert Secrets(others=["a", "123"]).taken_out_of("a 123 …") == "a 123 …"
    assert Secrets().taken_out_of("anything …") == "anything …"


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("http://host:7860/x", "http://host:7860/x"),
        ("https://user:pw@host:port", "https://***@host:port"),
        ("http://user:p@w/?#@host", "http://***@host"),
        ("http//user:pw@host", "http//***@host"),
        ("user:pw@host:7860", "***@host:7860"),
        (" http://host/x?key=abc ", "http://host/x"),
        (f"ftp://{'h' * 300}", f"ftp://{'h' * 193}…"),
    ],
)
def test_an_address_is_shown_without_user_password_and_query_however_it_is_mistyped(typed, shown):
    assert shown_address(typed) == shown
