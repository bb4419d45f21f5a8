"""Sturdiness is judged against the line of the other methods, and pictures of other people are seen by no training."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from benchmarks.accuracy.uncut_sets import opened
from benchmarks.accuracy.uncut_shift import same_people
from benchmarks.documents.shift_tables import above_line


def test_a_method_on_the_line_of_the_others_is_not_above_it() -> None:
    """And one that is two points above it is, where the others lie close to their line."""
    clean = np.array([0.4, 0.5, 0.6, 0.7, 0.8])
    odds = 0.6 * np.log(clean / (1 - clean)) - 0.4 + np.array([0.002, -0.002, 0.001, -0.002, 0.001])
    others = np.stack([clean, 1 / (1 + np.exp(-odds))], axis=1)
    on_line = 1 / (1 + np.exp(-(0.6 * np.log(0.65 / 0.35) - 0.4)))
    values = [
        [float(number.replace("−", "-")) for number in re.findall(r"[+−]\d+\.\d", above_line(others, (0.65, shifted)))]
        for shifted in (on_line, on_line + 0.02)
    ]
    assert values[0][0] == 0
    assert values[0][1] < 0 < values[0][2]
    assert values[1][0] == pytest.approx(2, abs=0.06)
    assert 0 < values[1][1] < 2 < values[1][2]


def test_pictures_of_other_people_stay_out_of_both_parts(shared_dir: Path) -> None:
    published, mixed = opened("clothing"), same_people(0)
    assert published.test is not None
    assert mixed.test is not None
    others = {published.test.name(index) for index in range(len(published.test))}
    parts = [{part.name(index) for index in range(len(part))} for part in (mixed.train, mixed.test)]
    assert not parts[0] & parts[1]
    assert not (parts[0] | parts[1]) & others
    assert sum(map(len, parts)) == len(published.train)
