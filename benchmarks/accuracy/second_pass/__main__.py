"""Try second passes from a kept phase 1, on held-out training images of four data sets.

With `HF_HUB_CACHE=../shared/hub HF_HUB_OFFLINE=1` in the environment:

    python -m benchmarks.accuracy.second_pass train --data if100 --seeds 0 1 2 --runs runs/second_pass
    python -m benchmarks.accuracy.second_pass alone --data if100 --seeds 0 1 2 --runs runs/second_pass
    python -m benchmarks.accuracy.second_pass try --data if100 --seeds 0 1 2 --runs runs/second_pass [--trials ...]
    python -m benchmarks.accuracy.second_pass table --runs runs/second_pass

`train` trains phase 1 as the preset does, `alone` phase 1 for as many draws as both phases have. `try` trains second
passes on kept views of the images. What is finished is not done again. `table` measures everything that is there:
each pass alone, and the half-sum of both cosines, and writes docs/results/second_pass.csv.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.second_pass.data import SETS
from benchmarks.accuracy.second_pass.study import Study
from benchmarks.accuracy.second_pass.trials import TRIALS
from benchmarks.record import describe_machine, today
from lpt.commands.report.kept import read_run
from lpt.data.longtail import ShotGroups
from lpt.data.manifest import Float32Array, IntArray
from lpt.evaluation.metrics import measure
from lpt.training.folder import RunFolder

GROUPS = ShotGroups()
MEASURES = ("overall", "mean_per_class", "many", "medium", "few")
RESULT = Path(__file__).parent.parent.parent.parent / "docs" / "results" / "second_pass.csv"


def kept_file(study: Study, trial: str) -> Path:
    """Return the file of a trial's cosines."""
    return study.folder / f"{trial.replace(', ', '-').replace(' ', '_')}.npz"


def try_one(study: Study, name: str) -> None:
    """Run a trial unless its cosines are there."""
    file = kept_file(study, name)
    if file.exists():
        print(f"{file}: finished", flush=True)
        return
    result = study.run(TRIALS[name])
    unfinished = file.with_suffix(".unfinished.npz")
    np.savez(unfinished, **result)
    unfinished.replace(file)
    for row in rows_of(study, name, file):
        print({key: value for key, value in row.items() if key in ("trial", "scores", *MEASURES)}, flush=True)


def rows_of(study: Study, name: str, file: Path) -> list[dict[str, Any]]:
    """Return the metrics of each pass and of their half-sum."""
    with np.load(file) as stored:
        kept = {key: stored[key] for key in stored.files}
    labels, seconds = kept.pop("labels"), float(kept.pop("seconds"))
    scores = dict(kept)
    scores["half and half"] = (kept["first"] + kept["second"]) / 2
    scores["weighted"] = weighted(kept["first"], kept["second"], labels)
    if "first, flipped" in kept:
        for part in ("first", "second"):
            scores[f"{part}, two views"] = (kept[part] + kept[f"{part}, flipped"]) / 2
    first = kept["first"].argmax(axis=1)
    rows = []
    for part, cosines in scores.items():
        predicted = cosines.argmax(axis=1)
        differs = round(100 * float((predicted != first).mean()), 1)
        rows.append(_row(study, name, part, labels, predicted) | {"differs": differs, "seconds": round(seconds)})
    return rows


def weighted(first: Float32Array, second: Float32Array, labels: IntArray) -> Float32Array:
    """Return (1 - a) z1 + a z2, [n, C], where a of each half of the images is the best on the other half.

    The best is that of the largest mean per-class accuracy, in steps of 0.1.
    """
    even = np.arange(len(labels)) % 2 == 0
    mixed = np.empty_like(first)
    for part in (even, ~even):
        shares = np.linspace(0, 1, 11, dtype=first.dtype)
        right = [mean_per_class((1 - a) * first[~part] + a * second[~part], labels[~part]) for a in shares]
        best = shares[int(np.argmax(right))]
        mixed[part] = (1 - best) * first[part] + best * second[part]
    return mixed


def mean_per_class(cosines: Float32Array, labels: IntArray) -> float:
    """Return the mean of the accuracies of the classes that have images."""
    right = cosines.argmax(axis=1) == labels
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


def _row(study: Study, trial: str, scores: str, labels: IntArray, predicted: IntArray) -> dict[str, Any]:
    metrics = measure(labels, predicted, study.counts, GROUPS).to_dict()
    values = {name: None if metrics[name] is None else round(100 * metrics[name], 2) for name in MEASURES}
    return {"data": study.name, "size": study.size, "seed": study.seed, "trial": trial, "scores": scores, **values}


def alone_row(study: Study) -> dict[str, Any] | None:
    """Return the metrics of phase 1 with the draws of both phases, if that is trained."""
    folder = study.folder / "lpt-phase1"
    if not RunFolder(folder).finished:
        return None
    predictions = read_run(folder).predictions
    assert predictions is not None
    labels, predicted = np.asarray(predictions.labels), np.asarray(predictions.predicted)
    return _row(study, "phase 1 alone, all draws", "first", labels, predicted)


def write_table(studies: list[Study], file: Path) -> None:
    """Write the metrics of all that is there."""
    rows = []
    for study in studies:
        alone = alone_row(study)
        rows += [] if alone is None else [alone]
        for name in TRIALS:
            if kept_file(study, name).exists():
                rows += rows_of(study, name, kept_file(study, name))
    machine = describe_machine("cpu")
    facts = {"date": today(), "torch": machine["versions"]["torch"], "timm": machine["versions"]["timm"]}
    facts["hardware"] = machine["hardware"].rpartition(",")[0]
    with file.open("w", encoding="utf-8", newline="") as out:
        fields = ("data", "size", "seed", "trial", "scores", *MEASURES, "differs", "seconds", *facts)
        writer = csv.DictWriter(out, fields)
        writer.writeheader()
        writer.writerows(row | facts for row in rows)
    print(f"{file}: {len(rows)} rows")


def main() -> None:
    """Run a stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["train", "alone", "try", "table"])
    parser.add_argument("--data", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=96, help="input side, pixels")
    parser.add_argument("--trials", nargs="+", choices=list(TRIALS), default=list(TRIALS))
    parser.add_argument("--runs", type=Path, default=Path("runs/second_pass"))
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="settings of all runs; for a try")
    parser.add_argument("--output", type=Path, default=RESULT)
    args = parser.parse_args()
    if args.stage == "table":
        studies = [
            Study(name, seed, args.size, args.runs, tuple(args.set)) for name in args.data for seed in args.seeds
        ]
        write_table(studies, args.output)
        return
    for seed in args.seeds:
        for name in args.data:
            study = Study(name, seed, args.size, args.runs, tuple(args.set))
            if args.stage == "try":
                for trial in args.trials:
                    try_one(study, trial)
            else:
                study.train("lpt" if args.stage == "train" else "lpt-phase1")


if __name__ == "__main__":
    main()
