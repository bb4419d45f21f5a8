"""Measure `--reject`: how well a pack tells pictures of its classes from pictures of none of them.

With `HF_HUB_CACHE=../shared/hub HF_HUB_OFFLINE=1` in the environment:

    python -m benchmarks.accuracy.new_classes train --seeds 0 1 2
    python -m benchmarks.accuracy.strangers train --seeds 0 1 2
    python -m benchmarks.accuracy.strangers choose --seeds 0 1 2
    python -m benchmarks.accuracy.strangers final --seeds 0 1 2

`train` trains on clothing, with a validation split. `choose` compares scores, and rules for the threshold, on held-out
training images of CIFAR-100-LT: known are the 80 classes of `benchmarks.accuracy.new_classes`, strangers the 20 others.
The images that a threshold is fitted on are drawn as a validation split of 10 % would have them, and it is measured on
the rest. `final` measures what was chosen on the test images of both data sets. A finished run is not trained again,
and the scores of a pack are computed once; what is missing is named and left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.new_classes import NEW, OLD, only, open_cuts, short_run
from benchmarks.accuracy.runs import fit_once
from benchmarks.accuracy.stranger_scores import CANDIDATES, Score, Scored, score_images
from benchmarks.record import describe_machine, describe_run
from lpt.config.schema import DataConfig
from lpt.data.longtail import ShotGroups
from lpt.data.manifest import FloatArray, IntArray, LabelledImages, Splits
from lpt.data.sources import open_images, open_splits
from lpt.evaluation.strangers import accepted_strangers, auroc, keeping_threshold, kept_shares, known_scores
from lpt.packs.pack import read_info
from lpt.training.folder import RunFolder

SHARED = Path(__file__).parent.parent.parent.parent / "shared" / "data"
CLOTHING, UNSURE, GROCERY = SHARED / "clothing" / "labels.csv", SHARED / "clothing" / "unsure", SHARED / "grocery"
OUTPUT = Path("docs/results/strangers.json")
CLOTHING_STEPS = 40
"""Steps of an epoch on clothing: a fraction of those of the preset, so that a run takes minutes."""
KEEP, FRACTION, DRAWS, SHRINKAGE, SOME_CLASSES = 0.95, 0.1, 20, 25, 5
MOST_GROCERIES = 300
GROUPS = ShotGroups()
Rule = Callable[[FloatArray, IntArray, IntArray], list[float]]
"""(scores, true classes, shot groups of the predicted classes) -> a threshold for each of these groups."""


def clothing_splits(seed: int) -> Splits:
    """Return the images of clothing, with a tenth of each class held out as validation."""
    return open_splits(DataConfig(source=str(CLOTHING), validation=str(FRACTION)), seed=seed)


def common(values: FloatArray, labels: IntArray, predicted: IntArray) -> list[float]:
    """Return the threshold that keeps 95 % of the images, for all groups: what LPT does."""
    del labels, predicted
    return [keeping_threshold(values, KEEP)] * 3


def balanced(values: FloatArray, labels: IntArray, predicted: IntArray) -> list[float]:
    """Return the threshold that keeps 95 % if each class counts the same, for all groups."""
    del predicted
    weights = 1 / np.bincount(labels)[labels]
    order = np.argsort(values)
    below = np.cumsum(weights[order]) - weights[order]
    return [float(values[order][np.flatnonzero(below <= (1 - KEEP) * weights.sum())[-1]])] * 3


def by_group(values: FloatArray, labels: IntArray, predicted: IntArray) -> list[float]:
    """Return a threshold for each shot group of the predicted class, drawn to the common one where images are few."""
    shared = common(values, labels, predicted)[0]
    sizes = np.bincount(predicted, minlength=3)
    lowest = [keeping_threshold(values[predicted == group], KEEP) if sizes[group] else shared for group in range(3)]
    return [
        (size * low + SHRINKAGE * shared) / (size + SHRINKAGE) for size, low in zip(sizes.tolist(), lowest, strict=True)
    ]  # fmt: skip


RULES: dict[str, Rule] = {"one for all": common, "one, classes weighted alike": balanced, "by shot group": by_group}


def validation_draws(labels: IntArray, counts: IntArray, seed: int) -> Iterator[IntArray]:
    """Yield rows of held-out images as validation splits of 10 % would have them; repeatedly, from as many as exist."""
    rng = np.random.default_rng(seed)
    of_class = [np.flatnonzero(labels == label) for label in range(len(counts))]
    for _ in range(DRAWS):
        yield np.concatenate(
            [
                rng.permutation(rows)[: int(count * FRACTION)]
                for rows, count in zip(of_class, counts.tolist(), strict=True)
            ]
        )


def outcome(
    known: Scored,
    known_values: FloatArray,
    strangers: Scored,
    values: FloatArray,
    limits: list[float],
    counts: IntArray,
) -> dict[str, float | None]:
    """Return the shares of known images that thresholds by shot group keep, and of strangers that they reject."""
    group = GROUPS.of(counts)
    by_limit = np.asarray(limits)
    kept = known_values >= by_limit[group[known.scores.argmax(axis=1)]]
    rejected = values < by_limit[group[strangers.scores.argmax(axis=1)]]
    shares = kept_shares(kept, known.labels, counts, GROUPS)
    return {
        "kept": shares.overall,
        "kept_mean_per_class": shares.mean_per_class,
        **{f"kept_{name}": share for name, share in zip(GROUPS.names, shares.groups, strict=True)},
        "strangers_rejected": float(rejected.mean()),
    }


def separation(known: FloatArray, strangers: FloatArray) -> dict[str, float]:
    """Return AUROC and FPR95 of a score."""
    return {"auroc": auroc(known, strangers), "fpr95": accepted_strangers(known, strangers, KEEP)}


def auroc_of_some(known: Scored, strangers: Scored, score: Score, scale: float, seed: int) -> float:
    """Return the AUROC of a score where only some of the classes are known, the mean over draws of them."""
    rng, classes = np.random.default_rng(seed), known.scores.shape[1]
    values = []
    for _ in range(DRAWS):
        some = rng.choice(classes, SOME_CLASSES, replace=False)
        rows = np.flatnonzero(np.isin(known.labels, some))
        parts = (known.take(rows), strangers)
        values.append(auroc(*(score(part._replace(scores=part.scores[:, some]), scale) for part in parts)))
    return float(np.mean(values))


def mean_of(rows: list[dict[str, float | None]]) -> dict[str, float | None]:
    """Return the mean of each number over rows; None where it is not defined."""
    values = {name: [row[name] for row in rows] for name in rows[0]}
    return {
        name: None if None in numbers else float(np.mean(np.array(numbers, dtype=np.float64)))
        for name, numbers in values.items()
    }


class Cifar:
    """A pack of 80 classes of CIFAR-100-LT, with known images and strangers of a split."""

    def __init__(self, args: argparse.Namespace, seed: int) -> None:
        self.run, self.seed = args.cifar / f"old_seed{seed}", seed
        self._kept = args.runs / "scores"
        info = read_info(self.run)
        self.scale, self.counts = info.probabilities.scale, np.asarray(info.class_counts)

    def pair(self, split: str) -> tuple[Scored, Scored]:
        """Return the scores of known images and of strangers, of `validation` or `test`."""
        cut, name = open_cuts(self.seed), {"validation": "held"}.get(split, split)
        images = getattr(cut, split)
        start = f"cifar_seed{self.seed}_{name}"
        return (
            score_images(self.run / "pack", only(images, OLD), self._kept / f"{start}.npz"),
            score_images(self.run / "pack", only(images, NEW), self._kept / f"{start}_strangers.npz", strangers=True),
        )


def choose(args: argparse.Namespace, seeds: list[int]) -> dict[str, Any]:
    """Compare scores and rules on held-out training images."""
    scores: dict[str, list[Any]] = {name: [] for name in CANDIDATES}
    rules: dict[str, list[Any]] = {name: [] for name in RULES}
    for seed in seeds:
        cifar = Cifar(args, seed)
        known, strangers = cifar.pair("validation")
        for name, score in CANDIDATES.items():
            known_values, values = score(known, cifar.scale), score(strangers, cifar.scale)
            limits = common(known_values, known.labels, known.labels)
            scores[name].append(
                separation(known_values, values)
                | {"auroc_some": auroc_of_some(known, strangers, score, cifar.scale, seed)}
                | outcome(known, known_values, strangers, values, limits, cifar.counts)
            )
        known_values, values = known_scores(known.scores), known_scores(strangers.scores)
        predicted = GROUPS.of(cifar.counts)[known.scores.argmax(axis=1)]
        for name, rule in RULES.items():
            rows = []
            for drawn in validation_draws(known.labels, cifar.counts, seed):
                rest = np.setdiff1d(np.arange(len(known_values)), drawn)
                limits = rule(known_values[drawn], known.labels[drawn], predicted[drawn])
                left = known.take(rest)
                rows.append(outcome(left, known_values[rest], strangers, values, limits, cifar.counts))
            rules[name].append(mean_of(rows))
    return {"seeds": seeds, "scores": scores, "rules": rules, "draws": DRAWS, "some_classes": SOME_CLASSES}


def final_cifar(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Measure the largest cosine with one threshold on the test images of CIFAR-100-LT."""
    cifar = Cifar(args, seed)
    held = cifar.pair("validation")[0]
    known, strangers = cifar.pair("test")
    fitted, known_values, values = (known_scores(part.scores) for part in (held, known, strangers))
    rows = [
        outcome(known, known_values, strangers, values, [keeping_threshold(fitted[drawn], KEEP)] * 3, cifar.counts)
        for drawn in validation_draws(held.labels, cifar.counts, seed)
    ]
    images = {"known": len(known_values), "strangers": len(values)}
    return {"seed": seed, "images": images} | separation(known_values, values) | mean_of(rows)


