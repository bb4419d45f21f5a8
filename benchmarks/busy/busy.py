"""Measure how training, prediction and the server fare beside another program, under several ways to wait.

    HF_HUB_CACHE=../shared/hub HF_HUB_OFFLINE=1 python -m benchmarks.busy --policies passive spin=100 spin=10000

For each part there is a process under each policy. They stay alive and work in turns: a round asks each once while the
machine is quiet, then each once beside `--companions` processes that keep a core busy. So drift of the machine falls
on all alike. Everything is compared with the quiet turn of GNU's OpenMP without settings in the same round; `best`
compares the best turns of all rounds. The aims are 0.95 of the rate when quiet, 0.45 beside a companion on two cores.

`--quick` does all of it on tiny images in seconds: its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from benchmarks.busy.asked import Asked, Server, Worker
from benchmarks.busy.companion import companions
from benchmarks.busy.policies import DEFAULT, HELP, LIBGOMP, environment
from benchmarks.record import describe_machine, describe_run
from benchmarks.serving.running import BACKBONE, write_served_pack
from lpt.system.files import write_json
from lpt.system.openmp import SPIN_COUNT

PARTS = ("fit", "predict", "serve")
AIMS = {"quiet": 0.95, "beside": 0.45}
LEAST_ROUNDS = 3
SLOW = 8
"""A policy that takes so many times as long beside a companion as alone is asked there `LEAST_ROUNDS` times only."""


@dataclass
class Turns:
    """The seconds of the turns of a policy by round; beside a companion it may miss some."""

    quiet: dict[int, float] = field(default_factory=dict)
    beside: dict[int, float] = field(default_factory=dict)


def run_rounds(workers: dict[str, Asked], seconds: float, count: int) -> dict[str, Turns]:
    """Ask all policies in turns, for so many seconds but at least `LEAST_ROUNDS` rounds.

    Args:
        workers: by policy.
        seconds: that the rounds may take.
        count: how many companions there are.
    """
    turns = {policy: Turns() for policy in workers}
    start = time.perf_counter()
    number, last = 0, 0.0
    while number < LEAST_ROUNDS or time.perf_counter() - start + last < seconds:
        begin = time.perf_counter()
        first = number % len(workers)  # nobody is always the first after a change
        order = [*list(workers)[first:], *list(workers)[:first]]
        for policy in order:
            turns[policy].quiet[number] = workers[policy].turn()
        with companions(count):
            for policy in order:
                if not is_slow(turns[policy]):
                    turns[policy].beside[number] = workers[policy].turn()
        last = time.perf_counter() - begin
        number += 1
    return turns


def is_slow(turns: Turns) -> bool:
    """Return whether a policy is known well enough beside a companion, and takes the time of the others."""
    if len(turns.beside) < LEAST_ROUNDS:
        return False
    return median(turns.beside.values()) > SLOW * median(turns.quiet.values())


def kept(turns: Turns, base: Turns) -> dict[str, dict[str, Any]]:
    """Return which part of the quiet rate of `base` a policy keeps, quiet and beside a companion."""
    best = min(base.quiet.values())
    rows = {}
    for name in AIMS:
        seconds: dict[int, float] = getattr(turns, name)
        ratios = [base.quiet[number] / taken for number, taken in seconds.items()]
        rows[name] = {
            "kept": round(median(ratios), 4),
            "range": [round(min(ratios), 4), round(max(ratios), 4)],
            "best": round(best / min(seconds.values()), 4),
            "turns": len(seconds),
            "seconds": {"best": round(min(seconds.values()), 4), "median": round(median(seconds.values()), 4)},
        }
    return rows


def measure(args: argparse.Namespace, folder: Path, console: Console) -> list[dict[str, Any]]:
    """Return a row for each part and policy."""
    given = prepare(args, folder)
    policies = list(dict.fromkeys((LIBGOMP, DEFAULT, *args.policies)))
    rows = []
    for part in args.parts:
        with ExitStack() as alive:
            workers = {}
            for policy in policies:
                with console.status(f"{part}: starting {policy}"):
                    worker = new_worker({**given, **given[part], "part": part}, policy, folder)
                    workers[policy] = alive.enter_context(worker)
            with console.status(f"{part}: {', '.join(policies)}"):
                turns = run_rounds(workers, 60 * args.minutes / len(args.parts), args.companions)
        part_rows = [{"part": part, "policy": name, **kept(turns[name], turns[LIBGOMP])} for name in policies]
        for row in part_rows:
            console.print(line_of(row))
        rows += part_rows
    return rows


def new_worker(given: dict[str, Any], policy: str, folder: Path) -> Asked:
    """Return the process of a part under a policy."""
    variables = environment(policy)
    if given["part"] == "serve":
        return Server(given, variables, folder / f"{policy}.log")
    return Worker(given, variables)


def prepare(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Write pictures and a pack, and return what the processes work on."""
    from benchmarks.speed.pipeline import write_photos

    write_photos(folder / "photos", 16 if args.quick else 64, seed=0, small=args.quick)
    write_photos(folder / "thumbnails", 64, seed=0, small=True)  # training keeps them decoded
    pack = write_served_pack(folder / "random", args)
    return {
        "backbone": args.backbone,
        "checkpoint": None if args.checkpoint is None else str(args.checkpoint),
        "size": args.size,
        "fit": {"folder": str(folder / "thumbnails"), "batch": args.batch, "steps": args.steps},
        "predict": {"folder": str(folder / "photos"), "pack": str(pack), "batch": args.batch, "images": args.images},
        "serve": {"folder": str(folder / "photos"), "pack": str(pack), "images": args.images, "clients": 8},
    }


