"""Metrics and calibration against values worked out by hand, and the laws they must obey."""

from __future__ import annotations

import json
import math
import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpt.data.longtail import ShotGroups
from lpt.errors import DataError
from lpt.evaluation.calibration import fit_temperature, probabilities
from lpt.evaluation.metrics import (
    Metrics,
    calibration_error,
    class_accuracies,
    class_results,
    harmonic_mean,
    measure,
    measure_scores,
    worst_decile,
)

GROUPS = ShotGroups()
# Five classes: many, many, medium, few, and a few-shot class that has no test image.
COUNTS = [500, 101, 100, 19, 1]
LABELS = np.array([0, 0, 0, 0, 1, 1, 2, 2, 3, 3])
PREDICTIONS = np.array([0, 0, 0, 1, 0, 0, 2, 2, 0, 3])


def test_values_by_hand() -> None:
    metrics = measure(LABELS, PREDICTIONS, COUNTS, GROUPS)
    assert metrics == Metrics(
        images=10,
        overall=0.6,  # 3 + 0 + 2 + 1 of 10
        mean_per_class=(0.75 + 0 + 1 + 0.5) / 4,
        many=(0.75 + 0) / 2,
        medium=1.0,
        few=0.5,
        boundaries="many > 100, medium 20-100, few < 20",
        group_classes=(2, 1, 1),
        worst_decile=0.0,  # of four tested classes the worst one
        # 2 TP / (tested + predicted): 6 / 10, 0 / 3, 4 / 4, 2 / 3; the fifth class is neither
        macro_f1=pytest.approx((0.6 + 0 + 1 + 2 / 3) / 4),
        harmonic_mean=0.0,
    )


def test_a_group_without_a_class_is_none() -> None:
    metrics = measure([0, 1], [0, 0], [500, 300], GROUPS)
    assert (metrics.many, metrics.medium, metrics.few) == (0.5, None, None)
    assert metrics.group_classes == (2, 0, 0)


def test_a_group_whose_classes_have_no_test_image_is_none() -> None:
    assert measure([0], [0], [500, 3], GROUPS).few is None


def test_a_class_never_trained_on_is_in_no_group_but_counts_overall() -> None:
    metrics = measure([0, 1, 2], [0, 1, 0], [500, 5, 0], GROUPS)
    assert (metrics.few, metrics.group_classes) == (1.0, (1, 0, 1))
    assert metrics.overall == metrics.mean_per_class == pytest.approx(2 / 3)
    assert class_results([2], [0], [500, 5, 0], GROUPS, ["a", "b", "c"])[2].group == "none"


def test_other_boundaries() -> None:
    metrics = measure(LABELS, PREDICTIONS, COUNTS, ShotGroups(few_below=101, many_above=200))
    assert (metrics.many, metrics.medium, metrics.few) == (0.75, 0.0, 0.75)
    assert metrics.boundaries == ShotGroups(few_below=101, many_above=200).describe()


def test_json_and_back() -> None:
    metrics = measure(LABELS, PREDICTIONS, COUNTS, GROUPS)
    stored = json.loads(json.dumps(metrics.to_dict(), allow_nan=False))
    assert Metrics.from_dict(stored) == metrics
    assert Metrics.from_dict(stored | {"of_a_later_version": 1}) == metrics


def test_results_stored_before_a_measure_was_added_are_read() -> None:
    stored = measure(LABELS, PREDICTIONS, COUNTS, GROUPS).to_dict()
    for name in ("worst_decile", "macro_f1", "harmonic_mean"):
        del stored[name]
    metrics = Metrics.from_dict(stored)
    assert (metrics.overall, metrics.worst_decile, metrics.macro_f1, metrics.harmonic_mean) == (0.6, None, None, None)


def test_worst_decile_by_hand() -> None:
    assert worst_decile([0.9, 0.2, 0.5]) == 0.2
    assert worst_decile(np.linspace(0, 1, 19)) == 0.0  # a tenth of 19 classes is one
    assert worst_decile(np.arange(20) / 20) == pytest.approx(0.025)
    assert worst_decile(np.arange(100)[::-1] / 100) == pytest.approx(0.045)


def test_harmonic_mean_by_hand() -> None:
    assert harmonic_mean([1.0, 0.5, 0.25]) == pytest.approx(3 / 7)
    assert harmonic_mean([1.0, 0.0]) == 0.0


