"""Choose which pictures to label next so that rare classes gain most."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lpt.data.longtail import ShotGroups
from lpt.data.manifest import Float32Array, FloatArray, IntArray


class Guesses(NamedTuple):
    """The most probable classes of pictures.

    Args:
        classes: indices, the most probable first, [n, K].
        shares: their probabilities, [n, K].
    """

    classes: IntArray
    shares: Float32Array


class Chosen(NamedTuple):
    """A picture that was chosen.

    Args:
        row: its row in the guesses.
        gain: what its label was expected to add when it was chosen.
        sought: the class that adds most of it.
    """

    row: int
    gain: float
    sought: int


class Suggestion(NamedTuple):
    """A picture to label next.

    Args:
        image: its path.
        guess: most probable class.
        probability: of that class.
        second_guess: second class; empty where the pack knows a single one.
        second_probability: of that class.
        chosen_for: the class whose expected gain is the largest.
        rare_mass: probability that it is of a few-shot class.
        gain: what its label was expected to add, when it was chosen.
    """

    image: str
    guess: str
    probability: float
    second_guess: str
    second_probability: float
    chosen_for: str
    rare_mass: float
    gain: float


DUPLICATE = 0.98
"""Cosine of two features from which pictures count as near-duplicates."""
_PASSES = 50
_SMALLEST = 1e-12


def choose_next(guesses: Guesses, features: Float32Array, counts: IntArray, number: int) -> list[Chosen]:
    """Choose pictures to label, the most useful first; all where there are no more.

    The value of labelled pictures is the sum over classes of log(N_c + 1), N_c being the expected images of class c:
    a picture of a class with few images adds most, and each that is probably of the same class makes the next one
    worth less. The most useful picture is taken again and again; this sum has diminishing returns, so a gain that was
    computed earlier is an upper bound, and few have to be computed anew. Near-duplicates of a chosen one are passed
    over.

    Args:
        guesses: probabilities of the pack as if all classes were equally frequent.
        features: features of the pictures, of unit length, [n, D].
        counts: training images of each class, [C].
        number: pictures to choose.
    """
    shares = pool_shares(guesses, len(counts))
    expected = np.asarray(counts, dtype=np.float64)
    waiting = [(-float(gain), row) for row, gain in enumerate(_gains(guesses.classes, shares, expected).sum(axis=1))]
    heapq.heapify(waiting)
    chosen: list[Chosen] = []
    taken = np.zeros((min(number, len(waiting)), features.shape[1]), dtype=np.float32)
    while waiting and len(chosen) < number:
        _, row = heapq.heappop(waiting)
        if chosen and float((taken[: len(chosen)] @ features[row]).max()) >= DUPLICATE:
            continue
        gains = _gains(guesses.classes[row], shares[row], expected)
        if waiting and gains.sum() < -waiting[0][0] - _SMALLEST:
            heapq.heappush(waiting, (-float(gains.sum()), row))
            continue
        taken[len(chosen)] = features[row]
        chosen.append(Chosen(row, float(gains.sum()), int(guesses.classes[row, gains.argmax()])))
        np.add.at(expected, guesses.classes[row], shares[row])
    return chosen


def pool_shares(guesses: Guesses, num_classes: int) -> FloatArray:
    """Return the probabilities of the guesses under the class frequencies of these very pictures, [n, K].

    The frequencies are estimated by expectation-maximisation (Saerens et al., Neural Computation 2002), with one
    picture more for each class: a class is never ruled out. Rows sum to 1.

    Args:
        guesses: probabilities as if all classes were equally frequent.
        num_classes: classes C.
    """
    likelihoods = np.asarray(guesses.shares, dtype=np.float64)
    frequencies = np.full(num_classes, 1 / num_classes)
    shares = likelihoods
    for _ in range(_PASSES):
        shares = likelihoods * frequencies[guesses.classes]
        shares = shares / np.maximum(shares.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        sums = 1 + np.bincount(guesses.classes.ravel(), weights=shares.ravel(), minlength=num_classes)
        frequencies = sums / sums.sum()
    return shares


def suggest(
    chosen: Sequence[Chosen],
    guesses: Guesses,
    images: Sequence[str],
    class_names: Sequence[str],
    counts: IntArray,
    groups: ShotGroups,
) -> list[Suggestion]:
    """Describe chosen pictures by names.

    Args:
        chosen: the pictures.
        guesses: the most probable classes of all pictures.
        images: paths of all pictures.
        class_names: names of the classes.
        counts: training images of each class, [C].
        groups: which classes are few-shot.
    """
    rare = groups.of(counts) == groups.names.index("few")
    suggestions = []
    for row, gain, sought in chosen:
        classes, shares = guesses.classes[row], guesses.shares[row]
        second = len(classes) > 1
        suggestions.append(
            Suggestion(
                image=images[row],
                guess=class_names[classes[0]],
                probability=float(shares[0]),
                second_guess=class_names[classes[1]] if second else "",
                second_probability=float(shares[1]) if second else 0.0,
                chosen_for=class_names[sought],
                rare_mass=float(shares[rare[classes]].sum()),
                gain=gain,
            )
        )
    return suggestions


def _gains(classes: IntArray, shares: FloatArray, expected: FloatArray) -> FloatArray:
    """Return what each guess adds: its probability times the slope of log(N_c + 1), in the shape of `shares`."""
    return shares / (expected[classes] + 1)
