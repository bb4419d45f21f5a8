"""The benchmark of the input pipeline runs, and its file has what the documents read from it. No rate is judged."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from benchmarks.speed import pipeline


def test_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few tiny photographs, read each time and kept decoded, without and with a worker."""
    monkeypatch.setattr(sys, "argv", ["pipeline", "--quick", "--output", str(tmp_path)])
    pipeline.main()
    result = json.loads((tmp_path / "pipeline_quick.json").read_text(encoding="utf-8"))
    assert {"command", "date", "hardware", "versions", "seed", "backbone"} <= result.keys()
    rows = [(row["case"], row["workers"], row["cached"]) for row in result["rows"]]
    assert rows == [
        (f"photographs {how} at 32", workers, how == "kept") for how in ("read", "kept") for workers in (0, 1)
    ]
    for row in result["rows"]:
        assert row["loader"] > 0
        assert row["step"].keys() == row["joint"].keys() == {"1", "2"}
        assert row["kept_up"] > 0
    assert result["crops_one_core"][0].keys() == {"side", "size", "pillow", "products"}
