"""The linear probe: at its minimum, fair to rare classes, and the same as a plain head."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lpt.losses import LogitAdjusted
from lpt.training import linear_probe as solver
from lpt.training.linear_probe import choose_weight_decay, linear_probe


def blobs(counts: tuple[int, ...], spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian blobs around far corners, [n, 6]."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    centres = np.eye(len(counts), 6) * 4
    return (centres[labels] + spread * random.standard_normal((len(labels), 6))).astype(np.float32), labels


@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_probe_recovers_separable_classes(tau: float) -> None:
    features, labels = blobs((40, 12, 4), 0.3)
    probe = linear_probe(features, labels, 3, tau=tau)
    fresh, truth = blobs((30, 30, 30), 0.3, seed=1)
    assert (probe.logits(fresh).argmax(1) == truth).all()


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


def test_images_in_chunks_give_the_same_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of classes and a hundred thousand images would make a table of gigabytes."""
    features, labels = blobs((30, 10, 3), 2.0)
    whole = linear_probe(features, labels, 3)
    monkeypatch.setattr(solver, "_NUMBERS", 3 * 7)
    chunked = linear_probe(features, labels, 3)
    assert chunked.weight_decay == whole.weight_decay
    assert torch.allclose(chunked.weight, whole.weight, atol=1e-5)


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
