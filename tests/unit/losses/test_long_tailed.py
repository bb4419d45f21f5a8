"""Test what all losses have in common (micro-batches, gradients, precision, checks), and class weights."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_inputs import COUNTS, loss_and_gradient, random_cosines, random_labels
from torch import Tensor
from torch.nn.functional import cross_entropy

import lpt.losses
from lpt.errors import ConfigError
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
from oracle import relative_error

LOSSES: dict[str, Callable[..., LongTailedLoss]] = {
    "cross_entropy": lambda counts, **kw: CrossEntropy(counts, **{"scale": 20.0, **kw}),
    "smoothed": lambda counts, **kw: CrossEntropy(counts, **{"scale": 20.0, "label_smoothing": 0.1, **kw}),
    "focal": lambda counts, **kw: Focal(counts, **{"scale": 20.0, **kw}),
    "focal_half": lambda counts, **kw: Focal(counts, **{"scale": 20.0, "gamma": 0.5, **kw}),
    "logit_adjusted": lambda counts, **kw: LogitAdjusted(counts, **{"scale": 20.0, **kw}),
    "balanced_softmax": lambda counts, **kw: BalancedSoftmax(counts, **{"scale": 20.0, **kw}),
    "ldam": LDAM,
    "gcl": GCL,
    "agcl": lambda counts, **kw: AsymmetricGCL(counts, 0.5, 8.0, **kw),
}
every_loss = pytest.mark.parametrize("new", LOSSES.values(), ids=LOSSES)
WEIGHTS = [0.5, 1.0, 2.0, 0.0, 4.0, 8.0]


# --- every loss ------------------------------------------------------------------------------------------------------


@every_loss
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_additive_over_micro_batches(new: Callable[..., LongTailedLoss], weights: list[float] | None) -> None:
    """The losses of micro-batches, each times its share, add up to the loss of the batch; so do the gradients."""
    loss = new(COUNTS, class_weights=weights)
    scores, labels, noise = random_cosines(9, 6), random_labels(9, 6), random_cosines(9, 6, seed=4)
    whole, gradient = loss_and_gradient(loss, scores, labels, noise)
    total, parts = torch.zeros_like(whole), []
    for cut in (slice(0, 1), slice(1, 6), slice(6, 9)):
        share = (cut.stop - cut.start) / 9
        value, part = loss_and_gradient(loss, scores[cut], labels[cut], noise[cut])
        total, parts = total + share * value, [*parts, share * part]
    assert relative_error(total, whole) < 1e-12
    assert relative_error(torch.cat(parts), gradient) < 1e-12


@every_loss
def test_gradients(new: Callable[..., LongTailedLoss]) -> None:
    """Compare gradients with finite differences in float64."""
    loss = new(COUNTS, class_weights=WEIGHTS)
    scores, labels = random_cosines(5, 6, width=0.2), random_labels(5, 6)
    noise = random_cosines(5, 6, seed=1)
    assert torch.autograd.gradcheck(lambda z: loss(z, labels, noise), scores.requires_grad_(True))


@every_loss
@settings(max_examples=40, deadline=None)
@given(data=st.data(), classes=st.integers(2, 5))
def test_finite_for_every_cosine(new: Callable[..., LongTailedLoss], data: st.DataObject, classes: int) -> None:
    """Check loss and gradient in float32, for every cosine in [-1, 1] and all counts."""
    cosine = st.one_of(st.sampled_from([-1.0, 1.0, 0.0]), st.floats(-1.0, 1.0, width=32))
    row = st.lists(cosine, min_size=classes, max_size=classes)
    scores, noise = torch.tensor([data.draw(row)]), torch.tensor([data.draw(row)])
    counts = data.draw(st.lists(st.integers(0, 3000), min_size=classes, max_size=classes))
    labels = torch.tensor([data.draw(st.integers(0, classes - 1))])
    value, gradient = loss_and_gradient(new(counts), scores, labels, noise)
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_computed_in_float32(new: Callable[..., LongTailedLoss], dtype: torch.dtype) -> None:
    """For any input type and under autocast; the gradient has the input's type."""
    loss = new(COUNTS, class_weights=WEIGHTS)
    scores, labels = random_cosines(8, 6).to(dtype), random_labels(8, 6)
    noise = random_cosines(8, 6, seed=2).float()
    expected, expected_gradient = loss_and_gradient(loss, scores.float(), labels, noise)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, gradient = loss_and_gradient(loss, scores, labels, noise)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    assert torch.equal(gradient, expected_gradient.to(dtype))


@every_loss
def test_equal_weights_change_nothing(new: Callable[..., LongTailedLoss]) -> None:
    """Equal weights with any factor, and weights that are switched off, give the unweighted loss."""
    scores, labels, noise = random_cosines(8, 6), random_labels(8, 6), random_cosines(8, 6, seed=2)
    plain = new(COUNTS)(scores, labels, noise)
    assert relative_error(new(COUNTS, class_weights=[3.0] * 6)(scores, labels, noise), plain) < 1e-12
    off = new(COUNTS, class_weights=WEIGHTS)
    assert off.reweighted
    off.reweighted = False
    assert torch.equal(off(scores, labels, noise), plain)


