"""Write the result of `lpt compare` into files, and print it.

The Markdown and the terminal show numbers of `lpt.evaluation.comparison.summarise` and nothing else.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from lpt.data.manifest import FloatArray
from lpt.evaluation.comparison import Comparison, Cost, class_means, ordered_cells, summarise
from lpt.evaluation.metrics import Metrics, class_accuracies
from lpt.report.comparison_plots import Rows, plot_cost, plot_groups, plot_methods_by_count
from lpt.report.comparison_tables import comparison_tables, markdown
from lpt.system.files import write_json, write_text

_PLOTS = ("groups.png", "cost.png", "accuracy_by_count.png")
WRITTEN = ("comparison.json", "comparison.csv", "per_class.csv", *_PLOTS, "comparison.md")
"""What `write_comparison` writes."""
GROUP_MEASURES = ("overall", "many", "medium", "few")


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


def _cell_lines(comparison: Comparison) -> Iterable[Sequence[Any]]:
    """A line for each finished cell: metrics as fractions, costs in their units."""
    measures = [one.name for one in fields(Metrics) if one.name != "group_classes"]
    costs = [one.name for one in fields(Cost)]
    yield ["method", "title", "seed", *measures, *(f"{name}_classes" for name in comparison.groups.names), *costs]
    for cell in ordered_cells(comparison):
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
