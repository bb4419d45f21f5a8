"""Plots by class size: the sizes themselves, and the accuracy of each class. Each takes arrays and writes one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from lpt.data.longtail import CLASS_SIZE, ShotGroups
from lpt.data.manifest import FloatArray, IntArray
from lpt.report.style import (
    GROUP_COLOURS,
    INK,
    PAPER,
    axis_names,
    headline,
    label_above,
    new_figure,
    plain_axes,
    save,
    say_empty,
)
from lpt.system.text import plural

_CROWDED = 300
"""With more classes than this, points are small and moved a little apart."""


def plot_accuracy_by_count(
    path: Path,
    train_counts: npt.ArrayLike,
    accuracies: npt.ArrayLike,
    groups: ShotGroups,
    means: Sequence[float | None],
) -> None:
    """Draw the accuracy of each class against its training images, with a running mean over the log of the count.

    Args:
        path: PNG to write.
        train_counts: training images of each class, [C].
        accuracies: accuracy of each class, [C], fractions; NaN for a class without test images.
        groups: the boundaries of many, medium and few.
        means: accuracy of the many, medium and few-shot group, as in the tables; None for a group without classes.

    Raises:
        RunError: the file cannot be written.
    """
    counts, accuracy = np.asarray(train_counts), np.asarray(accuracies, dtype=np.float64)
    tested = np.isfinite(accuracy)
    group = groups.of(counts)[tested]
    x, y = np.maximum(counts[tested], 0.5).astype(np.float64), 100 * accuracy[tested]
    figure = new_figure(9, 5)
    axes = figure.subplots()
    plain_axes(axes)
    note = ", points moved a little apart" if len(x) > _CROWDED else ""
    classes = plural(len(x), "class")
    headline(axes, "Accuracy by class size", f"{classes} with test images; {groups.describe()}{note}", above=24)
    axes.set_ylim(-4, 104)
    if len(x):
        _draw_classes(axes, x, y, group)
        log_counts(axes, x)
        _shade_groups(axes, groups, means)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} %"))
    else:
        say_empty(axes, "no class has test images")
    axis_names(axes, CLASS_SIZE, "accuracy of the class")
    save(figure, path)


def plot_distribution(path: Path, train_counts: npt.ArrayLike, groups: ShotGroups) -> None:
    """Draw the training images of each class, from the most to the least frequent one, on a log scale.

    Args:
        path: PNG to write.
        train_counts: training images of each class, [C].
        groups: the boundaries of many, medium and few.

    Raises:
        RunError: the file cannot be written.
    """
    counts = np.sort(np.asarray(train_counts))[::-1]
    group = groups.of(counts)
    figure = new_figure(9, 4.2)
    axes = figure.subplots()
    plain_axes(axes)
    edges, labels = np.arange(len(counts) + 1), []
    for index, colour in enumerate(GROUP_COLOURS):
        members = np.flatnonzero(group == index)
        if len(members):
            first, last = members[0], members[-1]
            axes.stairs(counts[members], edges[first : last + 2], baseline=0.5, fill=True, color=colour, linewidth=0)
            text = f"{plural(len(members), 'class')}\n{plural(int(counts[members].sum()), 'image')}"
            labels.append(((first + last + 1) / 2 / len(counts), f"{groups.names[index]}\n{text}", colour))
    label_above(axes, labels, gap=0.14)
    axes.set_yscale("log")
    axes.set_ylim(0.5, 1.15 * max(counts.max(initial=1), 2))
    axes.set_xlim(0, max(len(counts), 1))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis_names(axes, "classes, largest first", "training images")
    headline(axes, "Class sizes", groups.describe(), above=48)
    save(figure, path)


def _draw_classes(axes: Axes, x: FloatArray, y: FloatArray, group: IntArray) -> None:
    """Draw a point for each class, and their running mean where there are at least five sizes."""
    shown_x, shown_y = _jitter(x, y) if len(x) > _CROWDED else (x, y)
    for index, colour in enumerate(GROUP_COLOURS):
        members = group == index
        size, alpha = (9, 0.35) if members.sum() > _CROWDED / 3 else (34, 0.8)
        axes.scatter(shown_x[members], shown_y[members], s=size, color=colour, alpha=alpha, linewidths=0, zorder=3)
    logs = np.log10(x)
    if len(np.unique(x)) < 5:
        return
    width = max(0.1, 1.06 * logs.std() * len(x) ** -0.2)  # Silverman's rule, at least a tenth of a decade
    places, mean = running_mean(logs, y, width)
    axes.plot(10**places, mean, color=PAPER, linewidth=4.5, zorder=4)
    axes.plot(10**places, mean, color=INK, linewidth=2, zorder=5)
    axes.annotate(
        "running\nmean", (1, mean[0]), (6, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
        va="center", fontsize=9, color=INK, annotation_clip=False,
    )  # fmt: skip


def running_mean(x: FloatArray, y: FloatArray, width: float) -> tuple[FloatArray, FloatArray]:
    """Return 200 places over x and the Gaussian-weighted mean of y at each; NaN where no x is near."""
    places = np.linspace(x.min(), x.max(), 200)
    levels, level = np.unique(x, return_inverse=True)
    total, number = np.bincount(level, weights=y), np.bincount(level)
    weights = np.exp(-0.5 * ((places[:, None] - levels) / width) ** 2) + 1e-12
    far = np.abs(places[:, None] - levels).min(axis=1) > 2.5 * width
    return places, np.where(far, np.nan, (weights @ total) / (weights @ number))


def _jitter(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Move points by up to 3 % of their count and 1.2 points of accuracy, always the same way."""
    rng = np.random.default_rng(0)
    return x * np.exp(rng.uniform(-0.03, 0.03, len(x))), np.clip(y + rng.uniform(-1.2, 1.2, len(y)), -1.2, 101.2)


def log_counts(axes: Axes, x: FloatArray) -> None:
    """Make x a log axis of counts with ticks 1, 3, 10, 30 ...: large counts are left, a count of 0 is at one half."""
    axes.set_xscale("log")
    low, high = x.min(), x.max()
    axes.set_xlim(high * 1.25, low / 1.25)
    ticks = [0.5] * bool(low < 1) + [m * 10**e for e in range(8) for m in (1, 3)]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: "0" if value < 1 else f"{value:,.0f}"))


def _shade_groups(axes: Axes, groups: ShotGroups, means: Sequence[float | None]) -> None:
    """Draw a faint band behind each group, with its name and mean accuracy above."""
    high, low = np.log10(axes.get_xlim())  # large counts are left
    few, many = np.log10([groups.few_below - 0.5, groups.many_above + 0.5]).clip(low, high)
    labels = []
    for index, (start, end) in enumerate([(many, high), (few, many), (low, few)]):
        axes.axvspan(10**start, 10**end, color=GROUP_COLOURS[index], alpha=0.06, linewidth=0, zorder=0)
        mean = means[index]
        if mean is not None:
            text = f"{groups.names[index]}  {100 * mean:.1f} %"
            labels.append((float(high - (start + end) / 2) / (high - low), text, GROUP_COLOURS[index]))
    label_above(axes, labels, gap=0.15)
