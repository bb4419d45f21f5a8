"""Compute the parts of a report from what a run keeps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lpt.commands.report.kept import KeptPredictions, KeptRun
from lpt.data.manifest import FloatArray, IntArray
from lpt.evaluation.arrangement import class_order, prompt_order
from lpt.evaluation.curves import PhaseCurves, loss_curves
from lpt.evaluation.measured import picked_shares
from lpt.evaluation.metrics import class_accuracies, most_confused
from lpt.evaluation.reliability import reliability
from lpt.report.html.content import Absent, Calibration, Classes, Probe, Sharing

NOT_MEASURED = "Nothing was measured: the run had neither a test nor a validation split (--test 0.2, --val 0.1)."
PROBE = "linear-probe"

_ROUNDING = 1e-9
"""Smallest difference of accuracies that is none of floating-point arithmetic: 1 - 2/3 is not 2/3 - 1/3."""


def classes_of(run: KeptRun, accuracy: FloatArray | None = None) -> Classes:
    """Return the table of classes of a run.

    Args:
        run: the run.
        accuracy: accuracy of each class, if it is a mean over several runs, [C]; None: that of this run.
    """
    info, kept, counts = run.info, run.predictions, run.counts
    if kept is None:
        return Classes(info.class_names, counts, info.shot_groups)
    confused, images = most_confused(kept.labels, kept.predicted, len(counts))
    return Classes(
        names=info.class_names,
        counts=counts,
        groups=info.shot_groups,
        tested=np.bincount(kept.labels, minlength=len(counts)),
        accuracy=class_accuracies(kept.labels, kept.predicted, len(counts)) if accuracy is None else accuracy,
        confused_with=np.where(images > 0, confused, -1),
        confused_images=images,
    )


def probe_of(method: Sequence[FloatArray], probe: Sequence[FloatArray]) -> Probe:
    """Compare the accuracies of a method in each class with those of the linear probe.

    Args:
        method: accuracies of the method for each seed, [C].
        probe: accuracies of the probe for the same seeds, [C].
    """
    gain = np.mean([first - second for first, second in zip(method, probe, strict=True)], axis=0)
    gain[np.abs(gain) < _ROUNDING] = 0
    changed = np.flatnonzero(np.nan_to_num(gain))
    order = changed[np.argsort(-gain[changed], kind="stable")]
    return Probe(np.mean(probe, axis=0), gain, len(probe), order)


def no_probe(run: KeptRun) -> Absent:
    """Say why the report of a run has no linear probe."""
    method = run.info.method.name
    if run.predictions is None:
        return Absent(NOT_MEASURED)
    if method == PROBE:
        return Absent("This run is a linear probe itself.")
    return Absent(
        f"A run trains no linear probe beside it. To compare with one: lpt compare DATA --methods {PROBE},{method}, "
        "then lpt report on its folder."
    )


def sharing_of(run: KeptRun) -> Sharing | Absent:
    """Return which classes share group prompts, from the picks that a run with group prompts keeps."""
    kept, method = run.predictions, run.info.method
    if kept is None:
        return Absent(NOT_MEASURED)
    if kept.groups is None:
        return Absent("predictions.csv has no column of picked group prompts: an earlier version of LPT wrote it.")
    return sharing(kept.labels, kept.groups, len(run.counts), method.pool_size)


def sharing(labels: IntArray, groups: IntArray, classes: int, pool_size: int) -> Sharing:
    """Return which classes share group prompts, from labels [n] and picks [n, k]."""
    use = picked_shares(labels, groups, classes, pool_size)
    prompts = prompt_order(use)
    order = class_order(use, prompts)
    return Sharing(use, order[use[order].sum(axis=1) > 0], prompts, groups.shape[1])


def calibration_of(run: KeptRun) -> Calibration | Absent:
    """Return how far the probabilities of a run can be trusted."""
    kept, metrics = run.predictions, run.metrics
    if kept is None or metrics is None:
        return Absent(NOT_MEASURED)
    setting = run.info.probabilities
    if reason := setting.unfitted_because:
        fitted = f"No temperature was fitted ({reason}). lpt calibrate fits one on more labelled images."
    else:
        fitted = f"The temperature is {setting.temperature:.2f}, fitted on {setting.fitted_on}."
    return Calibration(reliability(kept.right, kept.probability), metrics.ece, fitted)


def curves_of(run: KeptRun) -> Sequence[PhaseCurves] | Absent:
    """Return the losses of a run.

    Raises:
        RunError: its log is damaged.
    """
    curves = loss_curves(run.folder.records())
    if curves:
        return curves
    if run.folder.log.is_file():
        return Absent("The log holds no step: the method is solved, not trained in steps.")
    return Absent("There is no log.jsonl in the folder of the run, or the method is solved, not trained in steps.")


def sample_rows(kept: KeptPredictions, most: int) -> IntArray:
    """Return the rows of at most so many images, spread evenly over the classes, in order."""
    if len(kept.labels) <= most:
        return np.arange(len(kept.labels))
    by_class = np.argsort(kept.labels, kind="stable")
    return np.sort(by_class[np.arange(most) * len(by_class) // most])
