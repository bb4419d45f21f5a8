"""Both streams of dual sampling are functions of the step alone, and balanced the way each promises."""

from __future__ import annotations

import hashlib
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpt.data import sampling
from lpt.data.longtail import effective_numbers
from lpt.data.sampling import (
    ClassBalanced,
    ClassWeighted,
    InstanceBalanced,
    Sampler,
    effective_number_chances,
    new_sampler,
    square_root_chances,
)
from lpt.errors import ConfigError, DataError

label_lists = st.lists(st.integers(0, 6), min_size=1, max_size=30).map(lambda values: np.array(values, dtype=np.int64))
batch_sizes = st.integers(1, 40)
quick = settings(max_examples=40, deadline=None)


def both(labels: np.ndarray, per_class: int = 4, *seed: int | str) -> list[Sampler]:
    return [
        ClassBalanced(labels, per_class, *(seed or (0, 1, "s"))),
        InstanceBalanced(len(labels), *(seed or (0, 1, "s"))),
    ]


def draws(sampler: Sampler, count: int, batch_size: int = 7) -> np.ndarray:
    """The first `count` draws of a stream."""
    steps = -(-count // batch_size)
    return np.concatenate([sampler.draw(step, batch_size) for step in range(steps)])[:count]


@quick
@given(labels=label_lists, batch_size=batch_sizes, steps=st.permutations(range(6)), per_class=st.integers(1, 5))
def test_a_step_is_the_same_in_any_order_and_process(
    labels: np.ndarray, batch_size: int, steps: list[int], per_class: int
) -> None:
    """A resumed run and any number of workers draw the same images: nothing hangs on what was drawn before."""
    for used in both(labels, per_class):
        for step in steps:
            fresh = {type(s): s for s in both(labels, per_class)}[type(used)]
            np.testing.assert_array_equal(used.draw(step, batch_size), fresh.draw(step, batch_size))


@quick
@given(labels=label_lists, batch_size=batch_sizes)
def test_a_stream_does_not_depend_on_how_it_is_cut_into_steps(labels: np.ndarray, batch_size: int) -> None:
    """A batch that is no multiple of `per_class`, or longer than a round, goes on where the step before ended."""
    for item, other in zip(both(labels), both(labels), strict=True):
        np.testing.assert_array_equal(draws(item, 120, batch_size), draws(other, 120, 1))


@quick
@given(size=st.integers(1, 50), rounds=st.integers(1, 4), batch_size=batch_sizes)
def test_instance_rounds_hold_every_image_once(size: int, rounds: int, batch_size: int) -> None:
    """Every image is drawn once before any is drawn again."""
    drawn = draws(InstanceBalanced(size, 3, 2, "instance"), size * rounds, batch_size)
    for turn in drawn.reshape(rounds, size):
        np.testing.assert_array_equal(np.sort(turn), np.arange(size))


@quick
@given(labels=label_lists, per_class=st.integers(1, 5), rounds=st.integers(1, 4), batch_size=batch_sizes)
def test_class_rounds_hold_every_class_once(labels: np.ndarray, per_class: int, rounds: int, batch_size: int) -> None:
    """Each class that has images comes once a round, `per_class` images in a row; an empty class never comes."""
    present = np.unique(labels)
    drawn = draws(ClassBalanced(labels, per_class, 0), rounds * len(present) * per_class, batch_size)
    classes = labels[drawn].reshape(rounds, len(present), per_class)
    assert (classes == classes[:, :, :1]).all()
    for turn in classes[:, :, 0]:
        np.testing.assert_array_equal(np.sort(turn), present)


@quick
@given(labels=label_lists, per_class=st.integers(1, 5))
def test_images_of_a_class_take_turns(labels: np.ndarray, per_class: int) -> None:
    """Within a class every image comes once before any comes again, also where the class is smaller than its share."""
    drawn = draws(ClassBalanced(labels, per_class, 0), 8 * per_class * len(np.unique(labels)))
    for label in np.unique(labels):
        size = int((labels == label).sum())
        local = drawn[labels[drawn] == label]
        for turn in local[: len(local) // size * size].reshape(-1, size):
            assert len(set(turn.tolist())) == size


def test_a_class_of_one_image_repeats_it() -> None:
    """The rarest class fills its share of the batch with its only image."""
    labels = np.array([0, 0, 0, 1, 0])
    drawn = ClassBalanced(labels, 4, 0).draw(0, 8)
    assert (drawn == 3).sum() == 4


def test_a_batch_may_be_longer_than_a_round() -> None:
    """With few classes a batch holds each several times, evenly."""
    labels = np.array([0, 1, 1, 2, 2, 2])
    drawn = ClassBalanced(labels, 4, 0).draw(5, 3 * 4 * 5)
    np.testing.assert_array_equal(np.bincount(labels[drawn]), [20, 20, 20])


def test_rounds_are_shuffled_anew() -> None:
    """One round's order says nothing of the next one's."""
    rounds = draws(InstanceBalanced(50, 0), 150).reshape(3, 50)
    assert len({tuple(turn) for turn in rounds.tolist()}) == 3
    labels = np.arange(50)
    rounds = draws(ClassBalanced(labels, 1, 0), 150).reshape(3, 50)
    assert len({tuple(turn) for turn in rounds.tolist()}) == 3


@pytest.mark.parametrize("other", [(1, 1, "s"), (0, 2, "s"), (0, 1, "t")])
def test_seed_phase_and_stream_each_change_the_draws(other: tuple[int | str, ...]) -> None:
    """Phase 2 does not see phase 1's batches again, nor one stream the other's order."""
    labels = np.repeat(np.arange(6), 20)
    for item, another in zip(both(labels), both(labels, 4, *other), strict=True):
        assert not np.array_equal(item.draw(0, 32), another.draw(0, 32))
    single = np.zeros(50, dtype=np.int64)  # one class: only the order of its images is left to differ
    item, another = ClassBalanced(single, 4, 0, 1, "s"), ClassBalanced(single, 4, *other)
    assert not np.array_equal(item.draw(0, 32), another.draw(0, 32))


def test_iterating_thousands_of_classes_is_fast() -> None:
    """With 8,142 classes (iNaturalist) a step must not cost as much as the model's (found: a few ms)."""
    counts = np.maximum(1, (1000 * np.arange(1, 8143) ** -0.9)).astype(int)
    labels = np.repeat(np.arange(8142), counts)
    sampler = ClassBalanced(labels, 4, 0)
    start = time.process_time()
    for step in range(20):
        assert len(sampler.draw(step, 256)) == 256
    assert time.process_time() - start < 4


def counted_permutations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of every permutation computed from now on."""
    sizes: list[int] = []
    real = sampling.permutation
    monkeypatch.setattr(sampling, "permutation", lambda size, *name: sizes.append(size) or real(size, *name))
    return sizes


def test_a_draw_costs_the_same_with_thousands_of_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over two rounds of 8,142 classes every order is computed once, so that a draw is O(1): nothing is thrown away."""
    sizes = counted_permutations(monkeypatch)
    counts = np.repeat([1, 2, 3, 8, 54, 1000], [1000, 1000, 1142, 1000, 3000, 1000])
    sampler = ClassBalanced(np.repeat(np.arange(8142), counts), 4, 0)
    draws(sampler, 2 * 4 * 8142, 8142)
    orders_used = np.ceil(8 / counts).sum()  # two rounds take eight images of a class
    assert len(sizes) == 2 + orders_used  # and two orders of the classes


@quick
@given(labels=label_lists, per_class=st.integers(1, 5), batch_size=batch_sizes)
def test_remembered_orders_are_bounded(labels: np.ndarray, per_class: int, batch_size: int) -> None:
    """What is remembered never holds more numbers than there are images and classes, and forgotten orders come back."""
    balanced, instance = ClassBalanced(labels, per_class, 0), InstanceBalanced(len(labels), 0)
    first = balanced.draw(0, batch_size), instance.draw(0, batch_size)
    for step in range(30):
        balanced.draw(step, batch_size)
        instance.draw(step, batch_size)
    bounds = {
        balanced._image_order: len(labels),
        balanced._class_order: len(np.unique(labels)),
        instance._order: len(labels),
    }
    for orders, bound in bounds.items():
        assert sum(len(order) for _, order in orders._latest.values()) <= bound
    np.testing.assert_array_equal((balanced.draw(0, batch_size), instance.draw(0, batch_size)), first)


def test_a_large_set_is_shuffled_once_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of all images is computed once a round, not once a draw."""
    sizes = counted_permutations(monkeypatch)
    draws(InstanceBalanced(100, 0), 300, 50)
    assert sizes == [100, 100, 100]


# What version 0.1.0 draws: a later version must draw the same images for a seed.
LABELS = np.repeat(np.arange(6), [9, 5, 4, 2, 1, 0])[np.argsort((7 * np.arange(21)) % 21, kind="stable")]
DRAWN = {
    "balanced": {
        0: [20, 20, 20, 20, 18, 19, 5, 12, 13, 6, 13, 6],
        1: [10, 11, 4, 17, 1, 15, 8, 7, 6, 13, 13, 6],
        2: [3, 10, 3, 11, 20, 20, 20, 20, 16, 0, 9, 2],
        57: [20, 20, 20, 20, 11, 10, 4, 3, 7, 1, 2, 16],
    },
    "instance": {
        0: [10, 14, 5, 8, 17, 18, 1, 7, 11, 6, 20, 19],
        1: [12, 4, 13, 2, 3, 9, 16, 0, 15, 8, 6, 7],
        2: [15, 11, 18, 14, 20, 2, 16, 9, 5, 12, 13, 3],
        57: [14, 0, 9, 5, 19, 13, 10, 18, 2, 6, 19, 4],
    },
}
# What the first version of ClassWeighted draws.
WEIGHTED = {
    0: [6, 13, 0, 15, 10, 1, 5, 13, 5, 13, 14, 5],
    1: [8, 6, 4, 8, 20, 8, 1, 11, 13, 5, 5, 10],
    57: [5, 0, 3, 12, 10, 4, 13, 6, 13, 5, 14, 16],
    100000: [15, 0, 8, 17, 3, 0, 14, 15, 10, 12, 20, 12],
}
SHA256 = {
    "balanced": "1a0fd668cca14cb8ff2d581b4c35d5a45a0d6a7833af09bff9a61dc83e02b058",
    "instance": "bf6c57020171ab2b47bf641c9de17d2479c0c777aeaf475c052dbbe6718d34b0",
}


@pytest.mark.parametrize("stream", ["balanced", "instance"])
def test_draws_are_those_of_version_0_1_0(stream: str) -> None:
    """The same seed draws the same images in every version."""
    small = {"balanced": ClassBalanced(LABELS, 4, 7, 2, "balanced"), "instance": InstanceBalanced(21, 7, 2, "instance")}
    assert {step: small[stream].draw(step, 12).tolist() for step in DRAWN[stream]} == DRAWN[stream]
    counts = np.round(1000 * 500.0 ** -(np.arange(8142) / 8141)).astype(np.int64)  # 1,000 to 2 a class
    large = {
        "balanced": ClassBalanced(np.repeat(np.arange(8142), counts), 3, 0, 2, "balanced"),
        "instance": InstanceBalanced(int(counts.sum()), 0, 1, "instance"),
    }
    drawn = np.concatenate([large[stream].draw(step, 200) for step in (0, 50, 121, 122, 123, 1000, 6540)])
    assert hashlib.sha256(drawn.tobytes()).hexdigest() == SHA256[stream]


@pytest.mark.parametrize("kind", ["instance", "balanced", "square_root", "effective_number"])
def test_nothing_to_draw_from_is_named(kind: str) -> None:
    """A training split without images is an error at the start, not an endless loop."""
    nothing = np.array([], dtype=np.int64)
    with pytest.raises(DataError, match="no training image"):
        new_sampler(kind, nothing, 4, 0)
    with pytest.raises(DataError, match="no training image"):
        ClassWeighted(nothing, [1.0], 0)


# --- classes by chance -----------------------------------------------------------------------------------------------


def weighted(labels: np.ndarray, *seed: int | str) -> ClassWeighted:
    """Square-root sampling of nine classes, the last of which have no images."""
    return ClassWeighted(labels, square_root_chances(np.bincount(labels, minlength=9)), *(seed or (0, 1, "s")))


@quick
@given(labels=label_lists, batch_size=batch_sizes, steps=st.permutations(range(6)))
def test_a_weighted_step_is_the_same_in_any_order_and_process(
    labels: np.ndarray, batch_size: int, steps: list[int]
) -> None:
    """And however the stream is cut into steps."""
    used = weighted(labels)
    for step in steps:
        drawn = used.draw(step, batch_size)
        assert drawn.shape == (batch_size,)
        assert drawn.dtype == np.int64
        np.testing.assert_array_equal(drawn, weighted(labels).draw(step, batch_size))
    np.testing.assert_array_equal(draws(used, 120, batch_size), draws(weighted(labels), 120, 1))


@pytest.mark.parametrize("other", [(1, 1, "s"), (0, 2, "s"), (0, 1, "t")])
def test_seed_phase_and_stream_each_change_weighted_draws(other: tuple[int | str, ...]) -> None:
    labels = np.repeat(np.arange(6), 20)
    assert not np.array_equal(weighted(labels).draw(0, 32), weighted(labels, *other).draw(0, 32))
    assert not np.array_equal(weighted(labels).draw(0, 32), weighted(labels).draw(1, 32))


def chi_square(observed: np.ndarray, expected: np.ndarray) -> float:
    """Pearson's statistic in standard deviations from its mean."""
    degrees = len(expected) - 1
    return float((((observed - expected) ** 2 / expected).sum() - degrees) / np.sqrt(2 * degrees))


@pytest.mark.parametrize("kind", ["given", "square_root", "effective_number"])
def test_classes_and_images_come_by_their_chances(kind: str) -> None:
    """60,000 draws: a class as often as its chance says, each of its images as often as the others."""
    counts = [40, 0, 25, 9, 1, 0]
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(6), counts))
    parts = {
        "given": [5, 0, 1, 0, 2, 0],  # a class with images has no chance
        "square_root": [40**0.5, 0, 5, 3, 1, 0],
        "effective_number": [n / (1 - 0.9999**n) if n else 0 for n in counts],
    }
    chances = np.array(parts[kind]) / sum(parts[kind])
    sampler = ClassWeighted(labels, parts[kind], 3) if kind == "given" else new_sampler(kind, labels, 4, 3)
    drawn = draws(sampler, 60_000, 500)
    seen, possible = np.bincount(labels[drawn], minlength=6), chances > 0
    assert (seen[~possible] == 0).all()
    assert abs(chi_square(seen[possible], 60_000 * chances[possible])) < 4
    images = np.flatnonzero(possible[labels])
    expected = 60_000 * (chances / np.maximum(counts, 1))[labels[images]]
    assert abs(chi_square(np.bincount(drawn, minlength=len(labels))[images], expected)) < 4


