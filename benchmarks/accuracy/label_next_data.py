"""The pictures of the simulation of `lpt label-next`: a labelled part, a pool whose labels are hidden, and test images.

Both come from uneven training images; the labelled part has the same share of every class, at least one image. For
development the test images are held-out training images; the real ones are not read.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.accuracy.cifar100_cuts import CIFAR100, open_cifar
from lpt.config.schema import DataConfig
from lpt.data.longtail import stratified_subset
from lpt.data.manifest import IntArray, LabelledImages
from lpt.data.sources import open_splits

CLOTHING = Path(CIFAR100.split(":")[1]).parent / "clothing" / "labels.csv"
IMBALANCE = 100.0
_HELD_SENDERS = 0.3


class Pictures(NamedTuple):
    """A data set of the simulation.

    Args:
        train: all training images, uneven.
        test: images to measure on.
        labelled: positions in `train` of those that are labelled from the start, ascending.
        chosen: how many to label next.
    """

    train: LabelledImages
    test: LabelledImages
    labelled: IntArray
    chosen: int

    @property
    def pool(self) -> IntArray:
        """Positions in `train` of the images that are not labelled, ascending."""
        return np.setdiff1d(np.arange(len(self.train)), self.labelled)

    @property
    def start_counts(self) -> IntArray:
        """Images of each class that are labelled from the start, [C]: they define the shot groups."""
        return self.train.subset(self.labelled).class_counts


def open_cifar_pictures(seed: int, *, development: bool, labelled: int = 1800, chosen: int = 400) -> Pictures:
    """Open CIFAR-100-LT (imbalance 100)."""
    splits = open_cifar(CIFAR100, imbalance=IMBALANCE, development=development, seed=seed)
    assert splits.test is not None
    return Pictures(splits.train, splits.test, stratified_subset(splits.train.labels, labelled, seed), chosen)


def open_clothing(seed: int, *, development: bool, labelled: int = 400, chosen: int = 100) -> Pictures:
    """Open the photographs of garments. For development the pictures of 30 % of the training senders are the test."""
    splits = open_splits(DataConfig(source=str(CLOTHING)), seed=seed)
    assert splits.test is not None
    train, test = splits.train, splits.test
    if development:
        held = _of_held_senders(train, seed)
        train, test = train.subset(np.flatnonzero(~held)), train.subset(np.flatnonzero(held))
    return Pictures(train, test, stratified_subset(train.labels, labelled, seed), chosen)


DATA_SETS: dict[str, Callable[..., Pictures]] = {"cifar100": open_cifar_pictures, "clothing": open_clothing}


def _of_held_senders(images: LabelledImages, seed: int) -> np.ndarray:
    """Return which images are by the senders that development holds out, bool [n]."""
    with CLOTHING.open(encoding="utf-8", newline="") as file:
        sender_of = {Path(row["image"]).name: row["sender"] for row in csv.DictReader(file)}
    senders = np.array([sender_of[Path(images.name(index)).name] for index in range(len(images))])
    names = np.unique(senders)
    order = np.random.default_rng((seed, 24)).permutation(len(names))
    return np.isin(senders, names[order[: int(len(names) * _HELD_SENDERS)]])
