"""`lpt tune` from the images to the page, on tiny data: kills, failures, refusals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

import lpt
from lpt.cli.app import app
from lpt.commands.fit.prepare import prepare
from lpt.commands.fit.request import RunRequest
from lpt.commands.report.tune import read_tuning
from lpt.commands.tune import tune as tuning
from lpt.commands.tune.trials import train
from lpt.data.sources.tree import output_in
from lpt.evaluation.tuning import COMPLETE, FAILED, STOPPED, Range, TuneResult
from lpt.model import Classifier
from lpt.report.html.tune_page import render_tuning
from lpt.system.interrupt import Interrupted
from lpt.system.owned import Input
from lpt.training.callbacks import Callback
from lpt.training.checkpoint import begin_phase2
from lpt.training.folder import RunFolder
from samples import as_assignments, tiny_settings
from warm_process import warm_lpt

SILENT = Console(quiet=True)


def settings_of(backbone: Path) -> dict[str, Any]:
    return tiny_settings(backbone) | {"runtime.checkpoint_seconds": 0.05}


def arguments(photos: Path, backbone: Path, output: Path, *more: str) -> list[str]:
    settings = [part for item in as_assignments(settings_of(backbone)) for part in ("--set", item)]
    base = ["tune", str(photos), "--output", str(output), "--preset", "laptop", "--budget", "30", "--trials", "2"]
    return [*base, "--splits", "2", *settings, *more]


def options_of(backbone: Path) -> dict[str, Any]:
    """The same search in Python."""
    return dict(budget=30, preset="laptop", trials=2, splits=2, settings=settings_of(backbone))


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Python's own handler of Ctrl-C: a shell that starts the tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def outcomes(result: TuneResult) -> list[Any]:
    """All that must not depend on kills, of the trials."""
    return [(trial.number, trial.state, trial.values, trial.accuracy, trial.error) for trial in result.trials]


@pytest.fixture(scope="module")
def searched(photo_folder: Path, tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search. Do not change it."""
    folder = tmp_path_factory.mktemp("tune") / "tuned"
    done = CliRunner().invoke(app, arguments(photo_folder, tiny_backbone, folder))
    assert done.exit_code == 0, (done.output, done.exception)
    for part in (
        "model.adapter_size: 1 to 4",
        "Validation: 2 splits",
        "Trial 0 (the preset)",
        "Trials, the best first",
    ):
        assert part in done.output
    return folder


def test_a_search_leaves_a_run_a_page_and_no_trial_unfinished(searched: Path, tmp_path: Path) -> None:
    result = read_tuning(searched)
    assert [trial.number for trial in result.trials] == [0, 1]
    assert result.trials[0].values == {item.path: item.preset for item in result.ranges}
    assert all(item.low <= trial.values[item.path] <= item.high for trial in result.trials for item in result.ranges)
    assert result.trials[0].state == COMPLETE
    assert {trial.state for trial in result.trials} <= {COMPLETE, STOPPED}
    assert (result.final.split, result.final.chosen.images, result.splits) == ("test", 6, 2)
    assert result.held_out == 2 * 3  # an image of each class in each split
    assert lpt.load_pack(searched / "run").info.class_counts == [8, 4, 2]
    assert not list(searched.glob("trials/*/*/checkpoints"))
    page = (searched / "report.html").read_text(encoding="utf-8")
    assert all(
        part in page for part in ("Trials over time", "Which fields matter", "loss.noise", 'content="lpt report"')
    )
    assert "http" not in page.split("</style>")[1]
    assert output_in(searched, {"tune.json"}).whole  # never taken for data
    again = shutil.copytree(searched, tmp_path / "copy")
    (again / "report.html").unlink()
    assert lpt.write_report(again) == again / "report.html"


def test_a_name_in_the_page_stays_a_text(searched: Path) -> None:
    result = read_tuning(searched)
    hostile = "<script>alert(1)</script>"
    trial = replace(result.trials[1], state=FAILED, why=hostile)
    changed = replace(result, unmeasured=[hostile], trials=[result.trials[0], trial], facts={"data": hostile})
    page = render_tuning(changed, hostile)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 4


