"""The commands as a user runs them, on tiny data."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner, Result

from lpt import __version__
from lpt.cli.app import app
from lpt.commands.fit import estimate as dry_run
from lpt.commands.fit.prepare import prepare
from lpt.commands.fit.request import RunRequest
from lpt.data.images import FileImages
from samples import as_assignments, tiny_settings
from warm_process import run_warm, warm_lpt

COMMANDS = ("doctor", "fit", "tune", "evaluate", "predict", "serve", "inspect", "config", "demo")
SETTINGS = ("train.phase1.epochs=1", "train.phase2.epochs=1", "train.epoch_steps=3", "train.batch_size=8")
PROGRAM = [sys.executable, "-c", "from lpt.cli import main; main()"]


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def fit_arguments(photos: Path, backbone: Path, output: Path) -> list[object]:
    settings = [part for item in SETTINGS for part in ("--set", item)]
    base = ["fit", photos, "--output", output, "--preset", "laptop", "--device", "cpu", "--size", "32"]
    return [*base, "--checkpoint", backbone, *settings]


def program(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


# --- help


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example_and_explains_every_option(command: str) -> None:
    text = run(command, "--help").output
    assert f"lpt {command}" in text
    assert "Example" in text
    for parameter in next(
        item for item in app.registered_commands if item.callback.__name__ == command
    ).callback.__annotations__:
        if parameter not in ("ctx", "return", "data", "pack", "images", "set_"):
            assert parameter.replace("_", "-") in text


def test_version_and_no_arguments() -> None:
    assert run("--version").output.strip() == f"lpt {__version__}"
    assert "doctor" in CliRunner().invoke(app, []).output


def test_help_and_wrong_arguments_do_not_wait_for_torch() -> None:
    """Neither the package nor the program imports what takes seconds."""
    code = (
        "import sys, lpt, lpt.cli.app; print([m for m in ('torch', 'timm', 'matplotlib', 'PIL') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
    wrong = program("fit", "--bad-option")
    assert wrong.returncode == 2
    assert "--bad-option" in wrong.stderr


def test_public_names_are_there() -> None:
    import lpt

    assert set(lpt.__all__) <= set(dir(lpt))
    for name in lpt.__all__:
        assert getattr(lpt, name).__name__ == name
    for name in lpt._MODULES:
        assert getattr(lpt, name).__name__ == f"lpt.{name}"
    with pytest.raises(AttributeError, match="nothing"):
        _ = lpt.nothing


# --- the way of a user


def test_doctor(photo_folder: Path, tmp_path: Path) -> None:
    plot, matches = tmp_path / "plot.png", tmp_path / "found.json"
    output = run("doctor", photo_folder, "--plot", plot, "--json", matches, "--few-below", 4, "--many-above", 6).output
    for part in ("dark", "imbalance factor 4", "many > 6, medium 4-6, few < 4", "Usable"):
        assert part in output
    assert Image.open(plot).width > 300
    values = json.loads(matches.read_text())
    assert values["training_images"] == {"dark": 8, "grey": 4, "light": 2}
    assert values["usable"] is True


def test_doctor_names_broken_images_and_says_so_by_its_exit_code(photo_folder: Path, tmp_path: Path) -> None:
    photos = Path(shutil.copytree(photo_folder, tmp_path / "photos"))
    (photos / "train" / "grey" / "1.jpg").write_bytes(b"broken")
    result = CliRunner().invoke(app, ["doctor", str(photos)])
    assert result.exit_code == 1
    assert "grey/1.jpg" in result.output
    assert "Not usable" in result.output
    assert "left out" in run("doctor", photos, "--bad-images", "skip").output


def test_fit_then_everything_else(photo_folder: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    """The way of the README: fit, evaluate, predict, inspect, and the saved configuration again."""
    folder = tmp_path / "runs" / "photos"
    photos = Path(shutil.copytree(photo_folder, tmp_path / "photos [1]"))  # brackets are no markup
    (photos / "train" / "grey" / "1.jpg").write_bytes(b"broken")
    arguments = [*fit_arguments(photos, tiny_backbone, folder), "--bad-images", "skip", "--seed", 3]
    output = run(*arguments).output
    for part in ("Phase 1", "Phase 2", "overall", "few < 20", str(folder / "pack"), "Next: lpt predict"):
        assert part in output
    for name in ("metrics.json", "per_class.csv", "losses.png", "accuracy_by_count.png", "log.jsonl", "pack/pack.json"):
        assert (folder / name).is_file()
    assert "grey/1.jpg" in (folder / "skipped_images.csv").read_text()
    assert yaml.safe_load((folder / "config.yaml").read_text())["runtime"]["seed"] == 3
    run("fit", "--config", folder / "config.yaml", "--output", tmp_path / "again", "--quiet")
    packs = [(path / "pack" / "pack.safetensors").read_bytes() for path in (folder, tmp_path / "again")]
    assert packs[0] == packs[1]
    assert "is finished" in run("fit", "--resume", folder).output


def test_quiet_is_silent(photo_folder: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    """Libraries too, when they are imported."""
    done = program(*fit_arguments(photo_folder, tiny_backbone, tmp_path / "run"), "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_library_speaks(photo_folder: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    done = run_warm(warm_lpt(*fit_arguments(photo_folder, tiny_backbone, tmp_path / "run")))
    assert (done.returncode, done.stderr) == (0, "")
    assert "Warning" not in done.stdout


def test_dry_run_writes_nothing(photo_folder: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    arguments = fit_arguments(photo_folder, tiny_backbone, tmp_path / "run")
    output = run(*arguments, "--dry-run").output
    for part in ("phase 1", "3 steps", "class means", "test", "all", "Memory", "Disk", "Nothing was written"):
        assert part in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more readers than cores, on purpose
def test_dry_run_sees_what_reading_takes(
    photo_folder: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where all steps tried are ready before the second begins, and for images that memory does not hold."""
    read, delay = FileImages.read, 0.03

    def slow(images: FileImages, row: int) -> Image.Image:
        time.sleep(delay)
        return read(images, row)

    monkeypatch.setattr(FileImages, "read", slow)

    def seconds(*settings: str) -> dict[str, float]:
        tiny = as_assignments(tiny_settings(tiny_backbone))
        request = RunRequest(photo_folder, preset="laptop", settings=[*tiny, *settings])
        estimate = dry_run.estimate_run(prepare(request))
        return {part.name: part.seconds_each for part in estimate.parts}

    readers = dry_run.STEPS
    each = seconds("data.cache=false", f"runtime.workers={readers}")
    assert each["phase 1"] > 2 * 8 * delay / readers  # two streams of eight images
    each = seconds("data.cache=true", "runtime.workers=0")
    assert each["class means for the head"] < delay < each["test"]


