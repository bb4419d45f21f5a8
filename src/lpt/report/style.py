"""The look of every plot: one palette that the colour-blind can tell apart, thin axes, labels beside what they name.

Figures are drawn on matplotlib's Agg canvas and never pass through pyplot, so nothing global is touched.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.text import Text

from lpt.report.fonts import complete_fonts
from lpt.system.files import write_bytes
from lpt.system.outputs import PLOT_SOFTWARE

INK, GREY, FAINT, PAPER = "#1f2a33", "#74808a", "#e3e7ea", "#ffffff"
BLUE, SKY, VERMILION = "#0b5394", "#4da3d4", "#d4551c"
GROUP_COLOURS = (BLUE, SKY, VERMILION)
"""Colours of many, medium and few.

Blue and vermilion differ for every kind of colour vision, the two blues by lightness.
"""
HEAT = LinearSegmentedColormap.from_list("lpt", ["#f7f9fb", "#bcd9ec", SKY, BLUE, "#08264a"])
DPI = 150


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure; width and height in inches."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor=PAPER, layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # type: ignore[union-attr, call-arg]
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG. The same figure gives the same bytes.

    Raises:
        RunError: the file cannot be written.
    """
    complete_fonts(text for text in figure.findobj(Text) if isinstance(text, Text))
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=DPI, metadata={"Software": PLOT_SOFTWARE})
    write_bytes(path, image.getvalue())


def plain_axes(axes: Axes, *, grid: str | None = "y") -> None:
    """Style axes: thin left and bottom spines, a faint grid behind, small grey ticks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.spines[["left", "bottom"]].set_linewidth(0.8)
    axes.tick_params(colors=GREY, labelcolor=INK, labelsize=9, width=0.8, length=3)
    axes.set_axisbelow(True)
    if grid is not None:
        axes.grid(axis=grid, color=FAINT, linewidth=0.8)  # type: ignore[arg-type]


def headline(axes: Axes, title: str, subtitle: str, *, above: float = 8) -> None:
    """Write a bold title at the left with a grey line under it, `above` points over the axes."""
    axes.annotate(
        subtitle, (0, 1), (0, above), xycoords="axes fraction", textcoords="offset points", color=GREY, fontsize=9
    )
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=above + 16)


def axis_names(axes: Axes, x: str = "", y: str = "") -> None:
    """Name the axes in small letters."""
    axes.set_xlabel(x, fontsize=9, color=INK)
    axes.set_ylabel(y, fontsize=9, color=INK)


def say_empty(axes: Axes, text: str) -> None:
    """Write a text in the middle of axes that have nothing to show."""
    axes.set_yticks([])
    axes.set_xticks([])
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=10, color=GREY)


def label_above(axes: Axes, labels: Sequence[tuple[float, str, str]], gap: float) -> None:
    """Write labels in a row just above the axes, moved apart where they would touch.

    Args:
        axes: the axes below the labels.
        labels: place from 0 (left) to 1 (right), text, colour.
        gap: least distance between two labels, as a share of the axes' width.
    """
    places = spread([place for place, _, _ in labels], gap, within=1)
    for place, (_, text, colour) in zip(places, labels, strict=True):
        axes.annotate(
            text, (place, 1), (0, 5), xycoords="axes fraction", textcoords="offset points", ha="center",
            fontsize=9, color=colour, linespacing=1.3,
        )  # fmt: skip


def spread(positions: Sequence[float], gap: float, within: float | None = None) -> list[float]:
    """Move positions apart, as little as needed, until neighbours are at least `gap` apart; keep their order.

    With `within`, all then move together until they are half a gap inside 0..within, if they fit.
    """
    if not len(positions):
        return []
    order = np.argsort(positions, kind="stable")
    # A block is a run of labels that touch, centred on the mean of their positions.
    blocks: list[list[float]] = []
    for value in np.asarray(positions, dtype=np.float64)[order]:
        blocks.append([float(value)])
        while len(blocks) > 1 and _top(blocks[-2], gap) + gap > _bottom(blocks[-1], gap):
            above = blocks.pop()
            blocks[-1] += above
    placed = [_bottom(block, gap) + gap * index for block in blocks for index in range(len(block))]
    moved = np.empty(len(placed))
    moved[order] = placed
    if within is not None:
        moved -= max(moved.max() - (within - gap / 2), 0)
        moved += max(gap / 2 - moved.min(), 0)
    return [float(value) for value in moved]


def _bottom(block: Sequence[float], gap: float) -> float:
    return float(np.mean(block)) - gap * (len(block) - 1) / 2


def _top(block: Sequence[float], gap: float) -> float:
    return float(np.mean(block)) + gap * (len(block) - 1) / 2


def short(name: str, most: int = 28) -> str:
    """Cut a name so that it fits beside an axis."""
    return name if len(name) <= most else name[: most - 1] + "…"
