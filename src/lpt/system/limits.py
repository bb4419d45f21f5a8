"""What this process may use of the machine: cores and memory, a container's limits included.

A container's limits are read from the kernel's control groups, version 2. They show neither in the
number of cores nor in the free memory of the machine.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
"""Seen from inside a container: its own group."""


def core_limit() -> int | None:
    """CPU cores' worth of time, rounded up; None: no limit is told."""
    quota, _, period = _text("cpu.max").partition(" ")
    if not (_whole(quota) and _whole(period)):
        return None
    return math.ceil(int(quota) / int(period))


def memory_limit() -> int | None:
    """Bytes of memory that all processes may hold together; None: no limit is told."""
    limit = _text("memory.max")
    return int(limit) if _whole(limit) else None


def memory_left() -> int | None:
    """Bytes of memory that may still be taken; None: no limit is told.

    Pages of files read a while ago count as left, as in the machine's available memory: the kernel gives them up first,
    and reading a data set fills any limit with them.
    """
    limit = memory_limit()
    if limit is None:
        return None
    used = _text("memory.current")
    kept = dict(line.split(" ", 1) for line in _text("memory.stat").splitlines() if " " in line).get(
        "inactive_file", ""
    )
    taken = int(used) - (int(kept) if _whole(kept) else 0) if _whole(used) else 0
    return min(max(limit - taken, 0), limit)


def _text(name: str) -> str:
    """A file of the group; empty where there is none (another system, version 1, no container)."""
    try:
        return (CGROUP / name).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _whole(text: str) -> bool:
    """Whether a text is a positive whole number, which `max` is not."""
    return text.isascii() and text.isdigit() and int(text) > 0


def usable_cores() -> int:
    """CPU cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, core_limit() or cores)
