"""Drivers find the cluster that RAY_ADDRESS names; tests have two nodes, and one of them can die and come back."""

from __future__ import annotations

import time

from ray_cluster import RayCluster


def test_a_driver_finds_the_cluster_and_a_killed_node_is_noticed(ray_cluster: RayCluster) -> None:
    from lpt.system.cluster import connected, ray

    def alive() -> set[str]:
        return {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}

    with connected():
        killed = ray_cluster.second
        assert killed.address in alive()
        assert len(alive()) == 2
        killed.kill()
        end = time.monotonic() + 60
        while killed.address in alive() and time.monotonic() < end:
            time.sleep(0.1)
        assert killed.address not in alive()
    assert not ray.is_initialized()
