"""Telling a host that cannot be asked: calm lines of status, and the text with the images exactly once."""

from __future__ import annotations

import anyio
import pytest
from structlog.testing import capture_logs

from limner.errors import InvalidSetting, Moderated, NoBalance, UnknownMessage
from limner.states.outcome import Result
from limner.workflows.telling import Illustrated, Picture, StatusLine, Teller
from tests.studio import Studio, split, tag
from tests.support import png, settle

pytestmark = pytest.mark.anyio

STORY = f"Once {tag('a cat')} met {tag('a dog')} and {tag('a fox')}."
INTERVAL = 1_000


class Told:
    """A sink that keeps what it is told, with the time of each line. It fails when the test says so."""

    def __init__(self, studio: Studio) -> None:
        self.lines: list[StatusLine] = []
        self.times: list[int] = []
        self.messages: list[Illustrated] = []
        self.order: list[str] = []
        self.status_error: Exception | None = None
        self.text_error: Exception | None = None
        self._clock = studio.clock

    @property
    def texts(self) -> list[str]:
        return [line.text for line in self.lines]

    async def show_status(self, line: StatusLine) -> None:
        self.lines.append(line)
        self.times.append(self._clock())
        self.order.append("status")
        if self.status_error is not None:
            raise self.status_error

    async def replace_text(self, message: Illustrated) -> None:
        self.messages.append(message)
        self.order.append("text")
        if self.text_error is not None:
            raise self.text_error


async def stream(studio: Studio, text: str = STORY) -> None:
    async for _ in studio.limner.illustrate("m", split(text)):
        pass


async def told(studio: Studio, text: str = STORY) -> Told:
    """Stream a text, follow it to its end."""
    sink = Told(studio)
    await stream(studio, text)
    await Teller(studio.limner.manager).tell("m", sink)
    return sink


# --- the lines


async def test_lines_count_the_images_and_the_last_one_says_that_they_are_painted():
    async with Studio(hold=True) as studio, anyio.create_task_group() as tasks:
        sink = Told(studio)
        await stream(studio)
        tasks.start_soon(Teller(studio.limner.manager, interval_ms=INTERVAL).tell, "m", sink)
        await settle()
        assert sink.texts == ["Generating 0/3 images…"]
        studio.painter.release("a cat")
        await studio.tick(INTERVAL)
        assert sink.texts[1:] == ["Generating 1/3 images…"]
        studio.painter.release_all()
        await settle()
        assert sink.lines[-1] == StatusLine("Painted 3 images", done=True)


