"""Real pipelines of diffusers, tiny and with random weights: loaded, seeded, watched and stopped.

Run by `make test-diffusers`, which installs torch and diffusers; the other tests do without both.
"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from limner.adapters.diffusers import DiffusersGenerator
from limner.adapters.factory import generator_from
from limner.adapters.journal_memory import MemoryJournal
from limner.adapters.limner import Limner
from limner.adapters.message_memory import MemoryMessageStore
from limner.errors import BackendError
from limner.testing import ProgressRecorder, make_request
from limner.text import find_images
from limner.workflows.ports import PromptSettings

pytestmark = pytest.mark.anyio


def tiny() -> StableDiffusionPipeline:
    """Stable Diffusion with some thousand weights instead of a thousand million."""
    torch.manual_seed(0)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    pipeline = StableDiffusionPipeline(
        unet=UNet2DConditionModel(
            block_out_channels=(4, 8),
            layers_per_block=1,
            sample_size=16,
            norm_num_groups=2,
            in_channels=4,
            out_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=8,
            attention_head_dim=2,
        ),
        vae=AutoencoderKL(
            block_out_channels=[4, 8],
            norm_num_groups=2,
            down_block_types=["DownEncoderBlock2D"] * 2,
            up_block_types=["UpDecoderBlock2D"] * 2,
            latent_channels=4,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                hidden_size=8,
                intermediate_size=16,
                num_attention_heads=2,
                num_hidden_layers=1,
                vocab_size=len(words),
                max_position_embeddings=16,
                projection_dim=8,
            )
        ),
        tokenizer=CLIPTokenizer(
            vocab={word: number for number, word in enumerate(words)}, merges=[], model_max_length=16
        ),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as it lies on a disk."""
    path = tmp_path_factory.mktemp("model")
    tiny().save_pretrained(path)
    return path


def size_of(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data)) as image:
        return image.size


async def test_a_model_is_loaded_from_where_it_is_named_and_paints(folder: Path):
    options: dict[str, Any] = {"width": 32, "height": 48, "steps": 3, "device": "cpu"}
    generator = generator_from(f"diffusers={folder}", **options)
    progress = ProgressRecorder()
    data = await generator.generate(make_request(), progress)
    await generator.aclose()
    assert size_of(data) == (32, 48)
    assert progress.fractions == pytest.approx([1 / 3, 2 / 3, 1])


async def test_a_model_that_is_not_there_is_an_error_of_the_backend(tmp_path: Path):
    generator = DiffusersGenerator(str(tmp_path / "nothing"))
    with pytest.raises(BackendError, match="nothing cannot be loaded: "):
        await generator.generate(make_request(), ProgressRecorder())


async def test_one_seed_gives_one_image_and_another_another():
    generator = DiffusersGenerator(tiny(), width=32, height=32, steps=2)
    one, again, other = [
        await generator.generate(make_request(seed=seed), ProgressRecorder()) for seed in (1, 1, 2)
    ]
    assert one == again != other


async def test_a_prompt_may_ask_for_its_own_size_and_steps():
    progress = ProgressRecorder()
    own = replace(make_request(), settings=PromptSettings(width=64, height=32, steps=5, negative_prompt="b"))
    data = await DiffusersGenerator(tiny(), width=32, height=32).generate(own, progress)
    assert size_of(data) == (64, 32)
    assert len(progress.fractions) == 5


async def test_a_call_that_is_cancelled_stops_the_pipeline_after_the_present_step():
    pipeline = tiny()
    generator = DiffusersGenerator(pipeline, width=32, height=32, steps=900)
    begun = anyio.Event()
    seen: list[float] = []

    def report(
        fraction: float | None = None, preview: bytes | None = None, job_id: str | None = None
    ) -> None:
        seen.append(fraction or 0.0)
        begun.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(generator.generate, make_request(), report)
        await begun.wait()
        tasks.cancel_scope.cancel()
    assert len(seen) < 900
    # It is as good as new for the next one.
    again = DiffusersGenerator(pipeline, width=32, height=32, steps=2)
    assert size_of(await again.generate(make_request(), ProgressRecorder())) == (32, 32)


async def test_a_message_is_illustrated(tmp_path: Path):
    store = MemoryMessageStore()
    generator = DiffusersGenerator(tiny(), width=32, height=32, steps=2)
    async with Limner(generator, store=store, journal=MemoryJournal(), data_dir=tmp_path) as limner:
        text = 'Two: <img_prompt="a cat"> and <img_prompt="a dog">.'
        async for _ in limner.illustrate("m", [text]):
            pass
        assert len((await limner.finished("m")).placed) == 2
    stored = await store.read("m")
    assert stored is not None
    assert len(find_images(stored.text)) == 2