@given(st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1)), min_size=1, max_size=50))
def test_harmonic_mean_lies_between_the_least_and_the_mean(values: list[float]) -> None:
    """As the worst decile does."""
    for value in (harmonic_mean(values), worst_decile(values)):
        assert min(values) - 1e-12 <= value <= np.mean(values) + 1e-12


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(1, 60))
def test_macro_f1_is_that_of_scikit_learn(seed: int, classes: int, images: int) -> None:
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(seed)
    labels, predicted = rng.integers(0, classes, images), rng.integers(0, classes, images)
    metrics = measure(labels, predicted, np.ones(classes, dtype=np.int64), GROUPS)
    assert metrics.macro_f1 == pytest.approx(f1_score(labels, predicted, average="macro"))


def test_measures_of_thousands_of_classes_make_no_table_of_them() -> None:
    rng = np.random.default_rng(0)
    labels, predicted = np.repeat(np.arange(8142), 3), rng.integers(0, 8142, 3 * 8142)
    tracemalloc.start()
    metrics = measure(labels, predicted, np.ones(8142, dtype=np.int64), GROUPS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert metrics.harmonic_mean == 0.0
    assert peak < 8142**2 / 8


def test_class_results() -> None:
    rows = class_results(LABELS, PREDICTIONS, COUNTS, GROUPS, ["a", "b", "c", "d", "e"])
    assert [row.group for row in rows] == ["many", "many", "medium", "few", "few"]
    assert [row.accuracy for row in rows] == [0.75, 0.0, 1.0, 0.5, None]
    assert [row.test_images for row in rows] == [4, 2, 2, 2, 0]
    assert [(row.confused_with, row.confused_images) for row in rows] == [
        ("b", 1), ("a", 2), (None, 0), ("a", 1), (None, 0),
    ]  # fmt: skip


def test_most_confused_of_equals_is_the_first_class() -> None:
    rows = class_results([0, 0, 0, 0], [3, 1, 1, 3], [5, 5, 5, 5], GROUPS, ["a", "b", "c", "d"])
    assert (rows[0].confused_with, rows[0].confused_images) == ("b", 2)


def measure_probabilities(labels: npt.ArrayLike, table: npt.ArrayLike, counts: npt.ArrayLike) -> Metrics:
    """Measure scores whose softmax is the table, or as near to it as a logarithm can say."""
    with np.errstate(divide="ignore"):
        scores = np.maximum(np.log(np.asarray(table, dtype=np.float64)), -1e4)
    return measure_scores(labels, scores, counts, GROUPS, scale=1.0, temperature=1.0)


def test_probabilities_by_hand() -> None:
    p = np.array([[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.2, 0.2, 0.6]])
    metrics = measure_probabilities([0, 0, 2], p, [500, 50, 5])
    assert metrics.overall == pytest.approx(2 / 3)
    assert metrics.nll == pytest.approx(-(math.log(0.7) + math.log(0.4) + math.log(0.6)) / 3)
    # one image in each of three bins: |1 - 0.7|, |0 - 0.5|, |1 - 0.6|
    assert metrics.ece == pytest.approx((0.3 + 0.5 + 0.4) / 3)
    assert metrics.top5 is None


def test_top5() -> None:
    p = np.tile(np.array([0.3, 0.2, 0.15, 0.15, 0.1, 0.05, 0.05]), (3, 1))
    assert measure_probabilities([0, 4, 5], p, [9] * 7).top5 == pytest.approx(2 / 3)
    equal = measure_probabilities(np.arange(7), np.full((7, 7), 1 / 7), [9] * 7)
    assert equal.top5 == pytest.approx(5 / 7)  # the first five lead
    assert equal.overall == pytest.approx(1 / 7)


def test_scores_whose_probabilities_round_to_the_same_are_told_apart() -> None:
    steep = np.array([[-0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 1.0]], dtype=np.float32)  # all probabilities but the last are 0
    for label, within in ((5, 1), (1, 0)):
        assert measure_scores([label], steep, [9] * 7, GROUPS, scale=20, temperature=0.1).top5 == within
    close = np.array([[0.0, 1e-9]], dtype=np.float32)
    assert measure_scores([1], close, [9] * 2, GROUPS, scale=20, temperature=1.0).overall == 1


def test_top5_of_a_table_of_many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.random((50, 12)), rng.integers(0, 12, 50)
    monkeypatch.setattr("lpt.evaluation.metrics._CELLS", 36)
    order = np.argsort(-scores, axis=1)[:, :5]
    top5 = measure_scores(labels, scores, [9] * 12, GROUPS, scale=20, temperature=1.0).top5
    assert top5 == (order == labels[:, None]).any(axis=1).mean()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 9), temperature=st.sampled_from([0.5, 1.0, 1.7]))
