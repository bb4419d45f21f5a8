"""Plots of a comparison: accuracy by class size, by shot group and against cost, legible for about 15 methods.

Each function takes plain arrays and writes one PNG. The reference and the three strongest others have a colour, the
same one in every plot; the rest are grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from lpt.data.longtail import CLASS_SIZE, ShotGroups
from lpt.data.manifest import FloatArray
from lpt.report.label_places import Label, place_labels
from lpt.report.plots import log_counts, running_mean
from lpt.report.style import (
    BLUE,
    FAINT,
    GREY,
    INK,
    PAPER,
    SKY,
    VERMILION,
    axis_names,
    headline,
    label_above,
    new_figure,
    plain_axes,
    save,
    say_empty,
    short,
    spread,
)

Drawn = dict[int, tuple[FloatArray, FloatArray]]

STRONGEST = (VERMILION, "#c99700", SKY)
"""Colours of the three strongest methods beside the reference."""
REST = "#aab4bc"
_DOT = "#8a959e"


@dataclass(frozen=True)
class Rows:
    """The methods that a plot shows.

    Args:
        names: titles of the methods from top to bottom, R of them.
        strength: a number for each; the three highest get a colour.
        highlight: the reference's row; None: it has no result.
        seeds: a note on the seeds of the means, for the subtitle.
    """

    names: Sequence[str]
    strength: Sequence[float]
    highlight: int | None
    seeds: str

    def colours(self, rest: str) -> list[str]:
        """Return the colour of each method: blue for the reference, three for the strongest others, else `rest`."""
        order = [row for row in np.argsort(-np.asarray(self.strength), kind="stable").tolist() if row != self.highlight]
        result = [rest] * len(self.names)
        for row, colour in zip(order, STRONGEST, strict=False):
            result[row] = colour
        if self.highlight is not None:
            result[self.highlight] = BLUE
        return result


def plot_methods_by_count(
    path: Path,
    rows: Rows,
    class_counts: npt.ArrayLike,
    accuracies: Sequence[FloatArray],
    groups: ShotGroups,
) -> None:
    """Plot the accuracy of classes against their sizes, as a smoothed line for each method.

    The largest classes are at the left, as in the plot of class sizes. Methods differ at the rare classes, so their
    names stand at the right.

    Args:
        path: PNG to write.
        rows: the methods.
        class_counts: images of each class, [C], held-out ones included.
        accuracies: of each method, its accuracy in each class for each of its seeds, [S, C]; NaN: not tested.
            A class that a seed has not tested is left out.
        groups: the boundaries of many, medium and few.

    Raises:
        RunError: the file cannot be written.
    """
    counts = np.maximum(np.asarray(class_counts, dtype=np.float64), 0.5)
    figure = new_figure(11, 5.8)
    axes = figure.subplots()
    plain_axes(axes)
    drawn = _smooth_lines(axes, rows, counts, accuracies)
    headline(axes, "Accuracy by class size", _by_count_subtitle(rows, drawn, accuracies), above=24)
    if not drawn:
        say_empty(axes, "no method has a result")
    else:
        log_counts(axes, counts)
        _mark_groups(axes, groups, counts)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} %"))
        _label_ends(axes, rows, drawn)
    axis_names(axes, CLASS_SIZE, "accuracy of the class, smoothed over the log of its size")
    save(figure, path)


def plot_groups(path: Path, rows: Rows, means: FloatArray, stds: FloatArray, boundaries: str) -> None:
    """Plot the accuracies of each method as dots in four panels: overall, many, medium, few.

    Args:
        path: PNG to write.
        rows: the methods.
        means: fractions, [R, 4]; NaN where there is none.
        stds: standard deviations over seeds, [R, 4]; NaN of a single seed.
        boundaries: a text that says what many, medium and few mean.

    Raises:
        RunError: the file cannot be written.
    """
    names, highlight, tint = rows.names, rows.highlight, rows.colours(_DOT)
    figure = new_figure(12, 2.0 + 0.36 * max(len(names), 1))
    panels = figure.subplots(1, 4, sharey=True)
    for index, (axes, measure) in enumerate(zip(panels, ("overall", "many", "medium", "few"), strict=True)):
        _draw_dots(axes, 100 * means[:, index], 100 * stds[:, index], tint, highlight)
        axes.set_title(measure, loc="left", fontsize=10, color=INK, pad=6)
    panels[0].set_yticks(range(len(names)), [short(name, 44) for name in names], fontsize=9.5, parse_math=False)
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    for row, label in enumerate(panels[0].get_yticklabels()):
        label.set_fontweight("bold" if row == highlight else "normal")
    figure.suptitle("Accuracy by shot group", x=0.012, ha="left", fontsize=12, fontweight="bold", color=INK)
    notes = [f"{boundaries} {CLASS_SIZE}; {rows.seeds}", "accuracy in %, each panel on a scale of its own"]
    if np.isfinite(stds).any():
        notes.append("line: ± one standard deviation over seeds")
    if highlight is not None:
        notes.append("vertical line: the method in bold")
    figure.supxlabel("\n".join([notes[0], "; ".join(notes[1:])]), x=0.012, ha="left", fontsize=9, color=GREY)
    save(figure, path)


def plot_cost(path: Path, rows: Rows, cost: FloatArray, accuracy: FloatArray) -> None:
    """Plot few-shot and overall accuracy against trained parameters and training seconds, in four panels.

    Args:
        path: PNG to write.
        rows: the methods.
        cost: trained parameters and training seconds, [R, 2].
        accuracy: few-shot and overall, fractions, [R, 2]; NaN where there is none.

    Raises:
        RunError: the file cannot be written.
    """
    figure = new_figure(13, min(6.4 + 0.35 * len(rows.names), 10.4))
    panels = figure.subplots(2, 2, sharex="col", sharey="row")
    titles, units = ("few-shot accuracy", "overall accuracy"), ("trained parameters", "training seconds")
    for row, column in product(range(2), range(2)):
        axes = panels[row, column]
        plain_axes(axes, grid="both")
        _scatter(axes, rows, cost[:, column], 100 * accuracy[:, row])
        axes.tick_params(labelbottom=True, labelleft=column == 0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
        axis_names(axes, units[column] + " (log scale)", titles[row] if column == 0 else "")
    figure.suptitle("Accuracy against cost", x=0.012, ha="left", fontsize=12, fontweight="bold", color=INK)
    note = f"up and to the left is better; {rows.seeds}"
    figure.supxlabel(note, x=0.012, ha="left", fontsize=9, color=GREY)
    _label_points(figure, panels, rows, cost, 100 * accuracy)
    save(figure, path)


def _smooth_lines(axes: Axes, rows: Rows, counts: FloatArray, accuracies: Sequence[FloatArray]) -> Drawn:
    """Draw all methods, grey ones first; return the places (log10 of the count) and means of each."""
    tint, drawn = rows.colours(REST), {}
    for row in sorted(range(len(tint)), key=lambda row: (tint[row] != REST, row == rows.highlight)):
        tested = np.asarray(np.isfinite(accuracies[row]).all(axis=0))
        if not tested.any():
            continue
        curves = [_smoothed(counts[tested], 100 * accuracy[tested]) for accuracy in accuracies[row]]
        places, means = curves[0][0], np.mean([curve[1] for curve in curves], axis=0)
        strong, grey = row == rows.highlight, tint[row] == REST
        if strong and len(curves) > 1:
            std = np.std([curve[1] for curve in curves], axis=0, ddof=1)
            axes.fill_between(10**places, means - std, means + std, color=BLUE, alpha=0.15, linewidth=0, zorder=3)
        elif not grey:
            axes.plot(10**places, means, color=PAPER, linewidth=3.8, zorder=4)
        axes.plot(
            10**places, means, color=tint[row], linewidth=2.8 if strong else 1.1 if grey else 1.9,
            zorder=3 if grey else 5, marker="o" if len(places) < 5 else None, markersize=5,
        )  # fmt: skip
        drawn[row] = (places, means)
    return drawn


def _smoothed(counts: FloatArray, accuracy: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return a running mean over the log of the count; with fewer than five sizes, the mean of each size."""
    logs = np.log10(counts)
    levels, level = np.unique(logs, return_inverse=True)
    if len(levels) < 5:
        return levels, np.bincount(level, weights=accuracy) / np.bincount(level)
    width = max(0.1, 1.06 * logs.std() * len(logs) ** -0.2)  # Silverman's rule, at least a tenth of a decade
    return running_mean(logs, accuracy, width)


