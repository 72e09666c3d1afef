"""The real engine, processor, streams and insertion in hundreds of orders that a seed draws.

Each seed makes up messages, a model's pace, a painter that fails, dawdles and hangs, an editor who changes
the messages meanwhile, a store that fails now and then, clicks and cancels; and then the order of every step.
What must hold afterwards is the same for all of them.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import structlog

from limner.adapters.journal_memory import MemoryJournal
from limner.adapters.limner import Limner
from limner.adapters.message_memory import MemoryMessageStore
from limner.errors import CallerError, Moderated, NotRunning, StorageError, Unavailable
from limner.states import PROCESS_RESTARTED, Command, InsertImages, Session, is_final
from limner.states.message import Step
from limner.states.outcome import Result, result_of
from limner.text import find_images
from limner.workflows.ports import (
    Capabilities,
    GenerationRequest,
    ImageInfo,
    ProgressCallback,
    StoredMessage,
)
from tests.journeys.seeded import run_seeded, virtual_milliseconds

SEEDS = 250
REGRESSIONS: tuple[int, ...] = (577, 1350, 1762)
"""Seeds that once failed. They are run for ever."""


class Dice:
    """Every part draws from its own dice, so that the order of the parts does not change what is drawn."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def of(self, part: str) -> random.Random:
        return random.Random(f"{self.seed}/{part}")


class Painter:
    capabilities = Capabilities(progress=True)

    def __init__(self, dice: Dice) -> None:
        self._dice = dice
        self.painted: set[str] = set()
        self.calls: Counter[str] = Counter()

    async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        self.calls[request.prompt_id] += 1
        dice = self._dice.of(f"{request.prompt}/{request.attempt}/{self.calls[request.prompt_id]}")
        await anyio.sleep(dice.choice([0, 0, 0.5, 2, 30]))
        report(0.5)
        fate = dice.random()
        if fate < 0.1:
            raise Unavailable("down for a moment", retry_after_ms=dice.choice([None, 500, 5_000]))
        if fate < 0.15:
            raise Moderated("no")
        if fate < 0.2:
            await anyio.sleep_forever()
        if fate < 0.25:
            raise ZeroDivisionError
        await anyio.sleep(dice.choice([0, 1, 2]))
        # Now and then the same picture for two prompts, as servers that cache give.
        name = dice.choice(["same", f"{request.prompt_id}/{request.attempt}"])
        return name.encode()

    async def aclose(self) -> None:
        """Nothing to release."""


class Inspector:
    async def inspect(self, data: bytes) -> ImageInfo:
        await anyio.lowlevel.checkpoint()
        return ImageInfo(data, "image/png", 1, 1, b"small", "image/png")

    async def thumbnail(self, data: bytes) -> tuple[bytes, str] | None:
        return None


class Images:
    def __init__(self, dice: Dice) -> None:
        self._dice = dice.of("images")
        self._urls: dict[bytes, str] = {}
        self.kept = 0

    async def put(self, data: bytes, media_type: str) -> str:
        await anyio.sleep(self._dice.choice([0, 0, 0.2]))
        if self._dice.random() < 0.05:
            raise StorageError("disk full")
        self.kept += 1
        return self._urls.setdefault(data, f"https://images.test/{len(self._urls)}.png")


class Store(MemoryMessageStore):
    """A real store that takes its time, fails now and then, and has quick editors."""

    def __init__(self, dice: Dice) -> None:
        super().__init__()
        self._dice = dice.of("store")
        self.edits: Counter[str] = Counter()
        self.streams: Counter[str] = Counter()
        self.image_writes = 0
        self.checks_versions = True

    async def read(self, message_id: str) -> StoredMessage | None:
        await self._dawdle()
        stored = await super().read(message_id)
        if stored is not None and self._dice.random() < 0.1:
            # An editor who is quicker than whoever reads: what was read is out of date at once.
            await super().write(message_id, stored.text + " (edited)", expected=stored.version)
            self.edits[message_id] += 1
        return stored

    async def write(self, message_id: str, text: str, *, expected: str | None) -> str:
        await self._dawdle()
        if not self.checks_versions:
            stored = await super().read(message_id)
            expected = None if stored is None else stored.version
        before = await super().read(message_id)
        version = await super().write(message_id, text, expected=expected)
        known = set() if before is None else {image.src for image in find_images(before.text)}
        self.image_writes += bool({image.src for image in find_images(text)} - known)
        return version

    async def _dawdle(self) -> None:
        await anyio.sleep(self._dice.choice([0, 0, 0.001, 0.3]))
        if self._dice.random() < 0.04:
            raise StorageError("locked")


