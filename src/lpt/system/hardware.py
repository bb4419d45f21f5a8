"""What the machine offers, and what `auto` makes of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Self

import psutil
import torch

from lpt.errors import ConfigError
from lpt.system.limits import memory_left, memory_limit, usable_cores

DEVICES = ("cpu", "cuda", "mps")


@dataclass(frozen=True)
class Machine:
    """The machine as far as a run depends on it.

    Args:
        device: `cpu`, `cuda` or `mps`: what `auto` takes.
        name: the processor's or card's name.
        cores: CPU cores for this process: those it may use, divided by the run's processes on the machine.
        fast_bf16: whether bfloat16 matrix products are faster than float32 there.
        memory_bytes: memory free for this process now: its card's, or its part of the machine's.
        host_bytes: its part of the machine's free memory.
    """

    device: str
    name: str
    cores: int
    fast_bf16: bool
    memory_bytes: int
    host_bytes: int

    def describe(self) -> str:
        """One line for logs and result files."""
        bf16 = "fast bfloat16" if self.fast_bf16 else "no fast bfloat16"
        return f"{self.device} ({self.name}), {self.cores} CPU cores, {bf16}, {self.memory_bytes / 2**30:.1f} GiB free"


def inspect_machine(device: str = "auto") -> Machine:
    """The machine, for a device that is asked for.

    Raises:
        ConfigError: the device is unknown or not there.
    """
    there = [name for name in DEVICES if _available(name)]
    if device == "auto":
        device = "cuda" if "cuda" in there else "mps" if "mps" in there else "cpu"
    if device not in there:
        raise ConfigError(
            f"runtime.device: {device!r} is not available here. Available: auto, {', '.join(there)}. "
            "One of several cards is chosen with the environment variable CUDA_VISIBLE_DEVICES."
        )
    cores = cores_here()
    if device == "cuda":
        free, _ = torch.cuda.mem_get_info()
        fast_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)  # older cards take it, and are slow with it
        return Machine(device, torch.cuda.get_device_name(), cores, fast_bf16, free, host_memory())
    fast_bf16 = device == "cpu" and _cpu_has_bf16()
    return Machine(device, _cpu_name(), cores, fast_bf16, host_memory(), host_memory())


def host_memory() -> int:
    """Memory free on this machine for each of the run's processes on it, bytes."""
    free, left = int(psutil.virtual_memory().available), memory_left()
    return (free if left is None else min(free, left)) // processes_here()


def host_memory_total() -> int:
    """Memory that there is on this machine, bytes; in a container, that it may have."""
    total = int(psutil.virtual_memory().total)
    return min(total, memory_limit() or total)


def cores_here() -> int:
    """CPU cores for each of the run's processes on this machine."""
    return max(1, usable_cores() // processes_here())


def processes_here() -> int:
    """Processes of the run on this machine, as torchrun and `accelerate launch` say it."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


class PeakMemory:
    """The most memory held while it is entered, bytes: of the card if one is used, else of this process.

    A process's memory is looked at every 20 ms: what an earlier run in the same process held does not count.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._done = Event()
        self._watch = Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._watch.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._watch.join()
        if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
            self.bytes = torch.cuda.max_memory_allocated()

    def _look(self) -> None:
        process = psutil.Process()
        while True:
            self.bytes = max(self.bytes, int(process.memory_info().rss))
            if self._done.wait(0.02):
                return


@contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Deterministic algorithms and a fixed number of CPU threads; what was set before is put back.

    On CUDA and MPS an operation without a deterministic form warns instead of failing.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    threads_before = torch.get_num_threads()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available() or torch.backends.mps.is_available())
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.set_num_threads(threads_before)


def _available(device: str) -> bool:
    if device == "cuda":
        return torch.cuda.is_available()
    return device == "cpu" or torch.backends.mps.is_available()


def _cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 matrices in hardware (AVX-512 BF16 or AMX)."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()
