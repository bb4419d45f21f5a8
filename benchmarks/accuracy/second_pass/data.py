"""The development sets: uneven training images, and held-out ones to measure on. Test images are not read."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.accuracy.cifar100_cuts import CIFAR100, open_cifar
from lpt.config.schema import DataConfig
from lpt.data.manifest import IntArray, LabelledImages, Splits
from lpt.data.sources import open_splits

SHARED = Path(CIFAR100.split(":")[1]).parent
HELD_SENDERS = 0.3


class Development(NamedTuple):
    """A development set.

    Args:
        splits: the training images, and the held-out ones as the test split.
        views: kept augmented views of an image in phase 2, so that all sets have about as many.
    """

    splits: Splits
    views: int

    @property
    def held(self) -> LabelledImages:
        """The held-out images."""
        assert self.splits.test is not None
        return self.splits.test


def cifar(imbalance: float, views: int) -> Callable[[int], Development]:
    """Return a function of the seed that opens the development cut of CIFAR-100-LT."""

    def opened(seed: int) -> Development:
        return Development(open_cifar(CIFAR100, imbalance=imbalance, development=True, seed=seed), views)

    return opened


def clothing(seed: int) -> Development:
    """Open the training pictures of garments; those of 30 % of the senders are held out."""
    table = SHARED / "clothing" / "labels.csv"
    train = open_splits(DataConfig(source=str(table)), seed=seed).train
    with table.open(encoding="utf-8", newline="") as file:
        sender_of = {Path(row["image"]).name: row["sender"] for row in csv.DictReader(file)}
    senders = np.array([sender_of[Path(train.name(index)).name] for index in range(len(train))])
    names = np.unique(senders)
    order = np.random.default_rng((seed, 25)).permutation(len(names))
    held = np.isin(senders, names[order[: round(HELD_SENDERS * len(names))]])
    return _divided(train, np.flatnonzero(held), views=16)


def grocery(seed: int) -> Development:
    """Open the training pictures of groceries; a third of each class is held out."""
    train = open_splits(DataConfig(source=str(SHARED / "grocery" / "labels.csv")), seed=seed).train
    random = np.random.default_rng((seed, 25))
    held = [random.permutation(np.flatnonzero(train.labels == label)) for label in range(len(train.class_names))]
    return _divided(train, np.sort(np.concatenate([rows[: len(rows) // 3] for rows in held])), views=20)


def _divided(train: LabelledImages, held: IntArray, views: int) -> Development:
    kept = train.subset(np.setdiff1d(np.arange(len(train)), held))
    splits = Splits(train=kept, validation=None, test=train.subset(held), counts_before_cut=kept.class_counts)
    return Development(splits, views)


SETS: dict[str, Callable[[int], Development]] = {
    "if100": cifar(100, views=5),
    "if10": cifar(10, views=3),
    "clothing": clothing,
    "grocery": grocery,
}
