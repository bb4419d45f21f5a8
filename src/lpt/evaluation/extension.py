"""What the classes of a pack lose when classes are added to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lpt.data.longtail import ShotGroups
from lpt.data.manifest import Float32Array, IntArray
from lpt.evaluation.metrics import Metrics, class_accuracies, measure_scores

MOST_LISTED = 5


@dataclass(frozen=True)
class ClassLoss:
    """What a class loses.

    Args:
        name: the class.
        images: its pictures.
        before: share of them that was right without the new classes.
        after: share of them that is right with the new classes.
        taken_by: the new class that takes most of those that were right.
        taken: number of those.
    """

    name: str
    images: int
    before: float
    after: float
    taken_by: str
    taken: int


@dataclass(frozen=True)
class OldClasses:
    """The accuracy of the classes that were there before, without the new classes and with them.

    Args:
        before: measured without the new classes.
        after: measured with them.
        losses: the classes that lose most, the largest loss first.
    """

    before: Metrics
    after: Metrics
    losses: tuple[ClassLoss, ...]


def measure_old_classes(
    scores: Float32Array,
    labels: IntArray,
    train_counts: IntArray,
    groups: ShotGroups,
    class_names: Sequence[str],
    *,
    old_classes: int,
    sharpness: float,
) -> OldClasses:
    """Measure pictures of the classes that were there before, without the new classes and with them.

    Args:
        scores: for all classes, the new ones last, [n, C + K].
        labels: true classes, [n].
        train_counts: training images of all classes, [C + K].
        groups: boundaries of the shot groups.
        class_names: names of all classes.
        old_classes: number of classes that were there before, C.
        sharpness: scale of the probabilities, softmax(sharpness * score).
    """
    alone = scores[:, :old_classes]
    measured = [
        measure_scores(labels, table, train_counts[: table.shape[1]], groups, scale=sharpness, temperature=1.0)
        for table in (alone, scores)
    ]
    losses = _losses(labels, alone.argmax(axis=1), scores.argmax(axis=1), class_names, old_classes)
    return OldClasses(measured[0], measured[1], losses)


def _losses(
    labels: IntArray, before: IntArray, after: IntArray, class_names: Sequence[str], old_classes: int
) -> tuple[ClassLoss, ...]:
    """Return the classes that lose most of their accuracy."""
    right, left = (class_accuracies(labels, predicted, len(class_names)) for predicted in (before, after))
    lost = np.nan_to_num(right - left)
    order = [label for label in np.argsort(-lost, kind="stable")[:MOST_LISTED] if lost[label] > 0]
    losses = []
    for label in order:
        mine = labels == label
        takers = np.bincount(after[mine & (before == label) & (after >= old_classes)], minlength=len(class_names))
        taker = int(takers.argmax())
        losses.append(
            ClassLoss(
                class_names[label],
                int(mine.sum()),
                float(right[label]),
                float(left[label]),
                class_names[taker],
                int(takers[taker]),
            )
        )
    return tuple(losses)
