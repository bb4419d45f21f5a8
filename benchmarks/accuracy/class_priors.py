"""What `lpt evaluate --prior` moves where test images are as uneven as the training images.

With `HF_HUB_CACHE=../shared/hub HF_HUB_OFFLINE=1` in the environment, after `benchmarks.accuracy.uncut_sets compare`:

    python -m benchmarks.accuracy.class_priors --data clothing grocery --seeds 0 1 2

Each pack predicts its test images once; metrics are taken with all classes alike, with the frequencies of the training
images, and half way between (their square roots). Nothing is trained, and nothing is chosen. Rows go to
docs/results/class_priors.csv. It needs the weights of the packs, so it runs on the machine that trained them.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.comparison_cells import RESULTS, has_weights
from benchmarks.accuracy.tune import SOURCES
from benchmarks.record import describe_machine, today
from lpt.commands.evaluate.request import EvaluationRequest, open_subject
from lpt.evaluation.measured import measure_predictions
from lpt.packs.prior import named_prior, scores_under
from lpt.system.processes import ALONE

METHODS = ("linear-probe", "linear-probe-la", "fine-tuning-la", "vpt-deep", "lift", "lora", "lpt-phase1", "lpt")
MEASURES = ("overall", "mean_per_class", "many", "medium", "few")
POWERS = {"even": 0.0, "square root": 0.5, "training": 1.0}
"""The power that the share of each class among the training images is raised to."""
FILE = RESULTS / "class_priors.csv"


def rows_of(pack: Path, data: Path) -> Iterator[dict[str, Any]]:
    """Yield the metrics of a pack on the test images under each prior, percent."""
    subject = open_subject(EvaluationRequest(pack=pack, data=str(data)))
    info, training = subject.pack.info, named_prior(subject.pack, "training")
    predictions, setting = subject.predict(subject.images, ALONE, lambda done: None), info.probabilities
    for name, power in POWERS.items():
        prior = {label: share**power for label, share in training.items()}
        metrics = measure_predictions(
            replace(predictions, scores=scores_under(subject.pack, predictions.scores, prior)),
            np.asarray(info.class_counts),
            info.shot_groups,
            scale=setting.scale,
            temperature=setting.temperature,
        ).metrics.to_dict()
        values = {key: None if metrics[key] is None else round(100 * metrics[key], 2) for key in MEASURES}
        yield {"assumes": setting.classes, "prior": name, "images": metrics["images"], **values}


def main() -> None:
    """Measure every pack whose weights are here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=sorted(SOURCES), default=sorted(SOURCES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--size", type=int, default=64, help="input side, pixels")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--output", type=Path, default=FILE)
    args = parser.parse_args()
    machine, rows = describe_machine("cpu"), []
    facts = {"date": today(), "torch": machine["versions"]["torch"], "timm": machine["versions"]["timm"]}
    facts["hardware"] = machine["hardware"].rpartition(",")[0]
    for name in args.data:
        for method in args.methods:
            for seed in args.seeds:
                run = args.runs / f"compare_{name}_{args.size}" / "runs" / method / f"seed{seed}"
                if not has_weights(run):
                    print(f"no weights in {run}")
                    continue
                what = {"data": name, "size": args.size, "method": method, "seed": seed}
                rows += [{**what, **row, **facts} for row in rows_of(run / "pack", SOURCES[name])]
                print(rows[-len(POWERS) :], flush=True)
    if not rows:
        raise SystemExit(f"{args.runs} has no pack with its weights. Run uncut_sets compare first.")
    with args.output.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"{args.output}: {len(rows)} rows")


if __name__ == "__main__":
    main()
