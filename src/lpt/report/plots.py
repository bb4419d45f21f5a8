"""The plots of a run folder: losses, class sizes, accuracy by class size, use of the group prompts, methods compared.

Each function takes plain arrays and writes one PNG.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from lpt.data.longtail import CLASS_SIZE, ShotGroups
from lpt.data.manifest import FloatArray, IntArray
from lpt.report.group_plot import plot_group_use
from lpt.report.loss_plot import plot_losses
from lpt.report.style import (
    BLUE,
    GREY,
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
    short,
)
from lpt.system.text import plural

__all__ = ["plot_accuracy_by_count", "plot_comparison", "plot_distribution", "plot_group_use", "plot_losses"]

_CROWDED = 300
"""From so many classes on, points are small and moved a little apart."""


def plot_accuracy_by_count(
    path: Path, train_counts: npt.ArrayLike, accuracies: npt.ArrayLike, groups: ShotGroups
) -> None:
    """Accuracy of each class against its training images, with a running mean over the log of the count.

    Args:
        path: PNG to write.
        train_counts: training images of each class, [C].
        accuracies: accuracy of each class, [C], fractions; NaN for a class without test images.
        groups: the boundaries of many, medium and few.

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
        _shade_groups(axes, groups, group, y)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} %"))
    else:
        say_empty(axes, "no class has test images")
    axis_names(axes, CLASS_SIZE, "accuracy of the class")
    save(figure, path)


def plot_comparison(
    path: Path,
    methods: Sequence[str],
    values: npt.ArrayLike,
    *,
    measures: Sequence[str] = ("overall", "many", "medium", "few"),
    highlight: str | None = None,
    title: str = "Accuracy by method",
    subtitle: str = "",
) -> None:
    """Bars of several methods side by side, one panel for each measure, with the deviation over seeds.

    Args:
        path: PNG to write.
        methods: names, top to bottom, R of them.
        values: fractions, [R, measures, seeds]; NaN where there is none.
        measures: what the panels show.
        highlight: the method drawn in colour.
        title: above the panels.
        subtitle: under it: data, budget, boundaries of the groups.

    Raises:
        RunError: the file cannot be written.
    """
    table = 100 * np.asarray(values, dtype=np.float64)
    figure = new_figure(11, 1.5 + 0.48 * len(methods))
    panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for index, (axes, measure) in enumerate(zip(panels, measures, strict=True)):
        _draw_bars(axes, table[:, index], [name == highlight for name in methods])
        axes.set_title(measure, loc="left", fontsize=10, color=INK, pad=6)
    panels[0].set_yticks(range(len(methods)), [short(name, 44) for name in methods], fontsize=10, parse_math=False)
    panels[0].invert_yaxis()
    for label, name in zip(panels[0].get_yticklabels(), methods, strict=True):
        label.set_color(INK)
        label.set_fontweight("bold" if name == highlight else "normal")
    seeds = table.shape[2]
    notes = [subtitle, f"accuracy in %; the line is ± one standard deviation over {seeds} seeds" * (seeds > 1)]
    figure.suptitle(title, x=0.012, ha="left", fontsize=12, fontweight="bold", color=INK)
    figure.supxlabel("\n".join(note for note in notes if note), x=0.012, ha="left", fontsize=9, color=GREY)
    save(figure, path)


