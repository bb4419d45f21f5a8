"""Ray nodes on the loopback addresses of this machine. Each has one core; they share the machine, as on one disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

NET = f"127.{1 + os.getpid() // 250 % 250}.{1 + os.getpid() % 250}"
_START_SECONDS = 180
_LIMITS = ("--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats")


@contextlib.contextmanager
def loopback_nodes(count: int) -> Iterator[dict[str, str]]:
    """Run nodes in the block; yield the environment in which `lpt ... --ray` finds them."""
    folder = Path(tempfile.mkdtemp(prefix="lpt-ray-"))  # short: sockets lie in it
    port = _free_port(f"{NET}.2")
    environment = {
        **os.environ,
        "RAY_ADDRESS": f"{NET}.2:{port}",
        "RAY_AUTH_MODE": "token",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    started = list[psutil.Process]()
    try:
        head = ("--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}")
        for number in range(count):
            where = head if number == 0 else (f"--address={environment['RAY_ADDRESS']}",)
            started.append(_start(f"{NET}.{2 + number}", where, environment, folder / f"{number}.log"))
        yield environment
    finally:
        for process in reversed(started):
            _kill(process)
        shutil.rmtree(folder, ignore_errors=True)


def _start(address: str, arguments: tuple[str, ...], environment: dict[str, str], log: Path) -> psutil.Process:
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--node-ip-address={address}"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, *_LIMITS, *arguments],
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    end = time.monotonic() + _START_SECONDS
    while "Ray runtime started" not in log.read_text(encoding="utf-8", errors="replace"):
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"ray start failed: {log.read_text(encoding='utf-8', errors='replace')[-2000:]}")
        time.sleep(0.1)
    return psutil.Process(process.pid)


def _kill(started: psutil.Process) -> None:
    """End `ray start` and what it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [started, *started.children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=20)


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
