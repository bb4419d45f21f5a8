"""Wrong input: exit code 2, one clear message that names the culprit and what to do, no traceback, nothing written."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import lpt
from lpt.cli.app import app
from lpt.commands.fit import disk, tracking
from lpt.data.images import ArrayImages
from lpt.data.manifest import LabelledImages, Splits
from lpt.data.printable import printable
from lpt.errors import ConfigError, DataError
from warm_process import run_warm, warm_lpt


class World(NamedTuple):
    """Where a case may do what it likes, and what is good."""

    path: Path
    photos: Path
    backbone: Path


@pytest.fixture
def world(tmp_path: Path, photo_folder: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    photos = Path(shutil.copytree(photo_folder, tmp_path / "photos"))
    monkeypatch.chdir(tmp_path)
    return World(tmp_path, photos, tiny_backbone)


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refused(world: World, arguments: list[object]) -> str:
    """The message of a command that must be refused and leave no trace."""
    before = contents(world.path)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 2, (result.output, result.exception)
    assert "Traceback" not in result.output
    assert result.output.count("Error: ") == 1
    assert contents(world.path) == before
    return result.output


def fit_arguments(world: World, *more: object) -> list[object]:
    """Arguments of a run that would work, with more after them."""
    base = ["fit", world.photos, "--output", world.path / "out", "--preset", "laptop", "--device", "cpu", "--size", 32]
    return [*base, "--checkpoint", world.backbone, *more]


def empty_folder(world: World) -> list[object]:
    (world.path / "empty").mkdir()
    return ["fit", world.path / "empty"]


def one_class(world: World) -> list[object]:
    shutil.rmtree(world.photos / "test")
    for name in ("dark", "grey"):
        shutil.rmtree(world.photos / "train" / name)
    return fit_arguments(world)


def bad_yaml(world: World) -> list[object]:
    (world.path / "my.yaml").write_text("train: [1, 2\nimage: {")
    return fit_arguments(world, "--config", world.path / "my.yaml")


def other_preset(world: World) -> list[object]:
    (world.path / "my.yaml").write_text("preset: paper\n")
    return fit_arguments(world, "--config", world.path / "my.yaml")


def yaml_list(world: World) -> list[object]:
    (world.path / "my.yaml").write_text("- train\n- image\n")
    return fit_arguments(world, "--config", world.path / "my.yaml")


def run_that_exists(world: World) -> list[object]:
    (world.path / "out").mkdir()
    (world.path / "out" / "config.yaml").write_text("preset: laptop\n")
    (world.path / "out" / "run.json").write_text('{"kind": "lpt-run", "format_version": 1}')
    return fit_arguments(world)


def config_of_something_else(world: World) -> list[object]:
    (world.path / "out").mkdir()
    (world.path / "out" / "config.yaml").write_text("site: my thesis\n")
    return fit_arguments(world, "--overwrite")


def foreign_folder(world: World) -> list[object]:
    (world.path / "out").mkdir()
    (world.path / "out" / "thesis.txt").write_text("precious")
    return fit_arguments(world, "--overwrite")


def output_is_a_file(world: World) -> list[object]:
    (world.path / "out").write_text("precious")
    return fit_arguments(world, "--overwrite")


def unreadable_image(world: World) -> list[object]:
    path = world.photos / "train" / "grey" / "1.jpg"
    path.write_bytes(path.read_bytes()[:200])
    return fit_arguments(world)


def unreadable_test_image(world: World) -> list[object]:
    (world.photos / "test" / "light" / "0.jpg").write_text("<html>not found</html>")
    return fit_arguments(world)


def unreadable_image_in_a_table(world: World) -> list[object]:
    """Of the test images, which nothing reads before the end of the run."""
    datasets = pytest.importorskip("datasets")
    paths = [str(world.photos / "train" / name / "0.jpg") for name in ("dark", "light")]
    (world.path / "broken.jpg").write_bytes((world.photos / "train" / "dark" / "0.jpg").read_bytes()[:200])
    tables = {"train": paths, "test": [paths[0], str(world.path / "broken.jpg")]}
    made = {name: datasets.Dataset.from_dict({"image": files, "label": [0, 1]}) for name, files in tables.items()}
    datasets.DatasetDict(made).save_to_disk(world.path / "table")
    return ["fit", f"hf:{world.path / 'table'}", *fit_arguments(world)[2:]]


def csv_without_columns(world: World) -> list[object]:
    (world.path / "list.csv").write_text("colour,weight\nred,1\n")
    return ["fit", world.path / "list.csv"]


def csv_with_lost_file(world: World) -> list[object]:
    (world.path / "list.csv").write_text("image,label\nphotos/train/dark/0.jpg,a\nphotos/nowhere.jpg,b\n")
    return ["fit", world.path / "list.csv"]


def list_with_bad_row(world: World) -> list[object]:
    (world.path / "list.txt").write_text("train/dark/0.jpg 0\ntrain/grey/0.jpg\ntrain/light/0.jpg 1\n")
    return ["fit", world.path / "list.txt", "--image-root", world.photos]


def set_option(*assignments: str) -> Callable[[World], list[object]]:
    return lambda world: fit_arguments(world, *(part for item in assignments for part in ("--set", item)))


def more(*arguments: object) -> Callable[[World], list[object]]:
    return lambda world: fit_arguments(world, *arguments)


CASES: dict[str, tuple[Callable[[World], list[object]], list[str]]] = {
    "no data": (lambda world: ["fit"], ["no data", "lpt fit photos/"]),
    "missing folder": (lambda world: ["fit", world.path / "photo"], ["photo", "Did you mean"]),
    "missing folder, doctor": (lambda world: ["doctor", world.path / "photo"], ["photo", "Did you mean"]),
    "empty folder": (empty_folder, ["empty"]),
    "one class": (one_class, ["at least 2 classes", "there are 1"]),
    "unknown preset": (more("--preset", "desktop"), ["'desktop'", "laptop", "paper"]),
    "unknown preset, config": (lambda world: ["config", "--preset", "desktop"], ["'desktop'", "laptop", "paper"]),
    "all faults at once": (
        set_option("train.batchsize=3", "modell.x=1", "loss.scale=big", "image.flip=[1]"),
        ["4 fault(s)", "train.batchsize", "batch_size", "modell", "loss.scale", "'big'", "image.flip", "lpt config"],
    ),
    "set without =": (set_option("train.batch_size"), ["train.batch_size", "section.field=value"]),
    "set a section to a value": (set_option("train=3"), ["train"]),
    "bad yaml": (bad_yaml, ["my.yaml", "not YAML", "line"]),
    "preset beside another's configuration": (
        other_preset,
        ["--preset laptop", "preset: paper", "leave preset, backbone, image, model, loss and train out"],
    ),
    "yaml that is a list": (yaml_list, ["my.yaml", "mapping"]),
    "no such yaml": (more("--config", "nowhere.yaml"), ["nowhere.yaml", "No such file"]),
    "size and patch": (more("--size", 33), ["33", "32"]),
    "size in words": (more("--size", "large"), ["'large'", "160x128"]),
    "pool smaller than k": (set_option("model.pool_size=1"), ["top_k (2)", "pool_size (1)"]),
    "validation share": (more("--val", 1.5), ["validation", "between 0 and 1", "1.5"]),
    "no checkpoint file": (more("--checkpoint", "nowhere.safetensors"), ["nowhere.safetensors"]),
    "run that exists": (run_that_exists, ["--resume", "--overwrite", "--output"]),
    "config.yaml of something else": (config_of_something_else, ["out", "not a run folder", "run.json"]),
    "foreign folder": (foreign_folder, ["out", "not a run folder"]),
    "output is a file": (output_is_a_file, ["out", "is a file"]),
    "resume nothing": (lambda world: ["fit", "--resume", world.photos], ["photos", "config.yaml"]),
    "resume with settings": (
        lambda world: ["fit", world.photos, "--resume", "run", "--seed", 1],
        ["leave out --seed"],
    ),
    "unreadable image": (unreadable_image, ["train/grey/1.jpg", "--bad-images skip"]),
    "unreadable test image": (unreadable_test_image, ["test/light/0.jpg", "web page", "--bad-images skip"]),
    "unreadable image in a table": (unreadable_image_in_a_table, ["test row 1", "200 bytes", "--bad-images skip"]),
    "csv without columns": (csv_without_columns, ["list.csv", "colour, weight", "--image-column"]),
    "csv with a lost file": (csv_with_lost_file, ["list.csv", "nowhere.jpg"]),
    "list with a bad row": (list_with_bad_row, ["list.txt", "2", "train/grey/0.jpg"]),
    "name too long": (lambda world: ["inspect", "x" * 300], ["x" * 300, "File name too long", "shorter"]),
    "no pack": (lambda world: ["inspect", world.photos], ["photos", "pack.json"]),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_with_a_clear_message(case: str, world: World) -> None:
    build, expected = CASES[case]
    message = refused(world, build(world))
    for part in expected:
        assert part in message


@pytest.mark.parametrize("case", ["unreadable image", "all faults at once", "size and patch", "foreign folder"])
def test_dry_run_refuses_the_same(case: str, world: World) -> None:
    build, expected = CASES[case]
    message = refused(world, [*build(world), "--dry-run"])
    for part in expected:
        assert part in message


@pytest.mark.parametrize(
    ("command", "fault", "expected"),
    [
        ("inspect", errno.EACCES, "Change its permissions"),
        ("inspect", errno.ENOSPC, "Free some space, then start the same command again."),
        ("fit", errno.ENOSPC, "Free some space, then go on with lpt fit --resume RUN_FOLDER."),
        ("inspect", errno.EIO, "Check that this path"),
    ],
)
def test_faults_of_files_are_told(
    command: str, fault: int, expected: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever file it is and whoever opens it: its path, the system's word, what to do."""

    def fail(*arguments: object, **options: object) -> None:
        raise OSError(fault, os.strerror(fault), "some/file")

    monkeypatch.setattr("lpt.commands.fit.fit.prepare", fail)  # first: its module imports load_pack
    monkeypatch.setattr("lpt.packs.pack.load_pack", fail)
    arguments = fit_arguments(world) if command == "fit" else [command, world.photos]
    assert f"Error: some/file: {os.strerror(fault)}. {expected}" in refused(world, arguments)


