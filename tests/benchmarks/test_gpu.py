"""The prepared command for a card, on the CPU with tiny sizes: what it measures, and how it goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.documents import machine_tables
from benchmarks.gpu import gpu, parity
from benchmarks.gpu.stages import MODELS, PRECISIONS, Given, run_stage, stage_names

STAGE = """
import pathlib, signal, sys, time

def save(*given):
    pathlib.Path(log + ".saved").touch()
    sys.exit(1)

name, result, log = sys.argv[1:]
signal.signal(signal.SIGTERM, save)
with open(log, "a") as file:
    file.write(name + "\\n")
if name == "accuracy lpt" and pathlib.Path(log).read_text().count(name) == 1:
    time.sleep(600)
if name == "accuracy lift":
    raise SystemExit("no such data")
pathlib.Path(result).write_text('{"name": "' + name + '"}')
"""


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    return Given("cpu", True, "/nowhere", str(tmp_path_factory.mktemp("gpu")), batch=2, repeats=1)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_parity_is_seen_and_so_is_its_lack(given: Given, precision: str) -> None:
    """Against the textbook where there are no golden numbers."""
    result = run_stage(f"parity {precision}", given)
    assert result["agree"], result["outside_tolerance"]
    assert "textbook" in result["reference"]
    reference = parity.computed()
    with torch.no_grad():
        reference.textbook.shared[2] *= -1
    model = parity.on_device(reference, torch.float32, "cpu")
    cosines = model.forward_shared(reference.images.float())
    numbers = {name: value.clone() for name, value in reference.numbers.items()} | {"phase 1 cosines": cosines}
    compared = parity.compare(numbers, reference.textbook(reference.images).groups, reference, torch.float32)
    assert compared["outside_tolerance"] == ["phase 1 cosines"]
    others = 1 - reference.textbook(reference.images).groups  # no picks of the reference
    assert "pick clearly other" in str(parity.compare(numbers, others, reference, torch.float32)["outside_tolerance"])


def test_golden_numbers_are_taken_where_they_are(given: Given, shared_dir: Path) -> None:
    if not (shared_dir / parity.GOLDEN).is_file():
        pytest.skip("needs the golden numbers")
    result = run_stage("parity float32", Given(**{**vars(given), "shared": str(shared_dir)}))
    assert result["agree"]
    assert "authors" in result["reference"]
    assert len(result["differences"]) == 4 + 4 + 2 * (2 + 3)  # outputs, losses, gradients


def test_what_was_measured_makes_the_tables(given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that was not measured says so; a run that is there already goes on instead of starting anew."""
    monkeypatch.setattr(machine_tables, "RESULTS", tmp_path)
    assert machine_tables.rates().count("not measured") == len(MODELS) * len(PRECISIONS) * 4 * 4
    accuracy = run_stage("accuracy lpt", given)
    assert run_stage("accuracy lpt", given) == accuracy
    stages = {
        "parity float32": {"result": run_stage("parity float32", given)},
        f"rates {MODELS[0]} float32": {"result": run_stage("rates quick float32", given)},
        f"rates {MODELS[0]} bfloat16": {"failed": "no memory"},
        "accuracy lpt": {"result": accuracy},
    }
    record = gpu.open_record(tmp_path / "none.json", given, []) | {"stages": stages}
    (tmp_path / "gpu.json").write_text(json.dumps(record), encoding="utf-8")
    rates = machine_tables.rates().splitlines()
    assert [line.count("not measured") for line in rates[2:10]] == [1, 1, 1, 1, 4, 4, 4, 4]
    assert "| float32 | " in machine_tables.parity()
    assert "| lpt-phase1 | not measured |" in machine_tables.accuracy()
    assert f"| lpt | {100 * accuracy['test']['overall']:.1f} |" in machine_tables.accuracy()


def test_it_goes_on_where_it_was_stopped(given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results are written stage by stage; one that takes too long is interrupted, and one that fails is tried again."""
    log, path = tmp_path / "log", tmp_path / "gpu.json"

    def command(name: str, given: Given, result: Path) -> list[str]:
        return [sys.executable, "-c", STAGE, name, str(result), str(log)]

    def wait(process: subprocess.Popen[bytes], seconds: float | None = None) -> int:
        """The time of the stage that sleeps is over as soon as it does; no time is left for another then."""
        if process.args[3] == "accuracy lpt" and not saved.exists() and seconds == pytest.approx(580, abs=100):
            while not log.exists() or "accuracy lpt" not in log.read_text():
                assert process.poll() is None
                time.sleep(0.01)
            monkeypatch.setattr(gpu, "LEAST_SECONDS", 10_000)
            raise subprocess.TimeoutExpired(process.args, seconds or 0)
        return real_wait(process, seconds)

    saved, real_wait = tmp_path / "log.saved", subprocess.Popen.wait
    monkeypatch.setattr(gpu, "command_of", command)
    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    record = gpu.open_record(path, given, [])
    names, lines = stage_names(tiny=True), []
    gpu.run_stages(record, given, path, time.monotonic() + 600, lines.append)
    monkeypatch.setattr(gpu, "LEAST_SECONDS", 0)
    assert saved.exists()
    assert "no time is left" in lines[-1]
    again: dict[str, Any] = gpu.open_record(path, given, [])
    assert [name for name, stage in again["stages"].items() if "result" in stage] == names[:4]
    gpu.run_stages(again, given, path, time.monotonic() + 600, lines.append)
    assert log.read_text().splitlines() == [*names[:4], "accuracy lpt", *names[4:]]
    stored = json.loads(path.read_text(encoding="utf-8"))["stages"]
    assert stored["accuracy lpt"]["result"] == {"name": "accuracy lpt"}
    assert "no such data" in stored["accuracy lift"]["failed"]
    with pytest.raises(SystemExit, match="another file with --output"):
        gpu.open_record(path, Given(**{**vars(given), "batch": 64}), [])
