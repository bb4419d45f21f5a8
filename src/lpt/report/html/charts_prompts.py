"""Charts of the group prompts: which classes share them, and the queries that pick them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from lpt.data.manifest import FloatArray, IntArray
from lpt.report.html.content import Classes, QueryMap, Sharing
from lpt.report.html.svg import Drawing, shortened
from lpt.system.text import plural

MOST_NAMED = 60
"""Most classes that have a row each in the heat map; of more, neighbours are averaged."""
MOST_ROWS = 120
COLOURS = 8
"""Group prompts that have a colour of their own in the map; the others are grey."""
_LEAST_SHARE = 0.02


def heat_chart(sharing: Sharing, classes: Classes) -> Markup:
    """Draw how often each class picks each group prompt: a row for a class, or for neighbours if they are many."""
    table = sharing.use[sharing.classes][:, sharing.prompts]
    parts = np.array_split(np.arange(len(table)), min(len(table), MOST_ROWS if len(table) > MOST_NAMED else MOST_NAMED))
    rows = np.stack([table[part].mean(axis=0) for part in parts])
    named = len(rows) == len(table)
    left, right, top = (170, 706, 30) if named else (60, 706, 30)
    height = 15.0 if named else max(3.6, 430 / len(rows))
    bottom = top + height * len(rows)
    drawing = Drawing(720, bottom + 26, "Share of the picks of each class that each group prompt has.")
    width = (right - left) / len(sharing.prompts)
    every = max(1, -(-len(sharing.prompts) // 40))
    for column, prompt in enumerate(sharing.prompts.tolist()):
        if column % every == 0:
            drawing.text(left + width * (column + 0.5), top - 8, str(prompt), anchor="middle", class_="tick")
    drawing.text(left - 8, top - 8, "prompt", anchor="end", class_="tick")
    for place, part in enumerate(parts):
        members = sharing.classes[part].tolist()
        _draw_row(drawing, rows[place], sharing.prompts, left, top + height * place, width, height,
                  _row_name(classes, members))  # fmt: skip
        if named:
            group = int(classes.groups.of(classes.counts[members[0]]))
            name = shortened(classes.names[members[0]], left - 30)
            drawing.text(left - 16, top + height * (place + 0.5) + 4, name, anchor="end", class_="label small",
                         title=classes.names[members[0]])  # fmt: skip
            drawing.add("rect", x=left - 9, y=top + height * place + 2, width=4, height=height - 4, class_=f"g{group}")
    if not named:
        drawing.text(left - 8, top + 10, f"{len(table):,}", anchor="end", class_="tick")
        drawing.text(left - 8, top + 24, "classes", anchor="end", class_="tick")
    drawing.add("rect", x=left, y=top, width=right - left, height=bottom - top, class_="frame")
    return drawing.markup()


def map_chart(queries: QueryMap) -> Markup:
    """Draw the queries in the plane, coloured by the group prompt that each picks first."""
    drawing = Drawing(720, 440, "Queries of images in the plane of their two principal components.")
    points = _fitted(queries.points, 720, 440, 26)
    coloured = coloured_prompts(queries)
    others = ~np.isin(queries.groups, coloured)
    drawing.dots([(float(px), float(py)) for px, py in points[others]], class_="dots s-other")
    for index, prompt in enumerate(coloured):
        members = points[queries.groups == prompt]
        drawing.dots([(float(px), float(py)) for px, py in members], class_=f"dots s-c{index}")
    for index, prompt in enumerate(coloured):
        px, py = np.median(points[queries.groups == prompt], axis=0)
        drawing.add("circle", cx=float(px), cy=float(py), r=11.0, class_=f"badge c{index}")
        drawing.text(float(px), float(py) + 4.5, str(prompt), anchor="middle", class_="badge-text")
    return drawing.markup()


def coloured_prompts(queries: QueryMap) -> list[int]:
    """Return the group prompts that have a colour, the most picked first."""
    prompts, images = np.unique(queries.groups, return_counts=True)
    return [int(prompt) for prompt in prompts[np.argsort(-images, kind="stable")][:COLOURS]]


def prompt_rows(sharing: Sharing, classes: Classes, most: int = 6) -> list[tuple[int, int, str]]:
    """Return for each group prompt its number, how many classes pick it most, and those that pick it most.

    Only prompts that are picked are listed, in the order of the heat map.
    """
    favourite = sharing.use[sharing.classes].argmax(axis=1)
    rows = []
    for prompt in sharing.prompts.tolist():
        column: FloatArray = sharing.use[:, prompt]
        if not column.any():
            continue
        order: IntArray = np.argsort(-column, kind="stable")
        names = [classes.names[c] for c in order[:most].tolist() if column[c] > 0]
        rows.append((prompt, int((sharing.classes[favourite == prompt]).size), ", ".join(names)))
    return rows


def _draw_row(
    drawing: Drawing, shares: FloatArray, prompts: IntArray, left: float, y: float, width: float, height: float,
    name: str,
) -> None:  # fmt: skip
    """Draw the cells of a row that have a visible share."""
    peak = 0.5  # with two picks an image, a prompt that all images of a class pick has half of the picks
    for column in np.flatnonzero(shares >= _LEAST_SHARE).tolist():
        share = float(shares[column])
        drawing.add(
            "rect", x=left + width * column, y=y, width=width, height=height, class_="heat",
            fill_opacity=f"{min(share / peak, 1):.2f}", title=f"{name}: prompt {prompts[column]}, {100 * share:.0f} %",
        )  # fmt: skip


def _row_name(classes: Classes, members: Sequence[int]) -> str:
    if len(members) == 1:
        return classes.names[members[0]]
    return f"{classes.names[members[0]]} … {classes.names[members[-1]]} ({plural(len(members), 'class')})"


def _fitted(points: FloatArray, width: float, height: float, margin: float) -> FloatArray:
    """Return points in the drawing, both axes with the same unit."""
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    unit = min((width - 2 * margin) / span[0], (height - 2 * margin) / span[1])
    centred = (points - (low + high) / 2) * unit * np.array([1, -1])
    return np.asarray(centred + np.array([width / 2, height / 2]))
