"""Which text counts at the end of a stream: streamed, named by the host, or stored."""

from __future__ import annotations

import pytest

from limner.states.sealing import SavedVersion, SettledText, is_touched, settle_text


@pytest.mark.parametrize("touched", [False, True])
@pytest.mark.parametrize("stored", [None, "", "something"])
def test_where_nothing_came_nothing_is_saved(stored: str | None, touched: bool):
    assert settle_text("", None, stored, touched=touched) == SettledText("", save=False)


@pytest.mark.parametrize("touched", [False, True])
def test_a_message_that_is_not_stored_is_saved(touched: bool):
    assert settle_text("a story", None, None, touched=touched) == SettledText("a story", save=True)


@pytest.mark.parametrize("touched", [False, True])
def test_a_message_that_is_stored_as_it_was_streamed_is_left_alone(touched: bool):
    assert settle_text("a story", None, "a story", touched=touched) == SettledText("a story", save=False)


def test_a_placeholder_that_nobody_touched_gives_way():
    assert settle_text("a story", None, "…", touched=False) == SettledText("a story", save=True)


@pytest.mark.parametrize("stored", ["", "a st"])
def test_a_beginning_that_the_host_saved_as_it_went_is_completed(stored: str):
    assert settle_text("a story", None, stored, touched=True) == SettledText("a story", save=True)


def test_what_the_host_wrote_of_its_own_during_the_stream_stands():
    assert settle_text("a story", None, "A tale", touched=True) == SettledText("A tale", save=False)


def test_a_text_that_the_host_named_counts_instead_of_the_streamed_one():
    assert settle_text("a story", "the story", "a story", touched=False) == SettledText(
        "the story", save=True
    )


def test_a_text_that_the_host_named_is_scanned_even_where_it_wrote_another():
    assert settle_text("a story", "the story", "A tale", touched=True) == SettledText("the story", save=False)


@pytest.mark.parametrize("refused", [False, True])
def test_a_message_is_touched_by_a_version_that_no_stream_has_saved(refused: bool):
    saved = SavedVersion("2", by_refused=False)
    assert is_touched("3", "1", saved, refused=refused)
    assert is_touched("3", "1", None, refused=refused)
    assert is_touched("3", None, None, refused=refused)
    assert not is_touched("1", "1", saved, refused=refused)
    assert not is_touched(None, None, None, refused=refused)


@pytest.mark.parametrize(
    ("by_refused", "refused", "touched"),
    [(False, False, False), (False, True, True), (True, False, False), (True, True, False)],
)
def test_what_a_stream_has_saved_is_kept_only_from_one_that_could_not_take_its_place(
    by_refused: bool, refused: bool, touched: bool
):
    assert is_touched("2", "1", SavedVersion("2", by_refused), refused=refused) is touched
