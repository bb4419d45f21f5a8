"""How frequent the classes of a pack are: where it was trained, and where images come from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Final, get_args

import numpy as np

from lpt.config.bounds import one_line
from lpt.data.manifest import FloatArray
from lpt.errors import ConfigError
from lpt.evaluation.calibration import Floats, chunks
from lpt.packs.info import ClassFrequencies, PackInfo
from lpt.packs.pack import Pack

PRIORS: Final[tuple[str, ...]] = get_args(ClassFrequencies)
"""Names of priors: all classes alike; as frequent as among the training images."""
Prior = str | Mapping[str, float]
"""The share of each class by its name, where images come from; or one of `PRIORS`, which fits any pack."""
_GONE = 750.0
"""How far, in nats, a class without a share lies below all others: in float64 its probability is 0."""


def named_prior(pack: Pack, name: str) -> dict[str, float]:
    """Return the share of each class under one of `PRIORS`.

    Raises:
        ConfigError: there is no such prior, or the pack does not know how frequent its classes were in training.
    """
    if name not in PRIORS:
        raise ConfigError(f"prior: {name[:80]!r} is not known. Give {' or '.join(PRIORS)}, or the share of each class")
    if name == "training" and not pack.info.counts_known:
        raise ConfigError(
            f"prior: the pack {pack.origin} does not know how many training images its classes had. Give the "
            "share of each class instead"
        )
    weights = _weights(pack.info, name)
    return dict(zip(pack.info.class_names, (weights / weights.sum()).tolist(), strict=True))


def assumed_weights(info: PackInfo) -> FloatArray:
    """Return how frequent the classes are that a pack's probabilities assume, [C].

    Even if training balanced them, as LPT does, else as in training (`probabilities.classes` of the pack).
    """
    return _weights(info, info.probabilities.classes)


def prior_ratios(info: PackInfo) -> dict[str, FloatArray]:
    """Return the factors of a pack's probabilities under each of `PRIORS` that it knows, before they sum to 1, [C]."""
    known = PRIORS if info.counts_known else ("even",)
    return {name: _weights(info, name) / assumed_weights(info) for name in known}


def deployed_weights(pack: Pack, prior: Prior) -> FloatArray:
    """Return the shares of a prior in the order of the pack's classes, [C]; classes that it leaves out have 0.

    Raises:
        ConfigError: the pack does not know the prior or a class of it, or no share is positive.
    """
    shares = named_prior(pack, prior) if isinstance(prior, str) else prior
    _check_shares(pack, shares)
    return np.array([shares.get(name, 0.0) for name in pack.info.class_names], dtype=np.float64)


def scores_under(pack: Pack, scores: Floats, prior: Prior, *, out: Floats | None = None) -> Floats:
    """Return scores [n, C] whose softmax gives a pack's probabilities under a prior, of the same precision.

        p'(c | x) = p(c | x) * deployed_c / assumed_c / sum_j p(j | x) * deployed_j / assumed_j

    (Saerens et al., Neural Computation 14, 2002, eq. 2.4). This is exact when only the frequencies change, and not how
    the images of a class look. It is a shift of the scores, so no probability is lost that is too small for a float:
    temperature / scale * log(deployed share / assumed share) is added. A class whose share is 0 gets probability 0.

    Args:
        pack, scores, prior: the scores, and what they are to be under.
        out: where to write, which may be `scores`; None: a new table.

    Raises:
        ConfigError: as `deployed_weights`.
    """
    assumed, deployed = assumed_weights(pack.info), deployed_weights(pack, prior)
    kept, unit = deployed > 0, pack.info.probabilities.temperature / pack.info.probabilities.scale
    shares = np.log(deployed[kept]) - np.log(deployed.sum()) - np.log(assumed[kept] / assumed.sum())
    shifted = np.empty_like(scores) if out is None else out
    for rows in chunks(scores):  # in float64, but for a few rows at a time
        among = scores[rows][:, kept] + unit * shares
        shifted[rows] = among.min(axis=1, keepdims=True) - unit * _GONE
        shifted[rows, kept] = among
    return shifted


def _weights(info: PackInfo, name: str) -> FloatArray:
    """Return how frequent the classes are under one of `PRIORS`, [C].

    `training`: the images of each class, at least 1. Added classes have the mean, since no frequency is known.
    """
    if name == "even":
        return np.ones(len(info.class_names))
    counts = np.asarray(info.class_counts, dtype=np.float64)
    counts[info.trained_classes :] = counts[: info.trained_classes].mean()
    return np.maximum(counts, 1)


def _check_shares(pack: Pack, shares: object) -> None:
    """Check that shares are of classes of the pack, and that some are positive.

    Raises:
        ConfigError: they are not.
    """
    if not isinstance(shares, Mapping):
        raise ConfigError(
            f"prior: {type(shares).__name__} is not accepted. Give {' or '.join(PRIORS)}, or the share of each class"
        )
    unknown = sorted(str(name)[:80] for name in set(shares) - set(pack.info.class_names))
    if unknown or not _are_shares(list(shares.values())):
        raise ConfigError(
            "prior: give a finite share of at least 0, some positive, for classes of the pack; "
            f"unknown: {', '.join(map(one_line, unknown[:5])) or 'none'}"
        )


def _are_shares(values: Sequence[object]) -> bool:
    """Return whether values are numbers of at least 0, with a sum that is finite and above 0."""
    try:
        shares = [float(value) for value in values if isinstance(value, Real)]
    except OverflowError:  # a whole number beyond all floats
        return False
    return len(shares) == len(values) and all(share >= 0 for share in shares) and 0 < sum(shares) < math.inf
