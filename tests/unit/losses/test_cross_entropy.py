"""Test cross-entropy, focal loss, logit adjustment and LDAM against numbers by hand and against each other."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_inputs import COUNTS, loss_and_gradient, random_cosines, random_labels
from torch.nn.functional import cross_entropy

from lpt.losses import LDAM, BalancedSoftmax, CrossEntropy, Focal, LogitAdjusted, LongTailedLoss
from oracle import relative_error

# exp of these logits: 1, 2, 5; with label 1 p_y is 2/8.
LOGITS = torch.tensor([[0.0, math.log(2), math.log(5)]], dtype=torch.float64)
LABEL = torch.tensor([1])
quick = settings(max_examples=40, deadline=None)


def value(loss: LongTailedLoss) -> float:
    return float(loss(LOGITS, LABEL))


def test_cross_entropy_by_hand() -> None:
    assert value(CrossEntropy([1, 1, 1])) == pytest.approx(math.log(4), rel=1e-12)
    # scale 2 squares the exponentials: 1, 4, 25
    assert value(CrossEntropy([1, 1, 1], scale=2.0)) == pytest.approx(math.log(30 / 4), rel=1e-12)
    # smoothing 0.3: targets 0.1, 0.8, 0.1 on log probabilities of 1/8, 2/8, 5/8
    smoothed = 0.1 * math.log(8) + 0.8 * math.log(4) + 0.1 * math.log(8 / 5)
    assert value(CrossEntropy([1, 1, 1], label_smoothing=0.3)) == pytest.approx(smoothed, rel=1e-12)
    # weights 2, 1, 1 on counts 2, 1, 1: their mean over the four images is 6/4, so that class 1 weighs 2/3
    weighted = CrossEntropy([2, 1, 1], class_weights=[2.0, 1.0, 1.0])
    assert value(weighted) == pytest.approx(2 / 3 * math.log(4), rel=1e-12)


def test_focal_by_hand() -> None:
    assert value(Focal([1, 1, 1])) == pytest.approx(0.75**2 * math.log(4), rel=1e-12)
    assert value(Focal([1, 1, 1], gamma=0.5)) == pytest.approx(math.sqrt(0.75) * math.log(4), rel=1e-12)
    squared = (26 / 30) ** 3 * math.log(30 / 4)
    assert value(Focal([1, 1, 1], scale=2.0, gamma=3.0)) == pytest.approx(squared, rel=1e-12)
    weighted = Focal([2, 1, 1], class_weights=[2.0, 1.0, 1.0])
    assert value(weighted) == pytest.approx(2 / 3 * 0.75**2 * math.log(4), rel=1e-12)


@quick
@given(seed=st.integers(0, 1000), scale=st.sampled_from([1.0, 20.0]), classes=st.integers(2, 6))
def test_focal_without_focus_is_cross_entropy(seed: int, scale: float, classes: int) -> None:
    scores, labels = random_cosines(5, classes, seed), random_labels(5, classes, seed)
    focal = loss_and_gradient(Focal([3] * classes, scale, gamma=0.0), scores, labels)
    expected = loss_and_gradient(CrossEntropy([3] * classes, scale), scores, labels)
    for ours, theirs in zip(focal, expected, strict=True):
        assert relative_error(ours, theirs) < 1e-12


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
def test_focal_is_finite_where_the_label_is_certain(scale: float, dtype: torch.dtype, gamma: float) -> None:
    """Also where p_y rounds to 1 or 0. The plain (1 - p_y)^0.5 has an infinite slope at p_y = 1."""
    for sign in (1.0, -1.0):
        for classes in (2, 1000):
            scores = torch.full((1, classes), -sign, dtype=dtype)
            scores[0, 0] = sign
            loss, gradient = loss_and_gradient(Focal([1] * classes, scale, gamma), scores, torch.tensor([0]))
            assert torch.isfinite(loss)
            assert torch.isfinite(gradient).all()
            assert loss >= 0


def test_logit_adjustment_by_hand() -> None:
    """Counts 6, 3, 1: the numbers n_c ** tau * exp(z_c) are 6, 6, 5 for tau 1 and 36, 18, 5 for tau 2."""
    assert value(LogitAdjusted([6, 3, 1])) == pytest.approx(math.log(17 / 6), rel=1e-12)
    assert value(LogitAdjusted([6, 3, 1], 2.0)) == pytest.approx(math.log(59 / 18), rel=1e-12)
    # the scale is on the scores alone: 6 * 1, 3 * 4, 1 * 25
    assert value(LogitAdjusted([6, 3, 1], scale=2.0)) == pytest.approx(math.log(43 / 12), rel=1e-12)
    smoothed = 0.1 * math.log(17 / 6) + 0.8 * math.log(17 / 6) + 0.1 * math.log(17 / 5)
    assert value(LogitAdjusted([6, 3, 1], label_smoothing=0.3)) == pytest.approx(smoothed, rel=1e-12)
    assert value(LogitAdjusted([6, 3, 0])) == pytest.approx(math.log(17 / 6), rel=1e-12)  # 0 counts as 1
    # weights 1, 1, 4 over ten images: mean 13/10
    weighted = LogitAdjusted([6, 3, 1], class_weights=[1.0, 1.0, 4.0])
    assert value(weighted) == pytest.approx(10 / 13 * math.log(17 / 6), rel=1e-12)


def test_balanced_softmax_by_hand() -> None:
    assert value(BalancedSoftmax([6, 3, 1])) == pytest.approx(math.log(17 / 6), rel=1e-12)
    assert value(BalancedSoftmax([6, 3, 1], scale=2.0)) == pytest.approx(math.log(43 / 12), rel=1e-12)
    arguments = dict(scale=3.0, label_smoothing=0.1, class_weights=[1.0, 2.0, 3.0])
    assert value(BalancedSoftmax([6, 3, 1], **arguments)) == value(LogitAdjusted([6, 3, 1], 1.0, **arguments))


@quick
@given(
    seed=st.integers(0, 1000),
    count=st.integers(0, 500),
    classes=st.integers(2, 6),
    tau=st.sampled_from([0.0, 1.0, 2.5]),
)
def test_logit_adjustment_of_balanced_counts_is_cross_entropy(seed: int, count: int, classes: int, tau: float) -> None:
    """The same log prior for every class shifts all logits by the same amount."""
    scores, labels = random_cosines(5, classes, seed, width=4.0), random_labels(5, classes, seed)
    counts = [count] * classes
    expected = loss_and_gradient(CrossEntropy(counts, 2.0, 0.1), scores, labels)
    adjusted = loss_and_gradient(LogitAdjusted(counts, tau, 2.0, 0.1), scores, labels)
    for ours, theirs in zip(adjusted, expected, strict=True):
        assert relative_error(ours, theirs) < 1e-12


def test_ldam_by_hand() -> None:
    """Counts 1296, 256, 16, fourth roots 6, 4, 2: margins 0.5 times 1/3, 1/2, 1."""
    counts, cosines = [1296, 256, 16], torch.tensor([[0.3, 0.5, 0.1]], dtype=torch.float64)
    loss = LDAM(counts)
    assert loss.margins.tolist() == pytest.approx([0.5 / 3, 0.25, 0.5], rel=1e-12)
    # label 1: 30 * (0.3, 0.5 - 0.25, 0.1) = 9, 7.5, 3
    expected = math.log(math.exp(1.5) + 1 + math.exp(-4.5))
    assert float(loss(cosines, torch.tensor([1]))) == pytest.approx(expected, rel=1e-12)
    # label 2 under margin 0.2 and scale 10: 3, 5, 10 * (0.1 - 0.2) = -1
    expected = math.log(math.exp(4) + math.exp(6) + 1)
    narrow = LDAM(counts, scale=10.0, max_margin=0.2)
    assert float(narrow(cosines, torch.tensor([2]))) == pytest.approx(expected, rel=1e-12)


def test_ldam_margins_of_empty_classes() -> None:
    """The smallest class with images has the largest margin; that of an empty class is not infinite."""
    assert LDAM([256, 16, 0]).margins.tolist() == pytest.approx([0.25, 0.5, 0.5])
    assert LDAM([0, 0]).margins.tolist() == [0.5, 0.5]


def test_ldam_without_margin_is_cross_entropy() -> None:
    cosines, labels = random_cosines(8, 6), random_labels(8, 6)
    expected = cross_entropy(30 * cosines, labels)
    assert relative_error(LDAM(COUNTS, max_margin=0.0)(cosines, labels), expected) < 1e-12


def test_ldam_deferred_reweighting() -> None:
    """DRW: plain LDAM until `reweighted` is switched on."""
    cosines, labels = random_cosines(8, 6), random_labels(8, 6)
    plain, deferred = LDAM(COUNTS), LDAM(COUNTS, class_weights=[1.0, 2, 3, 4, 5, 6])
    deferred.reweighted = False
    assert torch.equal(deferred(cosines, labels), plain(cosines, labels))
    deferred.reweighted = True
    weights = torch.tensor([1.0, 2, 3, 4, 5, 6], dtype=torch.float64)
    counts = torch.tensor(COUNTS, dtype=torch.float64)
    each = plain.per_image(cosines, labels) * (weights / ((counts * weights).sum() / counts.sum()))[labels]
    assert relative_error(deferred(cosines, labels), each.mean()) < 1e-12
