"""Measure accuracy overall, per class, and over many-, medium- and few-shot classes.

All values are fractions from 0 to 1. Groups go by *training* counts. The accuracy of a group is the mean of the
accuracies of its classes that have test images, so a large class weighs no more than a small one. A class without
training images is in no group, but its test images count in the overall accuracy and the mean per class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lpt.config.stored import checked
from lpt.data.longtail import ShotGroups
from lpt.data.manifest import FloatArray, IntArray
from lpt.errors import DataError
from lpt.evaluation.calibration import probabilities as softmax

ACCURACIES = ("overall", "mean_per_class", "many", "medium", "few")
"""Fields of `Metrics` that are accuracies of all classes or of a shot group."""
CALIBRATION_BINS = 15
_CELLS = 1 << 18
"""Cells of a table of images and classes that are worked on at a time."""


@dataclass(frozen=True)
class Metrics:
    """The result of one evaluation. None: not defined, or not measured.

    Args:
        images: test images.
        overall: accuracy over all test images.
        mean_per_class: mean of the accuracies of the classes that have test images.
        many: mean over the many-shot classes; None where the group has no class with test images.
        medium: the same for the medium-shot classes.
        few: the same for the few-shot classes.
        boundaries: of the groups, in training images: `many > 100, medium 20-100, few < 20`.
        group_classes: classes with test images in each group, (many, medium, few).
        top5: share of images whose class is among the five most probable ones; None with fewer than six classes.
        nll: mean negative log-likelihood of the true class, nats.
        ece: expected calibration error of the most probable class, 15 bins of equal width.
        worst_decile: mean accuracy of the worst tenth of the classes that have test images, rounded down to whole
            classes but at least one. Like the next two, None in results that are older than the measure.
        macro_f1: mean of `class_f1`, over the classes with test images or predictions.
        harmonic_mean: harmonic mean of the accuracies of the classes that have test images; 0 if one of them is 0.
    """

    images: int
    overall: float
    mean_per_class: float
    many: float | None
    medium: float | None
    few: float | None
    boundaries: str
    group_classes: tuple[int, int, int]
    top5: float | None = None
    nll: float | None = None
    ece: float | None = None
    worst_decile: float | None = None
    macro_f1: float | None = None
    harmonic_mean: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as metrics.json holds them."""
        return asdict(self) | {"group_classes": list(self.group_classes)}

    @classmethod
    def from_dict(cls, values: Any) -> Metrics:
        """Read what `to_dict` returned. Unknown keys are left out, so that later versions can add some.

        Raises:
            ValueError: a value is missing, or of another kind.
        """
        return checked(cls, values)


@dataclass(frozen=True)
class ClassResult:
    """One class in per_class.csv.

    Args:
        name: the class.
        train_images: its training images.
        group: `many`, `medium` or `few`; `none` for a class without training images.
        test_images: its test images.
        accuracy: share of them that is recognised; None without test images.
        confused_with: the wrong class that is predicted most often for them; None without a mistake.
        confused_images: how often it is.
    """

    name: str
    train_images: int
    group: str
    test_images: int
    accuracy: float | None
    confused_with: str | None
    confused_images: int


def measure(
    labels: npt.ArrayLike, predictions: npt.ArrayLike, train_counts: npt.ArrayLike, groups: ShotGroups
) -> Metrics:
    """Measure the accuracies of predicted classes.

    Args:
        labels: true class of each test image, [n].
        predictions: predicted class of each test image, [n].
        train_counts: training images of each class, [C].
        groups: the boundaries of many, medium and few.

    Raises:
        DataError: no test image, shapes that do not fit, or a class outside 0..C-1.
    """
    counts = np.asarray(train_counts)
    accuracy = class_accuracies(labels, predictions, len(counts))
    tested = ~np.isnan(accuracy)
    group = np.where(counts > 0, groups.of(counts), -1)  # a class without training images is no few-shot class
    many, medium, few = (_mean(accuracy[tested & (group == index)]) for index in range(3))
    return Metrics(
        images=len(np.asarray(labels)),
        overall=float((np.asarray(labels) == np.asarray(predictions)).mean()),
        mean_per_class=float(accuracy[tested].mean()),
        many=many,
        medium=medium,
        few=few,
        boundaries=groups.describe(),
        group_classes=tuple(int((tested & (group == index)).sum()) for index in range(3)),  # type: ignore[arg-type]
        worst_decile=worst_decile(accuracy[tested]),
        macro_f1=_mean(class_f1(labels, predictions, len(counts))),
        harmonic_mean=harmonic_mean(accuracy[tested]),
    )