class Witness:
    """Writes down what the engine commits."""

    def __init__(self) -> None:
        self.inserts: Counter[tuple[str, int]] = Counter()
        self.results: list[Result] = []
        self.after_cancel: list[str] = []
        self.restarts = 0
        self._ended: set[str] = set()

    def watch(self, limner: Limner) -> None:
        """Look at what this one commits from now on."""
        inner = limner.manager.committed

        def committed(step: Step) -> None:
            self.committed(step)
            inner(step)

        limner.manager.committed = committed  # type: ignore[method-assign]

    def committed(self, step: Step) -> None:
        self.restarts += step.event is PROCESS_RESTARTED
        for command in step.commands:
            if isinstance(command, InsertImages):
                self.inserts[step.session.id, step.session.batch] += not command.may_be_written
                if step.session.id in self._ended:
                    self.after_cancel.append(step.session.id)
        if is_final(step.session):
            self._ended.add(step.session.id)
            self.results.append(result_of(step.session))


def story(dice: random.Random) -> str:
    prompts = [f'<img_prompt="{dice.choice(["cat", "dog", "owl"])}">' for _ in range(dice.randrange(5))]
    return " once upon a time ".join(["start", *prompts, "end"])


async def one_message(limner: Limner, store: Store, message_id: str, dice: random.Random) -> None:
    async def tokens() -> AsyncGenerator[str, None]:
        text = story(dice)
        for start in range(0, len(text), 7):
            await anyio.sleep(dice.choice([0, 0, 0.01, 0.4]))
            yield text[start : start + 7]
        if dice.random() < 0.1:
            raise ConnectionResetError

    store.streams[message_id] += 1
    try:
        async with aclosing(tokens()) as pieces, aclosing(limner.illustrate(message_id, pieces)) as text:
            async for _ in text:
                if dice.random() < 0.01:
                    break
    except (ConnectionResetError, StorageError, NotRunning):
        pass
    for _ in range(dice.randrange(4)):
        await anyio.sleep(dice.choice([0, 0.5, 1.999, 2, 2.001, 40]))
        try:
            stored = await store.read(message_id)
            images = find_images(stored.text) if stored else []
            if images:
                await limner.regenerate(message_id, dice.choice(images).src)
        except (CallerError, StorageError):
            pass
    if dice.random() < 0.2:
        with suppress(CallerError):
            await limner.cancel(message_id)


async def meddle(limner: Limner, store: Store, message_id: str, dice: random.Random) -> None:
    """What nobody should do and somebody does: cancel at any time, stream again, turn the limits about."""
    for _ in range(dice.choice([0, 0, 0, 1, 2])):
        await anyio.sleep(dice.choice([0, 0.2, 1, 2, 10]))
        fate = dice.random()
        if fate < 0.3:
            with suppress(CallerError):
                await limner.cancel(message_id)
        elif fate < 0.5:
            store.streams[message_id] += 1
            with suppress(StorageError, NotRunning):
                async for _ in limner.illustrate(message_id, story(dice)):
                    pass
        elif fate < 0.6:
            # A caller who does not wait: it is cancelled at some step of the call.
            store.streams[message_id] += 1
            with suppress(CallerError, StorageError), anyio.move_on_after(dice.choice([0, 0.001, 0.3])):
                await limner.seal(message_id, story(dice))
        else:
            limner.set_limits(max_concurrent=dice.randint(1, 4), min_interval_ms=dice.choice([0, 50]))


async def edit(store: Store, message_id: str, dice: random.Random) -> None:
    for _ in range(dice.randrange(4)):
        await anyio.sleep(dice.choice([0.1, 1, 3, 20]))
        try:
            stored = await store.read(message_id)
            if stored is None:
                continue
            fate = dice.random()
            if fate < 0.1:
                await store.delete(message_id)
                store.edits[message_id] = 0
            elif fate < 0.5:
                await store.write(message_id, stored.text + " (edited)", expected=stored.version)
                store.edits[message_id] += 1
            else:
                text = stored.text.replace('<img_prompt="cat">', "", 1)
                await store.write(message_id, text, expected=stored.version)
        except StorageError:
            pass


