"""Simulate `lpt label-next`: label pictures by its choice, by chance or by the smallest margin, and train again.

With `HF_HUB_CACHE=../shared/hub HF_HUB_OFFLINE=1` in the environment:

    python -m benchmarks.accuracy.label_next develop --seeds 0 --runs runs/label_next
    python -m benchmarks.accuracy.label_next final --seeds 0 1 2 --runs runs/label_next

A small part of uneven training images is labelled, and the rest is a pool whose labels are hidden
(`label_next_data`). A first pack is trained on the labelled part. Each strategy then chooses as many pictures of the
pool, their true labels are added, and a pack is trained from scratch with the same settings. Shot groups go by the
counts of the labelled part, so that all packs are measured on the same classes. `develop` measures on held-out
training images, `final` on the test images and writes docs/results/label_next.json. A finished run is not trained
again; an interrupted one goes on.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import lpt
from benchmarks.accuracy.label_next_data import DATA_SETS, Pictures
from benchmarks.record import describe_machine, describe_run
from lpt.commands.label_next.look import Looks, look_at
from lpt.data.longtail import ShotGroups
from lpt.data.manifest import IntArray, LabelledImages, Splits
from lpt.evaluation.acquisition import choose_next
from lpt.system.files import write_json
from lpt.training.folder import RunFolder

STRATEGIES = ("random", "margin", "label-next")
START = "start"
EPOCH_STEPS = 25
"""300 steps a run, so that 24 runs fit into two hours of a core."""
GROUPS = ShotGroups()
RESULT = Path(__file__).parent.parent.parent / "docs" / "results" / "label_next.json"
_RANDOM = 2401


def choose(strategy: str, looks: Looks, pictures: Pictures, seed: int) -> IntArray:
    """Return the positions in the pool that a strategy chooses, the best first."""
    size = len(pictures.pool)
    if strategy == "random":
        return np.random.default_rng((seed, _RANDOM)).permutation(size)[: pictures.chosen].astype(np.int64)
    if strategy == "margin":
        margins = looks.guesses.shares[:, 0] - looks.guesses.shares[:, 1]
        return np.argsort(margins, kind="stable")[: pictures.chosen].astype(np.int64)
    chosen = choose_next(looks.guesses, looks.features, pictures.start_counts, pictures.chosen)
    return np.array([each.row for each in chosen], dtype=np.int64)


def look_at_pool(pack: Path, pool: LabelledImages) -> Looks:
    """Return what the first pack sees in the pool: just what `lpt label-next` would."""
    named = ((Path(str(index)), pool.read(index)) for index in range(len(pool)))
    return look_at(lpt.load_predictor(pack, device="cpu"), named, batch_size=64, bad=None, show_done=lambda done: None)


def fit_once(pictures: Pictures, rows: IntArray, folder: Path, *, size: int, seed: int) -> None:
    """Train on these training images, unless the folder holds the finished run; go on with an interrupted one."""
    train = pictures.train.subset(np.sort(rows))
    splits = Splits(train=train, validation=None, test=pictures.test, counts_before_cut=train.class_counts)
    if RunFolder(folder).finished:
        print(f"{folder}: finished", flush=True)
    elif (folder / "config.yaml").exists():
        lpt.resume(folder, splits)
    else:
        settings = [f"image.size={size}", f"runtime.seed={seed}", f"train.epoch_steps={EPOCH_STEPS}"]
        lpt.fit(splits, folder, preset="laptop", method="lpt", settings=settings)


def run_seed(name: str, pictures: Pictures, folder: Path, *, size: int, seed: int) -> None:
    """Train the first pack and one for each strategy; what was chosen is kept in the folder."""
    fit_once(pictures, pictures.labelled, folder / START, size=size, seed=seed)
    choices = folder / "chosen.json"
    if not choices.exists():
        looks = look_at_pool(folder / START, pictures.train.subset(pictures.pool))
        chosen = {each: pictures.pool[choose(each, looks, pictures, seed)].tolist() for each in STRATEGIES}
        write_json(choices, {"data": name, "seed": seed, "chosen": chosen})
    for strategy, rows in json.loads(choices.read_text(encoding="utf-8"))["chosen"].items():
        more = np.concatenate([pictures.labelled, np.array(rows, dtype=np.int64)])
        fit_once(pictures, more, folder / strategy, size=size, seed=seed)


def measure(folder: Path, start_counts: IntArray, chosen_labels: IntArray) -> dict[str, Any]:
    """Return the accuracies of a run, in percent, and how many pictures of few-shot classes were chosen."""
    with (folder / "per_class.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    accuracy, tested = _column(rows, "accuracy"), _column(rows, "test_images")
    group = GROUPS.of(start_counts)
    measured = tested > 0

    def mean(classes: npt.NDArray[np.bool_]) -> float | None:
        return round(100 * float(accuracy[classes & measured].mean()), 3) if (classes & measured).any() else None

    return {
        "few": mean(group == GROUPS.names.index("few")),
        "medium": mean(group == GROUPS.names.index("medium")),
        "mean_per_class": mean(measured),
        "overall": round(100 * float((accuracy[measured] * tested[measured]).sum() / tested.sum()), 3),
        "chosen": len(chosen_labels),
        "chosen_few": int((group[chosen_labels] == GROUPS.names.index("few")).sum()),
        "chosen_classes": len(np.unique(chosen_labels)),
    }


def _column(rows: list[dict[str, str]], name: str) -> npt.NDArray[np.float64]:
    return np.array([float(row[name] or "nan") for row in rows])


def measure_seed(name: str, pictures: Pictures, folder: Path, seed: int) -> list[dict[str, Any]]:
    """Return the rows of a seed of a data set."""
    chosen = json.loads((folder / "chosen.json").read_text(encoding="utf-8"))["chosen"]
    labels = {strategy: pictures.train.labels[rows] for strategy, rows in chosen.items()}
    labels = {START: np.zeros(0, dtype=np.int64)} | labels
    return [
        {"data": name, "seed": seed, "strategy": strategy}
        | measure(folder / strategy, pictures.start_counts, labels[strategy])
        for strategy in labels
    ]


def describe(pictures: Pictures) -> dict[str, Any]:
    """Return the sizes of a simulation."""
    few = GROUPS.of(pictures.start_counts) == GROUPS.names.index("few")
    return {
        "labelled": len(pictures.labelled),
        "pool": len(pictures.pool),
        "pool_few": int(few[pictures.train.labels[pictures.pool]].sum()),
        "chosen": pictures.chosen,
        "test": len(pictures.test),
        "classes": len(few),
        "few_classes": int(few.sum()),
    }


def main() -> None:
    """Run a stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["develop", "final"])
    parser.add_argument("--data", choices=list(DATA_SETS), nargs="+", default=list(DATA_SETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=64, help="input side, pixels")
    parser.add_argument("--labelled", type=int, help="pictures labelled from the start (default: by data set)")
    parser.add_argument("--chosen", type=int, help="pictures to label next (default: by data set)")
    parser.add_argument("--runs", type=Path, default=Path("runs/label_next"))
    parser.add_argument("--output", type=Path, default=RESULT, help="result file of the stage final")
    args = parser.parse_args()
    sizes = {name: getattr(args, name) for name in ("labelled", "chosen") if getattr(args, name) is not None}
    rows, described = list[dict[str, Any]](), dict[str, Any]()
    for name in args.data:
        for seed in args.seeds:
            pictures = DATA_SETS[name](seed, development=args.stage == "develop", **sizes)
            folder = args.runs / args.stage / f"{name}_seed{seed}"
            run_seed(name, pictures, folder, size=args.size, seed=seed)
            rows += measure_seed(name, pictures, folder, seed)
            described[name] = describe(pictures)
            print(json.dumps(rows[-len(STRATEGIES) - 1 :], indent=1), flush=True)
    if args.stage == "final":
        what = "accuracy after the next pictures were labelled as each strategy chose them, and a pack trained again"
        facts = {"data": described, "groups": GROUPS.describe(), "size": args.size, "epoch_steps": EPOCH_STEPS}
        seeds = ["--seeds", *map(str, args.seeds)]
        run = describe_run(what, "benchmarks.accuracy.label_next", ["final", *seeds])
        write_json(args.output, {**run, **describe_machine("cpu"), **facts, "rows": rows})


if __name__ == "__main__":
    main()