def test_evaluate(fitted_run: Path, tiny_backbone: Path, photo_folder: Path, tmp_path: Path) -> None:
    output = run(
        "evaluate", "--checkpoint", tiny_backbone, fitted_run, photo_folder, "--output", tmp_path / "result"
    ).output
    assert "Tested: 6 images" in output
    mine = json.loads((tmp_path / "result" / "metrics.json").read_text())["test"]
    theirs = json.loads((fitted_run / "metrics.json").read_text())["test"]
    assert mine["overall"] == theirs["overall"]
    assert mine["nll"] == pytest.approx(theirs["nll"], abs=0.05)  # bfloat16 where the machine has it
    assert (tmp_path / "result" / "per_class.csv").read_text() == (fitted_run / "per_class.csv").read_text()


def test_evaluating_on_the_training_images_is_told(fitted_run: Path, tiny_backbone: Path, photo_folder: Path) -> None:
    """A test split is none of them, even one with as many images of every class."""
    messages = "trained on these very images"
    assert messages in run(
        "evaluate", "--checkpoint", tiny_backbone, fitted_run, photo_folder, "--split", "train"
    ).output.replace("\n", " ")
    described = fitted_run / "pack" / "pack.json"
    values = json.loads(described.read_text()) | {"class_counts": [2, 2, 2]}  # those of the test split
    described.write_text(json.dumps(values))
    assert messages not in run("evaluate", "--checkpoint", tiny_backbone, fitted_run, photo_folder).output.replace(
        "\n", " "
    )