def nothing_planted(limner: Limner, store: Store) -> None:
    """The code as it is."""


def a_limner(dice: Dice, painter: Painter, store: Store, images: Images, journal: MemoryJournal) -> Limner:
    return Limner(
        painter,
        store=store,
        images=images,
        journal=journal,
        inspector=Inspector(),
        max_concurrent=dice.of("limits").randint(1, 4),
        max_per_message=2,
        min_interval_ms=dice.of("limits").choice([0, 100]),
        on_drain_timeout=dice.of("limits").choice(["fail", "insert"]),
        clock=virtual_milliseconds,
        shutdown_timeout_ms=3_600_000,
    )


async def scenario(seed: int, plant: Callable[[Limner, Store], None] = nothing_planted) -> None:
    dice = Dice(seed)
    store, images = Store(dice), Images(dice)
    limner = a_limner(dice, Painter(dice), store, images, MemoryJournal())
    plant(limner, store)
    witness = Witness()
    witness.watch(limner)
    with structlog.testing.capture_logs() as logs:
        await play(limner, store, dice)
    late = sum(entry["event"] == "image_came_too_late" for entry in logs)
    told = sum(len(result.placed) + len(result.unplaced) for result in witness.results)
    assert images.kept == told + late, "a finished image was lost, or told twice"
    assert store.image_writes <= sum(witness.inserts.values()), "a write that nobody commanded"
    await judge(store, witness)


async def play(limner: Limner, store: Store, dice: Dice) -> None:
    async with limner:
        await talk(limner, store, dice)
        await come_to_an_end(limner)


async def talk(limner: Limner, store: Store, dice: Dice) -> None:
    """Everything that a chat server and its users do."""
    async with anyio.create_task_group() as tasks:
        for number in range(dice.of("messages").randint(1, 3)):
            message_id = f"m{number}"
            tasks.start_soon(one_message, limner, store, message_id, dice.of(message_id))
            tasks.start_soon(edit, store, message_id, dice.of(f"edit {message_id}"))
            tasks.start_soon(meddle, limner, store, message_id, dice.of(f"meddle {message_id}"))


async def come_to_an_end(limner: Limner) -> None:
    """Every session ends by itself, in bounded time."""
    with anyio.fail_after(3_600):
        while sessions := limner.sessions():
            await limner.finished(sessions[0].message_id)
            await anyio.lowlevel.checkpoint()
    await anyio.sleep(60)  # what was aborted may still be storing a picture that was just painted
    assert limner.manager.processor.running == 0
    assert limner.manager.processor.waiting == 0


async def judge(store: Store, witness: Witness) -> None:
    assert max(witness.inserts.values(), default=0) <= 1, "a batch was written twice"
    assert not witness.after_cancel
    placed_in: dict[str, Counter[str]] = {}
    replaced_in: dict[str, set[str]] = {}
    for result in witness.results:
        for group in (result.placed, result.unplaced, result.failed):
            for item in group:
                assert item.prompt_id not in result.cancelled
        counter = placed_in.setdefault(result.message_id, Counter())
        counter.update(image.image_url for image in result.placed)
        replaced_in.setdefault(result.message_id, set()).update(
            image.replaced_url for image in result.placed if image.replaced_url
        )
        if result.state == "cancelled":
            batches = [key for key in witness.inserts if key[0] == result.session_id]
            assert result.placed == () or len(batches) >= 1
    for message_id, placed in placed_in.items():
        assert max(placed.values(), default=0) <= 1, "one image counts as placed twice"
        stored = await MemoryMessageStore.read(store, message_id)
        if stored is None:
            continue
        standing = Counter(image.src for image in find_images(stored.text))
        assert max(standing.values(), default=0) <= 1, "an image stands twice"
        assert set(standing) <= set(placed), "an image stands that no result names"
        if store.streams[message_id] > 1:
            continue  # a second stream may have put its own text in the place of all that
        assert stored.text.count(" (edited)") == store.edits[message_id], "an edit was overwritten"
        expected = set(placed) - replaced_in[message_id]
        assert set(standing) == expected, (standing, expected)


Scenario = Callable[[int], Awaitable[None]]


