"""Cut CIFAR-100 to a long tail, with its test images or with held-out training images to choose settings on."""

from __future__ import annotations

from pathlib import Path

from lpt.config.schema import DataConfig
from lpt.data.longtail import ShotGroups, hold_out_per_class, long_tailed_indices
from lpt.data.manifest import Splits
from lpt.data.sources import open_splits

CIFAR100 = f"hf:{Path(__file__).parent.parent.parent.parent / 'shared' / 'data' / 'cifar100'}:img:fine_label"
"""The whole data set, as `data.source` takes it."""
GROUPS = ShotGroups()
LARGEST = 450
"""Images of the largest class of the development cut."""


def open_cifar(source: str, *, imbalance: float, development: bool, seed: int, largest_class: int = LARGEST) -> Splits:
    """Open CIFAR-100-LT with its test images, or its development cut with held-out training images as `test`.

    The development cut (DESIGN section 6): 50 training images of each class held out, the rest cut with n_max 450 (or
    fewer: `largest_class`); the test images are not read.
    """
    if not development:
        return open_splits(DataConfig(source=source, long_tail=imbalance), seed=seed)
    train = open_splits(DataConfig(source=source), seed=seed).train
    rest, held = hold_out_per_class(train.labels, 50, seed)
    cut = train.subset(rest)
    cut = cut.subset(long_tailed_indices(cut.labels, imbalance, n_max=largest_class, seed=seed))
    return Splits(train=cut, validation=None, test=train.subset(held), counts_before_cut=cut.class_counts)
