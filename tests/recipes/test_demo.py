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
from lpt.commands.compare import training as comparing
from lpt.config.recipes import METHODS as RECIPES
from lpt.demo.digits import digit_splits
from lpt.demo.run import new_folder, run_demo
from lpt.demo.settings import FINE_TUNING, LPT, METHODS, PROBE, DemoBudget
from lpt.errors import ConfigError
from lpt.system.interrupt import Interrupted
from lpt.training import linear_probe

pytest.importorskip("sklearn")

BUDGET = DemoBudget(batch_size=4, epoch_steps=1, phase1_epochs=2, phase2_epochs=1)
BOUNDARIES = "many > 50, medium 10-50, few < 10"


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
def test_demo_leaves_everything_it_names(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_probe, "CUTS", 1)  # its weight decay is chosen on one half of the training images
    output = io.StringIO()
    console = Console(file=output, width=400)
    taken = tmp_path / "my [b]demo"  # quoted for the shell, and no markup
    taken.mkdir()
    (taken / "mine.txt").write_text("keep", encoding="utf-8")
    result = run_demo(taken, seeds=1, budget=BUDGET, backbone="tiny", checkpoint=checkpoint, console=console)

    assert result.folder == tmp_path / "my [b]demo-2"
    assert [path.name for path in taken.iterdir()] == ["mine.txt"]
    titles = [RECIPES[method].title for method in METHODS]
    facts = json.loads((result.folder / "demo.json").read_text(encoding="utf-8"))
    assert list(facts["rows"]) == list(facts["summary"]) == titles
    rows = {method: facts["rows"][RECIPES[method].title][0] for method in METHODS}
    assert {method: row["image_draws"] for method, row in rows.items()} == {PROBE: 0, FINE_TUNING: 24, LPT: 24}
    assert BUDGET.image_draws == facts["budget"]["image_draws"] == 24
    assert all((result.folder / row["run_folder"] / "pack").is_dir() for row in rows.values())
    assert rows[LPT]["metrics"]["boundaries"] == BOUNDARIES
    assert facts["summary"][RECIPES[LPT].title]["overall"] == {"mean": rows[LPT]["metrics"]["overall"], "std": None}
    assert {"versions", "machine", "command", "settings", "seconds", "seeds", "date"} <= set(facts)
    for name in ("groups.png", "cost.png", "accuracy_by_count.png", "comparison.md"):
        assert (result.folder / name).stat().st_size > 1_000

    examples = sorted((result.folder / "examples").glob("*.png"))
    assert len(examples) == 20
    predictions = lpt.load_predictor(result.pack, checkpoint=checkpoint, precision="fp32").predict(examples)
    assert all(prediction.classes[0] in set("0123456789") for prediction in predictions)
    text = output.getvalue()
    used = (f"lpt predict '{result.pack}'", f"--checkpoint {checkpoint}")
    for part in (*titles, BOUNDARIES, *used, "24 image draws", "Menon", "Stored for the task"):
        assert part in text


def test_an_interrupted_demo_is_started_anew_beside_it(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise Interrupted("stopped")

    monkeypatch.setattr(comparing, "fit_prepared", interrupt)
    for name in ("demo", "demo-2"):
        with pytest.raises(Interrupted, match=f"lies in {tmp_path / name}. Start the demo anew with: lpt demo"):
            run_demo(tmp_path / "demo", seeds=1, budget=BUDGET, backbone="tiny", checkpoint=checkpoint)
    assert (tmp_path / "demo" / "plan.json").is_file()


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
