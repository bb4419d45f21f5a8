"""Write the result of `lpt compare` into files, and print it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from lpt.data.manifest import FloatArray
from lpt.evaluation.comparison import (
    Comparison,
    Cost,
    class_rows,
    mean_class_sizes,
    ordered_cells,
    seed_accuracies,
    summarise,
)
from lpt.evaluation.metrics import Metrics
from lpt.report.comparison_plots import Rows, plot_cost, plot_groups, plot_methods_by_count
from lpt.report.comparison_tables import comparison_tables, markdown
from lpt.system.files import write_json, write_text
from lpt.system.text import csv_text

_PLOTS = ("groups.png", "cost.png", "accuracy_by_count.png")
WRITTEN = ("comparison.json", "comparison.csv", "per_class.csv", *_PLOTS, "comparison.md")
"""Names of the files that `write_comparison` writes."""
GROUP_MEASURES = ("overall", "many", "medium", "few")


def write_comparison(folder: Path, comparison: Comparison, *, resamples: int = 2000) -> dict[str, Any]:
    """Write comparison.md, .csv and .json, per_class.csv and three plots into a folder; older ones are replaced.

    Returns:
        The content of comparison.json.

    Raises:
        RunError: a file cannot be written.
    """
    summary = summarise(comparison, resamples=resamples)
    write_json(folder / "comparison.json", summary)
    write_text(folder / "comparison.csv", csv_text(_cell_lines(comparison)))
    write_text(folder / "per_class.csv", csv_text(_class_lines(comparison)))
    _write_plots(folder, comparison, summary)
    write_text(folder / "comparison.md", markdown(summary))
    return summary


def print_comparison(comparison: Comparison, console: Console, *, summary: dict[str, Any] | None = None) -> None:
    """Print accuracies, costs and the differences of the reference, a row for each method that has a result.

    Args:
        comparison: the cells.
        console: where to print.
        summary: the content of comparison.json; None: it is computed.
    """
    for part in comparison_tables(summary or summarise(comparison)):
        console.print(part)


def _cell_lines(comparison: Comparison) -> Iterable[Sequence[Any]]:
    """Yield the header and a line for each finished cell: metrics as fractions, costs in their units."""
    measures = [field.name for field in fields(Metrics) if field.name != "group_classes"]
    costs = [field.name for field in fields(Cost)]
    yield ["method", "title", "seed", *measures, *(f"{name}_classes" for name in comparison.groups.names), *costs]
    for cell in ordered_cells(comparison):
        values = [*(getattr(cell.metrics, name) for name in measures), *cell.metrics.group_classes]
        values += [getattr(cell.cost, name) for name in costs]
        yield [cell.method, comparison.title(cell.method), cell.seed, *values]


def _class_lines(comparison: Comparison) -> Iterable[Sequence[Any]]:
    """Yield the header and a line for each class; sizes and groups that differ between seeds are joined: `19/20`."""
    yield ["class", "class_size", "group", "test_images", *comparison.methods]
    for row in class_rows(comparison):
        accuracies = ["" if np.isnan(value) else f"{value:.4f}" for value in row.accuracies]
        yield [row.name, "/".join(map(str, row.sizes)), "/".join(row.groups), row.test_images, *accuracies]


def _write_plots(folder: Path, comparison: Comparison, summary: dict[str, Any]) -> None:
    """Write the three plots, of the methods that have a result."""
    shown = [row for row in summary["methods"] if row["seeds"]]
    methods = [row["method"] for row in shown]
    rows = Rows(
        names=[row["title"] for row in shown],
        strength=[row["metrics"]["mean_per_class"]["mean"] for row in shown],
        highlight=methods.index(comparison.reference) if comparison.reference in methods else None,
        seeds=_seeds_note(shown),
    )

    def table(part: str, wanted: Sequence[str], key: str = "mean") -> FloatArray:
        values = [[row[part][name][key] for name in wanted] for row in shown]
        return np.array(values, dtype=np.float64).reshape(len(shown), len(wanted))

    means, stds = (table("metrics", GROUP_MEASURES, key) for key in ("mean", "std"))
    plot_groups(folder / "groups.png", rows, means, stds, summary["boundaries"])
    cost = table("cost", ("trained_parameters", "train_seconds"))
    plot_cost(folder / "cost.png", rows, cost, table("metrics", ("few", "overall")))
    accuracies = [seed_accuracies(comparison, method) for method in methods]
    by_count = folder / "accuracy_by_count.png"
    plot_methods_by_count(by_count, rows, mean_class_sizes(comparison), accuracies, comparison.groups)


def _seeds_note(rows: Sequence[dict[str, Any]]) -> str:
    """Say which seeds the means are over: `mean over 3 seeds (LoRA: 2)`."""
    most = max((len(row["seeds"]) for row in rows), default=0)
    fewer = [f"{row['title']}: {len(row['seeds'])}" for row in rows if len(row["seeds"]) < most]
    note = f"mean over {most} seeds" if most > 1 else "one seed"
    named = ", ".join(fewer) if len(fewer) < 3 else f"fewer for {len(fewer)} methods, see the table"
    return f"{note} ({named})" if fewer else note
