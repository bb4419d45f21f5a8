"""Run one measurement in a fresh process: seconds, and peak memory above what was held before.

python -m benchmarks.scale.measure MODULE FUNCTION ARGUMENTS_AS_JSON
"""

from __future__ import annotations

import contextlib
import importlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def in_fresh_process(module: str, function: str, **arguments: Any) -> Any:
    """Call a function in a fresh process, and return its result; a module without a dot is one of this package."""
    command = [sys.executable, "-m", "benchmarks.scale.measure", module, function, json.dumps(arguments)]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{module}.{function} failed with {done.returncode}: {done.stdout[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def watched(act: Callable[[], Result]) -> tuple[Result, dict[str, float]]:
    """Call `act` and measure what it costs.

    Returns:
        The result; and `seconds` by the clock, `cpu_seconds` of all threads (which other programs change less), and
        `peak_mib`, the most memory held above what was held before.
    """
    before = _start_of_peak()
    start, start_cpu = time.perf_counter(), time.process_time()
    result = act()
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    peak = (_peak() - before) / 2**20
    return result, {"seconds": round(seconds, 3), "cpu_seconds": round(cpu, 3), "peak_mib": round(peak, 1)}


def _start_of_peak() -> int:
    """Start the peak that the system keeps anew where it can (Linux), and return the bytes held."""
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5", encoding="ascii")
    return _peak()


def _peak() -> int:
    """Return the most memory that this process has held, bytes.

    `getrusage` counts from what the parent process held when it started this one, so the record of Linux comes first.
    """
    if _STATUS.is_file():
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    """Run one function and print its result as the last line."""
    module, function, arguments = sys.argv[1:]
    place = module if "." in module else f"benchmarks.scale.{module}"
    measurement = getattr(importlib.import_module(place), function)
    print(json.dumps(measurement(**json.loads(arguments))))


if __name__ == "__main__":
    main()
