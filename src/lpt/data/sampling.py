"""Streams of training images as functions of the step alone: the two of dual sampling (LPT section 3.3), and others.

A stream is an endless sequence of draws; step t takes draws t*B .. (t+1)*B - 1 of it. The image of a draw depends on
(seed, phase, stream, draw number) only, never on what this process drew before.
"""

from __future__ import annotations

import math
from typing import Protocol, get_args

import numpy as np
import numpy.typing as npt

from lpt.config.schema import Sampling
from lpt.data.longtail import effective_numbers
from lpt.data.manifest import FloatArray, IntArray
from lpt.errors import ConfigError, DataError
from lpt.system.randomness import permutation, seed_of


class Sampler(Protocol):
    """A stream of images."""

    def draw(self, step: int, batch_size: int) -> IntArray:
        """Return indices into the training split of the images of a step, [B]."""
        ...


class _Orders:
    """The random orders of the rounds of some lists, with a cache of the latest order of each list.

    The rounds of a list come one after another. So an order is computed once for its many draws, and the cache holds
    as many numbers as all lists have items.
    """

    def __init__(self, *seed: int | str) -> None:
        self._seed = seed
        self._latest: dict[tuple[int, ...], tuple[int, IntArray]] = {}

    def __call__(self, size: int, *key: int, round_: int) -> IntArray:
        """Return the order of 0..size-1 in a round of the list with this key, [size]."""
        latest = self._latest.get(key)
        if latest is None or latest[0] != round_:
            latest = self._latest[key] = (round_, permutation(size, *self._seed, *key, round_))
        return latest[1]


class InstanceBalanced:
    """Every image once in each round, rounds in random order (Kang et al., ICLR 2020, eq. 1 with q = 1).

    Args:
        size: images in the training split.
        seed: (run seed, phase, stream name), on which the draws depend.

    Raises:
        DataError: there are no images.
    """

    def __init__(self, size: int, *seed: int | str) -> None:
        _check_any(size)
        self._size = size
        self._order = _Orders(*seed, "images")

    def draw(self, step: int, batch_size: int) -> IntArray:
        """Return the indices of the images of a step, [B]."""
        rounds, places = np.divmod(np.arange(step * batch_size, (step + 1) * batch_size), self._size)
        picked = [self._order(self._size, round_=r)[places[rounds == r]] for r in range(rounds[0], rounds[-1] + 1)]
        return np.concatenate(picked).astype(np.int64, copy=False)


class ClassBalanced:
    """A few images of one class, then of the next: every class once in each round, rounds in random order.

    Classes are drawn equally often (Kang et al., ICLR 2020, eq. 1 with q = 0).

    The images of a class come in rounds too, each in random order, so a class with fewer images than `per_class`
    repeats them. Classes without images are never drawn.

    Args:
        labels: class of each training image, [n].
        per_class: images of a class drawn in a row.
        seed: (run seed, phase, stream name), on which the draws depend.

    Raises:
        DataError: there are no images.
    """

    def __init__(self, labels: IntArray, per_class: int, *seed: int | str) -> None:
        _check_any(len(labels))
        self._by_class = np.argsort(labels, kind="stable")
        sizes = np.bincount(labels)
        self._sizes = sizes[sizes > 0]
        self._starts = np.cumsum(self._sizes) - self._sizes
        self._per_class = per_class
        self._class_order = _Orders(*seed, "classes")
        self._image_order = _Orders(*seed, "members")

    def draw(self, step: int, batch_size: int) -> IntArray:
        """Return the indices of the images of a step, [B]."""
        return np.array(
            [self._index(number) for number in range(step * batch_size, (step + 1) * batch_size)], dtype=np.int64
        )

    def _index(self, number: int) -> int:
        turn, within = divmod(number, self._per_class)
        round_, place = divmod(turn, len(self._sizes))
        which = int(self._class_order(len(self._sizes), round_=round_)[place])
        size = int(self._sizes[which])
        image_round, image_place = divmod(round_ * self._per_class + within, size)
        order = self._image_order(size, which, round_=image_round)
        return int(self._by_class[self._starts[which] + order[image_place]])


