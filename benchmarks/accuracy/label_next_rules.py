"""Compare rules of choosing pictures in seconds: a cosine head on frozen features in place of a whole training.

With `HF_HUB_CACHE=../shared/hub HF_HUB_OFFLINE=1` in the environment:

    python -m benchmarks.accuracy.label_next_rules --data cifar100 --runs runs/label_next

It trains the first pack of the development simulation (`label_next develop`), unless its run is finished, and measures
on held-out training images. The rule of `lpt label-next` was chosen so.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.accuracy.label_next import GROUPS, START, fit_once, look_at_pool
from benchmarks.accuracy.label_next_data import DATA_SETS
from lpt.commands.label_next.look import Looks
from lpt.data.manifest import Float32Array, IntArray
from lpt.evaluation import acquisition

_SCALE, _PULL, _STEPS = 12.0, 1e-3, 60
RANDOM_DRAWS = 4


class Seen(NamedTuple):
    """Training and test images under the first pack.

    Args:
        train: looks at all training images.
        labels: their classes, [n].
        test: features of the test images, [m, D].
        test_labels: their classes, [m].
        labelled: positions of the images that are labelled from the start.
        classes: number of classes.
    """

    train: Looks
    labels: IntArray
    test: Float32Array
    test_labels: IntArray
    labelled: IntArray
    classes: int


def fit_head(features: Float32Array, labels: IntArray, classes: int) -> Float32Array:
    """Return the unit columns of a cosine head, half balanced in its weights and half in its logits, [C, D]."""
    counts = np.maximum(np.bincount(labels, minlength=classes), 0.5)
    x, y = torch.from_numpy(features), torch.from_numpy(labels)
    start = torch.zeros(classes, x.shape[1]).index_add_(0, y, x) / torch.from_numpy(np.maximum(counts, 1))[:, None]
    start = F.normalize(start.float(), dim=-1)
    head = start.clone().requires_grad_()
    weights = torch.from_numpy(1 / np.sqrt(counts)).float()[y]
    shift = 0.5 * torch.from_numpy(np.log(counts / counts.sum())).float()
    optimizer = torch.optim.LBFGS([head], max_iter=_STEPS, history_size=10, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        losses = F.cross_entropy(_SCALE * x @ F.normalize(head, dim=-1).T + shift, y, reduction="none")
        total = (losses * weights).sum() / weights.sum() + _PULL * ((head - start) ** 2).sum()
        total.backward()
        return total

    optimizer.step(loss)
    unit: Float32Array = F.normalize(head.detach(), dim=-1).numpy()
    return unit


def rules(looks: Looks, counts: IntArray, number: int) -> dict[str, IntArray]:
    """Return what each rule chooses: rows of the looks."""
    shares = looks.guesses.shares
    chosen = {
        f"random {draw}": np.random.default_rng(draw).permutation(len(shares))[:number]
        for draw in range(RANDOM_DRAWS)
    }  # fmt: skip
    chosen["smallest margin"] = np.argsort(shares[:, 0] - shares[:, 1], kind="stable")[:number]
    pooled = acquisition.pool_shares(looks.guesses, counts)
    rarity = 1 / (counts[looks.guesses.classes] + 1)
    chosen["rare mass, all by the first counts"] = np.argsort(-(pooled * rarity).sum(axis=1), kind="stable")[:number]
    variance = pooled * (1 - pooled)
    chosen["variance, all by the first counts"] = np.argsort(-(variance * rarity).sum(axis=1), kind="stable")[:number]
    best = acquisition.choose_next(looks.guesses, looks.features, counts, number)
    chosen["lpt label-next"] = np.array([each.row for each in best])
    return {name: rows.astype(np.int64) for name, rows in chosen.items()}


def compare(seen: Seen, number: int) -> dict[str, tuple[float, float, float]]:
    """Return few-shot and mean accuracy in percent by rule, and how many chosen pictures were of few-shot classes."""
    pool = np.setdiff1d(np.arange(len(seen.labels)), seen.labelled)
    guesses = acquisition.Guesses(seen.train.guesses.classes[pool], seen.train.guesses.shares[pool])
    looks = Looks([seen.train.paths[row] for row in pool], guesses, seen.train.features[pool])
    counts = np.bincount(seen.labels[seen.labelled], minlength=seen.classes).astype(np.int64)
    few = GROUPS.of(counts) == GROUPS.names.index("few")
    measured = {}
    chosen: Mapping[str, IntArray] = {"none": np.zeros(0, dtype=np.int64), **rules(looks, counts, number)}
    for name, rows in chosen.items():
        train = np.concatenate([seen.labelled, pool[rows]])
        head = fit_head(seen.train.features[train], seen.labels[train], seen.classes)
        right = (seen.test @ head.T).argmax(axis=1) == seen.test_labels
        accuracy = np.array([right[seen.test_labels == label].mean() for label in range(seen.classes)])
        measured[name] = (
            100 * float(accuracy[few].mean()),
            100 * float(accuracy.mean()),
            float(few[seen.labels[pool[rows]]].sum()),
        )
    return measured


def main() -> None:
    """Print a line for each rule."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=list(DATA_SETS), default="cifar100")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=64, help="input side, pixels")
    parser.add_argument("--runs", type=Path, default=Path("runs/label_next"))
    args = parser.parse_args()
    pictures = DATA_SETS[args.data](args.seed, development=True)
    folder = args.runs / "develop" / f"{args.data}_seed{args.seed}" / START
    fit_once(pictures, pictures.labelled, folder, size=args.size, seed=args.seed)
    train, test = look_at_pool(folder, pictures.train), look_at_pool(folder, pictures.test)
    classes = len(pictures.train.class_names)
    labels, test_labels = pictures.train.labels, pictures.test.labels
    seen = Seen(train, labels, test.features, test_labels, pictures.labelled, classes)
    for name, (few, mean, chosen) in compare(seen, pictures.chosen).items():
        print(f"{name:36s} few {few:5.1f}   mean {mean:5.1f}   chosen of few-shot classes {chosen:.0f}")


if __name__ == "__main__":
    main()