def _by_count_subtitle(rows: Rows, drawn: Drawn, accuracies: Sequence[FloatArray]) -> str:
    parts = [rows.seeds]
    if rows.highlight in drawn and len(accuracies[rows.highlight]) > 1:
        parts.append(f"band: {short(rows.names[rows.highlight])} ± one standard deviation over its seeds")
    if len(drawn) > 4:
        parts.append("in colour beside it: the three best in mean per class")
    return "; ".join(parts)


def _mark_groups(axes: Axes, groups: ShotGroups, counts: FloatArray) -> None:
    """Draw a thin line at each boundary of the groups, and their names above."""
    high, low = np.log10(axes.get_xlim())
    few, many = np.log10([groups.few_below - 0.5, groups.many_above + 0.5]).clip(low, high)
    index, labels = groups.of(np.rint(counts)), []
    for group, (start, end) in enumerate([(many, high), (few, many), (low, few)]):
        if number := int((index == group).sum()):
            text = f"{groups.names[group]}, {number:,} {'class' if number == 1 else 'classes'}"
            labels.append((float(high - (start + end) / 2) / (high - low), text, GREY))
    for edge in {float(few), float(many)} - {float(low), float(high)}:
        axes.axvline(10**edge, color=FAINT, linewidth=1.2, zorder=1)
    label_above(axes, labels, gap=0.2)


