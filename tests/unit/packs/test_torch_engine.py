"""Images of many packs in one batch get what each pack gives alone, whatever the packs' methods and sizes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.serving.random_packs import write_random_pack
from PIL import Image

import lpt
from drawn_sizes import drawn_architecture
from lpt.model import FrozenViT
from lpt.model.inference import InferenceModel
from lpt.packs.engine import Output
from lpt.packs.pack import Pack
from lpt.packs.torch_engine import TorchEngine


def drawn_packs(seed: int, count: int, folder: Path, backbone: FrozenViT) -> list[Pack]:
    """Write packs of different methods, sizes, inputs and numbers of views."""
    draw = random.Random(seed)
    packs = []
    for number in range(count):
        architecture, phases = drawn_architecture(draw)
        shown = {"size": draw.choice([(32, 32), (16, 48)]), "test_views": draw.choice([1, 1, 5])}
        shown |= {"mean": [draw.choice([0.4, 0.5])] * 3}
        sizes: dict[str, Any] = {"classes": draw.randint(2, 30), "phases": phases, "seed": 100 * seed + number}
        path = folder / str(number)
        packs.append(write_random_pack(path, backbone, architecture, **sizes, preprocessing=shown))
    return packs


def drawn_pixels(pack: Pack, seed: int) -> np.ndarray:
    picture = np.random.default_rng(seed).integers(0, 256, (37, 41, 3)).astype(np.uint8)
    return pack.info.preprocessing.test_array(Image.fromarray(picture))


def alone(pack: Pack, backbone: FrozenViT, dtype: torch.dtype) -> Callable[[np.ndarray], Output]:
    """Return what classifies an image by the model of a pack, without the engine."""
    model = pack.build(backbone)
    inference = InferenceModel(
        model if dtype == torch.float32 else model.double(),
        pack.info.preprocessing,
        group_prompts=pack.info.uses_group_prompts,
    )

    @torch.inference_mode()
    def run(pixels: np.ndarray) -> Output:
        image = pack.info.preprocessing.normalize(torch.from_numpy(pixels)[None])
        flat = (image if image.ndim == 4 else image[0]).to(dtype)
        if inference.constants is None:
            return Output(model.forward_shared(flat).mean(0).numpy(), (), None)
        output = model(flat, constants=inference.constants)
        return Output(output.cosines.mean(0).numpy(), tuple(output.groups[0].tolist()), None)

    return run


def compare(got: Sequence[Output], expected: Sequence[Output], tolerance: float) -> None:
    for mixed, single in zip(got, expected, strict=True):
        scale = max(1.0, float(np.abs(single.scores).max()))  # logits of a linear head are not bounded
        np.testing.assert_allclose(mixed.scores / scale, single.scores / scale, rtol=0, atol=tolerance)
        assert mixed.groups == single.groups


@pytest.fixture(scope="module")
def tiny(tiny_backbone: Path) -> FrozenViT:
    return lpt.load_backbone("tiny", checkpoint=tiny_backbone)


@pytest.mark.parametrize("seed", range(6))
def test_a_mixed_batch_gives_what_each_pack_gives_alone(seed: int, tiny: FrozenViT, tmp_path: Path) -> None:
    packs = drawn_packs(seed, 9, tmp_path, tiny)
    engine = TorchEngine(tiny)
    loaded = [engine.load(pack) for pack in packs]
    draw = random.Random(seed)
    chosen = [draw.randrange(len(packs)) for _ in range(20)]
    pixels = [drawn_pixels(packs[index], number) for number, index in enumerate(chosen)]
    got = engine.run([(loaded[index], image) for index, image in zip(chosen, pixels, strict=True)])
    models = [alone(pack, tiny, torch.float32) for pack in packs]
    compare(got, [models[index](image) for index, image in zip(chosen, pixels, strict=True)], 1e-6)
