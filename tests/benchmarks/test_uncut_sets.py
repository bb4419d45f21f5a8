"""The comparison on sets that nobody cut: its trials, what they see, and which rates they choose."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
from benchmarks.accuracy import uncut_sets
from benchmarks.accuracy.cifar100_compare import FIELDS
from benchmarks.accuracy.comparison_cells import run_comparison
from benchmarks.accuracy.tune import SOURCES

from lpt.config.presets import with_preset
from lpt.config.schema import DataConfig
from lpt.config.values import leaves, nested, read_yaml
from lpt.data.sources import open_splits
from samples import as_assignments, tiny_settings


def test_a_trial_at_factor_1_is_the_preset() -> None:
    """For every method, so that the preset competes under its own settings."""
    grid = uncut_sets.grid()
    assert set(grid) == set(uncut_sets.METHODS) - {"linear-probe", "linear-probe-la"}
    for method, settings in grid.items():
        plain = uncut_sets.configuration(method)
        values = dict(setting.split("=") for setting in settings[0].split())
        assert {path: float(value) for path, value in values.items() if path.endswith("lr")} == {
            path: value for path, value in leaves(plain.model_dump()) if path in values and path.endswith("lr")
        }
        given = nested({path: None if value == "null" else value for path, value in values.items()})
        again = with_preset({"preset": "laptop", "method": method, **given}, "cpu", origin="a trial").config
        assert again.train == plain.train
        assert again.model == plain.model


def test_the_best_rates_are_those_of_the_best_mean_per_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rates.csv"
    monkeypatch.setattr(uncut_sets, "RATES", file)
    rows = []
    for method, settings in uncut_sets.grid().items():
        for place, setting in enumerate(settings):
            row = dict.fromkeys(FIELDS, "0") | {"method": method, "settings": setting, "imbalance": "clothing"}
            best = 2 if method == "lora" else 0
            rows.append(row | {"mean_per_class": "0.5" if place == best else "0.4"})
    file.write_text("\n".join([",".join(FIELDS), *(",".join(row[field] for field in FIELDS) for row in rows)]) + "\n")
    chosen = uncut_sets.best("clothing")
    assert chosen.pop("lora") == "train.phase1.lr=0.0015"
    assert set(chosen.values()) == {""}  # the preset's
    with pytest.raises(SystemExit, match="grocery lacks"):
        uncut_sets.best("grocery")


@pytest.mark.parametrize(("name", "images"), [("clothing", 3819), ("grocery", 2640 + 296)])
def test_trials_see_no_test_image(shared_dir: Path, name: str, images: int) -> None:
    assert SOURCES[name].parent == shared_dir / "data" / name
    published, trial = uncut_sets.opened(name), uncut_sets.held_out(name)
    assert published.test is not None
    assert trial.test is not None
    tested = {published.test.name(index) for index in range(len(published.test))}
    seen = [trial.train.name(index) for index in range(len(trial.train))]
    seen += [trial.test.name(index) for index in range(len(trial.test))]
    assert len(set(seen)) == len(seen) == images
    assert not tested & set(seen)


def test_methods_whose_rates_are_the_same_are_not_trained_again(
    photo_folder: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison with rates of their own takes the cells of the first one over, and trains the others."""
    tiny = as_assignments(tiny_settings(tiny_backbone))

    def run(data: Any, folder: Path, target: Path, **options: Any) -> None:
        given = [setting for setting in options["settings"] if ":" in setting]
        run_comparison(data, folder, target, **options | {"settings": [*tiny, *given]})

    monkeypatch.setattr(uncut_sets, "METHODS", ("linear-probe-la", "lift", "lpt"))
    monkeypatch.setattr(uncut_sets, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(
        uncut_sets, "opened", lambda _name, seed: open_splits(DataConfig(source=str(photo_folder)), seed=seed)
    )
    monkeypatch.setattr(uncut_sets, "run_comparison", run)
    args = argparse.Namespace(runs=tmp_path / "runs", size=32, steps=1, seeds=[0])
    uncut_sets.compare_methods("photos", args)
    with pytest.raises(SystemExit, match="no method has rates of its own"):
        uncut_sets.compare_own("photos", args, {"lift": "", "lpt": ""})
    uncut_sets.compare_own("photos", args, {"lift": "train.phase1.lr=0.5", "lpt": ""})
    runs = [tmp_path / "runs" / name / "runs" for name in ("compare_photos_32", "compare_photos_32_own")]
    for method in ("linear-probe-la", "lift", "lpt"):
        plain, own = ((folder / method / "seed0" / "predictions.csv").stat().st_mtime_ns for folder in runs)
        assert (plain == own) == (method != "lift")  # a copy keeps the time
    rates = [read_yaml(folder / "lift" / "seed0" / "config.yaml")["train"]["phase1"]["lr"] for folder in runs]
    assert rates == [0.08, 0.5]
    table = (tmp_path / "results" / "compare_photos_32_own" / "comparison.csv").read_text()
    assert all(method in table for method in ("linear-probe-la", "lift", "lpt"))