class ClassWeighted:
    """Each draw takes a class by the given chances, and then any image of it; draws are independent of each other.

    Args:
        labels: class of each training image, [n].
        chances: chances of the classes up to a common factor, [C]; 0 for a class without images.
        seed: (run seed, phase, stream name), on which the draws depend.

    Raises:
        DataError: there are no images.
        ConfigError: the chances do not fit the classes.
    """

    def __init__(self, labels: IntArray, chances: npt.ArrayLike, *seed: int | str) -> None:
        _check_any(len(labels))
        weights = np.asarray(chances, dtype=np.float64)
        self._sizes = np.bincount(labels, minlength=len(weights) if weights.ndim else 0)
        _check_chances(weights, self._sizes)
        self._by_class = np.argsort(labels, kind="stable")
        self._starts = np.cumsum(self._sizes) - self._sizes
        bounds = np.cumsum(weights)
        self._bounds = bounds / bounds[-1]  # the last is 1 exactly, above every random number
        self._seed = seed_of(*seed, "weighted")

    def draw(self, step: int, batch_size: int) -> IntArray:
        """Return the indices of the images of a step, [B]."""
        # A draw uses two numbers of one long sequence, and PCG64 jumps to any position of it.
        numbers = np.random.Generator(np.random.PCG64(self._seed).advance(2 * step * batch_size))
        class_number, image_number = numbers.random((batch_size, 2)).T
        # Take the first class whose bound lies above the number; a class of chance 0 shares the bound before it.
        drawn = np.searchsorted(self._bounds, class_number, side="right")
        places = (image_number * self._sizes[drawn]).astype(np.int64)
        return self._by_class[self._starts[drawn] + places].astype(np.int64, copy=False)


def square_root_chances(counts: npt.ArrayLike) -> FloatArray:
    """Return the chances of square-root sampling (Kang et al., ICLR 2020, eq. 1 with q = 1/2).

        p_c = n_c ** q / sum_i n_i ** q

    Args:
        counts: training images of each class, [C].

    Returns:
        The chances of the classes, [C].

    Raises:
        DataError: there are no images.
    """
    return _normalized(np.sqrt(_checked_counts(counts)))


def effective_number_chances(counts: npt.ArrayLike, beta: float = 0.9999) -> FloatArray:
    """Return the chances of sampling by the effective number, as Cui et al. weight classes (CVPR 2019, eq. 4-6).

        p_c proportional to n_c / E_c = n_c * (1 - beta) / (1 - beta ** n_c)

    So the chance of an image equals its weight in that loss.

    Args:
        counts: training images of each class, [C].
        beta: 0 draws every image equally often, 1 (the limit) every class. For classes of up to a thousand images
            the default is close to the latter.

    Returns:
        The chances of the classes, [C].

    Raises:
        DataError: there are no images.
        ConfigError: beta is not in [0, 1].
    """
    numbers, effective = _checked_counts(counts), effective_numbers(counts, beta)
    return _normalized(np.divide(numbers, effective, out=np.zeros_like(numbers), where=numbers > 0))


def new_sampler(kind: Sampling, labels: IntArray, per_class: int, *seed: int | str, beta: float = 0.9999) -> Sampler:
    """Make the sampler of a kind.

    Args:
        kind: `instance` draws every image equally often, `balanced` every class (`per_class` images at a time);
            `square_root` and `effective_number` lie between the two and draw single images.
        labels: class of each training image, [n].
        per_class: images of a class drawn in a row; only used by `balanced`.
        seed: (run seed, phase, stream name), on which the draws depend.
        beta: parameter of the effective number; only used by `effective_number`.

    Raises:
        DataError: there are no images.
        ConfigError: there is no such kind.
    """
    if kind == "instance":
        return InstanceBalanced(len(labels), *seed)
    if kind == "balanced":
        return ClassBalanced(labels, per_class, *seed)
    if kind == "square_root":
        return ClassWeighted(labels, square_root_chances(np.bincount(labels)), *seed)
    if kind == "effective_number":
        return ClassWeighted(labels, effective_number_chances(np.bincount(labels), beta), *seed)
    raise ConfigError(f"no sampling {kind!r}; there are {', '.join(get_args(Sampling))}")


def _check_any(images: int) -> None:
    if not images:
        raise DataError("there is no training image to draw from")


def _check_chances(chances: FloatArray, sizes: IntArray) -> None:
    if chances.shape != sizes.shape:
        raise ConfigError(f"chances must be [{len(sizes)}], one for each class, got shape {chances.shape}")
    if not np.isfinite(chances).all() or chances.min() < 0:
        raise ConfigError(f"chances must be finite and at least 0, got {chances.min():g}")
    if not 0 < chances.sum() < math.inf:
        raise ConfigError("chances must not all be 0, and their sum must be finite")
    empty = np.flatnonzero((chances > 0) & (sizes == 0))
    if len(empty):
        raise ConfigError(
            f"chances must be 0 for classes without images, but class {empty[0]} has {chances[empty[0]]:g}"
        )


def _checked_counts(counts: npt.ArrayLike) -> FloatArray:
    """Return class counts as float64, [C]; check that one of them has an image."""
    numbers = np.asarray(counts, dtype=np.float64)
    if numbers.ndim != 1 or not (numbers >= 0).all():
        raise ConfigError(f"class counts must be [C] and at least 0, got {numbers.tolist()}")
    _check_any(int(np.count_nonzero(numbers)))
    return numbers


def _normalized(chances: FloatArray) -> FloatArray:
    return chances / chances.sum()
