"""Accuracy under domain shift as tables on the terminal and as shift.csv."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from lpt.data.longtail import CLASS_SIZE
from lpt.evaluation.corruptions import CORRUPTIONS
from lpt.evaluation.metrics import ACCURACIES, Metrics
from lpt.evaluation.shift import CorruptionShift, DataShift, relative_drop
from lpt.report.tables import COLUMNS, accuracy_table, notes_below, percent, tested_note
from lpt.system.files import write_text
from lpt.system.text import csv_text, plural, shorten

CSV_HEADER = (
    "shift", "family", "kind", "severity", "images", *ACCURACIES, *(f"relative_drop_{name}" for name in ACCURACIES),
)  # fmt: skip


def corruption_tables(result: CorruptionShift) -> Group:
    """Return the accuracy of each kind by severity, and the means over kinds by severity and shot group."""
    return Group(_kinds_table(result), Text(), _severity_table(result), notes_below(_group_notes(result.clean)))


def data_shift_table(result: DataShift) -> Group:
    """Return the accuracies on DATA and on another set, with the relative drop, and notes on the matched classes."""
    table = accuracy_table("", f"Shift to {result.source}, accuracy in %")
    for name in COLUMNS.values():
        table.add_column(name, justify="right", no_wrap=True)
    if result.clean is not None:
        table.add_row("DATA, the same classes", *(percent(getattr(result.clean, name)) for name in ACCURACIES))
    table.add_row(Text(result.source), *(percent(getattr(result.shifted, name)) for name in ACCURACIES))
    if result.clean is not None:
        table.add_row("relative drop", *(percent(result.drop(name)) for name in ACCURACIES), style="bold")
    return Group(table, notes_below(matching_notes(result)), notes_below(_group_notes(result.shifted)))


def matching_notes(result: DataShift) -> list[str]:
    """Return notes on how the classes were matched, one sentence each."""
    matching = result.matching
    lines = []
    if result.clean is None:
        lines.append("DATA has no image of these classes: there is nothing to compare with.")
    if matching.by_spelling:
        pairs = shorten([f"{theirs} = {ours}" for theirs, ours in matching.by_spelling])
        lines.append(f"Matched by spelling: {plural(len(matching.by_spelling), 'class')}: {pairs}.")
    if matching.left_out:
        images, classes = plural(matching.left_out_images, "image"), plural(len(matching.left_out), "class")
        lines.append(f"Left out: {images} of {classes} the pack does not know: {shorten(matching.left_out)}.")
    if matching.uncompared:
        images, classes = plural(matching.uncompared_images, "image"), plural(len(matching.uncompared), "class")
        lines.append(f"Left out: {images} of {classes} that DATA has no image of: {shorten(matching.uncompared)}.")
    if matching.absent:
        lines.append(
            f"Without images: {plural(len(matching.absent), 'class')} of the pack: {shorten(matching.absent)}."
        )
    return lines


def write_shift_csv(path: Path, corruptions: CorruptionShift | None, data: Sequence[DataShift]) -> None:
    """Write shift.csv: one line for each measurement, accuracies and relative drops as fractions.

    Raises:
        RunError: the file cannot be written.
    """
    lines: list[Sequence[Any]] = [CSV_HEADER]
    if corruptions is not None:
        clean = corruptions.clean
        lines.append(["corruptions", "", "clean", 0, *_numbers(clean, clean)])
        for cell in corruptions.cells:
            family = CORRUPTIONS[cell.kind].family
            lines.append(["corruptions", family, cell.kind, cell.severity, *_numbers(cell.metrics, clean)])
    for result in data:
        if result.clean is not None:
            lines.append([result.source, "", "clean", "", *_numbers(result.clean, result.clean)])
        lines.append([result.source, "", "shifted", "", *_numbers(result.shifted, result.clean)])
    write_text(path, csv_text(lines))


def _kinds_table(result: CorruptionShift) -> Table:
    table = accuracy_table("corruption", "Overall accuracy by severity, and means over the severities, in %")
    for severity in result.severities:
        table.add_column(str(severity), justify="right", no_wrap=True)
    for name in ("mean", "drop", "many", "medium", "few"):
        table.add_column(name, justify="right", no_wrap=True)
    groups = ("many", "medium", "few")
    clean = result.clean
    blank = [""] * len(result.severities)
    table.add_row(
        "clean", *blank, percent(clean.overall), "", *(percent(getattr(clean, name)) for name in groups),
        style="bold", end_section=True,
    )  # fmt: skip
    for index, kind in enumerate(result.kinds):
        later = result.kinds[index + 1 : index + 2]
        table.add_row(
            kind.replace("_", " "),
            *(percent(result.mean("overall", kind=kind, severity=severity)) for severity in result.severities),
            percent(result.mean("overall", kind=kind)),
            percent(result.drop("overall", kind=kind)),
            *(percent(result.mean(name, kind=kind)) for name in groups),
            end_section=not later or CORRUPTIONS[later[0]].family != CORRUPTIONS[kind].family,
        )
    table.add_row(
        "mean",
        *(percent(result.mean("overall", severity=severity)) for severity in result.severities),
        *(percent(value) for value in (result.mean("overall"), result.drop("overall"))),
        *(percent(result.mean(name)) for name in groups),
        style="bold",
    )
    return table


def _severity_table(result: CorruptionShift) -> Table:
    table = accuracy_table("severity", f"Means over {plural(len(result.kinds), 'kind')} of corruption, in %")
    for name in COLUMNS.values():
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row("clean", *(percent(getattr(result.clean, name)) for name in ACCURACIES))
    for severity in result.severities:
        table.add_row(str(severity), *(percent(result.mean(name, severity=severity)) for name in ACCURACIES))
    table.add_row("all", *(percent(result.mean(name)) for name in ACCURACIES), style="bold")
    table.add_row("relative drop", *(percent(result.drop(name)) for name in ACCURACIES), style="bold")
    return table


def _group_notes(metrics: Metrics) -> list[str]:
    """Return what groups and drops mean, and what was tested."""
    return [
        f"Groups by {CLASS_SIZE}: {metrics.boundaries}.",
        "The value of a group is the mean over its classes. Drop: 1 - shifted / clean.",
        tested_note(metrics),
    ]


def _numbers(metrics: Metrics, clean: Metrics | None) -> list[str]:
    """Return images, accuracies and relative drops of a line of shift.csv."""
    values = [getattr(metrics, name) for name in ACCURACIES]
    base = [None if clean is None else getattr(clean, name) for name in ACCURACIES]
    drops = [relative_drop(before, after) for before, after in zip(base, values, strict=True)]
    return [str(metrics.images), *("" if value is None else f"{value:.4f}" for value in [*values, *drops])]
