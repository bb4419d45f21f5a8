"""Fit the temperature of a pack's probabilities on images that were not trained on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lpt.data.manifest import IntArray
from lpt.evaluation.calibration import fit_temperature
from lpt.packs.info import Probabilities
from lpt.system.text import plural

LEAST_FOR_TEMPERATURE = 50
"""Fewest images that a temperature is fitted on."""


def fitted_probabilities(
    scores: npt.NDArray[np.floating], labels: IntArray, scale: float, *, kind: str = "validation image"
) -> Probabilities:
    """Return the temperature that suits held-out images; 1 where they are too few, or all of them are right.

    Args:
        scores: cosine of each image with each class, or logit, [n, C].
        labels: true classes, [n].
        scale: factor of the scores.
        kind: what the pack calls such an image.
    """
    count, mistakes = len(labels), int((scores.argmax(axis=1) != labels).sum())
    if count < LEAST_FOR_TEMPERATURE or not mistakes:
        reason = f"nothing ({plural(count, kind)}, {plural(mistakes, 'mistake')}: too few); temperature 1"
        return Probabilities(scale=scale, temperature=1.0, fitted_on=reason)
    return Probabilities(
        scale=scale, temperature=fit_temperature(scores, labels, scale), fitted_on=plural(count, kind)
    )  # fmt: skip
