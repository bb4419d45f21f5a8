"""The result of `lpt compare`: what the runner hands over, what is computed from it, and the files it becomes.

Everything is first gathered in `summarise`, the content of comparison.json; the Markdown and the terminal show numbers
of it and nothing else.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from lpt.data.longtail import ShotGroups
from lpt.data.manifest import FloatArray, IntArray
from lpt.evaluation.metrics import Metrics, class_accuracies
from lpt.evaluation.paired import SeedPair, paired_differences
from lpt.report.comparison_plots import Rows, plot_cost, plot_groups, plot_methods_by_count
from lpt.report.comparison_tables import comparison_tables, markdown
from lpt.system.files import write_json, write_text

MEASURES = (
    "overall", "mean_per_class", "many", "medium", "few", "worst_decile", "macro_f1", "harmonic_mean", "ece",
)  # fmt: skip
"""Those of the tables; a mean and a deviation are given for `top5` and `nll` too."""
_PLOTS = ("groups.png", "cost.png", "accuracy_by_count.png")
WRITTEN = ("comparison.json", "comparison.csv", "per_class.csv", *_PLOTS, "comparison.md")
"""What `write_comparison` writes."""
GROUP_MEASURES = ("overall", "many", "medium", "few")


@dataclass(frozen=True)
class Cost:
    """What one method took on one seed.

    Args:
        trained_parameters: numbers that training changes.
        stored_bytes: what has to be kept for the task beside the backbone (whole-model fine-tuning: the whole model).
        train_seconds: of training, with everything that it needs, without the evaluation.
        peak_memory_bytes: the highest use while training.
        image_draws: images that passed through the model in training, repeats counted.
        inference_ms: time for an image, milliseconds; None: not measured.
        inference_ratio: that over the time of a plain forward pass of the backbone, in turns with it; None likewise.
    """

    trained_parameters: int
    stored_bytes: int
    train_seconds: float
    peak_memory_bytes: int
    image_draws: int
    inference_ms: float | None
    inference_ratio: float | None


@dataclass(frozen=True)
class Cell:
    """One method on one seed.

    Args:
        method: its name, as on the command line.
        seed: of everything random.
        metrics: measured on the test images.
        images: file name of each test image, n of them.
        labels: true class of each test image, [n].
        predicted: predicted class, [n].
        cost: what it took.
    """

    method: str
    seed: int
    metrics: Metrics
    images: Sequence[str]
    labels: IntArray
    predicted: IntArray
    cost: Cost


@dataclass(frozen=True)
class Comparison:
    """All cells that are finished, and what is needed to read them.

    Args:
        cells: in any order, at most one for a method and seed.
        methods: the rows, top to bottom.
        titles: readable name of a method; its own name where there is none.
        train_counts: images of each class by seed, [C], before a part was held out of training; groups go by them.
        train_images: training images by seed, without what was held out.
        class_names: in label order, C of them.
        groups: the boundaries of many, medium and few.
        reference: the method that all others are compared with.
        missing: (method, seed) of cells that are not finished, each with the reason.
        facts: command, machine, versions, date, data ...: as they are to be read.

    Raises:
        ValueError: two cells of one method and seed, a cell that is also missing, a method that is no row, a seed
            without class counts, or neither methods nor counts.
    """

    cells: Sequence[Cell]
    methods: Sequence[str]
    titles: dict[str, str]
    train_counts: dict[int, IntArray]
    train_images: dict[int, int]
    class_names: Sequence[str]
    groups: ShotGroups
    reference: str = "lpt"
    missing: Mapping[tuple[str, int], str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keys = [(cell.method, cell.seed) for cell in self.cells]
        every = [*keys, *self.missing]
        if len(set(every)) < len(every):
            raise ValueError(f"a method and seed must be given once, finished or missing; got {sorted(every)}")
        if strange := sorted({method for method, _ in every} - set(self.methods)):
            raise ValueError(f"cells of methods that are no row: {strange}; rows are {list(self.methods)}")
        if strange_seeds := sorted({seed for _, seed in keys} - set(self.train_counts)):
            raise ValueError(f"no class counts of the seeds {strange_seeds}")
        if not self.train_counts or not self.methods:
            raise ValueError("a comparison needs at least one method, and the class counts of at least one seed")

    def title(self, method: str) -> str:
        """Readable name of a method."""
        return self.titles.get(method, method)

    def of(self, method: str) -> list[Cell]:
        """Finished cells of a method, by seed."""
        return sorted((cell for cell in self.cells if cell.method == method), key=lambda cell: cell.seed)


def summarise(comparison: Comparison, *, resamples: int = 2000) -> dict[str, Any]:
    """Everything of comparison.json, in plain values.

    Args:
        comparison: the cells.
        resamples: resampled test sets behind each interval.
    """
    methods = [_row(comparison, method) for method in comparison.methods]
    seeds = sorted({seed for row in methods for seed in [*row["seeds"], *row["missing_seeds"]]})
    images = sorted({cell.metrics.images for cell in comparison.cells})
    group_classes = sorted({cell.metrics.group_classes for cell in comparison.cells})
    return {
        "reference": comparison.reference,
        "seeds": seeds,
        "boundaries": comparison.groups.describe(),
        "group_classes": [list(one) for one in group_classes],
        "classes": len(comparison.class_names),
        "train_images": {str(seed): count for seed, count in sorted(comparison.train_images.items())},
        "test_images": images,
        "methods": methods,
        "differences": _differences(comparison, resamples),
        "missing": [
            {"method": method, "seed": seed, "reason": reason} for (method, seed), reason in comparison.missing.items()
        ],
        "facts": comparison.facts,
        "cells": [
            {"method": cell.method, "seed": cell.seed, "metrics": cell.metrics.to_dict(), "cost": asdict(cell.cost)}
            for cell in _ordered(comparison)
        ],
    }


def write_comparison(folder: Path, comparison: Comparison, *, resamples: int = 2000) -> dict[str, Any]:
    """Write comparison.md, .csv and .json, per_class.csv and three plots into a folder; older ones are replaced.

    Returns:
        What comparison.json holds.

    Raises:
        RunError: a file cannot be written.
    """
    summary = summarise(comparison, resamples=resamples)
    write_json(folder / "comparison.json", summary)
    write_text(folder / "comparison.csv", _csv(_cell_lines(comparison)))
    write_text(folder / "per_class.csv", _csv(_class_lines(comparison)))
    _write_plots(folder, comparison, summary)
    write_text(folder / "comparison.md", markdown(summary))
    return summary


def print_comparison(comparison: Comparison, console: Console, *, summary: dict[str, Any] | None = None) -> None:
    """Print accuracies, costs and the differences of the reference, a row for each method that has a result.

    Args:
        comparison: the cells.
        console: where to print.
        summary: what `write_comparison` returned, so that nothing is computed again.
    """
    for part in comparison_tables(summary or summarise(comparison)):
        console.print(part)


def class_means(comparison: Comparison) -> tuple[IntArray, FloatArray]:
    """Test images of each class, [C], and accuracy of each method in it, mean over seeds, [R, C].

    NaN: no test images, or no finished seed. Where the seeds have different test images, their number is a mean.
    """
    classes = len(comparison.class_names)
    tested = [np.bincount(cell.labels, minlength=classes) for cell in comparison.cells]
    means = [
        _nan_mean([class_accuracies(cell.labels, cell.predicted, classes) for cell in comparison.of(method)], classes)
        for method in comparison.methods
    ]
    images = np.mean(tested, axis=0) if tested else np.zeros(classes)
    return np.rint(images).astype(np.int64), np.stack(means)


def _row(comparison: Comparison, method: str) -> dict[str, Any]:
    cells = comparison.of(method)
    return {
        "method": method,
        "title": comparison.title(method),
        "seeds": [cell.seed for cell in cells],
        "missing_seeds": sorted(seed for name, seed in comparison.missing if name == method),
        "metrics": {
            name: _spread([getattr(cell.metrics, name) for cell in cells]) for name in (*MEASURES, "top5", "nll")
        },
        "cost": {one.name: _spread([getattr(cell.cost, one.name) for cell in cells]) for one in fields(Cost)},
    }


def _spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean, standard deviation (of a sample; None of a single seed) and the values of the seeds."""
    known = [value for value in values if value is not None]
    return {
        "mean": float(np.mean(known)) if known else None,
        "std": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        "values": list(values),
    }