def line_of(row: dict[str, Any]) -> str:
    """Return a line for the terminal."""
    numbers = [
        f"{name} {row[name]['kept']:.2f} (best {row[name]['best']:.2f}, {row[name]['turns']} turns, "
        f"median {row[name]['seconds']['median']:.2f} s)"
        for name in AIMS
    ]
    return f"{row['part']:8} {row['policy']:12} {'; '.join(numbers)}"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write the result file."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = parse(arguments)
    console = Console()
    with tempfile.TemporaryDirectory(prefix="lpt-busy-") as folder:
        rows = measure(args, Path(folder), console)
    record = {
        **describe_run("part of the quiet rate of GNU's OpenMP that is kept", "benchmarks.busy", arguments),
        **describe_machine("cpu"),
        "settings": {
            "backbone": args.backbone,
            "size": args.size,
            "batch": args.batch,
            "steps": args.steps,
            "images": args.images,
            "companions": args.companions,
            "spin_count": SPIN_COUNT,
            "aims": AIMS,
        },
        "rows": rows,
    }
    write_json(args.output, record)
    console.print(f"written: {args.output}")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.busy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--policies", nargs="*", default=["passive", "spin=100", "spin=10000"], help=HELP)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--minutes", type=float, default=8, help="for the rounds of all parts; starts come on top")
    parser.add_argument("--companions", type=int, default=1, help="processes that keep a core busy")
    parser.add_argument("--backbone", default=BACKBONE, help="timm name of the backbone")
    parser.add_argument("--checkpoint", type=Path, help="local weights of that architecture")
    parser.add_argument("--size", type=int, default=96, help="input side, pixels")
    parser.add_argument("--batch", type=int, default=32, help="images of each stream in a step, and of a prediction")
    parser.add_argument("--steps", type=int, default=1, help="training steps of a turn")
    parser.add_argument("--images", type=int, default=96, help="pictures of a turn of prediction or of the server")
    parser.add_argument("--output", type=Path, default=Path("docs/results/busy.json"))
    parser.add_argument("--quick", action="store_true", help="tiny pictures and backbone: does it run at all?")
    args = parser.parse_args(arguments)
    for policy in args.policies:
        try:
            environment(policy)
        except ValueError as error:
            parser.error(str(error))
    if args.quick:
        args.backbone, args.size, args.batch, args.images, args.minutes = "lpt-demo-glyphs", 32, 4, 8, 0.0
    return args
