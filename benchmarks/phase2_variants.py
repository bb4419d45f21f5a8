"""Phase 2 of LPT with one thing that has no setting changed, on the development cut of CIFAR-100-LT.

With `HF_HUB_CACHE=../shared/hub HF_HUB_OFFLINE=1` in the environment:

    python -m benchmarks.phase2_variants --size 96 --precision bf16

The preset `laptop` is trained through phase 1 once; every variant goes on from there. A variant that gains would become
a setting: until then it lives here, in place of a method of the model. Rows go to docs/results/compare_phase2.csv; what
is finished is kept, the same command goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
from collections.abc import Callable, Iterator
from functools import partialmethod
from pathlib import Path
from unittest.mock import patch

import torch
from rich.console import Console
from torch import Tensor

import lpt
from benchmarks.accuracy.cifar100_compare import add_row, rows_in
from benchmarks.accuracy.cifar100_cuts import CIFAR100, open_cifar
from benchmarks.accuracy.comparison_cells import RESULTS
from lpt.commands.fit.auto import epoch_steps
from lpt.data.manifest import Splits
from lpt.model import LPT, LPTOutput
from lpt.model.backbone import KeyValue, QueryKeyValue
from lpt.training.initial import head_from_class_means
from lpt.training.phases import Trainer

SHARPNESS = 20.0
"""Factor on the cosines of queries and keys before the softmax: as much as the cosines of the loss have in A-GCL."""
FILE = RESULTS / "compare_phase2.csv"


def soft_matching(
    model: LPT,
    tokens: Tensor,
    projected: QueryKeyValue,
    query: Tensor,
    shared: list[KeyValue],
    mask: Tensor | None,
    *,
    picks: int | None,
) -> LPTOutput:
    """`LPT._classify` with group prompts weighted by softmax(SHARPNESS * cosine), so that the loss reaches the keys.

    Args:
        picks: prompts that get a weight, the best k; None: the whole pool.
    """
    pool = model.groups
    picked = pool.match(query, model.top_k)
    matching = pool.match(query, len(pool.keys) if picks is None else picks)
    weights = torch.zeros(len(query), len(pool.keys), device=query.device)
    weights = weights.scatter(1, matching.groups, (SHARPNESS * matching.cosines).softmax(dim=1))
    group = torch.einsum("bm,mlpd->blpd", weights.to(pool.prompts), pool.prompts)
    features = model._suffix(tokens, projected, shared, group)
    features = features if mask is None else features * mask
    return LPTOutput(model.head(features), picked.cosines.sum(dim=1).mean(), picked.groups)


def head_from_means(trainer: Trainer) -> None:
    """Start phase 2's classes at their means under the trained shared prompt, in place of where phase 1 left them."""
    assert isinstance(trainer.model, LPT)
    features = trainer._features(trainer.model.encode_shared, "class means")
    head_from_class_means(trainer.model, features, trainer.images.labels)


def soft(picks: int | None) -> contextlib.AbstractContextManager[object]:
    """Match softly in training and prediction."""
    return patch.object(LPT, "_classify", partialmethod(soft_matching, picks=picks))


@contextlib.contextmanager
def before_phase2(work: Callable[[Trainer], None]) -> Iterator[None]:
    """Do something more where phase 2 starts."""
    start = Trainer._start_groups

    def more(trainer: Trainer) -> None:
        start(trainer)
        work(trainer)

    with patch.object(Trainer, "_start_groups", more):
        yield


VARIANTS: dict[str, Callable[[], contextlib.AbstractContextManager[object]]] = {
    "as the preset": contextlib.nullcontext,
    "soft matching of the two picked": lambda: soft(2),
    "soft matching of the whole pool": lambda: soft(None),
    "head from class means again": lambda: before_phase2(head_from_means),
}


class Phase1DoneError(Exception):
    """What stops a run where phase 2 would begin."""


def through_phase1(splits: Splits, folder: Path, settings: list[str], console: Console) -> None:
    """A run that stopped where phase 2 begins."""

    def stop(trainer: Trainer) -> None:
        raise Phase1DoneError

    with before_phase2(stop), contextlib.suppress(Phase1DoneError):
        if (folder / "config.yaml").exists():
            lpt.resume(folder, splits, console=console)
        else:
            lpt.fit(splits, folder, preset="laptop", method="lpt", settings=settings, console=console)


def main() -> None:
    """Read the command line and train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=96, help="input side, pixels")
    parser.add_argument("--share", type=float, default=1.105, help="of the preset's draws")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--source", default=CIFAR100)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    args = parser.parse_args()
    console, splits = Console(), open_cifar(args.source, imbalance=100, development=True, seed=args.seed)
    steps = max(round(args.share * epoch_steps("laptop", len(splits.train), 64, 32)[0]), 1)
    what = {"method": "lpt", "size": args.size, "draws": 64 * 12 * steps, "imbalance": "100"}
    what |= {"seed": args.seed, "precision": args.precision}
    root = args.runs / "_".join(["phase2", *(str(what[one]) for one in ("size", "draws", "seed", "precision"))])
    settings = [f"image.size={args.size}", f"train.epoch_steps={steps}", f"runtime.seed={args.seed}"]
    settings.append(f"runtime.precision={args.precision}")
    done = {(row["settings"], *(row[key] for key in what)) for row in rows_in(FILE)}
    for name, changed in VARIANTS.items():
        if (name, *map(str, what.values())) in done:
            continue
        console.rule(name)
        folder = root / name.replace(" ", "_")
        if not folder.exists():
            through_phase1(splits, root / "phase1", settings, console)
            shutil.copytree(root / "phase1", root / "copying", dirs_exist_ok=True)
            (root / "copying").rename(folder)
        with changed():
            result = lpt.resume(folder, splits, console=console)
        add_row(FILE, what | {"settings": name}, result.metrics["test"], folder)


if __name__ == "__main__":
    main()
