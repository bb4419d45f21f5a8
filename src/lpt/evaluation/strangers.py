"""Tell pictures of the known classes from strangers: pictures that show none of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lpt.data.longtail import ShotGroups
from lpt.data.manifest import FloatArray, IntArray
from lpt.errors import DataError

GROUPS = 3
SHRINKAGE = 25
"""Validation images that the common threshold counts for beside those of a shot group."""


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


def known_scores(scores: npt.ArrayLike, scale: float) -> FloatArray:
    """Return how much images look like one of the classes, log(sum_c exp(scale * z_c)) / scale, [n, C] -> [n].

    It is the negative free energy of Liu et al. (NeurIPS 2020, eq. 4) at the temperature 1 / scale.

    Args:
        scores: cosine of each image with each class, or logit of a linear head, [n, C].
        scale: factor of the scores in the probabilities.
    """
    z = np.asarray(scores, dtype=np.float64)
    top = z.max(axis=1)
    return np.asarray(top + np.log(np.exp(scale * (z - top[:, None])).sum(axis=1)) / scale)


def keeping_threshold(values: npt.ArrayLike, keep: float, weights: npt.ArrayLike | None = None) -> float:
    """Return the highest threshold that at least a share `keep` of the weight reaches.

    Args:
        values: scores of known images, [n], n at least 1.
        keep: share, 0 < keep < 1.
        weights: of the images, [n]; None: all equal.
    """
    scores = np.asarray(values, dtype=np.float64)
    weight = np.ones(len(scores)) if weights is None else np.asarray(weights, dtype=np.float64)
    order = np.argsort(scores, kind="stable")
    below = np.cumsum(weight[order]) - weight[order]  # weight that falls below each score
    allowed = below <= (1 - keep) * weight.sum() * (1 + 1e-12)
    return float(scores[order][np.flatnonzero(allowed)[-1]])


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
    of_group = [by_class[tested & (group == index)] for index in range(GROUPS)]
    many, medium, few = (float(shares.mean()) if len(shares) else None for shares in of_group)
    return KeptShares(float(flags.mean()), float(by_class[tested].mean()), (many, medium, few))


def fit_thresholds(values: npt.ArrayLike, predicted: IntArray, keep: float) -> tuple[float, float, float]:
    """Return the threshold for each shot group of the predicted class: that of its images, drawn to the common one.

    A group of n images has the weight n, the common threshold the weight `SHRINKAGE`: few images say little about their
    lowest scores.

    Args:
        values: scores of known images, [n], n at least 1.
        predicted: shot group of the predicted class of each, [n].
        keep: share to keep.
    """
    scores = np.asarray(values, dtype=np.float64)
    common = keeping_threshold(scores, keep)

    def of_group(group: int) -> float:
        own = scores[predicted == group]
        if not len(own):
            return common
        return (len(own) * keeping_threshold(own, keep) + SHRINKAGE * common) / (len(own) + SHRINKAGE)

    return of_group(0), of_group(1), of_group(2)
