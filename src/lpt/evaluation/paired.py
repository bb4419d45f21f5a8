"""Compare two methods: paired differences with a bootstrap interval.

Both methods classified the same test images, with the same seeds. The images of each class are resampled with
replacement (Efron & Tibshirani 1993, ch. 8 and 13). A resample is the same for both methods and for all seeds, so that
images that are hard for all cancel out (paired bootstrap: Koehn, EMNLP 2004). The class is the stratum, because a test
set fixes how many images each class has. Of the n images of a class, n - 1 are drawn. With n draws the variance would
be too small by (n - 1) / n (Rao & Wu, JASA 1988): by a third for the three images per class of iNaturalist 2018.
Classes with a single test image are resampled together with the others of their shot group (collapsed strata); this
makes the interval rather wide.

Seeds are not resampled: from three values a bootstrap makes ten different samples and too small a variance. Both
sources of variation matter (Bouthillier et al., MLSys 2021), so they are reported apart. The interval says what other
test images could have given with these very models; `seed_std` says how much the difference moves from seed to seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lpt.data.longtail import ShotGroups
from lpt.data.manifest import FloatArray, IntArray
from lpt.errors import DataError
from lpt.evaluation.metrics import ACCURACIES

RESAMPLES = 2000
CONFIDENCE = 0.95
_DRAWS = 1 << 21
"""Numbers drawn at a time."""


@dataclass(frozen=True)
class SeedPair:
    """The predictions of two methods for the test images of one seed.

    Args:
        seed: the seed of both.
        images: name of each test image, n of them.
        labels: true class of each test image, [n].
        first, second: predicted classes, [n], in the same order.
        train_counts: training images of each class, [C].
    """

    seed: int
    images: Sequence[str]
    labels: IntArray
    first: IntArray
    second: IntArray
    train_counts: IntArray


@dataclass(frozen=True)
class Difference:
    """The difference of two methods in one measure, first less second, as fractions.

    Args:
        mean: mean over the seeds.
        low, high: ends of the percentile interval over resampled test images; None where there is one image only.
        seed_std: standard deviation of the seeds' differences; None with a single seed.
        by_seed: the difference of each seed, in the order of `Paired.seeds`; None where the measure is not defined.
    """

    mean: float
    low: float | None
    high: float | None
    seed_std: float | None
    by_seed: tuple[float | None, ...]


@dataclass(frozen=True)
class Paired:
    """The differences of two methods in all measures.

    Args:
        seeds: the seeds that both have.
        measures: differences by name, for those of `ACCURACIES` that are defined.
        same_images: whether all seeds have the same test images; see `paired_differences`.
        resamples: number of resampled test sets.
        confidence: share of the resamples inside the intervals.
    """

    seeds: tuple[int, ...]
    measures: dict[str, Difference]
    same_images: bool
    resamples: int
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as comparison.json holds them."""
        return asdict(self)


