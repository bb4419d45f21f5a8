"""Packs written by earlier versions are read and give what they gave.

A folder of `packs/` is kept for every format version, with example images and the predictions of the version that wrote
it. They are never rewritten: a change that fails here breaks what users have.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lpt

PACKS = sorted(path for path in (Path(__file__).parent / "packs").iterdir() if path.is_dir())


@pytest.mark.parametrize("folder", PACKS, ids=lambda path: path.name)
def test_an_old_pack_gives_its_old_predictions(folder: Path) -> None:
    """Classes, picked groups and probabilities (to rounding) are those written beside the pack."""
    expected = json.loads((folder / "predictions.json").read_text(encoding="utf-8"))
    predictor = lpt.load_predictor(folder / "pack", device="cpu", precision="fp32")
    result = predictor.predict([folder / "images" / name for name in expected], top_k=3)
    for prediction, old in zip(result, expected.values(), strict=True):
        assert list(prediction.classes) == old["classes"]
        assert list(prediction.groups) == old["groups"]
        assert prediction.probabilities == pytest.approx(old["probabilities"], abs=1e-4)
