"""What a finished run leaves: metrics, per-class table, plots, pack."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lpt.data.manifest import LabelledImages
from lpt.evaluation.calibration import probabilities
from lpt.evaluation.measured import Measured, group_use
from lpt.evaluation.metrics import class_accuracies, class_results
from lpt.evaluation.predictions import Predictions
from lpt.report.plots import plot_accuracy_by_count, plot_group_use, plot_losses
from lpt.report.tables import write_per_class
from lpt.system.files import write_json, write_text

_ROWS = 4096


def write_measured(folder: Path, measured: Measured, class_names: tuple[str, ...], pool_size: int) -> None:
    """Write per_class.csv, accuracy_by_count.png and, after phase 2, group_use.png into a folder."""
    predictions = measured.predictions
    predicted = predictions.scores.argmax(axis=1)
    counts, groups = measured.train_counts, measured.groups
    rows = class_results(predictions.labels, predicted, counts, groups, class_names)
    write_per_class(folder / "per_class.csv", rows)
    accuracies = class_accuracies(predictions.labels, predicted, len(class_names))
    plot_accuracy_by_count(folder / "accuracy_by_count.png", counts, accuracies, groups)
    if predictions.groups is not None:
        use = group_use(predictions.groups, predictions.labels, len(class_names), pool_size)
        plot_group_use(folder / "group_use.png", use, counts, groups, class_names)


def write_predictions(
    path: Path, predictions: Predictions, images: LabelledImages, scale: float, temperature: float
) -> None:
    """Write a line for each image: its name, true and predicted class, and the probability of the predicted one."""
    names, scores = images.class_names, predictions.scores
    predicted = scores.argmax(axis=1)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image", "class", "predicted", "probability"))
    for first in range(0, len(scores), _ROWS):
        sure = probabilities(scores[first : first + _ROWS], scale, temperature).max(axis=1)
        for index, p in enumerate(sure.tolist(), start=first):
            writer.writerow((images.name(index), names[images.labels[index]], names[predicted[index]], f"{p:.4f}"))
    write_text(path, text.getvalue())


def write_skipped(path: Path, skipped: Sequence[tuple[str, str]]) -> None:
    """Write a line for each image that was left out: its name and the reason. Without any there is no such file."""
    if not skipped:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("image", "reason"), *skipped])
    write_text(path, text.getvalue())


def write_losses(folder: Path, records: list[dict[str, Any]]) -> None:
    """Write losses.png from the log's lines."""
    if records:
        plot_losses(folder / "losses.png", records)


def write_metrics(path: Path, measured: dict[str, Measured], facts: dict[str, Any]) -> None:
    """Write metrics.json: the metrics of each split by name, and facts of the run."""
    write_json(path, {**{name: one.metrics.to_dict() for name, one in measured.items()}, **facts})
