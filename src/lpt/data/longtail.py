"""Class counts, the imbalance factor, shot groups and the ways to cut a data set.

Every random choice depends on (seed, purpose, class) only, not on the other classes. A smaller cut of a class is part
of every larger one with the same seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lpt.data.manifest import FloatArray, IntArray
from lpt.errors import ConfigError, DataError
from lpt.system.randomness import permutation

_CUT, _VALIDATION, _HOLD_OUT = 1, 2, 3
"""Purposes of random choices: each has its own draws."""

CLASS_SIZE = "training images of a class, held-out ones included"
"""The count that defines the shot groups, in words: images cut from train for validation or testing count too."""


@dataclass(frozen=True)
class ShotGroups:
    """The shot groups of classes by training images: many, medium, few.

    Args:
        few_below: a class with fewer training images than this is `few`.
        many_above: a class with more training images than this is `many`.

    Raises:
        ConfigError: the boundaries overlap: a class could be in two groups.
    """

    few_below: int = 20
    many_above: int = 100

    def __post_init__(self) -> None:
        if self.few_below < 1 or self.few_below > self.many_above + 1:
            raise ConfigError(
                f"shot groups: few_below must lie in 1..many_above + 1 ({self.many_above + 1}); got {self.few_below}"
            )

    @property
    def names(self) -> tuple[str, str, str]:
        """The names of the groups, by group index."""
        return ("many", "medium", "few")

    def of(self, counts: npt.ArrayLike) -> IntArray:
        """Return the group index of each class: 0 many, 1 medium, 2 few (also a class without training images).

        Args:
            counts: training images of each class, [C].
        """
        values = np.asarray(counts)
        return np.select([values > self.many_above, values >= self.few_below], [0, 1], 2).astype(np.int64)

    def describe(self) -> str:
        """Write the boundaries as every result prints them: `many > 100, medium 20-100, few < 20`."""
        low, high = self.few_below, self.many_above
        span = {-1: "no medium", 0: f"medium {low}"}.get(high - low, f"medium {low}-{high}")
        return f"many > {high}, {span}, few < {low}"


def class_counts(labels: IntArray, num_classes: int | None = None) -> IntArray:
    """Return the number of images of each class, [C]; C is the largest label + 1 unless given."""
    return np.bincount(labels, minlength=num_classes or 0).astype(np.int64)


def imbalance_factor(counts: npt.ArrayLike) -> float:
    """Return the images of the largest class over those of the smallest; classes without images do not count.

    Raises:
        DataError: no class has an image.
    """
    values = np.asarray(counts)
    filled = values[values > 0]
    if not len(filled):
        raise DataError(f"the imbalance factor of {len(values)} classes without a single image is not defined")
    return float(filled.max() / filled.min())


def long_tailed_counts(num_classes: int, n_max: int, imbalance: float) -> IntArray:
    """Return the number of images that class c of C keeps: floor(n_max * imbalance^(-c / (C - 1))), [C].

    Raises:
        DataError: `imbalance` is below 1, or leaves the last class without an image.
    """
    if not imbalance >= 1 or not math.isfinite(imbalance):
        raise DataError(f"the imbalance factor (n_max / n_min) must be a number from 1 up; got {imbalance}")
    position = np.arange(num_classes) / max(num_classes - 1, 1)
    exact = n_max * float(imbalance) ** -position
    # 500 * 100^-1 is 4.999... in floating point: a value that close below a whole number is that number.
    counts = np.floor(exact * (1 + 1e-9)).astype(np.int64)
    if num_classes and counts[-1] < 1:
        raise DataError(
            f"an imbalance factor of {imbalance:g} leaves the last class floor({n_max} / {imbalance:g}) = 0 images: "
            f"take an imbalance of at most {n_max}, or a larger class size (data.long_tail_max)"
        )
    return counts


def long_tailed_indices(
    labels: IntArray,
    imbalance: float,
    *,
    n_max: int | None = None,
    seed: int,
    class_names: Sequence[str] | None = None,
) -> IntArray:
    """Return the positions that stay when a data set is cut to a long tail, ascending.

    Class c of C (label order) keeps floor(n_max * imbalance^(-c / (C - 1))) images, chosen by `seed`.

    Args:
        labels: class index of each image, [n].
        imbalance: images of the first class over those of the last, at least 1.
        n_max: images that the first class keeps; None: the count of the largest class.
        seed: seed of the choice within each class.
        class_names: names for errors; they also give the number of classes if the last ones have no image.

    Raises:
        DataError: classes have fewer images than the cut asks for; the message gives their number and the first few.
    """
    have = class_counts(labels, None if class_names is None else len(class_names))
    if not len(labels):
        raise DataError("a long-tailed cut of no images: the data set is empty")
    want = long_tailed_counts(len(have), int(have.max()) if n_max is None else n_max, imbalance)
    short = np.flatnonzero(have < want)
    if len(short):
        lines = [f"  {_class_name(c, class_names)}: has {have[c]}, the cut keeps {want[c]}" for c in short[:5]]
        more = [f"  and {len(short) - 5} more"] if len(short) > 5 else []
        raise DataError(
            f"the long-tailed cut (imbalance {imbalance:g}, largest class {want[0]}) asks for more images than "
            f"{len(short)} of {len(have)} classes have:\n" + "\n".join(lines + more) + "\nGive a smaller "
            "data.long_tail_max, or leave data.long_tail out if the data set is long-tailed already."
        )
    kept = [order[: want[c]] for c, order in _shuffled_classes(labels, seed, _CUT)]
    return np.sort(np.concatenate(kept))


def stratified_validation(labels: IntArray, fraction: float, seed: int) -> tuple[IntArray, IntArray, IntArray]:
    """Cut a validation split with the same share of every class.

    A class of n images gives floor(n * fraction) of them; a class for which that is 0 keeps all its images in train.

    Args:
        labels: class index of each image, [n].
        fraction: share of each class that goes to validation, 0 < fraction < 1.
        seed: seed of the choice within each class.

    Returns:
        Positions of the training images and positions of the validation images, both ascending, and the classes with
        images that were too small to give one.

    Raises:
        DataError: `fraction` is not a share, or every class is too small.
    """
    if not 0 < fraction < 1:
        raise DataError(f"the validation fraction must lie between 0 and 1; got {fraction}")
    have = class_counts(labels)
    take = np.minimum(np.floor(have * fraction * (1 + 1e-9)).astype(np.int64), np.maximum(have - 1, 0))
    if not take.sum():
        raise DataError(
            f"a validation fraction of {fraction:g} takes no image: the largest of {len(have)} classes has "
            f"{have.max(initial=0)} images and {math.ceil(1 / fraction)} are needed. Give a larger fraction, or leave "
            "validation out."
        )
    train, held = _divide(labels, take, seed, _VALIDATION)
    return train, held, np.flatnonzero((have > 0) & (take == 0)).astype(np.int64)


def hold_out_per_class(labels: IntArray, per_class: int, seed: int) -> tuple[IntArray, IntArray]:
    """Hold `per_class` images of each class out; return the positions of the rest and of these, both ascending.

    Raises:
        DataError: a class with images has no more than `per_class`: none would be left.
    """
    have = class_counts(labels)
    small = np.flatnonzero((have > 0) & (have <= per_class))
    if per_class < 1 or len(small):
        named = ", ".join(f"{c} ({have[c]})" for c in small[:5])
        raise DataError(
            f"holding {per_class} images of each class out needs at least 1, and classes with more than that; "
            f"too small are {len(small)} classes" + (f": {named}" if named else "")
        )
    return _divide(labels, np.where(have > 0, per_class, 0), seed, _HOLD_OUT)


def _divide(labels: IntArray, take: IntArray, seed: int, purpose: int) -> tuple[IntArray, IntArray]:
    """Return the positions left, and `take[c]` positions of each class c, both ascending."""
    taken = np.zeros(len(labels), dtype=bool)
    for c, order in _shuffled_classes(labels, seed, purpose):
        taken[order[: take[c]]] = True
    return np.flatnonzero(~taken).astype(np.int64), np.flatnonzero(taken).astype(np.int64)


def _shuffled_classes(labels: IntArray, seed: int, purpose: int) -> Iterator[tuple[int, IntArray]]:
    """Yield each class with images, and its positions in an order that depends on (seed, purpose, class) only."""
    by_class = np.argsort(labels, kind="stable").astype(np.int64)
    ends = np.cumsum(class_counts(labels))
    for c, positions in enumerate(np.split(by_class, ends[:-1])):
        if len(positions):
            draws = np.random.default_rng((seed, purpose, c)).random(len(positions))
            yield c, positions[np.argsort(draws, kind="stable")]


def _class_name(index: int, names: Sequence[str] | None) -> str:
    return f"class {index}" if names is None else f"class {index} ({names[index]})"


def stratified_subset(labels: IntArray, size: int, seed: int) -> IntArray:
    """Choose `size` positions with about the same share of every class, ascending; all where there are no more.

    Every class gives at least one image where `size` allows it.

    Args:
        labels: class of each image, [n].
        size: number of images; 0: all.
        seed: seed of the choice.

    Raises:
        ConfigError: the size is negative.
    """
    if size < 0:
        raise ConfigError(f"the number of images must be at least 0 (0: all), got {size}")
    if not 0 < size < len(labels):
        return np.arange(len(labels), dtype=np.int64)
    counts = np.bincount(labels)
    classes = permutation(len(counts), "shift subset", seed)  # so that the order of class names does not break ties
    have = counts[classes]
    least = (have > 0).astype(np.int64) if size >= np.count_nonzero(have) else np.zeros_like(have)
    spare = have - least
    exact = spare * (size - least.sum()) / max(spare.sum(), 1)
    take = least + np.floor(exact).astype(np.int64)
    most_cut = np.argsort(np.floor(exact) - exact, kind="stable")
    take[most_cut[: size - take.sum()]] += 1
    chosen = [_choose_in_class(labels, int(c), int(n), seed) for c, n in zip(classes, take, strict=True) if n]
    return np.sort(np.concatenate(chosen))


def _choose_in_class(labels: IntArray, label: int, number: int, seed: int) -> IntArray:
    positions = np.flatnonzero(labels == label)
    return positions[permutation(len(positions), "shift subset", seed, label)[:number]].astype(np.int64)


def effective_numbers(counts: npt.ArrayLike, beta: float) -> FloatArray:
    """Return the effective number of images of each class (Cui et al., CVPR 2019, proposition 1).

        E_c = (1 - beta ** n_c) / (1 - beta)

    Args:
        counts: training images of each class, [C].
        beta: 0 gives 1 for every class with images, 1 (the limit) their number n_c.

    Returns:
        The effective numbers, [C]; 0 for a class without images.

    Raises:
        ConfigError: beta is not in [0, 1].
    """
    if not 0 <= beta <= 1:
        raise ConfigError(f"beta must lie in [0, 1], got {beta}")
    numbers = np.asarray(counts, dtype=np.float64)
    if beta == 1:
        return numbers.copy()
    if beta < 0.5:
        return (1 - beta**numbers) / (1 - beta)
    # Near beta = 1 the form above would lose up to half of the digits.
    return np.expm1(numbers * math.log1p(beta - 1)) / (beta - 1)
