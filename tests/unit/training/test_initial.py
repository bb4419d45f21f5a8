"""What training starts from is taken from the data as said: tokens as timm's blocks see them, all classes alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lpt.data.images import ArrayImages
from lpt.data.loading import evaluation_batches
from lpt.data.manifest import LabelledImages
from lpt.model import LPT, FrozenViT
from lpt.training import initial
from lpt.training.initial import block_tokens, groups_from_shared, keys_from_queries, token_centres
from oracle import small_vit
from samples import PREPROCESSING


def photographs(counts: tuple[int, ...]) -> LabelledImages:
    labels = np.repeat(np.arange(len(counts)), counts)
    pixels = np.random.default_rng(2).integers(0, 256, (len(labels), 12, 12, 3), dtype=np.uint8)
    return LabelledImages(ArrayImages(pixels), np.arange(len(labels)), labels, tuple("abcde"[: len(counts)]))


@pytest.mark.parametrize("at_once", [2, 1])
def test_block_tokens_are_what_enters_each_block(at_once: int) -> None:
    backbone, images = FrozenViT(small_vit(dtype=torch.float32)), photographs((3, 1))
    tokens = block_tokens(backbone, images, PREPROCESSING, 0, blocks=backbone.depth, batch_size=2, at_once=at_once)
    entering: list[Tensor] = []
    hooks = [
        block.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0])) for block in backbone.vit.blocks
    ]
    for batch in evaluation_batches(images, batch_size=4, preprocessing=PREPROCESSING, workers=0):
        backbone.vit.forward_features(PREPROCESSING.normalize(batch.images))
    for hook in hooks:
        hook.remove()
    prefix = backbone.vit.num_prefix_tokens
    assert tokens.shape == (backbone.depth, 4 * (backbone.tokens - prefix), backbone.width)
    for layer_tokens, seen in zip(tokens, entering, strict=True):
        expected = seen[:, prefix:].flatten(0, 1)
        distance = torch.cdist(layer_tokens.double(), expected.double())
        assert distance.amin(dim=1).max() < 1e-4  # each is one of them ...
        assert sorted(distance.argmin(dim=1).tolist()) == list(range(len(expected)))  # ... and each once


def test_image_tokens_do_not_go_by_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initial, "TOKENS_PER_IMAGE", 2)
    backbone, images = FrozenViT(small_vit(dtype=torch.float32)), photographs((3, 2))
    some, all_ = (
        block_tokens(backbone, images, PREPROCESSING, 0, blocks=2, batch_size=3, at_once=at_once) for at_once in (2, 3)
    )
    torch.testing.assert_close(some, all_)


def test_image_tokens_are_drawn_from_all_classes_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initial, "TOKENS_PER_IMAGE", 2)
    monkeypatch.setattr(initial, "TOKEN_IMAGES", 4)
    backbone = FrozenViT(small_vit(dtype=torch.float32))
    tokens = block_tokens(backbone, photographs((9, 5, 1)), PREPROCESSING, 0, blocks=1, batch_size=3, at_once=3)
    assert tokens.shape == (1, 4 * 2, backbone.width)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any), st.integers(1, 40), st.integers(0, 5))
def test_classes_take_turns(counts: list[int], count: int, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    rows = initial._classes_in_turn(labels, count, seed)
    assert len(set(rows.tolist())) == len(rows) == min(count, sum(counts))
    drawn = np.bincount(labels[rows], minlength=len(counts))
    short = drawn < counts  # a class with images left has at most one less than any other
    assert not short.any() or drawn[short].min() >= drawn.max() - 1


def test_token_centres_find_clusters() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = 10 * torch.randn(2, 3, 8, generator=generator)
    tokens = (truth[:, :, None] + 0.01 * torch.randn(2, 3, 50, 8, generator=generator)).flatten(1, 2)
    centres = token_centres(tokens, 3, seed=0)
    for block_centres, expected in zip(centres, truth, strict=True):
        nearest = torch.cdist(expected, block_centres)
        assert nearest.amin(dim=1).max() < 0.05
        assert sorted(nearest.argmin(dim=1).tolist()) == [0, 1, 2]


def test_more_prompts_than_tokens_are_no_error() -> None:
    centres = token_centres(torch.ones(1, 2, 4), 5, seed=0)
    assert torch.equal(centres, torch.ones(1, 5, 4))


def test_keys_start_at_unit_centres_of_the_queries() -> None:
    model = LPT(FrozenViT(small_vit(dtype=torch.float32)), 3, prompt_length=2, pool_size=2, top_k=1)
    generator = torch.Generator().manual_seed(0)
    directions = torch.eye(model.backbone.width)[:2]
    length = 0.5 + torch.rand(40, 1, generator=generator)
    queries = length * directions.repeat_interleave(20, 0) + 1e-3 * torch.randn(
        40, model.backbone.width, generator=generator
    )
    keys_from_queries(model, queries.numpy(), seed=0)
    cosines = directions @ model.groups.keys.detach().T
    assert torch.allclose(cosines.amax(dim=1), torch.ones(2), atol=1e-4)
    assert torch.allclose(model.groups.keys.norm(dim=-1), torch.ones(2), atol=1e-5)


def test_group_prompts_can_start_at_the_shared_prompt() -> None:
    model = LPT(FrozenViT(small_vit(dtype=torch.float32)), 3, prompt_length=2, pool_size=5, top_k=2)
    with torch.no_grad():
        model.shared.tokens.normal_()
    drawn = model.groups.prompts.detach().clone()
    groups_from_shared(model)
    for group, random in zip(model.groups.prompts, drawn, strict=True):
        assert torch.allclose(group, model.shared.tokens[model.shared_blocks :] + random)
