"""The validation splits of a search, cut from the training images: every class with two images is measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lpt.data.manifest import IntArray
from lpt.system.randomness import permutation

HELD_SHARE = 0.2
"""Share of each class that a split holds out, at least one image."""
FEWEST_HELD = 4
"""Held-out images that each class should have over all splits."""
MOST_SPLITS = 4
"""More splits cost more than they tell."""


class Cut(NamedTuple):
    """A split: positions of the images to train on, and of those held out, both ascending."""

    train: IntArray
    held: IntArray


def wanted_splits(counts: IntArray) -> int:
    """Return how many splits measure each class on `FEWEST_HELD` images, at most `MOST_SPLITS`.

    Args:
        counts: training images of each class, [C].
    """
    held = _held(counts)
    fewest = int(held[held > 0].min(initial=FEWEST_HELD))
    return min(max(-(-FEWEST_HELD // fewest), 1), MOST_SPLITS)


def cut_splits(labels: IntArray, classes: int, splits: int, seed: int) -> list[Cut]:
    """Cut splits that hold out other images of a class each, as far as it has enough.

    A class with a single image keeps it for training, in every split.

    Args:
        labels: class of each training image, [n].
        classes: number of classes C.
        splits: how many.
        seed: of the choice within each class.
    """
    counts = np.bincount(labels, minlength=classes)
    take = _held(counts)
    taken = np.zeros((splits, len(labels)), dtype=bool)
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    for label in np.flatnonzero(take).tolist():
        order = by_class[label][permutation(int(counts[label]), seed, "tune", label)]
        for split in range(splits):
            places = (split * take[label] + np.arange(take[label])) % len(order)
            taken[split, order[places]] = True
    return [Cut(_positions(~held), _positions(held)) for held in taken]


def unmeasured(labels: Sequence[IntArray], counts: IntArray, names: Sequence[str]) -> list[str]:
    """Return the names of the classes that have training images but no held-out one.

    Args:
        labels: classes of the held-out images of each split.
        counts: training images of each class, [C].
        names: of the classes.
    """
    held = np.bincount(np.concatenate(list(labels)), minlength=len(counts))
    return [names[label] for label in np.flatnonzero((counts > 0) & (held == 0)).tolist()]


def _held(counts: IntArray) -> IntArray:
    """Return how many images of each class a split holds out, [C]."""
    share = np.maximum(np.floor(counts * HELD_SHARE * (1 + 1e-9)).astype(np.int64), 1)
    return np.where(counts > 1, share, 0)


def _positions(mask: np.ndarray) -> IntArray:
    return np.flatnonzero(mask).astype(np.int64)
