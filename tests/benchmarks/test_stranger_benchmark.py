"""The benchmark of strangers: its rules for the threshold, and tables of what is measured so far."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from benchmarks.accuracy import stranger_scores
from benchmarks.accuracy.stranger_scores import CANDIDATES, Scored, score_images
from benchmarks.accuracy.strangers import balanced, by_group, common, outcome, separation, validation_draws
from benchmarks.documents import stranger_tables
from benchmarks.documents.performance_tables import MISSING

from lpt.data.images import ArrayImages
from lpt.data.manifest import LabelledImages

OLD_PACK = Path(__file__).parent.parent / "regression" / "packs" / "format1" / "pack"


def test_a_draw_is_a_validation_split_of_a_tenth() -> None:
    """Classes of 45 and 100 training images give 4 and 10 of their 12 held-out ones; one of 9 gives none."""
    labels = np.repeat([0, 1, 2], 12)
    for drawn in validation_draws(labels, np.array([45, 100, 9]), seed=0):
        assert np.bincount(labels[drawn], minlength=3).tolist() == [4, 10, 0]
        assert len(set(drawn.tolist())) == 14


def test_rules_differ_where_classes_and_groups_do() -> None:
    """95 images of class 0 score above 5 of class 1: weighted alike, 5 % of the weight is half an image of class 1."""
    values, labels = np.concatenate([np.arange(5.0), np.arange(100.0, 195)]), np.repeat([1, 0], [5, 95])
    predicted = np.where(labels == 1, 2, 0)
    assert common(values, labels, predicted) == [100] * 3
    assert balanced(values, labels, predicted) == [0] * 3
    many, medium, few = by_group(values, labels, predicted)
    assert 100 < many < 104 + 1  # the lowest score that 95 % of the group reach is 104
    assert medium == 100
    assert few == pytest.approx((5 * 0 + 25 * 100) / 30)


def test_every_candidate_tells_clear_strangers_apart() -> None:
    rng = np.random.default_rng(0)
    known = rng.normal(0, 0.02, (40, 5)) + 0.6 * np.eye(5)[np.arange(40) % 5]
    parts = [
        Scored(scores.astype(np.float32), keys, np.arange(40) % 5)
        for scores, keys in ((known, np.full(40, 0.9)), (rng.normal(0, 0.02, (40, 5)), np.full(40, 0.1)))
    ]
    for score in CANDIDATES.values():
        assert separation(*(score(part, 20.0) for part in parts)) == {"auroc": 1, "fpr95": 0}
    values = [part.scores.max(axis=1).astype(np.float64) for part in parts]
    shares = outcome(parts[0], values[0], parts[1], values[1], [0.3] * 3, np.array([200, 50, 50, 5, 5]))
    assert set(shares.values()) == {1.0}


def test_scores_are_kept_for_a_pack_and_not_for_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pack that was trained again under the same path is scored again; an unchanged one is not."""
    images = LabelledImages(ArrayImages(np.zeros((2, 4, 4, 3), np.uint8)), np.arange(2), np.zeros(2, np.int64), ("a",))
    scored = iter(Scored(np.full((2, 1), value, np.float32), np.zeros(2), np.zeros(2, np.int64)) for value in (1, 2))
    monkeypatch.setattr(stranger_scores, "_score", lambda pack, images: next(scored))
    pack = Path(shutil.copytree(OLD_PACK, tmp_path / "pack"))

    def score() -> float:
        return float(score_images(pack, images, tmp_path / "scores" / "seed0.npz").scores[0, 0])

    assert (score(), score()) == (1, 1)
    description = json.loads((pack / "pack.json").read_text(encoding="utf-8"))
    (pack / "pack.json").write_text(json.dumps(description | {"tensors_sha256": "0" * 64}), encoding="utf-8")
    assert (score(), score()) == (2, 2)


def test_tables_leave_out_what_was_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stranger_tables, "RESULTS", tmp_path)
    table = stranger_tables.TABLES["stranger_final"]
    assert table() == MISSING
    row = dict.fromkeys(("auroc", "fpr95", "kept", "kept_many", "kept_medium", "strangers_rejected"), 0.5)
    stage = {
        "rows": {"cifar": [row | {"kept_few": 0.25}], "unsure": [row | {"kept_few": None}], "groceries": []},
        "boundaries": "many > 100, medium 20-100, few < 20",
        "command": "python -m x",
        "versions": {"torch": "2", "timm": "1"},
        "date": "2026-11-28",
    }
    (tmp_path / "strangers.json").write_text(json.dumps({"final": stage}), encoding="utf-8")
    lines = table().splitlines()
    assert lines[2].endswith("| 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 25.0 | 50.0 |")
    assert lines[3].endswith("| 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | – | 50.0 |")
    assert lines[4].count("not measured yet") == 7
    assert stranger_tables.TABLES["stranger_scores"]() == MISSING
