"""Measure the packs that the comparison trained on corrupted test images of CIFAR-100.

With `HF_HUB_CACHE=../shared/hub HF_HUB_OFFLINE=1` in the environment, after
`benchmarks.accuracy.cifar100_compare final`:

    python -m benchmarks.accuracy.cifar100_shift --size 96 --seeds 0

It is `lpt evaluate PACK DATA --shift corruptions --severities 1,3,5` on each pack, on the same 1,000 images (ten of
each class). Tables go to docs/results/shift_cifar100_if100_96/METHOD/seedN/. What is measured is kept: the same command
goes on from there. It needs the weights of the packs, so it runs on the machine that trained them. Delete the results
of packs that were trained anew since.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from benchmarks.accuracy.cifar100_cuts import CIFAR100
from benchmarks.accuracy.comparison_cells import RESULTS, copy_results, has_weights
from lpt.commands.compare.plan import DEFAULT_METHODS
from lpt.commands.evaluate.request import EvaluationRequest
from lpt.commands.evaluate.shift import ShiftRequest, evaluate_pack_shift, parse_shift


def measure_pack(pack: Path, data: str, shift: ShiftRequest, output: Path, target: Path, console: Console) -> None:
    """Measure a pack under domain shift, and copy tables and plot to the committed results."""
    request = EvaluationRequest(pack=pack, data=data, output=output)
    evaluate_pack_shift(request, shift, console=console, progress=console)
    copy_results(output, target, ("shift.json", "shift.csv", "shift.png"))


def main() -> None:
    """Measure every pack whose weights are here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=96, help="input side, pixels")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--imbalance", type=float, default=100)
    parser.add_argument("--methods", nargs="*", default=DEFAULT_METHODS)
    parser.add_argument("--severities", default="1,3,5")
    parser.add_argument("--source", default=CIFAR100)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    args = parser.parse_args()
    console, cut = Console(), f"cifar100_if{args.imbalance:g}_{args.size}"
    for method in args.methods:
        for seed in args.seeds:
            cell = Path(method) / f"seed{seed}"
            output = args.runs / f"shift_{cut}" / cell
            run = args.runs / f"compare_{cut}" / "runs" / cell
            console.rule(str(cell))
            if not has_weights(run):
                console.print(f"no weights in {run}")
                continue
            shift = parse_shift(["corruptions"], severities=[args.severities])
            measure_pack(run / "pack", args.source, shift, output, RESULTS / f"shift_{cut}" / cell, console)


if __name__ == "__main__":
    main()
