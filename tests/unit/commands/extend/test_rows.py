"""Rows and scales of new classes, against the definitions."""

from __future__ import annotations

import numpy as np
import pytest

from lpt.commands.extend.rows import (
    HeldOut,
    NewClasses,
    fitting_factor,
    known_pictures,
    left_out,
    new_rows,
    shot_scales,
)
from lpt.data.manifest import FloatArray

DRAWS = np.random.default_rng(0)
OLD, WIDTH = 6, 8


def directions(count: int) -> FloatArray:
    vectors = DRAWS.normal(size=(count, WIDTH)) + 0.5
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


@pytest.fixture
def new() -> NewClasses:
    """Three classes of 1, 2 and 5 pictures, in any order."""
    labels = DRAWS.permutation(np.repeat([0, 1, 2], [1, 2, 5]))
    features = directions(len(labels)).astype(np.float32)
    return NewClasses(features, labels, (features @ directions(OLD).T).astype(np.float32))


def test_a_picture_is_judged_without_itself(new: NewClasses) -> None:
    """The rows are computed anew, without the picture, from the definition."""
    held = left_out(new)
    judged = [number for number, label in enumerate(new.labels) if (new.labels == label).sum() > 1]
    assert len(held.labels) == len(judged) == 7
    for place, number in enumerate(judged):
        rest = np.delete(np.arange(len(new.labels)), number)
        without = NewClasses(new.features[rest], new.labels[rest], new.old_scores[rest])
        scores = shot_scales(without.counts) * (new_rows(without) @ new.features[number].astype(np.float64))
        assert held.new[place] == pytest.approx(scores.max())
        assert held.own[place] == (scores.argmax() == new.labels[number])
        assert held.old[place] == new.old_scores[number].max()


def test_a_class_of_one_picture_is_its_feature(new: NewClasses) -> None:
    only = new.features[new.labels == 0][0]
    np.testing.assert_allclose(new_rows(new)[0], only, atol=1e-7)
    assert shot_scales(np.array([1, 4, 10**9])) == pytest.approx([0.855, 0.7375, 0.62], abs=1e-4)


@pytest.mark.parametrize("classes", [1, 3])
def test_new_classes_get_their_share(classes: int) -> None:
    """If classes were equally frequent, as many pictures would go to the new ones as belong there."""
    labels = np.concatenate([np.full(40, 0), np.full(400, 1), np.full(200, 2)])
    known = HeldOut(DRAWS.uniform(0.2, 0.8, 640), DRAWS.uniform(0.2, 0.9, 640), labels, labels < 0)
    own = np.repeat(np.arange(classes), 100)
    held = HeldOut(DRAWS.uniform(0.1, 0.5, len(own)), DRAWS.uniform(0.4, 1, len(own)), own, own >= 0)
    factor = fitting_factor(known, held, OLD, classes)
    goes, stays = factor * known.new > known.old, factor * held.new > held.old
    share = classes / (OLD + classes)
    given = (1 - share) * np.mean([goes[labels == label].mean() for label in range(3)]) + share * stays.mean()
    assert given == pytest.approx(share, abs=0.01)
    assert 0.1 < stays.mean() < 0.999


def test_scores_without_a_sign_leave_the_factor_within_bounds(new: NewClasses) -> None:
    """Pictures that no new class can take, or that no old class holds, do not make the factor infinite or 0."""
    none = HeldOut(np.ones(3), np.full(3, -0.5), np.arange(3), np.zeros(3, dtype=bool))
    all_of_them = HeldOut(np.full(3, -0.5), np.ones(3), np.arange(3), np.ones(3, dtype=bool))
    assert fitting_factor(none, none, OLD, 1) == 4
    assert fitting_factor(all_of_them, all_of_them, OLD, 1) == 0.25
    scores = known_pictures(new, new.features, new.labels, new.old_scores)
    assert scores.new.shape == scores.old.shape == (len(new.labels),)
