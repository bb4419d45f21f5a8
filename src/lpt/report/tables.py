"""Results as a table on the terminal and as per_class.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lpt.data.longtail import CLASS_SIZE
from lpt.evaluation.metrics import ClassResult, Metrics
from lpt.system.files import write_text

MISSING = "–"
COLUMNS = {
    "overall": "overall",
    "mean_per_class": "mean per\nclass",
    "many": "many",
    "medium": "medium",
    "few": "few",
}
PER_CLASS_HEADER = (
    "class",
    "train_images",
    "group",
    "test_images",
    "accuracy",
    "most_confused_with",
    "confused_images",
)


def percent(values: Sequence[float | None]) -> str:
    """Fractions in percent: `66.8`, of several seeds `66.8 ± 0.4` (standard deviation), `–` where there is none."""
    known = [100 * value for value in values if value is not None]
    if not known:
        return MISSING
    mean = f"{np.mean(known):.1f}"
    return mean if len(known) == 1 else f"{mean} ± {np.std(known, ddof=1):.1f}"


def metrics_table(results: Mapping[str, Metrics | Sequence[Metrics]], *, title: str | None = None) -> Group:
    """Accuracies in percent, one row for each method or split, with the boundaries of the shot groups.

    Args:
        results: by the row's name, one result or those of several seeds.
        title: printed above.
    """
    rows = {name: [one] if isinstance(one, Metrics) else list(one) for name, one in results.items()}
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, collapse_padding=True)
    table.add_column("accuracy, %", min_width=14, overflow="fold")
    for name in COLUMNS.values():
        table.add_column(name, justify="right", no_wrap=True)
    for name, metrics in rows.items():
        cells = [percent([getattr(one, field) for one in metrics]) for field in COLUMNS]
        table.add_row(Text(name), *cells)  # as text: a name may hold square brackets
    return Group(table, _notes(rows))  # not the table's caption: that is cut to the table's width


def write_per_class(path: Path, rows: Sequence[ClassResult]) -> None:
    """Write per_class.csv: UTF-8, one line for each class in label order, accuracy as a fraction.

    Raises:
        RunError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(PER_CLASS_HEADER)
    for row in rows:
        accuracy = "" if row.accuracy is None else f"{row.accuracy:.4f}"
        writer.writerow(
            [
                row.name,
                row.train_images,
                row.group,
                row.test_images,
                accuracy,
                row.confused_with or "",
                row.confused_images,
            ]
        )
    write_text(path, text.getvalue())


def _notes(rows: Mapping[str, Sequence[Metrics]]) -> Padding:
    """What the groups mean, said once where all rows agree."""
    every = [one for metrics in rows.values() for one in metrics]
    boundaries = list(dict.fromkeys(one.boundaries for one in every))
    classes = {one.group_classes for one in every}
    images = {one.images for one in every}
    lines = [
        f"Groups by {CLASS_SIZE}: {' or '.join(boundaries)}.",
        "The value of a group is the mean over its classes.",
    ]
    if len(classes) == len(images) == 1:
        many, medium, few = classes.pop()
        lines.append(f"Tested: {images.pop():,} images; {many:,} many, {medium:,} medium, {few:,} few-shot classes.")
    seeds = {len(metrics) for metrics in rows.values()}
    if max(seeds, default=1) > 1:
        lines.append(f"± is the standard deviation over {' or '.join(map(str, sorted(seeds)))} seeds.")
    return Padding(Text("\n".join(lines), style="dim"), (0, 2))
