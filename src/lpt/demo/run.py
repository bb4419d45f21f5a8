"""The demo: `compare` on long-tailed handwritten digits, LPT beside a linear probe and full fine-tuning.

A seed changes which images are kept, every first value and every draw. Whatever comes out is printed.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from lpt.commands.compare.compare import compare
from lpt.data.manifest import LabelledImages
from lpt.demo.digits import digit_splits, load_digits, write_examples
from lpt.demo.settings import (
    COMMON,
    FINE_TUNING,
    FINE_TUNING_SETTINGS,
    LPT,
    LPT_SETTINGS,
    METHODS,
    PRESET,
    DemoBudget,
    demo_config,
)
from lpt.errors import RunError
from lpt.evaluation.comparison import Cell, Comparison
from lpt.evaluation.metrics import ACCURACIES
from lpt.model.consent import needed_options
from lpt.model.pretrained import load_backbone
from lpt.model.record import BackboneRecord
from lpt.packs.info import Versions
from lpt.system.files import write_json
from lpt.system.hardware import inspect_machine
from lpt.system.interrupt import Interrupted
from lpt.system.text import plural, size_of

BACKBONE = "lpt-demo-glyphs"
DEFAULT_OUTPUT = Path("lpt-demo")


@dataclass(frozen=True)
class DemoResult:
    """The demo's comparison and where it lies.

    Args:
        folder: where everything was written.
        comparison: every method on every seed.
        pack: the first seed's prompt pack.
        seconds: of the whole demo.
    """

    folder: Path
    comparison: Comparison
    pack: Path
    seconds: float


def run_demo(
    output: Path | None = None,
    *,
    seeds: int = 3,
    budget: DemoBudget | None = None,
    backbone: str = BACKBONE,
    checkpoint: Path | None = None,
    console: Console | None = None,
) -> DemoResult:
    """Compare the three methods; print the tables, and write plots, numbers, packs and example images.

    Args:
        output: folder to make; None: `lpt-demo`. If it exists, the next free number is added; nothing is replaced.
        seeds: how many, from 0 on.
        budget: steps of each trained method; None: the default.
        backbone: name of the backbone.
        checkpoint: local weights of the backbone; None: its own.
        console: where to report; None: silent.

    Raises:
        ConfigError: scikit-learn is not installed, or the backbone cannot be loaded.
        RunError: a file cannot be written, a run failed, or the demo was interrupted.
    """
    started = time.monotonic()
    console, budget = console or Console(quiet=True), budget or DemoBudget()
    load_digits()  # this and the backbone may fail, so they come before anything is written
    record = load_backbone(backbone, checkpoint=checkpoint).record
    folder = new_folder(output or DEFAULT_OUTPUT)
    splits = digit_splits(0)
    assert splits.test is not None
    _introduce(console, splits.train.class_counts.tolist(), splits.test, budget, seeds)
    comparison = _compare(folder, range(seeds), demo_config(budget, backbone, checkpoint), console)
    pack, examples = folder / "runs" / LPT / "seed0" / "pack", folder / "examples"
    write_examples(examples, splits.test)
    seconds = time.monotonic() - started
    write_json(folder / "demo.json", demo_facts(folder, comparison, record, budget, seconds))
    _print_costs(console, comparison)
    console.print(f"{seconds:.0f} seconds in all. Numbers of the demo: {folder / 'demo.json'}", markup=False)
    options = needed_options(record, name=backbone, checkpoint=checkpoint)
    console.print(f"Next: {shlex.join(['lpt', 'predict', str(pack), str(examples), *options])}", markup=False)
    return DemoResult(folder, comparison, pack, seconds)


def new_folder(wanted: Path) -> Path:
    """Make a folder of that name, or of the first free number after it: lpt-demo, lpt-demo-2, ...

    An empty folder that exists is taken too.

    Raises:
        RunError: the folder cannot be made.
    """
    try:
        wanted.parent.mkdir(parents=True, exist_ok=True)
        for number in range(1, 10_000):
            folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
            try:
                folder.mkdir()
            except FileExistsError:
                if folder.is_dir() and not any(folder.iterdir()):
                    return folder
                continue
            return folder
    except OSError as error:
        raise RunError(f"cannot make the folder {wanted}: {error.strerror}; choose another with --output") from None
    raise RunError(f"{wanted} and the numbers after it are all taken; choose another folder with --output")


def demo_facts(
    folder: Path, comparison: Comparison, record: BackboneRecord, budget: DemoBudget, seconds: float
) -> dict[str, Any]:
    """Return the content of demo.json.

    Args:
        folder: the demo's folder, with its comparison.json.
        comparison: every method on every seed.
        record: the backbone.
        budget: steps of each trained method.
        seconds: of the whole demo.
    """
    summary = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    cells = _cells_by_method(comparison)
    return {
        "summary": {
            row["title"]: {name: {key: row["metrics"][name][key] for key in ("mean", "std")} for name in ACCURACIES}
            for row in summary["methods"]
        },
        "rows": {comparison.title(method): list(map(_row, cells[method])) for method in METHODS},
        "data": {
            "train_counts": comparison.train_counts[0],
            "test_images": cells[LPT][0].metrics.images,
            "boundaries": comparison.groups.describe(),
        },
        "budget": {**asdict(budget), "image_draws": budget.image_draws},
        "settings": {"all": COMMON, LPT: LPT_SETTINGS, FINE_TUNING: FINE_TUNING_SETTINGS},
        "backbone": record.model_dump(),
        "seeds": len(cells[LPT]),
        "seconds": round(seconds, 1),
        "machine": inspect_machine().describe(),
        "versions": Versions.here().model_dump() | {"numpy": np.__version__},
        "command": comparison.facts["command"],
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }


def _cells_by_method(comparison: Comparison) -> dict[str, list[Cell]]:
    """Return the finished runs of each method, by seed."""
    cells = sorted(comparison.cells, key=lambda cell: cell.seed)
    return {method: [cell for cell in cells if cell.method == method] for method in METHODS}


def _row(cell: Cell) -> dict[str, Any]:
    """Return what demo.json says of one method on one seed."""
    return {
        "metrics": cell.metrics.to_dict(),
        "parameters": cell.cost.trained_parameters,
        "stored_bytes": cell.cost.stored_bytes,
        "image_draws": cell.cost.image_draws,
        "train_seconds": cell.cost.train_seconds,
        "run_folder": f"runs/{cell.method}/seed{cell.seed}",
        "seed": cell.seed,
    }


def _compare(folder: Path, seeds: Sequence[int], config: dict[str, Any], console: Console) -> Comparison:
    """Train and compare all methods."""
    try:
        return compare(
            digit_splits,
            folder,
            methods=METHODS,
            seeds=seeds,
            preset=PRESET,
            config=config,
            settings=FINE_TUNING_SETTINGS,
            console=console,
        )
    except Interrupted:
        raise Interrupted(f"stopped; what is finished lies in {folder}. Start the demo anew with: lpt demo") from None


def _introduce(console: Console, train_counts: list[int], test: LabelledImages, budget: DemoBudget, seeds: int) -> None:
    """Print what the demo is about to do."""
    counts = ", ".join(map(str, train_counts))
    lines = {
        "Demo": f"{sum(train_counts)} handwritten digits to learn from ({counts} of 0 to 9), {len(test):,} to test on",
        "Budget": f"{plural(seeds, 'seed')}, {budget.image_draws:,} image draws for each trained method; the probe is "
        "solved to convergence",
        "Pretraining": "rendered letters and symbols, no digit among them",
    }
    for name, text in lines.items():
        console.print(f"[bold]{name}[/bold]: {text}", highlight=False)


def _print_costs(console: Console, comparison: Comparison) -> None:
    """Print what the tables leave out: the stored sizes and the loss of the other methods."""
    sizes = [
        f"{comparison.title(method)}: {size_of(cells[0].cost.stored_bytes)}"
        for method, cells in _cells_by_method(comparison).items()
    ]
    console.print(f"Stored for the task: {'; '.join(sizes)}.")
    console.print("Probe and fine-tuning are trained with logit-adjusted cross-entropy (Menon et al., 2021).")
