"""Make the tables of accuracy under domain shift from their result files, for `benchmarks.documents.tables`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.documents.performance_tables import MISSING, RESULTS, raw_link, rows_of
from lpt.config.recipes import METHODS

Row = dict[str, Any]

UNDER_SHIFT = {
    "shift_cifar100_if100_96": "CIFAR-100-LT IF 100, corrupted",
    "shift_emoji": "emoji, another foundry",
    "shift_clothing_64": "clothing, other people",
    "shift_grocery_64": "groceries, catalogue pictures",
}
"""The result folders of shifts, and the images of each."""
OURS = ("lpt-phase1", "lpt")


def shift_files(name: str) -> dict[str, list[Row]]:
    """Read the results of each method in a result folder, a file for each seed; leave out methods without one."""
    paths = {method: sorted((RESULTS / name / method).glob("seed*/shift.json")) for method in METHODS}
    return {
        method: [json.loads(path.read_text(encoding="utf-8")) for path in files]
        for method, files in paths.items()
        if files
    }


def corruptions(name: str) -> Callable[[], str]:
    """Return a maker of the accuracy under corruption of every method in a result folder, means over its seeds."""

    def make() -> str:
        files_of = shift_files(name)
        if not files_of:
            return MISSING
        first = next(iter(files_of.values()))[0]
        severities = list(first["corruptions"]["by_severity"])
        accuracy = "mean_corruption_accuracy"
        columns = {
            "clean": ("clean", "overall"),
            "corrupted": (accuracy, "overall"),
            "relative drop, %": ("relative_drop", "overall"),
            **{f"severity {severity}": ("by_severity", severity, "accuracy", "overall") for severity in severities},
            "few, clean": ("clean", "few"),
            "few, corrupted": (accuracy, "few"),
            "few, relative drop, %": ("relative_drop", "few"),
        }
        lines = [
            [METHODS[method].title, *(_mean(files, ("corruptions", *path)) for path in columns.values()), _seeds(files)]
            for method, files in files_of.items()
        ]
        kinds, images = len(first["corruptions"]["by_kind"]), first["corruptions"]["clean"]["images"]
        source = (
            f"Overall accuracy unless few is said; {kinds} kinds of corruption at severities {', '.join(severities)}, "
            f"{images:,} test images; {first['date']}. Raw files and plots: {raw_link(name)}."
        )
        return "\n".join([*rows_of(["method", *columns, "seeds"], lines), "", source])

    return make


def corruptions_by_seed(name: str) -> Callable[[], str]:
    """Return a maker of accuracy under corruption and its relative drop in each seed."""
    columns = {
        "clean, overall": ("clean", "overall"),
        "corrupted, overall": ("mean_corruption_accuracy", "overall"),
        "corrupted, few": ("mean_corruption_accuracy", "few"),
        "relative drop, %: overall": ("relative_drop", "overall"),
        "relative drop, %: few": ("relative_drop", "few"),
    }

    def make() -> str:
        lines = [
            [
                METHODS[method].title,
                *(
                    ", ".join(f"{100 * _at(file, ('corruptions', *path)):.1f}" for file in files)
                    for path in columns.values()
                ),
            ]
            for method, files in shift_files(name).items()
        ]
        return "\n".join(rows_of(["method, in seeds 1 and 2", *columns], lines)) if lines else MISSING

    return make


def other_sets(name: str, clean: str = "held out", other: str = "other set") -> Callable[[], str]:
    """Return a maker of the accuracy of every method on another set of the same classes, means over its seeds.

    Args:
        name: the result folder.
        clean: what the images of the pack's own kind are called.
        other: what those of the other set are called.
    """

    def make() -> str:
        files_of = shift_files(name)
        if not files_of:
            return MISSING
        measures = ("overall", "mean_per_class", "few")
        columns = {
            f"{images}: {measure.replace('_', ' ')}": ("data_sets", 0, key, measure)
            for measure in measures
            for key, images in (("clean", clean), ("shifted", other))
        } | {
            f"relative drop, %: {measure.replace('_', ' ')}": ("data_sets", 0, "relative_drop", measure)
            for measure in ("overall", "mean_per_class")
        }
        first = next(iter(files_of.values()))[0]
        columns = {title: path for title, path in columns.items() if _at(first, path) is not None}
        lines = [
            [METHODS[method].title, *(_mean(files, path) for path in columns.values()), _seeds(files)]
            for method, files in files_of.items()
        ]
        sizes = [first["data_sets"][0][side]["images"] for side in ("clean", "shifted")]
        source = f"{sizes[0]:,} images {clean}, {sizes[1]:,} of the {other}; {first['date']}."
        return "\n".join([*rows_of(["method", *columns, "seeds"], lines), "", f"{source} Raw files: {raw_link(name)}."])

    return make


def effective_robustness() -> str:
    """Return how far LPT is above the line of the other methods: shifted against clean accuracy, a point a method.

    Both accuracies are means over the seeds, on the logit scale (Taori et al. 2020, "Measuring robustness to natural
    distribution shifts in image classification"). The interval is that of a further point on the line.
    """
    lines = []
    for name, images in UNDER_SHIFT.items():
        points = {method: _clean_and_shifted(files) for method, files in shift_files(name).items()}
        others = np.array([point for method, point in points.items() if method not in OURS])
        if len(others) >= 4:
            lines.append([images, str(len(others)), *(above_line(others, points[method]) for method in OURS)])
    heading = ["images", "other methods", *(f"{METHODS[method].title}: points above their line" for method in OURS)]
    return "\n".join(rows_of(heading, lines)) if lines else MISSING


def _clean_and_shifted(files: list[Row]) -> tuple[float, float]:
    """Return the overall accuracies of a method, means over its seeds."""
    values = []
    for file in files:
        if "corruptions" in file:
            part = file["corruptions"]
            values.append((part["clean"]["overall"], part["mean_corruption_accuracy"]["overall"]))
        else:
            (part,) = file["data_sets"]
            values.append((part["clean"]["overall"], part["shifted"]["overall"]))
    clean, shifted = np.mean(values, axis=0)
    return float(clean), float(shifted)


def above_line(others: np.ndarray[Any, np.dtype[np.float64]], point: tuple[float, float]) -> str:
    """Return the points by which a method is above the line of others, with a 95 % prediction interval.

    Args:
        others: clean and shifted accuracy of each other method, [n, 2], as fractions.
        point: those of the method.
    """
    x, y = np.log(others / (1 - others)).T
    x0, _ = np.log(np.array(point) / (1 - np.array(point)))
    line = stats.linregress(x, y)
    residuals = y - (line.intercept + line.slope * x)
    count = len(x)
    scale = np.sqrt((residuals**2).sum() / (count - 2))
    leverage = 1 + 1 / count + (x0 - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum()
    width = stats.t.ppf(0.975, count - 2) * scale * np.sqrt(leverage)
    expected = line.intercept + line.slope * x0 + np.array([0, width, -width])
    above, lowest, highest = (f"{100 * (point[1] - 1 / (1 + np.exp(-value))):+.1f}" for value in expected)
    return f"{above} [{lowest}, {highest}]".replace("-", "−")


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def _mean(files: list[Row], path: tuple[Any, ...]) -> str:
    """Return the mean over files of the value under a path of keys, percent."""
    values = [_at(file, path) for file in files]
    return f"{100 * sum(values) / len(values):.1f}"


def _seeds(files: list[Row]) -> str:
    return str(len(files))


TABLES: dict[str, Callable[[], str]] = {
    "shift_96": corruptions("shift_cifar100_if100_96"),
    "shift_96_by_seed": corruptions_by_seed("shift_cifar100_if100_96"),
    "shift_emoji": other_sets("shift_emoji"),
    "shift_clothing": other_sets("shift_clothing_64", "of the same people", "other people"),
    "shift_grocery": other_sets("shift_grocery_64", "from shops", "catalogue"),
    "effective_robustness": effective_robustness,
}