def test_weighted_draws_are_independent() -> None:
    """Neither class nor image says anything of the draw that follows."""
    drawn = draws(ClassWeighted(np.repeat(np.arange(2), 4), [0.5, 0.5], 0), 40_001, 100)
    pairs = np.bincount(8 * drawn[:-1] + drawn[1:], minlength=64)
    assert abs(chi_square(pairs, np.full(64, 40_000 / 64))) < 4


@quick
@given(labels=label_lists)
def test_every_image_is_reachable_and_no_class_without_chance(labels: np.ndarray) -> None:
    chances = np.bincount(labels).astype(float)
    if chances[1::2].any():
        chances[::2] = 0
    drawn = draws(ClassWeighted(labels, chances, 0), 1500, 50)
    np.testing.assert_array_equal(np.unique(drawn), np.flatnonzero(chances[labels] > 0))


def test_thousands_of_weighted_classes_are_fast() -> None:
    """Far into the stream too: no draw before is made to get there."""
    counts = np.maximum(1, (1000 * np.arange(1, 8143) ** -0.9)).astype(int)
    sampler = new_sampler("square_root", np.repeat(np.arange(8142), counts), 4, 0)
    start = time.process_time()
    for step in range(100_000, 100_200):
        assert len(sampler.draw(step, 256)) == 256
    assert time.process_time() - start < 1


