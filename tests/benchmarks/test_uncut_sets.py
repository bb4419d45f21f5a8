"""The comparison on sets that nobody cut: its trials, what they see, and which rates they choose."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.accuracy import uncut_sets
from benchmarks.accuracy.cifar100_compare import FIELDS
from benchmarks.accuracy.tune import SOURCES

from lpt.config.presets import with_preset
from lpt.config.values import leaves, nested


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
