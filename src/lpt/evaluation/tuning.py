"""A search for settings as plain data: ranges, trials, and the chosen settings against those of the preset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lpt.config.stored import checked
from lpt.data.longtail import ShotGroups
from lpt.data.manifest import IntArray
from lpt.evaluation.metrics import Metrics
from lpt.evaluation.paired import Difference, SeedPair, paired_differences

MEASURE = "mean_per_class"
"""The accuracy that settings are chosen by."""
COMPLETE, STOPPED, FAILED = "complete", "stopped", "failed"
"""The ends of a trial: measured on all splits; stopped early, since others were better; failed."""
PRESET = 0
"""Number of the trial that has the settings of the preset."""
_ONE_ERROR = 0.6827
"""Share of a normal distribution within one standard error."""
_RESAMPLES = 1000


@dataclass(frozen=True)
class Range:
    """The values that are searched for a field.

    Args:
        path: dotted path of the field.
        low, high: the ends, both included.
        log: whether steps are multiples rather than differences.
        whole: whether values are whole numbers.
        preset: the value of the preset.
    """

    path: str
    low: float
    high: float
    log: bool
    whole: bool
    preset: float

    def describe(self) -> str:
        """Return the range as text: `0.006 to 0.096, log scale (preset 0.024)`."""
        scale = ", log scale" if self.log else ""
        return f"{self.low:.4g} to {self.high:.4g}{scale} (preset {self.preset:.4g})"


class Answers(NamedTuple):
    """The predictions for held-out images, of all splits one after the other.

    Args:
        labels: true classes, [n].
        predicted: predicted classes, [n].
    """

    labels: IntArray
    predicted: IntArray


class Score(NamedTuple):
    """The mean per-class accuracy, or a difference of two, and its standard error; None with a single image."""

    mean: float
    error: float | None


@dataclass(frozen=True)
class TrialResult:
    """A trial that has ended.

    Args:
        number: its number; 0 has the settings of the preset.
        state: `complete`, `stopped` or `failed`.
        values: the searched fields, by dotted path.
        accuracy: mean per-class accuracy on held-out images; of a stopped trial the last one that was measured.
        error: its standard error; None where the trial was not measured on all splits.
        seconds: time of the trial.
        at: seconds of the budget that were used when it ended.
        why: why it was stopped or failed; empty for a complete one.
        hosts: the machines of the cluster that it ran on; empty where it ran in the process of the search.
    """

    number: int
    state: str
    values: dict[str, int | float]
    accuracy: float | None
    error: float | None
    seconds: float
    at: float
    why: str = ""
    hosts: Sequence[str] = ()


@dataclass(frozen=True)
class Final:
    """The chosen settings and those of the preset on images that neither was trained on.

    Args:
        split: `test`, with models trained on all training images; or `validation`, with those of the trials.
        chosen: metrics of the chosen settings.
        preset: metrics of the preset; None where the preset was chosen.
        gains: differences, chosen less preset, by measure; empty where `preset` is None.
    """

    split: str
    chosen: Metrics
    preset: Metrics | None
    gains: dict[str, Difference]

    @property
    def gain(self) -> Difference | None:
        """The difference in the mean per-class accuracy, with its 95 % interval."""
        return self.gains.get(MEASURE)


@dataclass(frozen=True)
class TuneResult:
    """The result of `lpt tune`.

    Args:
        folder: the folder of the search.
        run: the run folder of the chosen settings, trained on all training images.
        method: the method.
        search: `all`, or `phase2`.
        ranges: what was searched.
        trials: those that have ended, by number.
        best: number of the trial with the highest accuracy.
        chosen: number of the trial whose settings were taken: `best`, or the preset's.
        lead: the best less the preset on the same held-out images, with its standard error; None if the preset is best.
        importance: share of each field in how accuracies differ, by dotted path; None with too few trials.
        final: the chosen settings against the preset.
        splits: number of validation splits.
        held_out: held-out images over all splits.
        unmeasured: names of the classes that have no held-out image.
        budget_minutes: minutes that were given.
        used_minutes: minutes that were used.
        facts: data, machine, command and versions.
    """

    folder: Path
    run: Path
    method: str
    search: str
    ranges: Sequence[Range]
    trials: Sequence[TrialResult]
    best: int
    chosen: int
    lead: Score | None
    importance: dict[str, float] | None
    final: Final
    splits: int
    held_out: int
    unmeasured: Sequence[str]
    budget_minutes: float
    used_minutes: float
    facts: dict[str, str]

    @property
    def settings(self) -> dict[str, float]:
        """The searched fields as they were chosen, by dotted path."""
        return self.trial(self.chosen).values

    def trial(self, number: int) -> TrialResult:
        """Return the trial of a number."""
        return next(trial for trial in self.trials if trial.number == number)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as tuning.json holds them; folders are relative, so that the whole can be moved."""
        values = asdict(self) | {"run": self.run.name}
        values["lead"] = None if self.lead is None else list(self.lead)
        values["final"]["chosen"] = self.final.chosen.to_dict()
        values["final"]["preset"] = None if self.final.preset is None else self.final.preset.to_dict()
        del values["folder"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], folder: Path) -> TuneResult:
        """Read what `to_dict` returned.

        Raises:
            KeyError, TypeError, ValueError: a value is missing, or of another kind.
        """
        result = checked(cls, {**values, "folder": folder, "run": folder / values["run"]})
        if not {result.best, result.chosen} <= {trial.number for trial in result.trials}:
            raise ValueError(f"there is no trial {result.best} or {result.chosen}, which were best and chosen")
        return result