def test_chances_by_hand() -> None:
    assert square_root_chances([16, 9, 0, 1]).tolist() == pytest.approx([0.5, 0.375, 0, 0.125])
    # beta 1/2: effective numbers 7/4, 3/2 and 1, so that n / E is 12/7, 4/3 and 1
    total = 12 / 7 + 4 / 3 + 1
    by_half = effective_number_chances([3, 2, 0, 1], 0.5)
    assert by_half.tolist() == pytest.approx([12 / 7 / total, 4 / 3 / total, 0, 1 / total])
    assert effective_number_chances([6, 3, 0, 1], 0.0).tolist() == pytest.approx([0.6, 0.3, 0, 0.1])
    assert effective_number_chances([6, 3, 0, 1], 1.0).tolist() == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3])
    assert effective_numbers([0, 1, 2, 3], 0.9).tolist() == pytest.approx([0, 1, 1.9, 2.71])


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.5, 0.9, 0.9999, 1 - 1e-9, 1 - 1e-12, 1 - 2.0**-53])
def test_effective_numbers_keep_their_digits(beta: float) -> None:
    """Against exact fractions; near beta = 1 the plain form is off by 5e-10."""
    exact = [float((1 - Fraction(beta) ** n) / (1 - Fraction(beta))) for n in (1, 2, 3, 100, 999)]
    assert effective_numbers([1, 2, 3, 100, 999], beta).tolist() == pytest.approx(exact, rel=1e-14)


