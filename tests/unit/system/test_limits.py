"""Limits of a container: the smaller of what it may use and what the machine has."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from lpt.system import limits as container
from lpt.system.hardware import host_memory, host_memory_total
from lpt.system.limits import usable_cores

GIB = 2**30
ODD = ["max", "max 100000", "", "0 0", "-1 100000", "200000", "200000 0", "many 100000", "1.5 2", "²0 ²", "\0"]


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(container, "CGROUP", tmp_path)
    return tmp_path


@pytest.mark.parametrize(("told", "cores"), [("200000 100000\n", 2), ("150000 100000", 2), ("1000 100000", 1)])
def test_cores_are_the_quota_rounded_up(group: Path, told: str, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(64)), raising=False)
    (group / "cpu.max").write_text(told)
    assert container.core_limit() == usable_cores() == cores
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0})
    assert usable_cores() == 1


def test_memory_is_what_the_limit_leaves(group: Path) -> None:
    """Pages of files, which the kernel gives up first, are not taken."""
    (group / "memory.max").write_text(f"{GIB}\n")
    assert container.memory_left() == GIB
    (group / "memory.current").write_text(f"{GIB - 1000}\n")
    assert container.memory_left() == host_memory() == 1000
    assert host_memory_total() == GIB
    (group / "memory.stat").write_text("anon 5000\nfile 4000\ninactive_file 3000\n")
    assert container.memory_left() == 4000
    (group / "memory.current").write_text(f"{3 * GIB}\n")
    assert container.memory_left() == 0


@pytest.mark.parametrize("told", ODD)
def test_files_that_say_no_limit(group: Path, told: str) -> None:
    """Missing or odd: the machine's own numbers."""
    assert (container.core_limit(), container.memory_limit(), container.memory_left()) == (None, None, None)
    for name in ("cpu.max", "memory.max", "memory.current", "memory.stat"):
        (group / name).write_text(told, encoding="utf-8")
    assert container.core_limit() is None
    assert host_memory_total() == psutil.virtual_memory().total or told == "200000"
    assert usable_cores() >= 1


def test_use_that_is_not_told(group: Path) -> None:
    (group / "memory.max").write_text("5000")
    for told in ODD[:5]:
        (group / "memory.current").write_text(told)
        (group / "memory.stat").write_text(f"inactive_file {told}")
        assert container.memory_left() == 5000
