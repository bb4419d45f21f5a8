"""Does `lpt tune` pay? Tune once, then test the tuned settings against the preset over several seeds.

With `HF_HUB_CACHE=../shared/hub HF_HUB_OFFLINE=1` in the environment:

    python -m benchmarks.accuracy.tune --data clothing --minutes 60 --seeds 0 1 2
    python -m benchmarks.accuracy.tune --data grocery --minutes 60 --seeds 0 1 2

The search has the minutes, with its final runs (seed 0, the preset `laptop`); it sees held-out training images only.
Then both settings are trained on all training images for each seed, and tested once. Clothing: its table says which
senders are tested. Grocery: the authors' split, whose validation images the search uses. The same command goes on
after a stop. Everything is written to docs/results/tune_DATA.json, whatever comes out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import lpt
from benchmarks.accuracy.runs import fit_once
from benchmarks.record import describe_machine, describe_run
from lpt.commands.report.kept import KeptRun, read_run
from lpt.data.longtail import ShotGroups
from lpt.evaluation.paired import SeedPair, paired_differences
from lpt.evaluation.tuning import PRESET, TuneResult
from lpt.system.files import write_json

ROOT = Path(__file__).parent.parent.parent
SHARED = ROOT.parent / "shared" / "data"
SOURCES = {"clothing": SHARED / "clothing" / "labels.csv", "grocery": SHARED / "grocery" / "labels.csv"}
WHAT = {
    "clothing": "garments by 344 people, tested on people of whom nothing was trained on",
    "grocery": "smartphone photographs in shops, the authors' split",
}


def tuned(source: Path, runs: Path, minutes: float, settings: Sequence[str], trials: int | None) -> TuneResult:
    """Search, or go on with it, or read what it found."""
    return lpt.tune(
        source, runs / "tuned", budget=minutes, trials=trials, preset="laptop", method="lpt", settings=settings
    )


def fitted(source: Path, folder: Path, seed: int, settings: Sequence[str]) -> KeptRun:
    """Train and test on all training images, unless that is done."""
    fit_once(source, folder, [*settings, f"runtime.seed={seed}"])
    return read_run(folder)


def run_pairs(
    source: Path, runs: Path, result: TuneResult, seeds: Sequence[int], settings: Sequence[str]
) -> list[tuple[KeptRun, KeptRun]]:
    """Return the runs of the tuned settings and of the preset for each seed; the search has those of seed 0."""
    chosen = [f"{path}={value}" for path, value in result.settings.items()]
    pairs = []
    for seed in seeds:
        preset = fitted(source, result.folder / "preset" if not seed else runs / f"preset_{seed}", seed, settings)
        pairs.append((
            fitted(source, result.run if not seed else runs / f"tuned_{seed}", seed, [*settings, *chosen]),
            preset,
        ))  # fmt: skip
    return pairs


def compared(pairs: Sequence[tuple[KeptRun, KeptRun]], seeds: Sequence[int]) -> dict[str, Any]:
    """Return the metrics of both settings for each seed, and the differences over all seeds."""
    seed_pairs = []
    for seed, (first, second) in zip(seeds, pairs, strict=True):
        assert first.predictions is not None
        assert second.predictions is not None
        if list(first.predictions.images) != list(second.predictions.images):
            raise lpt.RunError(f"seed {seed}: the two runs were tested on other images")
        labels = np.asarray(first.predictions.labels)
        predicted = (first.predictions.predicted, second.predictions.predicted)
        seed_pairs.append(SeedPair(seed, first.predictions.images, labels, *predicted, first.counts))
    metrics = [[run.metrics.to_dict() for run in pair if run.metrics is not None] for pair in pairs]
    return {
        "tuned": [first for first, _ in metrics],
        "preset": [second for _, second in metrics],
        "difference": paired_differences(seed_pairs, ShotGroups()).to_dict(),
        "boundaries": ShotGroups().describe(),
    }


def record(data: str, result: TuneResult, seeds: Sequence[int], tests: dict[str, Any] | None) -> dict[str, Any]:
    """Return the result file."""
    summary = result.to_dict()
    del summary["facts"]["command"]
    return {
        **describe_run(f"{data}: {WHAT[data]}", "benchmarks.accuracy.tune"),
        "machine": describe_machine(),
        "data": data,
        "seeds": list(seeds),
        "search": summary,
        "tests": tests,
    }


def main() -> None:
    """Tune, test and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=sorted(SOURCES), required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--trials", type=int, help="most trials; for a try")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="settings of all runs; for a try")
    parser.add_argument("--runs", type=Path, help="default: runs/tune_DATA")
    parser.add_argument("--output", type=Path, help="default: docs/results/tune_DATA.json")
    args = parser.parse_args()
    source, runs = SOURCES[args.data], args.runs or Path("runs") / f"tune_{args.data}"
    result = tuned(source, runs, args.minutes, args.set, args.trials)
    tests = None
    if result.chosen != PRESET:
        tests = compared(run_pairs(source, runs, result, args.seeds, args.set), args.seeds)
    file = args.output or ROOT / "docs" / "results" / f"tune_{args.data}.json"
    write_json(file, record(args.data, result, args.seeds, tests))
    print(file)


if __name__ == "__main__":
    main()