@quick
@given(
    counts=st.lists(st.integers(0, 10**6), min_size=1, max_size=8).filter(any),
    beta=st.one_of(st.sampled_from([0.0, 5e-324, 0.5, 0.9999, 1 - 2.0**-53, 1.0]), st.floats(0.0, 1.0)),
)
def test_chances_of_any_counts(counts: list[int], beta: float) -> None:
    """They add up to 1, are 0 for empty classes, and lie between instance-balanced and class-balanced."""
    n = np.array(counts)
    present = n > 0
    smallest, largest = n[present].argmin(), n[present].argmax()
    for chances in (square_root_chances(counts), effective_number_chances(counts, beta)):
        assert chances.sum() == pytest.approx(1)
        np.testing.assert_array_equal(chances > 0, present)
        ratio = chances[present][largest] / chances[present][smallest]
        assert 1 - 1e-9 <= ratio <= n[present].max() / n[present].min() * (1 + 1e-9)


def test_kinds_of_samplers() -> None:
    """Each as when it is built by hand."""
    counts = [9, 4, 0, 1]
    labels = np.repeat(np.arange(4), counts)
    by_hand: dict[str, Sampler] = {
        "instance": InstanceBalanced(14, 5, 1, "x"),
        "balanced": ClassBalanced(labels, 3, 5, 1, "x"),
        "square_root": ClassWeighted(labels, square_root_chances(counts), 5, 1, "x"),
        "effective_number": ClassWeighted(labels, effective_number_chances(counts), 5, 1, "x"),
    }
    for kind, sampler in by_hand.items():
        built = new_sampler(kind, labels, 3, 5, 1, "x")
        assert type(built) is type(sampler)
        np.testing.assert_array_equal(draws(built, 200), draws(sampler, 200))


