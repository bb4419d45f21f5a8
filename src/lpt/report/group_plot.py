"""Draw which classes pick which group prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from lpt.data.longtail import ShotGroups
from lpt.data.manifest import FloatArray, IntArray
from lpt.report.fonts import numbered
from lpt.report.style import (
    FAINT,
    GROUP_COLOURS,
    HEAT,
    INK,
    axis_names,
    headline,
    new_figure,
    save,
    short,
    spread,
)
from lpt.system.text import plural

_HEAT_ROWS = 480
"""Most rows of the heat map; with more classes, neighbours by count are averaged."""

_PROMPTS = "group prompt, ordered by the size of the classes that pick it"
_NUMBERED = "class 1: the first class of per_class.csv; no font installed here can write the names of numbered classes"


def plot_group_use(
    path: Path,
    use: npt.ArrayLike,
    train_counts: npt.ArrayLike,
    groups: ShotGroups,
    class_names: Sequence[str] | None = None,
) -> None:
    """Draw a heat map of how often the images of each class pick each group prompt.

    Classes are ordered from the most to the least frequent, prompts from those that frequent classes pick to those
    that rare classes pick.

    Args:
        path: PNG to write.
        use: share of a class's images that pick a prompt, [C, M]; a row of NaN or zeros for a class without images.
        train_counts: training images of each class, [C].
        groups: the boundaries of many, medium and few.
        class_names: shown beside the rows where there are at most 40. Where no installed font can write a name, the
            class is numbered as in per_class.csv, and the plot says so.

    Raises:
        RunError: the file cannot be written.
    """
    counts = np.asarray(train_counts)
    share = np.nan_to_num(np.asarray(use, dtype=np.float64))
    order = np.argsort(-counts, kind="stable")
    rows, group = share[order], groups.of(counts)[order]
    columns = np.argsort(_centroid(rows), kind="stable")
    named = class_names is not None and len(rows) <= 40
    height = float(np.clip(2.2 + 0.22 * len(rows), 3.6, 7.2))
    figure = new_figure(float(np.clip(4.5 + 0.16 * rows.shape[1], 7, 13)), height)
    grid = figure.subplots(
        2, 2, width_ratios=[1, 45], height_ratios=[1, max(height - 2.2, 2)], sharex="col", sharey="row"
    )
    grid[0, 0].set_axis_off()
    _draw_total_use(grid[0, 1], rows[:, columns])
    _draw_group_strip(grid[1, 0], group, groups)
    _draw_heat(figure, grid[1, 1], rows[:, columns], columns)
    if named and class_names is not None:
        names = numbered(class_names)
        grid[1, 0].set_yticks(np.arange(len(rows)) + 0.5, [short(names[c]) for c in order], parse_math=False)
        if names != list(class_names):
            axis_names(grid[1, 1], f"{_PROMPTS}\n{_NUMBERED}")
    save(figure, path)


def _centroid(rows: FloatArray) -> FloatArray:
    """Return the mean row of the classes that pick each prompt, [M]; infinite for an unused prompt."""
    total = rows.sum(axis=0)
    weighted = np.arange(len(rows)) @ rows
    return np.divide(weighted, total, out=np.full(rows.shape[1], np.inf), where=total > 0)


def _draw_heat(figure: Figure, axes: Axes, rows: FloatArray, columns: IntArray) -> None:
    shown = _averaged(rows)
    high = max(float(np.percentile(shown, 99.5)), 1e-6)
    image = axes.imshow(
        shown, cmap=HEAT, vmin=0, vmax=high, aspect="auto", interpolation="nearest",
        extent=(0, rows.shape[1], len(rows), 0),
    )  # fmt: skip
    axes.spines[:].set_visible(False)
    every = max(int(np.ceil(len(columns) / 40)), 1)
    axes.set_xticks(np.arange(0, len(columns), every) + 0.5, [str(c) for c in columns[::every]])
    axes.tick_params(length=0, labelsize=8, labelcolor=INK, labelleft=False)
    axis_names(axes, _PROMPTS)
    bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.015, aspect=30)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8, labelcolor=INK)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    bar.set_label("share of the class's images", fontsize=9, color=INK)


def _averaged(rows: FloatArray) -> FloatArray:
    """Return at most `_HEAT_ROWS` rows: means over neighbours where there are more."""
    if len(rows) <= _HEAT_ROWS:
        return rows
    starts = np.linspace(0, len(rows), _HEAT_ROWS + 1).astype(np.int64)
    return np.asarray(np.add.reduceat(rows, starts[:-1], axis=0) / np.diff(starts)[:, None])


def _draw_total_use(axes: Axes, rows: FloatArray) -> None:
    """Draw the mean use of each prompt over the classes, as bars above the heat map."""
    mean = rows.mean(axis=0)
    axes.bar(np.arange(len(mean)) + 0.5, mean, width=0.8, color=INK, linewidth=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.set_yticks([])
    axes.tick_params(length=0, labelbottom=False)
    unused = int((mean == 0).sum())
    text = f"{plural(len(rows), 'class')}, {plural(len(mean), 'prompt')}, {unused or 'none'} unused"
    averaged = f"; each line is the mean of {len(rows) / _HEAT_ROWS:.0f} classes" if len(rows) >= 2 * _HEAT_ROWS else ""
    headline(axes, "Which classes pick which group prompt", f"{text}; bars: mean over all classes{averaged}")


def _draw_group_strip(axes: Axes, group: IntArray, groups: ShotGroups) -> None:
    """Draw a strip in the colours of the shot groups, with their names, left of the heat map."""
    axes.spines[:].set_visible(False)
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    labels = []
    for index, colour in enumerate(GROUP_COLOURS):
        members = np.flatnonzero(group == index)
        if len(members):
            first, last = members[0], members[-1]
            axes.fill_between([0.2, 1], first, last + 1, color=colour, linewidth=0)
            text = f"{groups.names[index]}\n{plural(len(members), 'class')}"
            labels.append((float(first + last + 1) / 2, text))
    axes.tick_params(length=0, labelsize=9, labelcolor=INK)
    rows = len(group)
    places = spread([middle for middle, _ in labels], 0.09 * rows, within=rows)
    axes.set_yticks(places, [text for _, text in labels])
