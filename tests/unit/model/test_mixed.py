"""Images of different tunings run together as each model runs alone: in float64, on backbones of every kind."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from benchmarks.serving.random_packs import random_model
from timm.layers import RmsNorm
from torch import Tensor

from drawn_sizes import drawn_architecture
from lpt.config.architecture import Architecture
from lpt.model import LPT, Classifier, FrozenViT
from lpt.model.mixed import classify
from lpt.model.tuning import Tuning
from oracle import random_images, small_vit

BACKBONES: dict[str, dict[str, Any]] = {
    "plain": {},
    "registers": {"reg_tokens": 2, "init_values": 0.1},
    "qk_norm": {"qk_norm": True, "norm_layer": RmsNorm},
    "pre_norm": {"pre_norm": True, "no_embed_class": True},
}


def mixable(count: int, seed: int, backbone: FrozenViT) -> list[tuple[Architecture, Classifier, bool]]:
    """Draw methods that may share a batch: they leave the backbone frozen, and no prompt enters before block 1."""
    draw = random.Random(seed)
    drawn: list[tuple[Architecture, Classifier, bool]] = []
    while len(drawn) < count:
        architecture, phases = drawn_architecture(draw)
        if architecture.prompts != "shallow" and architecture.weights == "none":
            model = random_model(backbone, architecture, draw.randint(2, 9), seed + len(drawn)).double()
            drawn.append((architecture, model, 2 in phases))
    return drawn


@torch.no_grad()
def alone(model: Classifier, image: Tensor, *, grouped: bool) -> tuple[Tensor, tuple[int, ...]]:
    if not grouped or not isinstance(model, LPT):
        return model.forward_shared(image[None])[0], ()
    output = model(image[None])
    return output.cosines[0], tuple(output.groups[0].tolist())


@pytest.mark.parametrize("kind", BACKBONES)
@pytest.mark.parametrize("seed", [0, 20, 40])
def test_each_image_gets_what_its_model_gives(kind: str, seed: int) -> None:
    """Also the attention: it adds up to less than 1 where prompts and prefix tokens take their share."""
    backbone = FrozenViT(small_vit(**BACKBONES[kind]))
    drawn = mixable(10, seed, backbone)
    tunings = [Tuning.of(a, model.state_dict(), backbone, group_prompts=grouped) for a, model, grouped in drawn]
    draw = random.Random(seed)
    chosen = [draw.randrange(len(drawn)) for _ in range(17)]
    images = random_images(len(chosen), seed=seed)
    outputs = classify(backbone, images, [tunings[index] for index in chosen], attention=True)
    for index, image, output in zip(chosen, images, outputs, strict=True):
        _, model, grouped = drawn[index]
        scores, groups = alone(model, image, grouped=grouped)
        assert torch.allclose(output.scores, scores, rtol=1e-10, atol=1e-10)
        assert output.groups == groups
        assert output.attention is not None
        assert output.attention.shape == (3, 3)
        assert 0 < float(output.attention.sum()) < 1
