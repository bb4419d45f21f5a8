"""Linear probe: a linear classifier on frozen features (Alain and Bengio, 2016), trained to convergence.

    minimise over W, b:  mean_i loss(W x_i + b, y_i) + weight_decay / 2 * |W|^2

`loss` is cross-entropy or its logit-adjusted form (Menon et al., ICLR 2021), x a standardised or unit-length feature.
The problem is convex and solved from zero by LBFGS in float64, in chunks of images so that no table of all images and
classes is in memory; nothing is random but the cuts of the training split on which the weight decay is chosen.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lpt.data.longtail import class_counts, stratified_validation
from lpt.data.manifest import Float32Array, IntArray
from lpt.losses import LogitAdjusted
from lpt.system.randomness import seed_of

Scaling = Literal["standardise", "unit"]

WEIGHT_DECAYS = tuple(10.0**power for power in (0, -0.5, -1, -1.5, -2, -2.5, -3, -4, -5))
CUTS = 4
"""Halvings of a small training split; one is enough from `LARGE` images on."""
LARGE = 5_000
ITERATIONS = 500
_NUMBERS = 1 << 24
"""Scores held at a time, float64."""


@dataclass(frozen=True)
class LinearProbe:
    """A trained probe.

    Args:
        weight: [C, D], for scaled features.
        bias: [C].
        shift, factor: of standardisation, [D]; a scaled feature is (x - shift) * factor.
        unit: whether features are brought to unit length instead.
        weight_decay: what it was trained with.
    """

    weight: Tensor
    bias: Tensor
    shift: Tensor
    factor: Tensor
    unit: bool
    weight_decay: float

    @property
    def parameters(self) -> int:
        """Trained numbers."""
        return self.weight.numel() + self.bias.numel()

    def logits(self, features: Float32Array) -> Float32Array:
        """Logits of features as the backbone gives them, [n, D] -> [n, C]."""
        return (self._scaled(features) @ self.weight.T + self.bias).float().numpy()

    def plain_head(self) -> tuple[Tensor, Tensor]:
        """Weight [C, D] and bias [C] for features as the backbone gives them: standardisation folded in, float32."""
        weight = self.weight * self.factor
        return weight.float(), (self.bias - weight @ self.shift).float()

    def _scaled(self, features: Float32Array) -> Tensor:
        x = torch.from_numpy(features).double()
        return F.normalize(x, dim=-1) if self.unit else (x - self.shift) * self.factor


def linear_probe(
    features: Float32Array,
    labels: IntArray,
    num_classes: int,
    *,
    tau: float = 1.0,
    scaling: Scaling = "standardise",
    weight_decay: float | None = None,
    seed: int = 0,
) -> LinearProbe:
    """Train a probe.

    Args:
        features: frozen features of the training split, [n, D], from `lpt.training.initial.split_features`.
        labels: its classes, [n].
        num_classes: C.
        tau: strength of the logit adjustment; 0 is plain cross-entropy.
        scaling: features standardised by the training split's mean and deviation, or at unit length.
        weight_decay: None chooses it on cuts of the training split.
        seed: of these cuts.

    Raises:
        DataError: no weight decay is given, and every class is too small to be cut.
    """
    if weight_decay is None:
        weight_decay = choose_weight_decay(features, labels, num_classes, tau=tau, scaling=scaling, seed=seed)
    return _fit(features, labels, num_classes, tau, scaling, [weight_decay])[0]


def choose_weight_decay(
    features: Float32Array,
    labels: IntArray,
    num_classes: int,
    *,
    tau: float = 1.0,
    scaling: Scaling = "standardise",
    seed: int = 0,
    candidates: Sequence[float] = WEIGHT_DECAYS,
) -> float:
    """The weight decay with the lowest validation loss over several stratified halvings of the training split.

    The loss is the negative log-likelihood, first averaged within each class, so that rare ones count as much.
    """
    scores = np.zeros(len(candidates))
    for cut in range(CUTS if len(labels) < LARGE else 1):
        train, held, _ = stratified_validation(labels, 0.5, seed_of(seed, "linear probe", cut))
        probes = _fit(features[train], labels[train], num_classes, tau, scaling, candidates)
        scores += [_balanced_nll(probe, features[held], labels[held]) for probe in probes]
    return candidates[int(scores.argmin())]


def _fit(
    features: Float32Array, labels: IntArray, num_classes: int, tau: float, scaling: Scaling, decays: Sequence[float]
) -> list[LinearProbe]:
    """A probe for each weight decay, each starting from the solution of the one before."""
    x, target = torch.from_numpy(features).double(), torch.from_numpy(labels)
    deviation = x.std(dim=0, correction=0)
    shift, factor = x.mean(dim=0), 1 / deviation.clamp_min(1e-6 * float(deviation.max()) + 1e-12)
    x = F.normalize(x, dim=-1) if scaling == "unit" else (x - shift) * factor
    loss = LogitAdjusted(class_counts(labels, num_classes).tolist(), tau)
    weight = torch.zeros(num_classes, x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(num_classes, dtype=torch.float64, requires_grad=True)
    probes = []
    for decay in decays:
        optimizer = torch.optim.LBFGS(
            [weight, bias], max_iter=ITERATIONS, tolerance_grad=1e-7, tolerance_change=1e-12, history_size=20,
            line_search_fn="strong_wolfe",
        )  # fmt: skip

        def closure(decay: float = decay, optimizer: torch.optim.LBFGS = optimizer) -> Tensor:
            optimizer.zero_grad()
            value = 0.5 * decay * weight.square().sum()
            value.backward()
            return value.detach() + _add_gradients(loss, weight, bias, x, target)

        optimizer.step(closure)
        solution = weight.detach().clone(), bias.detach().clone()
        probes.append(LinearProbe(*solution, shift, factor, scaling == "unit", decay))
    return probes


def _add_gradients(loss: LogitAdjusted, weight: Tensor, bias: Tensor, x: Tensor, target: Tensor) -> Tensor:
    """The mean loss over all images; its gradients are added to those of weight and bias."""
    total = torch.zeros((), dtype=x.dtype)
    for rows in _chunks(len(x), len(weight)):
        part = loss(x[rows] @ weight.T + bias, target[rows]) * (len(target[rows]) / len(x))
        part.backward()
        total += part.detach()
    return total


def _chunks(images: int, classes: int) -> Iterator[slice]:
    """Parts of the images whose scores fit into memory."""
    step = max(_NUMBERS // classes, 1)
    return (slice(first, first + step) for first in range(0, images, step))


def most_evaluations(images: int) -> int:
    """Most evaluations of the loss on all images that choosing the weight decay and solving take, of n images."""
    cuts = CUTS if images < LARGE else 1
    return round(ITERATIONS * (1 + 0.5 * cuts * len(WEIGHT_DECAYS)))


def evaluation_seconds(images: int, width: int, classes: int) -> float:
    """Seconds of an evaluation of loss and gradients, tried on numbers that mean nothing."""
    tried = min(images, max(_NUMBERS // classes, 1))
    x, target = torch.randn(tried, width, dtype=torch.float64), torch.arange(tried) % classes
    weight = torch.zeros(classes, width, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    loss = LogitAdjusted([1] * classes, 1.0)
    _add_gradients(loss, weight, bias, x, target)
    begun = time.perf_counter()
    _add_gradients(loss, weight, bias, x, target)
    return (time.perf_counter() - begun) * images / tried


def _balanced_nll(probe: LinearProbe, features: Float32Array, labels: IntArray) -> float:
    """Negative log-likelihood, averaged within each class and then over classes."""
    target = torch.from_numpy(labels)
    each = torch.cat([
        F.cross_entropy(torch.from_numpy(probe.logits(features[rows])).double(), target[rows], reduction="none")
        for rows in _chunks(len(features), len(probe.weight))
    ])  # fmt: skip
    return float(np.mean([float(each[target == label].mean()) for label in target.unique()]))
