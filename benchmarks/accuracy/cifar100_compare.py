"""Choose the settings of every method on the development cut of CIFAR-100-LT, then compare on the test images.

With `HF_HUB_CACHE=../shared/hub HF_HUB_OFFLINE=1` in the environment:

    python -m benchmarks.accuracy.cifar100_compare trials --size 64 --share 0.25
    python -m benchmarks.accuracy.cifar100_compare long-trials --size 96 --share 1.105 --precision bf16
    python -m benchmarks.accuracy.cifar100_compare mild-trials --size 96 --share 1 --imbalance 10 --precision bf16
    python -m benchmarks.accuracy.cifar100_compare adapter-trials --size 96 --share 1 --imbalance 10 --precision bf16
    python -m benchmarks.accuracy.cifar100_compare ablations --size 64 --share 0.25 --precision bf16
    python -m benchmarks.accuracy.cifar100_compare final --size 96 --seeds 0 1 2

`trials` trains each method with several settings (TRIALS) on the development cut (DESIGN section 6: 50
training images of each class held out, the rest cut long-tailed; test images are not read), for a share of the preset's
draws, and adds a row for each to docs/results/compare_trials.csv. `long-trials` trains a few settings with all draws
(LONG_TRIALS): short trials rank rates, not methods, and choose too high ones. A recipe in `lpt.config.recipes` takes
the values with the best mean of overall and few-shot accuracy in the long trials. docs/explanation/trials.md says where
the values of the other methods come from. `mild-trials` tries what a milder imbalance wants (MILD_TRIALS,
docs/results/compare_mild_trials.csv), `adapter-trials` where adapters beside the prompts pay (ADAPTER_TRIALS,
docs/results/compare_adapter_trials.csv). `ablations` tries LPT with one part changed at a time. `final` is `lpt
compare` on the real cut; tables, plots and finished cells go to docs/results/compare_cifar100_if100_SIZE/. All run
unattended: what is finished is kept, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
import csv
import json
import zlib
from pathlib import Path
from typing import Any

from rich.console import Console

import lpt
from benchmarks.accuracy.cifar100_cuts import CIFAR100, LARGEST, open_cifar
from benchmarks.accuracy.comparison_cells import RESULTS, run_comparison
from benchmarks.record import today
from lpt.commands.compare.plan import DEFAULT_METHODS
from lpt.commands.fit.auto import epoch_steps
from lpt.config.presets import with_preset
from lpt.config.recipes import METHODS
from lpt.data.manifest import Splits
from lpt.evaluation.metrics import Metrics
from lpt.system.files import write_text
from lpt.system.hardware import inspect_machine

PRECISION = "of trials: fp32 unless said; of a comparison: as it was begun, or what suits the machine"
FIELDS = (
    "method", "settings", "size", "draws", "imbalance", "seed", "precision", "overall", "mean_per_class", "many",
    "medium", "few", "train_seconds", "machine", "date",
)  # fmt: skip

_FINE_TUNING = (
    "train.phase1.lr=3e-5",
    "train.phase1.lr=1e-4",
    "train.phase1.lr=3e-4",
    "train.phase1.lr=1e-3",
    "train.phase1.lr=3e-4 train.phase1.layer_decay=1.0",
    "train.phase1.lr=1e-3 train.phase1.layer_decay=1.0",
)
_RATES = (
    "train.phase1.lr=5e-4",
    "train.phase1.lr=1e-3",
    "train.phase1.lr=2e-3",
    "train.phase1.lr=4e-3",
    "train.phase1.lr=8e-3",
)
_PROMPT_RATES = (*_RATES[1:], "train.phase1.lr=1.6e-2", "train.phase1.lr=3.2e-2")
WITHOUT_ADAPTERS = "model.adapter_size=0"
ADAPTERS = {size: f"model.adapter_size={size} model.adapter_norm=true model.adapter_scale=null" for size in (1, 4, 16)}
_ADAPTER = ADAPTERS[4]
LOGIT_ADJUSTED = "train.sampling=instance train.batch_size=64 loss.name=logit_adjusted"


def _rates(first: float, share: float = 0.5) -> str:
    """Return the settings of LPT's rate in phase 1, and of a share of it in phase 2."""
    return f"train.phase1.lr={first:g} train.phase2.lr={first * share:g}"


