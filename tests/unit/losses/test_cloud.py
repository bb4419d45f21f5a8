"""Test the Gaussian cloud of GCL and A-GCL, and GCL itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_inputs import COUNTS, loss_and_gradient, random_cosines, random_labels
from torch import Tensor
from torch.nn.functional import cross_entropy

from lpt.losses import GCL, AsymmetricGCL
from oracle import relative_error, textbook_agcl


def drawn_noise(batch: int, counts: Sequence[int], seed: int) -> Tensor:
    """Return |e| [B, C] as the loss drew it, computed from the gradient of a label-0 batch (class 0 is the largest).

    With gamma 0 and no smoothing d loss / d z_bc = s * (p_bc - [c = 0]) / B, and p_bc / p_b0 = exp(-s/2 * |e_bc|)
    for delta_c = 1, equal cosines and no margin.
    """
    loss = AsymmetricGCL(counts, 0.0, 0.0, scale=2.0, margin=0.0, label_smoothing=0.0)
    cosines = torch.zeros(batch, len(counts), dtype=torch.float64)
    torch.manual_seed(seed)
    _, gradient = loss_and_gradient(loss, cosines, torch.zeros(batch, dtype=torch.long), None)
    p = gradient * batch / 2.0
    p[:, 0] += 1
    return -torch.log(p[:, 1:] / p[:, :1])


def test_drawn_noise_is_the_clipped_normal() -> None:
    """Drawn from N(0, 1/9) clipped to [-1, 1]: a standard deviation of 1/3; compared by distribution."""
    e = drawn_noise(20_000, [100, 1, 1], seed=0).flatten()  # 40,000 draws
    assert e.min() >= -1e-9
    assert e.max() <= 1 + 1e-9
    assert float((e > 1 - 1e-9).double().mean()) == pytest.approx(0.0027, abs=0.001), "clipped, not drawn again"
    assert float(e.mean()) == pytest.approx(math.sqrt(2 / math.pi) / 3, abs=0.004)
    points = torch.linspace(0.0, 0.99, 100, dtype=torch.float64)
    below = (e[:, None] <= points).double().mean(dim=0)
    expected = torch.erf(3 * points / math.sqrt(2))
    assert float((below - expected).abs().max()) < 0.012  # Kolmogorov-Smirnov, p < 1e-4


def test_drawn_per_image_and_class() -> None:
    """One number for each image and class, not one for a batch or a class."""
    e = drawn_noise(4000, [100, 1, 1, 1], seed=1)
    assert len(e.flatten().unique()) > 0.99 * e.numel()
    correlation = torch.corrcoef(e.T)
    assert (correlation - torch.eye(3)).abs().max() < 0.08
    assert abs(float(torch.corrcoef(torch.stack([e[:-1, 0], e[1:, 0]]))[0, 1])) < 0.08


def test_drawn_noise_follows_the_seed() -> None:
    """PyTorch's seed decides, and each call draws anew."""
    cosines, labels = random_cosines(4, 6), random_labels(4, 6)
    loss = AsymmetricGCL(COUNTS, 0.5, 8.0)
    torch.manual_seed(3)
    first, second = loss(cosines, labels), loss(cosines, labels)
    torch.manual_seed(3)
    assert torch.equal(loss(cosines, labels), first)
    assert not torch.equal(first, second)


def test_given_noise_needs_no_random_numbers() -> None:
    """When the caller draws the noise the loss is a function, and leaves the generator where it was."""
    cosines, labels, noise = random_cosines(4, 6), random_labels(4, 6), random_cosines(4, 6, seed=2)
    loss = AsymmetricGCL(COUNTS, 0.5, 8.0)
    before = torch.get_rng_state()
    assert torch.equal(loss(cosines, labels, noise=noise), loss(cosines, labels, noise=noise))
    assert torch.equal(torch.get_rng_state(), before)


def test_noise_weight_zero_switches_it_off() -> None:
    """noise=0 in the constructor: no cloud, drawn or given."""
    cosines, labels = random_cosines(4, 6), random_labels(4, 6)
    loss = AsymmetricGCL(COUNTS, 0.5, 8.0, noise=0.0)
    expected = textbook_agcl(cosines, labels, COUNTS, 0.5, 8.0)
    assert relative_error(loss(cosines, labels), expected) < 1e-9
    assert relative_error(loss(cosines, labels, noise=torch.ones_like(cosines)), expected) < 1e-9


# --- GCL -------------------------------------------------------------------------------------------------------------


def test_gcl_by_hand() -> None:
    """Three classes 100, 10, 1: delta 0, 0.5, 1; s = 30; no smoothing, no margin."""
    z, e, y = [0.2, 0.3, 0.25], [0.9, -0.4, 0.2], 2
    u = [0.2, 0.3 - 0.5 * 0.5 * 0.4, 0.25 - 0.5 * 1.0 * 0.2]  # 0.2, 0.2, 0.15
    expected = math.log(sum(math.exp(30 * (value - u[y])) for value in u))  # ln(2 exp(1.5) + 1)
    assert expected == pytest.approx(math.log(2 * math.exp(1.5) + 1), rel=1e-12)
    cosines, cloud = torch.tensor([z], dtype=torch.float64), torch.tensor([e], dtype=torch.float64)
    assert float(GCL([100, 10, 1])(cosines, torch.tensor([y]), cloud)) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), counts=st.lists(st.integers(0, 500), min_size=2, max_size=6))
def test_gcl_without_noise_is_cross_entropy(seed: int, counts: list[int]) -> None:
    """No cloud, by strength or as given, or equal counts: cross-entropy of the scaled cosines."""
    cosines, labels = random_cosines(4, len(counts), seed), random_labels(4, len(counts), seed)
    expected = cross_entropy(30 * cosines, labels)
    assert relative_error(GCL(counts, noise=0.0)(cosines, labels), expected) < 1e-12
    assert relative_error(GCL(counts)(cosines, labels, torch.zeros_like(cosines)), expected) < 1e-12
    assert relative_error(GCL([7] * len(counts))(cosines, labels), expected) < 1e-12


def test_gcl_is_the_asymmetric_one_without_asymmetry() -> None:
    cosines, labels, noise = random_cosines(6, 6), random_labels(6, 6), random_cosines(6, 6, seed=2)
    gcl = GCL(COUNTS, scale=25.0, noise=0.3, label_smoothing=0.2)
    agcl = AsymmetricGCL(COUNTS, 0, 0, scale=25.0, margin=0.0, noise=0.3, label_smoothing=0.2)
    assert torch.equal(gcl(cosines, labels, noise), agcl(cosines, labels, noise))
