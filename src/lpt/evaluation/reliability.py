"""Compare the probabilities of a model with how often it is right (reliability diagram; Guo et al., ICML 2017)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lpt.evaluation.metrics import CALIBRATION_BINS


class ReliabilityBin(NamedTuple):
    """The images whose highest probability lies in an interval.

    Args:
        low: lower edge, not included.
        high: upper edge, included.
        images: number of images.
        confidence: mean of their highest probabilities.
        accuracy: share of them that is right.
    """

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


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
                       float(accuracy[b] / images[b]))
        for b in np.flatnonzero(images)
    ]  # fmt: skip