def plot_distribution(path: Path, train_counts: npt.ArrayLike, groups: ShotGroups) -> None:
    """Training images of each class, from the most to the least frequent one, on a log scale.

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
        of = np.flatnonzero(group == index)
        if len(of):
            axes.stairs(counts[of], edges[of[0] : of[-1] + 2], baseline=0.5, fill=True, color=colour, linewidth=0)
            text = f"{plural(len(of), 'class')}\n{plural(int(counts[of].sum()), 'image')}"
            labels.append(((of[0] + of[-1] + 1) / 2 / len(counts), f"{groups.names[index]}\n{text}", colour))
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
    """A point for each class, and their running mean where there are at least five sizes."""
    shown_x, shown_y = _jitter(x, y) if len(x) > _CROWDED else (x, y)
    for index, colour in enumerate(GROUP_COLOURS):
        of = group == index
        size, alpha = (9, 0.35) if of.sum() > _CROWDED / 3 else (34, 0.8)
        axes.scatter(shown_x[of], shown_y[of], s=size, color=colour, alpha=alpha, linewidths=0, zorder=3)
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
    """Gaussian-weighted mean of y over x, at 200 places; NaN where no x is near: (places, means)."""
    places = np.linspace(x.min(), x.max(), 200)
    levels, of = np.unique(x, return_inverse=True)
    total, number = np.bincount(of, weights=y), np.bincount(of)
    weights = np.exp(-0.5 * ((places[:, None] - levels) / width) ** 2) + 1e-12
    far = np.abs(places[:, None] - levels).min(axis=1) > 2.5 * width
    return places, np.where(far, np.nan, (weights @ total) / (weights @ number))


def _jitter(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Points moved by up to 3 % of their count and 1.2 points of accuracy, always the same way."""
    rng = np.random.default_rng(0)
    return x * np.exp(rng.uniform(-0.03, 0.03, len(x))), np.clip(y + rng.uniform(-1.2, 1.2, len(y)), -1.2, 101.2)


def log_counts(axes: Axes, x: FloatArray) -> None:
    """A log axis of counts, large ones left, with ticks 1, 3, 10, 30 ...; a count of 0 stands at one half."""
    axes.set_xscale("log")
    low, high = x.min(), x.max()
    axes.set_xlim(high * 1.25, low / 1.25)
    ticks = [0.5] * bool(low < 1) + [m * 10**e for e in range(8) for m in (1, 3)]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: "0" if value < 1 else f"{value:,.0f}"))


def _shade_groups(axes: Axes, groups: ShotGroups, group: IntArray, y: FloatArray) -> None:
    """A faint band behind each group, with its name, classes and mean above."""
    high, low = np.log10(axes.get_xlim())  # large counts are left
    few, many = np.log10([groups.few_below - 0.5, groups.many_above + 0.5]).clip(low, high)
    labels = []
    for index, (start, end) in enumerate([(many, high), (few, many), (low, few)]):
        axes.axvspan(10**start, 10**end, color=GROUP_COLOURS[index], alpha=0.06, linewidth=0, zorder=0)
        of = group == index
        if of.any():
            text = f"{groups.names[index]}  {y[of].mean():.1f} %"
            labels.append((float(high - (start + end) / 2) / (high - low), text, GROUP_COLOURS[index]))
    label_above(axes, labels, gap=0.15)


def _draw_bars(axes: Axes, values: FloatArray, highlighted: Sequence[bool]) -> None:
    """Horizontal bars of the mean over seeds, [R, seeds], with value and deviation."""
    plain_axes(axes, grid=None)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 124)
    for row, (of_seeds, strong) in enumerate(zip(values, highlighted, strict=True)):
        known = of_seeds[np.isfinite(of_seeds)]
        if not len(known):
            axes.text(1, row, "–", va="center", fontsize=9, color=GREY)
            continue
        mean, deviation = known.mean(), known.std(ddof=1) if len(known) > 1 else 0.0
        axes.barh(row, mean, height=0.62, color=BLUE if strong else "#b9c3cb", linewidth=0)
        if deviation:
            axes.errorbar(mean, row, xerr=deviation, color=PAPER, elinewidth=3.6, capsize=4, capthick=3.6)
            axes.errorbar(mean, row, xerr=deviation, color=INK, elinewidth=1.3, capsize=3, capthick=1.3)
        axes.text(mean + deviation + 3.5, row, f"{mean:.1f}", va="center", fontsize=9, color=INK,
                  fontweight="bold" if strong else "normal")  # fmt: skip