# --- the machine


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_cuda_device(world: World) -> None:
    message = refused(world, fit_arguments(world, "--device", "cuda"))
    assert "'cuda' is not available" in message
    assert "cpu" in message


def test_tracker_not_installed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    message = refused(world, fit_arguments(world, "--set", "runtime.log_with=[wandb]"))
    assert "wandb not installed" in message
    assert "pip install '.[wandb]'" in message


def test_no_room_on_the_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    for extra in ([], ["--dry-run"]):
        message = refused(world, fit_arguments(world, *extra))
        assert str(world.path / "out") in message
        assert "the run needs" in message


def program(arguments: list[object], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real program in an environment that libraries read when they are imported."""
    command = [sys.executable, "-m", "lpt", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **environment})


def test_backbone_not_in_the_cache_offline(world: World) -> None:
    (world.path / "hub").mkdir()
    arguments = ["fit", world.photos, "--backbone", "vit_small_patch16_224.augreg_in21k", "--device", "cpu"]
    done = program(arguments, HF_HUB_CACHE=str(world.path / "hub"), HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "vit_small_patch16_224.augreg_in21k" in done.stderr
    assert "--checkpoint FILE" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (world.path / "runs").exists()


def test_unknown_backbone(world: World) -> None:
    message = refused(world, ["fit", world.photos, "--backbone", "vit_tinny_patch16_224", "--device", "cpu"])
    assert "'vit_tinny_patch16_224'" in message
    assert "vit_tiny_patch16_224" in message


@pytest.mark.skipif(sys.platform == "win32", reason="needs ulimit")
def test_disk_that_fills_up(world: World, fitted_run: Path) -> None:
    """A write that fails in the middle names the file and leaves neither it nor a temporary one."""
    output = world.path / "result" / "found.csv"
    arguments = ["predict", "--checkpoint", world.backbone, fitted_run, world.photos, "--output", output]
    done = run_warm(warm_lpt(*arguments, most_bytes=1024))
    assert done.returncode == 2
    assert str(output) in done.stderr
    assert "Traceback" not in done.stderr
    assert list(output.parent.glob("*")) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs ulimit")
def test_disk_that_fills_up_in_training(world: World) -> None:
    """The run stops with the file's name; when there is room again, it goes on."""
    sizes = ("train.phase1.epochs=1", "train.phase2.epochs=1", "train.epoch_steps=3", "train.batch_size=8")
    settings = [part for item in sizes for part in ("--set", item)]
    done = run_warm(warm_lpt(*fit_arguments(world, *settings), most_bytes=8192))
    assert done.returncode == 2
    assert "latest.safetensors" in done.stderr
    assert "Traceback" not in done.stderr
    done = run_warm(warm_lpt("fit", "--resume", world.path / "out"))
    assert done.returncode == 0, done.stderr
    assert "Pack: " in done.stdout


# --- packs


def damage_tensors(pack: Path) -> None:
    path = pack / "pack.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def lose_tensors(pack: Path) -> None:
    (pack / "pack.safetensors").unlink()


def edit(**values: object) -> Callable[[Path], None]:
    def change(pack: Path) -> None:
        path = pack / "pack.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


def cut_json(pack: Path) -> None:
    path = pack / "pack.json"
    path.write_text(path.read_text()[:300])


PACK_CASES: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "truncated tensors": (damage_tensors, ["pack.safetensors", "damaged", "sha256"]),
    "no tensors": (lose_tensors, ["pack.safetensors", "cannot read"]),
    "cut json": (cut_json, ["pack.json", "damaged"]),
    "later format": (edit(format_version=99), ["99", "newer lpt"]),
    "unknown field": (edit(colour="red"), ["pack.json", "colour"]),
    "wrong type": (edit(class_counts="many"), ["pack.json", "class_counts"]),
}


