"""Accuracy where it counts: overall, per class, and over many-, medium- and few-shot classes.

All values are fractions from 0 to 1; only what prints them makes percentages. Groups go by *training* counts. The
accuracy of a group is the mean of the accuracies of its classes that have test images, so a large class weighs no more
than a small one. A class without training images is in no group; its test images do count in the overall accuracy and
the mean per class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from lpt.data.longtail import ShotGroups
from lpt.data.manifest import FloatArray, IntArray
from lpt.errors import DataError
from lpt.evaluation.calibration import probabilities as softmax

ACCURACIES = ("overall", "mean_per_class", "many", "medium", "few")
"""Fields of `Metrics` that are accuracies of the whole or of a shot group."""
CALIBRATION_BINS = 15
_CELLS = 1 << 18
"""Of a table of images and classes, how much is worked on at a time: with thousands of classes nothing of the size of
the whole is made."""


@dataclass(frozen=True)
class Metrics:
    """The result of one evaluation. `None` stands for what is not defined or was not measured.

    Args:
        images: test images.
        overall: accuracy over all test images.
        mean_per_class: mean of the accuracies of the classes that have test images.
        many: mean over the many-shot classes; None where the group has no class with test images.
        medium: the same for the medium-shot classes.
        few: the same for the few-shot classes.
        boundaries: what many, medium and few mean, in training images: `many > 100, medium 20-100, few < 20`.
        group_classes: classes with test images in each group, (many, medium, few).
        top5: share of images whose class is among the five most probable ones; None below six classes.
        nll: mean negative log-likelihood of the true class, nats.
        ece: expected calibration error of the most probable class, 15 bins of equal width.
        worst_decile: mean accuracy of the worst tenth of the classes that have test images, rounded down to whole
            classes but at least one; None, like the next two, in results stored before these were measured.
        macro_f1: mean of the classes' F1 scores, see `class_f1`; over the classes with test images or predictions.
        harmonic_mean: of the accuracies of the classes that have test images; 0 where one of them is 0.
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
        """Plain values, as they stand in metrics.json."""
        return asdict(self) | {"group_classes": list(self.group_classes)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Metrics:
        """The inverse of `to_dict`; keys that are not a field are left out, so that later versions can add some."""
        known = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        return cls(**known | {"group_classes": tuple(known["group_classes"])})


@dataclass(frozen=True)
class ClassResult:
    """One class in per_class.csv.

    Args:
        name: the class.
        train_images: its training images.
        group: many, medium or few; none for a class without training images.
        test_images: its test images.
        accuracy: share of them that was recognised; None without test images.
        confused_with: the class its test images are most often taken for instead; None without a mistake.
        confused_images: how many are.
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
    """Accuracies of predicted classes.

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
    group = np.where(counts > 0, groups.of(counts), -1)  # what was never trained on is no few-shot class
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


def measure_probabilities(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, train_counts: npt.ArrayLike, groups: ShotGroups
) -> Metrics:
    """Accuracies, top-5 accuracy, likelihood and calibration of predicted probabilities.

    Args:
        labels: true class of each test image, [n].
        probabilities: probability of each class, [n, C]; rows sum to 1. The first of equal ones counts as predicted.
        train_counts: training images of each class, [C].
        groups: the boundaries of many, medium and few.

    Raises:
        DataError: as `measure`; or a row is not a distribution over the C classes.
    """
    return _measure_table(labels, np.asarray(probabilities), lambda rows: rows, train_counts, groups)


def measure_scores(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    train_counts: npt.ArrayLike,
    groups: ShotGroups,
    *,
    scale: float,
    temperature: float,
) -> Metrics:
    """`measure_probabilities` of softmax(scale * score / temperature), without a second table of that size.

    Args:
        labels: true class of each test image, [n].
        scores: cosine of each image with each class, or logit, [n, C].
        train_counts: training images of each class, [C].
        groups: the boundaries of many, medium and few.
        scale, temperature: of the probabilities.

    Raises:
        DataError: as `measure_probabilities`.
    """
    return _measure_table(
        labels, np.asarray(scores), lambda rows: softmax(rows, scale, temperature), train_counts, groups
    )


def class_accuracies(labels: npt.ArrayLike, predictions: npt.ArrayLike, num_classes: int) -> FloatArray:
    """Share of each class's test images that was recognised, [C]; NaN for a class without test images.

    Raises:
        DataError: no test image, shapes that do not fit, or a class outside 0..C-1.
    """
    y, predicted = np.asarray(labels), np.asarray(predictions)
    _check_classes(y, predicted, num_classes)
    tested = np.bincount(y, minlength=num_classes).astype(np.float64)
    right = np.bincount(y[y == predicted], minlength=num_classes)
    return np.divide(right, tested, out=np.full(num_classes, np.nan), where=tested > 0)


def class_f1(labels: npt.ArrayLike, predictions: npt.ArrayLike, num_classes: int) -> FloatArray:
    """F1 score of each class that has test images or predictions, in label order; the others are left out.

    F1 = 2 TP / (2 TP + FP + FN), so a class that is predicted but not tested has 0, and so has one whose test images
    are all missed. The mean is what `sklearn.metrics.f1_score(average="macro")` gives.

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
    """Mean of the lowest tenth of class accuracies, floor(C / 10) of them but at least one, [C]."""
    values = np.sort(np.asarray(accuracies, dtype=np.float64))
    return float(values[: max(len(values) // 10, 1)].mean())


def harmonic_mean(accuracies: npt.ArrayLike) -> float:
    """C / sum of 1 / accuracy, [C]; 0 where an accuracy is 0, which is the limit. One lost class costs everything."""
    values = np.asarray(accuracies, dtype=np.float64)
    return float(len(values) / (1 / values).sum()) if values.all() else 0.0


def class_results(
    labels: npt.ArrayLike,
    predictions: npt.ArrayLike,
    train_counts: npt.ArrayLike,
    groups: ShotGroups,
    class_names: Sequence[str],
) -> list[ClassResult]:
    """The result of every class, in label order. No [C, C] table is built: thousands of classes are fine.

    Raises:
        DataError: as `measure`.
    """
    y, predicted, counts = np.asarray(labels), np.asarray(predictions), np.asarray(train_counts)
    accuracy = class_accuracies(y, predicted, len(counts))
    tested, group = np.bincount(y, minlength=len(counts)), groups.of(counts)
    confused, images = _most_confused(y, predicted, len(counts))
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


def top_k_accuracy(labels: npt.ArrayLike, scores: npt.ArrayLike, k: int) -> float:
    """Share of images whose class is among the k highest of `scores` [n, C]; of equal scores the first class leads."""
    z, y = np.asarray(scores), np.asarray(labels)
    return sum(int(_within_top(z[rows], y[rows], k).sum()) for rows in _chunks(*z.shape)) / len(y)


def negative_log_likelihood(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Mean of -log p of the true class, nats; a probability that was rounded to 0 counts as the smallest float."""
    p, y = np.asarray(probabilities), np.asarray(labels)
    return _surprise(p[np.arange(len(y)), y])


def calibration_error(correct: npt.ArrayLike, confidence: npt.ArrayLike, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error (Guo et al., ICML 2017): sum of n_b / n * |accuracy_b - confidence_b| over bins.

    Args:
        correct: whether each prediction is right, [n].
        confidence: its probability, [n].
        bins: bins of equal width, each with its upper edge.
    """
    right, sure = np.asarray(correct, dtype=np.float64), np.asarray(confidence, dtype=np.float64)
    of = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(of, weights=right - sure, minlength=bins)
    return float(np.abs(gaps).sum() / len(sure))


def _measure_table(
    labels: npt.ArrayLike,
    table: npt.NDArray[Any],
    to_probabilities: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
    train_counts: npt.ArrayLike,
    groups: ShotGroups,
) -> Metrics:
    """All metrics of a table [n, C] whose rows `to_probabilities` turns into probabilities, some rows at a time.

    These have the order of a row's values.
    """
    y, classes = np.asarray(labels), len(np.asarray(train_counts))
    if table.shape != (len(y), classes):
        raise DataError(f"probabilities must be [{len(y)}, {classes}] (images, classes); got {table.shape}")
    _check_classes(y, y, classes)
    predictions, hits = np.empty(len(y), dtype=np.int64), np.empty(len(y), dtype=bool)
    own, sure = np.empty(len(y)), np.empty(len(y))
    for rows in _chunks(len(y), classes):
        z, of = table[rows], y[rows]
        p = to_probabilities(z)
        _check_distributions(p)
        # Ranked by what the probabilities come from: these may round to the same number, small ones to 0.
        predictions[rows], hits[rows] = z.argmax(axis=1), _within_top(z, of, 5)
        own[rows], sure[rows] = p[np.arange(len(p)), of], p.max(axis=1)
    plain = asdict(measure(y, predictions, train_counts, groups))
    plain["top5"] = int(hits.sum()) / len(y) if classes > 5 else None
    plain["nll"] = _surprise(own)
    plain["ece"] = calibration_error(predictions == y, sure)
    return Metrics(**plain)


def _within_top(scores: npt.NDArray[Any], labels: IntArray, k: int) -> npt.NDArray[np.bool_]:
    """Whether each image's class is among the k highest of its scores, [n, C] -> [n]."""
    own_class = labels[:, None]
    own = np.take_along_axis(scores, own_class, axis=1)
    ahead = (scores > own) | ((scores == own) & (np.arange(scores.shape[1]) < own_class))
    return np.asarray(ahead.sum(axis=1) < k)


def _surprise(own: npt.NDArray[Any]) -> float:
    """Mean of -log of the probabilities of the true classes, [n]."""
    return float(-np.log(np.maximum(own.astype(np.float64), np.finfo(np.float32).tiny)).mean())


def _most_confused(labels: IntArray, predictions: IntArray, num_classes: int) -> tuple[IntArray, IntArray]:
    """For each class the most frequent wrong prediction (the first of equals) and its images, both [C]."""
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
    """Slices over the rows of a table, each of at most about `_CELLS` cells."""
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


def _check_distributions(probabilities: npt.NDArray[Any]) -> None:
    sums = probabilities.sum(axis=1, dtype=np.float64)
    low = probabilities.min(initial=0)
    if not low >= 0 or not np.all(np.abs(sums - 1) < 1e-2):
        raise DataError(
            "every row must be a distribution: finite, at least 0, sum 1 "
            f"(got a least value of {low:g}, sums from {sums.min():g} to {sums.max():g}); "
            "cosines become one by lpt.evaluation.calibration.probabilities"
        )