class Interrupting(Console):
    """A console that interrupts this process when a trial has begun, as Ctrl-C does."""

    def __init__(self) -> None:
        super().__init__(quiet=True)

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*objects, **options)
        if str(objects[0]).startswith("Trial 1"):
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()


def test_a_search_goes_on_after_a_kill_and_ctrl_c_and_ends_as_if_never_stopped(
    searched: Path, photo_folder: Path, tiny_backbone: Path, tmp_path: Path, ctrl_c: None
) -> None:
    folder = tmp_path / "tuned"
    command = arguments(photo_folder, tiny_backbone, folder)
    running = warm_lpt(*command)
    begun = folder / "trials" / "0001" / "split0" / "checkpoints" / "latest.safetensors"
    while not begun.exists():
        assert running.poll() is None, "the search ended before it could be killed"
        time.sleep(0.002)
    running.kill()
    running.wait()
    assert not (folder / "tuning.json").exists()
    report = CliRunner().invoke(app, ["report", str(folder)])
    assert report.exit_code == 2
    assert "is not finished" in report.output
    used = json.loads((folder / "clock.json").read_text(encoding="utf-8"))["seconds"]

    console = Interrupting()
    with pytest.raises(Interrupted, match="Go on with the same command"):
        lpt.tune(photo_folder, folder, console=console, **options_of(tiny_backbone))
    output = CliRunner().invoke(app, command).output
    assert "Trial 1, goes on" in output
    result, whole = read_tuning(folder), read_tuning(searched)
    assert outcomes(result) == outcomes(whole)
    assert result.chosen == whole.chosen
    assert 60 * result.used_minutes > used
    packs = [path / "run" / "pack" / "pack.safetensors" for path in (folder, searched)]
    assert packs[0].read_bytes() == packs[1].read_bytes()