def test_cosines_give_the_metrics_of_their_probabilities(seed: int, classes: int, temperature: float) -> None:
    """The same bit for bit however the rows are cut into chunks."""
    rng = np.random.default_rng(seed)
    cosines = rng.uniform(-1, 1, (23, classes)).astype(rng.choice(["float32", "float64"]))
    labels, counts = rng.integers(0, classes, 23), rng.integers(0, 200, classes)
    p = probabilities(cosines, 20, temperature)
    whole = measure_scores(labels, cosines, counts, GROUPS, scale=20, temperature=temperature)
    assert whole.nll == pytest.approx(negative_log_likelihood(labels, p))
    assert whole.ece == calibration_error(cosines.argmax(axis=1) == labels, p.max(axis=1).astype(float))
    for cells in (1, 3 * classes, 1 << 18):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lpt.evaluation.metrics._CELLS", cells)
            patch.setattr("lpt.evaluation.calibration._CELLS", cells)
            assert measure_scores(labels, cosines, counts, GROUPS, scale=20, temperature=temperature) == whole
            assert fit_temperature(cosines, labels, 20) == pytest.approx(
                fit_temperature(cosines[::-1], labels[::-1], 20)
            )


def test_values_of_a_fixed_table_are_those_of_version_0_1_0() -> None:
    """What a table of random cosines gave when it was measured in one piece."""
    rng = np.random.default_rng(3)
    cosines, labels = rng.uniform(-0.3, 0.5, (400, 300)).astype(np.float32), rng.integers(0, 300, 400)
    cosines[np.arange(400), labels] += 0.4
    metrics = measure_scores(labels, cosines, rng.integers(1, 300, 300), GROUPS, scale=20, temperature=1.3)
    expected = Metrics(
        images=400,
        overall=0.52,
        mean_per_class=0.5223703703703704,
        many=0.55625,
        medium=0.48680555555555555,
        few=0.30392156862745096,
        boundaries="many > 100, medium 20-100, few < 20",
        group_classes=(160, 48, 17),
        top5=0.5275,
        nll=3.5329519152488835,
        ece=0.2507688713911921,
    )
    later = ("worst_decile", "macro_f1", "harmonic_mean")
    for name, value in expected.to_dict().items():
        assert name in later or getattr(metrics, name) == (pytest.approx(value, rel=1e-9) if name in ("nll", "ece") else
                                          tuple(value) if name == "group_classes" else value)  # fmt: skip
    assert fit_temperature(cosines, labels, 20) == pytest.approx(1.3811293075191822, rel=1e-12)


def test_nothing_of_the_size_of_the_cosines_is_made_again() -> None:
    """At 24,426 images of 8,142 classes (iNaturalist) the cosines take 795 MB: metrics and temperature add little."""
    rng = np.random.default_rng(0)
    cosines, labels = rng.random((3000, 2000), dtype=np.float32), rng.integers(0, 2000, 3000)
    counts = np.ones(2000, dtype=np.int64)
    for act in (
        lambda: measure_scores(labels, cosines, counts, GROUPS, scale=20, temperature=1.0),
        lambda: fit_temperature(cosines, labels, 20),
    ):
        tracemalloc.start()
        act()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < cosines.nbytes / 2


def test_calibration_bins_have_their_upper_edge() -> None:
    # Two images in bin (0.5, 1]: accuracy 0.5, confidence 0.9. One on the edge 0.5, in (0, 0.5]: 1 against 0.5.
    assert calibration_error([True, False, True], [0.8, 1.0, 0.5], bins=2) == pytest.approx(2 / 3 * 0.4 + 1 / 3 * 0.5)
    assert calibration_error([False], [0.0], bins=2) == 0


