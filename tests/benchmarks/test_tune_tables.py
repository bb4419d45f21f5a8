"""The table of searches for settings: what was tested over the seeds, and what was not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.documents import tune_tables

from lpt.data.longtail import ShotGroups
from lpt.evaluation.paired import SeedPair, paired_differences


def result_of(chosen: int, tests: dict[str, Any] | None) -> dict[str, Any]:
    """What benchmarks.accuracy.tune writes, as far as the table reads it."""
    trials = [{"number": number, "values": {"loss.noise": 0.4 * (number + 1)}} for number in (0, 1)]
    metrics = {"overall": 0.5, "mean_per_class": 0.4, "many": None, "medium": 0.45, "few": 0.35}
    search = {
        "ranges": [{"path": "loss.noise", "preset": 0.4}],
        "trials": trials,
        "chosen": chosen,
        "splits": 2,
        "used_minutes": 59.6,
        "budget_minutes": 60.0,
        "final": {"chosen": metrics},
    }
    facts = {"what": "garments", "command": "python -m x", "date": "2026-11-28", "machine": {"hardware": "cpu"}}
    return {**facts, "data": "clothing", "seeds": [0, 1], "search": search, "tests": tests}


def test_a_kept_preset_has_no_seeds_but_the_first_and_tuned_settings_a_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune_tables, "RESULTS", tmp_path)
    assert tune_tables.gains() == tune_tables.MISSING
    file = tmp_path / "tune_clothing.json"
    file.write_text(json.dumps(result_of(0, None)), encoding="utf-8")
    table = tune_tables.gains()
    assert "| clothing | the preset, which was kept | 50.0 | 40.0 | – | 45.0 | 35.0 |" in table
    assert "no trial was better by more than a standard error. Seed 0. cpu" in table

    labels = np.repeat([0, 1], 10)
    pairs = [
        SeedPair(seed, list(map(str, range(20))), labels, labels, np.zeros_like(labels), np.array([200, 50]))
        for seed in (0, 1)
    ]
    right = {"overall": 1.0, "mean_per_class": 1.0, "many": 1.0, "medium": 1.0, "few": None}
    half = right | {"overall": 0.5, "mean_per_class": 0.5, "medium": 0.0}
    difference = paired_differences(pairs, ShotGroups()).to_dict()
    tests = {"tuned": [right, right], "preset": [half, half], "difference": difference}
    file.write_text(json.dumps(result_of(1, tests)), encoding="utf-8")
    table = tune_tables.gains()
    assert "| clothing | preset | 50.0 ± 0.0 | 50.0 ± 0.0 | 100.0 ± 0.0 | 0.0 ± 0.0 | – |" in table
    assert "+50.0 (+50.0 to +50.0)" in table.split("difference (95 % interval)")[1]
    assert "2 validation splits; `loss.noise` 0.4 to 0.8. Seeds 0, 1 (mean ± standard deviation). cpu" in table
