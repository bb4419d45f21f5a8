"""Paired differences: values by hand, variances known from the binomial, and what must hold for any input."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpt.data.longtail import ShotGroups, long_tailed_counts
from lpt.errors import DataError
from lpt.evaluation import paired
from lpt.evaluation.metrics import ACCURACIES, measure
from lpt.evaluation.paired import SeedPair, paired_differences

GROUPS = ShotGroups()


def pair(labels: np.ndarray, first: np.ndarray, second: np.ndarray, counts: object, seed: int = 0) -> SeedPair:
    """First and second: whether each image is right, [n]; a wrong one is taken for the next class."""
    counts = np.asarray(counts)
    wrong = (labels + 1) % len(counts)
    images = [f"{index}.jpg" for index in range(len(labels))]
    return SeedPair(seed, images, labels, np.where(first, labels, wrong), np.where(second, labels, wrong), counts)


def random_pair(rng: np.random.Generator, labels: np.ndarray, counts: object, seed: int = 0) -> SeedPair:
    return pair(labels, rng.random(len(labels)) < 0.7, rng.random(len(labels)) < 0.5, counts, seed)


def test_values_by_hand() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1])
    first_seed = pair(labels, np.array([1, 1, 1, 0, 1, 1]) > 0, np.array([0, 1, 1, 1, 0, 0]) > 0, [500, 5])
    other = pair(labels, np.array([1, 1, 1, 1, 1, 0]) > 0, np.array([0, 0, 1, 1, 0, 1]) > 0, [500, 5], seed=4)
    result = paired_differences([first_seed, other], GROUPS)
    assert result.seeds == (0, 4)
    assert set(result.measures) == {"overall", "mean_per_class", "many", "few"}  # there is no medium class
    assert result.measures["overall"].by_seed == pytest.approx((2 / 6, 2 / 6))
    assert result.measures["many"].by_seed == pytest.approx((0, 0.5))
    assert result.measures["few"].by_seed == pytest.approx((1, 0))
    assert result.measures["few"].mean == pytest.approx(0.5)
    assert result.measures["few"].seed_std == pytest.approx(np.sqrt(0.5))
    assert result.measures["mean_per_class"].by_seed == pytest.approx((0.5, 0.25))
    json.dumps(result.to_dict(), allow_nan=False)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 8), st.integers(1, 40), st.integers(1, 3))
def test_means_are_differences_of_the_metrics(seed: int, classes: int, images: int, seeds: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    pairs = [random_pair(rng, labels, rng.integers(0, 200, classes), s) for s in range(seeds)]
    result = paired_differences(pairs, GROUPS, resamples=20)
    for name in ACCURACIES:
        values = [
            [
                getattr(measure(labels, predicted, seed_pair.train_counts, GROUPS), name)
                for predicted in (seed_pair.first, seed_pair.second)
            ]
            for seed_pair in pairs
        ]
        known = [a - b for a, b in values if a is not None]
        assert (name in result.measures) == bool(known)
        if known:
            assert result.measures[name].mean == pytest.approx(np.mean(known), abs=1e-12)
            low, high = result.measures[name].low, result.measures[name].high
            assert (low is None) == (high is None)
            assert low is None or -1 - 1e-9 <= low <= high <= 1 + 1e-9  # type: ignore[operator]


def test_width_is_that_of_the_binomial() -> None:
    """One class, the second method never right: the difference is a share, of standard error sqrt(p (1 - p) / n)."""
    n, p = 4000, 0.3
    result = paired_differences(
        [pair(np.zeros(n, dtype=int), np.arange(n) < p * n, np.zeros(n, dtype=bool), [500, 500])],
        GROUPS,
        resamples=8000,
    )
    difference = result.measures["overall"]
    assert difference.mean == pytest.approx(p)
    assert difference.low is not None
    assert difference.high is not None
    half = 1.96 * np.sqrt(p * (1 - p) / n)
    assert (difference.low, difference.high) == pytest.approx((p - half, p + half), abs=0.06 * half)


@pytest.mark.parametrize("images", [2, 3, 5])
def test_variance_of_small_classes_is_not_too_small(images: int) -> None:
    """Of many classes of few images, the interval has the width of the true standard error."""
    rng = np.random.default_rng(0)
    classes = 3000
    labels = np.repeat(np.arange(classes), images)
    both = pair(labels, rng.random(len(labels)) < 0.4, np.zeros(len(labels), dtype=bool), np.full(classes, 5))
    result = paired_differences([both], GROUPS, resamples=1500).measures["few"]
    assert result.low is not None
    assert result.high is not None
    assert result.high - result.low == pytest.approx(2 * 1.96 * np.sqrt(0.4 * 0.6 / len(labels)), rel=0.1)


def test_classes_of_a_single_image_are_resampled_together() -> None:
    labels = np.arange(400)
    both = pair(labels, labels % 4 > 0, np.zeros(400, dtype=bool), np.full(400, 5))
    result = paired_differences([both], GROUPS).measures["few"]
    assert result.low is not None
    assert result.high is not None
    assert result.high - result.low == pytest.approx(2 * 1.96 * np.sqrt(0.75 * 0.25 / 400), rel=0.1)


def test_a_single_image_gives_no_interval() -> None:
    result = paired_differences([pair(np.array([0, 1, 1, 1]), np.ones(4) > 0, np.zeros(4) > 0, [5, 500])], GROUPS)
    assert (result.measures["few"].mean, result.measures["few"].low, result.measures["few"].high) == (1, None, None)
    assert result.measures["many"].low == 1


def test_pairing_counts() -> None:
    """Two methods that err on the same images differ far more surely than two with the same rates that do not."""
    rng = np.random.default_rng(0)
    labels = np.zeros(5000, dtype=int)
    hard = rng.random(5000)
    alike = paired_differences([pair(labels, hard < 0.62, hard < 0.6, [500, 5])], GROUPS).measures["overall"]
    apart = paired_differences([pair(labels, hard < 0.62, rng.random(5000) < 0.6, [500, 5])], GROUPS)
    overall = apart.measures["overall"]
    assert alike.high - alike.low < 0.4 * (overall.high - overall.low)  # type: ignore[operator]


def test_all_seeds_share_a_resample() -> None:
    """Three equal seeds say no more about other images than one; three independent ones do."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 100)
    counts = long_tailed_counts(10, 500, 100)
    first = random_pair(rng, labels, counts)
    single, equal, free = (
        paired_differences(pairs, GROUPS, resamples=4000).measures["overall"]
        for pairs in (
            [first],
            [first, first, first],
            [random_pair(rng, labels, counts, s) for s in range(3)],
        )
    )
    widths = [float(value.high or 0) - float(value.low or 0) for value in (single, equal, free)]
    assert widths[1] == pytest.approx(widths[0], rel=0.06)
    assert widths[2] == pytest.approx(widths[0] / np.sqrt(3), rel=0.12)
    assert equal.seed_std == pytest.approx(0)
    assert single.seed_std is None


