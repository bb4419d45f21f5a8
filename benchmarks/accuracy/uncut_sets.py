"""Compare methods on two sets that nobody cut, with the rates of CIFAR-100-LT and with rates of their own.

With `HF_HUB_CACHE=../shared/hub HF_HUB_OFFLINE=1` in the environment:

    python -m benchmarks.accuracy.uncut_sets compare --data clothing grocery --seeds 0 1 2
    python -m benchmarks.accuracy.uncut_sets rates --data clothing grocery
    python -m benchmarks.accuracy.uncut_sets own --data clothing grocery --seeds 0 1 2

Clothing: photographs of garments, tested on people of whom nothing was trained on. Grocery: photographs in shops, the
authors' split. `compare` is `lpt compare` of the default methods and LoRA with the rates that were chosen on
CIFAR-100-LT. `rates` tries two more of each method, a third and three times its own, on validation images: a fifth of
each class of clothing's training images, and grocery's own. `own` is the comparison again, each method with its best
rate by the mean per class on these. Tables, plots and finished cells go to docs/results/compare_DATA_SIZE and
docs/results/compare_DATA_SIZE_own, the trials to docs/results/uncut_rates.csv. All run unattended: what is finished is
kept, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from benchmarks.accuracy.cifar100_compare import ADAPTERS, measure, rows_in
from benchmarks.accuracy.comparison_cells import RESULTS, restore, run_comparison
from benchmarks.accuracy.tune import SOURCES
from lpt.commands.compare.plan import DEFAULT_METHODS
from lpt.commands.fit.auto import epoch_steps
from lpt.commands.tune.splits import cut_splits
from lpt.config.presets import with_preset
from lpt.config.schema import DataConfig, RunConfig
from lpt.data.manifest import LabelledImages, Splits
from lpt.data.sources import open_splits

METHODS = (*DEFAULT_METHODS, "lora")
FACTORS = (1.0, 1 / 3, 3.0)
"""Of the rates that a method has; the first wins where others are no better."""
RATES = RESULTS / "uncut_rates.csv"


def opened(name: str, seed: int = 0) -> Splits:
    """Open a set as it is published; its validation images stay out of the training."""
    return open_splits(DataConfig(source=str(SOURCES[name])), seed=seed)


def held_out(name: str) -> Splits:
    """Open the training images of a set, with validation images where the test images stand."""
    splits = opened(name)
    train, validation = splits.train, splits.validation
    if validation is None or not len(validation):
        cut = cut_splits(train.labels, len(train.class_names), 1, seed=0)[0]
        train, validation = train.subset(cut.train), train.subset(cut.held)
    assert isinstance(validation, LabelledImages)
    return replace(splits, train=train, validation=None, test=validation, counts_before_cut=train.class_counts)


def settings_of(method: str, factor: float) -> str:
    """Return the rates of a method times a factor, as settings; empty for a method without training steps."""
    config = configuration(method)
    rates = {
        f"train.{phase}.{name}": getattr(plan, name)
        for phase, plan in (("phase1", config.train.phase1), ("phase2", config.train.phase2))
        for name in ("lr", "head_lr")
        if plan.epochs and getattr(plan, name) is not None
    }
    return " ".join(f"{path}={rate * factor:.3g}" for path, rate in rates.items())


def configuration(method: str) -> RunConfig:
    """Return what the preset `laptop` gives a method."""
    return with_preset({"preset": "laptop", "method": method}, "cpu", origin="the preset").config


def grid() -> dict[str, tuple[str, ...]]:
    """Return the settings to try of each method that trains."""
    return {
        method: tuple(trial_settings(method, factor) for factor in FACTORS)
        for method in METHODS
        if settings_of(method, 1)
    }


def trial_settings(method: str, factor: float) -> str:
    """Return the settings of a trial: `measure` tries LPT without adapters unless they are named."""
    rates = settings_of(method, factor)
    return f"{rates} {ADAPTERS[1]}" if method.startswith("lpt") else rates


def best(name: str) -> dict[str, str]:
    """Return the best rates of each method, as settings.

    Raises:
        SystemExit: trials are missing.
    """
    means = {
        (row["method"], row["settings"]): float(row["mean_per_class"])
        for row in rows_in(RATES)
        if row["imbalance"] == name
    }
    chosen = {}
    for method, settings in grid().items():
        missing = [rates for rates in settings if (method, rates) not in means]
        if missing:
            raise SystemExit(f"{RATES}: {name} lacks {method} with {missing[0]}. Run the stage rates first.")
        place = max(range(len(settings)), key=lambda place: means[method, settings[place]])
        chosen[method] = settings_of(method, FACTORS[place]) if place else ""
    return chosen


def compare_methods(name: str, args: argparse.Namespace) -> None:
    """Run the comparison of a set, every method with the rates of the preset."""
    title = f"compare_{name}_{args.size}"
    _compare(name, title, METHODS, args, {})


def compare_own(name: str, args: argparse.Namespace, own: dict[str, str]) -> None:
    """Run the comparison of a set, each method with its best rates; `own` has them as settings, empty if the preset's.

    Methods whose rates differ are trained first, so that the comparison exists when the cells of the others come.

    Raises:
        SystemExit: no rates differ.
    """
    plain = f"compare_{name}_{args.size}"
    title, same = f"{plain}_own", [method for method in METHODS if not own.get(method)]
    if len(same) == len(METHODS):
        raise SystemExit(f"{name}: no method has rates of its own, so {RESULTS / plain} stands for them.")
    _compare(name, title, [method for method in METHODS if method not in same], args, own)
    take_over(args.runs / plain, args.runs / title, same)
    _compare(name, title, METHODS, args, own)


def _compare(name: str, title: str, methods: Sequence[str], args: argparse.Namespace, own: dict[str, str]) -> None:
    run_comparison(
        lambda seed: opened(name, seed),
        args.runs / title,
        RESULTS / title,
        methods=methods,
        seeds=args.seeds,
        preset="laptop",
        settings=[
            f"image.size={args.size}",
            f"train.epoch_steps={args.steps}",
            *(f"{method}:{setting}" for method, settings in own.items() for setting in settings.split()),
        ],
        console=Console(),
    )


def take_over(plain: Path, own: Path, methods: list[str]) -> None:
    """Copy the finished cells of methods whose rates are the same, unless they are there."""
    restore(RESULTS / plain.name, plain)
    for method in methods:
        target = own / "runs" / method
        if not target.exists() and (plain / "runs" / method).exists():
            shutil.copytree(plain / "runs" / method, target)


def main() -> None:
    """Run a stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["compare", "rates", "own"])
    parser.add_argument("--data", nargs="+", choices=sorted(SOURCES), default=sorted(SOURCES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=64, help="input side, pixels")
    parser.add_argument("--steps", type=int, default=40, help="of an epoch")
    parser.add_argument("--methods", nargs="*", default=None, help="of rates; default: all that train")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    args = parser.parse_args()
    args.seed, args.precision = 0, "fp32"
    for name in args.data:
        if args.stage == "rates":
            splits = held_out(name)
            args.share = args.steps / epoch_steps("laptop", len(splits.train), 64, 32)[0]
            measure(splits, grid(), RATES, args, name)
        elif args.stage == "own":
            compare_own(name, args, best(name))
        else:
            compare_methods(name, args)


if __name__ == "__main__":
    main()
