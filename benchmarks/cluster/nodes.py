"""Ray nodes on the loopback addresses of this machine. Each has one core; they share the machine, as on one disk.

Ray rewrites 127.0.0.1 to the host's address. So the nodes have addresses of their own in 127.0.0.0/8, all of which are
this machine on Linux. They depend on this process: several side by side do not meet. Everything is ended by its
process number.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil

NET = f"127.{1 + os.getpid() // 250 % 250}.{1 + os.getpid() % 250}"
_START_SECONDS = 240
_END_WITH_PARENT = 1
"""Of `prctl`: the signal that a process gets when its parent is gone, such as tests that were killed."""
_LIMITS = (
    "--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats", "--no-monitor",
    "--include-log-monitor=false",
)  # fmt: skip
"""Small nodes, without the processes that add machines and that send logs to drivers."""


class Node(NamedTuple):
    """A node of the cluster: its address, and `ray start`, which is the parent of all that runs there."""

    address: str
    started: psutil.Process

    @property
    def alive(self) -> bool:
        """Whether `ray start` still runs."""
        return self.started.is_running() and self.started.status() != psutil.STATUS_ZOMBIE

    def kill(self) -> None:
        """Kill the raylet, its workers and what else runs on the node, as if the power failed."""
        if not self.alive:
            return
        family = [self.started, *self.started.children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=20)


@contextlib.contextmanager
def loopback_nodes(count: int) -> Iterator[dict[str, str]]:
    """Run nodes in the block; yield the environment in which `lpt ... --ray` finds them."""
    folder = Path(tempfile.mkdtemp(prefix="lpt-ray-"))  # short: sockets lie in it
    address = f"{NET}.2:{free_port(f'{NET}.2')}"
    environment = driver_environment(address)
    started = list[Node]()
    try:
        for number in range(count):
            where = (f"--address={address}",) if number else head_arguments(address, folder)
            started.append(start_node(f"{NET}.{2 + number}", where, environment, folder))
        yield environment
    finally:
        for node in reversed(started):
            node.kill()
        shutil.rmtree(folder, ignore_errors=True)


def driver_environment(address: str) -> dict[str, str]:
    """Return the environment of a driver: `lpt ... --ray` then connects to the cluster at this address."""
    return {
        **os.environ,
        "RAY_ADDRESS": address,
        "RAY_AUTH_MODE": "token",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }


def head_arguments(address: str, folder: Path) -> tuple[str, ...]:
    """Return the arguments by which `ray start` makes the head of a cluster at this address."""
    host, _, port = address.rpartition(":")
    client = f"--ray-client-server-port={free_port(host)}"
    return ("--head", f"--port={port}", client, "--include-dashboard=false", f"--temp-dir={folder}")


def start_node(address: str, arguments: tuple[str, ...], environment: Mapping[str, str], folder: Path) -> Node:
    """Start a node, and wait until it runs.

    Args:
        address: its address.
        arguments: further arguments of `ray start`.
        environment: its environment.
        folder: where its log goes.

    Raises:
        RuntimeError: it does not start; nothing of it is left.
    """
    log = folder / f"{address}-{time.monotonic_ns()}.log"
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--node-ip-address={address}"]
    libc = ctypes.CDLL(None)
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, *_LIMITS, *arguments],
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C of the driver is not the node's
            preexec_fn=partial(_before_ray, libc),
        )
    node = Node(address, psutil.Process(process.pid))
    end = time.monotonic() + _START_SECONDS
    while "Ray runtime started" not in log.read_text(encoding="utf-8", errors="replace"):
        if process.poll() is not None or time.monotonic() > end:
            node.kill()
            raise RuntimeError(f"ray start failed: {log.read_text(encoding='utf-8', errors='replace')[-2000:]}")
        time.sleep(0.1)
    return node


def _before_ray(libc: ctypes.CDLL) -> None:
    """Let a node end with this process, and its tasks be cancelled: a shell's background jobs ignore Ctrl-C."""
    libc.prctl(_END_WITH_PARENT, signal.SIGTERM)  # `ray start` then ends all of it
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def free_port(address: str) -> int:
    """Return a port that is free at an address now."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
