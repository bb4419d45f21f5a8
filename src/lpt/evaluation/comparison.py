"""Several methods on the same data: their cells, and the numbers that are computed from them.

`summarise` gathers the content of comparison.json; tables show these numbers and no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from lpt.data.longtail import ShotGroups
from lpt.data.manifest import FloatArray, IntArray
from lpt.evaluation.metrics import Metrics, class_accuracies
from lpt.evaluation.paired import SeedPair, paired_differences

MEASURES = (
    "overall", "mean_per_class", "many", "medium", "few", "worst_decile", "macro_f1", "harmonic_mean", "ece",
)  # fmt: skip
"""Measures of the tables; the summary also has `top5` and `nll`."""


@dataclass(frozen=True)
class Cost:
    """The cost of one method on one seed.

    Args:
        trained_parameters: numbers that training changes.
        stored_bytes: bytes to keep for the task beside the backbone; the whole model if it was fine-tuned.
        train_seconds: time of training and all that it needs, without the evaluation.
        peak_memory_bytes: highest memory use while training.
        image_draws: images that passed through the model in training, repeats counted.
        inference_ms: milliseconds per image; None: not measured.
        inference_ratio: the same as a multiple of the backbone's forward pass; None likewise.
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
        seed: the seed of all random draws.
        metrics: its metrics on the test images.
        images: file name of each test image, n of them.
        labels: true class of each test image, [n].
        predicted: predicted class of each test image, [n].
        cost: its cost.
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
    """All finished cells of a comparison, and the facts that are needed to read them.

    Args:
        cells: in any order, at most one for a method and seed.
        methods: the rows, top to bottom.
        titles: readable name of a method; its own name where there is none.
        train_counts: images of each class by seed, [C], held-out ones included; groups go by them.
        train_images: training images by seed, without the held-out ones.
        class_names: in label order, C of them.
        groups: the boundaries of many, medium and few.
        reference: the method that all others are compared with.
        missing: (method, seed) of cells that are not finished, each with the reason.
        facts: command, machine, versions, date, data ..., as the tables show them.

    Raises:
        ValueError: a method and seed is given twice, or is also missing; a cell has a method that is no row, or a
            seed without class counts; there is no method, or there are no counts.
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
        """Return the readable name of a method."""
        return self.titles.get(method, method)

    def cells_of(self, method: str) -> list[Cell]:
        """Return the finished cells of a method, by seed."""
        return sorted((cell for cell in self.cells if cell.method == method), key=lambda cell: cell.seed)


@dataclass(frozen=True)
class ClassRow:
    """One class in per_class.csv.

    Args:
        name: the class.
        sizes: its images, held-out ones included; several numbers if seeds differ.
        groups: many, medium, few or none; several if seeds differ.
        test_images: its test images, a mean over seeds.
        accuracies: mean accuracy of each method in it, R of them; NaN: not tested, or no finished seed.
    """

    name: str
    sizes: tuple[int, ...]
    groups: tuple[str, ...]
    test_images: int
    accuracies: tuple[float, ...]


def summarise(comparison: Comparison, *, resamples: int = 2000) -> dict[str, Any]:
    """Compute the content of comparison.json, in plain values.

    Args:
        comparison: the cells.
        resamples: number of resampled test sets behind each interval.
    """
    methods = [_row(comparison, method) for method in comparison.methods]
    seeds = sorted({seed for row in methods for seed in [*row["seeds"], *row["missing_seeds"]]})
    images = sorted({cell.metrics.images for cell in comparison.cells})
    group_classes = sorted({cell.metrics.group_classes for cell in comparison.cells})
    return {
        "reference": comparison.reference,
        "seeds": seeds,
        "boundaries": comparison.groups.describe(),
        "group_classes": [list(numbers) for numbers in group_classes],
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
            for cell in ordered_cells(comparison)
        ],
    }


def seed_accuracies(comparison: Comparison, method: str) -> FloatArray:
    """Return the accuracy of a method in each class for each of its seeds, [S, C]; NaN for a class without test images.

    S is 0 for a method without a finished cell.
    """
    classes = len(comparison.class_names)
    cells = comparison.cells_of(method)
    return np.array(
        [class_accuracies(cell.labels, cell.predicted, classes) for cell in cells], dtype=np.float64
    ).reshape(len(cells), classes)


def mean_class_sizes(comparison: Comparison) -> FloatArray:
    """Return the images of each class, held-out ones included, as a mean over seeds, [C]."""
    return np.asarray(np.stack(list(comparison.train_counts.values())).mean(axis=0))


def class_rows(comparison: Comparison) -> list[ClassRow]:
    """Return the size, the group and the accuracies of every class, in label order."""
    counts = np.stack(list(comparison.train_counts.values()))
    names = np.array([*comparison.groups.names, "none"])
    groups = names[np.where(counts > 0, comparison.groups.of(counts), 3)]
    tested, means = class_means(comparison)
    return [
        ClassRow(
            name=name,
            sizes=tuple(dict.fromkeys(counts[:, c].tolist())),
            groups=tuple(dict.fromkeys(groups[:, c].tolist())),
            test_images=int(tested[c]),
            accuracies=tuple(means[:, c].tolist()),
        )
        for c, name in enumerate(comparison.class_names)
    ]


def class_means(comparison: Comparison) -> tuple[IntArray, FloatArray]:
    """Return the test images of each class, [C], and the accuracy of each method in it, a mean over seeds, [R, C].

    NaN: no test images, or no finished seed. If seeds have different test images, their number is a mean.
    """
    classes = len(comparison.class_names)
    tested = [np.bincount(cell.labels, minlength=classes) for cell in comparison.cells]
    images = np.mean(tested, axis=0) if tested else np.zeros(classes)
    means = [_nan_mean(seed_accuracies(comparison, method)) for method in comparison.methods]
    return np.rint(images).astype(np.int64), np.stack(means)


def ranked_rows(rows: Iterable[Mapping[str, Any]], reference: str) -> list[Mapping[str, Any]]:
    """Return the rows of a summary that can be ranked: those with the most seeds, and the same ones.

    Of several such sets of seeds the reference's counts, else the most frequent one.
    """
    finished = [row for row in rows if row["seeds"]]
    sets = [row["seeds"] for row in finished]
    reference_sets = [row["seeds"] for row in finished if row["method"] == reference]
    chosen: Sequence[int] = max(
        sets, key=lambda seeds: (len(seeds), seeds in reference_sets, sets.count(seeds)), default=[]
    )
    return [row for row in finished if row["seeds"] == chosen]


def _row(comparison: Comparison, method: str) -> dict[str, Any]:
    """Return a method's row of the summary."""
    cells = comparison.cells_of(method)
    return {
        "method": method,
        "title": comparison.title(method),
        "seeds": [cell.seed for cell in cells],
        "missing_seeds": sorted(seed for name, seed in comparison.missing if name == method),
        "metrics": {
            name: _spread([getattr(cell.metrics, name) for cell in cells]) for name in (*MEASURES, "top5", "nll")
        },
        "cost": {cost.name: _spread([getattr(cell.cost, cost.name) for cell in cells]) for cost in fields(Cost)},
    }