_PLAIN_RATES = _rates(4e-3)
RANDOM = f"model.prompt_init=random model.group_init=random {_PLAIN_RATES}"
_SHARED = "model.prompt_init=random model.group_init=shared"
_PHASE1 = "model.prompt_init=tokens train.phase1.lr"
_TOKENS = "model.prompt_init=tokens model.group_init=shared"
TRIALS: dict[str, tuple[str, ...]] = {
    "fine-tuning": _FINE_TUNING,
    "fine-tuning-la": _FINE_TUNING,
    "last-blocks": _FINE_TUNING,
    "bias": _RATES,
    "vpt-deep": _PROMPT_RATES,
    "vpt-shallow": _PROMPT_RATES,
    "lora": _RATES,
    "adaptformer": _RATES,
    "vpt-gcl-drw": _PROMPT_RATES,
    "lpt-phase1": _PROMPT_RATES,
    "lift": (
        "train.phase1.lr=0.02",
        "train.phase1.lr=0.04",
        "train.phase1.lr=0.08",
        "train.phase1.lr=0.16",
        "train.phase1.lr=0.32",
        "train.phase1.optimizer=adamw train.phase1.lr=1e-3 train.phase1.warmup_epochs=1",
    ),
    "lpt": (
        RANDOM,
        f"{_SHARED} {_PLAIN_RATES}",
        f"{RANDOM} {_ADAPTER}",
        f"{RANDOM} {LOGIT_ADJUSTED}",
        f"{RANDOM} {_ADAPTER} {LOGIT_ADJUSTED}",
        f"{RANDOM} {_ADAPTER} {LOGIT_ADJUSTED} model.adapter_size=64",
        f"{RANDOM} {LOGIT_ADJUSTED} train.phase1.lr=1e-2",
        f"{RANDOM} {LOGIT_ADJUSTED} model.prompt_length=30",
        f"{_SHARED} {_rates(8e-3)}",
        f"{_SHARED} {_rates(1.6e-2)}",
        f"{_TOKENS} {_PLAIN_RATES}",
        f"{_TOKENS} {_rates(1.6e-2)}",
        f"{_TOKENS} {_rates(4.8e-2)}",
        f"{_TOKENS} {_rates(4.8e-2)} loss.instance_weight=1",
        f"{_TOKENS} {_rates(4.8e-2)} loss.instance_weight=2",
        f"{_TOKENS} {_rates(2.4e-2)} {_ADAPTER}",
    ),
}
"""Settings to try of each method, five or more. Probes have none: their weight decay is chosen on training cuts."""

LONG_TRIALS: dict[str, tuple[str, ...]] = {
    "lpt": (
        f"{_TOKENS} {_rates(2.4e-2)}",
        f"{_TOKENS} {_rates(2.4e-2)} train.phase1.epochs=10 train.phase2.epochs=2",
        f"{_TOKENS} {_rates(2.4e-2, 1 / 8)}",
        f"{_TOKENS} {_rates(2.4e-2, 1 / 24)}",
        f"{_TOKENS} {_rates(2.4e-2, 1 / 8)} model.key_init=kmeans",
        f"{_TOKENS} {_rates(2.4e-2, 1 / 8)} model.prompt_length=20",
        f"{_TOKENS} {_rates(2.4e-2, 1 / 8)} train.phase1.epochs=10 train.phase2.epochs=2",
        f"{_TOKENS} {_rates(2.4e-2)} loss.instance_weight=1",
        f"{_TOKENS} {_rates(2.4e-2)} train.phase1.head_lr=2.4e-3 train.phase2.head_lr=1.2e-3",
        f"{_TOKENS} {_rates(2.4e-2)} {LOGIT_ADJUSTED}",
    ),
    "lpt-phase1": (
        f"{_PHASE1}=2.4e-2",
        f"{_PHASE1}=2.4e-2 {_ADAPTER}",
        f"{_PHASE1}=2.4e-2 {_ADAPTER} loss.noise=0.75",
        f"{_PHASE1}=1.2e-2",
        f"{_PHASE1}=4.8e-2",
        f"{_PHASE1}=2.4e-2 loss.scale=30",
        f"{_PHASE1}=2.4e-2 loss.label_smoothing=0",
        f"{_PHASE1}=2.4e-2 loss.margin=0",
    ),
    **{
        method: tuple(f"train.phase1.lr={rate}" for rate in rates)
        for method, rates in (
            ("lift", ("0.32", "0.08", "0.04")),
            ("fine-tuning-la", ("1e-3", "3e-4", "1e-4", "3e-5")),
            ("vpt-deep", ("8e-3", "4e-3", "2e-3")),
            ("bias", ("2e-3", "1e-3", "5e-4", "2.5e-4")),
            ("lora", ("2e-3", "1e-3", "5e-4", "2.5e-4")),
            ("adaptformer", ("4e-3", "2e-3", "1e-3")),
            ("vpt-gcl-drw", ("3.2e-2", "1.6e-2", "8e-3", "4e-3")),
            ("vpt-shallow", ("8e-3", "4e-3")),
        )
    },
    "last-blocks": (
        "train.phase1.lr=1e-3",
        "train.phase1.lr=1e-3 train.phase1.layer_decay=1.0",
        "train.phase1.lr=3e-4",
    ),
}
"""Settings to try with all draws; docs/results/compare_trials.csv has those that were."""

