"""The Markdown that the element renders, and what it makes of hostile text."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.helpers import image, tag
from tests.browser.scripted_server import ScriptedServer

Render = Callable[..., str]

_RENDER = """async ([text, pieces]) => {
  const old = document.querySelector("limner-message");
  const element = document.createElement("limner-message");
  element.setAttribute("base", "/limner");
  old ? old.replaceWith(element) : document.body.append(element);
  if (pieces === null) element.text = text;
  for (const piece of pieces ?? []) {
    element.append(piece);
    await new Promise(requestAnimationFrame);
  }
  if (pieces !== null) element.text = text;
  await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  return [...element.shadowRoot.querySelectorAll(".block")].map((block) => block.innerHTML).join("");
}"""


@pytest.fixture(scope="module")
def rendering(browser: Browser, running_server: ScriptedServer) -> Iterator[Page]:
    running_server.reset()
    running_server.html = ""
    page = browser.new_page()
    page.goto(running_server.url)
    page.evaluate("customElements.whenDefined('limner-message').then(() => null)")
    yield page
    page.close()


@pytest.fixture
def render(rendering: Page) -> Render:
    """The HTML of a text, without what only serves the looks. `pieces`: how it is streamed."""

    def render(text: str, pieces: list[str] | None = None) -> str:
        html: str = rendering.evaluate(_RENDER, [text, pieces])
        return re.sub(r' (part|class|tabindex|target|rel)="[^"]*"', "", html)

    return render


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("One\nline\n\nTwo", "<p>One<br>line</p><p>Two</p>"),
        ("# A *title* #\ntext", "<h3>A <em>title</em></h3><p>text</p>"),
        ("#no title", "<p>#no title</p>"),
        ("## C# ##  ", "<h4>C#</h4>"),
        ("# C#", "<h3>C#</h3>"),
        ("### ###", "<h5></h5>"),
        ("#\n# #", "<h3></h3><h3></h3>"),
        ("*a* **b** _d_ __e__", "<p><em>a</em> <strong>b</strong> <em>d</em> <strong>e</strong></p>"),
        ("***c***", "<p><em><strong>c</strong></em></p>"),
        ("snake_case_name and 2*3*4 * 5", "<p>snake_case_name and 2<em>3</em>4 * 5</p>"),
        ("*not closed and **this* neither", "<p>*not closed and *<em>this</em> neither</p>"),
        ("`a*b*` ``c`d``", "<p><code>a*b*</code> <code>c`d</code></p>"),
        ("```py\na < b\n\n*c*\n```\nd", '<pre data-language="py"><code>a &lt; b\n\n*c*</code></pre><p>d</p>'),
        ("~~~\nopen", "<pre><code>open</code></pre>"),
        ("- a\n- b\n  - c\n- d", "<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>"),
        ("- a\n\n- b", "<ul><li><p>a</p></li><li><p>b</p></li></ul>"),
        ("3. a\n4. b\n\nc", '<ol start="3"><li>a</li><li>b</li></ol><p>c</p>'),
        ("1. a\n\n   b\n2. c", "<ol><li><p>a</p><p>b</p></li><li><p>c</p></li></ol>"),
        ("In 1984. Not\na list", "<p>In 1984. Not<br>a list</p>"),
        ("> a\n> > b\n\nc", "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote><p>c</p>"),
        ("a\n\n***\n\nb", "<p>a</p><hr><p>b</p>"),
        ("[a *b*](https://c.example/d \"e\")", '<p><a href="https://c.example/d">a <em>b</em></a></p>'),
        ("http://a.example/(c), or", '<p><a href="http://a.example/(c)">http://a.example/(c)</a>, or</p>'),
        ("(https://a.example/b).", '<p>(<a href="https://a.example/b">https://a.example/b</a>).</p>'),
        ("<https://d.example>", '<p><a href="https://d.example/">https://d.example</a></p>'),
        ("[a [b](https://c.example) d](/e)", '<p>[a <a href="https://c.example/">b</a> d](/e)</p>'),
        (r"\*a\* \[b\]", "<p>*a* [b]</p>"),
        ("a &amp; b &copy; &lt;c&gt;", "<p>a &amp; b &amp;copy; &lt;c&gt;</p>"),
        ("a<!--limner-->b", "<p>ab</p>"),
        ("<b>bold</b> <br>", "<p>&lt;b&gt;bold&lt;/b&gt; &lt;br&gt;</p>"),
        ("| a | b |", "<p>| a | b |</p>"),
        ("", ""),
    ],
)  # fmt: skip
def test_markdown_is_rendered(render: Render, text: str, html: str):
    assert render(text) == html


def test_an_image_stands_between_the_paragraphs_it_was_written_into(render: Render):
    html = render(f"**A {tag('cat')}{image('a', 'cat')} sat**\nhere.\n\nBefore {tag('dog')} behind.")
    html = re.sub(r"<figure.*?</figure>", "FIGURE", html)
    assert html == (
        "<p><strong>A  sat</strong></p><div><span>FIGURE</span></div><p>here.</p>"
        "<p>Before </p><div><span>FIGURE</span></div><p> behind.</p>"
    )


@pytest.mark.parametrize("seed", range(12))
def test_a_text_in_pieces_becomes_what_the_whole_becomes(render: Render, seed: int):
    chance = random.Random(seed)
    parts = [
        "# Title\n", "A *line* with **words**", "\n", "\n\n", "- item\n", "  - inner\n", "1. one\n", "> so\n",
        "```\ncode\n", "```\n", "`x`", "-", "``", " ", "~~~\n", tag("a cat"), "<img_pro", "***\n", "\r\n",
        "![",
        tag("a dog") + image("a", "a dog"), tag("an owl") + "![an owl](/limner/images/b.png)",
        "[a](https://b.example)", "<think>hm</think>", "\U0001f431",
    ]  # fmt: skip
    text = "".join(chance.choice(parts) for _ in range(40))
    cuts = sorted(chance.sample(range(1, len(text)), 30))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    def figures_in_short(html: str) -> str:
        return re.sub(r'<figure data-state="(\w+)".*?</figure>', r"FIGURE \1", html)

    assert figures_in_short(render(text, pieces)) == figures_in_short(render(text))


HOSTILE = [
    "<script>parent.hit = 1</script>",
    "<img src=x onerror='parent.hit = 1'>",
    '<svg onload="hit = 1"><style>body { display: none }</style></svg>',
    '<iframe srcdoc="<script>parent.hit = 1</script>"></iframe>',
    "[a](javascript:hit=1) [b](java\tscript:hit=1) [c](&#106;avascript:hit=1) [d](data:text/html,x)",
    "<javascript:hit=1> <a href='javascript:hit=1'>e</a>",
    "![f](javascript:hit=1) ![g](file:///etc/passwd) ![h](data:text/html,<script>hit=1</script>)",
    '<img src="javascript:hit=1"> <img src="blob:x"> <img src="data:application/xml,x">',
    '```" onload="hit=1\ncode\n```',
    '<img_prompt="</figcaption><script>hit = 1</script>"><img src="/limner/images/a.png\' onload=\'hit=1">',
    "\ufdd07\ufdd1 \ufdd0",
    "<style>* { color: red }</style><link rel=stylesheet href=//evil.example>",
]


def test_a_hostile_message_runs_nothing_and_loads_nothing_it_should_not(rendering: Page, render: Render):
    loaded: list[str] = []
    rendering.on("request", lambda request: loaded.append(request.url))
    text = "\n\n".join(HOSTILE) + "\n\n" + " ".join(HOSTILE)
    for shown in (text, *HOSTILE):
        render(shown)
        shadow = rendering.locator("limner-message").evaluate_handle("element => element.shadowRoot")
        assert (
            shadow.evaluate(
                "root => root.querySelectorAll('script, iframe, style, svg *:not(path), link').length"
            )
            == 0
        )
        attributes = shadow.evaluate(
            """root => [...root.querySelectorAll("*")].flatMap(
                (node) => [...node.attributes].map(({ name, value }) => [name, value]))"""
        )
        assert [name for name, _ in attributes if name.startswith("on")] == []
        addresses = [value for name, value in attributes if name in ("href", "src")]
        assert all(re.match(r"https?:|data:image/", address) for address in addresses), addresses
    rendering.evaluate("new Promise(requestAnimationFrame)")
    assert rendering.evaluate("typeof hit") == "undefined"
    assert rendering.evaluate("getComputedStyle(document.body).display") == "block"
    assert [url for url in loaded if "evil" in url or "passwd" in url] == []


@pytest.mark.parametrize(
    "text",
    [
        "*a " * 70_000 + "b* " * 70_000,
        "[" * 200_000 + "](" * 50_000,
        "`" * 5 + " `" * 100_000,
        "> " * 100_000 + "deep",
        "".join("  " * depth + "- x\n" for depth in range(400)),
        '<img_prompt="a' * 20_000,
        "<img a='" * 30_000,
        "![" * 50_000,
        "*" * 200_000 + "a" + "*" * 200_000,
        "_a*" * 70_000,
        "<!--" * 50_000,
        "http://" * 40_000,
        "\\" * 200_000,
        "# a" + " " * 300_000 + "x",
        "# " + " #" * 100_000 + "x",
        "-" + " " * 300_000 + "x",
        "a" + " " * 300_000 + "x",
    ],
    ids=lambda text: text[:8].replace("\n", " "),
)
def test_a_text_that_is_made_to_be_slow_is_not(rendering: Page, text: str):
    # No time is measured: what takes the square of its length would take minutes, and the wait ends before.
    rendering.evaluate(
        """(text) => {
          const element = document.createElement("limner-message");
          element.setAttribute("base", "/limner");
          document.querySelector("limner-message")?.remove();
          document.body.append(element);
          window.rendered = false;
          setTimeout(() => {
            element.text = text;
            requestAnimationFrame(() => setTimeout(() => (window.rendered = true)));
          });
        }""",
        text,
    )
    rendering.wait_for_function("window.rendered")
    rendering.evaluate("document.querySelector('limner-message').remove()")
