"""Compare the probabilities of a model with how often it is right (reliability diagram; Guo et al., ICML 2017)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lpt.evaluation.metrics import CALIBRATION_BINS

FEWEST_IMAGES = 20
"""Images from which on a bin counts as known: even if all of 20 are right, the 95 % interval reaches down to 84 %."""
_Z = 1.959964
"""Standard deviations of a 95 % interval."""


class ReliabilityBin(NamedTuple):
    """The images whose highest probability lies in an interval.

    Args:
        low: lower edge, not included.
        high: upper edge, included.
        images: number of images.
        confidence: mean of their highest probabilities.
        accuracy: share of them that is right.
        interval: 95 % interval of the accuracy, for other images of the same probability.
    """

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float
    interval: tuple[float, float]

    @property
    def sure(self) -> bool:
        """Whether there are enough images to tell the accuracy."""
        return self.images >= FEWEST_IMAGES


def reliability(
    correct: npt.ArrayLike, confidence: npt.ArrayLike, bins: int = CALIBRATION_BINS
) -> list[ReliabilityBin]:
    """Return the bins that have images, in ascending order; the same bins as in `calibration_error`.

    Args:
        correct: whether each prediction is right, [n].
        confidence: its probability, [n].
        bins: number of bins of equal width.
    """
    right, probability = np.asarray(correct, dtype=np.float64), np.asarray(confidence, dtype=np.float64)
    index = np.clip(np.ceil(probability * bins).astype(np.int64) - 1, 0, bins - 1)
    images = np.bincount(index, minlength=bins)
    accuracy, mean = (np.bincount(index, weights=values, minlength=bins) for values in (right, probability))
    return [
        ReliabilityBin(b / bins, (b + 1) / bins, int(images[b]), float(mean[b] / images[b]),
                       float(accuracy[b] / images[b]), wilson_interval(float(accuracy[b]), int(images[b])))
        for b in np.flatnonzero(images)
    ]  # fmt: skip


def wilson_interval(right: float, images: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson, JASA 22, 1927); it is not empty where none or all are right."""
    share, z2 = right / images, _Z**2 / images
    centre, width = share + z2 / 2, _Z * math.sqrt((share * (1 - share) + z2 / 4) / images)
    return max((centre - width) / (1 + z2), 0.0), min((centre + width) / (1 + z2), 1.0)
