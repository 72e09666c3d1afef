"""Which text counts when a stream ends: what was streamed, or what the host has stored."""

from __future__ import annotations

from typing import NamedTuple


class SettledText(NamedTuple):
    """The text that is scanned and illustrated, and whether it has to be saved first."""

    text: str
    save: bool


class SavedVersion(NamedTuple):
    """What a stream of ours has saved last into a message; `by_refused`: one that has no session."""

    version: str
    by_refused: bool


def is_touched(
    version: str | None, at_start: str | None, saved: SavedVersion | None, *, refused: bool
) -> bool:
    """Whether the host has written to a message since a stream of it began.

    What another stream of ours has `saved` is no word of the host's, so a newer stream replaces it. But a
    `refused` stream has not taken the place of the session before it, which goes on and keeps its text.
    """
    is_own = saved is not None and saved.version == version and (saved.by_refused or not refused)
    return version != at_start and not is_own


def settle_text(
    streamed: str,
    final: str | None,
    stored: str | None,
    *,
    touched: bool,
    existed: bool = False,
) -> SettledText:
    """Decide between the streamed text, the `final` text if the host named one, and the `stored` one.

    `stored` is None where there is no such message; `touched` says that it was written since the stream
    began, `existed` that there was a message before. The rules, the first that fits:

    * A message that existed and is gone was deleted; it is not brought back.
    * Nothing came and nothing was named: there is nothing to illustrate.
    * No message, or one that was not touched, or one that holds just the beginning: it lacks the new text,
      which is saved. So a host may keep no text itself, or a placeholder, or save as it goes.
    * Else the host has written something of its own during the stream (hosts rewrite text), and that
      stands; a text that it named is scanned all the same.
    """
    text = streamed if final is None else final
    if not text or stored == text or (stored is None and existed):
        return SettledText(text, save=False)
    if stored is None or not touched or text.startswith(stored):
        return SettledText(text, save=True)
    return SettledText(stored if final is None else text, save=False)
