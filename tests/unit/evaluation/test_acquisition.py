"""Which pictures are chosen: rare classes first, no more of a class than it needs, nothing twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpt.data.longtail import ShotGroups
from lpt.evaluation.acquisition import Guesses, choose_next, pool_shares, suggest


def guesses_of(table: np.ndarray) -> Guesses:
    """The guesses of a whole table of probabilities, [n, C]."""
    order = np.argsort(-table, axis=1, kind="stable")
    return Guesses(order, np.take_along_axis(table, order, axis=1).astype(np.float32))


def apart(number: int) -> np.ndarray:
    """Features of which none is like another."""
    return np.eye(number, dtype=np.float32)


def value(shares: np.ndarray, classes: np.ndarray, counts: np.ndarray, rows: list[int]) -> float:
    """What labelled pictures are worth, written down independently: sum of log(N_c + 1)."""
    expected = counts.astype(np.float64).copy()
    for row in rows:
        for label, share in zip(classes[row], shares[row], strict=True):
            expected[label] += share
    return float(np.log(expected + 1).sum())


def test_sure_pictures_fill_the_rarest_classes_up_evenly() -> None:
    """With certain guesses the counts 0, 2 and 50 become 3, 3 and 50 by four pictures, the emptiest class first."""
    labels = np.repeat([0, 1, 2], 10)
    chosen = choose_next(guesses_of(np.eye(3)[labels]), apart(30), np.array([50, 0, 2]), 4)
    assert sorted(labels[[each.row for each in chosen]].tolist()) == [1, 1, 1, 2]
    assert labels[chosen[0].row] == chosen[0].sought == 1
    gains = [each.gain for each in chosen]
    assert gains == sorted(gains, reverse=True)
    np.testing.assert_allclose(gains, [1, 1 / 2, 1 / 3, 1 / 3])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_every_choice_is_the_best_at_its_turn(seed: int) -> None:
    """The lazy search finds what an exhaustive one does."""
    random = np.random.default_rng(seed)
    table, counts = random.dirichlet(np.full(5, 0.4), 30), random.integers(0, 40, 5)
    guesses = guesses_of(table)
    shares = pool_shares(guesses, 5)
    rows: list[int] = []
    for each in choose_next(guesses, apart(30), counts, 6):
        slopes = counts + sum((np.bincount(guesses.classes[row], shares[row], 5) for row in rows), np.zeros(5))
        gains = (shares / (slopes[guesses.classes] + 1)).sum(axis=1)
        gains[rows] = 0
        assert each.gain == pytest.approx(gains.max())
        assert value(shares, guesses.classes, counts, [*rows, each.row]) > value(shares, guesses.classes, counts, rows)
        rows.append(each.row)


def test_near_duplicates_are_chosen_once() -> None:
    """Ten copies of the best picture, and three others."""
    table = np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 3)
    features = np.concatenate([np.tile(apart(4)[0], (10, 1)), apart(4)[1:]])
    chosen = [each.row for each in choose_next(guesses_of(table), features, np.array([1, 90]), 100)]
    assert len(chosen) == 4
    assert len({*chosen} & {*range(10)}) == 1


def test_class_frequencies_of_the_pool_are_found() -> None:
    """Probabilities for even classes from two overlapping normal distributions; one class is twenty times the other."""
    random = np.random.default_rng(0)
    labels = (random.random(20_000) < 1 / 21).astype(int)
    place = random.normal(2.0 * labels)
    ratio = np.exp(2.0 * place - 2.0)  # density under class 1 over that under class 0
    guesses = guesses_of(np.stack([1 / (1 + ratio), ratio / (1 + ratio)], axis=1))
    shares = pool_shares(guesses, 2)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert shares[guesses.classes == 1].mean() == pytest.approx(1 / 21, rel=0.1)
    assert guesses.shares[guesses.classes == 1].mean() > 3 / 21  # what it was before


@pytest.mark.parametrize(("pictures", "number", "expected"), [(0, 5, 0), (3, 5, 3), (5, 5, 5), (9, 5, 5)])
def test_all_are_chosen_where_there_are_no_more(pictures: int, number: int, expected: int) -> None:
    table = np.random.default_rng(1).dirichlet(np.ones(3), pictures)
    chosen = choose_next(guesses_of(table), np.eye(max(pictures, 1), dtype=np.float32)[:pictures], np.ones(3), number)
    assert len(chosen) == expected == len({each.row for each in chosen})


def test_a_suggestion_names_what_it_was_chosen_for() -> None:
    """Not the first guess, if the second is so rare that it counts more."""
    table, counts = np.array([[0.6, 0.3, 0.1]]), np.array([500, 3, 40])
    guesses = guesses_of(table)
    (shown,) = suggest(
        choose_next(guesses, apart(1), counts, 1), guesses, ["a.jpg"], ["T-shirt", "=cmd", "Hat"], counts, ShotGroups()
    )
    assert (shown.image, shown.guess, shown.second_guess, shown.chosen_for) == ("a.jpg", "T-shirt", "=cmd", "=cmd")
    assert shown.rare_mass == pytest.approx(0.3)