async def test_changes_within_an_interval_are_one_line_with_the_newest_of_them():
    async with Studio(hold=True) as studio, anyio.create_task_group() as tasks:
        sink = Told(studio)
        await stream(studio)
        tasks.start_soon(Teller(studio.limner.manager, interval_ms=INTERVAL).tell, "m", sink)
        await settle()
        for prompt in ("a cat", "a dog"):
            studio.painter.release(prompt)
            await studio.tick(INTERVAL // 2 - 1)
        assert sink.texts == ["Generating 0/3 images…"]
        await studio.tick(2)
        assert sink.texts == ["Generating 0/3 images…", "Generating 2/3 images…"]
        assert sink.times[1] - sink.times[0] == INTERVAL
        studio.painter.release_all()


async def test_a_line_that_did_not_change_is_not_told_again():
    async with Studio(hold=True) as studio, anyio.create_task_group() as tasks:
        sink = Told(studio)
        await stream(studio)
        tasks.start_soon(Teller(studio.limner.manager, interval_ms=INTERVAL).tell, "m", sink)
        for fraction in (0.2, 0.4, 0.6):
            await studio.tick(INTERVAL * 2)
            studio.painter.reports["a cat"](fraction=fraction)
        assert sink.texts == ["Generating 0/3 images…"]
        studio.painter.release_all()


async def test_the_last_line_waits_for_no_interval():
    async with Studio() as studio:
        sink = await told(studio)
        assert sink.lines[-1].done
        assert sink.times[-1] == sink.times[0]


async def test_a_message_without_prompts_is_left_in_peace():
    async with Studio() as studio:
        sink = await told(studio, "Once upon a time.")
        assert sink.order == []


async def test_the_last_line_says_what_failed_and_why():
    async with Studio() as studio:
        studio.painter.answers["a dog"] = [NoBalance("the account is empty")]
        sink = await told(studio)
        line = sink.lines[-1]
        assert line.done
        assert line.failed
        assert line.text == "Painted 2/3 images. “a dog”: the account is empty"


async def test_of_many_failures_the_last_line_names_three():
    prompts = [f"{n} " + "very " * 30 + "long" for n in range(5)]
    async with Studio() as studio:
        for prompt in prompts:
            studio.painter.answers[prompt] = [NoBalance("empty")]
        sink = await told(studio, " ".join(map(tag, prompts)))
        text = sink.lines[-1].text
        assert text.startswith("Painted 0/5 images. “0 very")
        assert text.endswith("; and 2 more")
        assert text.count("…”: empty") == 3
        assert sink.messages == []


async def test_the_last_line_of_a_cancelled_message_says_so():
    async with Studio(hold=True) as studio, anyio.create_task_group() as tasks:
        sink = Told(studio)
        await stream(studio)
        tasks.start_soon(Teller(studio.limner.manager).tell, "m", sink)
        await settle()
        await studio.limner.cancel("m")
        await settle()
        assert sink.lines[-1] == StatusLine(
            "Painted 0/3 images. cancelled by request", done=True, failed=True
        )
        assert sink.messages == []


async def test_a_sink_that_fails_to_show_a_line_is_logged_and_still_gets_the_text():
    async with Studio() as studio:
        sink = Told(studio)
        sink.status_error = OSError("no connection")
        await stream(studio)
        with capture_logs() as logs:
            await Teller(studio.limner.manager).tell("m", sink)
        assert len(sink.messages) == 1
        assert "sink_failed" in {entry["event"] for entry in logs}


# --- the text


async def test_the_text_with_the_images_is_told_once_and_before_the_last_line():
    async with Studio() as studio:
        sink = await told(studio)
        urls = await studio.urls("m")
        assert [message.text for message in sink.messages] == [await studio.text("m")]
        assert sink.messages[0].pictures == tuple(
            Picture(url, prompt) for url, prompt in zip(urls, ["a cat", "a dog", "a fox"], strict=True)
        )
        assert sink.order[-2:] == ["text", "status"]


async def test_images_that_the_model_put_into_the_text_itself_are_not_among_the_pictures():
    async with Studio() as studio:
        sink = await told(studio, f"![a logo](https://elsewhere.test/logo.png) {tag('a cat')}")
        assert [picture.prompt for picture in sink.messages[0].pictures] == ["a cat"]


async def test_nor_are_those_that_only_a_click_has_brought_in():
    async with Studio() as studio, anyio.create_task_group() as tasks:
        foreign = "file:///etc/passwd"
        text = f"{tag('a cat')}![x]({foreign}) {tag('a dog')}"
        sink = await told(studio, text)
        studio.painter.answers["a cat"] = [Moderated("not this one")]
        [dog] = [picture.url for picture in sink.messages[0].pictures if picture.prompt == "a dog"]
        for url in (foreign, dog):
            await studio.limner.regenerate("m", url)
        tasks.start_soon(Teller(studio.limner.manager).tell, "m", sink)
        await studio.tick(2_000)
        assert foreign in await studio.text("m")
        assert foreign not in {picture.url for picture in sink.messages[-1].pictures}
        assert "a dog" in {picture.prompt for picture in sink.messages[-1].pictures}


async def test_a_sink_that_fails_to_take_the_text_is_heard_of():
    async with Studio() as studio:
        sink = Told(studio)
        sink.text_error = OSError("no connection")
        await stream(studio)
        with pytest.raises(OSError, match="no connection"):
            await Teller(studio.limner.manager).tell("m", sink)


async def test_asking_again_after_the_end_tells_nothing_twice():
    async with Studio() as studio:
        teller, sink = Teller(studio.limner.manager), Told(studio)
        await stream(studio)
        assert await teller.tell("m", sink) is not None
        before = list(sink.order)
        assert await teller.tell("m", sink) is None
        assert sink.order == before


async def test_an_unknown_message_cannot_be_followed():
    async with Studio() as studio:
        with pytest.raises(UnknownMessage):
            await Teller(studio.limner.manager).tell("never", Told(studio))


def test_an_interval_must_be_a_number_of_milliseconds():
    studio = Studio()
    with pytest.raises(InvalidSetting, match="interval_ms"):
        Teller(studio.limner.manager, interval_ms=-1)


# --- clicks


async def test_clicks_of_one_batch_are_told_once_with_all_their_images():
    async with Studio() as studio, anyio.create_task_group() as tasks:
        teller, sink = Teller(studio.limner.manager), Told(studio)
        await stream(studio)
        await teller.tell("m", sink)
        sink.lines.clear()
        results: list[Result | None] = []

        async def click(url: str) -> None:
            await studio.limner.regenerate("m", url)
            results.append(await teller.tell("m", sink))

        for url in (await studio.urls("m"))[:2]:
            tasks.start_soon(click, url)
            await settle()
        await studio.tick(2_000)
        assert len(sink.messages) == 2
        assert sink.texts[-2:] == ["Regenerating 2/2…", "Painted 2 images again"]
        assert [result is None for result in results] == [True, False]


async def test_a_click_while_the_text_is_told_is_followed_by_who_tells_it():
    async with Studio() as studio:
        teller, told_all = Teller(studio.limner.manager), Told(studio)

        class Clicked(Told):
            async def replace_text(self, message: Illustrated) -> None:
                await super().replace_text(message)
                if len(self.messages) == 1:
                    studio.painter.answers["a cat"] = [png(999)]
                    await studio.limner.regenerate("m", message.pictures[0].url)
                    assert await teller.tell("m", told_all) is None
                    tasks.start_soon(studio.tick, 2_000)

        sink = Clicked(studio)
        async with anyio.create_task_group() as tasks:
            await stream(studio)
            result = await teller.tell("m", sink)
        assert result is not None
        assert result.kind == "regeneration"
        assert len(sink.messages) == 2
        assert sink.messages[0].text != sink.messages[1].text == await studio.text("m")
        assert told_all.order == []
