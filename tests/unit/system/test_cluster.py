"""Drivers find the cluster that RAY_ADDRESS names; tests have two nodes, and one of them can die and come back."""

from __future__ import annotations

import socket
import time

import pytest

from lpt.errors import RunError
from ray_cluster import RayCluster


@pytest.mark.parametrize("form", ["no address", "127.0.0.1:{port}"])
def test_a_wrong_address_is_refused_at_once(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself raises a ValueError at the one, and tries for minutes at the other."""
    pytest.importorskip("ray")
    from lpt.system.cluster import connected

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens, and nobody else gets the port
        address = form.format(port=closed.getsockname()[1])
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(RunError, match=rf"Ray cluster {address} does not answer: .*ray start"), connected():
            pass


def test_a_driver_finds_the_cluster_and_a_killed_node_is_noticed(ray_cluster: RayCluster) -> None:
    from lpt.system.cluster import connected, ray

    def alive() -> set[str]:
        return {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]

    with connected():
        killed = ray_cluster.second
        assert killed.address in alive()
        assert len(alive()) == 2
        killed.kill()
        end = time.monotonic() + 240
        while killed.address in alive() and time.monotonic() < end:
            time.sleep(0.1)
        assert killed.address not in alive()
    assert not ray.is_initialized()
