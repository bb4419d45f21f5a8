"""Test the asymmetric Gaussian clouded logit loss: its formula, its limits, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_inputs import COUNTS, loss_and_gradient, random_cosines, random_labels
from torch import Tensor
from torch.nn.functional import cross_entropy

from lpt.errors import ConfigError
from lpt.losses import AsymmetricGCL
from oracle import relative_error, textbook_agcl, textbook_delta

GAMMAS = [(0.0, 4.0), (0.5, 8.0), (0.0, 0.0), (1.0, 1.0), (2.0, 0.5)]


# --- the formula -----------------------------------------------------------------------------------------------------


def test_by_hand() -> None:
    """Two classes of equal size, no smoothing, no noise: all factors can be written out."""
    cosines = torch.tensor([[0.3, 0.1]], dtype=torch.float64)
    p = 1 / (1 + math.exp(20 * (0.1 - (0.3 - 0.1))))  # the margin is taken off the label's cosine
    for gamma_pos in (0.0, 0.5, 2.0):
        loss = AsymmetricGCL([7, 7], gamma_pos, 4.0, label_smoothing=0.0)
        value = loss(cosines, torch.tensor([0]), noise=torch.zeros(1, 2, dtype=torch.float64))
        assert float(value) == pytest.approx(-((1 - p) ** gamma_pos) * math.log(p), rel=1e-12)


def test_by_hand_smoothed_and_clouded() -> None:
    """Class counts 100, 10, 1: delta is 0, 0.5, 1. Noise counts by its absolute value; t_y = 0.9 + 0.1/3."""
    z, e, y = [0.2, 0.5, -0.1], [0.9, -0.4, 0.6], 1
    u = [z[c] - 0.5 * delta * abs(e[c]) - (0.1 if c == y else 0.0) for c, delta in enumerate((0.0, 0.5, 1.0))]
    total = sum(math.exp(20 * value) for value in u)
    p = [math.exp(20 * value) / total for value in u]
    expected = 0.0
    for c in range(3):
        t = 0.1 / 3 + (0.9 if c == y else 0.0)
        w = (1 - p[c]) ** 0.5 if c == y else p[c] ** 8
        expected -= t * w * math.log(p[c])
    value = AsymmetricGCL([100, 10, 1], 0.5, 8.0)(
        torch.tensor([z], dtype=torch.float64), torch.tensor([y]), noise=torch.tensor([e], dtype=torch.float64)
    )
    assert float(value) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("gammas", GAMMAS, ids=str)
def test_matches_the_formula(gammas: tuple[float, float]) -> None:
    """Compare value and gradient in float64, where the plain formula is well conditioned."""
    cosines, labels = random_cosines(8, 6, width=0.15), random_labels(8, 6)
    noise = random_cosines(8, 6, seed=1)
    value, gradient = loss_and_gradient(AsymmetricGCL(COUNTS, *gammas), cosines, labels, noise)
    cosines.requires_grad_(True)
    reference = textbook_agcl(cosines, labels, COUNTS, *gammas, noise=noise)
    (reference_gradient,) = torch.autograd.grad(reference, cosines)
    assert value.dtype == gradient.dtype == torch.float64
    assert relative_error(value, reference) < 1e-10
    assert relative_error(gradient, reference_gradient) < 1e-8


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 5),
    counts=st.lists(st.integers(0, 5000), min_size=2, max_size=9),
    gamma_pos=st.sampled_from([0.0, 0.5, 1.0, 3.0]),
    gamma_neg=st.sampled_from([0.0, 0.5, 1.0, 4.0, 8.0]),
    scale=st.sampled_from([1.0, 10.0, 20.0, 30.0]),
    margin=st.sampled_from([0.0, 0.1, 0.4]),
    noise_weight=st.sampled_from([0.0, 0.5, 1.0]),
    label_smoothing=st.sampled_from([0.0, 0.1, 0.5]),
)
def test_matches_the_formula_for_any_setting(
    seed: int, batch: int, counts: list[int], gamma_pos: float, gamma_neg: float, **settings: float
) -> None:
    """Compare the value in float64 for all arguments, over the whole range of cosines."""
    classes = len(counts)
    cosines, noise = random_cosines(batch, classes, seed), random_cosines(batch, classes, seed + 1)
    labels = random_labels(batch, classes, seed)
    arguments = dict(settings)
    weight = arguments.pop("noise_weight")
    loss = AsymmetricGCL(counts, gamma_pos, gamma_neg, noise=weight, **arguments)
    reference = textbook_agcl(
        cosines, labels, counts, gamma_pos, gamma_neg, noise_weight=weight, noise=noise, **arguments
    )
    assert float(loss(cosines, labels, noise=noise)) == pytest.approx(float(reference), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("gammas", GAMMAS, ids=str)
def test_float32_gradient_over_the_whole_range(gammas: tuple[float, float]) -> None:
    """Keeping 1 - p_y away from 0 costs little accuracy: the float32 gradient equals that of the float64 formula."""
    cosines, labels = random_cosines(64, 6, seed=3), random_labels(64, 6, seed=3)
    noise = random_cosines(64, 6, seed=4)
    _, gradient = loss_and_gradient(AsymmetricGCL(COUNTS, *gammas), cosines.float(), labels, noise.float())
    cosines.requires_grad_(True)
    (reference,) = torch.autograd.grad(textbook_agcl(cosines, labels, COUNTS, *gammas, noise=noise), cosines)
    assert gradient.dtype == torch.float32
    assert torch.allclose(64 * gradient.double(), 64 * reference, rtol=1e-3, atol=2e-4)


def test_gamma_zero_is_smoothed_cross_entropy() -> None:
    """With all weights 1 the loss is PyTorch's label-smoothed cross-entropy of the scaled cosines with margins."""
    cosines, labels = random_cosines(16, 5), random_labels(16, 5)
    margin = 0.1 * torch.nn.functional.one_hot(labels, 5).double()
    zeros = torch.zeros_like(cosines)
    for smoothing in (0.0, 0.1, 0.3):
        loss = AsymmetricGCL([9, 8, 7, 6, 5], 0.0, 0.0, label_smoothing=smoothing)
        expected = cross_entropy(20 * (cosines - margin), labels, label_smoothing=smoothing)
        assert relative_error(loss(cosines, labels, noise=zeros), expected) < 1e-12
    plain = AsymmetricGCL([9, 8, 7, 6, 5], 0.0, 0.0, scale=7.0, margin=0.0, label_smoothing=0.0)
    assert relative_error(plain(cosines, labels, noise=zeros), cross_entropy(7 * cosines, labels)) < 1e-12