def measure_scores(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    train_counts: npt.ArrayLike,
    groups: ShotGroups,
    *,
    scale: float,
    temperature: float,
) -> Metrics:
    """Measure accuracies, top-5 accuracy, likelihood and calibration of softmax(scale * score / temperature).

    Rows are worked on in chunks, so that no second table of this size is made.

    Args:
        labels: true class of each test image, [n].
        scores: cosine of each image with each class, or logit, [n, C]. Of equal scores the first class is predicted.
        train_counts: training images of each class, [C].
        groups: the boundaries of many, medium and few.
        scale, temperature: of the probabilities.

    Raises:
        DataError: as `measure`; or scores whose shape does not fit, or that are not finite.
    """
    y, table, classes = np.asarray(labels), np.asarray(scores), len(np.asarray(train_counts))
    if table.shape != (len(y), classes):
        raise DataError(f"scores must be [{len(y)}, {classes}] (images, classes); got {table.shape}")
    _check_classes(y, y, classes)
    predictions, hits = np.empty(len(y), dtype=np.int64), np.empty(len(y), dtype=bool)
    true_probability, confidence = np.empty(len(y)), np.empty(len(y))
    for rows in _chunks(len(y), classes):
        z, true = table[rows], y[rows]
        if not np.isfinite(z).all():
            raise DataError("scores must be finite numbers")
        p = softmax(z, scale, temperature)
        # Ranked by scores: different scores may round to the same probability, small ones to 0.
        predictions[rows], hits[rows] = z.argmax(axis=1), _within_top(z, true, 5)
        true_probability[rows], confidence[rows] = p[np.arange(len(p)), true], p.max(axis=1)
    return replace(
        measure(y, predictions, train_counts, groups),
        top5=int(hits.sum()) / len(y) if classes > 5 else None,
        nll=_surprise(true_probability),
        ece=calibration_error(predictions == y, confidence),
    )


def class_accuracies(labels: npt.ArrayLike, predictions: npt.ArrayLike, num_classes: int) -> FloatArray:
    """Return the share of each class's test images that is recognised, [C]; NaN for a class without test images.

    Raises:
        DataError: no test image, shapes that do not fit, or a class outside 0..C-1.
    """
    y, predicted = np.asarray(labels), np.asarray(predictions)
    _check_classes(y, predicted, num_classes)
    tested = np.bincount(y, minlength=num_classes).astype(np.float64)
    right = np.bincount(y[y == predicted], minlength=num_classes)
    return np.divide(right, tested, out=np.full(num_classes, np.nan), where=tested > 0)


def class_f1(labels: npt.ArrayLike, predictions: npt.ArrayLike, num_classes: int) -> FloatArray:
    """Return the F1 score of each class that has test images or predictions, in label order.

    F1 = 2 TP / (2 TP + FP + FN): 0 for a class that is predicted but not tested, and for one that is never recognised.
    The mean equals `sklearn.metrics.f1_score(average="macro")`.

    Raises:
        DataError: as `class_accuracies`.
    """
    y, predicted = np.asarray(labels), np.asarray(predictions)
    _check_classes(y, predicted, num_classes)
    right = np.bincount(y[y == predicted], minlength=num_classes)
    either = np.bincount(y, minlength=num_classes) + np.bincount(predicted, minlength=num_classes)
    seen = either > 0
    return np.asarray(2 * right[seen] / either[seen])


