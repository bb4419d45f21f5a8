"""Find the pairs of classes that are confused most."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lpt.data.longtail import ShotGroups
from lpt.data.manifest import IntArray
from lpt.evaluation.metrics import class_accuracies

MOST_PAIRS = 50


class ConfusedPair(NamedTuple):
    """A class, and another one that some of its images are taken for.

    Args:
        true: index of the class.
        predicted: index of the class that is predicted instead.
        images: test images of `true` that are predicted as `predicted`.
        tested: test images of `true`.
    """

    true: int
    predicted: int
    images: int
    tested: int

    @property
    def share(self) -> float:
        """Share of the class's test images that are taken for the other class."""
        return self.images / self.tested


def confused_pairs(
    labels: npt.ArrayLike,
    predictions: npt.ArrayLike,
    train_counts: npt.ArrayLike,
    groups: ShotGroups,
    most: int = MOST_PAIRS,
) -> list[ConfusedPair]:
    """Return the most confused pairs: those of few-shot classes first, then of medium-shot and many-shot ones.

    Within a shot group they are sorted by the share of the class's images that are mistaken, then by their number.
    Pairs with a single mistake come after all others. No [C, C] table is built.

    Args:
        labels: true class of each test image, [n].
        predictions: predicted class of each test image, [n].
        train_counts: training images of each class, [C].
        groups: the boundaries of many, medium and few.
        most: number of pairs to return at most.

    Raises:
        DataError: no test image, shapes that do not fit, or a class outside 0..C-1.
    """
    y, predicted, counts = np.asarray(labels), np.asarray(predictions), np.asarray(train_counts)
    class_accuracies(y, predicted, len(counts))  # checks them
    tested, wrong = np.bincount(y, minlength=len(counts)), y != predicted
    codes, images = np.unique(y[wrong].astype(np.int64) * len(counts) + predicted[wrong], return_counts=True)
    true, taken_for = np.divmod(codes, len(counts))
    shot: IntArray = groups.of(counts)[true]
    order = np.lexsort((codes, -images, -images / tested[true], -shot, images == 1))[:most]
    return [
        ConfusedPair(int(true[i]), int(taken_for[i]), int(images[i]), int(tested[true[i]])) for i in order
    ]  # fmt: skip
