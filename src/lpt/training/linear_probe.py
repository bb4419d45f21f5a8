"""Linear probe: a linear classifier on frozen features (Alain and Bengio, 2016), trained to convergence.

    minimise over W, b:  mean_i loss(W x_i + b, y_i) + weight_decay / 2 * |W|^2

`loss` is cross-entropy or its logit-adjusted form (Menon et al., ICLR 2021), x a standardised feature. The problem is
convex. LBFGS solves it from zero in float64, in chunks of images: a table of all images and classes would not fit into
memory. Nothing is random but the cuts of the training split on which the weight decay is chosen.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lpt.data.longtail import class_counts, stratified_validation
from lpt.data.manifest import Float32Array, IntArray
from lpt.losses import LogitAdjusted
from lpt.system.randomness import seed_of

WEIGHT_DECAYS = tuple(10.0**power for power in (0, -0.5, -1, -1.5, -2, -2.5, -3, -4, -5))
CUTS = 4
"""Halvings of a small training split; from `LARGE` images on there is only one."""
LARGE = 5_000
ITERATIONS = 500
_NUMBERS = 1 << 24
"""Scores held at a time, float64."""


@dataclass(frozen=True)
class LinearProbe:
    """A trained linear probe.

    Args:
        weight: [C, D], for standardised features.
        bias: [C].
        shift, factor: [D]; a standardised feature is (x - shift) * factor.
        weight_decay: used in training.
    """

    weight: Tensor
    bias: Tensor
    shift: Tensor
    factor: Tensor
    weight_decay: float

    def logits(self, features: Float32Array) -> Float32Array:
        """Return the logits of features as the backbone gives them, [n, D] -> [n, C]."""
        standardised = (torch.from_numpy(features).double() - self.shift) * self.factor
        return (standardised @ self.weight.T + self.bias).float().numpy()

    def plain_head(self) -> tuple[Tensor, Tensor]:
        """Return weight [C, D] and bias [C], float32, for features as the backbone gives them."""
        weight = self.weight * self.factor
        return weight.float(), (self.bias - weight @ self.shift).float()


def linear_probe(
    features: Float32Array,
    labels: IntArray,
    num_classes: int,
    *,
    tau: float = 1.0,
    weight_decay: float | None = None,
    seed: int = 0,
) -> LinearProbe:
    """Train a linear probe.

    Args:
        features: frozen features of the training split, [n, D], from `lpt.training.initial.split_features`.
        labels: class of each image, [n].
        num_classes: C.
        tau: strength of the logit adjustment; 0 is plain cross-entropy.
        weight_decay: None: chosen on cuts of the training split.
        seed: of these cuts.

    Raises:
        DataError: no weight decay is given, and every class is too small to be cut.
    """
    if weight_decay is None:
        weight_decay = choose_weight_decay(features, labels, num_classes, tau=tau, seed=seed)
    return _fit(features, labels, num_classes, tau, [weight_decay])[0]


def choose_weight_decay(
    features: Float32Array,
    labels: IntArray,
    num_classes: int,
    *,
    tau: float = 1.0,
    seed: int = 0,
    candidates: Sequence[float] = WEIGHT_DECAYS,
) -> float:
    """Choose the weight decay with the lowest validation loss over stratified halvings of the training split.

    The loss is the negative log-likelihood, averaged within each class first, so that rare classes count as much.
    """
    scores = np.zeros(len(candidates))
    for cut in range(CUTS if len(labels) < LARGE else 1):
        train, held_out, _ = stratified_validation(labels, 0.5, seed_of(seed, "linear probe", cut))
        probes = _fit(features[train], labels[train], num_classes, tau, candidates)
        scores += [_balanced_nll(probe, features[held_out], labels[held_out]) for probe in probes]
    return candidates[int(scores.argmin())]


def _fit(
    features: Float32Array, labels: IntArray, num_classes: int, tau: float, decays: Sequence[float]
) -> list[LinearProbe]:
    """Train a probe for each weight decay; each starts from the solution of the one before."""
    x, target = torch.from_numpy(features).double(), torch.from_numpy(labels)
    deviation = x.std(dim=0, correction=0)
    shift, factor = x.mean(dim=0), 1 / deviation.clamp_min(1e-6 * float(deviation.max()) + 1e-12)
    x = (x - shift) * factor
    loss = LogitAdjusted(class_counts(labels, num_classes).tolist(), tau)
    weight = torch.zeros(num_classes, x.shape[1], dtype=torch.float64)
    bias = torch.zeros(num_classes, dtype=torch.float64)
    probes = []
    for decay in decays:
        optimizer = torch.optim.LBFGS(
            [weight, bias], max_iter=ITERATIONS, tolerance_grad=1e-7, tolerance_change=1e-12, history_size=20,
            line_search_fn="strong_wolfe",
        )  # fmt: skip

        def closure(decay: float = decay) -> Tensor:
            weight.grad, bias.grad = decay * weight, torch.zeros_like(bias)
            return 0.5 * decay * weight.square().sum() + _add_gradients(loss, weight, bias, x, target)

        optimizer.step(closure)
        solution = weight.clone(), bias.clone()
        probes.append(LinearProbe(*solution, shift, factor, decay))
    return probes


def _add_gradients(loss: LogitAdjusted, weight: Tensor, bias: Tensor, x: Tensor, target: Tensor) -> Tensor:
    """Return the mean loss over all images and add its gradients to those of weight and bias.

    The gradient of a score is its probability, less 1 for the true class: autograd would take twice as long.
    """
    assert weight.grad is not None
    assert bias.grad is not None
    total = torch.zeros((), dtype=x.dtype)
    for rows in _chunks(len(x), len(weight)):
        images, true = x[rows], target[rows, None]
        logs = F.log_softmax(loss.logits(images @ weight.T + bias, target[rows]), dim=1)
        total -= logs.gather(1, true).sum() / len(x)
        gradients = logs.exp_().scatter_add_(1, true, torch.full_like(true, -1, dtype=x.dtype)) / len(x)
        weight.grad += gradients.T @ images
        bias.grad += gradients.sum(dim=0)
    return total


def _chunks(images: int, classes: int) -> Iterator[slice]:
    """Cut the images into parts whose scores fit into memory."""
    step = max(_NUMBERS // classes, 1)
    return (slice(first, first + step) for first in range(0, images, step))


def most_evaluations(images: int) -> int:
    """Return the most evaluations of the loss on all images that `linear_probe` takes."""
    cuts = CUTS if images < LARGE else 1
    return round(ITERATIONS * (1 + 0.5 * cuts * len(WEIGHT_DECAYS)))


def evaluation_seconds(images: int, width: int, classes: int) -> float:
    """Measure the seconds of an evaluation of loss and gradients, on random numbers."""
    tried = min(images, max(_NUMBERS // classes, 1))
    x, target = torch.randn(tried, width, dtype=torch.float64), torch.arange(tried) % classes
    weight = torch.zeros(classes, width, dtype=torch.float64)
    bias = torch.zeros(classes, dtype=torch.float64)
    weight.grad, bias.grad = torch.zeros_like(weight), torch.zeros_like(bias)
    loss = LogitAdjusted([1] * classes, 1.0)
    _add_gradients(loss, weight, bias, x, target)
    start = time.perf_counter()
    _add_gradients(loss, weight, bias, x, target)
    return (time.perf_counter() - start) * images / tried


def _balanced_nll(probe: LinearProbe, features: Float32Array, labels: IntArray) -> float:
    """Return the negative log-likelihood, averaged within each class and then over classes."""
    target = torch.from_numpy(labels)
    each = torch.cat([
        F.cross_entropy(torch.from_numpy(probe.logits(features[rows])).double(), target[rows], reduction="none")
        for rows in _chunks(len(features), len(probe.weight))
    ])  # fmt: skip
    return float(np.mean([float(each[target == label].mean()) for label in target.unique()]))
