"""Results as a table on the terminal and as per_class.csv."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lpt.data.longtail import CLASS_SIZE
from lpt.evaluation.metrics import ClassResult, Metrics
from lpt.system.files import write_text
from lpt.system.text import csv_text, plural

MISSING = "–"
COLUMNS = {
    "overall": "overall",
    "mean_per_class": "mean per\nclass",
    "many": "many",
    "medium": "medium",
    "few": "few",
}
"""Headers of the accuracies of `Metrics`, by field."""
PER_CLASS_HEADER = (
    "class",
    "train_images",
    "group",
    "test_images",
    "accuracy",
    "most_confused_with",
    "confused_images",
)


def percent(value: float | None) -> str:
    """Return a fraction in percent, `66.8`; `–` for None."""
    return MISSING if value is None else f"{100 * value:.1f}"


def metrics_table(results: Mapping[str, Metrics]) -> Group:
    """Return a table of accuracies in percent, with notes on the shot groups below.

    Args:
        results: metrics by the name of their row, usually a split.
    """
    table = accuracy_table("accuracy, %")
    for name in COLUMNS.values():
        table.add_column(name, justify="right", no_wrap=True)
    for name, metrics in results.items():
        table.add_row(Text(name), *(percent(getattr(metrics, field)) for field in COLUMNS))  # not markup
    return Group(table, notes_below(_group_notes(list(results.values()))))


def accuracy_table(first_column: str, title: str | None = None) -> Table:
    """Return an empty table whose first column holds names."""
    heading = None if title is None else Text(title)
    table = Table(title=heading, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, collapse_padding=True)
    table.add_column(first_column, min_width=14, overflow="fold")
    return table


def notes_below(lines: Sequence[str]) -> Padding:
    """Return notes to print below a table; a table's own caption would be cut to the table's width."""
    return Padding(Text("\n".join(lines), style="dim"), (0, 2))


def tested_note(metrics: Metrics) -> str:
    """Return how many images and classes of each shot group were tested, as a sentence."""
    many, medium, few = metrics.group_classes
    return f"Tested: {plural(metrics.images, 'image')}; {many:,} many, {medium:,} medium, {few:,} few-shot classes."


def write_per_class(path: Path, rows: Sequence[ClassResult]) -> None:
    """Write per_class.csv: UTF-8, one line for each class in label order, accuracy as a fraction.

    Raises:
        RunError: the file cannot be written.
    """
    lines: list[Sequence[Any]] = [PER_CLASS_HEADER]
    for row in rows:
        accuracy = "" if row.accuracy is None else f"{row.accuracy:.4f}"
        counts = (row.train_images, row.group, row.test_images)
        lines.append([row.name, *counts, accuracy, row.confused_with or "", row.confused_images])
    write_text(path, csv_text(lines))


def _group_notes(results: Sequence[Metrics]) -> list[str]:
    """Return what the groups mean, and what was tested where all rows agree."""
    boundaries = dict.fromkeys(metrics.boundaries for metrics in results)
    lines = [
        f"Groups by {CLASS_SIZE}: {' or '.join(boundaries)}.",
        "The value of a group is the mean over its classes.",
    ]
    tested = {tested_note(metrics) for metrics in results}
    return [*lines, *tested] if len(tested) == 1 else lines
