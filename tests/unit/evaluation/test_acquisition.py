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


def test_equal_doubts_fill_the_rarest_classes_up_evenly() -> None:
    """Every picture is of its class with probability 0.6, and otherwise of one that has thousands."""
    labels = np.repeat([0, 1, 2], 10)
    table = 0.6 * np.eye(4)[labels] + 0.4 * np.eye(4)[3]
    guesses = guesses_of(table)
    counts = np.array([50, 0, 2, 100_000])
    shares = pool_shares(guesses, counts)
    chosen = choose_next(guesses, apart(30), counts, 8)
    picked = labels[[each.row for each in chosen]].tolist()
    assert picked[0] == chosen[0].sought == 1
    assert 0 not in picked
    assert picked.count(1) > picked.count(2) > 0
    gains = [each.gain for each in chosen]
    assert gains == sorted(gains, reverse=True)
    first = np.sort(shares[chosen[0].row])[::-1][:2]
    assert gains[0] == pytest.approx((first * (1 - first) / (counts[guesses.classes[chosen[0].row, :2]] + 1)).sum())


def test_a_sure_guess_teaches_nothing() -> None:
    """Of a rare class the most doubtful picture comes first; one without doubt comes last, behind frequent classes."""
    table = np.array([[0.0, 0.02, 0.98], [0.0, 0.001, 0.999], [0.4, 0.6, 0.0], [0.0, 0.5, 0.5]])
    chosen = choose_next(guesses_of(table), apart(4), np.array([300, 300, 3]), 4)
    assert [each.row for each in chosen] == [3, 0, 2, 1]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_every_choice_is_the_best_at_its_turn(seed: int) -> None:
    """The lazy search chooses what an exhaustive one does."""
    random = np.random.default_rng(seed)
    table, counts = random.dirichlet(np.full(5, 0.4), 30), random.integers(0, 40, 5)
    guesses = guesses_of(table)
    shares = pool_shares(guesses, counts)
    rows: list[int] = []
    for each in choose_next(guesses, apart(30), counts, 6):
        expected = counts.astype(np.float64)
        for row in rows:
            for label, share in zip(guesses.classes[row], shares[row], strict=True):
                expected[label] += share
        gains = (shares * (1 - shares) / (expected[guesses.classes] + 1)).sum(axis=1)
        gains[rows] = 0
        assert each.gain == pytest.approx(gains.max())
        rows.append(each.row)
    assert len({*rows}) == 6


@pytest.mark.parametrize("common", [0.0, 0.9])
def test_near_duplicates_are_chosen_once(common: float) -> None:
    """Ten almost equal copies of the best picture, and three others; also where all features have much in common."""
    table = np.array([[0.5, 0.5]] * 10 + [[0.9, 0.1]] * 3)
    random = np.random.default_rng(0)
    features = np.concatenate([np.tile(np.eye(4)[0], (10, 1)) + 0.01 * random.normal(size=(10, 4)), np.eye(4)[1:]])
    features = features * np.sqrt(1 - common)
    features = np.concatenate([features, np.full((13, 1), np.sqrt(common))], axis=1)
    features = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    chosen = [each.row for each in choose_next(guesses_of(table), features, np.array([1, 90]), 100)]
    assert chosen[0] < 10
    assert sorted(chosen[1:]) == [10, 11, 12]


def test_class_frequencies_of_the_pool_are_estimated() -> None:
    """Two overlapping normal distributions; a class of a third of the training images has one picture in 21 here."""
    random = np.random.default_rng(0)
    labels = (random.random(20_000) < 1 / 21).astype(int)
    place = random.normal(2.0 * labels)
    ratio = np.exp(2.0 * place - 2.0)  # density under class 1 over that under class 0
    guesses = guesses_of(np.stack([1 / (1 + ratio), ratio / (1 + ratio)], axis=1))

    def frequency(counts: list[int]) -> float:
        shares = pool_shares(guesses, np.array(counts))
        np.testing.assert_allclose(shares.sum(axis=1), 1)
        return float(shares[guesses.classes == 1].mean())

    assert guesses.shares[guesses.classes == 1].mean() > 3 / 21  # as if both were equally frequent
    assert frequency([2000, 100]) == pytest.approx(1 / 21, rel=0.1)
    assert 1 / 21 < frequency([200, 100]) < 1 / 6  # drawn towards the training images, by less than half


@pytest.mark.parametrize(("pictures", "number", "expected"), [(0, 5, 0), (3, 5, 3), (5, 5, 5), (9, 5, 5)])
def test_all_are_chosen_where_there_are_no_more(pictures: int, number: int, expected: int) -> None:
    table = np.random.default_rng(1).dirichlet(np.ones(3), pictures)
    chosen = choose_next(
        guesses_of(table), np.eye(max(pictures, 1), dtype=np.float32)[:pictures], np.ones(3, dtype=np.int64), number
    )
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
