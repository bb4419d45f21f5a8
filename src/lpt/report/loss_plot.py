"""Draw the losses of a run over its steps, read from log.jsonl."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from lpt.data.manifest import FloatArray
from lpt.report.style import (
    BLUE,
    GREY,
    INK,
    SKY,
    VERMILION,
    axis_names,
    headline,
    new_figure,
    plain_axes,
    save,
    say_empty,
    spread,
)
from lpt.system.text import plural

Steps = Sequence[Mapping[str, Any]]


def plot_losses(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Draw the losses of both phases over the steps, with the learning rate and the query-key similarity below.

    Args:
        path: PNG to write.
        records: lines of log.jsonl. A training step has `phase`, `epoch`, `step`, `loss`, and may have `balanced`,
            `instance`, `similarity`, `lr`; other lines are ignored. Where a resumed run logged a step twice, the
            later line counts.

    Raises:
        RunError: the file cannot be written.
    """
    steps = _steps(records)
    similarity = _column(steps, "similarity")
    has_similarity = bool(np.isfinite(similarity).any())
    figure = new_figure(9, 5.6 if has_similarity else 4.9)
    heights = [5, 1.1, 1.3] if has_similarity else [5, 1.1]
    panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    _draw_losses(panels[0], steps)
    _draw_rate(panels[1], _column(steps, "lr"))
    if has_similarity:
        _draw_similarity(panels[2], similarity)
    _mark_phases(panels, steps)
    save(figure, path)


def _steps(records: Iterable[Mapping[str, Any]]) -> Steps:
    """Return the training records by (phase, epoch, step); of equal keys the last record."""
    unique = {(r["phase"], r["epoch"], r["step"]): r for r in records if {"phase", "epoch", "step", "loss"} <= set(r)}
    return [unique[key] for key in sorted(unique)]


def _column(steps: Steps, name: str) -> FloatArray:
    """Return a number of each step, [T]; NaN where it is missing or not finite."""
    values = np.array([np.nan if step.get(name) is None else step[name] for step in steps], dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _draw_losses(axes: Axes, steps: Steps) -> None:
    plain_axes(axes)
    less = "; total in phase 2: less the weighted similarity" if np.isfinite(_column(steps, "similarity")).any() else ""
    headline(axes, "Losses", f"each step faint, their moving mean strong{less}")
    drawn = []
    for name, colour in (("loss", INK), ("balanced", BLUE), ("instance", VERMILION)):
        values = _column(steps, name)
        if np.isfinite(values).any():
            end = _draw_phase_curves(axes, values, steps, colour)
            drawn.append(("total" if name == "loss" else name, colour, end))
    finite = np.concatenate([_column(steps, name) for name in ("loss", "balanced", "instance")])
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        say_empty(axes, "the log holds no training step with a finite loss")
    else:
        low, high = np.percentile(finite, [0.2, 99.8])
        margin = 0.06 * max(high - low, 1e-3)
        axes.set_ylim(low - margin, high + margin)
        _label_ends(axes, drawn, gap=0.07 * (high - low + 2 * margin))


def _draw_phase_curves(axes: Axes, values: FloatArray, steps: Steps, colour: str) -> float:
    """Draw a number of all steps, smoothed within each phase; return the last smoothed value."""
    phases = np.array([step["phase"] for step in steps])
    end = np.nan
    for phase in np.unique(phases):
        places = np.flatnonzero((phases == phase) & np.isfinite(values))
        if len(places):
            smooth = _moving_mean(values[places], max(len(places) // 40, 1))
            alpha = 0.22 if len(places) > 200 else 0.45
            axes.plot(places + 1, values[places], color=colour, linewidth=0.7, alpha=alpha)
            axes.plot(places + 1, smooth, color=colour, linewidth=1.8, solid_capstyle="round")
            end = float(smooth[-1])
    return end


def _draw_rate(axes: Axes, values: FloatArray) -> None:
    plain_axes(axes)
    axes.set_title("learning rate", loc="left", fontsize=9, color=INK, pad=4)
    if np.isfinite(values).any():
        axes.plot(np.arange(len(values)) + 1, values, color=INK, linewidth=1.4, drawstyle="steps-mid")
        peak = float(np.nanmax(values))
        axes.set_ylim(0, 1.15 * peak or 1)
        axes.set_yticks([0, peak], ["0", f"{peak:.2g}"])


def _draw_similarity(axes: Axes, values: FloatArray) -> None:
    plain_axes(axes)
    axes.set_title("query-key similarity, summed over the picked prompts", loc="left", fontsize=9, color=INK, pad=4)
    places = np.flatnonzero(np.isfinite(values))
    axes.plot(places + 1, values[places], color=SKY, linewidth=0.7, alpha=0.3)
    axes.plot(places + 1, _moving_mean(values[places], max(len(places) // 40, 1)), color=SKY, linewidth=1.8)
    axes.yaxis.set_major_locator(MaxNLocator(2))


def _mark_phases(panels: Sequence[Axes], steps: Steps) -> None:
    """Draw lines between phases, and the name and epochs of each."""
    phases = [step["phase"] for step in steps]
    first = [i for i in range(len(steps)) if i == 0 or phases[i] != phases[i - 1]]
    for axes in panels:
        axes.set_xlim(0, max(len(steps), 1) + 1)
        for start in first[1:]:
            axes.axvline(start + 0.5, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
    for start, end in zip(first, [*first, len(steps)][1:], strict=True):
        epochs = len({step["epoch"] for step in steps[start:end]})
        panels[0].annotate(
            f"phase {phases[start]}: {plural(epochs, 'epoch')}", (end + 0.5, 1), (-6, -6), va="top", ha="right",
            xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=9, color=GREY,
        )  # fmt: skip
    panels[-1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis_names(panels[-1], "steps")


def _label_ends(axes: Axes, drawn: Sequence[tuple[str, str, float]], gap: float) -> None:
    """Name curves at their right end, moved apart where they meet."""
    known = [curve for curve in drawn if np.isfinite(curve[2])]
    for (name, colour, _), y in zip(known, spread([end for _, _, end in known], gap), strict=True):
        axes.annotate(name, (1, y), (6, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                      va="center", fontsize=9, color=colour, annotation_clip=False)  # fmt: skip


def _moving_mean(values: FloatArray, half: int) -> FloatArray:
    """Return the mean of each value and the `half` values on either side, fewer at the ends, [T]."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    low, high = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    return np.asarray((sums[high] - sums[low]) / (high - low))
