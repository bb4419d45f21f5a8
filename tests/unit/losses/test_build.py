"""Test that a configuration becomes the loss that it names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from loss_inputs import COUNTS, loss_and_gradient, random_cosines, random_labels

from lpt.config.schema import LossConfig
from lpt.losses import (
    GCL,
    LDAM,
    AsymmetricGCL,
    BalancedSoftmax,
    CrossEntropy,
    Focal,
    LogitAdjusted,
    LongTailedLoss,
    effective_number_weights,
    inverse_frequency_weights,
)
from lpt.losses.build import new_loss

SETTINGS: dict[str, Any] = dict(
    scale=7.0, margin=0.2, ldam_margin=0.3, noise=0.4, label_smoothing=0.15, gamma_balanced=(1.0, 2.0),
    gamma_instance=(3.0, 4.0), focal_gamma=1.5, tau=0.7,
)  # fmt: skip


@pytest.mark.parametrize("stream", ["balanced", "instance"])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gcl", GCL(COUNTS, 7.0, 0.4, 0.15)),
        ("cross_entropy", CrossEntropy(COUNTS, 7.0, 0.15)),
        ("focal", Focal(COUNTS, 7.0, 1.5)),
        ("logit_adjusted", LogitAdjusted(COUNTS, 0.7, 7.0, 0.15)),
        ("balanced_softmax", BalancedSoftmax(COUNTS, 7.0, 0.15)),
        ("ldam", LDAM(COUNTS, 7.0, 0.3)),
    ],
)
def test_a_loss_has_the_settings_of_the_configuration(name: str, expected: LongTailedLoss, stream: str) -> None:
    """Value and gradient are those of the loss with the same settings, bit for bit."""
    same_loss(new_loss(LossConfig(name=name, **SETTINGS), COUNTS, stream), expected)


@pytest.mark.parametrize(("stream", "gammas"), [("balanced", (1.0, 2.0)), ("instance", (3.0, 4.0))])
def test_a_gcl_has_the_exponents_of_its_stream(stream: str, gammas: tuple[float, float]) -> None:
    expected = AsymmetricGCL(COUNTS, *gammas, 7.0, 0.2, 0.4, 0.15)
    same_loss(new_loss(LossConfig(name="a_gcl", **SETTINGS), COUNTS, stream), expected)


@pytest.mark.parametrize(
    ("reweighting", "weights"),
    [
        ("none", None),
        ("inverse_frequency", inverse_frequency_weights(COUNTS)),
        ("effective_number", effective_number_weights(COUNTS, 0.99)),
    ],
)
def test_a_loss_has_the_class_weights_of_the_configuration(reweighting: Any, weights: torch.Tensor | None) -> None:
    settings = LossConfig(name="cross_entropy", reweighting=reweighting, effective_beta=0.99, **SETTINGS)
    same_loss(new_loss(settings, COUNTS, "instance"), CrossEntropy(COUNTS, 7.0, 0.15, weights))


@pytest.mark.parametrize(
    ("name", "tau", "adjustment"),
    [
        ("logit_adjusted", 0.7, 0.7),
        ("logit_adjusted", 0.0, 0.0),
        ("balanced_softmax", 0.7, 1.0),
        ("cross_entropy", 0.7, 0.0),
        ("a_gcl", 0.7, 0.0),
    ],
)
def test_the_strength_of_the_logit_adjustment(name: Any, tau: float, adjustment: float) -> None:
    assert LossConfig(name=name, tau=tau).adjustment == adjustment


def same_loss(loss: LongTailedLoss, expected: LongTailedLoss) -> None:
    scores, labels, noise = random_cosines(9, 6), random_labels(9, 6), random_cosines(9, 6, seed=4)
    for ours, theirs in zip(
        loss_and_gradient(loss, scores, labels, noise), loss_and_gradient(expected, scores, labels, noise), strict=True
    ):
        assert torch.equal(ours, theirs)
