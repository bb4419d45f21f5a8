"""Prepare the run of every cell of a comparison, on images that all methods share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console

from lpt.commands.compare.checks import check_same_images
from lpt.commands.compare.plan import CellKey, Opener, Plan, with_test_images
from lpt.commands.compare.settings import cell_values, machine_values
from lpt.commands.fit.auto import suit_to_counts
from lpt.commands.fit.prepare import Prepared, open_data, prepare, with_absolute_paths
from lpt.commands.fit.request import RunRequest
from lpt.config.presets import with_preset
from lpt.config.schema import RunConfig
from lpt.config.values import merge
from lpt.data.fingerprint import data_fingerprint
from lpt.data.manifest import Splits
from lpt.data.printable import printable
from lpt.system.hardware import inspect_machine
from lpt.training.folder import RunFolder


class SharedImages:
    """LPT's run of each seed, whose images all methods of that seed share.

    The seed asked for last stays open.

    Args:
        plan: the comparison.
        opener: opens the splits of a seed; None: they are opened as the plan's values say.
        kept: runs of earlier commands; their images must be those of now.
        console: shows what is being loaded.
        read_images: decode every image once, when the first seed is opened, so that a bad one stops all here.
    """

    def __init__(
        self,
        plan: Plan,
        opener: Opener | None,
        kept: Mapping[CellKey, RunFolder],
        console: Console,
        *,
        read_images: bool = True,
    ) -> None:
        self._plan, self._opener, self._kept, self._console = plan, opener, kept, console
        self._read_images = read_images
        self._opened: tuple[int, Prepared] | None = None

    def splits(self, seed: int) -> Splits:
        """Open the images of a seed, test images among them.

        Raises:
            RunError: a kept run of this seed was trained or tested on others.
        """
        splits = open_data(self._values(seed)) if self._opener is None else self._opener(seed)
        splits = printable(with_test_images(splits, self._plan.holdout))
        assert splits.test is not None
        runs = [run for key, run in self._kept.items() if key.seed == seed]
        fingerprint = data_fingerprint(splits.train) if runs else ""
        for run in runs:
            check_same_images(run, fingerprint, splits.test)
        return splits

    def prepared(self, seed: int) -> Prepared:
        """Prepare LPT's run of a seed; its images are kept in memory where they fit.

        Raises:
            RunError: as `splits`.
            ConfigError, DataError: as `prepare`.
        """
        if self._opened is None or self._opened[0] != seed:
            splits, read_now = self.splits(seed), self._read_images and self._opened is None
            request = RunRequest(splits, config=self._values(seed))
            opened = prepare(request, read_images=read_now, console=self._console)
            self._opened = (seed, opened)
        return self._opened[1]

    def _values(self, seed: int) -> dict[str, Any]:
        return merge(self._plan.reference_values, {"runtime": {"seed": seed}})


@dataclass(frozen=True)
class CellRuns:
    """Prepares the run of each cell.

    Args:
        plan: the comparison.
        images: what the cells are trained and tested on.
        kept: runs of earlier commands; an unfinished one goes on with the settings it was begun with.
        share: the part of the preset's steps that is trained; None: all.
    """

    plan: Plan
    images: SharedImages
    kept: Mapping[CellKey, RunFolder]
    share: float | None

    @property
    def reference(self) -> Prepared:
        """LPT's run of the first seed."""
        return self.images.prepared(self.plan.seeds[0])

    def prepare(self, key: CellKey) -> Prepared:
        """Prepare the run of a cell. What the user says of the machine now also holds for a run begun before.

        Raises:
            ConfigError, DataError: as `prepare`.
        """
        base = self.images.prepared(key.seed)
        of_the_seed = {"runtime": {"seed": key.seed}, "train": {"epoch_steps": self._epoch_steps(base.config)}}
        values = merge(_method_values(self.plan, key.method), of_the_seed)
        run = self.kept.get(key)
        if run is not None and not run.finished:
            values = merge(run.settings(), machine_values(self.plan.values))
        return prepare(RunRequest(replace(base.splits, train=base.train), config=values), read_images=False)

    def wanted(self, method: str) -> dict[str, Any]:
        """Return the settings that a cell of a method has now, of any seed.

        What depends on the machine or the seed, and not on the class counts, may still be `auto`.
        """
        config, base = with_absolute_paths(self.config(method)), self.reference
        if config.train.epoch_steps != "auto":
            config.train.epoch_steps = self._epoch_steps(config)
        suited = suit_to_counts(config, base.splits.counts_before_cut, base.backbone.depth).config
        return suited.model_dump(mode="json")

    def config(self, method: str, *, with_method_values: bool = True) -> RunConfig:
        """Return the configuration of a method; fields may still be `auto`.

        Args:
            method: its name.
            with_method_values: whether it has the settings of this method alone.
        """
        plan = self.plan if with_method_values else replace(self.plan, method_values={})
        return _over_preset(_method_values(plan, method))

    def _epoch_steps(self, config: RunConfig) -> int:
        """Return the steps of an epoch of every method, given LPT's configuration."""
        share = 1.0 if self.share is None else self.share
        return max(math.floor(share * int(config.train.epoch_steps)), 1)


def _method_values(plan: Plan, method: str) -> dict[str, Any]:
    """Return the values that a method is trained with."""
    return cell_values(plan, method, _over_preset(plan.reference_values))


def _over_preset(values: dict[str, Any]) -> RunConfig:
    """Lay values over their preset; fields may still be `auto`."""
    device = str((values.get("runtime") or {}).get("device", "auto"))
    return with_preset(values, inspect_machine(device).device, origin="the settings").config
