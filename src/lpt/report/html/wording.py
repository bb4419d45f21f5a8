"""Sentences of the report: what a chart shows, in the numbers of this result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lpt.evaluation.paired import Difference
from lpt.evaluation.reliability import FEWEST_IMAGES
from lpt.report.html.charts_classes import is_logarithmic
from lpt.report.html.charts_methods import ACCURACY_NAMES, interval_text
from lpt.report.html.content import Calibration, Classes, Content, MethodRow, Pairs, PairShown, Probe
from lpt.system.text import plural

MISSING = "–"


def percent(value: float | None) -> str:
    """Return a fraction in percent: `71.3`."""
    return MISSING if value is None else f"{100 * value:.1f}"


def range_text(value: Difference) -> str:
    """Return the interval of an accuracy: `70.4 to 72.2`."""
    return "" if value.low is None or value.high is None else f"{100 * value.low:.1f} to {100 * value.high:.1f}"


def difference_text(value: Difference) -> str:
    """Return a difference in percentage points with its interval: `+1.2 (0.3 to 2.0)`."""
    interval = "" if value.low is None or value.high is None else f" ({100 * value.low:.1f} to {100 * value.high:.1f})"
    return f"{100 * value.mean:+.1f}{interval}".replace("-", "−")


def shown_row(content: Content) -> MethodRow | None:
    """Return the row of the method that the report is about; None where nothing was measured."""
    return next((row for row in content.methods if row.shown and row.accuracies), None)


def group_means(row: MethodRow) -> dict[str, float]:
    """Return the mean accuracies of the shot groups that are defined, by name."""
    return {name: row.accuracies[name].mean for name in ("many", "medium", "few") if name in row.accuracies}


def boundaries(classes: Classes) -> str:
    """Return the boundaries of the shot groups, with spaces at which a line does not break."""
    return classes.groups.describe().replace("> ", ">\u00a0").replace("< ", "<\u00a0")


def distribution(classes: Classes) -> str:
    """Say how unevenly the classes are filled."""
    counts = np.sort(classes.counts)[::-1]
    total, half = int(counts.sum()), 0
    half = int(np.searchsorted(np.cumsum(counts), total / 2)) + 1
    shot = np.bincount(classes.groups.of(classes.counts[classes.counts > 0]), minlength=3)
    groups = ", ".join(f"{number:,} {name}-shot" for name, number in zip(classes.groups.names, shot, strict=True))
    empty = int((classes.counts == 0).sum())
    none = f" {plural(empty, 'class')} had no training image." if empty else ""
    return (
        f"Half of the {total:,} training images belong to the {plural(half, 'largest class')}. There are {groups} "
        f"classes ({boundaries(classes)}).{none}"
    ).replace("the 1 largest class.", "the largest class.")


def groups_present(classes: Classes) -> list[tuple[int, str]]:
    """Return index and name of the shot groups that have a class."""
    present = set(classes.groups.of(classes.counts[classes.counts > 0]).tolist())
    return [(group, name) for group, name in enumerate(classes.groups.names) if group in present]


def rare_against_frequent(row: MethodRow) -> str:
    """Say how the classes of the rarest shot group compare with those of the most frequent one."""
    means = group_means(row)
    if len(means) < 2:
        return ""
    frequent, *_, rare = means
    gap = 100 * (means[frequent] - means[rare])
    word = "below" if gap > 0 else "above"
    return (
        f"{ACCURACY_NAMES[rare].capitalize()} classes reach {interval_text(row.accuracies[rare])}, {abs(gap):.1f} "
        f"points {word} {ACCURACY_NAMES[frequent]} ones ({100 * means[frequent]:.1f} %)."
    )


def probe_sentence(classes: Classes, probe: Probe, shown: str) -> str:
    """Say how many classes gained and lost, and how the few-shot ones did."""
    gained, lost = int((probe.gain > 0).sum()), int((probe.gain < 0).sum())
    same = int(np.isfinite(probe.gain).sum()) - gained - lost
    few = probe.gain[(classes.groups.of(classes.counts) == 2) & (classes.counts > 0) & np.isfinite(probe.gain)]
    rare = f" Few-shot classes: {100 * few.mean():+.1f} points in the mean." if len(few) else ""
    seeds = f", means over {probe.seeds} seeds" if probe.seeds > 1 else ""
    return (
        f"{shown} is better than the linear probe in {plural(gained, 'class')}, worse in {lost:,}, equal in "
        f"{same:,}{seeds}.{rare}"
    )


def few_images_sentence(calibration: Calibration) -> str:
    """Say which bins are left out of the line; empty where all have enough images."""
    weak = [bin_.images for bin_ in calibration.bins if not bin_.sure]
    if not weak:
        return ""
    lines = "left out of the line" if len(weak) < len(calibration.bins) else "not joined by a line"
    return (
        f" Hollow points have fewer than {FEWEST_IMAGES} images and are {lines}: {plural(len(weak), 'point')}, "
        f"{plural(sum(weak), 'image')} in all."
    )


def log_sentence(classes: Classes) -> str:
    """Say how to read the axis of class sizes, if it is logarithmic."""
    if not is_logarithmic(classes.counts):
        return ""
    present = classes.counts[classes.counts > 0]
    return (
        "The vertical axis is logarithmic: from 10 to 100 images is as high as from 100 to 1,000. "
        f"The largest class has {present.max() / present.min():,.0f} times as many images as the smallest."
    )


def pair_lists(pairs: Pairs, groups: Sequence[str]) -> list[tuple[str, Sequence[PairShown]]]:
    """Return the lists of confused pairs that are not empty, with their headings; one list alone has none."""
    if not pairs.rare:
        return [("", pairs.largest)]
    rarest = "" if pairs.group == groups[-1] else ", the rarest here"
    return [("Most mistakes", pairs.largest), (f"Most mistakes of {pairs.group}-shot classes{rarest}", pairs.rare)]


def calibration_sentence(calibration: Calibration) -> str:
    """Say how far the probabilities are off."""
    bins = calibration.bins
    images = sum(bin_.images for bin_ in bins)
    mean = sum(bin_.images * bin_.confidence for bin_ in bins) / images
    right = sum(bin_.images * bin_.accuracy for bin_ in bins) / images
    tilt = "as sure as it is right" if abs(mean - right) < 0.01 else "too sure" if mean > right else "not sure enough"
    error = "" if calibration.error is None else f" Expected calibration error: {100 * calibration.error:.1f} %."
    return (
        f"The mean probability of the predicted class is {100 * mean:.1f} %, and {100 * right:.1f} % of the "
        f"predictions are right: the model is {tilt}.{error}"
    )
