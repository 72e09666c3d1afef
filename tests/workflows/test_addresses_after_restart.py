"""Images that were replaced keep their addresses, whatever process makes the next one."""

from __future__ import annotations

import pytest

from limner.adapters.journal_memory import MemoryJournal
from tests.studio import ScriptedStore, Studio, tag
from tests.support import FakeImageStore, png

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("restart", [False, True], ids=["in one process", "after a restart"])
async def test_a_click_on_an_image_that_was_replaced_finds_what_stands_there_now(restart: bool):
    parts = {"journal": MemoryJournal(), "store": ScriptedStore(), "images": FakeImageStore()}
    async with Studio(**parts) as before:  # type: ignore[arg-type]
        # Equal pictures share one file, so their addresses differ only in what Limner adds.
        before.painter.answers["a cat"] = [png(1)]
        await before.illustrate("m", tag("a cat"))
        await before.limner.regenerate("m", "https://images.test/1.png")
        await before.tick(2_000)
        [replaced] = await before.urls("m")
        before.painter.hold()
        await before.limner.regenerate("m", replaced)
        if not restart:
            before.painter.release_all()
            await before.tick(2_000)
            [standing] = await before.urls("m")
            await before.limner.regenerate("m", replaced)
            [session] = before.limner.sessions()
            assert [prompt.target_url for prompt in session.prompts.values()] == [standing]
            return
    after = Studio(**parts)  # type: ignore[arg-type]
    after.clock.now = before.clock.now
    async with after:
        after.painter.answers["a cat"] = [png(1)]
        await after.tick(2_000)
        [standing] = await after.urls("m")
        assert standing not in {"https://images.test/1.png", replaced}
        await after.limner.regenerate("m", replaced)
        [session] = after.limner.sessions()
        assert [prompt.target_url for prompt in session.prompts.values()] == [standing]
