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


DUPLICATE = 0.1
"""Two pictures count as near-duplicates up to this share of the mean cosine distance between all of them."""
TRUST = 0.3
"""How much the class frequencies of the training images count, as a share of the pictures to choose from."""
_PASSES = 50
_ROUNDING = 1e-12
_ROUNDED_COSINE = 1e-5


def choose_next(guesses: Guesses, features: Float32Array, counts: IntArray, number: int) -> list[Chosen]:
    """Choose pictures to label, the most useful first; all where there are no more.

    With r_c the probability of class c among the pictures to choose from (`pool_shares`), and N_c the images of the
    class so far, those that are expected from chosen pictures included:

        gain = sum over c of r_c (1 - r_c) / (N_c + 1)

    r_c (1 - r_c) is the variance of what the label says about class c: a sure guess teaches nothing, whatever its
    class. The slope of log(N_c + 1) makes a class count the more, the fewer images it has. The most useful picture is
    taken again and again. Gains only shrink, so one that was computed earlier is an upper bound, and few are computed
    anew. Near-duplicates of a chosen picture are passed over.

    Args:
        guesses: probabilities of the pack as if all classes were equally frequent.
        features: features of the pictures, of unit length, [n, D].
        counts: training images of each class, [C].
        number: pictures to choose.
    """
    shares = pool_shares(guesses, counts)
    expected = np.asarray(counts, dtype=np.float64)
    alike = _least_cosine(features)
    waiting = [(-float(gain), row) for row, gain in enumerate(_gains(guesses.classes, shares, expected).sum(axis=1))]
    heapq.heapify(waiting)
    chosen: list[Chosen] = []
    taken = np.zeros((min(number, len(waiting)), features.shape[1]), dtype=np.float32)
    while waiting and len(chosen) < number:
        _, row = heapq.heappop(waiting)
        if chosen and float((taken[: len(chosen)] @ features[row]).max()) >= alike:
            continue
        gains = _gains(guesses.classes[row], shares[row], expected)
        if waiting and gains.sum() < -waiting[0][0] - _ROUNDING:
            heapq.heappush(waiting, (-float(gains.sum()), row))
            continue
        taken[len(chosen)] = features[row]
        chosen.append(Chosen(row, float(gains.sum()), int(guesses.classes[row, gains.argmax()])))
        np.add.at(expected, guesses.classes[row], shares[row])
    return chosen


def pool_shares(guesses: Guesses, counts: IntArray) -> FloatArray:
    """Return the probabilities of the guesses under the class frequencies of these very pictures, [n, K].

    The frequencies are estimated by expectation-maximisation (Saerens et al., Neural Computation 2002). Those of the
    training images are where it starts, and count as `TRUST` times as many pictures: the pictures to choose from are
    mostly of the same origin, and a class is never ruled out. Rows sum to 1.

    Args:
        guesses: probabilities as if all classes were equally frequent.
        counts: training images of each class, [C].
    """
    likelihoods = np.asarray(guesses.shares, dtype=np.float64)
    trained = (np.asarray(counts, dtype=np.float64) + 1) / (np.sum(counts) + len(counts))
    frequencies, shares = trained, likelihoods
    for _ in range(_PASSES):
        shares = likelihoods * frequencies[guesses.classes]
        shares = shares / np.maximum(shares.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        pictures = np.bincount(guesses.classes.ravel(), weights=shares.ravel(), minlength=len(counts))
        sums = pictures + TRUST * len(likelihoods) * trained
        frequencies = sums / max(sums.sum(), np.finfo(np.float64).tiny)
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
    """Return what each guess adds: its variance times the slope of log(N_c + 1), in the shape of `shares`."""
    return shares * (1 - shares) / (expected[classes] + 1)


def _least_cosine(features: Float32Array) -> float:
    """Return the cosine from which features count as near-duplicates: how alike all are depends on the backbone."""
    mean = features.mean(axis=0, dtype=np.float64) if len(features) else np.zeros(features.shape[1])
    return 1 - max(DUPLICATE * (1 - float(mean @ mean)), _ROUNDED_COSINE)