def worst_decile(accuracies: npt.ArrayLike) -> float:
    """Return the mean of the lowest tenth of class accuracies [C]: floor(C / 10) of them, but at least one."""
    values = np.sort(np.asarray(accuracies, dtype=np.float64))
    return float(values[: max(len(values) // 10, 1)].mean())


def harmonic_mean(accuracies: npt.ArrayLike) -> float:
    """Return C / sum(1 / accuracy) of class accuracies [C]; 0, the limit, if one of them is 0."""
    values = np.asarray(accuracies, dtype=np.float64)
    return float(len(values) / (1 / values).sum()) if values.all() else 0.0


def class_results(
    labels: npt.ArrayLike,
    predictions: npt.ArrayLike,
    train_counts: npt.ArrayLike,
    groups: ShotGroups,
    class_names: Sequence[str],
) -> list[ClassResult]:
    """Return the result of every class, in label order. No [C, C] table is built: thousands of classes are fine.

    Raises:
        DataError: as `measure`.
    """
    y, predicted, counts = np.asarray(labels), np.asarray(predictions), np.asarray(train_counts)
    accuracy = class_accuracies(y, predicted, len(counts))
    tested, group = np.bincount(y, minlength=len(counts)), groups.of(counts)
    confused, images = most_confused(y, predicted, len(counts))
    return [
        ClassResult(
            name=class_names[c],
            train_images=int(counts[c]),
            group=groups.names[group[c]] if counts[c] else "none",
            test_images=int(tested[c]),
            accuracy=float(accuracy[c]) if tested[c] else None,
            confused_with=class_names[confused[c]] if images[c] else None,
            confused_images=int(images[c]),
        )
        for c in range(len(counts))
    ]


def calibration_error(correct: npt.ArrayLike, confidence: npt.ArrayLike, bins: int = CALIBRATION_BINS) -> float:
    """Return the expected calibration error, the sum of n_b / n * |accuracy_b - confidence_b| over bins.

    Guo et al., ICML 2017.

    Args:
        correct: whether each prediction is right, [n].
        confidence: its probability, [n].
        bins: number of bins of equal width; a bin includes its upper edge.
    """
    right, probability = np.asarray(correct, dtype=np.float64), np.asarray(confidence, dtype=np.float64)
    bin_index = np.clip(np.ceil(probability * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(bin_index, weights=right - probability, minlength=bins)
    return float(np.abs(gaps).sum() / len(probability))


def _within_top(scores: npt.NDArray[Any], labels: IntArray, k: int) -> npt.NDArray[np.bool_]:
    """Say whether each image's class is among the k highest of its scores, [n, C] -> [n]; the first of equals leads."""
    true_class = labels[:, None]
    true_score = np.take_along_axis(scores, true_class, axis=1)
    ahead = (scores > true_score) | ((scores == true_score) & (np.arange(scores.shape[1]) < true_class))
    return np.asarray(ahead.sum(axis=1) < k)


def _surprise(probabilities: FloatArray) -> float:
    """Return the mean of -log p over the true classes' probabilities [n]; 0 counts as the smallest float32."""
    return float(-np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)).mean())


def most_confused(labels: IntArray, predictions: IntArray, num_classes: int) -> tuple[IntArray, IntArray]:
    """Return the most frequent wrong prediction of each class (the first of equals) and its images, both [C]."""
    wrong = labels != predictions
    pairs, images = np.unique(labels[wrong].astype(np.int64) * num_classes + predictions[wrong], return_counts=True)
    confused, most = np.zeros(num_classes, dtype=np.int64), np.zeros(num_classes, dtype=np.int64)
    for pair, count in sorted(zip(pairs.tolist(), images.tolist(), strict=True), key=lambda item: (item[1], -item[0])):
        true, taken_for = divmod(pair, num_classes)
        confused[true], most[true] = taken_for, count
    return confused, most


def _mean(values: FloatArray) -> float | None:
    return float(values.mean()) if len(values) else None


def _chunks(rows: int, columns: int) -> list[slice]:
    """Cut the rows of a table into slices of at most about `_CELLS` cells."""
    step = max(_CELLS // max(columns, 1), 1)
    return [slice(start, start + step) for start in range(0, rows, step)]


def _check_classes(labels: IntArray, predictions: IntArray, num_classes: int) -> None:
    if labels.ndim != 1 or labels.shape != predictions.shape:
        raise DataError(f"labels and predictions must be two [n] arrays; got {labels.shape} and {predictions.shape}")
    if not len(labels):
        raise DataError("nothing to measure: there is no test image")
    for name, values in (("labels", labels), ("predictions", predictions)):
        if not np.issubdtype(values.dtype, np.integer):
            raise DataError(f"{name} must be class indices (whole numbers); got {values.dtype}")
        if values.min() < 0 or values.max() >= num_classes:
            raise DataError(
                f"{name} run from {values.min()} to {values.max()}, but there are {num_classes} training counts: "
                f"classes must lie in 0..{num_classes - 1}"
            )
