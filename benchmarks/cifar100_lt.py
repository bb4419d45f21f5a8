"""CIFAR-100-LT: LPT beside the linear probes of the same input size, in one run.

    HF_HUB_CACHE=../shared/hub HF_HUB_OFFLINE=1 python -m benchmarks.cifar100_lt --size 96

It opens the real CIFAR-100, cuts it long-tailed (imbalance factor 100), trains LPT through `lpt.fit` with a preset,
fits linear probes (cross-entropy and logit-adjusted) on frozen features of the same input size, and writes one JSON
file.

With `--development` the same is measured on 50 images of each class held out of the balanced training images, the rest
cut long-tailed with n_max 450 (DESIGN section 6): this is where settings are chosen. The test images are not read then.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

import lpt
from lpt.config import DataConfig
from lpt.data.longtail import ShotGroups, hold_out_per_class, long_tailed_indices
from lpt.data.manifest import Splits
from lpt.data.sources import open_splits
from lpt.data.transforms import Preprocessing
from lpt.evaluation.metrics import Metrics, measure
from lpt.files import write_json
from lpt.hardware import inspect_machine, reproducible
from lpt.model.pretrained import load_backbone
from lpt.pack import Versions
from lpt.report.tables import metrics_table
from lpt.training.initial import split_features
from lpt.training.linear_probe import linear_probe

SHARED = Path(__file__).parent.parent.parent / "shared"
GROUPS = ShotGroups()


class Row(NamedTuple):
    """One method's result and cost."""

    metrics: Metrics
    seconds: float
    trainable_parameters: int
    stored_bytes: int
    more: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the result file."""
        values = self._asdict() | {"metrics": self.metrics.to_dict(), "seconds": round(self.seconds, 1)}
        return {**values.pop("more"), **values}


def open_cifar(source: str, *, imbalance: float, development: bool, seed: int) -> Splits:
    """CIFAR-100-LT with its test images, or its development cut with held-out training images as `test`."""
    if not development:
        return open_splits(DataConfig(source=source, long_tail=imbalance), seed=seed)
    train = open_splits(DataConfig(source=source), seed=seed).train
    rest, held = hold_out_per_class(train.labels, 50, seed)
    cut = train.subset(rest)
    cut = cut.subset(long_tailed_indices(cut.labels, imbalance, n_max=450, seed=seed))
    return Splits(train=cut, validation=None, test=train.subset(held), counts_before_cut=cut.class_counts)


def probes(splits: Splits, preprocessing: Preprocessing, backbone_name: str, seed: int) -> dict[str, Row]:
    """Both linear probes on frozen float32 features of the same input size and test transform."""
    assert splits.test is not None
    start = time.perf_counter()
    backbone = load_backbone(backbone_name, image_size=preprocessing.size)
    features = [
        split_features(backbone.features, backbone, images, preprocessing, batch_size=100)
        for images in (splits.train, splits.test)
    ]
    feature_seconds = time.perf_counter() - start
    rows = {}
    for name, tau in (("linear probe, cross-entropy", 0.0), ("linear probe, logit-adjusted", 1.0)):
        start = time.perf_counter()
        classes = len(splits.class_names)
        probe = linear_probe(features[0], splits.train.labels, classes, tau=tau, seed=seed)
        predicted = probe.logits(features[1]).argmax(axis=1)
        metrics = measure(splits.test.labels, predicted, splits.counts_before_cut, GROUPS)
        seconds = feature_seconds + time.perf_counter() - start
        rows[name] = Row(metrics, seconds, probe.parameters, 4 * probe.parameters, {"weight_decay": probe.weight_decay})
    return rows


def long_tailed_prompt_tuning(
    splits: Splits, folder: Path, preset: str, settings: list[str]
) -> tuple[Row, lpt.FitResult]:
    """LPT through the public API; a run that was interrupted goes on."""
    console = Console()
    start = time.perf_counter()
    if (folder / "config.yaml").exists():
        result = lpt.resume(folder, splits, console=console)
    else:
        result = lpt.fit(splits, folder, preset=preset, settings=settings, console=console)
    facts = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    method = result.pack.info.method
    row = Row(
        result.metrics["test"],
        time.perf_counter() - start,
        method.trainable_parameters,
        facts["pack_bytes"],
        {
            "train_seconds": facts["train_seconds"],
            "image_draws": facts["image_draws"],
            "peak_memory_bytes": facts["peak_memory_bytes"],
            "share_of_backbone": facts["share_of_backbone"],
            "prompt_share_of_backbone": facts["prompt_share_of_backbone"],
        },
    )
    return row, result


def main() -> None:
    """Measure, print, write."""
    args = parse_arguments()
    splits = open_cifar(args.source, imbalance=args.imbalance, development=args.development, seed=args.seed)
    kind = "development" if args.development else "test"
    name = f"cifar100_lt_if{args.imbalance:g}_{args.size}_{args.preset}_seed{args.seed}" + (
        f"_{args.tag}" if args.tag else ""
    )
    name += "_development" if args.development else ""
    settings = [f"image.size={args.size}", f"runtime.seed={args.seed}", *args.set]
    folder = args.runs / name
    row, result = long_tailed_prompt_tuning(splits, folder, args.preset, settings)
    info = result.pack.info
    with reproducible(inspect_machine().cores):
        rows = probes(splits, info.preprocessing, info.backbone.name, args.seed) | {"LPT": row}
    Console().print(metrics_table({key: one.metrics for key, one in rows.items()}, title=f"{name} ({kind} images)"))
    record = {
        "what": f"CIFAR-100-LT, IF {args.imbalance:g}, {args.size}x{args.size}, measured on {kind} images",
        "command": shlex.join(["python", "-m", "benchmarks.cifar100_lt", *sys.argv[1:]]),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "hardware": inspect_machine().describe(),
        "versions": Versions.here().model_dump() | {"python": platform.python_version()},
        "seed": args.seed,
        "rows": {key: one.to_dict() for key, one in rows.items()},
        "config": info.training,
    }
    write_json(args.output / f"{name}.json", record)
    print(f"written: {args.output / name}.json; run folder: {folder}")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=96, help="input side, pixels")
    parser.add_argument("--preset", default="laptop")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="settings on top of the preset")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--imbalance", type=float, default=100)
    parser.add_argument("--development", action="store_true", help="measure on held-out training images")
    parser.add_argument("--tag", default="", help="added to the result file's name")
    parser.add_argument("--source", default=f"hf:{SHARED / 'data' / 'cifar100'}:img:fine_label")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
