"""Every method through the same loop, and `lpt compare`: equal draws, kept cells, honest gaps."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.accuracy.comparison_cells import has_weights, keep, restore, run_comparison
from rich.console import Console
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import lpt
from lpt.cli.app import app
from lpt.commands.compare import inference_cost
from lpt.commands.compare.compare import compare, estimate_comparison
from lpt.commands.compare.plan import ComparisonRequest
from lpt.commands.compare.settings import cell_changes
from lpt.config.presets import with_preset
from lpt.config.recipes import METHODS
from lpt.config.schema import RunConfig
from lpt.config.values import read_yaml
from lpt.data.manifest import Splits
from lpt.errors import ConfigError, DataError, PackError, RunError
from lpt.model.pretrained import load_backbone
from lpt.model.record import weight_hash
from lpt.system.hardware import Machine
from lpt.system.interrupt import Interrupted
from lpt.training.folder import RunFolder
from lpt.training.phases import Trainer
from samples import as_assignments, tiny_settings

CPU = Machine("cpu", "a processor", 2, False, 8 * 2**30, 8 * 2**30)
SOLVED = {"class-means", "linear-probe", "linear-probe-la"}


def settings(checkpoint: Path) -> list[str]:
    return as_assignments(tiny_settings(checkpoint, epoch_steps=2))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_packs_and_predicts(
    method: str, photo_folder: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    """A whole run of each: its pack is of trained tensors alone, loads anew and says what the run measured."""
    if method == "lora":
        pytest.importorskip("peft")
    before = weight_hash(load_backbone("tiny", checkpoint=tiny_backbone).vit)
    own = [one for one in settings(tiny_backbone) if method == "lpt" or not one.startswith(("model", "train.p"))]
    if method in SOLVED:
        own = [one for one in own if not one.startswith("train")]
    result = lpt.fit(photo_folder, tmp_path / "run", preset="laptop", method=method, settings=own)
    info = result.pack.info
    assert info.method.name == method
    assert info.backbone.weight_hash == before
    assert sum(array.size for array in result.pack.tensors.values()) == info.method.trainable_parameters
    whole = method.startswith("fine-tuning")
    assert (
        info.method.trainable_parameters > load_backbone("tiny", checkpoint=tiny_backbone).record.parameters
    ) == whole  # type: ignore[union-attr]

    with (tmp_path / "run" / "predictions.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    predictor = lpt.load_predictor(result.folder / "pack", checkpoint=tiny_backbone, precision="fp32")
    again = predictor.predict([Path(row["image"]) for row in rows])
    assert [one.classes[0] for one in again] == [row["predicted"] for row in rows]
    assert [one.probabilities[0] for one in again] == pytest.approx([float(r["probability"]) for r in rows], abs=2e-3)
    right = np.mean([row["class"] == row["predicted"] for row in rows])
    assert right == pytest.approx(result.metrics["test"].overall)


@pytest.mark.parametrize("method", sorted(set(METHODS) - SOLVED))
@pytest.mark.parametrize("preset", ["laptop", "paper"])
def test_every_trained_method_draws_as_many_images(method: str, preset: str) -> None:
    config = with_preset({"preset": preset, "method": method}, CPU.device, origin="test").config
    reference = with_preset({"preset": preset}, CPU.device, origin="test").config
    assert config.step_draws == reference.step_draws
    epochs = [one.train.phase1.epochs + one.train.phase2.epochs for one in (config, reference)]
    assert epochs[0] == epochs[1]


def test_lift_has_its_published_rate_under_the_published_preset() -> None:
    """0.01 for a batch of 128; a rate for batches of 256 grows with the batch."""
    phase = with_preset({"preset": "paper", "method": "lift"}, CPU.device, origin="test").config.train.phase1
    assert phase.optimizer == "sgd"
    assert phase.lr == pytest.approx(0.01 * 256 / 128)


def run(photo_folder: Path, tiny_backbone: Path, output: Path, **options: Any) -> Any:
    options = {"methods": ["linear-probe-la", "lift", "lpt"], "seeds": [0, 1], **options}
    return compare(photo_folder, output, preset="laptop", **{"settings": settings(tiny_backbone), **options})


def test_a_dry_run_counts_what_is_left_and_writes_nothing(
    photo_folder: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    """A finished cell is not counted, an interrupted one is; minutes that are too few are refused as without it."""
    output = tmp_path / "compared"

    def left(seeds: tuple[int, ...], **options: Any) -> dict[str, int]:
        request = ComparisonRequest(
            photo_folder, output, methods=("linear-probe-la", "lpt"), seeds=seeds, preset="laptop",
            settings=settings(tiny_backbone), **options,
        )  # fmt: skip
        estimates = estimate_comparison(request, Console(quiet=True))
        assert all(each.run_seconds > 0 and each.disk > 0 for each in estimates)
        assert [each.stepping > 0 for each in estimates] == [False, True]
        return {each.method: each.runs for each in estimates}

    assert left((0, 1)) == {"linear-probe-la": 2, "lpt": 2}
    with pytest.raises(ConfigError, match="too few minutes"):
        left((0,), budget=1e-6)
    with pytest.raises(ConfigError, match="leave out"):
        left((0,), ray=True)
    assert not output.exists()

    run(photo_folder, tiny_backbone, output, methods=["linear-probe-la"], seeds=[0])
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    assert left((0, 1)) == {"linear-probe-la": 1, "lpt": 2}
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before


def test_a_comparison_stops_goes_on_and_grows(
    photo_folder: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in a cell it goes on with the same command; finished cells are kept; methods can be added."""
    output, trained = tmp_path / "compared", []
    train = Trainer.run

    def interrupted(self: Trainer) -> None:
        trained.append(self.config.method)
        if len(trained) == 3:
            raise Interrupted("stopped")
        train(self)

    monkeypatch.setattr(Trainer, "run", interrupted)
    with pytest.raises(Interrupted, match="same command"):
        run(photo_folder, tiny_backbone, output)
    assert trained == ["linear-probe-la", "lift", "lpt"]
    kept = (output / "runs" / "lift" / "seed0" / "pack" / "pack.safetensors").stat().st_mtime_ns

    trained.clear()
    monkeypatch.setattr(Trainer, "run", lambda self: (trained.append(self.config.method), train(self))[1])
    first = run(photo_folder, tiny_backbone, output)
    assert trained == ["lpt", "linear-probe-la", "lift", "lpt"]
    assert (output / "runs" / "lift" / "seed0" / "pack" / "pack.safetensors").stat().st_mtime_ns == kept
    assert len(first.cells) == 6
    assert not first.missing
    draws = {(cell.method, cell.cost.image_draws) for cell in first.cells}
    assert draws == {("linear-probe-la", 0), ("lift", 96), ("lpt", 96)}
    assert all(cell.cost.inference_ratio is not None and cell.cost.train_seconds > 0 for cell in first.cells)
    assert all(cell.cost.peak_memory_bytes > 2**20 for cell in first.cells)

    trained.clear()
    grown = run(photo_folder, tiny_backbone, output, methods=["bias"], seeds=[1])
    assert trained == ["bias"]
    assert len(grown.cells) == 7
    assert grown.missing == {("bias", 0): "not asked for"}
    summary = json.loads((output / "comparison.json").read_text(encoding="utf-8"))
    assert summary["missing"] == [{"method": "bias", "seed": 0, "reason": "not asked for"}]
    for name in ("comparison.md", "comparison.csv", "per_class.csv", "groups.png", "cost.png", "accuracy_by_count.png"):
        assert (output / name).stat().st_size > 100, name


