"""A search on a Ray cluster: a process of a trial and the command are killed, and a trial is stopped from afar."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

import lpt
from lpt.commands.jobs import on_ray
from lpt.commands.report.tune import read_tuning
from lpt.commands.tune.store import TuneFolder
from lpt.commands.tune.study import BEFORE_PRUNING, Study
from lpt.commands.tune.trials import TENTHS
from lpt.evaluation.tuning import COMPLETE, STOPPED
from lpt.system.lock import LOCK, Holder
from lpt.training.folder import RunFolder
from lpt.training.position import saved_position
from ray_cluster import RayCluster
from samples import as_assignments, tiny_settings
from warm_process import WarmProcess, warm_lpt

PATIENCE_SECONDS = 600
RIVALS = BEFORE_PRUNING


def trainer_of(folder: TuneFolder, number: int) -> psutil.Process | None:
    """Return the process that trains a trial; None where there is none."""
    holder = Holder.of(folder.trial(number) / LOCK)
    return psutil.Process(holder.pid) if holder is not None and holder.lives else None


def end(process: psutil.Process | WarmProcess) -> None:
    """Kill a process that may have ended: one left by a failed test would keep its part of the cluster."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()


def steps_saved(folder: TuneFolder, number: int) -> int:
    """Return the steps of phase 2 that the checkpoint of a trial holds."""
    position = saved_position(folder.trial_run(number, 0).checkpoints)
    return position.step if position is not None and position.phase == 2 else 0


def add_rivals(folder: TuneFolder) -> None:
    """Add complete trials that nobody reaches while they train, and that all beat in the end."""
    plan = folder.stored_plan()
    assert plan is not None
    study = Study(folder.journal, plan.ranges, seed=0)
    left = [study.next(), study.next()]
    assert [(trial.number, trial.resumed) for trial in left] == [(0, True), (1, True)]
    for _ in range(RIVALS):
        rival = study.next()
        for step in range(TENTHS + 1):
            rival.report(step, 2.0)
        rival.end(COMPLETE, 0.0, at=0.0)


def test_trials_at_once_go_on_after_kills_and_one_that_lags_is_stopped(
    ray_cluster: RayCluster,
    photo_folder: Path,
    tiny_backbone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    settings = tiny_settings(tiny_backbone, batch_size=4, epoch_steps=20, epochs=(1, 10))
    settings |= {"prefix_cache.views": 2, "runtime.checkpoint_seconds": 0.05}
    for name in ("model.pool_size", "runtime.threads"):  # one is searched; a trial has the one core of its node
        settings.pop(name)
    folder = TuneFolder(tmp_path / "tuned")
    given = [part for each in as_assignments(settings) for part in ("--set", each)]
    command = ["tune", str(photo_folder), "--output", str(folder.path), "--search", "phase2", "--preset", "laptop"]
    command += ["--budget", "600", "--splits", "1", "--trials", "2", "--ray", *given]
    monkeypatch.chdir(tmp_path)
    driver = warm_lpt(*command, environment=ray_cluster.environment)
    request.addfinalizer(partial(end, driver))

    def until(reached: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not reached():
            assert driver.poll() is None, driver.communicate()
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.01)

    held = []
    for number in (0, 1):  # both train at once, however far apart they begin
        until(partial(steps_saved, folder, number))
        trainer = trainer_of(folder, number)
        assert trainer is not None
        request.addfinalizer(partial(end, trainer))
        trainer.suspend()
        held.append(trainer)
    for trainer in held:
        until(lambda trainer=trainer: trainer.status() == psutil.STATUS_STOPPED)  # a busy machine takes a moment
    started, before = folder.trial_run(0, 0).start_facts()["started"], steps_saved(folder, 0)
    held[0].kill()
    until(lambda: steps_saved(folder, 0) > before)
    assert folder.trial_run(0, 0).start_facts()["started"] == started, "it was begun anew"
    driver.kill()
    held[1].kill()
    printed = "".join(driver.communicate())
    for part in ("2 runs at a time", "Phase 1 of split 1, which all trials share", "trial 0: lost"):
        assert part in printed
    assert {record["phase"] for record in folder.phase1(0).records()} == {1}
    assert not folder.summary.exists()

    add_rivals(folder)
    monkeypatch.setattr(on_ray, "_LOOK_SECONDS", 0.02)
    with (tmp_path / "printed").open("w", encoding="utf-8") as file:
        options: dict[str, Any] = dict(search="phase2", preset="laptop", splits=1, settings=settings, ray=True)
        console = Console(file=file, width=200)
        result = lpt.tune(photo_folder, folder.path, budget=600, trials=2 + RIVALS, console=console, **options)
    printed = (tmp_path / "printed").read_text(encoding="utf-8")
    assert "Trial 0 (the preset), goes on" in printed
    assert [trial.state for trial in result.trials] == [COMPLETE, STOPPED] + [COMPLETE] * RIVALS
    assert "it was worse than half of the trials were" in result.trial(1).why
    assert f"trial 1: stopped: {result.trial(1).why}" in printed
    assert all(result.trial(number).hosts for number in (0, 1))
    assert result.facts["trials by machine of the cluster"].endswith(" 2")
    assert read_tuning(folder.path).to_dict() == result.to_dict()
    assert {record["phase"] for record in RunFolder(result.run).records()} == {1, 2}
    left = [path.relative_to(folder.path) for path in (folder.path / "trials").rglob("*") if path.is_file()]
    assert left == [Path("trials/0000/split0.json")]
