"""`lpt compare --ray` on one node and on two, each of a core, against the same comparison in one process of one thread.

    python -m benchmarks.cluster compare

The images are random pictures: only the time counts, and whether every pack is the same to the byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from benchmarks.cluster.nodes import loopback_nodes
from benchmarks.record import describe_machine, describe_run
from benchmarks.serving.running import add_options, picture
from lpt.system.files import write_json

CLASSES = {"first": 48, "second": 12, "third": 4}
"""Training images of each class."""
METHODS = "lift,lpt"


def main(argv: Sequence[str]) -> None:
    """Measure, and write the record."""
    args = parse(argv)
    with tempfile.TemporaryDirectory(prefix="lpt-cluster-") as folder:
        measured = measure(args, Path(folder))
    what = "a comparison on one and on two Ray nodes of a core each, against one process of one thread"
    record = {
        **describe_run(what, "benchmarks.cluster", ["compare", *argv]),
        **describe_machine("cpu"),
        "settings": {"backbone": args.backbone, "input_size": args.size, "methods": METHODS, "seeds": args.seeds,
                     "epoch_steps": args.steps, "epochs": "2 and 1"},
        **measured,
    }  # fmt: skip
    write_json(args.output, record)
    print(json.dumps(measured, indent=1))
    print(f"written: {args.output}")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the arguments."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster compare", description=__doc__)
    add_options(parser, size=96)
    parser.add_argument("--seeds", type=int, default=2, help="seeds; each method is a cell for each")
    parser.add_argument("--steps", type=int, default=20, help="steps of an epoch")
    parser.add_argument("--output", type=Path, default=Path("docs/results/cluster_compare.json"))
    return parser.parse_args(argv)


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the seconds of each form, and whether their packs are the same."""
    for label, (name, count) in enumerate(CLASSES.items()):
        for split, size in (("train", count), ("test", 4)):
            (folder / "photos" / split / name).mkdir(parents=True)
            for number in range(size):
                file = folder / "photos" / split / name / f"{number}.jpg"
                file.write_bytes(picture(1000 * label + number + 500 * (split == "test"), 160, 120))
    seconds, packs = dict[str, float](), dict[str, dict[str, str]]()
    where: AbstractContextManager[dict[str, str]]
    for form, nodes in (("one process", 0), ("one node", 1), ("two nodes", 2)):
        where = loopback_nodes(nodes) if nodes else nullcontext({})
        with where as environment:
            start = time.perf_counter()
            _compare(folder / "photos", folder / form.replace(" ", "_"), args, environment)
            seconds[form] = round(time.perf_counter() - start, 1)
        packs[form] = _digests(folder / form.replace(" ", "_"))
    return {
        "seconds": seconds,
        "two_nodes_against_one": round(seconds["one node"] / seconds["two nodes"], 3),
        "cells": len(packs["one process"]),
        "same_packs": len({json.dumps(digests, sort_keys=True) for digests in packs.values()}) == 1,
    }


def _compare(photos: Path, output: Path, args: argparse.Namespace, environment: Mapping[str, str]) -> None:
    backbone = ["--backbone", args.backbone] if args.checkpoint is None else ["--checkpoint", str(args.checkpoint)]
    values = {"train.epoch_steps": args.steps, "train.batch_size": 16, "train.phase1.epochs": 2,
              "train.phase2.epochs": 1, "runtime.threads": 1, "runtime.precision": "fp32"}  # fmt: skip
    settings = [part for path, value in values.items() for part in ("--set", f"{path}={value}")]
    seeds = ",".join(map(str, range(args.seeds)))
    command = [sys.executable, "-m", "lpt", "compare", str(photos), "--output", str(output), "--methods", METHODS]
    command += ["--seeds", seeds, "--preset", "laptop", "--size", str(args.size), "--device", "cpu", "--quiet"]
    ray = ["--ray"] if environment else []
    subprocess.run([*command, *backbone, *settings, *ray], check=True, env={**os.environ, **environment})


def _digests(folder: Path) -> dict[str, str]:
    """Return a SHA-256 of the pack of every cell."""
    files = sorted(folder.glob("runs/*/*/pack/pack.safetensors"))
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
