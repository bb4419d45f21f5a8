"""The two streams of dual sampling (LPT section 3.3), as functions of the step alone.

A stream is an endless sequence of draws; step t takes draws t*B .. (t+1)*B - 1 of it. Which image a draw is follows
from (seed, phase, stream, draw number), never from what was drawn before by this process.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from lpt.data.manifest import IntArray
from lpt.errors import DataError
from lpt.randomness import permutation


class Sampler(Protocol):
    """A stream of images."""

    def draw(self, step: int, batch_size: int) -> IntArray:
        """Indices into the training split of a step's images, [B]."""
        ...


class _Orders:
    """The random order of each round of some things, the latest of each thing remembered.

    The rounds of a thing come one after another. So an order is computed once for the many draws it serves, and what
    is remembered are as many numbers as all things together have.
    """

    def __init__(self, *seed: int | str) -> None:
        self._seed = seed
        self._latest: dict[tuple[int, ...], tuple[int, IntArray]] = {}

    def __call__(self, size: int, *thing: int, round_: int) -> IntArray:
        """The order of a thing's 0..size-1 in a round, [size]."""
        known = self._latest.get(thing)
        if known is None or known[0] != round_:
            known = self._latest[thing] = (round_, permutation(size, *self._seed, *thing, round_))
        return known[1]


class InstanceBalanced:
    """Every image once in each round, rounds in random order.

    Args:
        size: images in the training split.
        seed: what its draws are a function of: (run seed, phase, stream name).
    """

    def __init__(self, size: int, *seed: int | str) -> None:
        self._size = size
        self._order = _Orders(*seed, "images")

    def draw(self, step: int, batch_size: int) -> IntArray:
        """Indices of a step's images, [B]."""
        rounds, places = np.divmod(np.arange(step * batch_size, (step + 1) * batch_size), self._size)
        picked = [self._order(self._size, round_=r)[places[rounds == r]] for r in range(rounds[0], rounds[-1] + 1)]
        return np.concatenate(picked).astype(np.int64, copy=False)


class ClassBalanced:
    """A few images of one class, then of the next: every class once in each round, rounds in random order.

    Within a class the images go round in random order, so that a class with fewer images than `per_class` repeats
    them. Classes without images are never drawn.

    Args:
        labels: class of each training image, [n].
        per_class: images of a class drawn in a row.
        seed: what its draws are a function of: (run seed, phase, stream name).

    Raises:
        DataError: there are no images.
    """

    def __init__(self, labels: IntArray, per_class: int, *seed: int | str) -> None:
        if not len(labels):
            raise DataError("there is no training image to draw from")
        self._by_class = np.argsort(labels, kind="stable")
        sizes = np.bincount(labels)
        self._sizes = sizes[sizes > 0]
        self._starts = np.cumsum(self._sizes) - self._sizes
        self._per_class = per_class
        self._class_order = _Orders(*seed, "classes")
        self._image_order = _Orders(*seed, "members")

    def draw(self, step: int, batch_size: int) -> IntArray:
        """Indices of a step's images, [B]."""
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
