"""Baselines: the probe, the logit-adjusted loss, full fine-tuning."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer

from lpt.data.manifest import LabelledImages
from lpt.data.transforms import Preprocessing
from lpt.errors import ConfigError, RunError
from lpt.methods.fine_tuning import FineTuned, fine_tune
from lpt.methods.linear_probe import choose_weight_decay, linear_probe
from lpt.methods.logit_adjustment import LogitAdjusted
from lpt.methods.training import Budget
from lpt.model import FrozenViT
from lpt.model.pretrained import weight_hash

PREPROCESSING = Preprocessing(
    size=(16, 16),
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    interpolation="bilinear",
    test_crop=1.0,
    crop_area=(0.8, 1.0),
    crop_aspect=(0.9, 1.1),
    flip=False,
)
BUDGET = Budget(steps=12, batch_size=16, warmup_steps=2, seed=3)


class Pictures:
    """Noise on three brightnesses, one for each class."""

    def __init__(self, labels: np.ndarray) -> None:
        random = np.random.default_rng(0)
        noise = random.integers(0, 40, (len(labels), 16, 16, 3))
        self._pixels = (noise + 80 * labels[:, None, None, None]).astype(np.uint8)

    def __len__(self) -> int:
        return len(self._pixels)

    def read(self, row: int) -> Image.Image:
        return Image.fromarray(self._pixels[row])

    def name(self, row: int) -> str:
        return f"picture {row}"


@pytest.fixture(scope="module")
def images() -> LabelledImages:
    labels = np.repeat(np.arange(3), (16, 6, 2)).astype(np.int64)
    return LabelledImages(Pictures(labels), np.arange(len(labels)), labels, ("dark", "grey", "light"))


@pytest.fixture
def backbone() -> FrozenViT:
    torch.manual_seed(0)
    return FrozenViT(VisionTransformer(img_size=16, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=0))


def blobs(counts: tuple[int, ...], spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian blobs around far corners, [n, 6]."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    centres = np.eye(len(counts), 6) * 4
    return (centres[labels] + spread * random.standard_normal((len(labels), 6))).astype(np.float32), labels


def test_logit_adjustment_by_hand() -> None:
    # pi = (3/4, 1/4); logits (1, 2) become (1 + ln 3/4, 2 + ln 1/4), whose exponentials are 3e/4 and e^2/4
    loss = LogitAdjusted([3, 1])(torch.tensor([[1.0, 2.0]]), torch.tensor([1]))
    expected = -math.log((math.e**2 / 4) / (3 * math.e / 4 + math.e**2 / 4))
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_logit_adjustment_without_strength_is_cross_entropy() -> None:
    logits, labels = torch.randn(5, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0])
    adjusted = LogitAdjusted([9, 3, 1, 0], tau=0)(logits, labels)
    assert torch.equal(adjusted, torch.nn.functional.cross_entropy(logits, labels))
    even = LogitAdjusted([5, 5, 5, 5])(logits, labels)
    assert torch.allclose(even, adjusted)


@pytest.mark.parametrize(("counts", "tau"), [([4], 1.0), ([4, -1], 1.0), ([4, 2], -1.0), ([4, 2], math.nan)])
def test_logit_adjustment_refuses(counts: list[int], tau: float) -> None:
    with pytest.raises(ConfigError, match="logit adjustment"):
        LogitAdjusted(counts, tau)


@pytest.mark.parametrize("scaling", ["standardise", "unit"])
@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_probe_recovers_separable_classes(scaling: str, tau: float) -> None:
    features, labels = blobs((40, 12, 4), 0.3)
    probe = linear_probe(features, labels, 3, tau=tau, scaling=scaling)
    fresh, truth = blobs((30, 30, 30), 0.3, seed=1)
    assert (probe.logits(fresh).argmax(1) == truth).all()
    assert probe.parameters == 3 * 6 + 3


def test_probe_is_at_the_minimum() -> None:
    features, labels = blobs((30, 10, 3), 2.0)
    probe = linear_probe(features, labels, 3, weight_decay=0.01)
    x = (torch.from_numpy(features).double() - probe.shift) * probe.factor
    weight, bias = probe.weight.clone().requires_grad_(), probe.bias.clone().requires_grad_()
    loss = LogitAdjusted([30, 10, 3])(x @ weight.T + bias, torch.from_numpy(labels))
    (loss + 0.005 * weight.square().sum()).backward()
    assert weight.grad is not None
    assert bias.grad is not None
    assert max(float(weight.grad.abs().max()), float(bias.grad.abs().max())) < 1e-5


def test_adjusted_probe_is_fairer_to_the_rare_class() -> None:
    features, labels = blobs((200, 5), 3.0)
    fresh, truth = blobs((200, 200), 3.0, seed=1)
    recall = []
    for tau in (0.0, 1.0):
        probe = linear_probe(features, labels, 2, tau=tau, weight_decay=0.1)
        recall.append(float((probe.logits(fresh).argmax(1) == 1)[truth == 1].mean()))
    assert recall[1] > recall[0] + 0.1


def test_probe_folds_its_scaling_into_a_plain_head() -> None:
    features, labels = blobs((30, 10, 3), 1.0)
    probe = linear_probe(10 * features + 5, labels, 3, weight_decay=0.01)
    weight, bias = probe.plain_head()
    plain = torch.from_numpy(10 * features + 5) @ weight.T + bias
    assert np.allclose(plain.numpy(), probe.logits(10 * features + 5), atol=1e-3)


def test_probe_copes_with_constant_features_and_classes_of_one_image() -> None:
    features, labels = blobs((10, 4, 1), 0.3)
    features[:, 5] = 7
    probe = linear_probe(features, labels, 4, seed=2)  # class 3 has no image at all
    logits = probe.logits(features)
    assert np.isfinite(logits).all()
    assert (logits.argmax(1) == labels).all()


def test_weight_decay_follows_the_seed_and_the_data() -> None:
    noisy, labels = blobs((40, 12, 4), 4.0)
    assert choose_weight_decay(noisy, labels, 3, seed=1) == choose_weight_decay(noisy, labels, 3, seed=1)
    clear, labels = blobs((40, 12, 4), 0.1)
    assert choose_weight_decay(clear, labels, 3) < choose_weight_decay(noisy, labels, 3)


def test_budget_rises_and_falls() -> None:
    rates = [BUDGET.rate(step) for step in range(BUDGET.steps)]
    assert max(rates) == rates[BUDGET.warmup_steps] == 1
    assert 0 < rates[0] < rates[1] < 1
    assert 0 < rates[-1] < 0.1
    assert BUDGET.image_draws == 12 * 16


def tensors(tuned: FineTuned) -> list[torch.Tensor]:
    return [*tuned.backbone.parameters(), *tuned.head.parameters()]


def test_fine_tuning_learns_and_leaves_the_backbone_alone(backbone: FrozenViT, images: LabelledImages) -> None:
    before = weight_hash(backbone.vit)
    done: list[int] = []
    budget = replace(BUDGET, steps=30)
    tuned = fine_tune(backbone, images, PREPROCESSING, budget, lr=1e-3, head_lr=1e-2, progress=done.append)
    assert weight_hash(backbone.vit) == before != weight_hash(tuned.backbone.vit)
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert done == list(range(1, 31))
    assert (tuned.logits(images).argmax(1) == images.labels).mean() > 0.9
    assert tuned.parameters == sum(parameter.numel() for parameter in backbone.parameters()) + 3 * 32 + 3
    assert tuned.stored_bytes == 4 * tuned.parameters


@pytest.mark.parametrize("sampling", ["instance", "balanced"])
def test_fine_tuning_follows_the_seed_alone(backbone: FrozenViT, images: LabelledImages, sampling: str) -> None:
    budget = replace(BUDGET, steps=3, sampling=sampling)
    first = tensors(fine_tune(backbone, images, PREPROCESSING, budget))
    torch.rand(7)  # the global generator plays no part
    again = tensors(fine_tune(backbone, images, PREPROCESSING, budget))
    other = tensors(fine_tune(backbone, images, PREPROCESSING, replace(budget, seed=4)))
    assert all(map(torch.equal, first, again))
    assert not all(map(torch.equal, first, other))


def test_layer_decay_moves_the_first_blocks_less(backbone: FrozenViT, images: LabelledImages) -> None:
    budget = replace(BUDGET, steps=2)
    tuned = fine_tune(backbone, images, PREPROCESSING, budget, lr=1e-3, layer_decay=0.1)
    moved = [
        float((new.attn.qkv.weight - old.attn.qkv.weight).abs().max())
        for new, old in zip(tuned.backbone.vit.blocks, backbone.vit.blocks, strict=True)
    ]
    assert 0 < moved[0] < 0.3 * moved[1]


def test_fine_tuning_starts_at_a_given_head(backbone: FrozenViT, images: LabelledImages) -> None:
    head = torch.randn(3, 32), torch.randn(3)
    tuned = fine_tune(backbone, images, PREPROCESSING, replace(BUDGET, steps=0), head=head)
    assert torch.equal(tuned.head.weight, head[0])
    assert torch.equal(tuned.head.bias, head[1])


def test_fine_tuning_stops_at_a_loss_that_is_not_finite(backbone: FrozenViT, images: LabelledImages) -> None:
    head = torch.full((3, 32), torch.inf), torch.zeros(3)
    with pytest.raises(RunError, match="step 0"):
        fine_tune(backbone, images, PREPROCESSING, BUDGET, head=head)
