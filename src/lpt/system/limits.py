"""The cores and the memory that this process may use, with the limits of a container.

The kernel's control groups, version 2, hold the limits of a container. Neither the number of cores nor the free memory
of the machine shows them.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
"""The group of the container, seen from inside it."""


def core_limit() -> int | None:
    """Return the limit of CPU time in cores, rounded up; None: no limit is set."""
    quota, _, period = _text("cpu.max").partition(" ")
    if not (_is_positive(quota) and _is_positive(period)):
        return None
    return math.ceil(int(quota) / int(period))


def memory_limit() -> int | None:
    """Return the memory that all processes may hold together, bytes; None: no limit is set."""
    limit = _text("memory.max")
    return int(limit) if _is_positive(limit) else None


def memory_left() -> int | None:
    """Return the memory that may still be taken, bytes; None: no limit is set.

    Cached pages of files count as free, as in the available memory of the machine: the kernel gives them up first, and
    reading a data set fills any limit with them.
    """
    limit = memory_limit()
    if limit is None:
        return None
    used = _text("memory.current")
    if not _is_positive(used):
        return limit
    statistics = dict(line.split(" ", 1) for line in _text("memory.stat").splitlines() if " " in line)
    cached = statistics.get("inactive_file", "")
    taken = int(used) - (int(cached) if _is_positive(cached) else 0)
    return min(max(limit - taken, 0), limit)


def _text(name: str) -> str:
    """Return the text of a file of the group; empty where there is none (another system, version 1, no container)."""
    try:
        return (CGROUP / name).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _is_positive(text: str) -> bool:
    """Return whether a text is a positive whole number, which `max` is not."""
    return text.isascii() and text.isdigit() and int(text) > 0


def usable_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, core_limit() or cores)
