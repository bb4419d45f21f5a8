"""The machine: its devices, cores and memory. PyTorch is imported where a card is asked for."""

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

from lpt.errors import ConfigError
from lpt.system.limits import memory_left, memory_limit, usable_cores


@dataclass(frozen=True)
class Machine:
    """The facts of the machine that a run depends on.

    Args:
        device: `cpu`, `cuda` or `mps`.
        name: name of the processor or card.
        cores: CPU cores for this process: those it may use, divided by the processes of the run on the machine.
        fast_bf16: whether the device multiplies bfloat16 matrices faster than float32 ones.
        memory_bytes: memory free for this process now, bytes: that of its card, or its part of the machine's.
        host_bytes: its part of the machine's free memory, bytes.
    """

    device: str
    name: str
    cores: int
    fast_bf16: bool
    memory_bytes: int
    host_bytes: int

    def describe(self) -> str:
        """Return one line for logs and result files."""
        bf16 = "fast bfloat16" if self.fast_bf16 else "no fast bfloat16"
        return f"{self.device} ({self.name}), {self.cores} CPU cores, {bf16}, {self.memory_bytes / 2**30:.1f} GiB free"


def inspect_machine(device: str = "auto") -> Machine:
    """Return the facts of the machine for a device; `auto` takes a card where one can be used.

    Raises:
        ConfigError: the device is unknown or not available.
    """
    available = [*_cards(), "cpu"]
    if device == "auto":
        device = available[0]
    if device not in available:
        raise ConfigError(
            f"runtime.device: {device!r} is not available here. Available: auto, {', '.join(available)}. "
            "One of several cards is chosen with the environment variable CUDA_VISIBLE_DEVICES."
        )
    cores = cores_here()
    if device == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info()
        fast_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)  # older cards emulate it slowly
        return Machine(device, torch.cuda.get_device_name(), cores, fast_bf16, free, host_memory())
    fast_bf16 = device == "cpu" and _cpu_has_bf16()
    return Machine(device, _cpu_name(), cores, fast_bf16, host_memory(), host_memory())


def host_memory() -> int:
    """Return the free memory of this machine for each process of the run on it, bytes."""
    free, left = int(psutil.virtual_memory().available), memory_left()
    return (free if left is None else min(free, left)) // processes_here()


def host_memory_total() -> int:
    """Return the memory of this machine, bytes; in a container, its limit."""
    total = int(psutil.virtual_memory().total)
    return min(total, memory_limit() or total)


def cores_here() -> int:
    """Return the number of CPU cores for each process of the run on this machine."""
    return max(1, usable_cores() // processes_here())


def processes_here() -> int:
    """Return the number of processes of the run on this machine, as torchrun and `accelerate launch` set it."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


class PeakMemory:
    """The peak memory while the block runs, bytes: of the card if one is used, else of this process.

    It reads the memory of the process every 20 ms: memory that an earlier run in this process held does not count.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._done = Event()
        self._watch = Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        import torch

        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._watch.start()
        return self

    def __exit__(self, *error: object) -> None:
        import torch

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
    """Use deterministic algorithms and a fixed number of CPU threads; restore the former settings at the end.

    On CUDA and MPS an operation without a deterministic form warns instead of failing.
    """
    import torch

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


def _cards() -> list[str]:
    """Return the kinds of card that PyTorch can use here, the best first; none without PyTorch."""
    try:
        import torch
    except ModuleNotFoundError:
        return []
    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return [kind for kind, is_usable in usable.items() if is_usable]


def _cpu_has_bf16() -> bool:
    """Return whether the CPU multiplies bfloat16 matrices in hardware (AVX-512 BF16 or AMX)."""
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
