"""Find the pairs of classes that are confused most."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lpt.data.longtail import ShotGroups
from lpt.data.manifest import IntArray
from lpt.evaluation.metrics import class_accuracies

MOST_PAIRS = 50
"""Pairs in both lists together."""
FIRST_PAIRS = 6
"""Pairs with most mistakes that are listed as such, whatever their classes."""


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


class ConfusedPairs(NamedTuple):
    """The most confused pairs in two lists without a pair in common, each by the number of mistakes.

    Args:
        largest: the pairs with most mistakes, whatever their classes; after the first ones without those in `rare`.
        rare: pairs whose true class is in the rarest shot group; empty if all classes are in one group.
        group: index of the rarest shot group that is measured: 0 many, 1 medium, 2 few.
    """

    largest: list[ConfusedPair]
    rare: list[ConfusedPair]
    group: int


def confused_pairs(
    labels: npt.ArrayLike,
    predictions: npt.ArrayLike,
    train_counts: npt.ArrayLike,
    groups: ShotGroups,
    most: int = MOST_PAIRS,
    first: int = FIRST_PAIRS,
) -> ConfusedPairs:
    """Return the pairs with most mistakes, and beside them those of the rarest classes, which would be hidden behind.

    The `first` pairs come before anything else; the pairs of the rarest classes then take half of `most` at most.
    Pairs with as many mistakes are sorted by the share of the class's images that are mistaken. No [C, C] table is
    built.

    Args:
        labels: true class of each test image, [n].
        predictions: predicted class of each test image, [n].
        train_counts: training images of each class, [C].
        groups: the boundaries of many, medium and few.
        most: number of pairs to return at most, in both lists together.
        first: pairs with most mistakes that are never moved to the list of the rarest classes.

    Raises:
        DataError: no test image, shapes that do not fit, or a class outside 0..C-1.
    """
    y, predicted, counts = np.asarray(labels), np.asarray(predictions), np.asarray(train_counts)
    class_accuracies(y, predicted, len(counts))  # checks them
    tested, wrong = np.bincount(y, minlength=len(counts)), y != predicted
    codes, images = np.unique(y[wrong].astype(np.int64) * len(counts) + predicted[wrong], return_counts=True)
    true, taken_for = np.divmod(codes, len(counts))
    shot: IntArray = groups.of(counts)
    group = int(shot[tested > 0].max())
    order = np.lexsort((codes, -images / tested[true], -images))
    of_rare = (shot[true] == group) & bool((shot[tested > 0] != group).any())
    rare = [i for i in order[first:].tolist() if of_rare[i]][: most // 2]
    largest = order[~np.isin(order, rare)][: most - len(rare)].tolist()

    def pair(i: int) -> ConfusedPair:
        return ConfusedPair(int(true[i]), int(taken_for[i]), int(images[i]), int(tested[true[i]]))

    return ConfusedPairs([pair(i) for i in largest], [pair(i) for i in rare], group)
