"""Shards of `lpt predict --ray` on one node and on two, against one process: work that sleeps, then real images.

    python -m benchmarks.cluster predict

The sleeping work shows what claims and parts cost: two nodes on one machine share its cores, so real work would show
how many cores it has. The real images show one node against one process of one thread, as a node has one core, and
that the bytes are the same.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

from benchmarks.cluster.nodes import loopback_nodes
from benchmarks.record import describe_machine, describe_run
from lpt.commands.predict.jobs import Output
from lpt.commands.predict.launched import predict_launched
from lpt.commands.predict.on_ray import predict_on_ray
from lpt.commands.predict.request import PredictRequest
from lpt.data.decoding import AS_USUAL, Reading
from lpt.system.files import write_json
from lpt.system.processes import ALONE

QUIET = Console(quiet=True)


@dataclass
class Sleeper:
    """A stand-in for a predictor: it takes its time for each picture and no core."""

    seconds: float
    reading: Reading = AS_USUAL

    def __post_init__(self) -> None:
        self.repaired: list[str] = []

    def write_rows(self, pictures: Iterator[Any], file: Any, bad: list[str], show_done: Callable[[int], None]) -> int:
        """Write the path of each picture after a sleep."""
        count = 0
        for count, (path, _) in enumerate(pictures, start=1):
            time.sleep(self.seconds)
            file.write(f"{path}\n")
            show_done(count)
        return count


def sleeping(request: PredictRequest) -> tuple[Any, Output]:
    """Return a sleeper of so many milliseconds as the request gives for its number of classes."""
    return Sleeper(request.top_k / 1000), Output({"sleep": request.top_k}, "image\n", 1, None, False)


def main(argv: Sequence[str]) -> None:
    """Measure, and write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster predict", description=__doc__)
    parser.add_argument("--images", type=int, default=4096, help="images of the work that sleeps")
    parser.add_argument("--sleep", type=int, default=20, help="milliseconds for each of them")
    parser.add_argument("--shard", type=int, default=64, help="images of a shard")
    parser.add_argument("--pack", type=Path, help="a pack to classify the images with; None: only sleep")
    parser.add_argument("--checkpoint", type=Path, help="its backbone, if it is not in the cache")
    parser.add_argument("--output", type=Path, default=Path("docs/results/cluster_predict.json"))
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="lpt-cluster-") as folder:
        measured = measure(args, Path(folder))
    write_json(
        args.output,
        {
            **describe_run(
                "shards of a prediction on one and on two Ray nodes of a core each, against one process",
                "benchmarks.cluster",
                ["predict", *argv],
            ),
            **describe_machine("cpu"),
            "settings": {"images": args.images, "sleep_ms": args.sleep, "shard": args.shard},
            **measured,
        },
    )
    print(json.dumps(measured, indent=1))
    print(f"written: {args.output}")


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return seconds from the first claim to the output, and ratios of rates; starting and loading do not count."""
    images = folder / "images"
    images.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(images / "0.jpg")
    for number in range(1, args.images):
        os.link(images / "0.jpg", images / f"{number}.jpg")
    paths = [images / f"{number}.jpg" for number in range(args.images)]
    works: dict[str, Any] = {"sleep": (sleeping, {"top_k": args.sleep})}
    if args.pack is not None:
        import torch

        from lpt.commands.predict.predict import prepare_output

        works["classify"] = (prepare_output, {"checkpoint": args.checkpoint, "device": "cpu"})
        torch.set_num_threads(1)
    results: dict[str, Any] = {name: {} for name in works}
    for nodes in (0, 1, 2):
        with cluster(nodes):
            for name, (prepare, values) in works.items():
                output = folder / f"{name}-{nodes}.csv"
                request = PredictRequest(args.pack or folder, (images,), output, shard_size=args.shard, **values)
                seconds = timed(request, output, prepare, paths, on_ray=nodes > 0)
                results[name]["one process" if nodes == 0 else f"{nodes} node{'s' * (nodes > 1)}"] = round(seconds, 3)
    for name, seconds in results.items():
        contents = {(folder / f"{name}-{nodes}.csv").read_bytes() for nodes in (0, 1, 2)}
        seconds["one node of one process's rate"] = round(seconds["one process"] / seconds["1 node"], 3)
        seconds["two nodes of one node's rate"] = round(seconds["1 node"] / seconds["2 nodes"], 3)
        seconds["same bytes"] = len(contents) == 1
    return results


@contextmanager
def cluster(nodes: int) -> Iterator[None]:
    """Run so many nodes in the block, and let this process find them."""
    if not nodes:
        yield
        return
    with loopback_nodes(nodes) as environment:
        before = dict(os.environ)
        os.environ.update({name: environment[name] for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "PYTHONPATH")})
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def timed(request: PredictRequest, output: Path, prepare: Any, paths: Sequence[Path], *, on_ray: bool) -> float:
    """Do a job, and return the seconds from the first claim to the output."""
    parts = output.with_name(output.name + ".parts")
    with watched(parts) as times:
        if on_ray:
            predict_on_ray(request, lambda: paths, prepare, QUIET)
        else:
            predict_launched(output, lambda: paths, lambda: prepare(request), ALONE, request.shard_size, QUIET)
    return output.stat().st_mtime - times["first"]


@contextmanager
def watched(parts: Path) -> Iterator[Mapping[str, float]]:
    """Note when the first claim appears in a folder."""
    import threading

    times, done = dict[str, float](), threading.Event()

    def watch() -> None:
        while not done.wait(0.02) and not times:
            if any(parts.glob("*.claim")):
                times["first"] = time.time()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield times
    finally:
        done.set()
        thread.join()