@pytest.mark.parametrize("shuffled", [True, False])
def test_seeds_with_other_test_images_are_not_taken_for_independent(shuffled: bool) -> None:
    """Other images are told by their labels, or by their names where these are the same: a cut by the seed."""
    rng = np.random.default_rng(0)
    counts, labels = long_tailed_counts(10, 500, 100), np.repeat(np.arange(10), 100)
    pairs = [random_pair(rng, rng.permutation(labels) if shuffled else labels, counts, s) for s in range(3)]
    if not shuffled:
        pairs = [
            replace(seed_pair, images=[f"{seed_pair.seed}{name}" for name in seed_pair.images]) for seed_pair in pairs
        ]
    whole = paired_differences(pairs, GROUPS)
    alone = [paired_differences([seed_pair], GROUPS).measures["few"] for seed_pair in pairs]
    assert not whole.same_images
    few = whole.measures["few"]
    assert few.low == pytest.approx(np.mean([interval.low for interval in alone]), abs=0.01)
    assert few.high == pytest.approx(np.mean([interval.high for interval in alone]), abs=0.01)


def test_identical_methods_differ_by_nothing() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 20, 500)
    right = rng.random(500) < 0.5
    result = paired_differences([pair(labels, right, right, np.arange(1, 201, 10), s) for s in range(2)], GROUPS)
    for difference in result.measures.values():
        assert (difference.mean, difference.low, difference.high, difference.seed_std) == (0, 0, 0, 0)


def test_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    pairs = [random_pair(rng, rng.integers(0, 30, 900), long_tailed_counts(30, 500, 100))]
    result = paired_differences(pairs, GROUPS)
    assert paired_differences(pairs, GROUPS) == result
    assert paired_differences(pairs, GROUPS, seed=1) != result
    monkeypatch.setattr(paired, "_DRAWS", 1000)  # however many are drawn at a time
    assert paired_differences(pairs, GROUPS) == result


def test_coverage() -> None:
    """Of 200 simulated test sets about 95 % have an interval that holds the true difference."""
    rng = np.random.default_rng(0)
    labels, counts = np.repeat(np.arange(20), 15), long_tailed_counts(20, 500, 100)
    hits = 0
    for _ in range(200):
        difference = paired_differences([random_pair(rng, labels, counts)], GROUPS, resamples=300).measures["overall"]
        assert difference.low is not None
        assert difference.high is not None
        hits += difference.low <= 0.2 <= difference.high
    assert 180 <= hits <= 199


def test_fast_enough_for_a_large_test_set() -> None:
    rng = np.random.default_rng(0)
    labels, counts = np.repeat(np.arange(100), 100), long_tailed_counts(100, 500, 100)
    pairs = [random_pair(rng, labels, counts, s) for s in range(3)]
    started = time.process_time()
    paired_differences(pairs, GROUPS, resamples=2000)
    assert time.process_time() - started < 8


def test_groups_may_differ_between_seeds() -> None:
    labels = np.repeat(np.arange(2), 50)
    pairs = [
        pair(labels, labels == 0, labels == 2, [500, 5], seed=0),
        pair(labels, labels == 0, labels == 2, [500, 50], seed=1),
    ]
    result = paired_differences(pairs, GROUPS)
    assert result.measures["few"].by_seed == (0, None)
    assert result.measures["medium"].by_seed == (None, 0)
    assert result.measures["many"].mean == pytest.approx(1)


def test_refused() -> None:
    good = pair(np.array([0, 1]), np.ones(2) > 0, np.ones(2) > 0, [5, 5])
    with pytest.raises(DataError, match="at least one seed"):
        paired_differences([], GROUPS)
    for change, message in (
        ({"second": np.array([0])}, "seed 0: labels and both predictions"),
        ({"train_counts": np.array([5])}, "run from 0 to 1"),
        ({name: np.array([], dtype=int) for name in ("images", "labels", "first", "second")}, "no test image"),
    ):
        with pytest.raises(DataError, match=message):
            paired_differences([SeedPair(**{**good.__dict__, **change})], GROUPS)
