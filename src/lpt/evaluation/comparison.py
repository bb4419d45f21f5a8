"""Several methods on the same data: costs, cells, and what is computed from them.

Everything is first gathered in `summarise`, the content of comparison.json; renderers show
numbers of it and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
"""Those of the tables; a mean and a deviation are given for `top5` and `nll` too."""


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
            for cell in ordered_cells(comparison)
        ],
    }


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


def ordered_cells(comparison: Comparison) -> list[Cell]:
    """Return all finished cells, by method in the order of the rows, then by seed."""
    return [cell for method in comparison.methods for cell in comparison.of(method)]


def _nan_mean(rows: Sequence[FloatArray], columns: int) -> FloatArray:
    """Mean of what is not NaN in each column, [rows, columns] -> [columns]; NaN where nothing is."""
    table = np.stack(rows) if rows else np.empty((0, columns))
    known = np.asarray(np.isfinite(table))
    total = np.where(known, table, 0).sum(axis=0)
    return np.divide(total, known.sum(axis=0), out=np.full(columns, np.nan), where=known.any(axis=0))
