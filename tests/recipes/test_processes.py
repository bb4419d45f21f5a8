"""Several processes do what one does: same losses, same pack, same numbers; and a lost one is told and made good."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import twenty_steps
from safetensors.torch import load_file

import lpt
from samples import as_assignments, tiny_settings
from warm_process import WarmProcess, run_lpt, run_warm, warm_lpt, warm_ranks

TINY = as_assignments(tiny_settings(batch_size=6, epoch_steps=5, epochs=(2, 2)))


def torchrun() -> list[str]:
    """What starts a program in two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]


def environment() -> dict[str, str]:
    of_launcher = ("RANK", "WORLD", "LOCAL_", "MASTER")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(of_launcher)}
    return {**kept, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def fit_arguments(photos: Path, backbone: Path, folder: Path, *settings: str) -> list[str]:
    given = [f"backbone.checkpoint={backbone}", *TINY, *settings]
    sets = [part for setting in given for part in ("--set", setting)]
    return ["fit", str(photos), "--output", str(folder), "--preset", "laptop", *sets]


def losses(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    left_out = ("seconds", "micro_batch")
    return [{k: v or 0.0 for k, v in json.loads(line).items() if k not in left_out} for line in lines]


def assert_same_run(folder: Path, reference: Path) -> None:
    """Same steps and losses, same pack, within float32 rounding; same metrics."""
    ours, theirs = losses(folder), losses(reference)
    assert [(item["phase"], item["step"]) for item in ours] == [(item["phase"], item["step"]) for item in theirs]
    for item, other in zip(ours, theirs, strict=True):
        assert item == pytest.approx(other, rel=2e-3, abs=1e-5)
    tensors, expected = (load_file(place / "pack" / "pack.safetensors") for place in (folder, reference))
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-4, msg=name)
    metrics = [json.loads((place / "metrics.json").read_text())["test"] for place in (folder, reference)]
    assert metrics[0]["overall"] == metrics[1]["overall"]
    assert metrics[0]["images"] == metrics[1]["images"]


@pytest.fixture(scope="module")
def alone(photo_folder: Path, tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run in one process."""
    settings = [f"backbone.checkpoint={tiny_backbone}", *TINY]
    return lpt.fit(photo_folder, tmp_path_factory.mktemp("alone") / "run", preset="laptop", settings=settings).folder


@pytest.mark.slow
def test_twenty_float64_steps_are_those_of_one_process(tmp_path: Path) -> None:
    """Global batch, draws, loss and gradients do not depend on the number of processes (5 images: 2 and 3 each).

    Each closes its connection before the interpreter ends: gloo's threads abort a process now and then otherwise.
    """
    alone = WarmProcess(twenty_steps.main, str(tmp_path / "1.pt"))
    ranks = warm_ranks(2, twenty_steps.main, str(tmp_path / "2.pt"))
    done = [run_warm(process, timeout=240) for process in (alone, *ranks)]
    assert [process.returncode for process in done] == [0] * 3, done
    assert [process.stdout for process in done] == ["ended alone\n"] * 3
    item, two = (torch.load(tmp_path / f"{processes}.pt", weights_only=True) for processes in (1, 2))
    assert len(item["losses"]) == 2 * 20
    assert two["losses"] == pytest.approx(item["losses"], rel=1e-11)
    for name, tensor in item["state"].items():
        torch.testing.assert_close(two["state"][name], tensor, rtol=1e-9, atol=1e-12, msg=name)
    assert sorted(two["consumed"]) == sorted(item["consumed"])
    assert len(set(item["consumed"])) == len(item["consumed"])


@pytest.mark.slow
@pytest.mark.parametrize("settings", [(), ("prefix_cache.views=2", "prefix_cache.store=disk")], ids=["plain", "cached"])
def test_two_processes_make_the_pack_of_one(
    settings: tuple[str, ...], alone: Path, photo_folder: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    """`lpt fit` with uneven shares gives the losses, pack and metrics of a plain `lpt fit`."""
    reference = alone
    if settings:
        given = [f"backbone.checkpoint={tiny_backbone}", *TINY, *settings]
        reference = lpt.fit(photo_folder, tmp_path / "alone", preset="laptop", settings=given).folder
    ranks = warm_ranks(2, run_lpt, fit_arguments(photo_folder, tiny_backbone, tmp_path / "two", *settings))
    done = [run_warm(process, timeout=240) for process in ranks]
    assert [process.returncode for process in done] == [0, 0], done
    assert_same_run(tmp_path / "two", reference)
    assert [process.stdout.count("Phase 1") for process in done] == [1, 0]  # one process reports
    assert not list((tmp_path / "two").glob("prefix_cache/*"))


@pytest.mark.slow
def test_a_killed_process_ends_the_job_and_one_goes_on(
    alone: Path, photo_folder: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    """Kill -9 of one of torchrun's two: the other says what to do; one process resumes to the same pack."""
    folder = tmp_path / "run"
    arguments = fit_arguments(photo_folder, tiny_backbone, folder, "runtime.checkpoint_seconds=0")
    # torchrun looks every 2 s, not every 0.1 s: it terminates the other process, perhaps before that has said anything
    command = [*torchrun(), "--monitor_interval=2", "-m", "lpt", *arguments]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    deadline = time.monotonic() + 120
    while not (folder / "log.jsonl").exists() or len((folder / "log.jsonl").read_text().splitlines()) < 3:
        assert time.monotonic() < deadline
        assert job.poll() is None, job.communicate()
        time.sleep(0.01)
    os.kill(_worker_of(job.pid, rank=1), signal.SIGKILL)
    _, messages = job.communicate(timeout=120)
    assert job.returncode != 0
    assert "another process of this run has ended" in messages
    assert "--resume" in messages
    assert not (folder / "metrics.json").exists()
    resumed = run_warm(warm_lpt("fit", "--resume", folder))
    assert resumed.returncode == 0, resumed.stderr
    assert "Next: lpt predict" in resumed.stdout
    assert_same_run(folder, alone)


def test_settings_of_the_launcher_change_no_gradient(
    alone: Path, photo_folder: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`accelerate launch` hands its configuration on in the environment; the run has its own batches and precision."""
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    settings = [f"backbone.checkpoint={tiny_backbone}", *TINY]
    folder = lpt.fit(photo_folder, tmp_path / "run", preset="laptop", settings=settings).folder
    packs = [(place / "pack" / "pack.safetensors").read_bytes() for place in (folder, alone)]
    assert packs[0] == packs[1]


def _worker_of(launcher: int, rank: int) -> int:
    """The process of a rank, by the environment it was started with."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == launcher and f"RANK={rank}" in (place / "environ").read_bytes().decode().split("\0"):
                return int(place.name)
        except (OSError, ValueError):
            continue
    raise AssertionError(f"no process of rank {rank}")
