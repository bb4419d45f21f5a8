"""Many packs on one backbone: memory, start, loading, mixed batches, and packs that come and go.

Each measurement runs in a fresh process. `--tiny` does everything once on a small random backbone and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.record import describe_machine, describe_run
from benchmarks.scale.measure import in_fresh_process

BACKBONE = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
SIDE = "benchmarks.serving.packs_side"
MEMORY_PACKS, TUNED_MODELS = 200, 8
AIMS = {"mixed_at_100": 0.95, "mixed_at_1000": 0.9, "share_of_counted_packs": 0.9, "load_milliseconds": 50}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the arguments."""
    parser = argparse.ArgumentParser("python -m benchmarks.serving packs", description=__doc__)
    parser.add_argument("--packs", default="1,10,100,1000", help="numbers of packs")
    parser.add_argument("--output", type=Path, default=Path("docs/results/serving_packs.json"))
    parser.add_argument("--rounds", type=int, default=10, help="turns of each comparison")
    parser.add_argument("--size", type=int, default=224, help="input side, pixels")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: all cores")
    parser.add_argument("--folder", type=Path, help="where the packs are put for the time; 1,000 take about 0.8 GB")
    parser.add_argument("--tiny", action="store_true", help="a small random backbone, few packs, two rounds")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Measure, and write the record."""
    args = parse(argv)
    counts = sorted({int(number) for number in args.packs.split(",")})
    memory_packs = MEMORY_PACKS
    if args.tiny:
        counts, args.rounds, args.size, memory_packs = [1, 10], 2, 32, 5
    with tempfile.TemporaryDirectory(prefix="lpt-serving-", dir=args.folder) as folder:
        record = measure(Path(folder), counts, args, memory_packs)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"written: {args.output}")


def measure(folder: Path, counts: list[int], args: argparse.Namespace, memory_packs: int) -> dict[str, Any]:
    """Measure everything and return the record."""
    common: dict[str, Any] = {"backbone": BACKBONE, "checkpoint": None, "threads": args.threads}
    if args.tiny:
        common |= in_fresh_process(SIDE, "small_backbone", folder=str(folder))
    packs = {"size": args.size, **common}
    mixed, plain = str(folder / "mixed"), str(folder / "plain")
    say(f"writing {counts[-1]} packs of differing sizes and {memory_packs} of the default sizes")
    kinds = in_fresh_process(SIDE, "write", folder=mixed, count=counts[-1], differing=True, **packs)
    in_fresh_process(SIDE, "write", folder=plain, count=memory_packs, differing=False, **packs)
    record: dict[str, Any] = {
        **describe_run("Packs of differing sizes on one frozen backbone", "benchmarks.serving"),
        **describe_machine("cpu"),
        **{key: value for key, value in packs.items() if key != "checkpoint"},
        "rounds": args.rounds,
        "kinds": kinds,
        "aims": AIMS,
    }
    say("memory")
    record["memory"] = in_fresh_process(SIDE, "memory", folder=plain, count=memory_packs, models=TUNED_MODELS, **common)
    record["at"] = []
    for count in counts:
        say(f"{count} packs")
        started = in_fresh_process(SIDE, "start", folder=mixed, count=count, **common)
        rates = in_fresh_process(SIDE, "rates", folder=mixed, count=count, rounds=args.rounds, **common)
        record["at"].append({"packs": count, "start": started, "rates": rates})
    say("packs that come and go")
    changing = min(counts[-1], 100)
    record["changing"] = in_fresh_process(
        SIDE, "changing", folder=mixed, count=changing, batches=10 * args.rounds, **common
    )  # fmt: skip
    return record


def say(what: str) -> None:
    """Print what is measured now."""
    print(f"{datetime.now(UTC):%H:%M:%S} {what}", file=sys.stderr, flush=True)
