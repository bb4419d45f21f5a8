"""The two streams of dual sampling (LPT section 3.3), as functions of the step alone.

A stream is an endless sequence of draws; step t takes draws t*B .. (t+1)*B - 1 of it. Which image a draw is follows
from (seed, phase, stream, draw number), never from what was drawn before by this process.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

import numpy as np

from lpt.data.manifest import IntArray
from lpt.errors import DataError
from lpt.randomness import permutation

_REMEMBERED_ORDERS = 4096
_REMEMBERED_NUMBERS = 2**22


class Sampler(Protocol):
    """A stream of images."""

    def draw(self, step: int, batch_size: int) -> IntArray:
        """Indices into the training split of a step's images, [B]."""
        ...


class _Orders:
    """Random orders by name, the latest ones remembered: at most 4096, of 32 MiB together (or the latest alone)."""

    def __init__(self, *seed: int | str) -> None:
        self._seed = seed
        self._known: OrderedDict[tuple[int, ...], np.ndarray] = OrderedDict()
        self._numbers = 0

    def __call__(self, size: int, *name: int) -> np.ndarray:
        if name not in self._known:
            self._known[name] = permutation(size, *self._seed, *name)
            self._numbers += size
            while len(self._known) > 1 and (
                len(self._known) > _REMEMBERED_ORDERS or self._numbers > _REMEMBERED_NUMBERS
            ):
                self._numbers -= len(self._known.popitem(last=False)[1])
        self._known.move_to_end(name)
        return self._known[name]


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
        numbers = np.arange(step * batch_size, (step + 1) * batch_size)
        picked = [self._order(self._size, int(number // self._size))[number % self._size] for number in numbers]
        return np.array(picked, dtype=np.int64)


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
        order = np.argsort(labels, kind="stable")
        classes, starts = np.unique(labels[order], return_index=True)
        self._members = np.split(order, starts[1:])
        self._classes = len(classes)
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
        round_, place = divmod(turn, self._classes)
        which = int(self._class_order(self._classes, round_)[place])
        members = self._members[which]
        image_round, image_place = divmod(round_ * self._per_class + within, len(members))
        return int(members[self._image_order(len(members), which, image_round)[image_place]])