def run_all(backend: str, seeds: Iterable[int], one: Scenario) -> None:
    with structlog.testing.capture_logs():
        for seed in seeds:
            try:
                run_seeded(backend, seed, one)
            except Exception as error:
                raise AssertionError(f"seed {seed} on {backend}: {error!r}") from error


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_whatever_the_order_nothing_is_lost_or_written_twice(backend: str) -> None:
    run_all(backend, (*REGRESSIONS, *range(SEEDS)), scenario)


# --- processes that die


async def mortal(seed: int, reborn: Callable[[Limner], None] = lambda limner: None) -> int:
    """The same, but the process dies a few times, and each time the next one takes over. Counts restarts."""
    dice = Dice(seed)
    store, painter, images, journal = Store(dice), Painter(dice), Images(dice), MemoryJournal()
    witness, fate = Witness(), dice.of("death")
    for life in range(fate.randint(1, 4)):
        limner = a_limner(dice, painter, store, images, journal)
        witness.watch(limner)
        if life:
            reborn(limner)
        # Leaving the block by being cancelled finishes nothing; a process that dies does not, either.
        with anyio.move_on_after(fate.choice([0.01, 0.2, 1, 2, 2.5, 5, 40, 130])):
            async with limner:
                await talk(limner, store, dice)
                await come_to_an_end(limner)
        await anyio.sleep(fate.choice([0, 1, 200, 4_000]))
    limner = a_limner(dice, painter, store, images, journal)
    witness.watch(limner)
    reborn(limner)
    async with limner:
        await come_to_an_end(limner)
    assert (await journal.open()).live == ()
    assert store.image_writes <= sum(witness.inserts.values()), "a write that nobody commanded"
    await judge(store, witness)
    return witness.restarts


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_wherever_the_process_dies_nothing_is_lost_or_written_twice(backend: str) -> None:
    restarts = 0

    async def count(seed: int) -> None:
        nonlocal restarts
        restarts += await mortal(seed)

    run_all(backend, range(SEEDS), count)
    assert restarts > SEEDS / 2, "hardly anything was left behind, so hardly anything was tested"


def forget_what_was_left(limner: Limner) -> None:
    engine: Any = limner.manager.engine
    opened = engine.open

    async def forgetful() -> Any:
        contents = await opened()
        engine._taken_over = engine._taken_over[1:]
        return contents

    engine.open = forgetful


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_seeds_find_a_session_that_is_forgotten_by_the_next_process(backend: str) -> None:
    async def planted(seed: int) -> None:
        await mortal(seed, forget_what_was_left)

    with pytest.raises(AssertionError, match=f"on {backend}"):
        run_all(backend, range(SEEDS), planted)


# --- faults that are planted to be found


def forget_versions(limner: Limner, store: Store) -> None:
    store.checks_versions = False


def let_equal_pictures_share_an_address(limner: Limner, store: Store) -> None:
    registry: Any = limner.manager.registry
    registry.unique_url = lambda message_id, image_url: image_url


def drop_images_that_come_late(limner: Limner, store: Store) -> None:
    processor: Any = limner.manager.processor
    attempt = processor._attempt

    async def dropped(*args: Any) -> Any:
        event = await attempt(*args)
        await anyio.sleep(0.2)  # a cancellation that comes here takes the finished image with it
        return event

    processor._attempt = dropped


def never_give_a_place_back(limner: Limner, store: Store) -> None:
    limiter: Any = limner.manager.processor._limiter
    limiter.finish = lambda job: None


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    "plant",
    [
        forget_versions,
        let_equal_pictures_share_an_address,
        drop_images_that_come_late,
        never_give_a_place_back,
    ],
)
def test_the_seeds_find_a_planted_fault(backend: str, plant: Callable[[Limner, Store], None]) -> None:
    async def planted(seed: int) -> None:
        await scenario(seed, plant)

    with pytest.raises(AssertionError, match=f"on {backend}"):
        run_all(backend, range(SEEDS), planted)


def perform_every_insertion_twice(limner: Limner, store: Store) -> None:
    manager: Any = limner.manager
    perform = manager._perform

    def twice(session: Session, command: Command) -> None:
        perform(session, command)
        if isinstance(command, InsertImages):
            perform(session, command)

    manager._perform = twice


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_performing_an_insertion_twice_does_no_harm(backend: str) -> None:
    async def twice(seed: int) -> None:
        await scenario(seed, perform_every_insertion_twice)

    run_all(backend, range(SEEDS // 4), twice)
