"""Measure two sets that nobody cut under the shift that each brings with it.

With `HF_HUB_CACHE=../shared/hub HF_HUB_OFFLINE=1` in the environment:

    python -m benchmarks.accuracy.uncut_shift --data clothing --seeds 0 1 2
    python -m benchmarks.accuracy.uncut_shift --data grocery --seeds 0 1 2

Clothing: other people. The packs train on four fifths of the training people's pictures, drawn at random in each class.
They meet the fifth that was held out, so pictures of people who were trained on, and then the published test pictures,
of people nobody of whom is in training. Grocery: catalogue pictures. The packs of `benchmarks.accuracy.uncut_sets
compare` meet the test photographs from shops, and then the 81 catalogue pictures of the same products.

Tables go to docs/results/shift_DATA_SIZE/METHOD/seedN/. What is finished is kept: the same command goes on from there.
It needs the weights of the packs, so it runs on the machine that trained them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from benchmarks.accuracy.cifar100_shift import measure_pack
from benchmarks.accuracy.comparison_cells import RESULTS, has_weights, run_comparison
from benchmarks.accuracy.tune import SOURCES
from benchmarks.accuracy.uncut_sets import opened
from lpt.commands.compare.plan import with_test_images
from lpt.commands.evaluate.shift import parse_shift
from lpt.data.manifest import Splits

METHODS = ("linear-probe-la", "fine-tuning-la", "vpt-deep", "lift", "lora", "lpt-phase1", "lpt")
HELD_OUT = 0.2


def same_people(seed: int) -> Splits:
    """Open clothing's training pictures; a fifth of each class is held out at random, whoever sent it."""
    splits = opened("clothing", seed)
    train = Splits(train=splits.train, validation=None, test=None, counts_before_cut=splits.train.class_counts)
    return with_test_images(train, HELD_OUT)


def packs_of(name: str, args: argparse.Namespace) -> tuple[Path, str]:
    """Return the folder of the packs, trained if need be, and the set that they meet after their own test images."""
    if name == "grocery":
        return args.runs / f"compare_grocery_{args.size}", str(SOURCES[name].with_name("iconic.csv"))
    title = f"compare_clothing_mixed_{args.size}"
    run_comparison(
        same_people, args.runs / title, RESULTS / title, methods=args.methods, seeds=args.seeds, preset="laptop",
        settings=[f"image.size={args.size}", f"train.epoch_steps={args.steps}"], console=Console(),
    )  # fmt: skip
    return args.runs / title, str(SOURCES[name])


def main() -> None:
    """Train what is missing, and measure every pack whose weights are here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=sorted(SOURCES), default=sorted(SOURCES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--size", type=int, default=64, help="input side, pixels")
    parser.add_argument("--steps", type=int, default=40, help="of an epoch")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    args = parser.parse_args()
    console = Console()
    for name in args.data:
        packs, other = packs_of(name, args)
        for cell in (Path(method) / f"seed{seed}" for method in args.methods for seed in args.seeds):
            run, title = packs / "runs" / cell, f"shift_{name}_{args.size}"
            console.rule(f"{name} {cell}")
            if not has_weights(run):
                console.print(f"no weights in {run}")
                continue
            shift, output = parse_shift([other]), args.runs / title / cell
            measure_pack(run / "pack", str(run / "predictions.csv"), shift, output, RESULTS / title / cell, console)


if __name__ == "__main__":
    main()
