"""Train the packs that `lpt extend` and `--reject` are measured with: CIFAR-100-LT without its classes 4, 9, ... 99.

With `HF_HUB_CACHE=../shared/hub HF_HUB_OFFLINE=1` in the environment:

    python -m benchmarks.accuracy.new_classes train --seeds 0 1 2
    python -m benchmarks.accuracy.new_classes retrain --seeds 0 1 2 --shots 1 5 20
    python -m benchmarks.accuracy.new_classes extend --seeds 0 1 2 --shots 1 5 20 --output docs/results/new_classes.json

`train` trains on the 80 other classes, `retrain` on all 100, of which the 20 new ones have 1, 5 or 20 pictures each:
what `lpt extend` would reach had it trained. Both take the cut whose held-out training images choices may be made on
(`open_cifar(development=True)`: n_max 450, imbalance 100, 50 images of each class held out as validation), and measure
on the test images. A finished run is not trained again; an interrupted one goes on. `extend` measures packs of the
first kind that `lpt extend` gave the new classes, against the others that are there, and names the runs that are not.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.cifar100_cuts import CIFAR100, open_cifar
from benchmarks.accuracy.runs import fit_once
from benchmarks.record import describe_machine, describe_run
from lpt.config.schema import DataConfig
from lpt.data.manifest import LabelledImages, Splits
from lpt.data.sources import open_splits
from lpt.system.files import write_text

NEW = tuple(range(4, 100, 5))
"""The 20 classes that the first training does not see, by label."""
EPOCH_STEPS = 62
"""Half of those of the preset: 12 runs are to fit into two hours of a core."""
OLD = tuple(label for label in range(100) if label not in NEW)


def open_cuts(seed: int, source: str = CIFAR100) -> Splits:
    """Open the cut with all 100 classes: held-out training images as validation, and the test images."""
    cut = open_cifar(source, imbalance=100, development=True, seed=seed)
    test = open_splits(DataConfig(source=source, long_tail=100), seed=seed).test
    return Splits(train=cut.train, validation=cut.test, test=test, counts_before_cut=cut.train.class_counts)


def only(images: LabelledImages, labels: tuple[int, ...]) -> LabelledImages:
    """Return the images of some classes, which become classes 0, 1, ... in the order given."""
    places = np.full(len(images.class_names), -1)
    places[list(labels)] = np.arange(len(labels))
    kept = images.subset(np.flatnonzero(places[images.labels] >= 0))
    names = tuple(images.class_names[label] for label in labels)
    return replace(kept, labels=places[kept.labels], class_names=names)


def new_pictures(seed: int, shots: int, source: str = CIFAR100) -> LabelledImages:
    """Return `shots` training pictures of each new class, as classes 0..19; a smaller draw is part of a larger one.

    They come from all training images of a class but the held-out ones: rare classes of the cut have fewer than 20.
    """
    rest = open_cifar(source, imbalance=1, development=True, seed=seed).train
    new = only(rest, NEW)
    first = [np.flatnonzero(new.labels == label)[:shots] for label in range(len(NEW))]
    return new.subset(np.concatenate(first))


def old_splits(seed: int, source: str = CIFAR100) -> Splits:
    """Return the 80 classes that the first training sees."""
    cut = open_cuts(seed, source)
    assert cut.validation is not None
    assert cut.test is not None
    train = only(cut.train, OLD)
    return Splits(
        train=train,
        validation=only(cut.validation, OLD),
        test=only(cut.test, OLD),
        counts_before_cut=train.class_counts,
    )


def all_splits(seed: int, shots: int, source: str = CIFAR100) -> Splits:
    """Return all 100 classes, the old ones first; a new one has `shots` training pictures."""
    cut = open_cuts(seed, source)
    assert cut.validation is not None
    assert cut.test is not None
    old, new = only(cut.train, OLD + NEW), new_pictures(seed, shots, source)
    kept = np.flatnonzero(old.labels < len(OLD))
    train = replace(
        old,
        rows=np.concatenate([old.rows[kept], new.rows]),
        labels=np.concatenate([old.labels[kept], new.labels + len(OLD)]),
    )
    return Splits(
        train=train,
        validation=only(cut.validation, OLD + NEW),
        test=only(cut.test, OLD + NEW),
        counts_before_cut=train.class_counts,
    )


def short_run(size: int, seed: int, epoch_steps: int = EPOCH_STEPS) -> list[str]:
    """Return the settings of a run with fewer draws than the preset `laptop` has."""
    return [f"image.size={size}", f"runtime.seed={seed}", f"train.epoch_steps={epoch_steps}"]


def measure_extended(args: argparse.Namespace) -> None:
    """Measure extended packs of all seeds, and write the record."""
    from benchmarks.accuracy.extended_packs import KNOWN_PER_CLASS, measure_seed

    rows: list[dict[str, Any]] = []
    missing: list[str] = []
    for seed in args.seeds:
        more, absent = measure_seed(seed, args.shots, source=args.source, runs=args.runs, work=args.work)
        rows += more
        missing += absent
        for row in more:
            print({name: value for name, value in row.items() if name != "on_known"})
    print(f"missing: {', '.join(missing) or 'nothing'}")
    command = ["extend", "--seeds", *map(str, args.seeds), "--shots", *map(str, args.shots)]
    record = describe_run("accuracy of classes added without training", "benchmarks.accuracy.new_classes", command)
    record |= describe_machine("cpu")
    record |= {"known_per_class": KNOWN_PER_CLASS, "epoch_steps": EPOCH_STEPS, "size": args.size}
    record |= {"new_classes": len(NEW), "old_classes": len(OLD), "missing": missing, "rows": rows}
    write_text(args.output, json.dumps(record, indent=1) + "\n")


def main() -> None:
    """Run a stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["train", "retrain", "extend"])
    parser.add_argument("--size", type=int, default=64, help="input side, pixels")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5, 20])
    parser.add_argument("--source", default=CIFAR100)
    parser.add_argument("--runs", type=Path, default=Path("runs/new_classes"))
    parser.add_argument("--work", type=Path, default=Path("runs/new_classes/encoded"), help="keeps encoded images")
    parser.add_argument("--output", type=Path, default=Path("docs/results/new_classes.json"), help="record of `extend`")
    args = parser.parse_args()
    if args.stage == "extend":
        measure_extended(args)
        return
    for seed in args.seeds:
        if args.stage == "train":
            fit_once(old_splits(seed, args.source), args.runs / f"old_seed{seed}", short_run(args.size, seed))
            continue
        for shots in args.shots:
            splits = all_splits(seed, shots, args.source)
            fit_once(splits, args.runs / f"all_{shots}_seed{seed}", short_run(args.size, seed))


if __name__ == "__main__":
    main()
