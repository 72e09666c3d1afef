"""The events of a message, for whoever looks at its machines while they run."""

from __future__ import annotations

import pytest

from limner.errors import Moderated
from limner.workflows.history import History
from tests.studio import Studio, tag
from tests.support import settle

pytestmark = pytest.mark.anyio


async def test_every_event_is_kept_with_what_it_made_of_the_state():
    async with Studio() as studio:
        studio.painter.answers["a dog"] = [Moderated("no dogs")]
        await studio.illustrate("m", tag("a cat") + tag("a dog"))
        told = [
            (entry.machine, entry.event, entry.before, entry.after, entry.detail)
            for entry in studio.limner.history("m")
        ]
        assert told[:2] == [
            ("session", "stream_started", "idle", "streaming", ""),
            ("session", "prompt_found", "streaming", "streaming", "a cat"),
        ]
        assert ("prompt", "generation_started", "queued", "generating", "a cat") in told
        assert ("prompt", "generation_failed", "generating", "failed", "no dogs") in told
        assert told[-1] == ("session", "written", "inserting", "done", "")


async def test_an_event_of_the_last_prompt_also_moves_the_session():
    async with Studio(hold=True) as studio:
        async for _ in studio.limner.illustrate("m", [tag("a cat")]):
            pass
        await settle()
        studio.painter.release_all()
        await studio.limner.finished("m")
        told = [(entry.machine, entry.before, entry.after) for entry in studio.limner.history("m")]
        at = told.index(("prompt", "generating", "completed"))
        assert told[at + 1] == ("session", "draining", "inserting")


async def test_a_regeneration_goes_on_in_the_same_list_with_a_session_of_its_own():
    async with Studio() as studio:
        await studio.illustrate("m", tag("a cat"))
        [url] = await studio.urls("m")
        await studio.limner.regenerate("m", url)
        sessions = {entry.session_id for entry in studio.limner.history("m")}
        assert len(sessions) == 2
        assert studio.limner.history("m")[-1].at_ms == studio.clock()


async def test_only_so_many_are_kept():
    async with Studio() as studio:
        studio.limner.manager.history = history = History(keep_entries=3, keep_messages=2)
        for name in ("first", "second", "third"):
            await studio.illustrate(name, tag("a cat"))
        assert [len(history.of(name)) for name in ("first", "second", "third")] == [0, 3, 3]


async def test_nothing_is_known_of_a_message_that_never_was():
    async with Studio() as studio:
        assert studio.limner.history("nobody") == ()
