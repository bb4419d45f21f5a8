"""Charts of methods: accuracies with their intervals, calibration, losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from markupsafe import Markup

from lpt.evaluation.curves import PhaseCurves
from lpt.evaluation.paired import Difference
from lpt.evaluation.reliability import ReliabilityBin
from lpt.report.html.content import Calibration, MethodRow
from lpt.report.html.svg import Drawing, Scale, linear, shortened, ticks, whole_ticks, x_axis, y_axis
from lpt.system.text import plural

WIDTH = 720
ACCURACY_NAMES = {
    "overall": "overall",
    "mean_per_class": "mean per class",
    "many": "many-shot",
    "medium": "medium-shot",
    "few": "few-shot",
}
"""Accuracies in the order in which they are shown, with their names."""
PANELS = ("overall", "many", "medium", "few")
_GROUP_CLASS = {"many": "g0", "medium": "g1", "few": "g2"}
_BOLD = 1.12
"""How much wider bold text is than plain, about."""
_SHOWN_LOSSES = {"loss": "total", "balanced": "balanced batch", "instance": "instance batch"}


def bars_chart(accuracies: Mapping[str, Difference]) -> Markup:
    """Draw the accuracies of one method as bars with their intervals."""
    names = [name for name in ACCURACY_NAMES if name in accuracies]
    row, top, left = 34, 8, 120
    bottom = top + row * len(names)
    drawing = Drawing(WIDTH, bottom + 44, "Accuracy overall and of each shot group, with intervals.")
    x = linear(0, 1, left, 640)
    for mark in range(0, 101, 20):
        drawing.line(x(mark / 100), top, x(mark / 100), bottom, class_="grid")
        drawing.text(x(mark / 100), bottom + 18, f"{mark} %", anchor="middle", class_="tick")
    for place, name in enumerate(names):
        y, value = top + row * (place + 0.5), accuracies[name]
        drawing.text(left - 12, y + 4, ACCURACY_NAMES[name], anchor="end", class_="label")
        drawing.add(
            "rect", x=left, y=y - 9, width=x(value.mean) - left, height=18, rx=2,
            class_=_GROUP_CLASS.get(name, "neutral"),
        )  # fmt: skip
        _whisker(drawing, value, x, y, 6)
        drawing.text(x(max(value.mean, value.high or 0)) + 10, y + 4, f"{100 * value.mean:.1f}", class_="label strong")
    return drawing.markup()


def methods_chart(rows: Sequence[MethodRow]) -> Markup:
    """Draw the accuracies of several methods, a panel for each of overall, many, medium and few."""
    panels = [name for name in PANELS if any(name in row.accuracies for row in rows)]
    values = [row.accuracies[name] for row in rows for name in panels if name in row.accuracies]
    low = min(v.mean if v.low is None else v.low for v in values)
    high = max(v.mean if v.high is None else v.high for v in values)
    low, high = max(low - 0.03, 0.0), min(high + 0.03, 1.0)
    height, top, left, gap = 25, 40, 228, 16
    width = (WIDTH - left - 8 - gap * (len(panels) - 1)) / max(len(panels), 1)
    bottom = top + height * len(rows)
    drawing = Drawing(WIDTH, bottom + 26, "Accuracy of each method overall and in each shot group, with intervals.")
    for place, row in enumerate(rows):
        y = top + height * (place + 0.5)
        if row.shown:
            drawing.add("rect", x=0, y=y - height / 2, width=WIDTH, height=height, rx=4, class_="band")
        title = shortened(row.title, (left - 14) / (_BOLD if row.shown else 1))
        drawing.text(left - 14, y + 4, title, anchor="end", class_="label strong" if row.shown else "label")
    for index, name in enumerate(panels):
        start = left + index * (width + gap)
        x = linear(low, high, start, start + width - 26)
        drawing.text(start, 16, ACCURACY_NAMES[name], class_="label strong")
        for value in ticks(low, high, 4):
            drawing.line(x(value), top - 8, x(value), bottom, class_="grid")
            drawing.text(x(value), bottom + 16, f"{100 * value:.3g}", anchor="middle", class_="tick")
        for place, row in enumerate(rows):
            if name in row.accuracies:
                _point(drawing, row, name, x, top + height * (place + 0.5))
    return drawing.markup()


def calibration_chart(calibration: Calibration) -> Markup:
    """Draw how often predictions of each confidence are right, and how many there are; no line to bins of a few."""
    left, top, side = 52, 12, 300
    bottom = top + side
    drawing = Drawing(420, bottom + 44, "Share of right predictions over their probability.", narrow=True)
    x, y = linear(0, 1, left, left + side), linear(0, 1, bottom, top)
    marks = [value / 100 for value in range(0, 101, 20)]
    y_axis(drawing, [(y(mark), f"{100 * mark:.0f} %") for mark in marks], left, left + side)
    x_axis(drawing, [(x(mark), f"{100 * mark:.0f} %") for mark in marks], bottom, "probability of the predicted class",
           left, left + side)  # fmt: skip
    most = max(bin_.images for bin_ in calibration.bins)
    for bin_ in calibration.bins:
        height = 0.22 * side * bin_.images / most
        drawing.add(
            "rect", x=x(bin_.low) + 1, y=bottom - height, width=x(bin_.high) - x(bin_.low) - 2, height=height,
            class_="count", title=plural(bin_.images, "image"),
        )  # fmt: skip
    drawing.line(x(0), y(0), x(1), y(1), class_="diagonal")
    for sure, part in groupby(calibration.bins, key=lambda bin_: bin_.sure):
        if sure:
            drawing.curve([(x(bin_.confidence), y(bin_.accuracy)) for bin_ in part], class_="curve s-accent")
    for bin_ in calibration.bins:
        _draw_bin(drawing, bin_, x, y, radius=2.0 + 3.5 * (bin_.images / most) ** 0.25)
    return drawing.markup()


def _draw_bin(drawing: Drawing, bin_: ReliabilityBin, x: Scale, y: Scale, radius: float) -> None:
    """Draw a bin as a point with its interval; hollow if it has too few images."""
    low, high = bin_.interval
    across = x(bin_.confidence)
    drawing.line(across, y(low), across, y(high), class_="whisker" if bin_.sure else "whisker weak")
    title = (
        f"{plural(bin_.images, 'image')} of {100 * bin_.confidence:.0f} %: {100 * bin_.accuracy:.0f} % right "
        f"({100 * low:.0f} to {100 * high:.0f})"
    )
    colour = "dot accent" if bin_.sure else "before"
    drawing.add("circle", cx=across, cy=y(bin_.accuracy), r=radius, class_=colour, title=title)


def curves_chart(phases: Sequence[PhaseCurves]) -> Markup:
    """Draw the losses of each phase over its steps, phase after phase."""
    left, right, top, bottom = 52, 706, 34, 240
    drawing = Drawing(WIDTH, 284, "Losses over the steps of training.")
    values = [value for phase in phases for series in phase.values.values() for value in series]
    low, high = min([*values, 0.0]), max(values, default=1.0)
    steps = sum(phase.steps for phase in phases)
    x, y = linear(0, steps, left, right), linear(low, high * 1.04, bottom, top)
    y_axis(drawing, [(y(mark), f"{mark:g}") for mark in ticks(low, high, 5)], left, right)
    x_axis(drawing, [(x(mark), f"{mark:,.0f}") for mark in whole_ticks(0, steps, 6)], bottom, "steps", left, right)
    start = 0
    for phase in phases:
        if start:
            drawing.line(x(start), top - 22, x(start), bottom, class_="boundary")
        text = f"phase {phase.phase}: {phase.epochs} epochs, {phase.steps:,} steps"
        drawing.text(x(start) + 6, top - 12, text, class_="label halo")
        for index, (name, series) in enumerate(phase.values.items()):
            points = [(x(start + centre), y(value)) for centre, value in zip(phase.centres, series, strict=True)]
            drawing.curve(points, class_=f"curve s-l{index}", title=_SHOWN_LOSSES.get(name, name))
        start += phase.steps
    return drawing.markup()


def loss_names(phases: Sequence[PhaseCurves]) -> list[str]:
    """Return the names of the curves, in the order of their colours."""
    return list(dict.fromkeys(_SHOWN_LOSSES.get(name, name) for phase in phases for name in phase.values))


def _point(drawing: Drawing, row: MethodRow, name: str, x: Scale, y: float) -> None:
    value = row.accuracies[name]
    _whisker(drawing, value, x, y, 0)
    title = f"{row.title}, {ACCURACY_NAMES[name]}: {interval_text(value)}"
    radius, colour = (5.0, "accent") if row.shown else (4.0, "neutral")
    drawing.add("circle", cx=x(value.mean), cy=y, r=radius, class_=f"dot {colour}", title=title)
    end = x(max(value.mean, value.high or 0)) + 8
    drawing.text(end, y + 4, f"{100 * value.mean:.1f}", class_="tick strong" if row.shown else "tick")


def _whisker(drawing: Drawing, value: Difference, x: Scale, y: float, cap: float) -> None:
    if value.low is None or value.high is None:
        return
    drawing.line(x(value.low), y, x(value.high), y, class_="whisker")
    for end in (value.low, value.high) if cap else ():
        drawing.line(x(end), y - cap, x(end), y + cap, class_="whisker")


def interval_text(value: Difference) -> str:
    """Return an accuracy in percent with its interval: `71.3 % (70.4 to 72.2)`."""
    if value.low is None or value.high is None:
        return f"{100 * value.mean:.1f} %"
    return f"{100 * value.mean:.1f} % ({100 * value.low:.1f} to {100 * value.high:.1f})"
