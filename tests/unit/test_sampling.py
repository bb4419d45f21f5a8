"""Both streams of dual sampling are functions of the step alone, and balanced the way each promises."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpt.data import sampling
from lpt.data.sampling import ClassBalanced, InstanceBalanced, Sampler
from lpt.errors import DataError

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
    for one, other in zip(both(labels), both(labels), strict=True):
        np.testing.assert_array_equal(draws(one, 120, batch_size), draws(other, 120, 1))


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
        own = drawn[labels[drawn] == label]
        for turn in own[: len(own) // size * size].reshape(-1, size):
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
    for one, another in zip(both(labels), both(labels, 4, *other), strict=True):
        assert not np.array_equal(one.draw(0, 32), another.draw(0, 32))
    single = np.zeros(50, dtype=np.int64)  # one class: only the order of its images is left to differ
    one, another = ClassBalanced(single, 4, 0, 1, "s"), ClassBalanced(single, 4, *other)
    assert not np.array_equal(one.draw(0, 32), another.draw(0, 32))


def test_iterating_thousands_of_classes_is_fast() -> None:
    """With 8,142 classes (iNaturalist) a step must not cost as much as the model's (found: a few ms)."""
    counts = np.maximum(1, (1000 * np.arange(1, 8143) ** -0.9)).astype(int)
    labels = np.repeat(np.arange(8142), counts)
    sampler = ClassBalanced(labels, 4, 0)
    start = time.process_time()
    for step in range(20):
        assert len(sampler.draw(step, 256)) == 256
    assert time.process_time() - start < 4


def test_remembered_orders_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long run on a large set does not fill the memory, and what was forgotten comes back the same."""
    monkeypatch.setattr(sampling, "_REMEMBERED_NUMBERS", 300)
    monkeypatch.setattr(sampling, "_REMEMBERED_ORDERS", 5)
    sampler = InstanceBalanced(100, 0)
    first = sampler.draw(0, 10)
    for step in range(100):
        sampler.draw(step, 10)
        assert len(sampler._order._known) <= 3
        assert sampler._order._numbers == sum(map(len, sampler._order._known.values()))
    np.testing.assert_array_equal(sampler.draw(0, 10), first)
    classes = ClassBalanced(np.arange(40) % 10, 4, 0)
    first = classes.draw(0, 64)
    for step in range(30):
        classes.draw(step, 64)
    assert len(classes._image_order._known) <= 5
    np.testing.assert_array_equal(classes.draw(0, 64), first)


def test_an_order_larger_than_the_bound_is_kept_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A set of more images than the bound is shuffled once a round, not once a draw."""
    monkeypatch.setattr(sampling, "_REMEMBERED_NUMBERS", 10)
    calls = []
    real = sampling.permutation
    monkeypatch.setattr(sampling, "permutation", lambda *args: calls.append(args) or real(*args))
    draws(InstanceBalanced(100, 0), 300, 50)
    assert len(calls) == 3


def test_nothing_to_draw_from_is_named() -> None:
    """A training split without images is an error at the start, not an endless loop."""
    with pytest.raises(DataError, match="no training image"):
        ClassBalanced(np.array([], dtype=np.int64), 4, 0)
