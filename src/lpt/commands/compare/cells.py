"""Read the finished runs of a comparison back as cells, and gather them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console

from lpt.commands.compare.inference_cost import InferenceCost, kept_inference_cost
from lpt.commands.compare.plan import REFERENCE, CellKey
from lpt.commands.compare.store import ComparisonFolder
from lpt.commands.fit.prepare import Prepared
from lpt.commands.report.kept import read_run
from lpt.config.recipes import METHODS
from lpt.config.values import leaves, section
from lpt.data.manifest import IntArray
from lpt.errors import LptError, RunError
from lpt.evaluation.comparison import Cell, Comparison, Cost
from lpt.system.invocation import typed_command
from lpt.training.folder import RunFolder


class FinishedCell(NamedTuple):
    """A finished run: the cell, images of each class before anything was held out [C], metrics.json and precision."""

    cell: Cell
    counts: IntArray
    facts: dict[str, Any]


def collect_cells(
    folder: ComparisonFolder,
    keys: Sequence[CellKey],
    failures: Mapping[CellKey, str],
    base: Prepared,
    method_values: Mapping[str, Mapping[str, Any]],
    console: Console,
) -> Comparison:
    """Gather the finished cells of a comparison, those of earlier commands too.

    Args:
        folder: the comparison.
        keys: the cells of this command, at least one.
        failures: those of them that failed, each with the reason.
        base: LPT's run of the first seed, for data and backbone.
        method_values: settings of single methods, by name.
        console: where to report.
    """
    every = {*keys, *folder.begun()}
    methods = [name for name in METHODS if any(name == key.method for key in every)]
    seeds = sorted({key.seed for key in every})
    inference = {method: _inference(folder, method, seeds, base, console) for method in methods}
    finished = list[FinishedCell]()
    missing = {(key.method, key.seed): reason for key, reason in failures.items()}
    for key in (CellKey(method, seed) for seed in seeds for method in methods):
        run = folder.run(key)
        if run.finished:
            finished.append(read_cell(run, key, inference[key.method]))
        elif key not in failures:
            missing[key] = "begun before" if run.begun else "not asked for"
    counts = {item.cell.seed: item.counts for item in finished}
    trained = {item.cell.seed: item.facts["train_images"] for item in finished}
    return Comparison(
        cells=[item.cell for item in finished],
        methods=methods,
        titles={name: METHODS[name].title for name in methods},
        train_counts=counts or {keys[0].seed: base.splits.counts_before_cut},
        train_images=trained or {keys[0].seed: len(base.splits.train)},
        class_names=base.splits.class_names,
        groups=base.groups,
        reference=REFERENCE,
        missing=missing,
        facts=_facts(base, method_values, [item.facts for item in finished]),
    )


def read_cell(run: RunFolder, key: CellKey, inference: InferenceCost | None) -> FinishedCell:
    """Read a finished run.

    Args:
        run: its folder.
        key: its method and seed.
        inference: what an image costs the method; None: not measured.

    Raises:
        RunError, PackError, ConfigError: a file of it is damaged.
    """
    kept = read_run(run.path)
    predictions, metrics = kept.predictions, kept.metrics
    if predictions is None or metrics is None or kept.split != "test":
        raise RunError(
            f"{run.metrics} has no test images, so it is of no comparison. Remove {run.path}: it is trained again."
        )
    facts = {**kept.results, "precision": section(kept.config, "runtime").get("precision")}
    cost = Cost(
        trained_parameters=facts["trainable_parameters"],
        stored_bytes=facts["pack_bytes"],
        train_seconds=facts["train_seconds"],
        peak_memory_bytes=facts["peak_memory_bytes"],
        image_draws=facts["image_draws"],
        inference_ratio=None if inference is None else inference.ratio,
        inference_ms=None if inference is None else inference.milliseconds,
    )
    cell = Cell(
        method=key.method,
        seed=key.seed,
        metrics=metrics,
        images=tuple(os.path.basename(image) for image in predictions.images),  # noqa: PTH119
        labels=predictions.labels,
        predicted=predictions.predicted,
        cost=cost,
    )
    return FinishedCell(cell, kept.counts, facts)


def _inference(
    folder: ComparisonFolder, method: str, seeds: Sequence[int], base: Prepared, console: Console
) -> InferenceCost | None:
    """Measure what an image costs a method; None where it cannot be measured, which the console says."""
    runs = [folder.run(CellKey(method, seed)) for seed in seeds]
    packs = [run.pack for run in runs if run.finished]
    config = base.config
    try:
        with console.status(f"measuring inference: {METHODS[method].title}"):
            return kept_inference_cost(folder.inference, method, packs, config.backbone, config.runtime)
    except LptError as error:
        message = f"  the inference time of {METHODS[method].title} is left out: {error}"
        console.print(message, style="yellow", markup=False)
        return None


def _facts(
    base: Prepared, method_values: Mapping[str, Mapping[str, Any]], cells: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return how a comparison was made, as its tables show it.

    Args:
        base: LPT's run, for data and backbone.
        method_values: settings of single methods, by name.
        cells: facts of each finished cell, for draws, machine, precision, versions and dates.
    """
    record, config = base.backbone.record, base.config
    height, width = base.preprocessing.size
    draws = sorted({f"{facts['image_draws']:,}" for facts in cells if facts["image_draws"]})
    single = [f"{method}: {path}={value}" for method, values in method_values.items() for path, value in leaves(values)]

    def distinct(show: Callable[[Mapping[str, Any]], str]) -> str:
        return "; ".join(dict.fromkeys(show(facts) for facts in cells))

    return {
        "command": typed_command(),
        "data": str(config.data.source or "given in Python"),
        **({"notes": " ".join(base.splits.notes)} if base.splits.notes else {}),
        "backbone": f"{record.name} at {height}x{width}",
        "preset": config.preset,
        **({"settings of single methods": "; ".join(single)} if single else {}),
        **({"image_draws": " and ".join(draws)} if draws else {}),  # probes and class means draw none
        "machine": distinct(
            lambda facts: re.sub(r", [\d.]+ GiB free", "", facts["machine"]) + f", {facts['precision']}"
        ),
        "versions": distinct(
            lambda facts: ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
        ),
        "date": distinct(lambda facts: facts["date"]),
    }