def final_clothing(args: argparse.Namespace, seed: int) -> dict[str, dict[str, Any]]:
    """Measure it on the test images of clothing, with pictures nobody could name and with groceries as strangers."""
    run, kept = args.runs / f"clothing_seed{seed}", args.runs / "scores"
    splits, counts = clothing_splits(seed), np.asarray(read_info(run).class_counts)

    def scored(name: str, images: LabelledImages | None, *, strangers: bool = False) -> Scored:
        assert images is not None
        return score_images(run / "pack", images, kept / f"clothing_seed{seed}_{name}.npz", strangers=strangers)

    held, known = scored("held", splits.validation), scored("test", splits.test)
    threshold = keeping_threshold(known_scores(held.scores), KEEP)
    results = {}
    for name, images in (("unsure", _folder(UNSURE)), ("groceries", _groceries())):
        strangers = scored(name, images, strangers=True)
        known_values, values = known_scores(known.scores), known_scores(strangers.scores)
        count = {"fitted_on": len(held.labels), "known": len(known_values), "strangers": len(values)}
        shares = outcome(known, known_values, strangers, values, [threshold] * 3, counts)
        results[name] = {"seed": seed, "images": count} | separation(known_values, values) | shares
    return results


def _folder(source: Path) -> LabelledImages:
    return open_images(str(source), DataConfig(source=str(source))).images


