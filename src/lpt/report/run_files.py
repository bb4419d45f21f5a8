"""Write the results of a run into its folder: metrics, tables and plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lpt.data.manifest import LabelledImages
from lpt.evaluation.calibration import probabilities
from lpt.evaluation.measured import Measured
from lpt.evaluation.predictions import Predictions
from lpt.report.group_plot import plot_group_use
from lpt.report.loss_plot import plot_losses
from lpt.report.plots import plot_accuracy_by_count
from lpt.report.tables import write_per_class
from lpt.system.files import write_json, write_text
from lpt.system.text import csv_text

GROUPS_COLUMN = "groups"
"""Column of the picked group prompts in predictions.csv."""
_IMAGES_AT_ONCE = 4096


def write_measured(folder: Path, measured: Measured, class_names: tuple[str, ...], pool_size: int) -> None:
    """Write per_class.csv, accuracy_by_count.png and, after phase 2, group_use.png into a folder.

    Raises:
        RunError: a file cannot be written.
    """
    metrics, counts, groups = measured.metrics, measured.train_counts, measured.groups
    write_per_class(folder / "per_class.csv", measured.class_results(class_names))
    means = (metrics.many, metrics.medium, metrics.few)
    plot_accuracy_by_count(folder / "accuracy_by_count.png", counts, measured.class_accuracies(), groups, means)
    use = measured.group_use(pool_size)
    if use is not None:
        plot_group_use(folder / "group_use.png", use, counts, groups, class_names)


def write_predictions(
    path: Path, predictions: Predictions, images: LabelledImages, scale: float, temperature: float
) -> None:
    """Write a line for each image: its name, true class, predicted class, and the probability of the predicted one.

    With group prompts also those that it picks, by descending cosine, with spaces between: `7 3`.

    Raises:
        RunError: the file cannot be written.
    """
    names, scores = images.class_names, predictions.scores
    predicted = scores.argmax(axis=1)
    groups = predictions.groups
    header = ("image", "class", "predicted", "probability")
    lines: list[Sequence[str]] = [header if groups is None else (*header, GROUPS_COLUMN)]
    for start in range(0, len(scores), _IMAGES_AT_ONCE):
        confidences = probabilities(scores[start : start + _IMAGES_AT_ONCE], scale, temperature).max(axis=1)
        for index, confidence in enumerate(confidences.tolist(), start=start):
            true, guess = names[images.labels[index]], names[predicted[index]]
            line = (images.name(index), true, guess, f"{confidence:.4f}")
            lines.append(line if groups is None else (*line, " ".join(map(str, groups[index].tolist()))))
    _write_csv(path, lines)


def write_skipped(path: Path, skipped: Sequence[tuple[str, str]]) -> None:
    """Write a line for each image that was left out: its name and the reason. Without any, remove the file.

    Raises:
        RunError: the file cannot be written.
    """
    if skipped:
        _write_csv(path, [("image", "reason"), *skipped])
    else:
        path.unlink(missing_ok=True)


def write_losses(folder: Path, records: list[dict[str, Any]]) -> None:
    """Write losses.png from the lines of log.jsonl; nothing if there are none.

    Raises:
        RunError: the file cannot be written.
    """
    if records:
        plot_losses(folder / "losses.png", records)


def write_metrics(path: Path, measured: dict[str, Measured], facts: dict[str, Any]) -> None:
    """Write metrics.json: the metrics of each split by name, and facts of the run.

    Raises:
        RunError: the file cannot be written.
    """
    write_json(path, {**{split: result.metrics.to_dict() for split, result in measured.items()}, **facts})


def _write_csv(path: Path, lines: Sequence[Sequence[str]]) -> None:
    write_text(path, csv_text(lines))
