"""Prompts and their images over time: who made which image, and what replaced it.

A `PromptNode` is a prompt in a message's text, and every image that was ever made from it. Its id is made
from the message, the prompt's text and which of several equal ones it is, so finding a prompt again finds
the same node. (The seed's prompt manager; its promptRegistry is `PromptRegistry`.)
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b

from limner.errors import UnknownImage
from limner.states import FoundPrompt, Session
from limner.text import (
    PromptMatch,
    PromptPatterns,
    extract_image_prompts,
    find_images,
    normalise_url,
    same_url,
)
from limner.workflows.ports import Engine


def _digest(*parts: str) -> bytes:
    digest = blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.digest()


def prompt_id(message_id: str, text: str, occurrence: int) -> str:
    """The id of a prompt in a text: the same for the same prompt, different for two equal ones.

    32 hexadecimal digits (128 bits of BLAKE2b).
    """
    return _digest(message_id, text, str(occurrence)).hex()


def seed_of(image_id: str) -> int:
    """The generation seed for one image: 32 bits that differ between images and stay over its attempts."""
    return int.from_bytes(_digest("seed", image_id)[:4], "big")


@dataclass(slots=True)
class PromptNode:
    """One prompt of one message, with its images' URLs, oldest first."""

    id: str
    message_id: str
    text: str
    occurrence: int
    images: list[str] = field(default_factory=list)

    @property
    def found(self) -> FoundPrompt:
        """The prompt as the core knows it."""
        return FoundPrompt(self.id, self.text, self.occurrence)


@dataclass(slots=True)
class _MessagePrompts:
    nodes: dict[str, PromptNode] = field(default_factory=dict)
    node_of_image: dict[str, str] = field(default_factory=dict)
    successor: dict[str, str] = field(default_factory=dict)
    standing: set[str] = field(default_factory=set)
    adopted: set[str] = field(default_factory=set)
    recalled: bool = False


