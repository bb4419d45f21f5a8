"""The time of runs side by side, which a budget goes by, is never too short."""

from __future__ import annotations

import heapq
import itertools

import pytest

from lpt.commands.compare.budget import _side_by_side


@pytest.mark.parametrize(("times", "slots"), [(1, 1), (3, 1), (1, 2), (2, 3), (1, 9)])
def test_runs_side_by_side_take_at_most_the_bound(times: int, slots: int) -> None:
    seconds = [1.0, 2.0, 30.0, 4.0]
    bound = _side_by_side(seconds, times, slots)
    for order in itertools.permutations(seconds):
        free = [0.0] * slots
        for run in [*order] * times:
            heapq.heapreplace(free, free[0] + run)
        assert max(free) <= bound + 1e-9
    assert bound == pytest.approx({1: times * 37.0}.get(slots, bound))
    assert _side_by_side([0.0, 0.0], times, slots) == 0