def test_weights_carry_gradient() -> None:
    """The weights are differentiated too: with detached weights the gradient would differ."""
    cosines, labels = random_cosines(4, 6, width=0.2), random_labels(4, 6)
    loss = AsymmetricGCL(COUNTS, 0.5, 8.0)
    noise = torch.zeros_like(cosines)
    assert torch.autograd.gradcheck(lambda z: loss(z, labels, noise=noise), cosines.requires_grad_(True))


def test_mean_over_the_batch() -> None:
    """The batch's loss is the mean of its images' losses."""
    cosines, labels, noise = random_cosines(7, 6), random_labels(7, 6), random_cosines(7, 6, seed=9)
    loss = AsymmetricGCL(COUNTS, 0.5, 8.0)
    each = [loss(cosines[i : i + 1], labels[i : i + 1], noise=noise[i : i + 1]) for i in range(7)]
    assert relative_error(torch.stack(each).mean(), loss(cosines, labels, noise=noise)) < 1e-12


def test_published_defaults() -> None:
    """The defaults are s 20, m 0.1, noise 0.5 and smoothing 0.1."""
    cosines, labels, noise = random_cosines(7, 6), random_labels(7, 6), random_cosines(7, 6, seed=9)
    explicit = AsymmetricGCL(COUNTS, 0.5, 8.0, scale=20, margin=0.1, noise=0.5, label_smoothing=0.1)
    default = AsymmetricGCL(COUNTS, 0.5, 8.0)
    assert torch.equal(explicit(cosines, labels, noise=noise), default(cosines, labels, noise=noise))


# --- class counts ----------------------------------------------------------------------------------------------------


def clouded(counts: Sequence[int], noise: float = 1.0) -> Tensor:
    """Return delta, [C], as computed from the effect of noise on the loss of each class."""
    classes = len(counts)
    loss = AsymmetricGCL(counts, 0.0, 0.0, label_smoothing=0.0, margin=0.0, scale=1.0)
    zeros = torch.zeros(1, classes, dtype=torch.float64)
    deltas = []
    for c in range(classes):
        e = zeros.clone()
        e[0, c] = noise
        # u_c = -0.5 * delta_c * |e_c|, all others 0, label c: loss = log(C - 1 + exp(u_c)) - u_c
        value = float(loss(zeros, torch.tensor([c]), noise=e))
        u = -math.log((math.exp(value) - 1) / (classes - 1))
        deltas.append(-2 * u / abs(noise))
    return torch.tensor(deltas, dtype=torch.float64)


def test_delta_by_hand() -> None:
    """Delta is 0 for the largest class, 1 for the smallest, logarithmic between; the noise's sign does not matter."""
    expected = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    assert torch.allclose(clouded([100, 10, 1]), expected)
    assert torch.allclose(clouded([10000, 1000, 100]), expected)
    assert torch.allclose(clouded([100, 10, 1], noise=-0.3), expected)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 100_000), min_size=2, max_size=7))
