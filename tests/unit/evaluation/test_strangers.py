"""Known images against strangers: the measures against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpt.data.longtail import ShotGroups
from lpt.errors import DataError
from lpt.evaluation.strangers import accepted_strangers, auroc, keeping_threshold, kept_shares, known_scores

VALUES = st.lists(st.integers(-5, 5), min_size=1, max_size=30)


@given(VALUES, VALUES)
def test_auroc_is_the_share_of_pairs_in_the_right_order(known: list[int], strangers: list[int]) -> None:
    pairs = [(first > second) + 0.5 * (first == second) for first in known for second in strangers]
    assert auroc(known, strangers) == pytest.approx(sum(pairs) / len(pairs))


@given(VALUES, st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]))
def test_a_threshold_keeps_its_share_and_no_higher_score_does(values: list[int], keep: float) -> None:
    threshold = keeping_threshold(values, keep)
    scores = np.array(values)
    assert threshold in scores
    assert (scores >= threshold).sum() >= keep * len(scores) - 1e-9
    higher = scores[scores > threshold]
    if len(higher):
        assert (scores >= higher.min()).sum() < keep * len(scores)


def test_of_twenty_images_95_percent_are_nineteen() -> None:
    assert keeping_threshold(range(20), 0.95) == 1
    assert keeping_threshold(range(19), 0.95) == 0
    assert accepted_strangers(range(20), [0, 1, 2, -3]) == 0.5


def test_a_side_without_images_has_no_auroc() -> None:
    with pytest.raises(DataError, match="at least one known image and one stranger"):
        auroc([0.5], [])


def test_the_score_is_the_largest_cosine_in_float64() -> None:
    scores = np.array([[0.25, -1, 0.125], [-0.5, -0.25, -0.75]], dtype=np.float32)
    assert known_scores(scores).tolist() == [0.25, -0.25]
    assert known_scores(scores).dtype == np.float64


def test_shares_of_groups_are_means_over_their_classes() -> None:
    """Classes of 150, 30, 5 and 3 training images; the last one has no image here, and no image is medium."""
    labels = np.array([0, 0, 0, 0, 2, 2])
    shares = kept_shares([True, True, True, False, False, True], labels, [150, 30, 5, 3], ShotGroups())
    assert shares.overall == pytest.approx(4 / 6)
    assert shares.mean_per_class == pytest.approx((0.75 + 0.5) / 2)
    assert shares.groups == (0.75, None, 0.5)
