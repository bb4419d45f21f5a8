"""The server under load, against the predictor alone on the same encoded images, in turns.

    python -m benchmarks.serving load

Both sides decode. At C clients, each of which waits for its answer, the aims are 0.95 of the predictor's rate and a
99th percentile of at most 1.5 x C / rate seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import describe_machine, describe_run
from benchmarks.serving.client import Reply, load, request
from benchmarks.serving.reference import Reference
from benchmarks.serving.running import ServerProcess, add_options, picture, write_served_pack
from lpt.system.files import write_json

MODULE = "benchmarks.serving"
PICTURES, SERVER_BATCH = 64, 8
_WARM_UP = 16


def main(argv: Sequence[str]) -> None:
    """Measure, and write the record."""
    args = parse(argv)
    with tempfile.TemporaryDirectory(prefix="lpt-serving-") as folder:
        rows = measure(args, Path(folder))
    record = {
        **describe_run(
            "images per second of lpt serve against the predictor alone, in turns, and the time of an answer",
            MODULE,
            ["load", *argv],
        ),
        **describe_machine(args.device),
        "settings": {
            "backbone": args.backbone,
            "input_size": args.size,
            "pictures": f"{PICTURES} JPEGs of 500x375",
            "images_per_turn": args.images,
            "rounds": args.rounds,
            "predictor_batch": f"as many as there are clients, at most {SERVER_BATCH}",
            "aims": {"ratio": 0.95, "p99_seconds": "1.5 x clients / predictor's images per second"},
        },
        "clients": rows,
    }
    write_json(args.output, record)
    for row in rows:
        print(json.dumps(row))
    print(f"written: {args.output}")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the arguments."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving load", description=__doc__)
    add_options(parser, size=224)
    parser.add_argument("--clients", default="1,8,64", help="numbers of clients")
    parser.add_argument("--images", type=int, default=192, help="images of a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("docs/results/serving_load.json"))
    return parser.parse_args(argv)


def measure(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Return a row for each number of clients."""
    pack = write_served_pack(folder / "random", args)
    images = [folder / f"{number}.jpg" for number in range(PICTURES)]
    for number, image in enumerate(images):
        image.write_bytes(picture(number))
    headers = {"Content-Type": "image/jpeg"}
    requests = [request("/v1/packs/random/predict", image.read_bytes(), headers) for image in images]
    checkpoint = None if args.checkpoint is None else str(args.checkpoint)
    options = {"backbone": args.backbone if checkpoint is None else None, "checkpoint": checkpoint}
    counts = [int(text) for text in args.clients.split(",")]
    turns: dict[int, list[Turn]] = {clients: [] for clients in counts}
    with (
        ServerProcess(pack, args, ["--queue", str(2 * max(counts))], folder / "log.jsonl") as server,
        Reference(pack, images, {**options, "device": args.device}) as reference,
    ):
        asyncio.run(load(server.port, 4, _WARM_UP, lambda number: requests[number % PICTURES], check))
        for _ in range(args.rounds):
            for clients in counts:
                alone = reference.rate(args.images, min(clients, SERVER_BATCH))
                turns[clients].append(Turn(alone, *serve_turn(server.port, clients, args.images, requests)))
    return [row(clients, turns[clients]) for clients in counts]


class Turn:
    """A turn of both.

    Args:
        alone: images per second of the predictor.
        served: images per second of the server.
        seconds: of each answer.
    """

    def __init__(self, alone: float, served: float, seconds: list[float]) -> None:
        self.alone, self.served, self.seconds = alone, served, seconds


def serve_turn(port: int, clients: int, count: int, requests: list[bytes]) -> tuple[float, list[float]]:
    """Return images per second, and the seconds of each answer."""
    seconds: list[float] = []

    def note(number: int, reply: Reply) -> None:
        check(number, reply)
        seconds.append(reply.seconds)

    whole = asyncio.run(load(port, clients, count, lambda number: requests[number % PICTURES], note))
    return count / whole, seconds


def check(number: int, reply: Reply) -> None:
    """Stop at a request that was not answered: a rate with failures says nothing."""
    if reply.status != 200:
        raise RuntimeError(f"request {number}: status {reply.status}: {reply.body[:300]!r}")


def row(clients: int, turns: list[Turn]) -> dict[str, Any]:
    """Return what was measured at a number of clients."""
    ratios = [turn.served / turn.alone for turn in turns]
    alone = statistics.median(turn.alone for turn in turns)
    seconds = np.concatenate([turn.seconds for turn in turns])
    p50, p99 = np.percentile(seconds, [50, 99]).tolist()
    bound = 1.5 * clients / alone
    return {
        "clients": clients,
        "predictor_images_per_s": round(alone, 2),
        "server_images_per_s": round(statistics.median(turn.served for turn in turns), 2),
        "ratio_median": round(statistics.median(ratios), 4),
        "ratio_best": round(max(ratios), 4),
        "p50_s": round(p50, 4),
        "p99_s": round(p99, 4),
        "p99_bound_s": round(bound, 4),
        "within_bound": bool(p99 <= bound),
    }
