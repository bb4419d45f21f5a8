"""Charts of all classes: their sizes, their accuracies, and what they gained over the linear probe."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from lpt.data.manifest import FloatArray, IntArray
from lpt.report.html.content import Classes, Probe
from lpt.report.html.svg import (
    Drawing,
    Scale,
    linear,
    log_ticks,
    logarithmic,
    number,
    shortened,
    whole_ticks,
    x_axis,
    y_axis,
)
from lpt.system.text import plural

WIDTH = 720
_LEFT, _RIGHT = 52, 706
MOST_NAMED = 45
"""Most classes that have a row with their name each."""
_MOST_BARS = 160
_MOST_LINEAR = 40
"""Largest over smallest class from which on the axis is logarithmic: the smallest bar would be less than 5 pixels."""
_MOST_TITLED = 400
_MOST_OUTLINE = 500
_GAINS_SHOWN = 10


def distribution_chart(classes: Classes) -> Markup:
    """Draw the training images of every class, from the largest to the smallest; with their names if they are few."""
    counts = classes.counts
    order = np.argsort(-counts, kind="stable")
    label = f"Training images of {plural(len(counts), 'class')}, largest first."
    if len(counts) <= MOST_NAMED:
        return _named_bars(classes, order, label)
    sizes, shot = counts[order], classes.groups.of(counts)[order]
    top, bottom = 34, 216
    drawing = Drawing(WIDTH, 260, label)
    y, marks = _size_scale(sizes, bottom, top)
    y_axis(drawing, [(y(mark), f"{mark:,.0f}") for mark in marks], _LEFT, _RIGHT)
    x = linear(0, len(sizes), _LEFT, _RIGHT)
    if len(sizes) <= _MOST_BARS:
        gap = min(1.2, 0.15 * (x(1) - x(0)))
        for place, c in enumerate(order.tolist()):
            height = max(bottom - y(sizes[place]), 0.8) if sizes[place] else 0
            drawing.add(
                "rect", x=x(place) + gap / 2, y=bottom - height, width=x(1) - x(0) - gap, height=height,
                class_=f"g{shot[place]}", title=f"{classes.names[c]}: {counts[c]:,}",
            )  # fmt: skip
    else:
        _draw_outline(drawing, sizes, shot, x, y, bottom)
    _name_groups(drawing, np.where(sizes > 0, shot, -1), classes, x, top)
    drawing.line(_LEFT, bottom, _RIGHT, bottom, class_="axis")
    axis = "training images, logarithmic" if is_logarithmic(counts) else "training images"
    drawing.text(_LEFT, 14, axis, class_="name")
    drawing.text((_LEFT + _RIGHT) / 2, bottom + 24, "classes, largest first", anchor="middle", class_="name")
    return drawing.markup()


def is_logarithmic(counts: IntArray) -> bool:
    """Return whether the sizes of these classes, [C], are drawn on a logarithmic axis."""
    return len(counts) > MOST_NAMED and float(counts.max()) / float(max(counts.min(), 1)) > _MOST_LINEAR


def accuracy_chart(classes: Classes, means: dict[str, float]) -> Markup:
    """Draw the accuracy of each class over its training images, and the mean of each shot group.

    Args:
        classes: the classes, with accuracies.
        means: mean accuracy of the shot groups, by name.
    """
    assert classes.accuracy is not None
    known = np.flatnonzero(np.isfinite(classes.accuracy) & (classes.counts > 0))
    counts = classes.counts[known]
    shot = classes.groups.of(counts)
    top, bottom = 16, 286
    drawing = Drawing(WIDTH, 336, "Accuracy of each class over the number of its training images.")
    low, high = float(min(counts, default=1)) * 0.85, float(max(counts, default=2)) * 1.15
    x, y = logarithmic(low, high, _LEFT, _RIGHT), linear(0, 1, bottom, top)
    y_axis(drawing, [(y(value / 100), f"{value} %") for value in range(0, 101, 20)], _LEFT, _RIGHT)
    x_axis(drawing, [(x(mark), f"{mark:,.0f}") for mark in log_ticks(low, high)], bottom,
           "training images of the class (logarithmic)", _LEFT, _RIGHT)  # fmt: skip
    _draw_classes(drawing, classes, known, shot, x, y)
    for group, name in enumerate(classes.groups.names):
        members = counts[shot == group]
        if len(members) and name in means:
            start, end = x(float(members.min())) - 4, x(float(members.max())) + 4
            drawing.line(start, y(means[name]), end, y(means[name]), class_=f"mean s-g{group}")
            drawing.text(
                min((start + end) / 2, _RIGHT - 60), y(means[name]) - 7, f"{name} {100 * means[name]:.1f} %",
                anchor="middle", class_=f"label halo t-g{group}",
            )  # fmt: skip
    return drawing.markup()


def gains_chart(classes: Classes, probe: Probe, *, lost: bool) -> Markup:
    """Draw the classes that gained, or lost, most against the linear probe: from a point to an arrow's head.

    Args:
        classes: the classes, with accuracies.
        probe: the probe.
        lost: draw those that lost.
    """
    assert classes.accuracy is not None
    order = probe.order[::-1] if lost else probe.order
    shown = [int(c) for c in order.tolist() if (probe.gain[c] < 0) == lost][:_GAINS_SHOWN]
    row, top, left = 24, 26, 150
    bottom = top + row * len(shown)
    drawing = Drawing(
        480, bottom + 24, f"Classes that {'lost' if lost else 'gained'} most against the linear probe.", narrow=True
    )
    x = linear(0, 1, left, 432)
    for value in (0, 25, 50, 75, 100):
        drawing.line(x(value / 100), top - 6, x(value / 100), bottom, class_="grid")
        drawing.text(x(value / 100), top - 12, f"{value} %", anchor="middle", class_="tick")
    for place, c in enumerate(shown):
        y = top + row * (place + 0.5)
        before = float(probe.accuracy[c])
        after = before + float(probe.gain[c])
        _draw_gain(drawing, classes, c, x(before), x(after), y)
        drawing.text(474, y + 4, f"{100 * probe.gain[c]:+.0f}".replace("-", "−"), anchor="end", class_="label strong",
                     title=f"{100 * before:.1f} % to {100 * after:.1f} %")  # fmt: skip
    return drawing.markup()


def _draw_gain(drawing: Drawing, classes: Classes, c: int, start: float, end: float, y: float) -> None:
    name, count = classes.names[c], int(classes.counts[c])
    group = int(classes.groups.of(classes.counts[c]))
    label = shortened(name, 104)
    drawing.text(112, y + 4, label, anchor="end", class_="label", title=f"{name}: {plural(count, 'training image')}")
    drawing.text(142, y + 4, f"{count:,}", anchor="end", class_="tick")
    ahead = 1 if end >= start else -1
    drawing.add("circle", cx=start, cy=y, r=3.2, class_="before")
    drawing.line(start, y, end - 4 * ahead, y, class_=f"arrow s-g{group}")
    tip = f"M{number(end)} {number(y)}l{-7 * ahead} -4.5v9z"
    drawing.add("path", d=tip, class_=f"g{group}", title=name)


def _named_bars(classes: Classes, order: IntArray, label: str) -> Markup:
    """Draw a row with name, number and bar for each class, on a linear axis, and the size of each shot group."""
    row, top, left, right = 18, 6, 196, 620
    bottom = top + row * len(order)
    drawing = Drawing(WIDTH, bottom + 44, label)
    high = float(classes.counts.max(initial=1))
    x = linear(0, high, left, right)
    marks = [(x(mark), f"{mark:,.0f}") for mark in whole_ticks(0, high, 5)]
    for place, _ in marks:
        drawing.line(place, top, place, bottom, class_="grid")
    x_axis(drawing, marks, bottom, "training images", left, right)
    for place, c in enumerate(order.tolist()):
        y, count, name = top + row * (place + 0.5), int(classes.counts[c]), classes.names[c]
        width = max(x(count) - left, 0.8) if count else 0.0
        drawing.text(left - 52, y + 4, shortened(name, left - 58), anchor="end", class_="label", title=name)
        drawing.text(left - 8, y + 4, f"{count:,}", anchor="end", class_="tick")
        drawing.add(
            "rect", x=left, y=y - 6.5, width=width, height=13, class_=f"g{int(classes.groups.of(count))}",
            title=f"{name}: {count:,}",
        )  # fmt: skip
    _name_rows(drawing, classes, order, left, top, row)
    return drawing.markup()


def _name_rows(drawing: Drawing, classes: Classes, order: IntArray, left: float, top: float, row: float) -> None:
    """Write the size of each shot group beside its rows, and draw the boundaries; a class without images has none."""
    counts = classes.counts[order]
    shot = np.where(counts > 0, classes.groups.of(counts), -1)
    for group, name in enumerate(classes.groups.names):
        members = np.flatnonzero(shot == group)
        if not len(members):
            continue
        y = top + row * float(members[0])
        if members[0]:
            drawing.line(left, y, _RIGHT, y, class_="boundary")
        drawing.text(_RIGHT, y + 13, f"{len(members)} {name}", anchor="end", class_=f"label halo t-g{group}")


def _size_scale(sizes: IntArray, bottom: float, top: float) -> tuple[Scale, list[float]]:
    """Return the scale of class sizes, logarithmic where they differ much, with its marks."""
    high, low = float(sizes.max()), float(max(sizes.min(), 1))
    if not is_logarithmic(sizes):
        return linear(0, high * 1.05, bottom, top), whole_ticks(0, high, 4)
    least = low * 0.7
    return logarithmic(least, high * 1.1, bottom, top), log_ticks(least, high * 1.1)


def _draw_outline(drawing: Drawing, sizes: IntArray, shot: IntArray, x: Scale, y: Scale, bottom: float) -> None:
    """Draw each shot group as one area, through at most `_MOST_OUTLINE` classes."""
    for group in range(3):
        members = np.flatnonzero((shot == group) & (sizes > 0))
        if len(members):
            chosen = members[np.unique(np.linspace(0, len(members) - 1, _MOST_OUTLINE).astype(int))].tolist()
            first, last = x(float(members[0])), x(float(members[-1] + 1))
            points = [(first, bottom), *((x(c), y(float(sizes[c]))) for c in chosen),
                      (last, y(float(sizes[members[-1]]))), (last, bottom)]  # fmt: skip
            drawing.curve(points, class_=f"g{group}")


def _name_groups(drawing: Drawing, shot: IntArray, classes: Classes, x: Scale, top: float) -> None:
    """Write the size of each shot group over it, and draw the boundaries; -1: a class without images, in no group."""
    for group, name in enumerate(classes.groups.names):
        members = np.flatnonzero(shot == group)
        if not len(members):
            continue
        start, end = x(float(members[0])), x(float(members[-1] + 1))
        if members[0]:
            drawing.line(start, top - 12, start, 216, class_="boundary")
        text = f"{len(members):,} {name}"
        room = len(text) * 3.5
        middle = min(max((start + end) / 2, _LEFT + room), _RIGHT - room)
        drawing.text(middle, top - 6, text, anchor="middle", class_=f"label halo t-g{group}")


def _draw_classes(
    drawing: Drawing, classes: Classes, known: IntArray, shot: IntArray, x: Scale, y: Scale
) -> None:  # fmt: skip
    """Draw a point for each class; with its name where they are not too many."""
    accuracy: FloatArray = np.asarray(classes.accuracy)
    for group in range(3):
        members = known[shot == group].tolist()
        places = [(x(float(classes.counts[c])), y(float(accuracy[c]))) for c in members]
        if len(known) > _MOST_TITLED:
            drawing.dots(places, class_=f"dots s-g{group}")
            continue
        for c, (cx, cy) in zip(members, places, strict=True):
            title = f"{classes.names[c]}: {100 * accuracy[c]:.1f} %, {plural(int(classes.counts[c]), 'training image')}"
            drawing.add("circle", cx=cx, cy=cy, r=4.0, class_=f"dot g{group}", title=title)
