"""Confused pairs, calibration bins, loss curves and intervals against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from lpt.data.longtail import ShotGroups
from lpt.data.manifest import IntArray
from lpt.evaluation.confusion import confused_pairs
from lpt.evaluation.curves import loss_curves
from lpt.evaluation.intervals import SeedResult, accuracy_intervals
from lpt.evaluation.metrics import calibration_error, measure
from lpt.evaluation.reliability import reliability, wilson_interval

GROUPS = ShotGroups()


def test_the_largest_confusions_and_those_of_rare_classes_are_seen_at_once() -> None:
    counts = np.array([500, 50, 5, 4])
    labels = np.array([0] * 10 + [1] * 4 + [2] * 4 + [3] * 3)
    predicted = np.array([1] * 9 + [0] + [1, 1, 2, 2] + [2, 0, 0, 1] + [3, 1, 1])

    def lists(counts: IntArray, **limits: int) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]], int]:
        pairs = confused_pairs(labels, predicted, counts, GROUPS, **limits)
        largest, rare = ([tuple(pair) for pair in part] for part in pairs[:2])
        return largest, rare, pairs.group

    order = [(0, 1, 9, 10), (3, 1, 2, 3), (1, 2, 2, 4), (2, 0, 2, 4), (2, 1, 1, 4)]
    assert lists(counts) == (order, [], 2)
    assert lists(counts, first=1) == ([order[0], order[2]], [order[1], order[3], order[4]], 2)
    assert lists(counts, first=1, most=3) == ([order[0], order[2]], [order[1]], 2)
    assert lists(np.array([500, 50, 30, 20]), first=1)[1:] == (order[1:], 1)  # the rarest are medium-shot here
    assert lists(np.full(4, 9), first=1) == (order, [], 2)


def test_pairs_are_those_of_a_loop_and_no_more_than_asked_for() -> None:
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 9, 400), rng.integers(0, 9, 400)
    wanted = {
        (t, p): int(((labels == t) & (predicted == p)).sum()) for t in range(9) for p in range(9) if t != p
    }  # fmt: skip
    counts = np.full(9, 30)
    counts[:3] = 10
    every = confused_pairs(labels, predicted, counts, GROUPS, most=1000)
    both = [*every.largest, *every.rare]
    assert {(p.true, p.predicted): p.images for p in both} == {key: n for key, n in wanted.items() if n}
    assert len(both) == len({(p.true, p.predicted) for p in both})
    assert all(p.true < 3 for p in every.rare)
    assert not any(p.true < 3 for p in every.largest[6:])
    some = confused_pairs(labels, predicted, counts, GROUPS, most=20)
    assert (some.largest, some.rare) == (every.largest[:10], every.rare[:10])
    assert confused_pairs(labels, labels, counts, GROUPS) == ([], [], 2)


def test_calibration_bins_sum_up_to_the_calibration_error() -> None:
    rng = np.random.default_rng(0)
    probability = rng.uniform(0, 1, 500)
    right = rng.random(500) < probability**2
    bins = reliability(right, probability)
    assert sum(b.images for b in bins) == 500
    assert all(b.low < b.confidence <= b.high for b in bins)
    error = sum(b.images * abs(b.accuracy - b.confidence) for b in bins) / 500
    assert error == pytest.approx(calibration_error(right, probability))
    assert all(b.interval[0] < b.accuracy < b.interval[1] for b in bins if 0 < b.accuracy < 1)


def test_a_few_images_that_are_all_right_are_no_proof() -> None:
    single, full = reliability(np.ones(301), np.array([0.05] + [0.95] * 300))
    assert single.interval == pytest.approx((0.2065, 1.0), abs=1e-4)  # n / (n + z^2)
    assert full.interval == pytest.approx((300 / (300 + 1.96**2), 1.0), abs=1e-4)
    assert (single.sure, full.sure) == (False, True)
    assert wilson_interval(5, 20) == pytest.approx((0.1119, 0.4687), abs=1e-4)  # Agresti and Coull, 1998


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
