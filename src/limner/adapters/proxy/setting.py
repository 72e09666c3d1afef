"""What a reply needs to know of the request that it answers and of the proxy that passes it on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from limner.adapters.proxy.history import TagMemory
from limner.adapters.proxy.pictures import Picture, at_the_end, in_the_text, missing_ends
from limner.adapters.proxy.wishes import Wishes
from limner.text import PromptPatterns
from limner.workflows.clock import Alarm


@dataclass(frozen=True, slots=True)
class ReplySetting:
    """How one reply is to be illustrated. `public_url` is what the client knows the proxy by."""

    wishes: Wishes
    public_url: str
    patterns: PromptPatterns
    memory: TagMemory
    alarm: Alarm
    keep_alive_ms: int

    @property
    def wants_progress(self) -> bool:
        """Whether the client is told how far the pictures are."""
        return self.wishes.progress == "reasoning"

    def below(self, text: str, pictures: Sequence[Picture]) -> str:
        """What goes behind `text` for the pictures."""
        if not pictures:
            return ""
        self._note(pictures)
        ends = missing_ends(text, self.patterns)
        self.memory.note_ends(pictures[0].image.prompt, text, ends)
        return ends + at_the_end(pictures, self.wishes.profile, self.public_url)

    def placed(self, text: str, pictures: Sequence[Picture]) -> str:
        """`text` with the pictures in it."""
        self._note(pictures)
        return in_the_text(text, pictures, self.wishes.profile, self.public_url, self.patterns)

    async def pause(self) -> None:
        """Wait as long as a connection may be silent."""
        await self.alarm.sleep(self.keep_alive_ms)

    def _note(self, pictures: Sequence[Picture]) -> None:
        for picture in pictures:
            address = picture.address(self.wishes.profile, self.public_url)
            self.memory.note(address, picture.image.prompt, picture.tag)
