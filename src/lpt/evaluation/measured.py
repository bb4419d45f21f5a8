"""Predictions of a split with the metrics they give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lpt.data.longtail import ShotGroups
from lpt.data.manifest import IntArray
from lpt.evaluation.metrics import Metrics, measure_scores
from lpt.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Measured:
    """Predictions of a split with the metrics they give.

    Args:
        metrics: all measures.
        predictions: scores, labels, groups.
        train_counts: training images of each class, [C].
        groups: boundaries of the shot groups.
    """

    metrics: Metrics
    predictions: Predictions
    train_counts: IntArray
    groups: ShotGroups


def measure_predictions(
    predictions: Predictions, train_counts: IntArray, groups: ShotGroups, *, scale: float, temperature: float
) -> Measured:
    """Metrics of predictions, with probabilities softmax(scale * cosine / temperature)."""
    metrics = measure_scores(
        predictions.labels, predictions.scores, train_counts, groups, scale=scale, temperature=temperature
    )
    return Measured(metrics, predictions, train_counts, groups)


def group_use(picked: IntArray, labels: IntArray, num_classes: int, pool_size: int) -> npt.NDArray[np.float64]:
    """How often images of each class pick each group prompt, as a share of the class's picks, [n, k], [n] -> [C, M]."""
    cells = (labels[:, None] * pool_size + picked).ravel()
    use = np.bincount(cells, minlength=num_classes * pool_size).reshape(num_classes, pool_size).astype(np.float64)
    return use / np.maximum(use.sum(axis=1, keepdims=True), 1)
