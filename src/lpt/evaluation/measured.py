"""Predictions of a split with the metrics they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lpt.data.longtail import ShotGroups
from lpt.data.manifest import FloatArray, IntArray
from lpt.evaluation.metrics import ClassResult, Metrics, class_accuracies, class_results, measure_scores
from lpt.evaluation.predictions import Predictions

USED_BY = 0.2
"""Share of a class's images that must pick a group prompt for it to be one of the class's own."""
MORE_THAN_PICKED = 2
"""Group prompts that a class may have beyond those of a single image."""


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

    @property
    def predicted(self) -> IntArray:
        """Predicted class of each image, [n]."""
        return np.asarray(self.predictions.scores.argmax(axis=1))

    def class_accuracies(self) -> FloatArray:
        """Return the accuracy of each class, [C]; NaN for a class without images."""
        return class_accuracies(self.predictions.labels, self.predicted, len(self.train_counts))

    def class_results(self, class_names: Sequence[str]) -> list[ClassResult]:
        """Return the result of each class, in label order."""
        return class_results(self.predictions.labels, self.predicted, self.train_counts, self.groups, class_names)

    def group_use(self, pool_size: int) -> FloatArray | None:
        """Return how often images of each class pick each group prompt, as a share of the class's picks, [C, M].

        None where no group prompts were picked.
        """
        picked, labels = self.predictions.groups, self.predictions.labels
        return None if picked is None else picked_shares(labels, picked, len(self.train_counts), pool_size)

    def most_used_groups(self, pool_size: int) -> list[list[int]] | None:
        """Return the group prompts that images of each class pick most, the most picked first; ties by index.

        None where no group prompts were picked. A class without images has none.
        """
        use, picked = self.group_use(pool_size), self.predictions.groups
        if use is None or picked is None:
            return None
        return most_picked(use, picked.shape[1])


def picked_shares(labels: IntArray, picked: IntArray, classes: int, pool_size: int) -> FloatArray:
    """Return the share of each group prompt in the picks of each class, [C, M]; zeros for a class without images.

    Args:
        labels: true class of each image, [n].
        picked: its group prompts, [n, k].
        classes: number of classes C.
        pool_size: number of group prompts M.
    """
    pairs = (labels[:, None] * pool_size + picked).ravel()  # [n * k]
    use = np.bincount(pairs, minlength=classes * pool_size).reshape(classes, pool_size).astype(np.float64)
    return np.asarray(use / np.maximum(use.sum(axis=1, keepdims=True), 1))


def most_picked(use: FloatArray, top_k: int) -> list[list[int]]:
    """Return the group prompts that each class picks most, the most picked first; ties by index.

    Args:
        use: share of each group prompt in the picks of each class, [C, M].
        top_k: group prompts that an image picks.
    """
    order = np.argsort(-use, axis=1, kind="stable")[:, : top_k + MORE_THAN_PICKED]
    by_images = np.take_along_axis(use, order, axis=1) * top_k
    return [groups[shares >= USED_BY - 1e-9].tolist() for groups, shares in zip(order, by_images, strict=True)]


def measure_predictions(
    predictions: Predictions, train_counts: IntArray, groups: ShotGroups, *, scale: float, temperature: float
) -> Measured:
    """Metrics of predictions, with probabilities softmax(scale * cosine / temperature)."""
    metrics = measure_scores(
        predictions.labels, predictions.scores, train_counts, groups, scale=scale, temperature=temperature
    )
    return Measured(metrics, predictions, train_counts, groups)
