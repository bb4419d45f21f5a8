"""A small demo, end to end."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

import lpt
from lpt.demo.rows import GROUPS, LPT, PROBE, TUNING, DemoBudget
from lpt.demo.run import digit_splits, new_folder, run_demo
from lpt.errors import ConfigError

pytest.importorskip("sklearn")

BUDGET = DemoBudget(batch_size=4, epoch_steps=1, phase1_epochs=2, phase2_epochs=1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random backbone with its architecture beside it."""
    architecture = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 4, "num_heads": 2}
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("backbone") / "tiny.safetensors"
    save_file(VisionTransformer(**architecture, num_classes=0).state_dict(), path)
    facts = {"name": "tiny", "architecture": architecture, "mean": [0.5] * 3, "std": [0.5] * 3}
    path.with_suffix(".json").write_text(json.dumps(facts), encoding="utf-8")
    return path


@pytest.mark.slow
def test_demo_leaves_everything_it_names(checkpoint: Path, tmp_path: Path) -> None:
    said = io.StringIO()
    console = Console(file=said, width=400)
    taken = tmp_path / "my [b]demo"  # quoted for the shell, and no markup
    taken.mkdir()
    (taken / "mine.txt").write_text("keep", encoding="utf-8")
    result = run_demo(taken, seeds=1, budget=BUDGET, backbone="tiny", checkpoint=checkpoint, console=console)

    assert result.folder == tmp_path / "my [b]demo-2"
    assert [path.name for path in taken.iterdir()] == ["mine.txt"]
    facts = json.loads((result.folder / "demo.json").read_text(encoding="utf-8"))
    assert set(facts["rows"]) == {PROBE, TUNING, LPT}
    draws = {name: rows[0]["image_draws"] for name, rows in facts["rows"].items()}
    assert draws == {PROBE: 0, TUNING: 24, LPT: 24} == {PROBE: 0, TUNING: BUDGET.image_draws, LPT: BUDGET.image_draws}
    assert facts["rows"][LPT][0]["metrics"]["boundaries"] == GROUPS.describe()
    assert {"versions", "machine", "command", "budget", "seconds", "seeds"} <= set(facts)
    assert (result.folder / "comparison.png").stat().st_size > 5_000

    examples = sorted((result.folder / "examples").glob("*.png"))
    assert len(examples) == 20
    predictions = lpt.Predictor(None, result.pack, checkpoint=checkpoint, precision="fp32").predict(examples)
    assert all(prediction.classes[0] in set("0123456789") for prediction in predictions)
    text = said.getvalue()
    for named in (PROBE, TUNING, LPT, GROUPS.describe(), f"lpt predict '{result.pack}'", "24", "image draws"):
        assert named in text


def test_splits_are_the_digits_of_a_seed() -> None:
    splits = digit_splits(0)
    assert splits.test is not None
    assert splits.train.class_counts.tolist() == [100, 64, 41, 27, 17, 11, 7, 4, 3, 2]
    assert len(splits.train) + len(splits.test) == 1797
    image = splits.train.read(0)
    assert (image.mode, image.size) == ("RGB", (8, 8))


def test_a_folder_is_numbered_never_replaced(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        folder = new_folder(tmp_path / "lpt-demo")
        (folder / "file").touch()
        names.append(folder.name)
    assert names == ["lpt-demo", "lpt-demo-2", "lpt-demo-3"]


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(ConfigError, match=r"pip install '\.\[demo\]'"):
        run_demo(tmp_path / "demo", seeds=1, budget=BUDGET)
    assert not (tmp_path / "demo").exists()
