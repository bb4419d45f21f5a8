"""Confused pairs, calibration bins, loss curves and intervals against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from lpt.data.longtail import ShotGroups
from lpt.evaluation.confusion import confused_pairs
from lpt.evaluation.curves import loss_curves
from lpt.evaluation.intervals import SeedResult, accuracy_intervals
from lpt.evaluation.metrics import calibration_error, measure
from lpt.evaluation.reliability import reliability

GROUPS = ShotGroups()


def test_pairs_are_counted_and_rare_classes_come_first() -> None:
    counts = np.array([500, 50, 5, 4])
    labels = np.array([0] * 10 + [1] * 4 + [2] * 4 + [3] * 3)
    predicted = np.array([1] * 9 + [0] + [1, 1, 2, 2] + [2, 0, 0, 1] + [3, 1, 1])
    pairs = [(p.true, p.predicted, p.images, p.tested) for p in confused_pairs(labels, predicted, counts, GROUPS)]
    assert pairs == [(3, 1, 2, 3), (2, 0, 2, 4), (1, 2, 2, 4), (0, 1, 9, 10), (2, 1, 1, 4)]


def test_pairs_are_those_of_a_loop_and_no_more_than_asked_for() -> None:
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 9, 400), rng.integers(0, 9, 400)
    wanted = {
        (t, p): int(((labels == t) & (predicted == p)).sum()) for t in range(9) for p in range(9) if t != p
    }  # fmt: skip
    counts = np.full(9, 30)
    every = confused_pairs(labels, predicted, counts, GROUPS, most=1000)
    assert {(p.true, p.predicted): p.images for p in every} == {key: n for key, n in wanted.items() if n}
    assert confused_pairs(labels, predicted, counts, GROUPS, most=7) == every[:7]
    assert confused_pairs(labels, labels, counts, GROUPS) == []


def test_calibration_bins_sum_up_to_the_calibration_error() -> None:
    rng = np.random.default_rng(0)
    probability = rng.uniform(0, 1, 500)
    right = rng.random(500) < probability**2
    bins = reliability(right, probability)
    assert sum(b.images for b in bins) == 500
    assert all(b.low < b.confidence <= b.high for b in bins)
    error = sum(b.images * abs(b.accuracy - b.confidence) for b in bins) / 500
    assert error == pytest.approx(calibration_error(right, probability))


def test_intervals_hold_the_measured_accuracies() -> None:
    rng = np.random.default_rng(0)
    counts = np.repeat([500, 50, 5], 4)
    labels = np.repeat(np.arange(12), 30)
    predicted = np.where(rng.random(360) < 0.7, labels, (labels + 1) % 12)
    result = SeedResult(0, [str(i) for i in range(360)], labels, predicted, counts)
    intervals, metrics = accuracy_intervals([result], GROUPS), measure(labels, predicted, counts, GROUPS)
    for name, value in intervals.items():
        assert value.mean == pytest.approx(getattr(metrics, name))
        assert value.low < value.mean < value.high
    width = intervals["overall"].high - intervals["overall"].low
    assert width == pytest.approx(2 * 1.96 * np.sqrt(0.7 * 0.3 / 360), rel=0.25)


def test_loss_curves_are_means_of_the_steps_that_count() -> None:
    def step(phase: int, number: int, loss: float) -> dict[str, float | None]:
        return dict(phase=phase, epoch=number // 100, step=number, loss=loss, balanced=2 * loss, instance=None)

    records = [step(1, t, 9.0) for t in range(50)] + [step(1, t, float(t)) for t in range(400)]  # a resumed run
    first, second = loss_curves([*records, step(2, 0, 1.0)])
    assert (first.phase, first.epochs, first.steps, len(first.centres)) == (1, 4, 400, 80)
    assert first.values["loss"][:2] == [2.0, 7.0]
    assert first.centres[:2] == [3.0, 8.0]
    assert set(first.values) == {"loss", "balanced"}
    assert (second.steps, list(second.values["balanced"])) == (1, [2.0])
    assert loss_curves([]) == []
