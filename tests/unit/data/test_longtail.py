"""Counts, shot groups and cuts, as DESIGN section 6 fixes them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpt.data.longtail import (
    ShotGroups,
    class_counts,
    hold_out_per_class,
    imbalance_factor,
    long_tailed_counts,
    long_tailed_indices,
    stratified_validation,
)
from lpt.errors import ConfigError, DataError

label_lists = st.lists(st.integers(0, 7), min_size=1, max_size=200).map(lambda values: np.array(values, dtype=np.int64))
seeds = st.integers(0, 2**40)


def test_cifar_100_lt_has_10847_images() -> None:
    counts = long_tailed_counts(100, 500, 100)
    assert (counts.sum(), counts[0], counts[-1]) == (10_847, 500, 5)
    labels = np.repeat(np.arange(100), 500)
    kept = long_tailed_indices(labels, 100, seed=0)
    assert (class_counts(labels[kept]) == counts).all()


def test_development_cut_of_450() -> None:
    assert long_tailed_counts(100, 450, 100)[[0, -1]].tolist() == [450, 4]


@given(classes=st.integers(2, 12), n_max=st.integers(1, 5000), imbalance=st.integers(1, 300))
def test_counts_are_the_exact_floor(classes: int, n_max: int, imbalance: int) -> None:
    """The count floor(n * IF^(-c/(C-1))) is the largest k with k^(C-1) * IF^c <= n^(C-1), in whole numbers."""
    if imbalance > n_max:
        with pytest.raises(DataError, match="at most"):
            long_tailed_counts(classes, n_max, imbalance)
        return
    for c, k in enumerate(long_tailed_counts(classes, n_max, imbalance).tolist()):
        power = classes - 1
        assert k**power * imbalance**c <= n_max**power < (k + 1) ** power * imbalance**c


def test_counts_of_one_class_and_of_a_fractional_imbalance() -> None:
    assert long_tailed_counts(1, 7, 50).tolist() == [7]
    assert long_tailed_counts(3, 10, float(Fraction(5, 2))).tolist() == [10, 6, 4]
    for bad in (0.5, float("nan"), float("inf")):
        with pytest.raises(DataError, match="from 1 up"):
            long_tailed_counts(3, 10, bad)


@given(labels=label_lists, seed=seeds, n_max=st.integers(1, 5))
def test_the_cut_keeps_what_it_says_or_names_the_class_that_is_short(labels: np.ndarray, seed: int, n_max: int) -> None:
    have = class_counts(labels)
    want = long_tailed_counts(len(have), n_max, 1)
    if (have < want).any():
        with pytest.raises(DataError, match=f"class {np.flatnonzero(have < want)[0]}: has"):
            long_tailed_indices(labels, 1, n_max=n_max, seed=seed)
        return
    kept = long_tailed_indices(labels, 1, n_max=n_max, seed=seed)
    assert kept.dtype == np.int64
    assert (np.diff(kept) > 0).all()
    assert (class_counts(labels[kept], len(have)) == want).all()


@given(seed=seeds)
@settings(max_examples=20)
def test_a_stronger_cut_is_part_of_a_weaker_one(seed: int) -> None:
    labels = np.tile(np.arange(5), 40)
    weak, strong = (long_tailed_indices(labels, imbalance, seed=seed) for imbalance in (4, 20))
    assert np.isin(strong, weak).all()


def test_the_choice_depends_on_the_seed_and_nothing_else() -> None:
    labels = np.repeat(np.arange(4), 50)
    first = long_tailed_indices(labels, 10, seed=1)
    assert (first == long_tailed_indices(labels, 10, seed=1)).all()
    assert (first != long_tailed_indices(labels, 10, seed=2)).any()
    # numpy's draws are part of what is stored of a run: a change of them must not go unnoticed.
    assert long_tailed_indices(labels, 25, seed=0)[-5:].tolist() == [122, 133, 141, 182, 187]


def test_a_class_without_images_is_named() -> None:
    with pytest.raises(DataError, match=r"class 2 \(owl\): has 0, the cut keeps 1"):
        long_tailed_indices(np.array([0, 0, 1]), 2, seed=0, class_names=["ant", "bee", "owl"])
    with pytest.raises(DataError, match="empty"):
        long_tailed_indices(np.array([], dtype=np.int64), 2, seed=0)


@given(labels=label_lists, fraction=st.floats(0.01, 0.99), seed=seeds)
def test_validation_takes_the_share_of_every_class(labels: np.ndarray, fraction: float, seed: int) -> None:
    have = class_counts(labels)
    expected = np.minimum(np.floor(have * fraction + 1e-9), np.maximum(have - 1, 0)).astype(int)
    if not expected.sum():
        with pytest.raises(DataError, match="takes no image"):
            stratified_validation(labels, fraction, seed)
        return
    train, held, too_small = stratified_validation(labels, fraction, seed)
    assert (np.sort(np.concatenate([train, held])) == np.arange(len(labels))).all()
    assert (class_counts(labels[held], len(have)) == expected).all()
    assert (class_counts(labels[train], len(have))[have > 0] > 0).all()
    assert too_small.tolist() == np.flatnonzero((have > 0) & (expected == 0)).tolist()


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 2.0])
def test_validation_wants_a_share(fraction: float) -> None:
    with pytest.raises(DataError, match="between 0 and 1"):
        stratified_validation(np.zeros(10, dtype=np.int64), fraction, 0)


@given(labels=label_lists, per_class=st.integers(1, 5), seed=seeds)
def test_hold_out(labels: np.ndarray, per_class: int, seed: int) -> None:
    have = class_counts(labels)
    if ((have > 0) & (have <= per_class)).any():
        with pytest.raises(DataError, match="too small"):
            hold_out_per_class(labels, per_class, seed)
        return
    rest, held = hold_out_per_class(labels, per_class, seed)
    assert (np.sort(np.concatenate([rest, held])) == np.arange(len(labels))).all()
    assert (class_counts(labels[held], len(have)) == np.where(have > 0, per_class, 0)).all()


def test_a_class_of_exactly_20_or_100_images_is_in_one_group() -> None:
    groups = ShotGroups()
    names = [groups.names[index] for index in groups.of([101, 100, 20, 19, 1, 0])]
    assert names == ["many", "medium", "medium", "few", "few", "few"]


@given(st.lists(st.integers(0, 300), max_size=40), st.integers(1, 50), st.integers(0, 100))
def test_every_class_is_in_the_group_its_boundaries_say(counts: list[int], few_below: int, width: int) -> None:
    groups = ShotGroups(few_below, few_below - 1 + width)
    for n, group in zip(counts, groups.of(counts), strict=True):
        assert (group == 0) == (n > groups.many_above)
        assert (group == 2) == (n < groups.few_below)


def test_boundaries_are_printed() -> None:
    assert ShotGroups().describe() == "many > 100, medium 20-100, few < 20"
    assert ShotGroups(5, 5).describe() == "many > 5, medium 5, few < 5"
    assert ShotGroups(6, 5).describe() == "many > 5, no medium, few < 6"
    with pytest.raises(ConfigError, match="few_below"):
        ShotGroups(7, 5)


def test_imbalance_factor_leaves_empty_classes_out() -> None:
    assert imbalance_factor([500, 0, 5]) == 100
    assert imbalance_factor([3, 3]) == 1
    with pytest.raises(DataError, match="without a single image"):
        imbalance_factor([0, 0])
