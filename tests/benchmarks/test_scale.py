"""The benchmark of large data sets runs, simulates the right sizes, and fits the right lines."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.scale import __main__ as scale
from benchmarks.scale.measure import in_fresh_process, watched
from benchmarks.scale.simulated import class_counts
from benchmarks.scale.steps import fitted_line
from benchmarks.scale.table import cost_table, growth_table


def in_this_process(module: str, function: str, **arguments: Any) -> Any:
    """Return what a fresh process would, faster."""
    measurement = getattr(importlib.import_module(f"benchmarks.scale.{module}"), function)
    return json.loads(json.dumps(measurement(**arguments)))


def test_quick_mode(tmp_path: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every measurement runs at a tiny size; times are not checked."""
    monkeypatch.setattr(scale, "in_fresh_process", in_this_process)
    output, plot = tmp_path / "scale.json", tmp_path / "scale.png"
    arguments = ["--quick", "--checkpoint", tiny_backbone, "--output", output, "--plot", plot, "--keep", tmp_path / "k"]
    monkeypatch.setattr(sys, "argv", ["scale", *map(str, arguments)])
    scale.main()
    record = json.loads(output.read_text(encoding="utf-8"))
    assert plot.stat().st_size > 10_000
    assert {form: part["train_images"] for form, part in record["opening"].items()} == dict.fromkeys(
        ("csv", "path_list", "folder"), 1600
    )
    assert record["evaluation"]["test_images"] == 60
    for form in ("csv", "folder"):
        for name in (f"doctor_{form}", f"doctor_{form}_no_decode"):
            assert record[name]["lines"] < 120
            assert record[name]["last_line"].startswith("Usable")
    assert record["pack"]["numbers"] > 20 * 32
    assert set(record["against"]) == {"opening", "step", "pool_size", "prompt_length", "classes"}
    assert (tmp_path / "k" / "doctor_csv.txt").is_file()
    for table in (cost_table(record), growth_table(record)):
        assert len({line.count("|") for line in table.splitlines()}) == 1


@pytest.mark.parametrize(("images", "classes"), [(437_513, 8142), (27_344, 8142), (437_513, 101), (1600, 20)])
def test_class_sizes_add_up(images: int, classes: int) -> None:
    """The simulated sizes fall from the largest class to two images, and add up."""
    counts = class_counts(images, classes)
    assert (counts.sum(), len(counts), counts.min()) == (images, classes, 2)
    assert (np.diff(counts) <= 0).all()
    if (images, classes) == (437_513, 8142):
        assert counts.max() == 1000


def test_a_measurement_runs_in_a_process_of_its_own() -> None:
    """Its result comes back, and a failure ends the benchmark."""
    assert in_fresh_process("simulated", "class_name", label=7) == "Genusname speciesname 0007"
    with pytest.raises(SystemExit, match="class_name failed"):
        in_fresh_process("simulated", "class_name", label="seven")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux lets the peak start anew")
def test_peak_memory_is_that_of_what_ran() -> None:
    """Memory that was held before does not count, even if it was freed."""
    bytearray(200 << 20)
    _, cost = watched(lambda: len(bytearray(64 << 20)))
    assert 60 < cost["peak_mib"] < 100


def test_fitted_lines() -> None:
    """A line is fitted exactly, and the exponent tells proportional from flat."""
    assert fitted_line([1, 2, 4], [5, 8, 14]) == pytest.approx(
        {"intercept": 2, "slope": 3, "worst_deviation": 0, "exponent": 0.743}, abs=1e-3
    )
    assert fitted_line([10, 100, 1000], [3, 30, 300])["exponent"] == pytest.approx(1)
    assert fitted_line([10, 100, 1000], [3, 3, 3])["exponent"] == pytest.approx(0)