class PromptRegistry:
    """The prompts and images of the messages that were worked on last, at most `keep_messages` of them."""

    def __init__(self, keep_messages: int = 10_000) -> None:
        self._keep = keep_messages
        self._messages: OrderedDict[str, _MessagePrompts] = OrderedDict()

    def detect_prompts_in_message(
        self, message_id: str, text: str, patterns: PromptPatterns
    ) -> list[PromptNode]:
        """The nodes of all prompts in `text`, in its order; new ones are registered."""
        return [self.register(message_id, match) for match in extract_image_prompts(text, patterns)]

    def register(self, message_id: str, match: PromptMatch) -> PromptNode:
        """The node of a prompt that was found in a text."""
        return self._node(message_id, match.prompt, match.occurrence)

    def link_image_to_prompt(self, message_id: str, node_id: str, image_url: str) -> None:
        """Add an image to its prompt's history. Raises `KeyError` for a node that is not registered."""
        message = self._messages[message_id]
        node = message.nodes[node_id]
        if image_url not in node.images:
            node.images.append(image_url)
        message.node_of_image[normalise_url(image_url)] = node_id
        message.adopted.discard(normalise_url(image_url))

    def keep_image(self, message_id: str, text: str, occurrence: int, image_url: str) -> PromptNode:
        """Link an image to its prompt, which is registered if it is not known (any more)."""
        node = self._node(message_id, text, occurrence)
        self.link_image_to_prompt(message_id, node.id, image_url)
        return node

    def link_successor(self, message_id: str, old_url: str, new_url: str) -> None:
        """Note that `new_url` took the place of `old_url` in the message."""
        if not same_url(old_url, new_url):
            self._message(message_id).successor[normalise_url(old_url)] = new_url

    def successor_of(self, message_id: str, image_url: str) -> str:
        """The image that stands now where `image_url` stood; itself where nothing replaced it."""
        successors = self._message(message_id).successor
        seen: set[str] = set()
        while (key := normalise_url(image_url)) in successors and key not in seen:
            seen.add(key)
            image_url = successors[key]
        return image_url

    def successors(self, message_id: str) -> dict[str, str]:
        """Old URL to new URL, for every image of the message that was replaced."""
        return dict(self._message(message_id).successor)

    def get_prompt_for_image(self, message_id: str, image_url: str) -> PromptNode | None:
        """The prompt that made the image, or None where that is not known."""
        message = self._messages.get(message_id)
        if message is None:
            return None
        node_id = message.node_of_image.get(normalise_url(image_url))
        return None if node_id is None else message.nodes[node_id]

    def is_made(self, message_id: str, image_url: str) -> bool:
        """Whether a session has made the image. One that was adopted may be anybody's."""
        message = self._messages.get(message_id)
        address = normalise_url(image_url)
        return message is not None and address in message.node_of_image and address not in message.adopted

    def adopt_image(self, message_id: str, image_url: str, text: str, patterns: PromptPatterns) -> PromptNode:
        """Find out from the text itself which prompt an image belongs to, and link it.

        For messages that were illustrated long ago or elsewhere: an image belongs to the prompt right
        behind which it stands, with nothing but other images and white space between.

        Raises `UnknownImage` if the text has no such image, or none that follows a prompt so.
        """
        matches = deque(extract_image_prompts(text, patterns))
        wanted = normalise_url(image_url)
        nearest: PromptMatch | None = None
        end = 0
        for image in find_images(text, patterns):
            while matches and matches[0].end <= image.start:
                nearest = matches.popleft()
                end = nearest.end
            if nearest is None:
                continue
            if text[end : image.start].strip():
                # Nor does any image further on follow this prompt.
                nearest = None
                continue
            end = image.end
            if normalise_url(image.src) == wanted:
                node = self.keep_image(message_id, nearest.prompt, nearest.occurrence, image_url)
                self._message(message_id).adopted.add(wanted)
                return node
        raise UnknownImage(message_id, image_url)

    async def recall(self, message_id: str, engine: Engine) -> None:
        """Take in the message's past sessions, once, with what is known already on top of them.

        For what an earlier process did, or what was dropped for want of room. Has to come before an address
        is chosen or looked up: one that was given away then must not be given to another image now. Raises
        `StorageError`.
        """
        known = self._messages.get(message_id)
        if known is not None and known.recalled:
            return
        sessions = await engine.past_sessions(message_id)
        message = self._message(message_id)
        newer = dict(message.successor)
        for session in sessions:
            self.take_in(session)
        live = engine.live_session(message_id)
        if live is not None:
            self.take_in(live)  # its images, too, were dropped for want of room
        message.successor.update(newer)
        message.recalled = True

    def take_in(self, session: Session) -> None:
        """Link every image that the session has made, and what they replaced."""
        message_id = session.message_id
        for prompt in session.prompts.values():
            if prompt.image is not None:
                self.keep_image(message_id, prompt.text, prompt.occurrence, prompt.image.url)
            if prompt.placed is not None and prompt.placed.replaced_url is not None:
                self.link_successor(message_id, prompt.placed.replaced_url, prompt.placed.image_url)

    def note_standing(self, message_id: str, image_urls: Iterable[str]) -> None:
        """Take note of images that stand in the message, whoever made them: their addresses are taken."""
        self._message(message_id).standing.update(normalise_url(url) for url in image_urls)

    def unique_url(self, message_id: str, image_url: str) -> str:
        """`image_url`, with a fragment if the message has an image of that URL already.

        A content-addressed store gives two equal pictures one URL; in a message each needs its own, or
        a click could not tell which is meant and placing the second would look like a repetition.
        """
        message = self._message(message_id)
        candidate, number = image_url, 1
        while (key := normalise_url(candidate)) in message.node_of_image or key in message.standing:
            number += 1
            candidate = f"{image_url}#{number}"
        return candidate

    def forget(self, message_ids: Iterable[str]) -> None:
        """Drop what is known of these messages."""
        for message_id in message_ids:
            self._messages.pop(message_id, None)

    def _node(self, message_id: str, text: str, occurrence: int) -> PromptNode:
        nodes = self._message(message_id).nodes
        node_id = prompt_id(message_id, text, occurrence)
        node = nodes.get(node_id)
        if node is None:
            node = nodes[node_id] = PromptNode(node_id, message_id, text, occurrence)
        return node

    def _message(self, message_id: str) -> _MessagePrompts:
        message = self._messages.get(message_id)
        if message is None:
            message = self._messages[message_id] = _MessagePrompts()
            while len(self._messages) > self._keep:
                self._messages.popitem(last=False)
        else:
            self._messages.move_to_end(message_id)
        return message