def _label_ends(axes: Axes, rows: Rows, drawn: Drawn) -> None:
    """Write the names to the right of the lines' ends, moved apart, with a thin leader."""
    low, high = axes.get_ylim()
    tint, ends = rows.colours(GREY), [float(drawn[row][1][0]) for row in drawn]
    places = spread([(end - low) / (high - low) for end in ends], 0.043, within=1)
    for row, end, place in zip(drawn, ends, places, strict=True):
        axes.annotate(
            short(rows.names[row], 34), (10 ** drawn[row][0][0], end), (1.03, place), textcoords="axes fraction",
            va="center", fontsize=9, color=tint[row], annotation_clip=False, parse_math=False,
            fontweight="bold" if row == rows.highlight else "normal",
            arrowprops={"arrowstyle": "-", "color": tint[row], "linewidth": 0.6, "alpha": 0.7,
                        "shrinkA": 2, "shrinkB": 1, "relpos": (0, 0.5)},
        )  # fmt: skip


def _draw_dots(axes: Axes, means: FloatArray, stds: FloatArray, tint: Sequence[str], highlight: int | None) -> None:
    """Draw mean and deviation of each method on a row, with its value to the right."""
    plain_axes(axes, grid=None)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    known = np.isfinite(means)
    if not known.any():
        axes.set_xticks([])
        axes.text(0.5, 0.5, "no such class", transform=axes.transAxes, ha="center", fontsize=9, color=GREY)
        return
    reach = np.nan_to_num(stds)
    low, high = (means - reach)[known].min(), (means + reach)[known].max()
    room = max(high - low, 2.0)
    axes.set_xlim(low - 0.08 * room, high + 0.32 * room)
    axes.xaxis.set_major_locator(_percent_ticks(axes.get_xlim(), 4))
    if highlight is not None and known[highlight]:
        axes.axvline(means[highlight], color=BLUE, linewidth=0.9, alpha=0.45, zorder=1)
    for row, (mean, std, colour) in enumerate(zip(means, reach, tint, strict=True)):
        axes.axhline(row, color=FAINT, linewidth=0.8, zorder=0)
        if not known[row]:
            axes.text(low, row, "–", va="center", fontsize=9, color=GREY)
            continue
        axes.plot([mean - std, mean + std], [row, row], color=colour, linewidth=2, solid_capstyle="butt", zorder=3)
        axes.scatter([mean], [row], s=58 if row == highlight else 36, color=colour, linewidths=0, zorder=4)
        axes.annotate(
            f"{mean:.1f}", (mean + std, row), (6, 0), textcoords="offset points", va="center", fontsize=9, color=INK,
            fontweight="bold" if row == highlight else "normal", zorder=5,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip


def _positive(cost: FloatArray) -> tuple[FloatArray, float | None]:
    """Return costs for a log axis, and where 0 stands on it: left of the least other cost; None without a 0."""
    known = cost[np.isfinite(cost) & (cost > 0)]
    zero = float(known.min() / 3 if len(known) else 1.0)
    has_zero = bool((cost <= 0).any())
    return np.where(cost > 0, cost, zero), zero if has_zero else None


def _scatter(axes: Axes, rows: Rows, cost: FloatArray, accuracy: FloatArray) -> None:
    """Draw a point for each method, and set the ticks."""
    tint, (x, zero) = rows.colours(_DOT), _positive(cost)
    known = np.isfinite(accuracy) & np.isfinite(x)
    if not known.any():
        say_empty(axes, "no such class")
        return
    for row in np.flatnonzero(known).tolist():
        size, order = (90, 5) if row == rows.highlight else (46, 4)
        axes.scatter(x[row], accuracy[row], s=size, color=tint[row], linewidths=0, zorder=order)
    axes.set_xscale("log")
    axes.set_xlim(x[known].min() / 1.8, x[known].max() * 1.8)
    room = max(np.ptp(accuracy[known]), 2.0)
    axes.set_ylim(accuracy[known].min() - 0.12 * room, accuracy[known].max() + 0.12 * room)
    axes.yaxis.set_major_locator(_percent_ticks(axes.get_ylim(), 7))
    low, high = axes.get_xlim()
    steps = (1, 3) if high / low < 3000 else (1,)
    ticks = [m * 10.0**e for e in range(-3, 12) for m in steps if low <= m * 10.0**e <= high]
    ticks = [tick for tick in ticks if zero is None or tick > 1.5 * zero]
    axes.xaxis.set_major_locator(FixedLocator([*([] if zero is None else [zero]), *ticks]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: "0" if value == zero else _compact(value)))


def _compact(value: float) -> str:
    """Write 1,500,000 as 1.5 M, and 20,000 as 20 k."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g}"


def _percent_ticks(limits: tuple[float, float], most: int) -> FixedLocator:
    """Return round ticks within the limits, none below 0 or above 100."""
    ticks = MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(*limits)
    return FixedLocator([tick for tick in ticks if max(limits[0], 0) <= tick <= min(limits[1], 100)])


def _label_points(figure: Figure, panels: npt.NDArray[Any], rows: Rows, cost: FloatArray, accuracy: FloatArray) -> None:
    """Write the names beside the points of all four panels, once the layout is known."""
    figure.draw_without_rendering()
    tint = rows.colours(GREY)
    order = sorted(range(len(tint)), key=lambda row: (row != rows.highlight, tint[row] == GREY))
    for row, column in product(range(2), range(2)):
        x, y = _positive(cost[:, column])[0], accuracy[:, row]
        labels = [
            Label(short(rows.names[method], 34), x[method], y[method], tint[method], method == rows.highlight)
            for method in order
            if np.isfinite(y[method]) and np.isfinite(x[method])
        ]
        place_labels(panels[row, column], labels)