def _differences(comparison: Comparison, resamples: int) -> list[dict[str, Any]]:
    """The reference less every other method, on the seeds that both have."""
    own = {cell.seed: cell for cell in comparison.of(comparison.reference)}
    rows = []
    for method in comparison.methods:
        pairs = [
            SeedPair(
                seed=other.seed,
                images=other.images,
                labels=other.labels,
                first=own[other.seed].predicted,
                second=other.predicted,
                train_counts=_counts(comparison, other),
            )
            for other in comparison.of(method)
            if other.seed in own and method != comparison.reference
        ]
        for pair in pairs:
            mine = own[pair.seed]
            if not (np.array_equal(pair.labels, mine.labels) and list(pair.images) == list(mine.images)):
                raise ValueError(f"{comparison.reference} and {method} have other test images at seed {pair.seed}")
        if pairs:
            paired = paired_differences(pairs, comparison.groups, resamples=resamples)
            rows.append({"reference": comparison.reference, "method": method, **paired.to_dict()})
    return rows


def _counts(comparison: Comparison, cell: Cell) -> IntArray:
    return np.asarray(comparison.train_counts[cell.seed])


def _ordered(comparison: Comparison) -> list[Cell]:
    return [cell for method in comparison.methods for cell in comparison.of(method)]


def _cell_lines(comparison: Comparison) -> Iterable[Sequence[Any]]:
    """A line for each finished cell: metrics as fractions, costs in their units."""
    measures = [one.name for one in fields(Metrics) if one.name != "group_classes"]
    costs = [one.name for one in fields(Cost)]
    yield ["method", "title", "seed", *measures, *(f"{name}_classes" for name in comparison.groups.names), *costs]
    for cell in _ordered(comparison):
        values = [*(getattr(cell.metrics, name) for name in measures), *cell.metrics.group_classes]
        values += [getattr(cell.cost, name) for name in costs]
        yield [cell.method, comparison.title(cell.method), cell.seed, *values]


