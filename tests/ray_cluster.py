"""A Ray cluster of two nodes on loopback, for all tests that need one; its nodes can be killed."""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import sys
import tempfile
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

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="lpt-ray-"))  # short: sockets lie in it, whose paths have a limit
        self._nodes = list[Node]()
        self.address = f"{_HEAD}:{free_port(_HEAD)}"
        try:
            self._start(_HEAD, *head_arguments(self.address, self._folder))
            self.revive()
        except BaseException:
            self.end()
            raise

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a driver: `lpt ... --ray` then connects to this cluster."""
        return driver_environment(self.address)

    @property
    def second(self) -> Node:
        """The node that tests may kill, which they take as the fixture `mortal_node`."""
        return self._nodes[-1]

    @property
    def started(self) -> set[int]:
        """The process numbers of `ray start` of all nodes."""
        return {node.started.pid for node in self._nodes}

    def revive(self) -> None:
        """Start the second node, at first and again if a test killed it."""
        if len(self._nodes) == 1 or not self.second.alive:
            self._start(_SECOND, f"--address={self.address}")

    def end(self) -> None:
        """End all nodes."""
        for node in reversed(self._nodes):
            node.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, address: str, *arguments: str) -> None:
        environment = {**self.environment, **_QUICK_TO_NOTICE}
        self._nodes.append(start_node(address, arguments, environment, self._folder))


_running = list[RayCluster]()
"""The cluster of this process, from the first test that needs it to the last."""


@pytest.fixture
def ray_cluster(monkeypatch: pytest.MonkeyPatch) -> RayCluster:
    """The cluster with both nodes alive, which `connected()` of this process finds too."""
    if not sys.platform.startswith("linux"):
        pytest.skip("needs Linux: only there all of 127.0.0.0/8 is this machine")
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs the extra ray")
    if not _running:
        _running.append(RayCluster())
    _running[0].revive()
    monkeypatch.setenv("RAY_ADDRESS", _running[0].address)
    return _running[0]


@pytest.fixture
def mortal_node(ray_cluster: RayCluster) -> Node:
    """The second node, for a test that kills it: those come last, since the next one has to start it again."""
    return ray_cluster.second


def needs_ray_cluster(item: pytest.Item | None) -> bool:
    """Whether a test has the fixture."""
    return "ray_cluster" in getattr(item, "fixturenames", ())


def kills_node(item: pytest.Item) -> bool:
    """Whether a test kills the second node."""
    return "mortal_node" in getattr(item, "fixturenames", ())


@atexit.register
def end_ray_cluster() -> None:
    """End the cluster, which takes some of a core even if nobody uses it."""
    while _running:
        _running.pop().end()