@pytest.mark.parametrize("case", PACK_CASES)
def test_damaged_pack(case: str, world: World, fitted_run: Path) -> None:
    spoil, expected = PACK_CASES[case]
    spoil(fitted_run / "pack")
    for arguments in (
        ["inspect", fitted_run],
        ["predict", "--checkpoint", world.backbone, fitted_run, world.photos, "-o", world.path / "x.csv"],
    ):
        message = refused(world, arguments)
        for part in expected:
            assert part in message


def test_pack_with_a_class_too_few(world: World, fitted_run: Path) -> None:
    edit(class_names=["dark", "grey"], class_counts=[8, 4])(fitted_run / "pack")
    assert "pack.json" in refused(
        world, ["predict", "--checkpoint", world.backbone, fitted_run, world.photos, "-o", world.path / "x.csv"]
    )


def test_other_backbone_weights(world: World, fitted_run: Path) -> None:
    """Both hashes are shown."""
    weights = load_file(world.backbone)
    weights["norm.weight"] = weights["norm.weight"] * 1.01
    other = world.path / "other.safetensors"
    save_file(weights, other)
    shutil.copy(world.backbone.with_suffix(".json"), other.with_suffix(".json"))
    message = refused(world, ["evaluate", fitted_run, world.photos, "--checkpoint", other])
    recorded = json.loads((fitted_run / "pack" / "pack.json").read_text())["backbone"]["weight_hash"]
    assert recorded in message
    assert message.count("sha256") == 2


