"""A FrozenViT stays frozen, and takes other input sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.layers import HybridEmbed
from torch import nn

from lpt.model import LPT, FrozenViT
from oracle import PARAMETERS, random_images, relative_error, small_vit
from pairs import textbook_and_lpt

# --- frozen ----------------------------------------------------------------------------------------------------------


def assert_eval(module: nn.Module) -> None:
    training = [name for name, part in module.named_modules() if part.training]
    assert not training, f"in training mode: {training[:5]}"


def test_always_in_eval() -> None:
    """train() on the backbone, or on a model or a container that holds it, leaves it in eval."""
    vit = small_vit().train()
    frozen = FrozenViT(vit)
    assert_eval(frozen)
    frozen.train()
    assert_eval(frozen)
    lpt = LPT(frozen, num_classes=3, prompt_length=2, shared_blocks=1, pool_size=4)
    assert lpt.train() is lpt
    assert lpt.training
    assert_eval(frozen)
    nn.ModuleList([lpt, frozen]).train()
    assert_eval(frozen)
    lpt.eval()
    assert not lpt.training


def test_never_trainable() -> None:
    """No parameter requires a gradient, also when somebody turns everything on."""
    frozen = FrozenViT(small_vit())
    parameters = list(frozen.parameters())
    assert len(parameters) > 10, "the backbone's parameters are there to be moved and hashed"
    lpt = LPT(frozen, num_classes=3, prompt_length=2, shared_blocks=1, pool_size=4)
    attempts: dict[str, Callable[[], Any]] = {
        "as built": lambda: None,
        "lpt.train()": lpt.train,
        "lpt.requires_grad_()": lambda: lpt.requires_grad_(True),
        "frozen.requires_grad_()": lambda: frozen.requires_grad_(True),
    }
    for attempt, turn_on in attempts.items():
        turn_on()
        assert not any(parameter.requires_grad for parameter in frozen.parameters()), attempt


def test_four_trainable_tensors() -> None:
    """What an optimiser is given is the four tensors, whatever else parameters() may list."""
    lpt = LPT(FrozenViT(small_vit()), num_classes=3, prompt_length=2, shared_blocks=1, pool_size=4)
    trainable = {name for name, parameter in lpt.named_parameters() if parameter.requires_grad}
    assert trainable == set(PARAMETERS)
    assert len([p for p in lpt.parameters() if p.requires_grad]) == 4


def test_dropout_of_the_backbone_has_no_effect() -> None:
    """Rates set in the backbone act in training mode only, and it never is in training mode."""
    rates: dict[str, Any] = dict(
        drop_rate=0.5, pos_drop_rate=0.5, patch_drop_rate=0.5, proj_drop_rate=0.5, attn_drop_rate=0.5
    )
    plain, dropping = small_vit(), small_vit(drop_path_rate=0.5, **rates)
    dropping.load_state_dict(plain.state_dict())
    _, first = textbook_and_lpt(plain)
    _, second = textbook_and_lpt(dropping.train())
    images = random_images()
    for model in (first, second):
        model.train()
    assert torch.equal(first.query(images), second.query(images))
    assert torch.equal(first(images).cosines, second(images).cosines)
    assert torch.equal(second.forward_shared(images), second.forward_shared(images))


def test_batch_statistics_of_a_hybrid_stay() -> None:
    """A convolutional patch embedding's running means are part of the frozen backbone."""

    def embed(**kwargs: Any) -> HybridEmbed:
        stem = nn.Sequential(nn.Conv2d(3, 6, 2, stride=2), nn.BatchNorm2d(6))
        return HybridEmbed(stem, **{**kwargs, "patch_size": 4})

    _, lpt = textbook_and_lpt(small_vit(embed_layer=embed))
    lpt.train()
    first = lpt(random_images(seed=1)).cosines
    lpt(random_images(seed=2) * 5)
    assert torch.equal(lpt(random_images(seed=1)).cosines, first)


# --- other input sizes -----------------------------------------------------------------------------------------------


def small_hybrid(**kwargs: Any) -> HybridEmbed:
    """A stem without `feature_info`, as timm's own hybrids of the smallest size have; a token is 8x8 pixels."""
    stem = nn.Sequential(nn.Conv2d(3, 6, 2, stride=2), nn.BatchNorm2d(6))
    return HybridEmbed(stem, **{**kwargs, "patch_size": 4})


@pytest.mark.parametrize(
    "kwargs",
    [{}, dict(reg_tokens=2, no_embed_class=True), dict(embed_layer=small_hybrid)],
    ids=["plain", "registers", "hybrid"],
)
def test_at_size_is_timm_resized(kwargs: dict[str, Any]) -> None:
    """Another input size is what timm's set_input_size gives, and leaves the backbone it was made from as it was."""
    vit, resized = small_vit(**kwargs), small_vit(**kwargs)
    resized.set_input_size(img_size=(16, 40))
    frozen = FrozenViT(vit)
    images = random_images(size=(16, 40))
    with torch.no_grad():
        before = frozen.features(random_images())
        other = frozen.at_size((16, 40))
        assert relative_error(other.features(images), resized.forward_features(images)[:, 0]) < 1e-9
        assert torch.equal(frozen.features(random_images()), before)
        assert relative_error(other.at_size((24, 24)).features(random_images()), before) < 1e-12


@pytest.mark.parametrize("kwargs", [{}, dict(embed_layer=small_hybrid)], ids=["plain", "hybrid"])
def test_at_size_after_a_move(kwargs: dict[str, Any]) -> None:
    """A resized backbone that was moved (or an LPT around it) can be resized again: no tensor stays behind."""
    frozen = FrozenViT(small_vit(dtype=torch.float32, **kwargs))
    moved = frozen.at_size((16, 40))
    LPT(moved, num_classes=3, prompt_length=2, shared_blocks=1, pool_size=4).to(torch.bfloat16)
    again = moved.at_size((40, 16))
    floating = [tensor for tensor in again.state_dict().values() if tensor.is_floating_point()]
    assert {tensor.dtype for tensor in floating} == {torch.bfloat16}
    with torch.no_grad():
        assert again.features(random_images(size=(40, 16), dtype=torch.float32)).isfinite().all()