def test_evaluate_matches_classes_by_name(
    fitted_run: Path, tiny_backbone: Path, photo_folder: Path, tmp_path: Path
) -> None:
    """A table of one class only, in a split of another kind, still meets the right class of the pack."""
    table = tmp_path / "one.csv"
    rows = [f"{photo_folder}/test/light/{number}.jpg,light" for number in (0, 1)]
    table.write_text("\n".join(["image,label", *rows]))
    run("evaluate", "--checkpoint", tiny_backbone, fitted_run / "pack", table, "--output", tmp_path / "result")
    tested = {
        row["class"]: row["test_images"] for row in csv.DictReader((tmp_path / "result" / "per_class.csv").open())
    }
    assert tested == {"dark": "0", "grey": "0", "light": "2"}


def test_predict_to_standard_output(fitted_run: Path, tiny_backbone: Path, photo_folder: Path) -> None:
    """The CSV is all there is on standard output."""
    done = run_warm(warm_lpt("predict", "--checkpoint", tiny_backbone, fitted_run, photo_folder / "test", "--top-k", 2))
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert list(rows[0]) == ["image", "class_1", "probability_1", "class_2", "probability_2"]
    assert [row["image"] for row in rows] == sorted(str(path) for path in (photo_folder / "test").rglob("*.jpg"))
    assert all(float(row["probability_1"]) >= float(row["probability_2"]) for row in rows)


def test_predict_files_and_folders_with_bad_ones(
    fitted_run: Path, tiny_backbone: Path, photo_folder: Path, tmp_path: Path
) -> None:
    images = Path(shutil.copytree(photo_folder / "test", tmp_path / "new"))
    (images / "dark" / "0.jpg").write_bytes(b"broken")
    (images / "notes.txt").write_text("is passed over in a folder")
    (images / ".cache").mkdir()
    Image.new("RGB", (8, 8)).save(images / ".cache" / "hidden.png")
    output = tmp_path / "found.jsonl"
    arguments = [
        "predict",
        "--checkpoint",
        tiny_backbone,
        fitted_run,
        images,
        photo_folder / "train" / "grey" / "0.jpg",
        "--output",
        output,
    ]
    result = run(*arguments, "--bad-images", "skip", "--top-k", 9, "--batch-size", 2)
    assert "Left out: 1 of 7" in result.output
    assert "dark/0.jpg" in result.output
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(lines) == 6
    assert lines[-1]["image"].endswith("train/grey/0.jpg")
    assert [len(line["classes"]) for line in lines] == [3] * 6
    assert sum(item["probability"] for item in lines[0]["classes"]) == pytest.approx(1, abs=1e-5)
    assert len(lines[0]["groups"]) == 2


def test_predict_with_a_prior(fitted_run: Path, tiny_backbone: Path, photo_folder: Path, tmp_path: Path) -> None:
    """Where only one class can occur, it is the answer."""
    (tmp_path / "prior.csv").write_text("class,share\nlight,3\n")
    output = tmp_path / "found.csv"
    run(
        "predict",
        "--checkpoint",
        tiny_backbone,
        fitted_run,
        photo_folder / "test",
        "--prior",
        tmp_path / "prior.csv",
        "--output",
        output,
    )
    matches = [(row["class_1"], float(row["probability_1"])) for row in csv.DictReader(output.open())]
    assert matches == [("light", 1.0)] * 6