def test_the_chosen_trial_is_compared_with_the_preset(
    searched: Path, photo_folder: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(searched, tmp_path / "tuned")  # as if trial 1 had been chosen, then a kill had come
    plan = json.loads((copy / "tune.json").read_text(encoding="utf-8"))
    (copy / "tune.json").write_text(json.dumps(plan | {"chosen": 1}), encoding="utf-8")
    (copy / "tuning.json").unlink()
    (copy / "run").rename(copy / "preset")  # the preset was chosen there: it need not be trained again
    result = lpt.tune(photo_folder, copy, **options_of(tiny_backbone))
    assert result.settings == result.trial(1).values
    assert result.final.preset is not None
    assert result.final.gain is not None
    assert result.final.gain.mean == pytest.approx(
        result.final.chosen.mean_per_class - result.final.preset.mean_per_class
    )
    for name, number in (("run", 1), ("preset", 0)):
        stored = RunFolder(copy / name).settings()
        assert stored["loss"]["noise"] == result.trial(number).values["loss.noise"]
    assert "Against the preset" in (copy / "report.html").read_text(encoding="utf-8")


def test_a_trial_that_fails_is_told_and_the_search_goes_on_without_test_images(
    photo_folder: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = shutil.copytree(photo_folder / "train", tmp_path / "photos")
    (data / "light" / "1.jpg").unlink()  # one picture is left in this class
    wild = Range("train.phase1.lr", 1e-3, 1e38, log=True, whole=False, preset=1e-3)
    monkeypatch.setattr(tuning, "search_space", lambda *given: [wild])
    options = dict(preset="laptop", method="lpt-phase1", trials=3, splits=1, settings=settings_of(tiny_backbone))
    options["settings"].pop("model.pool_size")
    options["settings"]["train.phase2.epochs"] = 0
    result = lpt.tune(data, tmp_path / "tuned", budget=30, **options)
    failed = [trial for trial in result.trials if trial.state == FAILED]
    assert failed
    assert all("not finite" in trial.why for trial in failed)
    assert (result.chosen, result.final.split, result.final.preset) == (0, "validation", None)
    assert result.unmeasured == ["light"]
    assert (tmp_path / "tuned" / "run" / "pack").is_dir()
    assert not (tmp_path / "tuned" / "preset").exists()


def test_phase2_from_a_shared_phase1_is_the_same_bit_for_bit(
    photo_folder: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    settings = settings_of(tiny_backbone)

    def trained(name: str, start: RunFolder | None = None, **more: Any) -> tuple[RunFolder, Classifier]:
        prepared = prepare(RunRequest(photo_folder, preset="laptop", settings=settings | more))
        run, model = RunFolder(tmp_path / name), prepared.new_model()
        steps = prepared.phase_data.plan(1).steps
        begin = None if start is None else lambda: begin_phase2(run.checkpoints, start.checkpoints, model, steps)
        train(prepared, run, model, Callback(), SILENT, begin=begin)
        return run, model

    _, whole = trained("whole")
    shared, _ = trained("phase1", **{"train.phase2.epochs": 0})
    run, model = trained("phase2", shared)
    assert {record["phase"] for record in run.records()} == {2}
    expected = whole.state_dict()
    assert all(torch.equal(expected[name], tensor) for name, tensor in model.state_dict().items())
    with pytest.raises(lpt.RunError, match="is not the end of a phase 1 of 99 steps"):
        begin_phase2(run.checkpoints, shared.checkpoints, model, 99)


def test_a_search_of_phase2_trains_phase1_once(photo_folder: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    settings = settings_of(tiny_backbone) | {"prefix_cache.views": 2}
    settings.pop("model.pool_size")
    result = lpt.tune(photo_folder, tmp_path / "tuned", budget=30, search="phase2", preset="laptop", trials=2, splits=1,
                      settings=settings)  # fmt: skip
    assert {item.path for item in result.ranges} >= {"train.phase2.lr", "model.pool_size"}
    assert not any("phase1" in item.path for item in result.ranges)
    assert {record["phase"] for record in RunFolder(tmp_path / "tuned" / "phase1" / "split0").records()} == {1}
    assert {record["phase"] for record in RunFolder(result.run).records()} == {1, 2}  # the final run trains both


def test_what_cannot_be_searched_is_refused_before_anything_is_written(
    searched: Path, photo_folder: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "tuned"
    for more, says in (
        (["--budget", "0.05"], "too few minutes for two trials"),
        (["--budget", "0"], "give the minutes of the whole search"),
        (["--trials", "1"], "at least 2 are needed"),
        (["--splits", "9"], "give 1 to 4"),
        (["--val", "0.3"], "the data has validation images"),
    ):
        done = CliRunner().invoke(app, arguments(photo_folder, tiny_backbone, folder, *more))
        assert done.exit_code == 2, done.output
        assert says in done.output.replace("\n", " ")
        assert not folder.exists()
    before = sorted(searched.rglob("*"))
    for more in (["--set", "loss.margin=0.2"], ["--search", "phase2"], ["--splits", "3"]):
        done = CliRunner().invoke(app, arguments(photo_folder, tiny_backbone, searched, *more))
        assert done.exit_code == 2
        assert "holds a search with other" in done.output
    assert sorted(searched.rglob("*")) == before


def test_overwriting_removes_only_what_a_search_wrote(searched: Path, photo_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(searched, tmp_path / "tuned")
    folder = tuning.TuneFolder(copy)
    (copy / "run" / "thesis.tex").write_text("mine", encoding="utf-8")
    assert "run/thesis.tex" in folder.clear()
    assert sorted(path.name for path in copy.rglob("*") if path.is_file()) == ["run.json", "thesis.tex", "tune.json"]
    assert folder.stored_plan() is None  # as after a kill there: nothing goes on with half a search
    shutil.copytree(photo_folder, copy / "run" / "photos")
    inputs = [Input("the data", copy / "run" / "photos")]
    with pytest.raises(lpt.RunError, match="is not overwritten: the data lies in it"):
        folder.check_removable(lambda: inputs)
