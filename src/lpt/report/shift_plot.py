"""Draw shift.png: accuracy under each corruption, by severity and shot group, and on other sets of the same classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.ticker import FuncFormatter

from lpt.evaluation.corruptions import CORRUPTIONS
from lpt.evaluation.metrics import ACCURACIES
from lpt.evaluation.shift import CorruptionShift, DataShift
from lpt.report.fonts import legible
from lpt.report.style import (
    BLUE,
    GREY,
    GROUP_COLOURS,
    HEAT,
    INK,
    PAPER,
    SKY,
    axis_names,
    headline,
    new_figure,
    plain_axes,
    save,
    short,
    spread,
)
from lpt.system.text import plural

_GROUPS = ("many", "medium", "few")


def plot_shift(path: Path, corruptions: CorruptionShift | None, data: Sequence[DataShift] = ()) -> None:
    """Draw accuracy under corruptions above, and pairs of bars for each other set below.

    Args:
        path: PNG to write.
        corruptions: accuracy under corruptions; None: not measured.
        data: accuracy on other sets.

    Raises:
        RunError: the file cannot be written.
    """
    heights = [] if corruptions is None else [max(0.27 * len(corruptions.kinds) + 1.8, 4.2)]
    heights += [3.4] * len(data)
    figure = new_figure(11, sum(heights))
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    if corruptions is not None:
        _draw_corruptions(parts[0], corruptions)
    for part, result in zip(parts[len(heights) - len(data) :], data, strict=True):
        _draw_data(part.subplots(), result)
    save(figure, path)


def _draw_corruptions(part: SubFigure, result: CorruptionShift) -> None:
    kinds, severities = part.subplots(1, 2, width_ratios=[1.55, 1])
    _draw_kinds(kinds, result)
    _draw_severities(severities, result)


def _draw_kinds(axes: Axes, result: CorruptionShift) -> None:
    """Draw a row for each kind: a dot for each severity, and a line from the best to the worst."""
    plain_axes(axes, grid="x")
    clean = 100 * result.clean.overall
    places, place = [], 0.0
    for index, kind in enumerate(result.kinds):
        before = result.kinds[index - 1] if index else kind
        place += 0.45 * (CORRUPTIONS[before].family != CORRUPTIONS[kind].family)
        places.append(place)
        values = [100 * (result.mean("overall", kind=kind, severity=s) or 0.0) for s in result.severities]
        axes.plot([min([clean, *values]), max([clean, *values])], [place] * 2, color="#d5dbe0", linewidth=1.4, zorder=1)
        for severity, value in zip(result.severities, values, strict=True):
            colour = HEAT(0.18 + 0.17 * severity)
            axes.scatter(value, place, s=34, color=colour, edgecolors=PAPER, linewidths=0.5, zorder=2 + severity)
        place += 1
    axes.axvline(clean, color=INK, linewidth=1.2, zorder=1)
    axes.annotate(
        f"clean {clean:.1f} %", (clean, 1), (0, 4), xycoords=("data", "axes fraction"), textcoords="offset points",
        ha="right" if clean > 50 else "left", fontsize=9, color=INK,
    )  # fmt: skip
    axes.set_yticks(places, [kind.replace("_", " ") for kind in result.kinds])
    axes.set_ylim(place - 0.3, -0.7)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} %"))
    axis_names(axes, "overall accuracy")
    first, last = result.severities[0], result.severities[-1]
    severities = f"severity {first}" if first == last else f"severity {first} (light) to {last} (dark)"
    subtitle = f"{plural(result.clean.images, 'image')}; {severities}"
    headline(axes, "Accuracy under corruption", subtitle, above=20)


def _draw_severities(axes: Axes, result: CorruptionShift) -> None:
    """Draw the mean over kinds against severity, overall and for each shot group; severity 0 is clean."""
    plain_axes(axes)
    ends = []
    x = [0, *result.severities]
    for name, colour, width in [("overall", INK, 2.4), *((n, c, 1.7) for n, c in zip(_GROUPS, GROUP_COLOURS))]:  # noqa: B905
        if getattr(result.clean, name) is None:
            continue
        means = [result.mean(name, severity=severity) for severity in result.severities]
        y = [100 * value for value in [getattr(result.clean, name), *means] if value is not None]
        axes.plot(x, y, color=colour, linewidth=width, marker="o", markersize=4, zorder=4 if name == "overall" else 3)
        ends.append((y[-1], f"{name}  {y[-1]:.1f} %", colour))
    axes.set_ylim(0, None)
    gap = 0.045 * axes.get_ylim()[1]
    for place, (y_end, text, colour) in zip(spread([end[0] for end in ends], gap), ends, strict=True):
        axes.annotate(
            text, (x[-1], y_end), (1.03, place), xycoords="data", textcoords=("axes fraction", "data"), va="center",
            fontsize=9, color=colour, annotation_clip=False,
        )  # fmt: skip
    axes.set_xticks(x, ["clean", *map(str, result.severities)])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} %"))
    axis_names(axes, "severity", "accuracy, mean over kinds")
    headline(axes, "By severity and shot group", result.clean.boundaries, above=20)


def _draw_data(axes: Axes, result: DataShift) -> None:
    """Draw pairs of bars: the accuracies on DATA and on the other set."""
    plain_axes(axes)
    sets = [(result.clean, SKY, "DATA"), (result.shifted, BLUE, short(legible(result.source), 24))]
    shown = [(metrics, colour, name) for metrics, colour, name in sets if metrics is not None]
    names = [name for name in ACCURACIES if all(getattr(metrics, name) is not None for metrics, _, _ in shown)]
    width = 0.38
    for index, (metrics, colour, label) in enumerate(shown):
        values = np.array([100 * getattr(metrics, name) for name in names])
        x = np.arange(len(names)) + (index - (len(shown) - 1) / 2) * width
        axes.bar(x, values, width=width - 0.03, color=colour, linewidth=0, label=label)
        for place, value in zip(x, values, strict=True):
            axes.annotate(
                f"{value:.1f}", (place, value), (0, 3), textcoords="offset points", ha="center", fontsize=9, color=INK
            )
    axes.set_xticks(range(len(names)), [_with_drop(result, name) for name in names])
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_ylim(0, 108)
    axes.set_yticks(range(0, 101, 25))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} %"))
    images = plural(result.shifted.images, "image")
    subtitle = f"{images}; the same classes of both; {result.shifted.boundaries}"
    headline(axes, f"Shift to {short(legible(result.source), 70)}", subtitle, above=8)
    legend = axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9, labelcolor=INK)
    for text in legend.get_texts():
        text.set_parse_math(False)
    axes.title.set_parse_math(False)
    axes.tick_params(axis="x", length=0, labelcolor=GREY if result.clean is None else INK)


def _with_drop(result: DataShift, name: str) -> str:
    """Return the name of an accuracy with its relative drop below."""
    drop = result.drop(name)
    label = name.replace("_", " ")
    return label if drop is None else f"{label}\ndrop {100 * drop:.1f} %"
