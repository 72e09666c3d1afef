"""Clicks: which prompt, and which image, somebody means who wants a new one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from limner.errors import NothingToRetry, PatternTooSlow, UnknownImage, UnknownPrompt
from limner.states import InsertionMode, RegenerationRequested, Session
from limner.states.message import refuse_regeneration_during_streaming
from limner.text import PromptPatterns, find_images, normalise_url, same_url
from limner.text.images import images_between
from limner.workflows.logs import log
from limner.workflows.ports import Engine
from limner.workflows.prompts import PromptNode, PromptRegistry
from limner.workflows.scanning import scan, without_images


class RegenerationQueue:
    """Finds out what a click means, and hands it to the engine."""

    def __init__(
        self,
        *,
        engine: Engine,
        registry: PromptRegistry,
        patterns: PromptPatterns,
        read_text: Callable[[str], Awaitable[str]],
    ) -> None:
        self._engine = engine
        self._registry = registry
        self._patterns = patterns
        self._read_text = read_text

    async def queue(self, message_id: str, image_url: str, mode: InsertionMode) -> Session:
        """Ask for a new image in place of, or beside, one that stands in the message.

        Raises `RegenerationDuringStreaming`, `UnknownMessage`, `UnknownImage`, `StorageError`.
        """
        node = await self._node_of(message_id, image_url)
        # In the one form that all spellings of an address share: the core compares addresses as they are.
        target = normalise_url(self._registry.successor_of(message_id, image_url))
        event = RegenerationRequested(node.id, node.text, node.occurrence, target, mode)
        session = await self._engine.post(message_id, event)
        log.info("regeneration_queued", message_id=message_id, session_id=session.id, prompt_id=node.id)
        return session

    async def queue_retry(self, message_id: str, prompt_id: str) -> Session:
        """Ask once more for an image that a prompt has none of, since making it failed.

        `prompt_id` is the one that the failure was told with. Where it was a regeneration that failed,
        that is asked for again. Raises `RegenerationDuringStreaming`, `UnknownMessage`, `UnknownPrompt`,
        `NothingToRetry`, `StorageError`.
        """
        live = self._engine.live_session(message_id)
        refuse_regeneration_during_streaming(live)
        past = await self._engine.past_sessions(message_id)
        known = [*past, live] if live is not None else past
        regeneration = next((s.prompts[prompt_id] for s in known if prompt_id in s.prompts), None)
        if regeneration is not None and regeneration.target_url is not None:
            return await self.queue(message_id, regeneration.target_url, regeneration.mode)
        node_id = prompt_id if regeneration is None else regeneration.node_id
        text = await self._read_text(message_id)
        matches = scan(text, self._patterns)
        nodes = {self._registry.register(message_id, match).id: match for match in matches}
        match = nodes.get(node_id)
        if match is None:
            raise UnknownPrompt(message_id, prompt_id)
        if match not in without_images(text, matches, images_between(text, matches)):
            raise NothingToRetry(f"the prompt {match.prompt[:80]!r} has its image")
        event = RegenerationRequested(
            node_id, match.prompt, match.occurrence, None, InsertionMode.APPEND_AFTER_PROMPT
        )
        session = await self._engine.post(message_id, event)
        log.info("retry_queued", message_id=message_id, session_id=session.id, prompt_id=node_id)
        return session

    async def _node_of(self, message_id: str, image_url: str) -> PromptNode:
        refuse_regeneration_during_streaming(self._engine.live_session(message_id))
        await self._registry.recall(message_id, self._engine)
        live = self._engine.live_session(message_id)
        refuse_regeneration_during_streaming(live)
        node = self._registry.get_prompt_for_image(message_id, image_url)
        if live is not None and node is not None:
            # Its write may just be under way, so the text says nothing certain; the session will decide.
            return node
        text = await self._read_text(message_id)
        patterns = self._patterns
        try:
            images = find_images(text, patterns)
        except PatternTooSlow as error:
            log.warning("pattern_too_slow", pattern=error.pattern, limit_ms=error.limit_ms)
            patterns = patterns.without_regexes()
            images = find_images(text, patterns)
        standing = [image.src for image in images]
        self._registry.note_standing(message_id, standing)
        if node is None:
            return self._registry.adopt_image(message_id, image_url, text, patterns)
        current = self._registry.successor_of(message_id, image_url)
        if not any(same_url(url, current) for url in standing):
            raise UnknownImage(message_id, image_url)
        return node
