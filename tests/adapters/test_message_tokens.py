"""Tokens by which a page shows that it was given a message."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from limner.adapters.message_tokens import MessageTokens
from limner.errors import InvalidSetting, StorageError


def test_the_same_secret_gives_the_same_token_and_another_message_another_one(tmp_path: Path):
    tokens = MessageTokens(tmp_path / "unused", b"0123456789abcdef")
    again = MessageTokens(tmp_path / "unused", b"0123456789abcdef")
    assert tokens.token("m") == again.token("m") != tokens.token("n")
    assert not (tmp_path / "unused").exists()


def test_another_secret_gives_another_token(tmp_path: Path):
    first = MessageTokens(tmp_path / "unused", b"0123456789abcdef")
    second = MessageTokens(tmp_path / "unused", b"0123456789abcdeF")
    assert first.token("m") != second.token("m")


def test_without_a_secret_one_is_made_and_kept_for_the_next_process(tmp_path: Path):
    file = tmp_path / "data" / "web-secret"
    token = MessageTokens(file).token("m")
    assert MessageTokens(file).token("m") == token
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(file.read_bytes()) == 32
    assert [path.name for path in file.parent.iterdir()] == ["web-secret"]


def test_of_two_processes_that_make_the_secret_at_once_the_quicker_one_counts(tmp_path: Path):
    file = tmp_path / "web-secret"
    late = MessageTokens(file)
    early = MessageTokens(file).token("m")
    late._make()  # it had looked before the other one's secret was there
    assert late.token("m") == early


def test_a_token_is_compared_whole(tmp_path: Path):
    tokens = MessageTokens(tmp_path / "s")
    token = tokens.token("m")
    assert len(token) == 43
    assert tokens.is_token("m", token)
    assert not any(tokens.is_token("m", wrong) for wrong in ("", token[:-1], token + "A", "ä\ud800"))
    assert not tokens.is_token("n", token)


@pytest.mark.parametrize("secret", [b"short", "0123456789abcdef", 5])
def test_a_secret_that_is_none_is_refused(tmp_path: Path, secret: object):
    with pytest.raises(InvalidSetting, match="web_secret must be bytes, at least 16"):
        MessageTokens(tmp_path / "s", secret)  # type: ignore[arg-type]


def test_a_file_that_holds_no_secret_is_told_of(tmp_path: Path):
    file = tmp_path / "s"
    file.write_bytes(b"")
    with pytest.raises(StorageError, match="holds no secret; delete it"):
        MessageTokens(file).token("m")


def test_a_folder_that_cannot_be_written_is_told_of(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot keep the secret"):
        MessageTokens(tmp_path / "file" / "s").token("m")


def test_the_secret_is_in_no_repr(tmp_path: Path):
    assert "0123" not in repr(MessageTokens(tmp_path / "s", b"0123456789abcdef"))
