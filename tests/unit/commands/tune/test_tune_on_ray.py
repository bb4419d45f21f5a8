"""A search on a Ray cluster: nodes and the command are killed, trials are stopped from afar; the results stay."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
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
from lpt.evaluation.tuning import COMPLETE, STOPPED, TuneResult
from lpt.system.lock import LOCK, Holder
from ray_cluster import RayCluster
from samples import as_assignments, tiny_settings

PATIENCE_SECONDS = 240


def outcomes(result: TuneResult) -> list[Any]:
    """All that must depend neither on kills nor on where trials run."""
    return [(trial.number, trial.state, trial.values, trial.accuracy, trial.error) for trial in result.trials]


def holder_of(folder: TuneFolder, number: int) -> int:
    """Return the process that trains a trial; 0 where there is none."""
    holder = Holder.of(folder.trial(number) / LOCK)
    return 0 if holder is None else holder.pid


def test_two_trials_at_once_survive_a_killed_node_and_a_killed_command(
    ray_cluster: RayCluster, photo_folder: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    settings = tiny_settings(tiny_backbone, epoch_steps=15, epochs=(9, 1)) | {"runtime.checkpoint_seconds": 0.05}
    options: dict[str, Any] = dict(budget=30, preset="laptop", trials=2, splits=1)
    folder = TuneFolder(tmp_path / "tuned")
    there = {name: value for name, value in settings.items() if name != "runtime.threads"}  # a node has one core
    given = [part for each in as_assignments(there) for part in ("--set", each)]
    command = ["tune", str(photo_folder), "--output", str(folder.path), "--preset", "laptop", "--budget", "30"]
    driver = subprocess.Popen(
        [sys.executable, "-m", "lpt", *command, "--trials", "2", "--splits", "1", "--ray", *given],
        env=ray_cluster.environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    def until(reached: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not reached():
            assert driver.poll() is None, driver.communicate()
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.01)

    def on_second() -> set[int]:
        return {child.pid for child in ray_cluster.second.started.children(recursive=True)}

    def checkpoint(number: int) -> Path:
        return folder.trial_run(number, 0).checkpoints / "latest.safetensors"

    until(lambda: any(holder_of(folder, number) in on_second() for number in (0, 1)))
    lost = next(number for number in (0, 1) if holder_of(folder, number) in on_second())
    until(checkpoint(lost).exists)
    former = holder_of(folder, lost)
    ray_cluster.second.kill()
    assert not psutil.pid_exists(former)
    assert folder.answers(lost, 0) is None, "the trial was finished before its node was killed"
    until(lambda: holder_of(folder, lost) not in (0, former))  # it goes on elsewhere
    os.kill(driver.pid, signal.SIGKILL)
    printed, _ = driver.communicate()
    assert f"trial {lost}: lost" in printed
    assert "2 runs at a time" in printed
    assert folder.answers(lost, 0) is None, "the trial was finished before the command was killed"
    assert not folder.summary.exists()

    again = lpt.tune(photo_folder, folder.path, ray=True, settings=there, **options)
    alone = lpt.tune(photo_folder, tmp_path / "alone", settings=settings, **options)
    assert outcomes(again) == outcomes(alone)
    assert [trial.state for trial in again.trials] == [COMPLETE, COMPLETE]
    assert all(trial.hosts for trial in again.trials)
    assert again.facts["trials by machine of the cluster"].endswith(" 2")
    packs = [result.run / "pack" / "pack.safetensors" for result in (again, alone)]
    assert packs[0].read_bytes() == packs[1].read_bytes()
    assert read_tuning(folder.path) == again
    left = {path.name for path in (folder.path / "trials").rglob("*") if path.is_file()}
    assert left == {"split0.json"}


def test_a_search_of_phase2_shares_phase1_and_a_trial_that_lags_is_stopped_from_afar(
    ray_cluster: RayCluster, photo_folder: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "_LOOK_SECONDS", 0.02)
    settings = tiny_settings(tiny_backbone, epoch_steps=20, epochs=(1, 15)) | {"prefix_cache.views": 2}
    for name in ("model.pool_size", "runtime.threads"):
        settings.pop(name)
    options: dict[str, Any] = dict(search="phase2", preset="laptop", splits=1, ray=True, settings=settings, budget=30)
    folder = TuneFolder(tmp_path / "tuned")
    first = lpt.tune(photo_folder, folder.path, trials=2, **options)
    assert [trial.state for trial in first.trials] == [COMPLETE, COMPLETE]
    assert {record["phase"] for record in folder.phase1(0).records()} == {1}

    plan = json.loads(folder.plan.read_text(encoding="utf-8"))  # the search goes on, after trials that nobody reaches
    folder.plan.write_text(json.dumps(plan | {"chosen": None}), encoding="utf-8")
    study = Study(folder.journal, first.ranges, seed=0)
    for _ in range(BEFORE_PRUNING):
        rival = study.next()
        for step in range(TENTHS + 1):
            rival.report(step, 2.0)
        rival.end(COMPLETE, 0.0, at=0.0)
    console = Console(file=(tmp_path / "printed").open("w", encoding="utf-8"), width=200)
    result = lpt.tune(photo_folder, folder.path, trials=3 + BEFORE_PRUNING, console=console, **options)
    stopped = result.trial(2 + BEFORE_PRUNING)
    assert stopped.state == STOPPED
    assert "it was worse than half of the trials were" in stopped.why
    assert stopped.accuracy is not None
    assert not folder.trial(stopped.number).exists()
    printed = (tmp_path / "printed").read_text(encoding="utf-8")
    assert f"trial {stopped.number}: stopped: after epoch" in printed