def paired_differences(
    pairs: Sequence[SeedPair],
    groups: ShotGroups,
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Paired:
    """Compute first method less second: mean over seeds, bootstrap interval over test images, deviation over seeds.

    Seeds have the same test images if names and labels are the same, in the same order. Otherwise the images of each
    seed are resampled apart. As they may overlap in part, the resampled differences of the seeds are sorted and then
    added up, as if they depended on each other fully: the interval is too wide rather than too narrow.

    Args:
        pairs: one for each seed that both methods have.
        groups: the boundaries of many, medium and few.
        resamples: number of resampled test sets.
        confidence: share of the resamples inside the interval.
        seed: seed of the draws; the same input and seed give the same interval.

    Raises:
        DataError: there is no seed or no image, or arrays do not fit.
    """
    if not pairs:
        raise DataError("a paired difference needs at least one seed that both methods have finished")
    for pair in pairs:
        _check(pair)
    by_seed = np.stack([_differences(pair, groups) for pair in pairs])  # [S, measures]
    same = all(
        np.array_equal(pair.labels, pairs[0].labels) and list(pair.images) == list(pairs[0].images) for pair in pairs
    )
    rng = np.random.default_rng(seed)
    if same:
        draws = _resampled(pairs, groups, by_seed, resamples, rng)
    else:
        apart = [_resampled([pair], groups, by_seed[[s]], resamples, rng) for s, pair in enumerate(pairs)]
        draws = _mean_known(np.sort(np.stack(apart), axis=1))
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    measures = {
        name: _difference(by_seed[:, m], float(low[m]), float(high[m]))
        for m, name in enumerate(ACCURACIES)
        if np.isfinite(by_seed[:, m]).any()
    }
    return Paired(tuple(pair.seed for pair in pairs), measures, same, resamples, confidence)


def _difference(by_seed: FloatArray, low: float, high: float) -> Difference:
    """Summarise the differences of the seeds in one measure, [S]."""
    defined = by_seed[np.isfinite(by_seed)]
    estimated = np.isfinite(low)
    return Difference(
        mean=float(defined.mean()),
        low=low if estimated else None,
        high=high if estimated else None,
        seed_std=float(defined.std(ddof=1)) if len(defined) > 1 else None,
        by_seed=tuple(float(value) if np.isfinite(value) else None for value in by_seed),
    )


def _weights(labels: IntArray, train_counts: IntArray, groups: ShotGroups) -> FloatArray:
    """Return the weight of a test image of each class in each measure, [C, measures]; 0 in groups without images.

    A measure is the sum of the weights of the right images: 1 / n overall, 1 / (n_c * classes) in a mean of classes.
    """
    tested = np.bincount(labels, minlength=len(train_counts))
    group = np.where(train_counts > 0, groups.of(train_counts), -1)
    member = np.stack([np.ones(len(tested), bool), *(group == index for index in range(3))], axis=1)
    member &= (tested > 0)[:, None]
    per_class = np.divide(member, tested[:, None], out=np.zeros(member.shape), where=member)
    overall = (tested > 0)[:, None] / len(labels)
    return np.concatenate([overall, per_class / np.maximum(member.sum(axis=0), 1)], axis=1)


def _gain(pair: SeedPair) -> IntArray:
    """Return for each image +1 if only the first method is right, -1 if only the second is, else 0, [n]."""
    right = [(predicted == pair.labels).astype(np.int64) for predicted in (pair.first, pair.second)]
    return right[0] - right[1]


def _differences(pair: SeedPair, groups: ShotGroups) -> FloatArray:
    """Return the difference of one seed in each measure, [measures]; NaN where the measure is not defined."""
    weights = _weights(pair.labels, pair.train_counts, groups)
    gains = np.bincount(pair.labels, weights=_gain(pair), minlength=len(weights))
    return np.where(weights.any(axis=0), gains @ weights, np.nan)


def _resampled(
    pairs: Sequence[SeedPair], groups: ShotGroups, by_seed: FloatArray, resamples: int, rng: np.random.Generator
) -> FloatArray:
    """Return the mean difference over seeds of the same images, for each resample, [resamples, measures].

    Images of a stratum with the same gains in all seeds count the same in every measure. So it is enough to draw how
    many of each such kind a resample has: a multinomial draw for each stratum, instead of rows. NaN: no estimate.
    """
    defined = np.isfinite(by_seed)
    labels, gains = pairs[0].labels, np.stack([_gain(pair) for pair in pairs])
    weights = np.stack([_weights(labels, pair.train_counts, groups) for pair in pairs])  # [S, C, measures]
    weights /= np.maximum(defined.sum(axis=0), 1)
    strata = _strata(labels, weights)
    stratum, first, column, counts = _kinds(strata, gains)
    values = np.einsum("si,sim->im", gains[:, first], weights[:, labels[first]])  # of one image of each kind
    sizes = np.bincount(strata)
    drawn = np.maximum(sizes - 1, 1)
    shape = (len(sizes), int(column.max()) + 1)
    table, worth = np.zeros(shape), np.zeros((*shape, len(ACCURACIES)))
    table[stratum, column] = counts / sizes[stratum]
    worth[stratum, column] = values * (sizes / drawn)[stratum, None]
    result, step = np.empty((resamples, len(ACCURACIES))), max(_DRAWS // table.size, 1)
    for start in range(0, resamples, step):
        number = min(step, resamples - start)
        kinds = rng.multinomial(drawn, table, size=(number, len(sizes)))
        result[start : start + number] = kinds.reshape(number, -1) @ worth.reshape(-1, len(ACCURACIES))
    counted = np.asarray(weights.any(axis=0))[labels]  # images that count in a measure, [n, measures]
    informative = counted[sizes[strata] > 1].any(axis=0)
    return np.where(informative, result, np.nan)


def _strata(labels: IntArray, weights: FloatArray) -> IntArray:
    """Return the stratum of each image, [n]: its class; single images of a class share one if they weigh the same."""
    tested = np.bincount(labels, minlength=weights.shape[1])
    classes = np.arange(len(tested))
    single = np.flatnonzero(tested == 1)
    if len(single):
        alike = np.unique(weights[:, single].swapaxes(0, 1).reshape(len(single), -1), axis=0, return_inverse=True)[1]
        classes[single] = len(tested) + alike.ravel()
    return np.unique(classes[labels], return_inverse=True)[1].astype(np.int64)


def _kinds(strata: IntArray, gains: IntArray) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Group images of the same stratum and gains: (stratum, one of the images, column, images), each [kinds].

    `column` is the place of a kind in the stratum's row. Rows are filled from the right, so that the last column is
    never empty: a multinomial draw gives it the remainder.
    """
    patterns = np.unique(gains, axis=1, return_inverse=True)[1].ravel().astype(np.int64)
    key = strata * (patterns.max() + 1) + patterns
    keys, first, counts = np.unique(key, return_index=True, return_counts=True)
    stratum = strata[first]
    ends = np.cumsum(np.bincount(stratum))
    from_right = ends[stratum] - 1 - np.arange(len(keys))
    return stratum, first, from_right.max() - from_right, counts


def _mean_known(draws: FloatArray) -> FloatArray:
    """Return the mean over the seeds that have a measure, [S, resamples, measures]; NaN where none has."""
    defined = np.asarray(np.isfinite(draws))
    total = np.where(defined, draws, 0).sum(axis=0)
    return np.divide(total, defined.sum(axis=0), out=np.full(total.shape, np.nan), where=defined.any(axis=0))


def _check(pair: SeedPair) -> None:
    """Raise `DataError` if the arrays of a pair do not fit together."""
    shapes = {(len(pair.images),), pair.labels.shape, pair.first.shape, pair.second.shape}
    if len(shapes) > 1 or pair.labels.ndim != 1:
        raise DataError(
            f"seed {pair.seed}: labels and both predictions must be [n] arrays of the same n images; got "
            f"{pair.labels.shape}, {pair.first.shape} and {pair.second.shape} of {len(pair.images)}"
        )
    if not len(pair.labels):
        raise DataError(f"seed {pair.seed}: there is no test image to compare on")
    if pair.labels.min() < 0 or pair.labels.max() >= len(pair.train_counts):
        raise DataError(
            f"seed {pair.seed}: labels run from {pair.labels.min()} to {pair.labels.max()}, but there are "
            f"{len(pair.train_counts)} training counts"
        )
