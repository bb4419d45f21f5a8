"""Reader processes that are killed, scripts without a guard, and screens that are closed, in real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lpt.errors import RunError
from lpt.system.readers import is_lost_reader, lost_reader_explained
from samples import as_assignments, tiny_settings
from warm_process import WarmProcess, run_lpt, warm_lpt

SCRIPT = """
import multiprocessing, sys
import lpt
multiprocessing.set_start_method("spawn", force=True)
data, output, *settings = sys.argv[1:]
lpt.fit(data, output, preset="laptop", settings=settings)
print("trained", flush=True)
"""


def settings(checkpoint: Path, *more: str, epochs: tuple[int, int] = (2, 1)) -> list[str]:
    return [*as_assignments(tiny_settings(checkpoint, epochs=epochs)), *more]


def fit_arguments(photos: Path, output: Path, values: list[str]) -> list[str]:
    options = [part for value in values for part in ("--set", value)]
    return ["fit", str(photos), "-o", str(output), "--preset", "laptop", *options]


def test_a_killed_reader_is_one_message(photo_folder: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    """It names memory, /dev/shm, fewer readers and the command to go on with, which leads to a pack."""
    run = tmp_path / "run"
    values = settings(tiny_backbone, "runtime.workers=1", "data.cache=false", epochs=(500, 500))
    process = warm_lpt(*fit_arguments(photo_folder, run, values))
    deadline = time.monotonic() + 120
    while not (run / "log.jsonl").exists() or not (run / "log.jsonl").stat().st_size:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for reader in psutil.Process(process.pid).children():
        reader.send_signal(signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2, errors
    assert "Traceback" not in errors
    for part in ("a process that reads images was lost", "GiB are free now", "/dev/shm", "--set runtime.workers=0"):
        assert part in errors
    assert f"lpt fit --resume {run}" in errors


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", True),
        ("DataLoader worker (pid(s) 7, 8) exited unexpectedly", True),
        ("unable to write to file </torch_7_1_0>: No space left on device (28)", True),
        ("Caught OSError in DataLoader worker process 0.\nOSError: [Errno 28] No space left on device", True),
        ("Caught ValueError in DataLoader worker process 0.\nValueError: a bug", False),
        ("CUDA error", False),
    ],
)
def test_only_lost_readers_are_explained(text: str, lost: bool) -> None:
    """Any other error stays what it is."""
    assert is_lost_reader(RuntimeError(text)) is lost
    expected: type[Exception] = RunError if lost else RuntimeError
    with pytest.raises(expected), lost_reader_explained("Go on."):
        raise RuntimeError(text)


def test_a_script_without_a_guard_trains_once(photo_folder: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    """Where processes are spawned, the second start ends with what to write, before it reads or trains anything."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    values = settings(tiny_backbone, "runtime.workers=1", "data.cache=false")
    command = [sys.executable, str(script), str(photo_folder), str(tmp_path / "run"), *values]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode != 0
    assert "if __name__ == '__main__':\n    main()" in done.stderr
    assert "a process that reads images was lost" in done.stderr
    assert "trained" not in done.stdout


def run_on_a_closed_pipe(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.dup2(writing, 1)
    os.close(writing)
    os.close(reading)
    run_lpt(arguments)


@pytest.mark.parametrize("how", ["closed pipe", "no streams"])
def test_a_closed_screen_stops_no_training(how: str, photo_folder: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    """The run goes on to its pack with exit code 0."""
    run, arguments = tmp_path / "run", fit_arguments(photo_folder, tmp_path / "run", settings(tiny_backbone))
    process: WarmProcess | subprocess.Popen[str]
    if how == "closed pipe":
        process = WarmProcess(run_on_a_closed_pipe, arguments)
    else:
        shell = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", sys.executable, "-m", "lpt", *arguments]
        process = subprocess.Popen(shell, stderr=subprocess.PIPE, text=True)
    _, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    assert errors == ""
    assert (run / "pack" / "pack.json").exists()
    assert (run / "metrics.json").exists()
