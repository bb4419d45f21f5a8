"""Intervals of the accuracies of a method: what other test images could have given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lpt.data.longtail import ShotGroups
from lpt.data.manifest import IntArray
from lpt.evaluation.paired import Difference, SeedPair, paired_differences

RESAMPLES = 1000
_NEVER = -1
"""A class that no image has: who predicts it is never right."""


class SeedResult(NamedTuple):
    """The predictions of a method for the test images of a seed.

    Args:
        seed: the seed.
        images: name of each test image, n of them.
        labels: true classes, [n].
        predicted: predicted classes, [n].
        train_counts: training images of each class, [C].
    """

    seed: int
    images: Sequence[str]
    labels: IntArray
    predicted: IntArray
    train_counts: IntArray


def accuracy_intervals(
    results: Sequence[SeedResult], groups: ShotGroups, *, resamples: int = RESAMPLES
) -> dict[str, Difference]:
    """Return mean and bootstrap interval of every accuracy that is defined, by name.

    They are the paired differences to a method that is never right.

    Raises:
        DataError: as `paired_differences`.
    """
    pairs = [
        SeedPair(
            seed=result.seed,
            images=result.images,
            labels=result.labels,
            first=result.predicted,
            second=np.full_like(result.labels, _NEVER),
            train_counts=result.train_counts,
        )
        for result in results
    ]
    return paired_differences(pairs, groups, resamples=resamples).measures