def test_without_test_images_a_part_is_held_out(photo_folder: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    """The same images for every method and seed, told in the tables; shot groups go by the counts before."""
    said = io.StringIO()
    compared = compare(
        photo_folder / "train",
        tmp_path / "compared",
        methods=["class-means", "linear-probe"],
        seeds=[0, 1],
        holdout=0.25,
        preset="laptop",
        settings=settings(tiny_backbone),
        console=Console(file=said, width=200),
    )
    tables = [
        tmp_path / "compared" / "runs" / one.method / f"seed{one.seed}" / "predictions.csv" for one in compared.cells
    ]
    tested = {
        tuple(line.rsplit(",", 2)[0] for line in table.read_text(encoding="utf-8").splitlines()) for table in tables
    }
    assert len(compared.cells) == 4
    assert len(tested) == 1
    assert compared.cells[0].labels.tolist() == [0, 0, 1]
    assert compared.train_counts[0].tolist() == [8, 4, 2]
    assert compared.train_images == {0: 11, 1: 11}
    assert "Held out for testing: 3 images, 25 % of each class." in said.getvalue()
    written = (tmp_path / "compared" / "comparison.md").read_text(encoding="utf-8")
    assert "Groups by training images of a class, held-out ones included: " in written
    assert "image_draws" not in written  # neither method draws images
    assert "Held out for testing: 3 images" in written
    assert ": 11 training images, 3 test images" in written


@pytest.mark.slow
def test_the_demos_digits_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the embedded data and backbone, with a sixth of the demo's draws, what is trained beats what is not."""
    pytest.importorskip("sklearn")
    from lpt.demo.digits import digit_splits
    from lpt.demo.settings import COMMON

    def digits(seed: int) -> Splits:
        splits = digit_splits(seed)
        assert splits.test is not None
        return replace(splits, test=splits.test.subset(np.arange(0, len(splits.test), 3)))

    monkeypatch.setattr(inference_cost, "ROUNDS", 1)
    budget = ["train.batch_size=16", "train.epoch_steps=5", "train.phase1.epochs=4", "train.phase2.epochs=1"]
    own = ["backbone.name=lpt-demo-glyphs", "model.prompt_length=4", "model.pool_size=8", "runtime.threads=1"]
    compared = compare(
        digits,
        tmp_path / "digits",
        methods=["class-means", "lpt"],
        preset="laptop",
        config=COMMON,
        settings=[*own, *budget],
    )
    overall = {cell.method: cell.metrics.overall for cell in compared.cells}
    assert overall["lpt"] > overall["class-means"] > 0.5


def test_a_cell_begun_before_a_field_was_there_is_kept(photo_folder: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    cell = tmp_path / "compared" / "runs" / "class-means" / "seed0"
    run(photo_folder, tiny_backbone, tmp_path / "compared", methods=["class-means"], seeds=[0])
    config = cell / "config.yaml"
    lines = config.read_text(encoding="utf-8").splitlines(keepends=True)
    config.write_text("".join(line for line in lines if "prompt_init" not in line), encoding="utf-8")
    kept = (cell / "pack" / "pack.safetensors").stat().st_mtime_ns
    run(photo_folder, tiny_backbone, tmp_path / "compared", methods=["class-means"], seeds=[0])
    assert (cell / "pack" / "pack.safetensors").stat().st_mtime_ns == kept


def test_another_comparison_is_not_mixed_in(
    photo_folder: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "compared"
    run(photo_folder, tiny_backbone, output, methods=["class-means"], seeds=[0])
    with pytest.raises(RunError, match="other settings"):
        compare(
            photo_folder,
            output,
            methods=["class-means"],
            preset="laptop",
            settings=[*settings(tiny_backbone), "image.test_crop=1.0"],
        )
    with pytest.raises(RunError, match=r"seed0 was trained with other settings: loss.scale was 20.0, is 30"):
        run(
            photo_folder,
            tiny_backbone,
            output,
            methods=["class-means"],
            seeds=[0],
            settings=[*settings(tiny_backbone), "class-means:loss.scale=30"],
        )
    thrown = [*settings(tiny_backbone), "image.test_crop=1.0"]
    (output / "errors").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", raises(Interrupted("stopped")))
        with pytest.raises(Interrupted):
            run(photo_folder, tiny_backbone, output, methods=["lpt"], seeds=[0], settings=thrown, overwrite=True)
    assert sorted(path.name for path in output.iterdir()) == ["plan.json", "runs"]  # no tables of what is gone
    run(photo_folder, tiny_backbone, output, methods=["linear-probe"], seeds=[0], settings=thrown, overwrite=True)
    assert [path.parts[-3] for path in output.glob("runs/*/seed0/config.yaml")] == ["linear-probe"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(RunError, match="no comparison"):
        run(photo_folder, tiny_backbone, tmp_path / "mine")


def test_a_cell_that_fails_does_not_stop_the_others(photo_folder: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    """The table is written without it, says so, and the command ends with the reason."""
    with pytest.raises(RunError, match=r"lift, seed 0: .*not finite"):
        compare(
            photo_folder,
            tmp_path / "compared",
            methods=["lift", "lpt"],
            preset="laptop",
            settings=[*settings(tiny_backbone), "lift:train.phase1.lr=1e30", "lift:train.phase1.epochs=3"],
        )
    summary = json.loads((tmp_path / "compared" / "comparison.json").read_text(encoding="utf-8"))
    assert [cell["method"] for cell in summary["cells"]] == ["lpt"]
    missing = summary["missing"][0]
    assert (missing["method"], missing["seed"], "not finite" in missing["reason"]) == ("lift", 0, True)


def test_an_error_no_one_foresaw_does_not_stop_the_others(
    photo_folder: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = Trainer.run

    def broken(self: Trainer) -> None:
        if self.config.method == "lift":
            raise OSError("a cable came loose")
        train(self)

    monkeypatch.setattr(Trainer, "run", broken)
    with pytest.raises(
        RunError, match=r"lift, seed 0: OSError: a cable came loose \(the whole of it: .*lift_seed0.txt\)"
    ):
        run(photo_folder, tiny_backbone, tmp_path / "compared", methods=["lift", "lpt"], seeds=[0])
    told = tmp_path / "compared" / "errors" / "lift_seed0.txt"
    assert "in broken" in told.read_text(encoding="utf-8")
    assert json.loads((tmp_path / "compared" / "comparison.json").read_text(encoding="utf-8"))["cells"]

    monkeypatch.setattr(Trainer, "run", train)
    run(photo_folder, tiny_backbone, tmp_path / "compared", methods=["lift", "lpt"], seeds=[0])
    assert not told.exists()


def test_overwrite_throws_nothing_away_for_a_fault(photo_folder: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    """The settings asked for are checked, not those of the runs that are to go."""
    output = tmp_path / "compared"
    run(photo_folder, tiny_backbone, output, methods=["lift"], seeds=[0])
    wrong = [*settings(tiny_backbone), "lift:train.phase2.epochs=3"]
    with pytest.raises(ConfigError, match=r"phase2\.epochs must be 0"):
        run(photo_folder, tiny_backbone, output, methods=["lift"], seeds=[0], settings=wrong, overwrite=True)
    assert RunFolder(output / "runs" / "lift" / "seed0").finished
    changed = [*settings(tiny_backbone), "lift:train.phase1.lr=0.1"]
    run(photo_folder, tiny_backbone, output, methods=["lift"], seeds=[0], settings=changed, overwrite=True)
    assert "lr: 0.1\n" in (output / "runs" / "lift" / "seed0" / "config.yaml").read_text(encoding="utf-8")
    assert "lift: train.phase1.lr=0.1" in (output / "comparison.md").read_text(encoding="utf-8")


def test_what_does_nothing_in_one_method_is_told(
    photo_folder: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of settings that are a method's own; what is said for LPT and means nothing to the others is not their fault."""
    monkeypatch.setattr("lpt.commands.compare.compare.train_cells", lambda *cells, **options: {})
    console = Console(file=io.StringIO(), width=200, color_system=None)
    own = ["lift:model.pool_size=3", "lift:model.adapter_size=2", "vpt-deep:train.sampling=balanced"]
    own += ["vpt-deep:loss.name=logit_adjusted"]
    run(
        photo_folder, tiny_backbone, tmp_path / "compared", methods=["lift", "vpt-deep", "lpt"], seeds=[0],
        settings=[*settings(tiny_backbone), *own], console=console,
    )  # fmt: skip
    told = [line for line in console.file.getvalue().splitlines() if line.startswith(("  lift:", "  vpt-deep:"))]  # type: ignore[attr-defined]
    assert told[0].startswith("  lift: model.pool_size: 3 has no effect")
    assert told[1].startswith("  vpt-deep: loss.name logit_adjusted and train.sampling balanced each make up")
    assert len(told) == 2


def test_a_comparison_goes_on_elsewhere_without_its_weights(
    photo_folder: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finished cells kept among the results stand in the same tables on another machine, and are not trained again."""
    first, results, second = tmp_path / "first", tmp_path / "results", tmp_path / "second"
    methods = ["linear-probe-la", "lpt"]
    run_comparison(
        photo_folder, first, results, seeds=[0], methods=methods, preset="laptop", settings=settings(tiny_backbone)
    )
    before = {path.name: path.read_bytes() for path in sorted((results / "cells").glob("*.zip"))}
    assert [*before] == ["linear-probe-la_seed0.zip", "lpt_seed0.zip"]
    assert has_weights(first / "runs" / "lpt" / "seed0")

    restore(results, second)
    monkeypatch.setattr(Trainer, "run", lambda self: pytest.fail("trained again"))
    run(photo_folder, tiny_backbone, second, methods=methods, seeds=[0])
    assert not has_weights(second / "runs" / "lpt" / "seed0")
    for name in ("comparison.csv", "per_class.csv"):
        assert (second / name).read_text(encoding="utf-8") == (first / name).read_text(encoding="utf-8")
    (second / "inference.json").unlink()
    untimed = run(photo_folder, tiny_backbone, second, methods=methods, seeds=[0])
    assert [cell.cost.inference_ratio for cell in untimed.cells] == [None, None]
    keep(second, results)
    assert {path.name: path.read_bytes() for path in sorted((results / "cells").glob("*.zip"))} == before


def test_a_row_is_of_one_setting(photo_folder: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    """Another seed with other settings is refused, also where a value was given before and is not any more."""
    own = [*settings(tiny_backbone), "lift:train.phase1.head_lr=0.01", "lift:model.adapter_size=2"]
    run(photo_folder, tiny_backbone, tmp_path / "compared", methods=["lift", "lpt"], seeds=[0], settings=own)
    kept_views = [*settings(tiny_backbone), "prefix_cache.views=2"]
    for seed in (0, 1):
        with pytest.raises(
            RunError, match=r"other settings: model.adapter_size was 2, is 1; train.phase1.head_lr was 0.01, is None"
        ):
            run(photo_folder, tiny_backbone, tmp_path / "compared", methods=["lift"], seeds=[seed])
    with pytest.raises(RunError, match=r"other settings: prefix_cache.views was None, is 2"):
        run(photo_folder, tiny_backbone, tmp_path / "compared", methods=["lpt"], seeds=[1], settings=kept_views)
    elsewhere = [*own, "runtime.threads=2", "runtime.workers=0"]
    grown = run(photo_folder, tiny_backbone, tmp_path / "compared", methods=["lift"], seeds=[1], settings=elsewhere)
    assert len(grown.cells) == 3


@pytest.mark.parametrize("split", ["train", "test"])
def test_other_images_are_not_mixed_in(split: str, photo_folder: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    photos = Path(shutil.copytree(photo_folder, tmp_path / "photos"))
    run(photos, tiny_backbone, tmp_path / "compared", methods=["class-means"], seeds=[0])
    image = next((photos / split).rglob("*.jpg"))
    image.rename(image.with_name("another.jpg"))
    with pytest.raises(RunError, match=f"seed0 is of other {split}(ing)? images than there are now"):
        run(photos, tiny_backbone, tmp_path / "compared", methods=["linear-probe"], seeds=[0])


def test_other_images_of_another_seed_are_not_mixed_in(photo_folder: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    """A row is a mean over seeds: all of them are of the same data, also those that a command does not name."""
    run(photo_folder, tiny_backbone, tmp_path / "compared", methods=["class-means"], seeds=[0])
    photos = Path(shutil.copytree(photo_folder, tmp_path / "photos"))
    next((photos / "test").rglob("*.jpg")).unlink()
    with pytest.raises(RunError, match="seed0 is of other test images than there are now"):
        run(photos, tiny_backbone, tmp_path / "compared", methods=["class-means"], seeds=[1])
    assert not (tmp_path / "compared" / "runs" / "class-means" / "seed1").exists()


def test_the_same_weights_elsewhere_and_no_others(
    photo_folder: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the weights' file lies does not matter, what is in it does; a time that cannot be taken costs no table."""
    output, elsewhere = tmp_path / "compared", tmp_path / "elsewhere"
    run(photo_folder, tiny_backbone, output, methods=["class-means"], seeds=[0])
    moved = Path(shutil.copytree(tiny_backbone.parent, elsewhere)) / tiny_backbone.name
    (output / "inference.json").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(
            "lpt.commands.compare.inference_cost.load_pack", raises(PackError("trained on local weights, not here"))
        )
        said = io.StringIO()
        grown = run(
            photo_folder, moved, output, methods=["class-means"], seeds=[0, 1], console=Console(file=said, width=200)
        )
    assert [cell.cost.inference_ratio for cell in grown.cells] == [None, None]
    assert "the inference time of nearest class mean is left out: trained on local weights" in said.getvalue()

    weights = load_file(moved)
    name = next(one for one in weights if one.endswith("attn.qkv.weight"))
    save_file({**weights, name: weights[name] + 1}, moved)
    with pytest.raises(RunError, match=r"seed0 was trained on other weights \(sha256 \w{12}\)"):
        run(photo_folder, moved, output, methods=["linear-probe"], seeds=[0])


def raises(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def test_a_stopped_cell_goes_on_with_the_machine_of_now(
    photo_folder: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another precision or thread count, as the advice at a failure has it, holds also for the cell that failed."""
    own = [one for one in settings(tiny_backbone) if not one.startswith("runtime.precision")]
    asked = {"methods": ["lift"], "seeds": [0]}
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", raises(Interrupted("stopped")))
        with pytest.raises(Interrupted):
            run(photo_folder, tiny_backbone, tmp_path / "c", settings=[*own, "runtime.precision=bf16"], **asked)
    now = [*own, "runtime.precision=fp32", "runtime.threads=2", "train.micro_batch=3"]
    run(photo_folder, tiny_backbone, tmp_path / "c", settings=now, **asked)
    stored = read_yaml(tmp_path / "c" / "runs" / "lift" / "seed0" / "config.yaml")
    assert (stored["runtime"]["precision"], stored["runtime"]["threads"]) == ("fp32", 2)
    assert stored["train"]["micro_batch"] == 3
    assert "fp32" in (tmp_path / "c" / "comparison.md").read_text(encoding="utf-8")


def test_classes_too_small_to_hold_any_out(photo_folder: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"too small to hold 5 % of it out for testing: the largest has 8 images. .*data\.test"
    ):
        run(photo_folder / "train", tiny_backbone, tmp_path / "c", methods=["class-means"], seeds=[0], holdout=0.05)


def test_a_budget_cuts_the_steps_of_all_methods_alike(photo_folder: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    said = io.StringIO()
    more = [*settings(tiny_backbone), "train.epoch_steps=4000"]
    comparison = compare(
        photo_folder,
        tmp_path / "compared",
        methods=["lift", "lpt"],
        preset="laptop",
        settings=more,
        budget=0.1,
        console=Console(file=said, width=200),
    )
    draws = {cell.cost.image_draws for cell in comparison.cells}
    assert len(draws) == 1
    assert 0 < draws.pop() < 0.5 * 3 * 4000 * 16
    assert "% of the preset's steps" in said.getvalue()
    said.truncate(0)
    grown = compare(
        photo_folder, tmp_path / "compared", methods=["vpt-deep", "lift"], preset="laptop", settings=more, budget=0.1,
        console=Console(file=said, width=200),
    )  # fmt: skip
    assert {cell.cost.image_draws for cell in grown.cells} == {cell.cost.image_draws for cell in comparison.cells}
    assert "as this comparison was begun" in said.getvalue()
    with pytest.raises(ConfigError, match="too few"):
        compare(photo_folder, tmp_path / "none", methods=["lpt"], preset="laptop", settings=more, budget=1e-6)


def test_a_budget_is_measured_once(
    photo_folder: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of whole steps: not of those cut before; and not by methods that have none."""
    asked = {"preset": "laptop", "settings": [*settings(tiny_backbone), "train.epoch_steps=40000"], "budget": 1}

    def share(folder: Path) -> float | None:
        return json.loads((folder / "plan.json").read_text(encoding="utf-8"))["share"]

    def stopped(folder: Path, methods: list[str]) -> float | None:
        """The share is settled before anything is trained."""
        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            patch.setattr(Trainer, "run", raises(Interrupted("stopped")))
            compare(photo_folder, folder, methods=methods, **asked)
        return share(folder)

    before = stopped(tmp_path / "c", ["class-means", "lpt"])
    assert before is not None
    assert 0 < before < 0.5
    assert stopped(tmp_path / "c", ["class-means", "lpt"]) == before

    compare(photo_folder, tmp_path / "d", methods=["class-means"], **asked)
    assert share(tmp_path / "d") is None
    assert 0 < (stopped(tmp_path / "d", ["class-means", "lpt"]) or 0) < 0.5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--methods", "lift,svm"], "no method 'svm'"),
        (["--methods", "lpt,lpt"], "given twice"),
        (["--seeds", "first"], "whole numbers"),
        (["--set", "model.heads=3"], "model.heads: no such field"),
        (["--methods", "lift", "--set", "lift:train.phase2.epochs=3"], "phase2.epochs must be 0"),
        (["--methods", "lift,lpt", "--set", "lift:runtime.seed=3"], "must be the same for all methods"),
        (["--methods", "lift,lpt", "--set", "lift:image.size=64"], "must be the same for all methods"),
        (["--methods", "lpt", "--set", "lift:train.phase1.lr=1"], "not among the methods"),
        (["--set", "runtime.seed=3"], "--seeds"),
        (["--methods", "last-blocks", "--set", "last-blocks:model.last_blocks=9"], "last-blocks: last_blocks must lie"),
    ],
)
def test_wrong_requests_stop_before_anything_is_written(
    arguments: list[str], said: str, photo_folder: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    command = ["compare", str(photo_folder), "-o", str(tmp_path / "out"), "--preset", "laptop"]
    command += ["--checkpoint", str(tiny_backbone), "--size", "32", *arguments]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


def test_a_configuration_is_of_one_method(photo_folder: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    """A whole configuration of one method under the name of another would train the first and call it the second."""
    config = tmp_path / "run.yaml"
    config.write_text("method: lpt\nmodel: {prompts: grouped}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="method lift: the configuration says method: lpt"):
        lpt.fit(photo_folder, tmp_path / "run", config=config, method="lift", settings=settings(tiny_backbone))


def test_phase_1_alone_is_lpts(tmp_path: Path) -> None:
    """What the user says of prompts, loss and sampling holds for phase 1 alone too, and so do the draws."""
    values = {"model": {"prompt_length": 7, "adapter_size": 3}, "loss": {"scale": 15.0, "instance_weight": 0.0}}
    base = with_preset({"preset": "laptop", **values}, CPU.device, origin="test").config
    own = METHODS["lpt-phase1"].values(base)
    config = with_preset({"preset": "laptop", **own, "method": "lpt-phase1"}, CPU.device, origin="test").config
    assert (config.model.prompts, config.model.prompt_length, config.loss.scale) == ("deep", 7, 15.0)
    assert config.model.adapter_size == 3
    assert config.streams == base.streams == ("balanced",)
    assert config.step_draws == base.step_draws


class StopsSoon:
    """A request to stop that comes after so many looks at it."""

    def __init__(self, looks: int) -> None:
        self._looks = looks

    @property
    def requested(self) -> bool:
        self._looks -= 1
        return self._looks < 0


def test_a_stopped_fine_tuning_ends_at_the_same_bytes(
    photo_folder: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rates and decays of groups of tensors come back too, and so does what the optimiser remembers of each."""
    own = [one for one in settings(tiny_backbone) if not one.startswith(("model", "train.p"))]
    options: dict[str, Any] = dict(preset="laptop", method="fine-tuning-la", settings=own)
    whole = lpt.fit(photo_folder, tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        patch.setattr("lpt.commands.fit.fit.stop_on_signal", lambda: contextlib.nullcontext(StopsSoon(7)))
        with pytest.raises(Interrupted):
            lpt.fit(photo_folder, tmp_path / "stopped", **options)
    folder = RunFolder(tmp_path / "stopped")
    assert 0 < len(list(folder.records())) < 24
    lpt.resume(folder.path)
    assert (whole.folder / "pack" / "pack.safetensors").read_bytes() == (folder.pack / "pack.safetensors").read_bytes()


def test_settings_that_do_nothing_in_a_finished_run_do_not_count() -> None:
    """A preset may change how LPT trains, or what adapters look like, without making a linear probe another one."""
    config = RunConfig.model_validate(
        {
            "train": {"phase1": {"epochs": 0, "lr": 2.0}, "phase2": {"epochs": 2, "lr": 2.0}},
            "model": {"adapter_size": 0},
        }
    )
    wanted = config.model_dump(mode="json")
    wanted["train"]["phase1"]["lr"] = wanted["train"]["phase2"]["lr"] = 1.0
    wanted["model"] |= {"adapter_size": "auto", "adapter_scale": None}
    assert cell_changes(config, wanted) == ["train.phase2.lr was 2.0, is 1.0"]
    wanted["model"]["adapter_size"] = 4
    wanted["train"]["phase1"]["epochs"] = 3
    changed = [line.split()[0] for line in cell_changes(config, wanted)]
    assert changed == ["model.adapter_size", "train.phase1.epochs", "train.phase2.lr"]
