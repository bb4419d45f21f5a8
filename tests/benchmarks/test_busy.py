"""The benchmark of busy machines: its turns, companions and ratios. No rate is judged."""

from __future__ import annotations

import io
import itertools
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import psutil
import pytest
from benchmarks.busy import busy, work
from benchmarks.busy.asked import Worker
from benchmarks.busy.companion import companions
from benchmarks.busy.policies import LIBGOMP_SPINS, environment
from benchmarks.documents import machine_tables


class Fake:
    """A worker that notes its turns, and whether a companion ran beside it; its seconds are made up."""

    def __init__(self, name: str, notes: list[tuple[str, bool]], quiet: float, beside: float) -> None:
        self.name, self.notes, self.seconds = name, notes, (quiet, beside)
        self.before = set(psutil.Process().children())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def turn(self) -> float:
        is_beside = bool(set(psutil.Process().children()) - self.before)
        self.notes.append((self.name, is_beside))
        return self.seconds[is_beside]


def test_a_policy_is_nothing_but_its_variables() -> None:
    given = {"PATH": "/bin", "OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "5", "MKL_NUM_THREADS": "9"}
    assert environment("default", given) == {"PATH": "/bin"}
    assert environment("libgomp", given) == {"PATH": "/bin", "GOMP_SPINCOUNT": str(LIBGOMP_SPINS)}
    assert environment("spin=20", given) == {"PATH": "/bin", "GOMP_SPINCOUNT": "20"}
    assert environment("passive", given)["OMP_WAIT_POLICY"] == "PASSIVE"
    assert environment("threads=2", given)["OMP_NUM_THREADS"] == "2"
    for policy in ("spin", "spin=x", "threads=0", "active"):
        with pytest.raises(ValueError, match="Accepted"):
            environment(policy, given)


def test_all_take_turns_quiet_and_beside_a_companion(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that suffers too much is asked three times; the others go on until the time is over."""
    notes: list[tuple[str, bool]] = []
    workers: dict[str, Any] = {"good": Fake("good", notes, 1.0, 2.0), "slow": Fake("slow", notes, 1.0, 60.0)}
    before = psutil.Process().children()
    busy.run_rounds(workers, seconds=0, count=1)
    assert notes == [
        *[("good", False), ("slow", False), ("good", True), ("slow", True)],
        *[("slow", False), ("good", False), ("slow", True), ("good", True)],
        *[("good", False), ("slow", False), ("good", True), ("slow", True)],
    ]
    assert psutil.Process().children() == before
    clock = itertools.count()  # each look takes a second
    monkeypatch.setattr(busy, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    turns = busy.run_rounds(workers, seconds=15, count=1)
    assert len(turns["slow"].beside) == busy.LEAST_ROUNDS < len(turns["good"].beside) == len(turns["slow"].quiet)


def test_a_companion_keeps_a_core_busy_until_the_end() -> None:
    with companions(2) as ids:
        processes = [psutil.Process(number) for number in ids]
        end = time.monotonic() + 30
        while min(sum(process.cpu_times()[:2]) for process in processes) < 0.1 and time.monotonic() < end:
            time.sleep(0.02)
        assert min(sum(process.cpu_times()[:2]) for process in processes) >= 0.1
    assert not any(psutil.pid_exists(number) for number in ids)


def test_rates_are_compared_round_by_round() -> None:
    """The machine is half as fast in the second round and in the third: drift does not count. Values by hand."""
    base = busy.Turns({0: 1.0, 1: 2.0, 2: 2.0})
    rows = busy.kept(busy.Turns({0: 1.25, 1: 2.5, 2: 2.0}, {0: 2.0, 2: 5.0}), base)
    assert (rows["quiet"]["kept"], rows["quiet"]["range"], rows["quiet"]["best"]) == (0.8, [0.8, 1.0], 0.8)
    assert (rows["beside"]["kept"], rows["beside"]["range"], rows["beside"]["turns"]) == (0.45, [0.4, 0.5], 2)


def test_the_record_makes_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures and a pack are written, and a step of training on them works."""
    steps: list[float] = []

    def new_worker(given: dict[str, Any], policy: str, folder: Path) -> Fake:
        if given["part"] == "fit" and policy == "passive":
            work.fit(given)()
            steps.append(given["steps"])
        return Fake(policy, [], 1.0, 2.0 if policy == "passive" else 4.0)

    monkeypatch.setattr(busy, "new_worker", new_worker)
    path = tmp_path / "busy.json"
    busy.main(["--quick", "--policies", "passive", "--parts", "fit", "serve", "--output", str(path)])
    record = json.loads(path.read_text(encoding="utf-8"))
    assert steps == [1]
    assert [(row["part"], row["policy"]) for row in record["rows"]] == [
        (part, policy) for part in ("fit", "serve") for policy in ("libgomp", "default", "passive")
    ]
    lines = machine_tables.busy(record)
    assert lines[4] == "| fit | passive | **1.00** | 1.00 | **0.50** | 0.50 to 0.50 | 2.00 s |"
    assert "| 0.25 | 0.25 to 0.25 |" in lines[2]


def test_a_process_predicts_when_it_is_asked(
    fitted_run: Path, photo_folder: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    given = {
        "part": "predict", "folder": str(photo_folder), "pack": str(fitted_run), "backbone": None,
        "checkpoint": str(tiny_backbone), "batch": 4, "images": 5,
    }  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["work", json.dumps(given)])
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n\n"))
    work.main()
    ready, *turns = map(float, capsys.readouterr().out.split())
    assert ready == 0
    assert len(turns) == 2
    assert all(seconds > 0 for seconds in turns)


def test_a_process_that_cannot_begin_is_noticed() -> None:
    with pytest.raises(RuntimeError, match="has ended"), Worker({"part": "cook"}, environment("passive")):
        pass
