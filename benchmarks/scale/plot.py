"""Draw docs/images/scale.png: cost against the number of images, classes, group prompts and tokens of a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from lpt.report.style import BLUE, GREY, INK, axis_names, new_figure, plain_axes, save

Points = list[tuple[float, float]]


def plot_scale(path: Path, record: dict[str, Any]) -> None:
    """Draw six panels, each with the measured points and the line fitted to them."""
    figure = new_figure(11, 6.4)
    panels = figure.subplots(2, 3).ravel()
    against, drawing = record["against"], record["drawing"]
    opened = against["opening"]["points"]
    _panel(panels[0], "Opening a table", "training images", "seconds",
           [(point["train_images"], point["seconds"]) for point in opened], against["opening"]["line"])  # fmt: skip
    by_images, by_classes = drawing["by_images"], drawing["by_classes"]
    _draws(panels[1], "A draw, by images", "training images", by_images, "images")
    _draws(panels[2], "A draw, by classes", "classes", by_classes, "classes")
    for axes, size, name in (
        (panels[3], "classes", "classes C"),
        (panels[4], "pool_size", "group prompts M"),
        (panels[5], "prompt_length", "prompt length P, tokens"),
    ):
        points = [(point[size], 1e3 * point["seconds"]) for point in against[size]["points"]]
        line = {key: 1e3 * value if key in ("slope", "intercept") else value
                for key, value in against[size]["line"].items()}  # fmt: skip
        _panel(axes, f"A step, by {name.split(',')[0]}", name, "milliseconds", points, line)
    simulated = record["simulated"]
    title = f"Cost against size, up to {simulated['train_images']:,} images and {simulated['classes']:,} classes"
    figure.suptitle(title, x=0.012, ha="left", fontsize=12, fontweight="bold", color=INK)
    step = record["against"]["step"]
    text = (
        f"{record['hardware']}. Lines: least squares. Draws: CPU time after the first round of the classes.\n"
        f"Steps: CPU time on one thread, {step['backbone']} at {step['pixels']} pixels, two batches of "
        f"{step['batch_size']}.\nWithout prompts (P = 0) no gradient goes through the blocks: the line leaves that out."
    )
    figure.supxlabel(text, x=0.012, ha="left", fontsize=9, color=GREY)
    save(figure, path)


def _panel(axes: Axes, title: str, x: str, y: str, points: Points, line: dict[str, float]) -> None:
    places, values = np.array(points).T
    plain_axes(axes)
    ends = np.array([0, places.max()])
    axes.plot(ends, line["intercept"] + line["slope"] * ends, color=GREY, linewidth=1.2)
    axes.plot(places, values, "o", color=BLUE, markersize=6)
    _finish(axes, title, x, y, values.max())
    axes.annotate(f"off the line by {100 * line['worst_deviation']:.1f} % at most", (1, 0), (0, 6),
                  xycoords="axes fraction", textcoords="offset points", ha="right", fontsize=8, color=GREY)  # fmt: skip


def _draws(axes: Axes, title: str, x: str, rows: list[dict[str, Any]], size: str) -> None:
    """Draw the time of a draw from either stream; flat where a draw is O(1)."""
    plain_axes(axes)
    places = [row[size] for row in rows]
    most = 0.0
    for stream, colour in (("balanced", BLUE), ("instance", GREY)):
        values = [row[stream]["microseconds_a_draw"] for row in rows]
        most = max(most, *values)
        axes.plot(places, values, "o-", color=colour, markersize=6, linewidth=1.2)
        axes.annotate(stream, (places[-1], values[-1]), (0, 8), textcoords="offset points", ha="right", fontsize=9,
                      color=colour)  # fmt: skip
    _finish(axes, title, x, "microseconds", most)


def _finish(axes: Axes, title: str, x: str, y: str, most: float) -> None:
    axes.set_ylim(0, 1.25 * most)
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    axis_names(axes, x, y)