def _class_lines(comparison: Comparison) -> Iterable[Sequence[Any]]:
    """A line for each class; sizes and groups that differ between seeds are all named: `19/20`, `few/medium`."""
    yield ["class", "class_size", "group", "test_images", *comparison.methods]
    counts = np.stack(list(comparison.train_counts.values()))
    names = np.array([*comparison.groups.names, "none"])
    groups = names[np.where(counts > 0, comparison.groups.of(counts), 3)]
    tested, means = class_means(comparison)
    for c, name in enumerate(comparison.class_names):
        accuracies = ["" if np.isnan(value) else f"{value:.4f}" for value in means[:, c]]
        yield [name, _either(counts[:, c].tolist()), _either(groups[:, c].tolist()), tested[c], *accuracies]


def _either(values: Sequence[Any]) -> str:
    return "/".join(dict.fromkeys(map(str, values)))


def _csv(lines: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def _nan_mean(rows: Sequence[FloatArray], columns: int) -> FloatArray:
    """Mean of what is not NaN in each column, [rows, columns] -> [columns]; NaN where nothing is."""
    table = np.stack(rows) if rows else np.empty((0, columns))
    known = np.asarray(np.isfinite(table))
    total = np.where(known, table, 0).sum(axis=0)
    return np.divide(total, known.sum(axis=0), out=np.full(columns, np.nan), where=known.any(axis=0))


def _write_plots(folder: Path, comparison: Comparison, summary: dict[str, Any]) -> None:
    """The three plots, of the methods that have a result."""
    shown = [row for row in summary["methods"] if row["seeds"]]
    methods = [row["method"] for row in shown]
    rows = Rows(
        names=[row["title"] for row in shown],
        strength=[row["metrics"]["mean_per_class"]["mean"] for row in shown],
        highlight=methods.index(comparison.reference) if comparison.reference in methods else None,
        seeds=_say_seeds(shown),
    )

    def table(part: str, wanted: Sequence[str], key: str = "mean") -> FloatArray:
        values = [[row[part][name][key] for name in wanted] for row in shown]
        return np.array(values, dtype=np.float64).reshape(len(shown), len(wanted))

    means, stds = (table("metrics", GROUP_MEASURES, key) for key in ("mean", "std"))
    plot_groups(folder / "groups.png", rows, means, stds, summary["boundaries"])
    cost = table("cost", ("trained_parameters", "train_seconds"))
    plot_cost(folder / "cost.png", rows, cost, table("metrics", ("few", "overall")))
    classes, counts = len(comparison.class_names), np.stack(list(comparison.train_counts.values())).mean(axis=0)
    accuracies = [
        np.stack([class_accuracies(cell.labels, cell.predicted, classes) for cell in comparison.of(method)])
        for method in methods
    ]
    by_count = folder / "accuracy_by_count.png"
    plot_methods_by_count(by_count, rows, counts, accuracies, comparison.groups)


def _say_seeds(rows: Sequence[dict[str, Any]]) -> str:
    """`mean over 3 seeds (LoRA: 2)`."""
    most = max((len(row["seeds"]) for row in rows), default=0)
    fewer = [f"{row['title']}: {len(row['seeds'])}" for row in rows if len(row["seeds"]) < most]
    said = f"mean over {most} seeds" if most > 1 else "one seed"
    named = ", ".join(fewer) if len(fewer) < 3 else f"fewer for {len(fewer)} methods, see the table"
    return f"{said} ({named})" if fewer else said
