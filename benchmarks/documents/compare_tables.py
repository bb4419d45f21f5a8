"""Make the tables of comparisons from their result files, for `benchmarks.documents.tables`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from benchmarks.documents.performance_tables import MEASURES, MISSING, RESULTS, raw_link, rows_of
from lpt.report.comparison_tables import ACCURACIES, COSTS, cost_text, difference_text, with_std

Row = dict[str, Any]
PICTURES = {
    "groups": "Accuracy of every method on many-, medium- and few-shot classes",
    "accuracy_by_count": "Accuracy of every method against the size of a class",
    "cost": "Accuracy of every method against what it costs",
}
OVERVIEW = {
    "compare_cifar100_if100_96": "CIFAR-100-LT IF 100, 96x96",
    "compare_cifar100_if100_128": "CIFAR-100-LT IF 100, 128x128",
    "compare_cifar100_if50_96": "CIFAR-100-LT IF 50, 96x96",
    "compare_cifar100_if10_96": "CIFAR-100-LT IF 10, 96x96",
    "compare_emoji": "emoji, 96x96",
    "compare_clothing_64": "clothing, 64x64",
    "compare_grocery_64": "groceries, 64x64",
}
"""The result folders of comparisons, and the images of each."""


def accuracies(name: str, uneven: bool = False) -> Callable[[], str]:
    """Return a maker of the accuracies of every method in a result folder, and of LPT's lead over each.

    Args:
        name: the result folder of a comparison.
        uneven: frequent classes have more test images, so the mean over classes is another number than overall.
    """
    mean = ("mean_per_class",) * uneven
    measures, compared = (MEASURES[0], *mean, *MEASURES[1:], "worst_decile"), ("overall", *mean, "few")

    def make(summary: Row) -> list[str]:
        rows = [row for row in summary["methods"] if row["seeds"]]
        leads = {lead["method"]: lead["measures"] for lead in summary["differences"]}
        several = any(len(row["seeds"]) > 1 for row in rows)
        lines = []
        for row in rows:
            lead = leads.get(row["method"], {})
            cells = [with_std(row["metrics"][measure], several) for measure in measures]
            cells += [difference_text(lead.get(measure)) for measure in compared]
            lines.append([_title(row, summary), *cells, str(len(row["seeds"]))])
        ahead = [ACCURACIES[measure] for measure in compared]
        heading = [
            "method",
            *(ACCURACIES[measure] for measure in measures),
            f"LPT ahead by: {ahead[0]}",
            *ahead[1:],
            "seeds",
        ]
        facts = "; ".join(f"{key}: {_shown(value)}" for key, value in summary["facts"].items())
        source = f"{facts}. Raw files and plots: {raw_link(name, f'{name}/comparison.md')}."
        return [*rows_of(heading, lines), "", source, "", *_pictures(name, "groups", "accuracy_by_count")]

    return _of_comparison(name, make)


def costs(name: str) -> Callable[[], str]:
    """Return a maker of the costs of every method in a result folder."""

    def make(summary: Row) -> list[str]:
        rows = [row for row in summary["methods"] if row["seeds"]]
        lines = [[_title(row, summary), *(cost_text(cost, row["cost"][cost]) for cost in COSTS)] for row in rows]
        return [*rows_of(["method", *COSTS.values()], lines), "", *_pictures(name, "cost")]

    return _of_comparison(name, make)


def short(name: str) -> Callable[[], str]:
    """Return a maker of accuracies and two costs of the methods with most seeds, for README."""

    def make(summary: Row) -> list[str]:
        most = max(len(row["seeds"]) for row in summary["methods"])
        rows = [row for row in summary["methods"] if len(row["seeds"]) == most]
        several = most > 1
        costs_shown = ("trained_parameters", "train_seconds")
        lines = []
        for row in rows:
            cells = [with_std(row["metrics"][measure], several) for measure in MEASURES]
            lines.append([_title(row, summary), *cells, *(cost_text(cost, row["cost"][cost]) for cost in costs_shown)])
        return rows_of(["method", *MEASURES, *(COSTS[cost] for cost in costs_shown)], lines)

    return _of_comparison(name, make)


def _of_comparison(name: str, table: Callable[[Row], list[str]]) -> Callable[[], str]:
    path = RESULTS / name / "comparison.json"
    return lambda: "\n".join(table(json.loads(path.read_text(encoding="utf-8")))) if path.exists() else MISSING


def _pictures(name: str, *plots: str) -> list[str]:
    """Return plots of a result folder as the pages of docs/explanation show them."""
    return [f"![{PICTURES[plot]}](../results/{name}/{plot}.png)" for plot in plots]


def _title(row: Row, summary: Row) -> str:
    return f"**{row['title']}**" if row["method"] == summary["reference"] else str(row["title"])


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


TABLES: dict[str, Callable[[], str]] = {
    "compare_96": accuracies("compare_cifar100_if100_96"),
    "compare_96_short": short("compare_cifar100_if100_96"),
    "compare_96_cost": costs("compare_cifar100_if100_96"),
    "compare_128": accuracies("compare_cifar100_if100_128"),
    "compare_128_cost": costs("compare_cifar100_if100_128"),
    "compare_if50": accuracies("compare_cifar100_if50_96"),
    "compare_if10": accuracies("compare_cifar100_if10_96"),
    "compare_emoji": accuracies("compare_emoji", uneven=True),
    "compare_clothing": accuracies("compare_clothing_64", uneven=True),
    "compare_clothing_own": accuracies("compare_clothing_64_own", uneven=True),
    "compare_grocery": accuracies("compare_grocery_64", uneven=True),
    "compare_grocery_own": accuracies("compare_grocery_64_own", uneven=True),
}