def _spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Return mean, sample standard deviation (None for a single seed) and the values of the seeds."""
    known = [value for value in values if value is not None]
    return {
        "mean": float(np.mean(known)) if known else None,
        "std": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        "values": list(values),
    }


def _differences(comparison: Comparison, resamples: int) -> list[dict[str, Any]]:
    """Compare the reference with every other method, on the seeds that both have.

    Raises:
        ValueError: the two have different test images at a seed.
    """
    references = {cell.seed: cell for cell in comparison.cells_of(comparison.reference)}
    rows = []
    for method in comparison.methods:
        pairs = [
            SeedPair(
                seed=other.seed,
                images=other.images,
                labels=other.labels,
                first=references[other.seed].predicted,
                second=other.predicted,
                train_counts=np.asarray(comparison.train_counts[other.seed]),
            )
            for other in comparison.cells_of(method)
            if other.seed in references and method != comparison.reference
        ]
        for pair in pairs:
            mine = references[pair.seed]
            if not (np.array_equal(pair.labels, mine.labels) and list(pair.images) == list(mine.images)):
                raise ValueError(f"{comparison.reference} and {method} have other test images at seed {pair.seed}")
        if pairs:
            paired = paired_differences(pairs, comparison.groups, resamples=resamples)
            rows.append({"reference": comparison.reference, "method": method, **paired.to_dict()})
    return rows


def ordered_cells(comparison: Comparison) -> list[Cell]:
    """Return all finished cells, by method in the order of the rows, then by seed."""
    return [cell for method in comparison.methods for cell in comparison.cells_of(method)]


def _nan_mean(table: FloatArray) -> FloatArray:
    """Return the mean of the numbers in each column that are not NaN, [S, C] -> [C]; NaN for a column without one."""
    finite = np.asarray(np.isfinite(table))
    total = np.where(finite, table, 0).sum(axis=0)
    return np.divide(total, finite.sum(axis=0), out=np.full(table.shape[1], np.nan), where=finite.any(axis=0))
