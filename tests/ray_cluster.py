"""A Ray cluster of two nodes on loopback, for all tests that need one; its nodes can be killed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.cluster.nodes import NET, Node, driver_environment, free_port, head_arguments, start_node

os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray reads it once, on import; a head node makes the token

_QUICK_TO_NOTICE = {
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "3",
}
"""A killed node is noticed in about two seconds; Ray's own values take 20."""
_HEAD, _SECOND = f"{NET}.2", f"{NET}.3"


class RayCluster:
    """Two nodes of one CPU each: the head, to which drivers connect, and a second one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.address = f"{_HEAD}:{free_port(_HEAD)}"
        self._nodes = [self._start(_HEAD, *head_arguments(self.address, folder))]
        try:
            self.revive()
        except RuntimeError:
            self.end()
            raise

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a driver: `lpt ... --ray` then connects to this cluster."""
        return driver_environment(self.address)

    @property
    def second(self) -> Node:
        """The node that tests may kill."""
        return self._nodes[-1]

    def revive(self) -> None:
        """Start the second node, at first and again if a test killed it."""
        if len(self._nodes) == 1 or not self.second.alive:
            self._nodes.append(self._start(_SECOND, f"--address={self.address}"))

    def end(self) -> None:
        """End all nodes."""
        for node in reversed(self._nodes):
            node.kill()

    def _start(self, address: str, *arguments: str) -> Node:
        return start_node(address, arguments, {**self.environment, **_QUICK_TO_NOTICE}, self._folder)


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
