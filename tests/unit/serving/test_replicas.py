"""`lpt serve --ray` on two nodes: a replica is killed under load, packs come, and the command ends cleanly."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from typer.testing import CliRunner

from lpt.cli.app import app as program
from lpt.errors import ConfigError
from lpt.system.cluster import Node
from ray_cluster import RayCluster
from small_server import encoded
from warm_process import WarmProcess, warm_lpt

PREDICT = "/v1/packs/birds/predict"
PATIENCE_SECONDS = 240


def until(reached: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.2)


def replicas(cluster: RayCluster) -> list[psutil.Process]:
    """The processes of the replicas, on all nodes."""
    there = []
    for process in psutil.process_iter(["cmdline"]):
        title = " ".join(process.info["cmdline"] or ())
        if title.startswith("ray::ServeReplica") and ":Replica" in title:
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile
                if cluster.started & {parent.pid for parent in process.parents()}:
                    there.append(process)
    return there


def metrics(url: str) -> str:
    return httpx.get(url + "/metrics", timeout=60).text


class Load:
    """Requests, one after the other in several threads, until it is ended."""

    def __init__(self, url: str, threads: int = 3) -> None:
        self.statuses = list[int]()
        self._url, self._done = url, threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(threads)]

    def _ask(self) -> None:
        content = encoded()
        with httpx.Client(timeout=120) as client:
            while not self._done.is_set():
                answer = client.post(self._url, content=content, headers={"Content-Type": "image/png"})
                self.statuses.append(answer.status_code)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()


Serve = Callable[[int], tuple[WarmProcess, str]]


@pytest.fixture
def serve(ray_cluster: RayCluster, packs: Path, tiny_backbone: Path) -> Iterator[Serve]:
    """Start `lpt serve --ray` with so many replicas, and return it and its address."""
    shutil.move(packs / "cranes", packs.parent / "later")
    arguments = [packs, "--checkpoint", tiny_backbone, "--device", "cpu", "--port", "0", "--watch", "--ray"]
    started = list[WarmProcess]()

    def start(count: int) -> tuple[WarmProcess, str]:
        process = warm_lpt("serve", *arguments, "--replicas", count, environment=ray_cluster.environment)
        started.append(process)
        until(lambda: process.printed() or process.poll() is not None)
        line, counted = process.printed(), f"{count} replica{'s' * (count > 1)} of 1 core"
        assert re.fullmatch(rf"http://127\.0\.0\.1:\d+ serves \S+ with {counted}\n", line), process.communicate()
        return process, line.split()[0]

    yield start
    for process in started:
        process.kill()


def test_no_request_fails_when_a_replica_is_killed(serve: Serve, ray_cluster: RayCluster, packs: Path) -> None:
    process, url = serve(2)
    first = replicas(ray_cluster)
    assert len(first) == 2
    with Load(url + PREDICT) as load:
        until(lambda: len(load.statuses) > 20)
        first[0].kill()
        before = len(load.statuses)
        until(lambda: len(load.statuses) > before + 40)
    assert set(load.statuses) == {200}
    assert httpx.get(url + "/readyz", timeout=60).json() == {"status": "ready"}
    assert httpx.get(url + "/", timeout=60).status_code == 200

    until(lambda: len(replicas(ray_cluster)) == 2)  # Serve starts another one
    shutil.copytree(packs.parent / "later", packs / "cranes")
    until(lambda: re.findall(r"lpt_packs\{.*\} (\S+)", metrics(url)) == ["2.0", "2.0"])
    counted = re.search(r'lpt_requests_total\{route="/v1/packs/\{name\}/predict",status="200"\} (\S+)', metrics(url))
    assert counted is not None
    assert float(counted[1]) == len(load.statuses)

    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, errors
    assert {json.loads(line)["event"] for line in errors.splitlines()} == {"request"}, "Ray's messages are kept out"
    until(lambda: not replicas(ray_cluster))


def test_the_replica_of_a_killed_front_end_ends(serve: Serve, ray_cluster: RayCluster) -> None:
    process, _ = serve(1)
    assert len(replicas(ray_cluster)) == 1
    process.kill()
    until(lambda: not replicas(ray_cluster))


def test_what_a_user_can_get_wrong(packs: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    from lpt.serving.replicas import share_of_machine

    there = [Node("a", 8, 0), Node("b", 3, 1)]
    assert [share_of_machine(count, card=False, there=there) for count in (1, 2, 3, 5, 11)] == [8, 4, 3, 2, 1]
    assert share_of_machine(1, card=True, there=there) == 3
    with pytest.raises(ConfigError, match=r"replicas 12.*a with 8 cores; b with 3 cores and 1 card"):
        share_of_machine(12, card=False, there=there)
    with pytest.raises(ConfigError, match="a card and a core"):
        share_of_machine(2, card=True, there=there)
    for arguments, message in (
        ([str(packs), "--replicas", "2"], "add --ray"),
        ([str(tmp_path / "nowhere"), "--ray", "--port", "0"], "does not exist"),
    ):
        result: Any = CliRunner().invoke(program, ["serve", *arguments])
        assert (result.exit_code, message in result.output) == (2, True), result.output
