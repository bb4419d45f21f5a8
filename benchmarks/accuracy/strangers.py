"""Measure `--reject`: how well a pack tells pictures of its classes from pictures of none of them.

With `HF_HUB_CACHE=../shared/hub HF_HUB_OFFLINE=1` in the environment:

    python -m benchmarks.accuracy.new_classes train --seeds 0 1 2 --runs runs/new_classes
    python -m benchmarks.accuracy.strangers train --seeds 0 1 2
    python -m benchmarks.accuracy.strangers choose --cifar runs/new_classes
    python -m benchmarks.accuracy.strangers final --cifar runs/new_classes

`train` trains on clothing, with a validation split. `choose` compares scores and rules for the threshold on held-out
training images of CIFAR-100-LT: known are the 80 classes of `benchmarks.accuracy.new_classes`, strangers the 20 others.
It draws the images that the threshold is fitted on as a validation split of 10 % would have them, and measures on the
rest. `final` measures what was chosen on the test images of both data sets. A finished run is not trained again, and
scores are computed once.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import lpt
from benchmarks.accuracy.cifar100_cuts import CIFAR100
from benchmarks.accuracy.new_classes import NEW, OLD, fit_once, only, open_cuts
from lpt.config.schema import DataConfig
from lpt.data.images import FileImages
from lpt.data.manifest import Float32Array, IntArray, LabelledImages, Splits
from lpt.data.sources import open_splits

CLOTHING = Path(__file__).parent.parent.parent.parent / "shared" / "data" / "clothing"
GROCERY = CLOTHING.with_name("grocery")
CLOTHING_STEPS = 40
"""Steps of an epoch: the images of clothing once in both streams, about."""


def clothing_splits(seed: int) -> Splits:
    """Return the images of clothing, with a tenth of each class held out as validation."""
    return open_splits(DataConfig(source=str(CLOTHING / "labels.csv"), validation="0.1"), seed=seed)


def train(seeds: list[int], runs: Path, *, size: int, epoch_steps: int) -> None:
    """Train on clothing, unless it is done."""
    for seed in seeds:
        fit_once(
            clothing_splits(seed), runs / f"clothing_seed{seed}", size=size, seed=seed, epoch_steps=epoch_steps
        )  # fmt: skip


def main() -> None:
    """Run a stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["train", "choose", "final"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=64, help="input side of clothing, pixels")
    parser.add_argument("--epoch-steps", type=int, default=CLOTHING_STEPS, help="steps of an epoch on clothing")
    parser.add_argument("--runs", type=Path, default=Path("runs/strangers"), help="runs on clothing, and kept scores")
    parser.add_argument("--cifar", type=Path, default=Path("runs/new_classes"), help="runs of new_classes train")
    args = parser.parse_args()
    if args.stage == "train":
        train(args.seeds, args.runs, size=args.size, epoch_steps=args.epoch_steps)


if __name__ == "__main__":
    main()
