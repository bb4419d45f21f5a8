"""The minutes of a search: what must be kept for the final runs, and what is left for trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lpt.config.values import merge, nested
from lpt.errors import ConfigError
from lpt.evaluation.tuning import COMPLETE, PRESET, TrialResult, best_of
from lpt.system.text import duration

FINAL_FACTOR = 1.2
"""A final run trains on more images than a trial, and is tested: at most so much longer for the same steps."""
PACKING_SECONDS = 10.0
"""Time to write pack, plots and report of a final run."""
TRIALS_WANTED = 8
"""Trials that a budget should hold before it is spent on more than one split for each."""


@dataclass(frozen=True)
class Budget:
    """The time of a search.

    Args:
        seconds: for everything.
        finals: runs on all training images that follow: the chosen settings, and the preset where there are test
            images to compare them on.
        most: most trials; None: as many as fit.
        final_ratio: steps of a final run as a multiple of those of a split of a trial: more than 1 where the trials
            share a first phase.
        slots: trials or final runs at a time, on machines like this one.
    """

    seconds: float
    finals: int
    most: int | None = None
    final_ratio: float = 1.0
    slots: int = 1

    def splits(self, wanted: int, used: float, split_seconds: float) -> int:
        """Return how many splits a trial has, at most those wanted: as many as leave time for `TRIALS_WANTED` trials.

        Where fewer trials are asked for, that many count.

        Args:
            wanted: splits that the rare classes need.
            used: seconds used so far.
            split_seconds: seconds of a split.

        Raises:
            ConfigError: not even two trials of one split fit.
        """
        kept = self._rounds(self.finals) * self._final_seconds(split_seconds)
        left = self.seconds - used - kept
        if left < self._rounds(2) * split_seconds:
            least = math.ceil((used + kept + self._rounds(2) * split_seconds) / 60)
            runs = "the final run" if self.finals == 1 else f"the {self.finals} final runs"
            raise ConfigError(
                f"--budget {self.seconds / 60:g}: too few minutes for two trials, the preset and another. A trial "
                f"takes about {duration(split_seconds)} on this machine and {runs} about {duration(kept)}: give at "
                f"least {least} minutes, fewer steps (--set train.epoch_steps=...), or a smaller input (--size)."
            )
        trials = min(TRIALS_WANTED, self.most or TRIALS_WANTED)
        return min(wanted, max(int(left / (self._rounds(trials) * split_seconds)), 1))

    def deadline(self, results: Sequence[TrialResult], splits: int) -> float:
        """Return the second at which trials must end; there is none before the preset's is known.

        Args:
            results: trials that have ended.
            splits: splits of each.
        """
        complete = {trial.number: trial for trial in results if trial.state == COMPLETE}
        if PRESET not in complete:
            return math.inf
        best = complete[best_of({number: trial.accuracy or 0.0 for number, trial in complete.items()})]
        runs = [best] if self.finals == 1 else [best, complete[PRESET]]
        kept = [self._final_seconds(trial.seconds / splits) for trial in runs]
        return self.seconds - (sum(kept) if self.slots == 1 else max(kept))

    def why_over(self, results: Sequence[TrialResult], splits: int, used: float, going: int = 0) -> str:
        """Return why no further trial begins; empty while there is time for one as long as the preset's.

        Args:
            results: trials that have ended.
            splits: splits of each.
            used: seconds used so far.
            going: trials that have not ended.
        """
        if self.most is not None and len(results) + going >= self.most:
            return f"{len(results) + going} trials, as asked for"
        left, needed = self.deadline(results, splits) - used, preset_seconds(results)
        if results and left < needed:
            return f"{duration(max(left, 0))} are left for trials, and the preset's took {duration(needed)}"
        return ""

    def _rounds(self, runs: int) -> int:
        """Return how many runs follow one another where several go on side by side."""
        return -(-runs // self.slots)

    def _final_seconds(self, split_seconds: float) -> float:
        """Return the seconds of a final run, given those of a split of a trial."""
        return FINAL_FACTOR * self.final_ratio * split_seconds + PACKING_SECONDS


def preset_seconds(results: Sequence[TrialResult]) -> float:
    """Return the seconds of the preset's trial; 0 before it has ended."""
    return next((trial.seconds for trial in results if trial.number == PRESET), 0.0)


def epochs_of(train: Mapping[str, Any], search: str) -> int:
    """Return the epochs that a trial trains, given the values of the section `train`."""
    phases = ("phase2",) if search == "phase2" else ("phase1", "phase2")
    return sum(int(train[phase]["epochs"]) for phase in phases)


def relative_steps(config: Mapping[str, Any], values: Mapping[str, float], search: str) -> float:
    """Return the steps of a trial as a multiple of the preset's.

    Args:
        config: the preset's values, by section.
        values: the fields that the trial changes, by dotted path.
        search: `all` or `phase2`.
    """
    changed = merge(dict(config), nested(values))
    return epochs_of(changed["train"], search) / epochs_of(config["train"], search)