def test_delta_of_any_counts(counts: list[int]) -> None:
    """For any counts delta is as defined and lies in [0, 1]."""
    delta = clouded(counts)
    assert torch.allclose(delta, torch.tensor(textbook_delta(counts), dtype=torch.float64), atol=1e-9)
    assert (delta > -1e-9).all()
    assert (delta < 1 + 1e-9).all()


@pytest.mark.parametrize("counts", [[1, 1], [50, 50, 50], [3] * 9])
def test_balanced_counts_are_not_clouded(counts: list[int]) -> None:
    """For equal counts delta is 0, not 0 / 0, so noise has no effect."""
    cosines, labels = random_cosines(4, len(counts)), random_labels(4, len(counts))
    loss = AsymmetricGCL(counts, 0.5, 8.0)
    with_noise = loss(cosines, labels, noise=torch.ones_like(cosines))
    assert torch.isfinite(with_noise)
    assert torch.equal(with_noise, loss(cosines, labels, noise=torch.zeros_like(cosines)))


def test_an_empty_class_counts_as_one() -> None:
    """n_c = 0 has no logarithm; with a count of 1 it is the smallest class."""
    assert torch.allclose(clouded([100, 10, 0]), clouded([100, 10, 1]))
    assert torch.allclose(clouded([100, 0, 0, 10]), clouded([100, 1, 1, 10]))
    assert torch.allclose(clouded([1, 0]), torch.zeros(2, dtype=torch.float64), atol=1e-12)


def test_counts_as_list_tuple_or_tensor() -> None:
    """Counts may be a list, a tuple or a tensor."""
    cosines, labels, noise = random_cosines(4, 6), random_labels(4, 6), random_cosines(4, 6, seed=2)
    kinds: list[Any] = [COUNTS, tuple(COUNTS), torch.tensor(COUNTS), torch.tensor(COUNTS).double()]
    values = [AsymmetricGCL(kind, 0.5, 8.0)(cosines, labels, noise=noise) for kind in kinds]
    assert all(torch.equal(value, values[0]) for value in values)


# --- finite everywhere -----------------------------------------------------------------------------------------------

EDGES = st.sampled_from([-1.0, 1.0, 0.0, 1.0 - 2.0**-24, -1.0 + 2.0**-24, 1e-30])
COSINE = st.one_of(EDGES, st.floats(-1.0, 1.0, width=32))


