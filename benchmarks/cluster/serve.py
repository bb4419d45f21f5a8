"""`lpt serve --ray` on two nodes of a core each, against `lpt serve` with the cores of the machine; then a kill.

    python -m benchmarks.cluster serve

Both sides answer the same encoded pictures in turns. Then a replica is killed under load, and every answer is counted:
none may fail. The nodes share one machine, so two replicas cannot be faster than one server with all of its cores; what
is measured is the cost of the way through the front.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.cluster.nodes import loopback_nodes
from benchmarks.record import describe_machine, describe_run
from benchmarks.serving.client import Reply, load, request
from benchmarks.serving.load import serve_turn
from benchmarks.serving.running import ServerProcess, add_options, picture, write_served_pack
from lpt.system.files import write_json

PICTURES, WARM_UP = 64, 16
MODULE = "benchmarks.cluster"


def main(argv: Sequence[str]) -> None:
    """Measure, and write the record."""
    args = parse(argv)
    with tempfile.TemporaryDirectory(prefix="lpt-cluster-") as folder:
        measured = measure(args, Path(folder))
    record = {
        **describe_run(
            "two replicas on two Ray nodes of a core each, against one server with all cores of the same machine",
            MODULE,
            ["serve", *argv],
        ),
        **describe_machine(args.device),
        "settings": {"backbone": args.backbone, "input_size": args.size, "images_per_turn": args.images},
        **measured,
    }
    write_json(args.output, record)
    print(json.dumps(measured, indent=1))
    print(f"written: {args.output}")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the arguments."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster serve", description=__doc__)
    add_options(parser, size=224)
    parser.add_argument("--clients", default="1,8", help="numbers of clients")
    parser.add_argument("--images", type=int, default=96, help="images of a turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--killed-images", type=int, default=400, help="images while a replica is killed")
    parser.add_argument("--output", type=Path, default=Path("docs/results/cluster_serve.json"))
    return parser.parse_args(argv)


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return what was measured."""
    pack = write_served_pack(folder / "random", args)
    headers = {"Content-Type": "image/jpeg"}
    requests = [request("/v1/packs/random/predict", picture(number), headers) for number in range(PICTURES)]
    counts = [int(text) for text in args.clients.split(",")]
    turns: dict[tuple[str, int], list[tuple[float, list[float]]]] = {}
    with loopback_nodes(2) as environment:
        alone = ServerProcess(pack, args, ["--queue", "256"], folder / "alone.jsonl")
        with _environment(environment):
            replicated = ServerProcess(pack, args, ["--queue", "256", "--ray", "--replicas", "2"], folder / "ray.jsonl")
            with alone, replicated:
                servers = {"alone": alone, "replicated": replicated}
                for server in servers.values():
                    serve_turn(server.port, 4, WARM_UP, requests)
                for _ in range(args.rounds):
                    for clients in counts:
                        for name, server in servers.items():
                            turn = serve_turn(server.port, clients, args.images, requests)
                            turns.setdefault((name, clients), []).append(turn)
                killed = _kill_under_load(replicated.port, args.killed_images, requests)
                codes = {name: server.stop() for name, server in servers.items()}
    rows = [_row(name, clients, taken) for (name, clients), taken in turns.items()]
    starts = {"alone": alone.start_seconds, "replicated": replicated.start_seconds}
    return {"start_seconds": starts, "turns": rows, "killed": killed, "exit_codes": codes}


def _row(name: str, clients: int, turns: list[tuple[float, list[float]]]) -> dict[str, Any]:
    p50, p99 = np.percentile(np.concatenate([seconds for _, seconds in turns]), [50, 99]).tolist()
    rate = statistics.median(rate for rate, _ in turns)
    return {"server": name, "clients": clients, "images_per_s": round(rate, 2), "p50_s": p50, "p99_s": p99}


def _kill_under_load(port: int, count: int, requests: list[bytes]) -> dict[str, Any]:
    """Send requests, kill a replica after a quarter of them, and count the answers by status."""
    statuses: Counter[str] = Counter()
    longest, killed = 0.0, False

    def note(number: int, reply: Reply) -> None:
        nonlocal longest, killed
        statuses[str(reply.status)] += 1
        longest = max(longest, reply.seconds)
        if not killed and sum(statuses.values()) > count // 4:
            _replicas()[0].kill()
            killed = True

    asyncio.run(load(port, 8, count, lambda number: requests[number % len(requests)], note))
    return {"answers_by_status": dict(statuses), "longest_s": round(longest, 3)}


def _replicas() -> list[psutil.Process]:
    """Return the processes of replicas of this cluster, which has this process as its parent's parent."""
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if " ".join(process.cmdline()).startswith("ray::ServeReplica") and ":Replica" in " ".join(process.cmdline())
    ]


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set the environment of the processes that are started in the block."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
