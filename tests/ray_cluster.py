"""A Ray cluster of two nodes on loopback, for all tests that need one; its nodes can be killed.

Ray rewrites 127.0.0.1 to the host's address. So the nodes have addresses of their own in 127.0.0.0/8. They depend on
the process of the tests: several runs side by side do not meet. Everything is ended by its process number.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray reads it once, on import; a head node makes the token

START_SECONDS = 240
_END_WITH_PARENT = 1
"""Of `prctl`: the signal that a process gets when its parent is gone, such as tests that were killed."""
_LIMITS = ("--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats")
_QUICK_TO_NOTICE = {
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "3",
}
"""A killed node is noticed in about two seconds; Ray's own values take 20."""


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


class RayCluster:
    """Two nodes of one CPU each: the head, to which drivers connect, and a second one."""

    def __init__(self, folder: Path) -> None:
        net = f"127.{1 + os.getpid() // 250 % 250}.{1 + os.getpid() % 250}"
        self._folder = folder
        self._addresses = (f"{net}.2", f"{net}.3")
        self.address = f"{self._addresses[0]}:{_free_port(self._addresses[0])}"
        self._nodes = list[Node]()
        self._start("--head", f"--port={self.address.rpartition(':')[2]}", *self._of_head())
        self.revive()

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a driver: `lpt ... --ray` then connects to this cluster."""
        return {
            **os.environ,
            "RAY_ADDRESS": self.address,
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }

    @property
    def second(self) -> Node:
        """The node that tests may kill."""
        return self._nodes[-1]

    def revive(self) -> None:
        """Start the second node, at first and again if a test killed it."""
        if len(self._nodes) == 1 or not self.second.alive:
            self._start(f"--address={self.address}", address=self._addresses[1])

    def end(self) -> None:
        """End all nodes."""
        for node in reversed(self._nodes):
            node.kill()

    def _of_head(self) -> tuple[str, ...]:
        return (
            f"--ray-client-server-port={_free_port(self._addresses[0])}",
            "--include-dashboard=false",
            f"--temp-dir={self._folder}",
        )

    def _start(self, *arguments: str, address: str | None = None) -> None:
        address = address or self._addresses[0]
        log = self._folder / f"{address}-{time.monotonic_ns()}.log"
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--node-ip-address={address}"]
        libc = ctypes.CDLL(None)
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*command, *_LIMITS, *arguments],
                env={**self.environment, **_QUICK_TO_NOTICE},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C of the tests is not the node's
                preexec_fn=partial(libc.prctl, _END_WITH_PARENT, signal.SIGTERM),  # `ray start` then ends all of it
            )
        self._nodes.append(Node(address, psutil.Process(process.pid)))
        end = time.monotonic() + START_SECONDS
        while "Ray runtime started" not in log.read_text(encoding="utf-8", errors="replace"):
            if process.poll() is not None or time.monotonic() > end:
                self.end()
                pytest.fail(f"ray start failed: {log.read_text(encoding='utf-8', errors='replace')[-2000:]}")
            time.sleep(0.1)


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def _ray_cluster() -> Iterator[RayCluster]:
    if not sys.platform.startswith("linux"):
        pytest.skip("needs Linux: only there all of 127.0.0.0/8 is this machine")
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs the extra ray")
    folder = Path(tempfile.mkdtemp(prefix="lpt-ray-"))  # short: Ray's sockets lie in it, and their paths have a limit
    cluster: RayCluster | None = None
    try:
        cluster = RayCluster(folder)
        yield cluster
    finally:
        if cluster is not None:
            cluster.end()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def ray_cluster(_ray_cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> RayCluster:
    """The cluster with both nodes alive, which `connected()` of this process finds too."""
    _ray_cluster.revive()
    monkeypatch.setenv("RAY_ADDRESS", _ray_cluster.address)
    return _ray_cluster
