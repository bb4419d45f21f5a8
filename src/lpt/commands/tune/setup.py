"""What all trials of a search share: images, splits, the configuration of the preset, and the folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from lpt.commands.fit.prepare import Prepared, prepare
from lpt.commands.fit.request import RunRequest
from lpt.commands.tune.splits import Cut, cut_splits
from lpt.commands.tune.store import StoredPlan, TuneFolder
from lpt.config.values import merge, nested
from lpt.data.manifest import IntArray, LabelledImages, Splits
from lpt.evaluation.tuning import Answers, Score, accuracy_of, lead_of


@dataclass(frozen=True)
class Setup:
    """What all trials share.

    Args:
        folder: of the search.
        plan: as it is stored.
        base: the run of the preset on all training images, which are kept in memory where they fit.
    """

    folder: TuneFolder
    plan: StoredPlan
    base: Prepared

    @property
    def seed(self) -> int:
        """The seed of every random draw."""
        return self.base.config.runtime.seed

    @property
    def counts(self) -> IntArray:
        """Training images of each class, [C]."""
        return self.base.splits.counts_before_cut

    @cached_property
    def cuts(self) -> list[Cut]:
        """The splits of the training images."""
        train = self.base.train
        return cut_splits(train.labels, len(train.class_names), self.plan.splits, self.seed)

    def split(self, number: int) -> Splits:
        """Return a split: images to train on, and held-out ones as validation. Test images are never among them."""
        train = self.base.train
        if has_validation(self.base):
            return replace(self.base.splits, train=train, test=None)
        cut = self.cuts[number]
        return replace(
            self.base.splits, train=train.subset(cut.train), validation=train.subset(cut.held), test=None, notes=()
        )

    def held_out(self, number: int) -> LabelledImages:
        """Return the held-out images of a split."""
        images = self.split(number).validation
        assert images is not None
        return images

    def prepared(self, values: Mapping[str, Any], split: int) -> Prepared:
        """Prepare a trial's run on a split.

        Args:
            values: the searched fields, by dotted path.
            split: number of the split.

        Raises:
            ConfigError: the values do not fit together.
        """
        return self._prepared(values, self.split(split))

    def final(self, values: Mapping[str, Any]) -> Prepared:
        """Prepare a run on all training images, with the test images.

        Raises:
            ConfigError: as `prepared`.
        """
        return self._prepared(values, replace(self.base.splits, train=self.base.train))

    def answers(self, number: int, splits: int | None = None) -> Answers | None:
        """Return a trial's answers for the held-out images of its first splits; None where one is not finished.

        Args:
            number: of the trial.
            splits: how many; None: all.
        """
        parts = [self.folder.answers(number, split) for split in range(splits or self.plan.splits)]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        return Answers(*(np.concatenate(arrays) for arrays in zip(*known, strict=True)))

    def accuracy(self, answers: Answers) -> Score:
        """Return the mean per-class accuracy with its standard error."""
        return accuracy_of(answers, self.counts, self.base.groups)

    def lead(self, first: Answers, second: Answers) -> Score:
        """Return the difference of two trials in it, with its standard error."""
        return lead_of(first, second, self.counts, self.base.groups)

    def _prepared(self, values: Mapping[str, Any], splits: Splits) -> Prepared:
        config = merge(self.plan.config, nested(values))
        return prepare(RunRequest(splits, config=config), read_images=False)


def has_validation(base: Prepared) -> bool:
    """Return whether the data has validation images itself; then no split is cut."""
    return base.splits.validation is not None and len(base.splits.validation) > 0