def test_a_prior_is_measured_as_it_predicts(
    fitted_run: Path, tiny_backbone: Path, photo_folder: Path, tmp_path: Path
) -> None:
    """By name or from a file, in an evaluation and under shift; measurements under another prior are not mixed in."""
    (tmp_path / "prior.csv").write_text("class,share\nlight,3\ngrey,2\n")
    data, common = photo_folder / "test", ("--checkpoint", tiny_backbone)
    for number, prior in enumerate(("training", tmp_path / "prior.csv")):
        given, folder, found = ("--prior", prior), tmp_path / f"{number}", tmp_path / f"{number}.csv"
        run("evaluate", fitted_run, data, *common, *given, "--output", folder)
        run("predict", fitted_run, data, *common, *given, "--output", found)
        measured = list(csv.DictReader((folder / "predictions.csv").open()))
        predicted = list(csv.DictReader(found.open()))
        assert [row["predicted"] for row in measured] == [row["class_1"] for row in predicted]
        assert [float(row["probability"]) for row in measured] == pytest.approx(
            [float(row["probability_1"]) for row in predicted], abs=2e-4
        )
        assert json.loads((folder / "metrics.json").read_text())["prior"] == str(prior)
    assert {row["predicted"] for row in measured} <= {"light", "grey"}
    shifted = ("evaluate", fitted_run, data, *common, "--shift", data, "--output", tmp_path / "shift")
    assert "Class frequencies: " in run(*shifted, "--prior", tmp_path / "prior.csv").output
    assert json.loads((tmp_path / "shift" / "shift.json").read_text())["prior"] == str(tmp_path / "prior.csv")
    (tmp_path / "prior.csv").write_text("grey,2\nlight,3\n")
    assert "2 of 2 measurements were there already" in run(*shifted, "--prior", tmp_path / "prior.csv").output
    assert "prior was" in CliRunner().invoke(app, [str(part) for part in shifted]).output


def test_inspect(fitted_run: Path) -> None:
    output = run("inspect", fitted_run).output
    info = json.loads((fitted_run / "pack" / "pack.json").read_text())
    for part in ("dark, grey, light", "tiny", info["backbone"]["weight_hash"][:40], "overall", "groups.prompts"):
        assert part in output
    printed = json.loads(run("inspect", fitted_run / "pack", "--json").output)
    assert {key: printed[key] for key in info} == info


def test_config_lists_every_field() -> None:
    output = run("config").output
    for path in ("data.long_tail", "train.phase2.optimizer", "runtime.checkpoint_seconds", "model.top_k"):
        assert path in output


@pytest.mark.parametrize("name", ["laptop", "paper"])
def test_preset_printed_can_be_used(name: str, tmp_path: Path) -> None:
    from lpt.config.schema import validate
    from lpt.config.values import read_yaml

    path = tmp_path / "my.yaml"
    path.write_text(run("config", "--preset", name).output)
    assert validate(read_yaml(path), origin=name).preset == name


# --- interruption


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_ctrl_c_saves_and_resume_goes_on(photo_folder: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = [*fit_arguments(photo_folder, tiny_backbone, folder), "--set", "train.epoch_steps=4000"]
    process = warm_lpt(*arguments)
    deadline = time.monotonic() + 90
    while not ((folder / "log.jsonl").exists() and (folder / "log.jsonl").stat().st_size):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"lpt fit --resume {folder}" in message
    assert "Traceback" not in message
    assert (folder / "checkpoints" / "latest.safetensors").is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_ctrl_c_elsewhere(fitted_run: Path, tiny_backbone: Path, photo_folder: Path) -> None:
    """Ctrl-C in a command that saves nothing ends with 130, without a traceback."""
    arguments = ["predict", "--checkpoint", tiny_backbone, fitted_run, *[photo_folder] * 3000]
    process = warm_lpt(*arguments)
    while not process.printed().startswith("image,class_1"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in message
    assert "Traceback" not in message
