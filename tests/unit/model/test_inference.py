"""An InferenceModel gives what its model gives."""

from __future__ import annotations

import pytest
import torch

from lpt.model import LPT, FrozenViT
from lpt.model.inference import InferenceModel
from oracle import (
    random_images,
    small_vit,
)
from samples import PREPROCESSING


def test_scores_of_views_are_averaged_and_the_first_view_picks() -> None:
    """Five crops of an image count as one prediction; images do not mix."""
    model = LPT(FrozenViT(small_vit()), 6).double()
    views = torch.stack([random_images(seed=seed) for seed in range(3)], dim=1)
    scores, groups = InferenceModel(model, PREPROCESSING, group_prompts=True).scores(views)
    alone = [model(views[:, view]) for view in range(3)]
    torch.testing.assert_close(scores, torch.stack([output.cosines for output in alone]).mean(dim=0).float())
    assert torch.equal(groups, alone[0].groups)  # type: ignore[arg-type]
    shared, none = InferenceModel(model, PREPROCESSING, group_prompts=False).scores(views[:, 0])
    torch.testing.assert_close(shared, model.forward_shared(views[:, 0]).float())
    assert none is None


def test_pixels_are_normalised_before_they_are_classified() -> None:
    """`classify` takes what the test transform gives, `scores` what the backbone takes."""
    model = InferenceModel(LPT(FrozenViT(small_vit()), 6).double(), PREPROCESSING, group_prompts=True)
    pixels = torch.randint(0, 256, random_images().shape, dtype=torch.uint8)
    mean, std = (torch.tensor(values)[:, None, None] for values in (PREPROCESSING.mean, PREPROCESSING.std))
    expected = model.scores((pixels / 255 - mean) / std)
    torch.testing.assert_close(model.classify(pixels).scores, expected.scores)
    assert torch.equal(model.classify(pixels).groups, expected.groups)  # type: ignore[arg-type]
    assert model.num_classes == 6


def test_constants_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any number of batches use the keys and values of the shared prompt from the start; without phase 2, none."""
    computed: list[LPT] = []
    original = LPT.shared_constants
    monkeypatch.setattr(LPT, "shared_constants", lambda self: computed.append(self) or original(self))
    lpt = LPT(FrozenViT(small_vit()), 6).double()
    model = InferenceModel(lpt, PREPROCESSING, group_prompts=True)
    for seed in range(3):
        model.scores(random_images(seed=seed))
    assert computed == [lpt]
    assert InferenceModel(lpt, PREPROCESSING, group_prompts=False).constants is None
