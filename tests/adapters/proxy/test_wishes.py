"""What a client asks of the proxy for one reply: in the body as values, in the header as words."""

from __future__ import annotations

import pytest

from limner.adapters.proxy.wishes import Wishes, wishes_of
from limner.errors import InvalidSetting

PLAIN = Wishes()


def test_the_body_goes_before_the_header_and_the_header_before_the_options_of_the_command():
    defaults = Wishes(profile="html", progress="reasoning", teach=True)
    asked = wishes_of(defaults, "profile=markdown; teach=no", {"teach": True})
    assert asked == Wishes(profile="markdown", progress="reasoning", teach=True)


@pytest.mark.parametrize("word", ["teach", "teach=true", " Teach = YES ;", "teach=1"])
def test_in_the_header_words_stand_for_true_and_false(word: str):
    assert wishes_of(PLAIN, word, None) == Wishes(teach=True)
    assert wishes_of(PLAIN, "illustrate=no", None) == Wishes(illustrate=False)


@pytest.mark.parametrize("value", ["yes", "true", "", 1, 0, None, [True]])
def test_in_the_body_only_true_and_false_do(value: object):
    with pytest.raises(InvalidSetting, match=r"limner\.teach must be true or false, not"):
        wishes_of(PLAIN, None, {"teach": value})


@pytest.mark.parametrize("header", ["progress", "progress=", "teach; progress ;"])
def test_an_option_that_needs_a_value_says_so(header: str):
    with pytest.raises(InvalidSetting) as caught:
        wishes_of(PLAIN, header, None)
    assert str(caught.value) == "limner.progress needs a value: one of none, reasoning"


def test_a_value_that_is_none_of_the_possible_ones_is_named():
    with pytest.raises(
        InvalidSetting, match="profile must be one of markdown-data, markdown, html, not 'pdf'"
    ):
        wishes_of(PLAIN, "profile=pdf", None)
    with pytest.raises(InvalidSetting, match=r"profile must be one of .*, not True"):
        wishes_of(PLAIN, None, {"profile": True})


def test_no_progress_may_be_said_by_nothing():
    assert wishes_of(Wishes(progress="reasoning"), None, {"progress": None}) == PLAIN


def test_an_unknown_option_names_those_that_there_are():
    with pytest.raises(
        InvalidSetting, match="no option 'colour'; it has: profile, progress, teach, illustrate"
    ):
        wishes_of(PLAIN, "colour=red", None)