MILD_TRIALS: dict[str, tuple[str, ...]] = {
    "lpt": tuple(
        f"{loss} {WITHOUT_ADAPTERS}"
        for loss in ("loss.noise=0.5", "loss.noise=0.25", "loss.noise=0.5 loss.instance_weight=2")
    )
}
"""Settings to try with all draws where classes are less uneven."""

ADAPTER_TRIALS: dict[str, tuple[str, ...]] = {
    "lpt": (WITHOUT_ADAPTERS, *ADAPTERS.values()),
    "lpt-phase1": (WITHOUT_ADAPTERS, ADAPTERS[1], _ADAPTER),
}
"""Adapters beside the prompts, to try with all draws at several imbalance factors and sizes; the table has what was."""

ABLATIONS = {
    "lpt": (
        "train.phase1.lr=2.4e-2",
        "model.prompt_init=random",
        "model.group_init=random",
        "model.head_init=random",
        "loss.name=gcl",
        "loss.name=cross_entropy",
        "train.sampling=instance train.batch_size=64",
        LOGIT_ADJUSTED,
        "loss.instance_weight=0 train.batch_size=64",
        "loss.similarity_weight=0",
        *(f"model.shared_blocks={blocks}" for blocks in (0, 3, 9)),
        *(f"model.pool_size={size}" for size in (5, 50)),
        *(f"model.top_k={picks}" for picks in (1, 5)),
        *(f"model.prompt_length={length}" for length in (3, 20)),
        "model.key_init=kmeans",
        "model.query=prefix",
    ),
    "lpt-phase1": ("train.phase1.lr=2.4e-2",),
}
"""LPT with one part changed at a time: starts, K, M, k, P, loss, sampling, query, phases. The first row is the preset
itself but for its adapters, its own rate written out."""

STAGES: dict[str, tuple[dict[str, tuple[str, ...]], str]] = {
    "trials": (TRIALS, "compare_trials"),
    "long-trials": (LONG_TRIALS, "compare_trials"),
    "mild-trials": (MILD_TRIALS, "compare_mild_trials"),
    "adapter-trials": (ADAPTER_TRIALS, "compare_adapter_trials"),
    "ablations": (ABLATIONS, "compare_ablations"),
}
"""The settings that each stage but the last tries, and the table for its rows."""


def measure(splits: Splits, grid: dict[str, tuple[str, ...]], file: Path, args: argparse.Namespace, cut: str) -> None:
    """Train the settings of a grid that are missing from a file, and add a row for each.

    Args:
        splits: held-out training images stand where test images do.
        grid: settings to try, by method. LPT has no adapters unless they name some: it was tuned without.
        file: table to which rows are added.
        args: size, share of the preset's draws, seed, precision, methods and folder of runs.
        cut: which data, as it stands in the table.
    """
    console = Console()
    keys = ("method", "settings", "size", "draws", "imbalance", "seed", "precision")
    done = {tuple(row[key] for key in keys) for row in rows_in(file)}
    steps = max(round(args.share * epoch_steps("laptop", len(splits.train), 64, 32)[0]), 1)
    draws, cut_name = str(64 * 12 * steps), cut.replace(", n_max ", "_max")
    for method in args.methods or grid:
        for settings in grid[method]:
            if (method, settings, str(args.size), draws, cut, str(args.seed), args.precision) in done:
                continue
            runs = f"trials_{args.size}_{draws}_if{cut_name}_seed{args.seed}_{args.precision}_{_recipe(method)}"
            folder = args.runs / runs / method / settings.replace(" ", "+").replace("train.phase1.", "")
            console.rule(f"{METHODS[method].title}: {settings}")
            if (folder / "config.yaml").exists():
                result = lpt.resume(folder, splits, console=console)
            else:
                common = [f"image.size={args.size}", f"train.epoch_steps={steps}", f"runtime.seed={args.seed}"]
                common += [f"runtime.precision={args.precision}"]
                common += [WITHOUT_ADAPTERS] * method.startswith("lpt")
                result = lpt.fit(
                    splits,
                    folder,
                    preset="laptop",
                    method=method,
                    settings=[*common, *settings.split()],
                    console=console,
                )
            what = dict(zip(keys, (method, settings, args.size, draws, cut, args.seed, args.precision), strict=True))
            add_row(file, what, result.metrics["test"], folder)


