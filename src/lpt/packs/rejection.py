"""The threshold of a pack below which an image counts as showing none of its classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from lpt.config.bounds import Finite, Size, Text
from lpt.data.longtail import ShotGroups
from lpt.data.manifest import FloatArray, IntArray
from lpt.errors import ConfigError
from lpt.evaluation.strangers import keeping_threshold, kept_shares, known_scores

if TYPE_CHECKING:
    from lpt.packs.pack import Pack

KEEP = 0.95
"""Share of the images of known classes that a threshold is to keep."""
LEAST_IMAGES = 50
"""Fewest images that a threshold is fitted on."""

Share = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Kept(_Section):
    """Shares of the images that the threshold was fitted on that it keeps, by shot group of their true class.

    A group without images has None.
    """

    overall: Share
    mean_per_class: Share
    many: Share | None
    medium: Share | None
    few: Share | None


class Rejection(_Section):
    """What an image must reach to count as one of the classes, by `lpt.evaluation.strangers.known_scores`.

    Args:
        keep: share of known images that it was fitted to keep.
        threshold: lowest score that is kept: the largest cosine of an image with a class, or its largest logit.
        images: number of known images that it was fitted on.
        fitted_on: these images in words.
        kept: shares of them that it keeps.
    """

    keep: Annotated[float, Field(gt=0, lt=1)]
    threshold: Finite
    images: Size
    fitted_on: Text
    kept: Kept


def fit_rejection(
    scores: npt.NDArray[np.floating],
    labels: IntArray,
    *,
    train_counts: npt.ArrayLike,
    groups: ShotGroups,
    fitted_on: str,
    keep: float = KEEP,
) -> Rejection | None:
    """Fit the threshold on images of known classes that were not trained on; None if they are too few.

    Args:
        scores: cosine of each image with each class, or logit, [n, C].
        labels: true classes, [n].
        train_counts: training images of each class, [C].
        groups: boundaries of the shot groups.
        fitted_on: the images in words.
        keep: share of them to keep.
    """
    if len(labels) < LEAST_IMAGES:
        return None
    values = known_scores(scores)
    threshold = keeping_threshold(values, keep)
    shares = kept_shares(values >= threshold, labels, train_counts, groups)
    many, medium, few = shares.groups
    return Rejection(
        keep=keep,
        threshold=threshold,
        images=len(labels),
        fitted_on=fitted_on,
        kept=Kept(
            overall=shares.overall, mean_per_class=shares.mean_per_class, many=many, medium=medium, few=few
        ),
    )  # fmt: skip


def known_scores_of(pack: Pack, scores: npt.NDArray[np.floating]) -> FloatArray:
    """Return how far images lie above the threshold of a pack, [n, C] -> [n]; those below 0 are rejected.

    Raises:
        ConfigError: the pack has no threshold.
    """
    return known_scores(scores) - check_threshold(pack).threshold


def check_threshold(pack: Pack) -> Rejection:
    """Return the threshold of a pack.

    Raises:
        ConfigError: it has none.
    """
    if pack.info.rejection is None:
        raise ConfigError(
            f"--reject: the pack {pack.origin} has no threshold for images that show none of its classes. Next: give "
            "it one with labelled images that it was not trained on (lpt calibrate PACK DATA --output NEW), or train "
            "it with validation images (lpt fit DATA --val 0.1)"
        )
    return pack.info.rejection
