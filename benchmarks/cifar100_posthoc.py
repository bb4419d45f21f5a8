"""What a shift of the logits by class frequency after training would give, on the development cut of CIFAR-100-LT.

With `HF_HUB_CACHE=../shared/hub HF_HUB_OFFLINE=1` in the environment, on runs that
`benchmarks.accuracy.cifar100_compare long-trials` made:

    python -m benchmarks.cifar100_posthoc runs/trials_96_129024_if100_seed0_fp32_RECIPE/lpt/SETTINGS ...

z_c + strength * log(n_c / N) (Menon et al., ICLR 2021, eq. 9, with its sign turned: above 0 favours frequent classes).
The training images, unaugmented, are measured likewise. One file of results for each run:
docs/results/posthoc_cifar100_if100_SIZE/METHOD/SETTINGS.json.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.cifar100_cuts import CIFAR100, GROUPS, open_cifar
from benchmarks.documents.performance_tables import MEASURES, RESULTS
from lpt.config.schema import validate
from lpt.config.values import read_yaml
from lpt.data.manifest import LabelledImages
from lpt.evaluation.metrics import measure
from lpt.packs.predictor import load_predictor
from lpt.system.files import write_json
from lpt.system.hardware import inspect_machine

STRENGTHS = (-1.0, -0.5, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.5, 1.0)


def posthoc(run: Path, source: str) -> dict[str, Any]:
    """Accuracies of a run's pack at every strength, and on its training images."""
    config = validate(read_yaml(run / "config.yaml"), origin=str(run))
    train, seed = config.train, config.runtime.seed
    splits = open_cifar(source, imbalance=100, development=True, seed=seed)
    predictor = load_predictor(run / "pack")
    scale, counts = predictor.pack().info.probabilities.scale, splits.counts_before_cut
    prior = np.log(counts / counts.sum())

    if predictor.pack().info.class_counts != counts.tolist():
        raise SystemExit(f"{run} was not trained on the development cut of imbalance 100: its class counts are others")

    def accuracies(images: LabelledImages) -> list[dict[str, float]]:
        predictions = predictor.split(images, batch_size=50)
        logits = scale * predictions.scores.astype(np.float64)
        rows = []
        for strength in STRENGTHS:
            one = measure(predictions.labels, (logits + strength * prior).argmax(axis=1), counts, GROUPS).to_dict()
            rows.append({"strength": strength, **{name: one[name] for name in ("mean_per_class", *MEASURES[1:])}})
        return rows

    assert splits.test is not None
    return {
        "method": config.method,
        "settings": run.name,
        "draws": config.step_draws * int(train.epoch_steps) * (train.phase1.epochs + train.phase2.epochs),
        "size": config.image.size,
        "seed": seed,
        "held_out": accuracies(splits.test),
        "training": accuracies(splits.train),
        "machine": inspect_machine().describe(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }


def main() -> None:
    """Measure the runs that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folder of a trial")
    parser.add_argument("--source", default=CIFAR100)
    args = parser.parse_args()
    for run in args.runs:
        result = posthoc(run, args.source)
        path = RESULTS / f"posthoc_cifar100_if100_{result['size']}" / result["method"] / f"{run.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, result)
        print(path)


if __name__ == "__main__":
    main()
