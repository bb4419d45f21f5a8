"""Charts of a search for settings: trials over time, importance of the fields, where the settings were, the gain."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from lpt.evaluation.paired import Difference
from lpt.evaluation.tuning import COMPLETE, PRESET, Range, TrialResult, TuneResult
from lpt.report.html.charts_methods import ACCURACY_NAMES, WIDTH
from lpt.report.html.svg import Drawing, Scale, linear, logarithmic, shortened, ticks, x_axis, y_axis
from lpt.report.tune import number_text, trial_name

_LEFT, _RIGHT = 52, 706


def trials_chart(result: TuneResult) -> Markup:
    """Draw the accuracy of each trial over the time of the search, and the best so far."""
    trials = [trial for trial in result.trials if trial.accuracy is not None]
    ends = [(trial.accuracy or 0) + sign * (trial.error or 0) for trial in trials for sign in (-1, 1)]
    low, high = max(min(ends, default=0) - 0.02, 0), min(max(ends, default=1) + 0.02, 1)
    top, bottom = 14, 250
    drawing = Drawing(WIDTH, bottom + 44, "Accuracy of each trial on held-out images over the time of the search.")
    last = max([trial.at for trial in trials] or [60.0]) / 60
    x, y = linear(0, last * 1.04, _LEFT, _RIGHT), linear(low, high, bottom, top)
    y_axis(drawing, [(y(mark), f"{100 * mark:.3g} %") for mark in ticks(low, high, 5)], _LEFT, _RIGHT)
    x_axis(drawing, [(x(mark), f"{mark:g}") for mark in ticks(0, last, 6)], bottom, "minutes", _LEFT, _RIGHT)
    preset = next((trial for trial in trials if trial.number == PRESET), None)
    if preset is not None and preset.accuracy is not None:
        drawing.line(_LEFT, y(preset.accuracy), _RIGHT, y(preset.accuracy), class_="diagonal")
        drawing.text(_RIGHT, y(preset.accuracy) - 5, "preset", anchor="end", class_="tick halo")
    drawing.curve(_best_so_far(trials, x, y), class_="curve s-accent")
    for trial in trials:
        _trial(drawing, trial, result, x, y)
    return drawing.markup()


def importance_chart(importance: Mapping[str, float]) -> Markup:
    """Draw the importance of the fields as bars, the most important first."""
    names = sorted(importance, key=lambda name: -importance[name])
    row, top, left = 28, 4, 200
    bottom = top + row * len(names)
    drawing = Drawing(WIDTH, bottom + 30, "Importance of the searched fields.")
    x = linear(0, max([*importance.values(), 0.01]), left, 650)
    for place, name in enumerate(names):
        y = top + row * (place + 0.5)
        drawing.text(left - 12, y + 4, shortened(name, left - 14), anchor="end", class_="label")
        drawing.add("rect", x=left, y=y - 8, width=x(importance[name]) - left, height=16, rx=2, class_="accent")
        drawing.text(x(importance[name]) + 8, y + 4, f"{100 * importance[name]:.0f} %", class_="label")
    return drawing.markup()


def settings_chart(result: TuneResult) -> Markup:
    """Draw the values of all trials in their ranges; the preset and the chosen trial are marked."""
    row, top, left, right = 46, 16, 200, 690
    drawing = Drawing(WIDTH, top + row * len(result.ranges) + 8, "Values of the trials in the ranges searched.")
    for place, item in enumerate(result.ranges):
        y = top + row * (place + 0.4)
        x = _scale(item, left, right)
        drawing.text(left - 14, y + 4, shortened(item.path, left - 16), anchor="end", class_="label")
        drawing.line(left, y, right, y, class_="axis")
        drawing.text(left, y + 19, number_text(item.low), class_="tick", anchor="middle")
        drawing.text(right, y + 19, number_text(item.high), class_="tick", anchor="middle")
        drawing.dots(
            [(x(trial.values[item.path]), y) for trial in result.trials if item.path in trial.values],
            class_="dots s-other",
        )
        drawing.add(
            "circle", cx=x(item.preset), cy=y, r=5, class_="before", title=f"preset: {number_text(item.preset)}"
        )
        value = result.settings.get(item.path, item.preset)
        if result.chosen != PRESET:
            drawing.add("circle", cx=x(value), cy=y, r=5, class_="dot accent", title=f"chosen: {number_text(value)}")
            drawing.text(x(value), y - 9, number_text(value), anchor="middle", class_="tick strong halo")
    return drawing.markup()


def gains_chart(gains: Mapping[str, Difference]) -> Markup:
    """Draw the differences of the chosen settings to the preset in percentage points, with intervals."""
    names = [name for name in ACCURACY_NAMES if name in gains]
    values = [end for name in names for end in (gains[name].mean, gains[name].low, gains[name].high) if end is not None]
    low, high = min([*values, -0.005]), max([*values, 0.005])
    row, top, left = 34, 8, 120
    bottom = top + row * len(names)
    drawing = Drawing(WIDTH, bottom + 44, "Differences of the chosen settings to the preset, with intervals.")
    x = linear(low * 1.08, high * 1.08, left, 640)
    marks = [(x(mark / 100), f"{mark:+.3g}".replace("-", "−")) for mark in ticks(100 * low, 100 * high, 6)]
    x_axis(drawing, marks, bottom, "percentage points", left, 640)
    drawing.line(x(0), top, x(0), bottom, class_="boundary")
    for place, name in enumerate(names):
        y, value = top + row * (place + 0.5), gains[name]
        drawing.text(left - 12, y + 4, ACCURACY_NAMES[name], anchor="end", class_="label")
        if value.low is not None and value.high is not None:
            drawing.line(x(value.low), y, x(value.high), y, class_="whisker")
        drawing.add("circle", cx=x(value.mean), cy=y, r=5, class_="dot accent")
        drawing.text(664, y + 4, f"{100 * value.mean:+.1f}".replace("-", "−"), class_="label strong")
    return drawing.markup()


def _best_so_far(trials: list[TrialResult], x: Scale, y: Scale) -> list[tuple[float, float]]:
    """Return the corners of the highest accuracy of complete trials over the time."""
    points = list[tuple[float, float]]()
    best = 0.0
    for trial in sorted((trial for trial in trials if trial.state == COMPLETE), key=lambda trial: trial.at):
        accuracy = trial.accuracy or 0.0
        if points:
            points.append((x(trial.at / 60), y(best)))
        best = max(best, accuracy)
        points.append((x(trial.at / 60), y(best)))
    return points


def _trial(drawing: Drawing, trial: TrialResult, result: TuneResult, x: Scale, y: Scale) -> None:
    place, accuracy = x(trial.at / 60), trial.accuracy or 0.0
    if trial.error is not None:
        drawing.line(place, y(accuracy - trial.error), place, y(accuracy + trial.error), class_="whisker")
    colour = "accent" if trial.number == result.chosen else "neutral"
    error = "" if trial.error is None else f" ± {100 * trial.error:.1f}"
    title = f"trial {trial_name(trial, result)}: {100 * accuracy:.1f} %{error}"
    kind = f"dot {colour}" if trial.state == COMPLETE else "before"
    drawing.add("circle", cx=place, cy=y(accuracy), r=5.0, class_=kind, title=title)


def _scale(item: Range, left: float, right: float) -> Scale:
    return (logarithmic if item.log else linear)(item.low, item.high, left, right)
