"""Compare kinds of rows and scales for new classes on held-out training images: what `lpt extend` was chosen by.

    python -m benchmarks.accuracy.extension_rows --seeds 0 1 --runs runs/new_classes

It needs the packs of `benchmarks.accuracy.new_classes train`. The test images are not read. Every kind has one number
that is set so that, with all classes equally frequent, the new ones get their share of the images; so kinds differ in
how well they tell classes apart, not in how many images they claim.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.cifar100_cuts import CIFAR100
from benchmarks.accuracy.extended_packs import Encoder, by_part
from benchmarks.accuracy.new_classes import NEW, OLD, new_pictures, only, open_cuts
from benchmarks.record import describe_machine, describe_run
from lpt.commands.extend.rows import shot_scales, unit
from lpt.data.manifest import FloatArray, IntArray
from lpt.packs.pack import load_pack
from lpt.system.files import write_text

MOST_SHOTS = 20
SCALE = 0.65
Kind = Callable[[FloatArray, float], FloatArray]
"""(cosines with the new rows [n, K], number) -> scores; larger numbers give larger scores."""


def scaled(cosines: FloatArray, number: float) -> FloatArray:
    """A scale alone."""
    return number * cosines


def shifted(cosines: FloatArray, number: float) -> FloatArray:
    """An offset alone."""
    return cosines + number - 1


def both(cosines: FloatArray, number: float) -> FloatArray:
    """A fixed scale, and an offset."""
    return SCALE * cosines + number - 1


def measure(old: FloatArray, cosines: FloatArray, labels: IntArray, kind: Kind) -> dict[str, Any]:
    """Return the accuracies at the number at which new classes get their share, found by bisection."""
    share, low, high = len(NEW) / len(OLD + NEW), 0.0, 3.0
    scores = old
    for _ in range(40):
        number = (low + high) / 2
        scores = np.concatenate([old, kind(cosines, number)], axis=1)
        taken = scores.argmax(axis=1) >= len(OLD)
        given = np.mean([taken[labels == label].mean() for label in range(len(OLD + NEW))])
        low, high = (low, number) if given > share else (number, high)
    right = scores.argmax(axis=1) == labels
    accuracies = [float(right[labels == label].mean()) for label in range(len(OLD + NEW))]
    return {**by_part(accuracies), "number": round(number, 4)}


def measure_seed(seed: int, shots: list[int], *, source: str, runs: Path, work: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a seed."""
    pack = load_pack(runs / f"old_seed{seed}")
    cuts, new = open_cuts(seed, source), new_pictures(seed, MOST_SHOTS, source)
    assert cuts.validation is not None
    images, encoder = only(cuts.validation, OLD + NEW), Encoder(pack, work)
    features, pictures = encoder.features("validation", images), encoder.features("new", new)
    head = unit(pack.tensors["head.weight"])
    old = features @ head.T
    for count in shots:
        means = np.stack([pictures[new.labels == label][:count].mean(axis=0) for label in range(len(NEW))])
        known = features[images.labels < len(OLD)].mean(axis=0)
        rows = {
            "mean, scaled": (means, scaled),
            "mean less that of old pictures, scaled": (means - known, scaled),
            "mean less that of old rows, scaled": (means - head.mean(axis=0), scaled),
            "mean, offset": (means, shifted),
            f"mean, scale {SCALE} and offset": (means, both),
        }
        for name, (row, kind) in rows.items():
            yield {
                "seed": seed,
                "shots": count,
                "kind": name,
                **measure(old, features @ unit(row).T, images.labels, kind),
            }
        rule = np.concatenate([old, features @ unit(means).T * shot_scales(np.full(len(NEW), count))], axis=1)
        right = rule.argmax(axis=1) == images.labels
        accuracies = [float(right[images.labels == label].mean()) for label in range(len(OLD + NEW))]
        yield {"seed": seed, "shots": count, "kind": "mean, scaled by the rule", **by_part(accuracies)}


def main() -> None:
    """Measure all seeds and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 2, 5, 10, 20])
    parser.add_argument("--source", default=CIFAR100)
    parser.add_argument("--runs", type=Path, default=Path("runs/new_classes"))
    parser.add_argument("--work", type=Path, default=Path("runs/new_classes/encoded"))
    parser.add_argument("--output", type=Path, default=Path("docs/results/extension_rows.json"))
    args = parser.parse_args()
    rows = [
        row
        for seed in args.seeds
        for row in measure_seed(seed, args.shots, source=args.source, runs=args.runs, work=args.work)
    ]
    command = ["--seeds", *map(str, args.seeds), "--shots", *map(str, args.shots)]
    record = describe_run("rows and scales of new classes", "benchmarks.accuracy.extension_rows", command)
    write_text(args.output, json.dumps({**record, **describe_machine("cpu"), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