@settings(max_examples=150, deadline=None)
@given(data=st.data(), gammas=st.sampled_from(GAMMAS), classes=st.integers(2, 6), batch=st.integers(1, 3))
def test_finite_for_every_cosine(data: st.DataObject, gammas: tuple[float, float], classes: int, batch: int) -> None:
    """Check loss and gradient in float32, for every cosine and every noise in [-1, 1]."""
    row = st.lists(COSINE, min_size=classes, max_size=classes)
    table = st.lists(row, min_size=batch, max_size=batch)
    cosines, noise = torch.tensor(data.draw(table)), torch.tensor(data.draw(table))
    labels = torch.tensor(data.draw(st.lists(st.integers(0, classes - 1), min_size=batch, max_size=batch)))
    counts = data.draw(st.lists(st.integers(0, 3000), min_size=classes, max_size=classes))
    value, gradient = loss_and_gradient(AsymmetricGCL(counts, *gammas), cosines, labels, noise)
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert value >= 0
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("scale", [20.0, 64.0, 200.0])
@pytest.mark.parametrize("gammas", [*GAMMAS, (0.5, 0.5)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_finite_where_the_label_is_certain(dtype: torch.dtype, gammas: tuple[float, float], scale: float) -> None:
    """Also where p_y rounds to 1 or 0. The plain (1 - p_y)^0.5 has an infinite slope at p_y = 1."""
    for sign in (1.0, -1.0):
        for classes in (2, 1000):
            cosines = torch.full((1, classes), -sign, dtype=dtype)
            cosines[0, 0] = sign
            loss = AsymmetricGCL([1] * classes, *gammas, scale=scale)
            value, gradient = loss_and_gradient(loss, cosines, torch.tensor([0]), torch.zeros(1, classes))
            assert torch.isfinite(value), (sign, classes)
            assert torch.isfinite(gradient).all(), (sign, classes)


def test_two_classes() -> None:
    """C = 2 is the smallest possible problem."""
    cosines, labels = random_cosines(6, 2), random_labels(6, 2)
    noise = random_cosines(6, 2, seed=5)
    value = AsymmetricGCL([90, 10], 0.5, 8.0)(cosines, labels, noise=noise)
    reference = textbook_agcl(cosines, labels, [90, 10], 0.5, 8.0, noise=noise)
    assert float(value) == pytest.approx(float(reference), rel=1e-10)


def test_thousands_of_classes() -> None:
    """Sums over 8142 classes, as in iNaturalist 2018, stay exact enough in float32."""
    classes = 8142
    counts = [max(1, int(1000 * 0.999**c)) for c in range(classes)]
    cosines, labels = random_cosines(3, classes, width=0.5), torch.tensor([0, 4000, 8141])
    cosines[torch.arange(3), labels] = 0.7
    noise = random_cosines(3, classes, seed=6)
    loss = AsymmetricGCL(counts, 0.5, 8.0)
    value, gradient = loss_and_gradient(loss, cosines.float(), labels, noise.float())
    cosines.requires_grad_(True)
    reference = textbook_agcl(cosines, labels, counts, 0.5, 8.0, noise=noise)
    (reference_gradient,) = torch.autograd.grad(reference, cosines)
    assert float(value) == pytest.approx(reference.item(), rel=1e-4)
    assert relative_error(gradient, reference_gradient) < 1e-3


# --- precision -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_cosines_are_computed_in_float32(dtype: torch.dtype) -> None:
    """The loss is computed in float32 for any input type; the gradient has the input's type."""
    cosines, labels = random_cosines(8, 6).to(dtype), random_labels(8, 6)
    noise = random_cosines(8, 6, seed=2).float()
    loss = AsymmetricGCL(COUNTS, 0.5, 8.0)
    value, gradient = loss_and_gradient(loss, cosines, labels, noise)
    expected, expected_gradient = loss_and_gradient(loss, cosines.float(), labels, noise)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    assert gradient.dtype == dtype
    assert torch.equal(gradient, expected_gradient.to(dtype))


def test_float32_under_autocast() -> None:
    """Autocast does not change the precision of the loss."""
    cosines, labels = random_cosines(8, 6).float(), random_labels(8, 6)
    noise = random_cosines(8, 6, seed=2).float()
    loss = AsymmetricGCL(COUNTS, 0.5, 8.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(cosines, labels, noise=noise)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(cosines, labels, noise=noise))


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (dict(class_counts=[]), "class"),
        (dict(class_counts=[5]), "class"),
        (dict(class_counts=[5, -1, 3]), "count|-1"),
        (dict(class_counts=[5, float("nan")]), "count|nan"),
        (dict(class_counts=[5, float("inf")]), "count|inf"),
        (dict(class_counts=[[5, 3], [2, 1]]), "count|shape|dimension"),
        (dict(gamma_pos=-0.5), "gamma_pos"),
        (dict(gamma_neg=-1.0), "gamma_neg"),
        (dict(scale=0.0), "scale"),
        (dict(scale=-20.0), "scale"),
        (dict(label_smoothing=-0.1), "label_smoothing"),
        (dict(label_smoothing=1.5), "label_smoothing"),
    ],
    ids=str,
)
def test_refuses_settings(arguments: dict[str, Any], named: str) -> None:
    """A setting the formula has no meaning for is refused by name."""
    accepted: dict[str, Any] = dict(class_counts=[5, 3], gamma_pos=0.0, gamma_neg=4.0)
    with pytest.raises(ConfigError, match=f"(?i){named}"):
        AsymmetricGCL(**{**accepted, **arguments})


@pytest.mark.parametrize(
    ("cosines", "labels", "noise"),
    [
        ((4, 5), [0, 1, 2, 3], None),  # another number of classes
        ((4, 7), [0, 1, 2, 3], None),
        ((6,), [0], None),  # no batch
        ((4, 2, 6), [0, 1, 2, 3], None),
        ((4, 6), [0, 1, 2], None),  # another batch
        ((4, 6), [[0, 1, 2, 3]], None),
        ((4, 6), [0], None),  # would broadcast
        ((4, 6), [0, 1, 2, 6], None),  # no such class
        ((4, 6), [0, 1, 2, -1], None),
        ((4, 6), [0, 1, 2, -100], None),  # PyTorch's ignore_index is none here
        ((4, 6), [0.0, 1.0, 2.0, 3.0], None),
        ((4, 6), [0, 1, 2, 3], (4, 5)),
        ((4, 6), [0, 1, 2, 3], (1, 6)),  # would broadcast: one draw for the whole batch
        ((4, 6), [0, 1, 2, 3], (6,)),
        ((4, 6), [0, 1, 2, 3], (4, 1)),
    ],
    ids=str,
)
def test_refuses_inputs(cosines: tuple[int, ...], labels: list[Any], noise: tuple[int, ...] | None) -> None:
    """Shapes that do not fit and labels that are no class are refused, not broadcast or indexed from behind."""
    loss = AsymmetricGCL(COUNTS, 0.5, 8.0)
    drawn = None if noise is None else torch.zeros(noise)
    with pytest.raises(ConfigError):
        loss(torch.zeros(cosines), torch.tensor(labels), noise=drawn)
