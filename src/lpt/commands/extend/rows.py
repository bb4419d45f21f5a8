"""Rows and scales of new classes in a cosine head, from a few pictures of each.

The row of a class is the mean of the unit features of its pictures (weight imprinting, Qi et al., CVPR 2018). Unlike a
trained row it lies in the middle of its own pictures, so its cosines with all pictures are larger, and with an equal
scale new classes take pictures of old ones. The more pictures the mean is of, the larger its cosines: `shot_scales`.
Where there are pictures to choose on, a factor on all of these scales is chosen by `fitting_factor`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lpt.data.manifest import Float32Array, FloatArray, IntArray

MANY_SCALE, ONE_MORE = 0.62, 0.235
"""Scale of a row of very many pictures, and how much larger it is for one picture: see docs/how-to/extend.md."""
MOST_FACTOR = 4.0
"""Largest factor, and one over the smallest."""


class NewClasses(NamedTuple):
    """The pictures of the new classes, as the model sees them.

    Args:
        features: unit features, averaged over the views of a picture, [n, D].
        labels: new class of each picture, 0..K-1, [n]; every class has one.
        old_scores: scores of the pictures for the classes that are there, [n, C].
    """

    features: Float32Array
    labels: IntArray
    old_scores: Float32Array

    @property
    def counts(self) -> IntArray:
        """Pictures of each class, [K]."""
        return np.bincount(self.labels).astype(np.int64)


class HeldOut(NamedTuple):
    """Pictures that did not make the rows that judge them.

    Args:
        old: largest score among the old classes, [n].
        new: largest score among the new classes, with the scales of `shot_scales`, [n].
        labels: class of each picture, among the old or the new ones, [n].
        own: whether that new class is the right one, [n].
    """

    old: FloatArray
    new: FloatArray
    labels: IntArray
    own: npt.NDArray[np.bool_]


def shot_scales(counts: IntArray) -> FloatArray:
    """Return the scale of rows that are the mean of so many pictures, [K] -> [K]."""
    return np.asarray(MANY_SCALE + ONE_MORE / np.sqrt(counts))


def unit(vectors: FloatArray | Float32Array) -> FloatArray:
    """Scale vectors to length 1, [..., D]; a vector of zeros stays."""
    wide = vectors.astype(np.float64)
    return np.asarray(wide / np.maximum(np.linalg.norm(wide, axis=-1, keepdims=True), 1e-12))


def new_rows(new: NewClasses) -> FloatArray:
    """Return the row of each new class, of length 1, [K, D]."""
    return unit(_sums(new))


def left_out(new: NewClasses) -> HeldOut:
    """Judge each picture of a class with several by rows for which it was left out."""
    sums, counts = _sums(new), new.counts
    several = np.flatnonzero(counts[new.labels] > 1)
    features, labels = new.features[several].astype(np.float64), new.labels[several]
    scores = features @ unit(sums).T * shot_scales(counts)
    without = unit(sums[labels] - features)
    own = (without * features).sum(axis=1) * shot_scales(counts - (counts > 1))[labels]
    scores[np.arange(len(several)), labels] = own
    largest = scores.max(axis=1, initial=-np.inf)
    old = new.old_scores[several].max(axis=1, initial=-np.inf)
    return HeldOut(old, largest, labels, np.asarray(scores.argmax(axis=1) == labels))


def known_pictures(new: NewClasses, features: Float32Array, labels: IntArray, old_scores: Float32Array) -> HeldOut:
    """Judge pictures of old classes, [n, D], [n] and [n, C]."""
    scores = features @ new_rows(new).T * shot_scales(new.counts)
    nothing = np.zeros(len(labels), dtype=bool)
    return HeldOut(old_scores.max(axis=1).astype(np.float64), scores.max(axis=1), labels, nothing)


def fitting_factor(known: HeldOut, new: HeldOut, old_classes: int, new_classes: int) -> float:
    """Return the factor on the new scales at which the new classes get their share of pictures, neither more nor less.

    That is: if every class were equally frequent, a share K / (C + K) of the pictures would go to the new classes, as
    many as belong there. A picture goes to the new classes if the factor is above old / new, its largest score among
    the old classes by that among the new ones. So the factor is a quantile of these ratios, in which the pictures are
    weighted as if classes were equally frequent.

    Args:
        known: pictures of old classes.
        new: pictures of new classes, each left out of its row.
        old_classes: number of old classes C.
        new_classes: number of new classes K.
    """
    share = new_classes / (old_classes + new_classes)
    ratios = np.concatenate([_ratios(known), _ratios(new)])
    weights = np.concatenate([_weights(known.labels, 1 - share), _weights(new.labels, share)])
    order = np.argsort(ratios, kind="stable")
    place = int(np.searchsorted(np.cumsum(weights[order]), share))
    around = ratios[order][max(place - 1, 0) : place + 1]
    return float(np.clip(around, 1 / MOST_FACTOR, MOST_FACTOR).mean())


def _sums(new: NewClasses) -> FloatArray:
    sums = np.zeros((len(new.counts), new.features.shape[1]))
    np.add.at(sums, new.labels, new.features.astype(np.float64))
    return sums


def _ratios(pictures: HeldOut) -> FloatArray:
    """Return the factor above which a picture goes to the new classes, [n]; infinite where none does."""
    above = np.where(pictures.new > 0, np.maximum(pictures.old, 0) / np.maximum(pictures.new, 1e-12), np.inf)
    return np.asarray(above, dtype=np.float64)


def _weights(labels: IntArray, total: float) -> FloatArray:
    """Return weights that sum to a total, and to the same for each class that has pictures, [n]."""
    counts = np.bincount(labels)
    return np.asarray(total / np.count_nonzero(counts) / counts[labels], dtype=np.float64)
