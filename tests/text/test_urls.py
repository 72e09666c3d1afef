"""When two addresses are the same, and which may stand in a message."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from limner.errors import CallerError, InvalidImageURL
from limner.text import HTML, normalise_url, render_image, same_url
from tests.text.strategies import any_text


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("http://x/a.png", "http://x/a.png"),
        ("http://x/a b.png", "http://x/a%20b.png"),
        ("http://x/%61.png", "http://x/a.png"),
        ("http://x/%c3%a9.png", "http://x/é.png"),
        ("http://x/?a=1&amp;b=2", "http://x/?a=1&b=2"),
        (" http://x/a.png\n", "http://x/a.png"),
        ("HTTP://X/a.png", "http://x/a.png"),
        ("http://U:P@X/a", "http://U:P@x/a"),
        ("http://x/it's(1).png", "http://x/it%27s%281%29.png"),
        ("/a.png", "/%61.png"),
        ("http://[::1]:80/a", "http://[::1]:80/%61"),
        ("DATA:image/png;base64,AAA=", "data:image/png;base64,AAA="),
    ],
)
def test_addresses_that_are_the_same(a, b):
    assert same_url(a, b)
    assert same_url(b, a)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("http://x/a.png", "http://x/A.png"),
        ("http://x/a.png", "https://x/a.png"),
        ("http://x/a.png", "http://x/a.png#2"),
        ("http://x/a.png", "http://x/a.png?v=2"),
        ("http://x/a%2Fb.png", "http://x/a/b.png"),
        ("http://x/a%2520b.png", "http://x/a%20b.png"),
        ("http://x/%FF", "http://x/%FE"),
        ("http://x/?a=1%26b=2", "http://x/?a=1&b=2"),
        ("http://U@x/a", "http://u@x/a"),
        ("data:image/png;base64,AAA=", "data:image/png;base64,aaa="),
        ("a.png", "/a.png"),
    ],
)
def test_addresses_that_differ(a, b):
    assert not same_url(a, b)


@settings(deadline=None)
@given(any_text(30))
def test_the_normal_form_is_its_own_normal_form(url):
    # Entities are decoded once a time, so text that spells one after decoding has no fixed form.
    if "&" not in url:
        assert normalise_url(normalise_url(url)) == normalise_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://x/a.png",
        "https://x/a.png",
        "file:///tmp/a.png",
        "data:image/png;base64,AAA=",
        "DATA:IMAGE/PNG;base64,AAA=",
        "//x/a.png",
        "/a.png",
        "a.png",
        "?id=1",
        "time 12:30.png",
        "a/b:c.png",
    ],
)
def test_addresses_that_may_stand_in_a_message(url):
    assert "src=" in render_image(HTML, url, "")


@pytest.mark.parametrize(
    "url",
    [
        "",
        " \n",
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "  javascript:alert(1)",
        "\x01\x1fjavascript:alert(1)",
        "java\nscript:alert(1)",
        "java\tscript\r:alert(1)",
        "java\x00script:alert(1)",
        "java\u200bscript:alert(1)",
        "\ufeffjavascript:alert(1)",
        "java script:alert(1)",
        "javascript&colon;alert(1)",
        "java&Tab;script:alert(1)",
        "javascript%3Aalert(1)",
        "%6Aavascript:alert(1)",
        "&#106;avascript:alert(1)",
        "&#x6A;avascript&#58;alert(1)",
        "&#" + "0" * 50 + "106;avascript:alert(1)",
        "javascript&#37;3Aalert(1)",
        "vbscript:x",
        "data:text/html,<script>",
        "data:,x",
        "data: image/png,x",
        "ftp://x/a.png",
        "about:blank",
        "blob:http://x/1",
        "C:\\a.png",
        "chrome-extension://x/a.png",
    ],
)
def test_addresses_that_must_not_get_through(url):
    with pytest.raises(InvalidImageURL) as caught:
        render_image(HTML, url, "")
    assert caught.value.url == url
    assert isinstance(caught.value, CallerError)