def test_backbone_file_that_is_gone(world: World, fitted_run: Path) -> None:
    path = fitted_run / "pack" / "pack.json"
    values = json.loads(path.read_text())
    values["backbone"]["checkpoint"] = "/nowhere/tiny.safetensors"
    path.write_text(json.dumps(values))
    message = refused(world, ["predict", fitted_run, world.photos])
    assert "/nowhere/tiny.safetensors" in message
    assert "--checkpoint FILE" in message


# --- images to predict, data to evaluate


def test_predict_what_is_no_image(world: World, fitted_run: Path) -> None:
    (world.path / "notes.md").write_text("no picture")
    message = refused(
        world,
        [
            "predict",
            "--checkpoint",
            world.backbone,
            fitted_run,
            world.path / "notes.md",
            "-o",
            world.path / "found.csv",
        ],
    )
    assert "notes.md" in message


def test_predict_a_list_whose_paths_start_elsewhere(world: World, fitted_run: Path) -> None:
    """The option that mends it is named, and no setting, which the command does not have."""
    (world.path / "list.csv").write_text("image\ntest/dark/0.jpg\n")
    arguments = ["predict", "--checkpoint", world.backbone, fitted_run, world.path / "list.csv"]
    message = refused(world, arguments)
    assert "--image-root" in message
    assert "--bad-images skip" in message
    assert "data." not in message
    (world.photos / "test" / "dark" / "0.jpg").write_bytes(b"")
    for root in ([], ["photos"]):
        message = refused(world, [*arguments, *root, "--image-root", world.photos])
        assert "it is empty" in message
        assert "data." not in message


@pytest.mark.parametrize(
    "command", ["predict", "evaluate", "extend", "calibrate", "serve", "inspect", "report", "export"]
)
def test_a_folder_that_is_not_there(command: str, world: World, fitted_run: Path) -> None:
    """It is said to be missing, and the packs and runs beside it are named."""
    more = {"predict": ["photos"], "evaluate": ["photos"], "extend": ["photos", "-o", "new"],
            "calibrate": ["photos", "-o", "new"], "export": ["-o", "new"]}.get(command, [])  # fmt: skip
    for name, near in (("nope", "in runs: photos."), ("fotos", "Did you mean runs/photos?")):
        message = refused(world, [command, f"runs/{name}", *more])
        assert "there is no folder" in message or "does not exist" in message
        assert near in message
        assert "pack.json" not in message


