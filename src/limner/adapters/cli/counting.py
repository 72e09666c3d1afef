"""Counts what is written into messages, so that a demonstration can say what happened."""

from __future__ import annotations

from dataclasses import dataclass

from limner.text import find_images
from limner.workflows.ports import MessageStore, StoredMessage


@dataclass(frozen=True, slots=True)
class Write:
    """One successful write. `new_images` are those that the text did not have before it."""

    new_images: int


class CountingStore:
    """A `MessageStore` that passes everything on to `store` and keeps a list of the writes that succeeded."""

    def __init__(self, store: MessageStore) -> None:
        self.writes: list[Write] = []
        self._store = store
        self._images: dict[str, set[str]] = {}

    @property
    def image_writes(self) -> list[Write]:
        """The writes that brought images; the others saved the text."""
        return [write for write in self.writes if write.new_images]

    async def read(self, message_id: str) -> StoredMessage | None:
        """See `MessageStore.read`."""
        return await self._store.read(message_id)

    async def write(self, message_id: str, text: str, *, expected: str | None) -> str:
        """See `MessageStore.write`."""
        version = await self._store.write(message_id, text, expected=expected)
        images = {image.src for image in find_images(text)}
        self.writes.append(Write(len(images - self._images.get(message_id, set()))))
        self._images[message_id] = images
        return version