@every_loss
def test_class_weights_by_hand(new: Callable[..., LongTailedLoss]) -> None:
    """The loss of an image is multiplied by its class weight over the mean weight of the training images."""
    scores, labels, noise = random_cosines(6, 6), torch.arange(6), random_cosines(6, 6, seed=2)
    mean = sum(count * weight for count, weight in zip(COUNTS, WEIGHTS, strict=True)) / sum(COUNTS)
    expected = new(COUNTS).per_image(scores, labels, noise) * torch.tensor(WEIGHTS, dtype=torch.float64) / mean
    loss = new(COUNTS, class_weights=torch.tensor(WEIGHTS))
    assert relative_error(loss.per_image(scores, labels, noise), expected) < 1e-12
    assert relative_error(loss(scores, labels, noise), expected.mean()) < 1e-12


@every_loss
def test_random_numbers(new: Callable[..., LongTailedLoss]) -> None:
    """Only a loss that takes noise draws random numbers, and only if the caller gives none."""
    loss = new(COUNTS)
    scores, labels, noise = random_cosines(4, 6), random_labels(4, 6), random_cosines(4, 6, seed=2)
    before = torch.get_rng_state()
    given_cloud = loss(scores, labels, noise)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    drawn_cloud = loss(scores, labels)
    assert torch.equal(torch.get_rng_state(), before) is not loss.takes_noise
    assert torch.equal(given_cloud, drawn_cloud) is not loss.takes_noise


@every_loss
def test_nothing_of_it_is_saved(new: Callable[..., LongTailedLoss]) -> None:
    """Constants follow the module's device and precision but are not in its state; a copy works too."""
    loss = new(COUNTS, class_weights=WEIGHTS)
    assert not loss.state_dict()
    assert not [*loss.parameters()]
    scores, labels, noise = random_cosines(4, 6), random_labels(4, 6), random_cosines(4, 6, seed=2)
    assert torch.equal(copy.deepcopy(loss)(scores, labels, noise), loss(scores, labels, noise))
    single = copy.deepcopy(loss).to(torch.float32)
    assert {buffer.dtype for buffer in single.buffers()} == {torch.float32}
    assert relative_error(single(scores.float(), labels, noise.float()), loss(scores, labels, noise)) < 1e-5


@every_loss
def test_32_bit_labels(new: Callable[..., LongTailedLoss]) -> None:
    loss = new(COUNTS, class_weights=WEIGHTS)
    scores, labels, noise = random_cosines(4, 6), random_labels(4, 6), random_cosines(4, 6, seed=2)
    assert torch.equal(loss(scores, labels.int(), noise), loss(scores, labels, noise))


@every_loss
@pytest.mark.parametrize(
    ("shape", "labels"),
    [((4, 5), [0, 1, 2, 3]), ((6,), [0]), ((4, 6), [0, 1, 2]), ((4, 6), [0, 1, 2, 6]), ((4, 6), [0, 1, 2, -100]),
     ((4, 6), [0.0, 1.0, 2.0, 3.0])],
    ids=str,
)  # fmt: skip
def test_refuses_batches(new: Callable[..., LongTailedLoss], shape: tuple[int, ...], labels: list[Any]) -> None:
    with pytest.raises(ConfigError):
        new(COUNTS)(torch.zeros(shape), torch.tensor(labels))