def _groceries() -> LabelledImages:
    images = _folder(GROCERY / "labels.csv")
    return images.subset(np.arange(0, len(images), max(len(images) // MOST_GROCERIES, 1), dtype=np.int64))


def final(args: argparse.Namespace, seeds: list[int]) -> dict[str, Any]:
    """Measure on test images, for the runs that are there."""
    rows: dict[str, list[Any]] = {"cifar": [], "unsure": [], "groceries": []}
    for seed in seeds:
        if finished(args.cifar / f"old_seed{seed}"):
            rows["cifar"].append(final_cifar(args, seed))
        if finished(args.runs / f"clothing_seed{seed}"):
            for name, row in final_clothing(args, seed).items():
                rows[name].append(row)
    return {"rows": rows, "boundaries": GROUPS.describe()}


def finished(run: Path) -> bool:
    """Return whether a run is finished; say so if it is not."""
    if not RunFolder(run).finished:
        print(f"{run}: not trained, left out")
        return False
    return True


def write(stage: str, output: Path, result: dict[str, Any]) -> None:
    """Put the result of a stage into the record, beside that of the other one."""
    record = json.loads(output.read_text(encoding="utf-8")) if output.exists() else {}
    what = "Scores and thresholds on held-out images" if stage == "choose" else "The chosen score on test images"
    record[stage] = describe_run(what, "benchmarks.accuracy.strangers") | describe_machine("cpu") | result
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"written: {output}")


def main() -> None:
    """Run a stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["train", "choose", "final"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=64, help="input side of clothing, pixels")
    parser.add_argument("--epoch-steps", type=int, default=CLOTHING_STEPS, help="steps of an epoch on clothing")
    parser.add_argument("--runs", type=Path, default=Path("runs/strangers"), help="runs on clothing, and kept scores")
    parser.add_argument("--cifar", type=Path, default=Path("runs/new_classes"), help="runs of new_classes train")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    if args.stage == "train":
        for seed in args.seeds:
            folder = args.runs / f"clothing_seed{seed}"
            fit_once(clothing_splits(seed), folder, short_run(args.size, seed, args.epoch_steps))
    elif args.stage == "choose":
        seeds = [seed for seed in args.seeds if finished(args.cifar / f"old_seed{seed}")]
        write("choose", args.output, choose(args, seeds))
    else:
        write("final", args.output, final(args, args.seeds))


if __name__ == "__main__":
    main()
