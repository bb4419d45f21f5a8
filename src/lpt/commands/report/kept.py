"""Read what a finished run keeps in its folder."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from lpt.config.stored import read_fields
from lpt.config.values import read_yaml
from lpt.data.manifest import FloatArray, IntArray
from lpt.errors import RunError
from lpt.evaluation.intervals import SeedResult
from lpt.evaluation.metrics import Metrics
from lpt.packs.info import PackInfo
from lpt.packs.pack import read_info
from lpt.report.run_files import GROUPS_COLUMN
from lpt.system.text import plain_cell
from lpt.training.folder import RunFolder
from lpt.training.records import read_facts

SPLITS = ("test", "validation")
"""Splits that a run may have measured; predictions.csv is of the first one that it did."""


@dataclass(frozen=True)
class KeptPredictions:
    """The predictions of a run for the images of a split, in the order of the split.

    Args:
        images: name of each image, n of them.
        labels: true classes, [n].
        predicted: predicted classes, [n].
        probability: probability of the predicted class, [n].
        groups: picked group prompts by descending cosine, [n, k]; None where none were kept.
    """

    images: Sequence[str]
    labels: IntArray
    predicted: IntArray
    probability: FloatArray
    groups: IntArray | None

    @property
    def right(self) -> IntArray:
        """Whether each prediction is right, [n]."""
        return np.asarray(self.labels == self.predicted)


class _Results(BaseModel):
    """The fields of metrics.json that reports and comparisons read."""

    test: Metrics | None = None
    validation: Metrics | None = None
    preset: str
    seed: int
    train_images: int
    image_draws: int
    train_seconds: float
    peak_memory_bytes: int
    pack_bytes: int
    trainable_parameters: int
    machine: str
    versions: dict[str, str]
    date: str


@dataclass(frozen=True)
class KeptRun:
    """A finished run.

    Args:
        folder: its folder.
        info: the description of its pack.
        config: the values of config.yaml.
        facts: the fields of run.json.
        results: the fields of metrics.json.
        predictions: of the split that was measured; None where none was.
    """

    folder: RunFolder
    info: PackInfo
    config: dict[str, Any]
    facts: dict[str, Any]
    results: dict[str, Any]
    predictions: KeptPredictions | None

    @property
    def split(self) -> str:
        """The split that was measured; empty if none was."""
        return next((name for name in SPLITS if self.results.get(name)), "")

    @property
    def metrics(self) -> Metrics | None:
        """The metrics of that split."""
        return Metrics.from_dict(self.results[self.split]) if self.split else None

    @property
    def counts(self) -> IntArray:
        """Training images of each class, held-out ones included, [C]."""
        return np.asarray(self.info.class_counts, dtype=np.int64)

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return int(self.results["seed"])

    def seed_result(self) -> SeedResult | None:
        """Return the predictions as `accuracy_intervals` takes them; None where nothing was measured."""
        kept = self.predictions
        if kept is None:
            return None
        return SeedResult(self.seed, kept.images, kept.labels, kept.predicted, self.counts)


def read_run(path: Path) -> KeptRun:
    """Read a finished run.

    Raises:
        RunError: it is not finished, or a file of it is damaged.
        PackError: its pack cannot be read.
        ConfigError: its config.yaml cannot be read.
    """
    folder = RunFolder(path)
    if not folder.finished:
        raise RunError(f"the run in {path} is not finished. Next: {folder.resume_command}")
    info = read_info(folder.pack)
    results = _results(folder.metrics)
    measured = any(results.get(name) for name in SPLITS)
    return KeptRun(
        folder=folder,
        info=info,
        config=read_yaml(folder.config) if folder.config.is_file() else {},
        facts=read_facts(folder.facts),
        results=results,
        predictions=read_predictions(folder.predictions, info) if measured else None,
    )


def read_predictions(file: Path, info: PackInfo) -> KeptPredictions:
    """Read predictions.csv.

    Raises:
        RunError: it is missing, or not what a run with this pack writes.
    """
    index = {name: number for number, name in enumerate(info.class_names)}
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines)
            rows = [(row["image"], row["class"], row["predicted"], row["probability"], row.get(GROUPS_COLUMN))
                    for row in reader]  # fmt: skip
        labels = [index[plain_cell(row[1])] for row in rows]
        predicted = [index[plain_cell(row[2])] for row in rows]
        probability = np.array([float(row[3]) for row in rows])
        groups = None if not rows or rows[0][4] is None else _groups([row[4] for row in rows], info.method.pool_size)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, csv.Error) as error:
        raise _damaged(file, error) from None
    if not rows or not np.isfinite(probability).all():
        raise _damaged(file, "no image, or a probability that is no number")
    images = [plain_cell(row[0]) for row in rows]
    return KeptPredictions(images, np.array(labels), np.array(predicted), probability, groups)


def _groups(cells: Sequence[str | None], pool_size: int) -> IntArray:
    """Return picks [n, k] of texts such as `7 3`."""
    picks = np.array([[int(part) for part in str(cell).split()] for cell in cells], dtype=np.int64)
    if picks.ndim != 2 or picks.min() < 0 or picks.max() >= pool_size:
        raise ValueError(f"group prompts are not in 0..{pool_size - 1}")
    return picks


def _results(file: Path) -> dict[str, Any]:
    try:
        return read_fields(file, _Results)
    except (OSError, ValueError) as error:
        raise _damaged(file, error) from None


def _damaged(file: Path, reason: object) -> RunError:
    return RunError(
        f"{file} is damaged, or of something else ({reason}). Restore it, or remove {file.parent} and train that run "
        "again."
    )
