"""Chainlit's sink with stand-ins for its messages, images and buttons, which keep what the page would show.

The real Chainlit, in a browser, is in tests/with_chats. Chainlit runs on asyncio only.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from limner.adapters.image_folder import FolderImageStore
from limner.adapters.sinks.chainlit import REGENERATE, ChainlitChat
from limner.errors import NoBalance
from tests.studio import Studio, tag
from tests.support import pieces, settle

pytestmark = pytest.mark.anyio

STORY = f"Once {tag('a cat')} met {tag('a dog')} there."
SHOWN = "Once  met  there."


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Page:
    """What a person sees: messages, elements and buttons, in the order in which they came; and the module."""

    def __init__(self) -> None:
        self.messages: dict[str, str] = {}
        self.elements: dict[str, Any] = {}
        self.buttons: dict[str, Any] = {}
        self.streamed: list[str] = []
        self.lines: list[str] = []
        ids = map(str, count())
        page = self

        class Message:
            def __init__(self, content: str) -> None:
                self.id = next(ids)
                self.content = content
                self.elements: list[Any] = []
                self.actions: list[Any] = []

            async def stream_token(self, token: str) -> None:
                page.streamed.append(token)
                self.content += token
                if token:  # the first one shows the message
                    page.messages[self.id] = self.content

            async def send(self) -> None:
                page.messages[self.id] = self.content
                page.lines.append(self.content)

            async def update(self) -> None:
                await self.send()
                for element in self.elements:
                    await element.send(for_id=self.id)

            async def remove(self) -> None:
                del page.messages[self.id]

            async def remove_actions(self) -> None:
                for action in self.actions:
                    del page.buttons[action.id]

        class Image(SimpleNamespace):
            def __init__(self, **given: Any) -> None:
                super().__init__(**{"id": next(ids)} | given)

            async def send(self, for_id: str) -> None:
                page.elements[self.id] = self

            async def remove(self) -> None:
                del page.elements[self.id]

        class Action(SimpleNamespace):
            def __init__(self, **given: Any) -> None:
                super().__init__(id=next(ids), **given)

            async def send(self, for_id: str) -> None:
                page.buttons[self.id] = self

        self.module = SimpleNamespace(Message=Message, Image=Image, Action=Action)

    @property
    def pictures(self) -> list[tuple[str, str]]:
        return [(one.name, getattr(one, "path", None) or one.url) for one in self.elements.values()]


async def test_the_text_streams_without_tags_and_the_images_come_below_with_a_button_each():
    async with Studio() as studio:
        page = Page()
        chat = ChainlitChat(studio.limner, page.module)
        message = await chat.answer(pieces(STORY))
        await chat.replies.settled()
        assert "".join(page.streamed) == SHOWN
        assert page.messages == {message.id: SHOWN}
        urls = await studio.urls(message.id)
        assert page.pictures == [("a cat", urls[0]), ("a dog", urls[1])]
        assert [(b.name, b.label, b.tooltip) for b in page.buttons.values()] == [
            (REGENERATE, "1", "Paint again: a cat"),
            (REGENERATE, "2", "Paint again: a dog"),
        ]


async def test_the_status_is_a_message_that_goes_away_when_all_went_well():
    async with Studio(hold=True) as studio:
        page = Page()
        chat = ChainlitChat(studio.limner, page.module)
        message = await chat.answer(pieces(STORY))
        await studio.tick(500)
        assert list(page.messages.values()) == [SHOWN, "Generating 0/2 images…"]
        studio.painter.release_all()
        await chat.replies.settled()
        assert list(page.messages) == [message.id]


async def test_a_failure_stays_to_be_read():
    async with Studio() as studio:
        studio.painter.answers["a dog"] = [NoBalance("the account is empty")]
        page = Page()
        chat = ChainlitChat(studio.limner, page.module)
        await chat.answer(pieces(STORY))
        await chat.replies.settled()
        assert list(page.messages.values())[1] == "Painted 1/2 images. “a dog”: the account is empty"
        assert [name for name, _ in page.pictures] == ["a cat"]


async def test_a_click_that_no_button_sends_does_nothing_and_no_other_file_is_handed_out():
    async with Studio() as studio:
        page = Page()
        chat = ChainlitChat(studio.limner, page.module)
        text = f"{tag('a cat')}![x](file:///etc/passwd) and {tag('a dog')}"
        message = await chat.answer(pieces(text))
        await chat.replies.settled()
        shown = page.pictures
        for payload in (
            {"message": message.id, "image": "file:///etc/passwd"},
            {"message": message.id, "image": ["x"]},
            {"message": ["x"], "image": "x"},
            {},
        ):
            await chat.regenerate(SimpleNamespace(payload=payload))
        await studio.tick(2_000)
        assert studio.limner.sessions() == ()
        assert page.pictures == shown


async def test_a_click_puts_the_new_image_where_the_old_one_stood():
    async with Studio() as studio:
        page = Page()
        chat = ChainlitChat(studio.limner, page.module)
        message = await chat.answer(pieces(STORY))
        await chat.replies.settled()
        before = page.pictures
        await chat.regenerate(next(iter(page.buttons.values())))
        await studio.tick(2_000)
        await chat.replies.settled()
        assert [url for _, url in page.pictures] == await studio.urls(message.id)
        assert page.pictures[0] != before[0]
        assert page.pictures[1] == before[1]
        assert [button.payload["image"] for button in page.buttons.values()] == await studio.urls(message.id)


async def test_an_image_file_is_handed_over_as_a_file(tmp_path: Path):
    async with Studio(images=FolderImageStore(tmp_path / "a b")) as studio:
        page = Page()
        chat = ChainlitChat(studio.limner, page.module)
        await chat.answer(pieces(f"Look: {tag('a cat')}"))
        await chat.replies.settled()
        [(_, path)] = page.pictures
        assert Path(path).parent == tmp_path / "a b"
        assert Path(path).is_file()


async def test_a_click_on_a_reply_that_is_forgotten_does_nothing():
    async with Studio() as studio:
        chat = ChainlitChat(studio.limner, Page().module)
        await chat.regenerate(SimpleNamespace(payload={"message": "gone", "image": "u"}))
        assert studio.limner.sessions() == ()


async def test_a_model_that_breaks_off_is_heard_of_and_what_it_said_is_illustrated():
    async def broken() -> Any:
        yield f"Once {tag('a cat')}"
        raise ConnectionError("gone")

    async with Studio() as studio:
        page = Page()
        chat = ChainlitChat(studio.limner, page.module)
        with pytest.raises(ConnectionError):
            await chat.answer(broken())
        await chat.replies.settled()
        await settle()
        assert [name for name, _ in page.pictures] == ["a cat"]


async def test_chunks_of_a_client_may_be_answered_with():
    async def chunks() -> Any:
        yield {"choices": [{"delta": {"content": "Hello"}}]}

    async with Studio() as studio:
        page = Page()
        chat = ChainlitChat(studio.limner, page.module)
        await chat.answer(chunks(), text_of="openai")
        assert list(page.messages.values()) == ["Hello"]