def test_a_probability_of_zero_gives_a_finite_likelihood() -> None:
    metrics = measure_probabilities([0], [[0.0, 1.0]], [5, 5])
    assert metrics.nll == pytest.approx(-math.log(np.finfo(np.float32).tiny))


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([], [], "no test image"),
        ([0], [0, 1], r"\(1,\) and \(2,\)"),
        ([0, 2], [0, 1], "run from 0 to 2"),
        ([0, 1], [0, -1], "predictions run from -1"),
        ([0.0], [0], "whole numbers"),
    ],
)
def test_refused(labels: list[float], predictions: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        measure(np.array(labels, dtype=None if labels else int), np.array(predictions, dtype=int), [5, 5], GROUPS)


@pytest.mark.parametrize("scores", [[[math.nan, 1.0]], [[math.inf, 1.0]], [[0.5, 0.25, 0.25]]])
def test_scores_without_probabilities_are_refused(scores: list[list[float]]) -> None:
    with pytest.raises(DataError, match=r"finite|\(images, classes\)"):
        measure_scores([0], np.array(scores), [5, 5], GROUPS, scale=20, temperature=1.0)


@st.composite
def results(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    classes = draw(st.integers(2, 9))
    images = draw(st.integers(1, 40))
    class_lists = st.lists(st.integers(0, classes - 1), min_size=images, max_size=images)
    counts = draw(st.lists(st.integers(0, 200), min_size=classes, max_size=classes))
    return np.array(draw(class_lists)), np.array(draw(class_lists)), np.array(counts)


@given(results(), st.randoms(use_true_random=False))
def test_order_of_images_and_names_of_classes_do_not_matter(
    result: tuple[np.ndarray, np.ndarray, np.ndarray], random: object
) -> None:
    labels, predictions, counts = result
    rng = np.random.default_rng(random.getrandbits(32))  # type: ignore[attr-defined]
    order, renamed = rng.permutation(len(labels)), rng.permutation(len(counts))
    moved = np.empty_like(counts)
    moved[renamed] = counts
    metrics = measure(labels, predictions, counts, GROUPS)
    other = measure(renamed[labels][order], renamed[predictions][order], moved, GROUPS)
    for name, value in metrics.to_dict().items():
        expected = pytest.approx(value, abs=1e-12) if isinstance(value, float) else value
        assert getattr(other, name) == (tuple(value) if isinstance(value, list) else expected)


@given(results())
def test_a_group_is_the_mean_of_its_tested_classes(result: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    labels, predictions, counts = result
    metrics = measure(labels, predictions, counts, GROUPS)
    groups: dict[str, list[float]] = {"many": [], "medium": [], "few": [], "none": []}
    for c in set(labels.tolist()):
        of_class = [p == c for y, p in zip(labels, predictions, strict=True) if y == c]
        group = "many" if counts[c] > 100 else "medium" if counts[c] >= 20 else "few" if counts[c] else "none"
        groups[group].append(sum(of_class) / len(of_class))
    for name in ("many", "medium", "few"):
        values = groups[name]
        expected = pytest.approx(sum(values) / len(values)) if values else None
        assert getattr(metrics, name) == expected
    every = [value for values in groups.values() for value in values]
    assert metrics.mean_per_class == pytest.approx(sum(every) / len(every))
    assert sum(metrics.group_classes) == len(every) - len(groups["none"])
    assert len(every) == int((~np.isnan(class_accuracies(labels, predictions, 9))).sum())


def negative_log_likelihood(labels: npt.NDArray[np.int64], p: npt.NDArray[np.floating]) -> float:
    """Mean of -log p of the true class."""
    return float(-np.log(p[np.arange(len(labels)), labels]).mean())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.3, 0.7, 1.0, 1.6, 4.0]))
def test_temperature_is_recovered(seed: int, temperature: float) -> None:
    """Labels drawn from softmax(s z / T) are best explained by about T, and no temperature nearby is better."""
    rng = np.random.default_rng(seed)
    z, scale = rng.uniform(-1, 1, (4000, 4)), 3.0
    p = probabilities(z, scale, temperature)
    y = (rng.random((4000, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(max=3)
    fitted = fit_temperature(z, y, scale)
    assert fitted == pytest.approx(temperature, rel=0.25)
    best = negative_log_likelihood(y, probabilities(z, scale, fitted))
    for factor in (0.98, 1.02):
        assert negative_log_likelihood(y, probabilities(z, scale, fitted * factor)) > best


def test_temperature_of_degenerate_validation_sets() -> None:
    z = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert fit_temperature(z, [0, 1], 20) == 0.1  # all right: bounded, not 0
    assert fit_temperature(z, [1, 0], 20) == 10  # all wrong: bounded, not infinite
    assert fit_temperature(np.full((3, 4), 0.5), [0, 1, 2], 20) == 1  # the cosines say nothing
    assert 0.1 <= fit_temperature(z[:1].astype(np.float32), [0], 20) <= 10
    for cosines, labels in ((np.zeros((0, 3)), []), (z, [0]), (z, [0, 2]), (z * np.nan, [0, 1])):
        with pytest.raises(DataError):
            fit_temperature(cosines, np.array(labels, dtype=int), 20)


def test_probabilities_keep_their_precision_and_do_not_overflow() -> None:
    z = np.array([[1.0, -1.0]], dtype=np.float32)
    p = probabilities(z, 20, 0.01)
    assert p.dtype == np.float32
    assert p.tolist() == [[1.0, 0.0]]
    assert probabilities(z.astype(np.float64), 1.0)[0, 0] == pytest.approx(1 / (1 + math.exp(-2)))
