"""Place labels beside points so that they cover neither each other nor a point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from lpt.data.manifest import FloatArray
from lpt.report.style import DPI

_SIZE = 8.5
_POINT = 6.0
"""Half the side of the square that a point keeps free, points of 1/72 inch."""


@dataclass(frozen=True)
class Label:
    """The name of a point.

    Args:
        text: the name.
        x, y: place of the point, in data coordinates.
        colour: of the text and its leader.
        strong: whether the text is bold.
    """

    text: str
    x: float
    y: float
    colour: str
    strong: bool = False


def place_labels(axes: Axes, labels: Sequence[Label]) -> None:
    """Write labels beside their points, the first ones nearest; labels that are moved away get a thin leader.

    The limits of the axes and the layout of the figure must be final. The search is greedy: each label takes the
    nearest of some 200 places that covers nothing, else the place that covers least.
    """
    scale = DPI / 72
    points = axes.transData.transform([(label.x, label.y) for label in labels]) if labels else np.empty((0, 2))
    frame, half = axes.get_window_extent(), _POINT * scale
    taken = [np.array([x - half, y - half, x + half, y + half]) for x, y in points]
    for label, (x, y) in zip(labels, points, strict=True):
        width, height = _extent(axes, label)
        best, least = (0.0, 0.0), np.inf
        for away, dx, dy in _candidates(width, height, scale):
            box = np.array([x + dx, y + dy, x + dx + width, y + dy + height])
            outside = np.maximum([frame.x0 - box[0], frame.y0 - box[1], box[2] - frame.x1, box[3] - frame.y1], 0).sum()
            covered = _covered(box, taken)
            price = covered + 40 * height * outside + 0.35 * height * away
            if price < least:
                best, least = (dx, dy), price
        dx, dy = best
        taken.append(np.array([x + dx, y + dy, x + dx + width, y + dy + height]))
        _write(axes, label, (dx + width / 2) / scale, (dy + height / 2) / scale, width / scale, height / scale)


def _write(axes: Axes, label: Label, dx: float, dy: float, width: float, height: float) -> None:
    """Write a label centred (dx, dy) points from its point; if it is not beside the point, draw a leader."""
    clear_x, clear_y = abs(dx) - width / 2, abs(dy) - height / 2
    far = max(clear_x, clear_y) > 2.2 * _POINT
    near = (np.clip(-dx / width + 0.5, 0, 1), np.clip(-dy / height + 0.5, 0, 1))
    leader = {"arrowstyle": "-", "color": label.colour, "linewidth": 0.7, "alpha": 0.8, "shrinkA": 1, "shrinkB": 4,
              "relpos": near}  # fmt: skip
    axes.annotate(
        label.text, (label.x, label.y), (dx, dy), textcoords="offset points", ha="center", va="center",
        fontsize=_SIZE, color=label.colour, fontweight="bold" if label.strong else "normal", parse_math=False,
        arrowprops=leader if far else None, zorder=6, annotation_clip=False,
    ).set_in_layout(False)  # fmt: skip


def _candidates(width: float, height: float, scale: float) -> Iterator[tuple[float, float, float]]:
    """Yield offsets of the label's lower left corner from the point, near ones first: (distance, dx, dy), pixels."""
    for away in np.array([7.0, 14, 22, 32, 44, 58, 74, 92]) * scale:
        yield away, away, -height / 2
        yield away, -away - width, -height / 2
        for angle in np.deg2rad(np.arange(15, 360, 15)):
            cx, cy = np.cos(angle), np.sin(angle)
            yield away * 1.05, away * cx + (cx - 1) / 2 * width, away * cy + (cy - 1) / 2 * height


def _covered(box: FloatArray, taken: Sequence[FloatArray]) -> float:
    """Return the area of a box, with a little room around it, that other boxes cover, pixels."""
    others = np.stack(taken)
    wide = np.minimum(box[2] + 2, others[:, 2]) - np.maximum(box[0] - 2, others[:, 0])
    high = np.minimum(box[3] + 1, others[:, 3]) - np.maximum(box[1] - 1, others[:, 1])
    return float((np.maximum(wide, 0) * np.maximum(high, 0)).sum())


def _extent(axes: Axes, label: Label) -> tuple[float, float]:
    """Return width and height of a label's text, pixels."""
    text = axes.text(
        0, 0, label.text, fontsize=_SIZE, fontweight="bold" if label.strong else "normal", parse_math=False
    )
    size = text.get_window_extent()
    text.remove()
    return float(size.width), float(size.height)