@every_loss
@pytest.mark.parametrize(
    ("counts", "arguments", "named"),
    [
        ([5], {}, "at least 2 classes"),
        ([5, -1], {}, "at least 0, got -1"),
        ([5, math.nan], {}, "finite"),
        ([5, 3], {"scale": 0.0}, "scale must be positive"),
        ([5, 3], {"scale": math.inf}, "scale must be positive"),
        ([5, 3], {"class_weights": [1.0]}, r"class_weights must be \[2\]"),
        ([5, 3], {"class_weights": [1.0, -2.0]}, "class_weights must be finite and at least 0, got -2"),
        ([5, 3], {"class_weights": [1.0, math.inf]}, "class_weights must be finite"),
        ([5, 0], {"class_weights": [0.0, 1.0]}, "class_weights must not be 0 for all"),
    ],
    ids=str,
)
def test_refuses_settings(
    new: Callable[..., LongTailedLoss], counts: list[int], arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        new(counts, **arguments)


@pytest.mark.parametrize(
    ("new", "arguments"),
    [
        (CrossEntropy, {"label_smoothing": 1.0}),
        (Focal, {"gamma": -0.5}),
        (Focal, {"gamma": math.nan}),
        (LogitAdjusted, {"tau": -1.0, "label_smoothing": -0.1}),
        (BalancedSoftmax, {"label_smoothing": 2.0}),
        (LDAM, {"max_margin": -0.5}),
        (GCL, {"noise": -0.5, "label_smoothing": 1.5}),
    ],
    ids=str,
)
def test_all_faults_at_once(new: Callable[..., LongTailedLoss], arguments: dict[str, float]) -> None:
    """The error names the loss and all wrong arguments, its own and the common ones."""
    with pytest.raises(ConfigError) as caught:
        new([5], scale=-1.0, **arguments)
    for named in (str(new.title), "class_counts", "scale", *arguments):  # type: ignore[attr-defined]
        assert named in str(caught.value)


def test_losses_load_neither_timm_nor_the_configuration() -> None:
    """The losses take plain parameters: they need no backbone library and no configuration."""
    script = (
        "import lpt.losses, sys; print([m for m in ('timm', 'torchvision', 'lpt.config.schema') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_what_the_package_exports() -> None:
    assert all(hasattr(lpt.losses, name) for name in lpt.losses.__all__)
    assert [name for name, new in LOSSES.items() if new([2, 1]).takes_noise] == ["gcl", "agcl"]


# --- class weights ---------------------------------------------------------------------------------------------------


def batch_of(counts: list[int]) -> tuple[Tensor, Tensor]:
    """Return scores and labels of a batch with exactly the training distribution."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return random_cosines(len(labels), len(counts)), labels


@pytest.mark.parametrize("weights", [inverse_frequency_weights, effective_number_weights])
def test_weighted_as_pytorch_does(weights: Callable[..., Tensor]) -> None:
    """For a batch with the training distribution, value and gradient are those of PyTorch's weighted mean."""
    counts = [23, 9, 4, 1]
    scores, labels = batch_of(counts)
    loss = CrossEntropy(counts, scale=20.0, class_weights=weights(counts))
    value, gradient = loss_and_gradient(loss, scores, labels)
    scores.requires_grad_(True)
    expected = cross_entropy(20 * scores, labels, weight=5 * weights(counts))
    (expected_gradient,) = torch.autograd.grad(expected, scores)
    assert relative_error(value, expected) < 1e-12
    assert relative_error(gradient, expected_gradient) < 1e-12


def test_weights_by_hand() -> None:
    """Counts 8, 2, 0: the two classes with images get weight 10 / (2 n_c)."""
    assert inverse_frequency_weights([8, 2, 0]).tolist() == pytest.approx([0.625, 2.5, 0.0], rel=1e-12)
    # beta 1/2: effective numbers 2 (1 - 2^-3) = 7/4 and 2 (1 - 2^-1) = 1; weights 4/7 and 1 of mean (12/7 + 1) / 4
    mean = (3 * 4 / 7 + 1) / 4
    assert effective_number_weights([3, 1], 0.5).tolist() == pytest.approx([4 / 7 / mean, 1 / mean], rel=1e-12)
    # beta 0.9: effective numbers 10 (1 - 0.9^2) = 1.9 and 1
    mean = (2 / 1.9 + 1) / 3
    assert effective_number_weights([2, 1], 0.9).tolist() == pytest.approx([1 / 1.9 / mean, 1 / mean], rel=1e-12)


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(0, 10**7), min_size=2, max_size=8).filter(any),
    beta=st.one_of(
        st.sampled_from([0.0, 5e-324, 0.5, 0.999, 0.9999, 1 - 1e-9, 1 - 2.0**-53, 1.0]), st.floats(0.0, 1.0)
    ),
)
def test_weights_of_any_counts(counts: list[int], beta: float) -> None:
    """The mean over the training images is 1, empty classes get 0, and a larger class never gets more."""
    weights = effective_number_weights(counts, beta)
    n = torch.tensor(counts, dtype=torch.float64)
    assert torch.isfinite(weights).all()
    assert float((weights * n).sum() / n.sum()) == pytest.approx(1.0, rel=1e-12)
    assert ((weights == 0) == (n == 0)).all()
    ordered = weights[n > 0][n[n > 0].argsort()]
    assert (ordered[1:] <= ordered[:-1] * (1 + 1e-12)).all()


@settings(deadline=None)
@given(counts=st.lists(st.integers(1, 10**5), min_size=2, max_size=8))
def test_weights_at_the_ends(counts: list[int]) -> None:
    """Beta 0 gives equal weights; near beta 1 the weights are inverse frequencies without loss of digits."""
    assert effective_number_weights(counts, 0.0).tolist() == pytest.approx([1.0] * len(counts), rel=1e-12)
    inverse = inverse_frequency_weights(counts).tolist()
    assert inverse == pytest.approx([sum(counts) / len(counts) / count for count in counts], rel=1e-12)
    assert effective_number_weights(counts, 1 - 2.0**-53).tolist() == pytest.approx(inverse, rel=1e-9)


@pytest.mark.parametrize(
    ("counts", "beta", "named"),
    [([3, 1], -0.1, "beta"), ([3, 1], 1.1, "beta"), ([3, 1], math.nan, "beta"), ([0, 0], 0.9, "not all be 0"),
     ([3, -1], 0.9, "at least 0"), ([3], 0.9, "at least 2")],
)  # fmt: skip
def test_weights_refuse(counts: list[int], beta: float, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        effective_number_weights(counts, beta)