def test_weighted_draws_stay_the_same() -> None:
    """The same seed draws the same images in every version."""
    sampler = ClassWeighted(LABELS, [5, 4, 3, 2, 1], 7, 2, "weighted")
    assert {step: sampler.draw(step, 12).tolist() for step in WEIGHTED} == WEIGHTED


@pytest.mark.parametrize(
    ("chances", "named"),
    [
        ([1.0, 1.0], r"chances must be \[3\]"),
        ([[1.0, 1.0, 1.0]], r"chances must be \[3\]"),
        (1.0, r"chances must be \[3\]"),
        ([1.0, 0.0, -1.0], "at least 0, got -1"),
        ([1.0, 0.0, np.nan], "finite"),
        ([1.0, 0.0, np.inf], "finite"),
        ([0.0, 0.0, 0.0], "not all be 0"),
        ([1.0, 0.5, 1.0], "class 1 has 0.5"),
    ],
    ids=str,
)
def test_chances_that_do_not_fit_are_refused(chances: object, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        ClassWeighted(np.array([0, 0, 2]), chances, 0)


def test_refused_counts_and_kinds() -> None:
    with pytest.raises(ConfigError, match=r"beta must lie in \[0, 1\], got 1.5"):
        effective_number_chances([3, 1], 1.5)
    for chances in (square_root_chances, effective_number_chances):
        with pytest.raises(DataError, match="no training image"):
            chances([0, 0])
        with pytest.raises(ConfigError, match="at least 0"):
            chances([3, -1])
    with pytest.raises(ConfigError, match="'random'; there are instance, balanced, square_root, effective_number"):
        new_sampler("random", np.array([0, 1]), 4, 0)