def _recipe(method: str) -> str:
    """Return a hash of the preset and recipe of a method, so that a run with other ones is not continued."""
    values = {"preset": "laptop", "method": method}
    config = with_preset(values, inspect_machine("cpu").device, origin="the preset").config
    return f"{zlib.crc32(config.model_dump_json().encode()):08x}"


def final(args: argparse.Namespace) -> None:
    """Compare on the test images, and copy tables and plots to the results."""
    name = f"compare_cifar100_if{args.imbalance:g}_{args.size}"
    run_comparison(
        lambda seed: open_cifar(args.source, imbalance=args.imbalance, development=False, seed=seed),
        args.runs / name,
        RESULTS / name,
        methods=args.methods or DEFAULT_METHODS,
        seeds=args.seeds,
        preset="laptop",
        settings=[f"image.size={args.size}", *in_precision(args.precision), *args.set],
        console=Console(),
    )


def in_precision(asked: str | None) -> list[str]:
    """Return the setting for a precision; none where the comparison or the machine decides."""
    return [] if asked is None else [f"runtime.precision={asked}"]


def rows_in(file: Path) -> list[dict[str, str]]:
    """Read the rows of a table; none if there is no file."""
    if not file.exists():
        return []
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def add_row(file: Path, what: dict[str, Any], test: Metrics, folder: Path) -> None:
    """Add a trial to a table; a kill leaves the old table or the new one.

    Args:
        file: the table.
        what: method, settings, size, draws, imbalance, seed and precision.
        test: accuracies on the held-out images.
        folder: the run folder.
    """
    row = {name: "" if value is None else value for name, value in test.to_dict().items() if name in FIELDS}
    seconds = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["train_seconds"]
    row |= what | {"train_seconds": float(seconds), "date": today()}
    row["machine"] = inspect_machine().describe()
    shown = {key: f"{value:.4f}" if isinstance(value, float) else str(value) for key, value in row.items()}
    lines = [*rows_in(file), shown]
    text = [",".join(FIELDS)]
    text += [",".join(f'"{line[key]}"' if "," in line[key] else line[key] for key in FIELDS) for line in lines]
    write_text(file, "\n".join(text) + "\n")


def main() -> None:
    """Run a stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=[*STAGES, "final"])
    parser.add_argument("--size", type=int, default=96, help="input side, pixels")
    parser.add_argument("--share", type=float, default=0.5, help="of the preset's draws, in trials")
    parser.add_argument("--methods", nargs="*", default=None, help="default: all of TRIALS; the seven that matter")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the final comparison")
    parser.add_argument("--seed", type=int, default=0, help="of the trials")
    parser.add_argument("--precision", choices=["fp32", "bf16"], help=PRECISION)
    parser.add_argument("--imbalance", type=float, default=100)
    parser.add_argument("--largest-class", type=int, default=LARGEST, help="images of it, in trials")
    parser.add_argument("--set", action="append", default=[], metavar="[METHOD:]A.B=C")
    parser.add_argument("--source", default=CIFAR100)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    args = parser.parse_args()
    if args.stage == "final":
        final(args)
        return
    args.precision = args.precision or "fp32"
    splits = open_cifar(
        args.source, imbalance=args.imbalance, development=True, seed=args.seed, largest_class=args.largest_class
    )
    grid, table = STAGES[args.stage]
    cut = f"{args.imbalance:g}" + f", n_max {args.largest_class}" * (args.largest_class != LARGEST)
    measure(splits, grid, RESULTS / f"{table}.csv", args, cut)


if __name__ == "__main__":
    main()