def test_predict_stops_late_and_leaves_nothing(world: World, fitted_run: Path) -> None:
    Image.new("RGB", (8, 8)).save(world.path / "a.png")
    (world.path / "b.png").write_bytes(b"\x89PNG broken")
    images = [*[world.path / "a.png"] * 40, world.path / "b.png"]
    assert "b.png" in refused(
        world, ["predict", "--checkpoint", world.backbone, fitted_run, *images, "-o", world.path / "found.jsonl"]
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere.jpg"], "nowhere.jpg"),
        (["empty"], "empty"),
        (["photos", "-o", "found.xlsx"], "must be .csv"),
        (["photos", "-o", "photos/test"], "must be .csv"),
        (["photos", "-o", "folder.csv"], "is a folder"),
        (["photos", "--prior", "trained"], "give a CSV file of class,share, or even or training"),
    ],
)
def test_predict_arguments(world: World, fitted_run: Path, arguments: list[str], expected: str) -> None:
    (world.path / "empty").mkdir()
    (world.path / "folder.csv").mkdir()
    assert expected in refused(world, ["predict", "--checkpoint", world.backbone, fitted_run, *arguments])


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("class,share\ndark,1\ngreen,2\n", ["row 3", "'green'"]),
        ("dark,much\n", ["row 1", "'much'"]),
        ("dark,-1\n", ["row 1", "'-1'"]),
        ("dark,nan\n", ["row 1", "'nan'"]),
        ("dark;1\n", ["row 1", "class,share"]),
        ("dark,1\ndark,2\n", ["row 2", "twice"]),
        ("dark,0\n", ["positive"]),
        ("dark,1e308\ngrey,1e308\n", ["finite"]),
        ("", ["positive"]),
    ],
)
def test_bad_prior(world: World, fitted_run: Path, rows: str, expected: list[str]) -> None:
    (world.path / "prior.csv").write_text(rows)
    message = refused(
        world,
        ["predict", "--checkpoint", world.backbone, fitted_run, world.photos, "--prior", world.path / "prior.csv"],
    )
    for part in ["prior.csv", *expected]:
        assert part in message


def test_evaluate_unknown_class(world: World, fitted_run: Path) -> None:
    for number, name in enumerate(("dark", "grey", "light")):
        (world.photos / "test" / name).rename(world.photos / "test" / f"violet{number}")
    assert "violet" in refused(world, ["evaluate", "--checkpoint", world.backbone, fitted_run, world.photos / "test"])


def test_evaluate_does_not_replace(world: World, fitted_run: Path) -> None:
    assert "run folder" in refused(
        world, ["evaluate", "--checkpoint", world.backbone, fitted_run, world.photos, "-o", fitted_run]
    )
    (world.path / "old").mkdir()
    (world.path / "old" / "metrics.json").write_text("{}")
    again = ["evaluate", "--checkpoint", world.backbone, fitted_run, world.photos, "-o", world.path / "old"]
    assert "remove it yourself" in refused(world, [*again, "--overwrite"])
    (world.path / "old" / "metrics.json").write_text('{"kind": "lpt-evaluation", "format_version": 1}')
    assert "--overwrite" in refused(world, again)


def test_hugging_face_folder_that_is_none(world: World) -> None:
    if importlib.util.find_spec("datasets") is None:
        pytest.skip("needs the extra hf")
    done = program(["doctor", f"hf:{world.path / 'nowhere'}"], HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("field", "value"), [("std", [0, 1, 1]), ("mean", [float("nan"), 0, 0]), ("name", "")])
def test_facts_beside_a_checkpoint_are_checked(tiny_backbone: Path, tmp_path: Path, field: str, value: Any) -> None:
    """They go into the pack, which would refuse them after the training."""
    facts = json.loads(tiny_backbone.with_suffix(".json").read_text()) | {field: value}
    (tmp_path / "own.json").write_text(json.dumps(facts))
    shutil.copy(tiny_backbone, tmp_path / "own.safetensors")
    with pytest.raises(ConfigError, match=rf"own\.json, beside the checkpoint: {field}"):
        lpt.load_backbone("own", checkpoint=tmp_path / "own.safetensors")


def test_class_names_are_made_fit_for_a_pack_before_training() -> None:
    """Control characters are escaped, names given twice refused."""
    images = LabelledImages(
        ArrayImages(np.zeros((2, 8, 8, 3), np.uint8)), np.arange(2), np.arange(2), ("a\x1b", "b\nc")
    )
    data = Splits(train=images, validation=None, test=None, counts_before_cut=images.class_counts)
    assert printable(data).class_names == ("a\\x1b", "b\nc")
    for names in (("a", "a"), ("a", "")):
        with pytest.raises(DataError, match="class names must differ"):
            printable(replace(data, train=replace(images, class_names=names)))
