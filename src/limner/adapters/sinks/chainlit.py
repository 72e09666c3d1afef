"""Chainlit: the reply is a `cl.Message`, its images are elements of it, a button under it paints one again.

Written for Chainlit 2. Its module is handed in, since only the host needs it installed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterable
from typing import Any

from limner.adapters.limner import Limner
from limner.adapters.sinks.picture_files import local_path
from limner.adapters.sinks.reading import ReadableStream, readable
from limner.adapters.sinks.replies import Replies
from limner.adapters.token_text import TextOf
from limner.text import PromptPatterns, describe
from limner.workflows.telling import Illustrated, Picture, StatusLine

REGENERATE = "limner_regenerate"
"""The name of the buttons' action, for `@cl.action_callback`."""

_KEEP_MESSAGES = 1_000


class ChainlitSink:
    """One `cl.Message`. Its text is shown without prompt tags, its images below, each with a button.

    The status is a message of its own below, which goes away when all went well.
    """

    def __init__(self, chainlit: Any, message: Any, patterns: PromptPatterns) -> None:
        self.message = message
        self._chainlit = chainlit
        self._patterns = patterns
        self._stream = ReadableStream(patterns)
        self._status: Any = None
        self._pictures: list[Picture] = []
        self._buttons: set[str] = set()
        self._elements: list[Any] = []

    async def write(self, text: str) -> None:
        """Show a piece of the text."""
        await self.message.stream_token(self._stream.feed(text))

    async def finish(self) -> None:
        """Send the message as it is now."""
        await self.message.stream_token(self._stream.finish())
        await self.message.send()

    async def show_status(self, line: StatusLine) -> None:
        """Show a line below the message; the last one only if something failed."""
        if line.done and not line.failed:
            if self._status is not None:
                status, self._status = self._status, None
                await status.remove()
        elif self._status is None:
            self._status = self._chainlit.Message(content=line.text)
            await self._status.send()
        else:
            self._status.content = line.text
            await self._status.update()
        if line.done:
            self._status = None  # the next session's is another message

    async def replace_text(self, message: Illustrated) -> None:
        """Show the text without tags, and its images. An image that took another's place stands there."""
        shown = self._elements
        elements = [
            shown[at]
            if at < len(shown) and self._pictures[at] == picture
            else self._element(picture, shown[at].id if at < len(shown) else None)
            for at, picture in enumerate(message.pictures)
        ]
        for element in shown[len(elements) :]:
            await element.remove()
        await self.message.remove_actions()
        self.message.content = readable(message.text, self._patterns)
        self.message.elements = []
        self.message.actions = []
        await self.message.update()
        # One by one: the page shows them in the order in which they come, and `update` sends all at once.
        for element in elements:
            if not any(element is known for known in shown):
                await element.send(for_id=self.message.id)
        actions = [
            self._action(message.message_id, at, picture) for at, picture in enumerate(message.pictures)
        ]
        for action in actions:
            await action.send(for_id=self.message.id)
        self.message.elements = elements
        self.message.actions = actions
        self._elements = elements
        self._pictures = list(message.pictures)
        self._buttons.update(picture.url for picture in message.pictures)

    def had_button(self, image_url: str) -> bool:
        """Whether the reply has, or had, a button for that image."""
        return image_url in self._buttons

    def _action(self, message_id: str, at: int, picture: Picture) -> Any:
        return self._chainlit.Action(
            name=REGENERATE,
            icon="refresh-cw",
            label=str(at + 1),
            tooltip=f"Paint again: {describe(picture.prompt)}",
            payload={"message": message_id, "image": picture.url},
        )

    def _element(self, picture: Picture, element_id: str | None) -> Any:
        path = local_path(picture.url)
        where = {"url": picture.url} if path is None else {"path": str(path)}
        # The page puts an element with an id that it has in that one's place.
        same = {} if element_id is None else {"id": element_id}
        return self._chainlit.Image(
            name=describe(picture.prompt), display="inline", size="large", **where, **same
        )


class ChainlitChat:
    """What a Chainlit app does with a Limner: `answer` in `@cl.on_message`, `regenerate` for the buttons.

    The last 1000 replies can be regenerated. `chainlit` is the module.
    """

    def __init__(self, limner: Limner, chainlit: Any) -> None:
        self.replies = Replies(limner, interval_ms=500)
        self._patterns = limner.manager.patterns
        self._chainlit = chainlit
        self._sinks: OrderedDict[str, ChainlitSink] = OrderedDict()

    async def answer(self, tokens: AsyncIterable[object], *, text_of: TextOf | None = None) -> Any:
        """Stream a reply and give its `cl.Message`; its images come when they are there.

        `text_of` says what the tokens are, as in `Limner.illustrate`. Raises what `tokens` raises.
        """
        message = self._chainlit.Message(content="")
        sink = ChainlitSink(self._chainlit, message, self._patterns)
        self._sinks[message.id] = sink
        while len(self._sinks) > _KEEP_MESSAGES:
            self._sinks.popitem(last=False)
        await self.replies.stream(message.id, tokens, sink, text_of=text_of)
        return message

    async def regenerate(self, action: Any) -> None:
        """Paint the image of a button again; returns at once. A click on a forgotten reply does nothing.

        Neither does one that no button sends: what a click says comes from the browser.

        Raises `UnknownImage`, `RegenerationDuringStreaming`, `StorageError`.
        """
        message_id, image_url = action.payload.get("message"), action.payload.get("image")
        sink = self._sinks.get(message_id) if isinstance(message_id, str) else None
        if sink is not None and isinstance(image_url, str) and sink.had_button(image_url):
            await self.replies.regenerate(sink.message.id, image_url, sink)
