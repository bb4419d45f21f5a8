"""Tell pictures of the known classes from strangers: pictures that show none of them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lpt.data.longtail import ShotGroups
from lpt.data.manifest import FloatArray, IntArray
from lpt.errors import DataError


class KeptShares(NamedTuple):
    """Shares of the images of known classes that are kept.

    Args:
        overall: of all images.
        mean_per_class: mean over the classes.
        groups: of many-, medium- and few-shot classes, the mean over the classes of each; None without images.
    """

    overall: float
    mean_per_class: float
    groups: tuple[float | None, float | None, float | None]


def known_scores(scores: npt.ArrayLike) -> FloatArray:
    """Return how much images look like one of the classes: the largest score of each, [n, C] -> [n].

    Why this one and no other: docs/how-to/reject.md. Neither temperature nor prior changes it.

    Args:
        scores: cosine of each image with each class, or logit of a linear head, [n, C].
    """
    return np.asarray(np.asarray(scores).max(axis=1), dtype=np.float64)


def keeping_threshold(values: npt.ArrayLike, keep: float) -> float:
    """Return the highest threshold that at least a share `keep` of the images reaches.

    Args:
        values: scores of known images, [n], n at least 1.
        keep: share, 0 < keep < 1.
    """
    scores = np.sort(np.asarray(values, dtype=np.float64))
    return float(scores[math.floor((1 - keep) * len(scores) + 1e-9)])


def auroc(known: npt.ArrayLike, strangers: npt.ArrayLike) -> float:
    """Return the area under the ROC curve: how often a known image scores above a stranger; ties count half.

    Raises:
        DataError: there is no known image or no stranger.
    """
    first, second = np.asarray(known, dtype=np.float64), np.sort(np.asarray(strangers, dtype=np.float64))
    if not len(first) or not len(second):
        raise DataError("AUROC needs at least one known image and one stranger")
    below = np.searchsorted(second, first, side="left")
    at_most = np.searchsorted(second, first, side="right")
    return float((below + at_most).sum() / (2 * len(first) * len(second)))


def accepted_strangers(known: npt.ArrayLike, strangers: npt.ArrayLike, keep: float = 0.95) -> float:
    """Return the share of strangers above the threshold that a share `keep` of known images reaches: FPR95 at 0.95."""
    return float((np.asarray(strangers) >= keeping_threshold(known, keep)).mean())


def kept_shares(kept: npt.ArrayLike, labels: IntArray, train_counts: npt.ArrayLike, groups: ShotGroups) -> KeptShares:
    """Return the shares of images of known classes that are kept, by shot group of their true class.

    Args:
        kept: whether each image is kept, [n], n at least 1.
        labels: true classes, [n].
        train_counts: training images of each class, [C].
        groups: boundaries of the shot groups.
    """
    flags, counts = np.asarray(kept, dtype=np.float64), np.asarray(train_counts)
    images = np.bincount(labels, minlength=len(counts))
    tested = images > 0
    by_class = np.bincount(labels, weights=flags, minlength=len(counts)) / np.maximum(images, 1)
    group = groups.of(counts)
    of_group = [by_class[tested & (group == index)] for index in range(3)]
    many, medium, few = (float(shares.mean()) if len(shares) else None for shares in of_group)
    return KeptShares(float(flags.mean()), float(by_class[tested].mean()), (many, medium, few))
