"""Cells on a Ray cluster: a node is killed under one, and the command is stopped; no bit of the results differs."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from benchmarks.cluster.nodes import Node
from rich.console import Console

import small_jobs
from lpt.commands.compare.compare import compare
from lpt.commands.compare.plan import CellKey
from lpt.commands.compare.store import ComparisonFolder
from lpt.commands.jobs import on_ray
from lpt.commands.jobs.executors import Job
from lpt.errors import ConfigError
from lpt.system.lock import LOCK, Holder
from lpt.training.folder import RunFolder
from lpt.training.position import saved_position
from ray_cluster import RayCluster
from samples import as_assignments, tiny_settings
from warm_process import WarmProcess, warm_lpt

PATIENCE_SECONDS = 240
EPOCH = 60
ALL_STEPS = [(phase, step) for phase, epochs in ((1, 2), (2, 1)) for step in range(epochs * EPOCH)]


def until(reached: Callable[[], bool], driver: WarmProcess) -> None:
    """Wait for something, while a process goes on."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def steps(run: RunFolder) -> list[tuple[int, int]]:
    return [(record["phase"], record["step"]) for record in run.records()]


def trainer_on(ancestor: psutil.Process, run: RunFolder) -> psutil.Process | None:
    """Return the process that trains a run, if another one started it."""
    holder = Holder.of(run.path / LOCK)
    pid = None if holder is None else holder.pid
    return next((child for child in ancestor.children(recursive=True) if child.pid == pid), None)


@pytest.fixture
def connected(ray_cluster: RayCluster) -> Iterator[None]:
    from lpt.system.cluster import connected, ray

    with connected():
        yield
    assert not ray.is_initialized()


def test_no_job_stops_another(connected: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that fails nor one whose process dies; jobs are asked for only when there is room."""
    monkeypatch.setattr(on_ray, "MOST_LOSSES", 2)
    with pytest.raises(ConfigError, match=r"no machine of the Ray cluster has 5 cores .* with 1 core"):
        on_ray.OnRay(card=False, cores=5)
    executor = on_ray.OnRay(card=False)
    assert (executor.slots, executor.cores) == (2, 1)
    works: dict[str, Callable[[Console], Any]] = {
        "killed": small_jobs.killed,
        "at fault": small_jobs.at_fault,
        "unforeseen": small_jobs.unforeseen,
        "fine": partial(small_jobs.fine, 7),
    }
    asked = list[str]()

    def jobs() -> Iterator[Job]:
        for name, work in works.items():
            asked.append(name)
            yield Job(name, tmp_path / name, work)

    results = executor.run(jobs(), console := Console(record=True, quiet=False, file=(tmp_path / "log").open("w")))
    first = next(results)
    assert len(asked) == 2
    ended = {each.job.title: each for each in [first, *results]}
    assert ended["fine"].result == 49
    assert "this is 7" in console.export_text()
    failures = {name: each.failure for name, each in ended.items() if each.failure is not None}
    assert set(failures) == {"killed", "at fault", "unforeseen"}
    assert "lost 2 times in a row" in str(failures["killed"])
    assert (failures["at fault"].explained, str(failures["at fault"])) == (True, "broken.jpg cannot be read")
    assert "in unforeseen" in failures["unforeseen"].traceback
    assert str(failures["unforeseen"]) == "KeyError: 'a bug'"


def test_a_lost_cell_goes_on_elsewhere_and_a_stopped_one_without_ray(
    ray_cluster: RayCluster,
    mortal_node: Node,
    photo_folder: Path,
    tiny_backbone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = tiny_settings(tiny_backbone, batch_size=4, epoch_steps=EPOCH) | {"runtime.checkpoint_seconds": 0.1}
    settings = as_assignments(small)
    settings.remove("runtime.threads=1")  # a cell has the one core of its node
    options = [part for each in settings for part in ("--set", each)]
    output = tmp_path / "compared"
    command = ["compare", str(photo_folder), "--output", str(output), "--preset", "laptop", "--methods", "lpt"]
    monkeypatch.chdir(tmp_path)
    driver = warm_lpt(*command, "--seeds", "0,1", "--ray", *options, environment=ray_cluster.environment)
    folder = ComparisonFolder(output)
    runs = {seed: folder.run(CellKey("lpt", seed)) for seed in (0, 1)}
    there = partial(trainer_on, mortal_node.started)
    until(lambda: any(there(run) and saved_position(run.checkpoints) for run in runs.values()), driver)
    lost, trainer = next((seed, trainer) for seed, run in runs.items() if (trainer := there(run)) is not None)
    trainer.suspend()  # there is time to kill its node
    before = len(steps(runs[lost]))
    assert 0 < before < len(ALL_STEPS) - 10, "the cell was nearly finished before its node was killed"
    mortal_node.kill()
    until(lambda: len(steps(runs[lost])) > before + 5, driver)
    driver.send_signal(signal.SIGINT)
    printed = "".join(driver.communicate(timeout=PATIENCE_SECONDS))
    assert driver.returncode == 130, printed
    assert "lost" in printed
    assert "everything is saved" in printed
    assert not runs[lost].finished
    assert not (runs[lost].path / LOCK).exists()

    reference = compare(
        photo_folder, tmp_path / "alone", methods=["lpt"], seeds=[lost], preset="laptop",
        settings=[*settings, "runtime.threads=1"],
    )  # fmt: skip
    again = compare(photo_folder, output, methods=["lpt"], seeds=[0, 1], preset="laptop", settings=settings)
    assert steps(runs[lost]) == ALL_STEPS
    alone = ComparisonFolder(tmp_path / "alone").run(CellKey("lpt", lost))
    for name in ("pack/pack.safetensors", "predictions.csv"):
        assert (runs[lost].path / name).read_bytes() == (alone.path / name).read_bytes(), name
    cells = {cell.seed: cell.metrics for cell in again.cells}
    assert cells[lost] == reference.cells[0].metrics
    facts = runs[1 - lost].start_facts()
    assert facts["command"].startswith("lpt compare "), "a cell names the command that was typed, not that of Ray"
