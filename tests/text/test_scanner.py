"""The scanner finds while streaming exactly what the whole text gives, at the cost of what arrives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.errors import PatternTooSlow
from limner.text import (
    DEFAULT_PATTERNS,
    PromptMatch,
    PromptScanner,
    TagPattern,
    compile_patterns,
    extract_image_prompts,
    regex_scan,
    regions,
)
from tests.text import oracle
from tests.text.strategies import AWKWARD, CODE, FENCED, LINES, PATTERN_SETS, cuts, pieces, pieces_for

SETTINGS = st.tuples(
    st.sampled_from(PATTERN_SETS), st.booleans(), st.sampled_from(((), ("think", "thinking")))
)


def as_tuples(matches: Iterable[PromptMatch]) -> list[oracle.Found]:
    return [(m.prompt, m.full_match, m.start, m.end, m.occurrence) for m in matches]


def feed(scanner: PromptScanner, chunks: Iterable[str]) -> list[PromptMatch]:
    return [match for chunk in chunks for match in scanner.feed(chunk)]


Case = tuple[Sequence[TagPattern], bool, Sequence[str], str]


@st.composite
def cases(draw: st.DrawFn, size: int = 14) -> Case:
    """Patterns with their settings, and a text."""
    tags, in_code_fences, reasoning = draw(SETTINGS)
    return tags, in_code_fences, reasoning, draw(st.one_of(pieces_for(tags, size), pieces(size=size)))


# Each is a way to be wrong about what stands at the end of a piece, or about what stood before it.
TRAPS = [
    (AWKWARD, text)
    for text in (
        '<a b="x"/><a b="y"><a b="z"/',
        '<a b="x"> <ba>',
        '<a b="<y<"',
        '<a b="<y>a>',
        "<aa>x<a>a>",
        '<a b="x\\"y"y',
        '<a b="x\\"x"z x\\"q"y',
        '<a b="x"<a b="y"/>',
    )
] + [
    (tags, text)
    for tags in (DEFAULT_PATTERNS, LINES, FENCED, CODE)
    for text in (
        '\n```\n   ```\n<img_prompt="x">',
        '```\n    ```\n<img_prompt="x">',
        '~~~~\n~~~\n<img_prompt="x">\n~~~~~ \t\n<img_prompt="y">',
        'a```\n<img_prompt="x">',
        'a\n  ```\r\n<img_prompt="x">\r\n```\r\n<img_prompt="y">',
        '<img_prompt="x">```\n<img_prompt="y">',
        '```a`<img_prompt="x">\n```\n<img_prompt="y">',
        'x\n```a`\n```\n<img_prompt="y">',
        "IMG:a\n```\nIMG:b\n```\nIMG:c\n",
        "```img\ncat\n```\n```img\ndog\n```",
        "x```img\ncat\n``x\n```\n",
        'x```"a" b\n<img_prompt="x">',
        "x``a``\n``a``\n  ``a``",
        '<think>\n```</think>```\n<img_prompt="x">',
        '\n <think></think> ```\n<img_prompt="x">',
        'word\nword ```\n<img_prompt="x">',
    )
]


def expect_every_split(case: Case, splits: Iterable[Sequence[str]]) -> None:
    tags, in_code_fences, reasoning, text = case
    patterns = compile_patterns(tags, in_code_fences=in_code_fences, reasoning_tags=reasoning)
    expected = oracle.detect(text, tags, in_code_fences=in_code_fences, reasoning=reasoning)
    assert as_tuples(extract_image_prompts(text, patterns)) == expected
    for chunks in splits:
        scanner = PromptScanner(patterns)
        reported = feed(scanner, chunks)
        assert as_tuples(scanner.matches) == expected
        assert reported == scanner.matches == scanner.finish()
        assert scanner.length == len(text)


@settings(max_examples=400, deadline=None)
@given(data=st.data(), case=cases())
def test_every_split_finds_what_the_rules_give_for_the_whole(data, case):
    text = case[-1]
    expect_every_split(case, [data.draw(cuts(text)), list(text)])


@pytest.mark.parametrize("in_code_fences", [True, False])
@pytest.mark.parametrize(("tags", "text"), TRAPS)
def test_traps_give_the_same_whole_halved_and_in_single_characters(tags, text, in_code_fences):
    halves = [[text[:cut], text[cut:]] for cut in range(len(text))]
    singles = [list(text), *([text[:cut], *text[cut:]] for cut in range(len(text)))]
    expect_every_split((tags, in_code_fences, ("think",), text), [*halves, *singles])


@settings(max_examples=100, deadline=None)
@given(cases(size=10))
def test_after_every_character_the_matches_are_those_of_the_text_so_far(case):
    tags, in_code_fences, reasoning, text = case
    scanner = PromptScanner(compile_patterns(tags, in_code_fences=in_code_fences, reasoning_tags=reasoning))
    for end in range(1, len(text) + 1):
        scanner.feed(text[end - 1])
        expected = oracle.detect(text[:end], tags, in_code_fences=in_code_fences, reasoning=reasoning)
        assert as_tuples(scanner.matches) == expected


def test_a_prompt_is_reported_with_the_chunk_that_completes_it():
    scanner = PromptScanner()
    assert scanner.feed("Once <img_pro") == []
    assert scanner.feed('mpt="a c') == []
    assert scanner.feed('at"') == []
    (match,) = scanner.feed("> upon")
    assert (match.prompt, match.start, match.end) == ("a cat", 5, 25)
    assert scanner.feed(" a time") == []
    assert scanner.matches == [match]


def test_offsets_count_all_that_was_fed_also_what_was_passed_by():
    scanner = PromptScanner()
    feed(scanner, ["plain ", "text ", "of ", "no interest "])
    (match,) = scanner.feed('<img_prompt="x">')
    assert match.start == len("plain text of no interest ")


def test_text_that_looked_like_a_tag_is_read_again_when_it_is_none():
    scanner = PromptScanner()
    found = feed(scanner, ['<img_prompt="an <img_prom', 'pt="inner', '"', ">"])
    assert [(match.prompt, match.start) for match in found] == [("inner", 16)]


# Costs are counted in characters that regular expressions and searches are given, not in seconds: a scanner
# whose pending text were read again with each chunk would need the square of the length.

HOSTILE = {
    "a tag that never closes": '<img_prompt="' + "and on " * 20_000,
    "a tag that never closes, escaped": '<img_prompt="' + '\\"' * 70_000,
    "a tag that never closes, of backslashes": '<img_prompt="' + "\\" * 140_000,
    "openers": '<img_prompt="' * 11_000,
    "comments": "<!--" * 35_000,
    "angle brackets": "<" * 140_000,
    "half openers": "<img_prompt=" * 12_000,
    "an unclosed reasoning block": "<think>" + '<img_prompt="x">' * 9_000,
    "a fence of marks": "\n" + "`" * 140_000,
    "an info string": "\n```" + "x" * 140_000,
    "lines of marks in a fence": "```\n" + "``\n" * 45_000,
    "a closing line that goes on": "```\n```" + " " * 140_000,
    "blank lines": "\n" * 140_000,
    "plain tags": "<t2i>" * 28_000,
}


@pytest.fixture
def handed_over(monkeypatch):
    """Counts the characters that are handed to whatever looks through text."""
    total = [0]

    def count(owner: type, name: str) -> None:
        real = getattr(owner, name)

        def counting(self, text, at):
            total[0] += len(text) - at
            return real(self, text, at)

        monkeypatch.setattr(owner, name, counting)

    count(regions.RegionTable, "next")
    for closing in (regions.QuotedTag, regions.PlainTag, regions.OpenFence):
        count(closing, "close")
    return total


@pytest.mark.parametrize("in_code_fences", [True, False])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_in_small_chunks_is_looked_at_a_bounded_number_of_times(
    name, in_code_fences, handed_over
):
    text = HOSTILE[name]
    patterns = compile_patterns(PATTERN_SETS[1], in_code_fences=in_code_fences)
    scanner = PromptScanner(patterns)
    for start in range(0, len(text), 4):
        scanner.feed(text[start : start + 4])
    assert handed_over[0] <= 16 * len(text)
    assert scanner.finish() == extract_image_prompts(text, patterns)


def test_openers_in_the_body_of_a_broken_tag_do_not_read_the_body_again(handed_over, monkeypatch):
    text = '<a b="' + 'x\\"' * 30_000 + '"z'
    read = []
    real = regions._QUOTED_BODY

    class Body:
        def match(self, text, at):
            found = real.match(text, at)
            assert found is not None
            read.append(found.end() - at)
            return found

    monkeypatch.setattr(regions, "_QUOTED_BODY", Body())
    assert extract_image_prompts(text, AWKWARD[:1] + AWKWARD[-1:]) == []
    assert sum(read) <= 2 * len(text)


def test_ordinary_text_is_not_kept():
    scanner = PromptScanner()
    for _ in range(10_000):
        scanner.feed("All is calm. ")
    assert len(scanner._regions._rest) == 0
    assert scanner.length == 130_000


def test_reasoning_is_not_kept():
    scanner = PromptScanner()
    feed(scanner, ["<think>", *["hm, what about that? "] * 1_000])
    assert sum(map(len, scanner._regions._pieces)) + len(scanner._regions._rest) < 50


def test_a_tag_of_a_hundred_thousand_characters_is_found_in_small_chunks():
    prompt = 'a \\"very\\" long prompt ' * 5_000
    text = f'before <!--img-prompt="{prompt}"--> behind'
    scanner = PromptScanner()
    (match,) = feed(scanner, (text[i : i + 3] for i in range(0, len(text), 3)))
    assert match.prompt == prompt.replace('\\"', '"').strip()
    assert text[match.start : match.end] == match.full_match


def test_a_thousand_equal_prompts_are_a_thousand_occurrences():
    scanner = PromptScanner()
    found = feed(scanner, ['<img_prompt="cat">\n' for _ in range(1_000)])
    assert [match.occurrence for match in found] == list(range(1_000))


# --- with user regexes


REGEX_SETS = (
    (r"\[img:(.*?)\]",),
    (r"(?s)\[img:(.*?)\]", TagPattern('<img_prompt="', '">', quoted=True, name="element")),
    (TagPattern("<t2i>", "</t2i>", quoted=False, name="t2i"), r"(?m)^draw (.+)$", r"<(t)2i>|(cat)"),
)
REGEX_TEXT = pieces("[img:", "]", "draw ", "\ndraw a cat\n", "<t2i>", "</t2i>", "cat")


@settings(max_examples=200, deadline=None)
@given(data=st.data(), text=REGEX_TEXT, patterns=st.sampled_from(REGEX_SETS), fences=st.booleans())
def test_with_user_regexes_every_split_ends_with_what_the_whole_gives(data, text, patterns, fences):
    compiled = compile_patterns(patterns, in_code_fences=fences, time_limit_ms=10_000)
    expected = extract_image_prompts(text, compiled)
    for chunks in (data.draw(cuts(text)), list(text)):
        scanner = PromptScanner(compiled)
        assert all(text[m.start : m.end] == m.full_match for m in feed(scanner, chunks))
        assert scanner.finish() == expected == scanner.matches


def test_a_user_regex_is_found_while_the_text_arrives():
    scanner = PromptScanner([r"\[img:(.*?)\]"])
    assert feed(scanner, ["see [img: a", " cat", "]"]) == []  # what touches the end may still grow
    (match,) = scanner.feed(" there")
    assert (match.prompt, match.start, match.end) == ("a cat", 4, 16)


def test_offsets_of_user_regexes_count_from_the_beginning_of_the_text():
    scanner = PromptScanner([r"\[(.*?)\]"])
    found = feed(scanner, ["some words [a", "] and [b] more", " [c] end"])
    assert [(match.prompt, match.start) for match in found] == [("a", 11), ("b", 19), ("c", 28)]


def test_a_user_regex_may_look_back_before_the_last_match():
    scanner = PromptScanner([r"(?<=\] then )\[(.*?)\]|^\[(.*?)\]"])
    found = feed(scanner, ["[a] ", "then ", "[b] ", "else ", "[c] "])
    assert [match.prompt for match in found] == ["a", "b"]


def test_a_greedy_user_regex_does_not_report_half_a_prompt():
    scanner = PromptScanner([r"IMG: (.+)"])
    found = feed(scanner, ["IMG: a", " c", "at", "\n", "more"])
    assert [match.prompt for match in found] == ["a cat"]


def test_matches_and_new_text_after_finish_go_together():
    scanner = PromptScanner([r"\[(.*?)\]"])
    scanner.feed("[a]")
    assert [match.prompt for match in scanner.finish()] == ["a"]
    scanner.feed(" [b] ")
    assert [match.prompt for match in scanner.finish()] == ["a", "b"]


def test_a_long_stream_without_a_match_is_rescanned_in_proportion_to_its_length(monkeypatch):
    scanned = 0
    real = regex_scan.scan

    def counting(text, patterns, pos=0):
        nonlocal scanned
        scanned += len(text) - pos
        return real(text, patterns, pos)

    monkeypatch.setattr(regex_scan, "scan", counting)
    scanner = PromptScanner([r"\[img:(.*?)\]"])
    text = "word " * 40_000
    for start in range(0, len(text), 5):
        scanner.feed(text[start : start + 5])
    assert scanned <= 17 * len(text) + (1 << 16)


BOMB = r"\[((?:x|xx)+)y\]"


def test_a_pattern_that_is_too_slow_does_not_break_the_stream():
    tags = TagPattern("<t2i>", "</t2i>", quoted=False, name="t2i")
    scanner = PromptScanner(compile_patterns([BOMB, tags], time_limit_ms=20))
    found = scanner.feed("<t2i>cat</t2i> ")
    assert [match.prompt for match in found] == ["cat"]
    assert scanner.error is None
    assert scanner.feed("[" + "x" * 60 + "z]y] <t2i>dog</t2i>")[0].prompt == "dog"
    assert isinstance(scanner.error, PatternTooSlow)
    assert scanner.error.pattern == BOMB
    assert [match.prompt for match in scanner.feed("<t2i>owl</t2i>")] == ["owl"]
    assert [match.prompt for match in scanner.finish()] == ["cat", "dog", "owl"]


def test_a_pattern_that_is_too_slow_only_for_the_whole_leaves_the_tags():
    tags = TagPattern("<t2i>", "</t2i>", quoted=False, name="t2i")
    patterns = compile_patterns([BOMB, tags], time_limit_ms=20)
    scanner = PromptScanner(patterns)
    assert scanner._regexes is not None
    scanner._regexes._scanned = 10**9  # the budget is used up, as in a very long text
    text = "<t2i>cat</t2i> [" + "x" * 60 + "z]y]"
    assert scanner.feed(text) == []
    assert [match.prompt for match in scanner.finish()] == ["cat"]
    assert isinstance(scanner.error, PatternTooSlow)
    with pytest.raises(PatternTooSlow):
        extract_image_prompts(text, patterns)
    assert extract_image_prompts(text, patterns.without_regexes()) == scanner.matches
