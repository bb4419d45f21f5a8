"""Gather what the report of a comparison shows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lpt.commands.report.facts import (
    COST_COLUMNS,
    INFERENCE_COLUMN,
    comparison_facts,
    cost_texts,
    data_title,
    inference_text,
    record_of,
    trained_facts,
    written_line,
)
from lpt.commands.report.kept import KeptRun, read_run
from lpt.commands.report.parts import PROBE, calibration_of, classes_of, curves_of, probe_of
from lpt.commands.report.request import Sight
from lpt.data.manifest import FloatArray
from lpt.errors import RunError
from lpt.evaluation.intervals import SeedResult, accuracy_intervals
from lpt.evaluation.metrics import class_accuracies
from lpt.evaluation.paired import Difference
from lpt.report.html.content import Absent, Content, MethodRow, Probe
from lpt.system.text import plural
from lpt.training.folder import RunFolder

Runs = Mapping[str, Mapping[int, KeptRun]]
"""The finished runs of a comparison, by method and seed."""


def read_runs(folder: Path, summary: Mapping[str, Any]) -> Runs:
    """Read the finished runs that a summary is of; a later command may have added others since.

    Raises:
        RunError, PackError, ConfigError: a run cannot be read.
    """
    runs = dict[str, dict[int, KeptRun]]()
    for row in summary["methods"]:
        method = str(row["method"])
        paths = {int(seed): folder / "runs" / method / f"seed{int(seed)}" for seed in row["seeds"]}
        kept = {seed: read_run(path) for seed, path in paths.items() if RunFolder(path).finished}
        if kept := {seed: run for seed, run in kept.items() if run.predictions is not None}:
            runs[method] = kept
    if not runs:
        raise RunError(f"the runs of the comparison are not in {folder / 'runs'}: a report is drawn from them")
    return runs


def shown_run(summary: Mapping[str, Any], runs: Runs) -> tuple[str, KeptRun]:
    """Return the method that the report is about, the reference if it is finished, and its run of the first seed."""
    method = summary["reference"] if summary["reference"] in runs else list(runs)[-1]
    return method, runs[method][min(runs[method])]


def comparison_content(sight: Sight, summary: Mapping[str, Any], runs: Runs) -> Content:
    """Return what the report of a comparison shows.

    Args:
        sight: the run of the method that the report is about, of the first seed.
        summary: the content of comparison.json.
        runs: the finished runs.

    Raises:
        RunError: a file of a run is damaged.
    """
    run = sight.run
    method, _ = shown_run(summary, runs)
    titles = {row["method"]: str(row["title"]) for row in summary["methods"]}
    seeds = sorted(runs[method])
    facts = comparison_facts(summary.get("facts", {}))
    finished = [row for row in summary["methods"] if row["method"] in runs]
    rows = [_row(row, runs[row["method"]], summary, method) for row in finished]
    return Content(
        title=data_title(run),
        subtitle=f"{plural(len(runs), 'method')} on the same images, {_seeds(summary)}",
        split=run.split,
        images=0 if run.predictions is None else len(run.predictions.labels),
        trained=trained_facts(run),
        classes=classes_of(run, _mean_accuracies(list(runs[method].values()))),
        methods=rows,
        shown=titles.get(method, method),
        of_shown=f" Shown: seed {run.seed}." if len(seeds) > 1 else "",
        probe=_probe(runs, method),
        pairs=sight.pairs(""),
        sharing=sight.sharing(),
        queries=sight.queries(),
        calibration=calibration_of(run),
        cost_columns=(*COST_COLUMNS, INFERENCE_COLUMN),
        curves=curves_of(run),
        record=[*facts, *((name, value) for name, value in record_of(run) if name not in dict(facts))],
        written=written_line(),
    )  # fmt: skip


def _row(row: Mapping[str, Any], runs: Mapping[int, KeptRun], summary: Mapping[str, Any], shown: str) -> MethodRow:
    """Return a method's row: intervals over its seeds, and what the method shown has more."""
    results = [result for run in runs.values() if (result := run.seed_result()) is not None]
    groups = next(iter(runs.values())).info.shot_groups
    costs = {name: spread["mean"] for name, spread in row["cost"].items()}
    per_image = inference_text(costs.get("inference_ms"), costs.get("inference_ratio"))
    return MethodRow(
        name=row["method"],
        title=str(row["title"]),
        seeds=sorted(runs),
        accuracies=accuracy_intervals([_without_folders(result) for result in results], groups),
        less=_less(summary, row["method"], shown),
        cost=[*cost_texts(costs), per_image],
        shown=row["method"] == shown,
    )


def _without_folders(result: SeedResult) -> SeedResult:
    """Return a result whose images have names without folders, as in the comparison: seeds then share them."""
    return result._replace(images=[re.split(r"[/\\]", name)[-1] for name in result.images])


def _less(summary: Mapping[str, Any], method: str, shown: str) -> dict[str, Difference]:
    """Return what the method shown has more than another one, as comparison.json has it for the reference."""
    for row in summary["differences"]:
        if row["method"] == method and row["reference"] == shown:
            measures: Mapping[str, Mapping[str, Any]] = row["measures"]
            return {
                name: Difference(v["mean"], v["low"], v["high"], v["seed_std"], tuple(v["by_seed"]))
                for name, v in measures.items()
            }
    return {}


def _probe(runs: Runs, method: str) -> Probe | Absent:
    if PROBE not in runs or method == PROBE:
        return Absent(
            f"The comparison has no finished {PROBE}. Next: give its command again with --methods {PROBE},{method}."
        )
    seeds = sorted(set(runs[method]) & set(runs[PROBE]))
    if not seeds:
        return Absent(f"{method} and {PROBE} have no seed in common: train both with the same --seeds.")
    return probe_of(*([_accuracies(runs[name][seed]) for seed in seeds] for name in (method, PROBE)))


def _accuracies(run: KeptRun) -> FloatArray:
    assert run.predictions is not None
    return class_accuracies(run.predictions.labels, run.predictions.predicted, len(run.counts))


def _mean_accuracies(runs: Sequence[KeptRun]) -> FloatArray:
    """Return the accuracy of each class as a mean over the seeds that tested it, [C]; NaN where none did."""
    table = np.stack([_accuracies(run) for run in runs])
    known = np.isfinite(table)
    total = np.where(known, table, 0).sum(axis=0)
    return np.divide(total, known.sum(axis=0), out=np.full(len(total), np.nan), where=known.any(axis=0))


def _seeds(summary: Mapping[str, Any]) -> str:
    seeds = summary["seeds"]
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"