def accuracy_of(answers: Answers, train_counts: IntArray, groups: ShotGroups) -> Score:
    """Return the mean per-class accuracy with its standard error, over other images of the same classes.

    Args:
        answers: predictions for held-out images.
        train_counts: training images of each class, [C].
        groups: the boundaries of many, medium and few.
    """
    never = np.full_like(answers.labels, -1)  # the difference to a model that is never right
    return lead_of(answers, answers._replace(predicted=never), train_counts, groups)


def lead_of(first: Answers, second: Answers, train_counts: IntArray, groups: ShotGroups) -> Score:
    """Return the mean per-class accuracy of one model less that of another on the same images, with its error.

    The error is half of the bootstrap interval that holds 68 % of the resamples (see `lpt.evaluation.paired`).
    """
    pair = _pair(first, second, train_counts)
    paired = paired_differences([pair], groups, resamples=_RESAMPLES, confidence=_ONE_ERROR)
    difference = paired.measures[MEASURE]
    if difference.low is None or difference.high is None:
        return Score(difference.mean, None)
    return Score(difference.mean, (difference.high - difference.low) / 2)


def gains_of(first: Answers, second: Answers, train_counts: IntArray, groups: ShotGroups) -> dict[str, Difference]:
    """Return the differences of two models on the same images in all measures, with 95 % intervals."""
    return paired_differences([_pair(first, second, train_counts)], groups).measures


def choose(numbers: Mapping[int, float], lead: Score | None) -> int:
    """Return the number of the trial to take: the best one, if it leads the preset by more than a standard error.

    The best of several trials is in part the luckiest. Where the lead is within one standard error, the preset stays
    (the one-standard-error rule: Breiman et al., 1984, section 3.4.3).

    Args:
        numbers: accuracies of the complete trials.
        lead: the best less the preset; None if the preset is the best.
    """
    best = best_of(numbers)
    if lead is None or lead.error is None:
        return PRESET
    return best if lead.mean > lead.error else PRESET


def best_of(numbers: Mapping[int, float]) -> int:
    """Return the number of the trial with the highest accuracy; of equal ones the first."""
    return min(numbers, key=lambda number: (-numbers[number], number))


def _pair(first: Answers, second: Answers, train_counts: IntArray) -> SeedPair:
    names = [str(index) for index in range(len(first.labels))]
    return SeedPair(0, names, first.labels, first.predicted, second.predicted, train_counts)
