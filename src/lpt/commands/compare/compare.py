"""`lpt compare`: train and measure several methods on the same data, with the same draws, in one table.

A cell is one method on one seed, an ordinary run folder. Finished cells are kept; an interrupted one is gone on with.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from lpt.commands.compare.budget import share_of_steps
from lpt.commands.compare.cells import collect_cells
from lpt.commands.compare.checks import check_same_request, check_same_settings, check_same_weights
from lpt.commands.compare.estimate import MethodEstimate, print_estimate, try_methods
from lpt.commands.compare.plan import (
    DEFAULT_METHODS,
    HOLDOUT,
    CellKey,
    ComparisonRequest,
    Opener,
    StoredPlan,
    continued,
    plan_of,
)
from lpt.commands.compare.runs import CellRuns, SharedImages
from lpt.commands.compare.store import ComparisonFolder
from lpt.commands.compare.training import CellWork, Order, train_cell, train_cells, train_elsewhere
from lpt.commands.fit.disk import check_prefix_cache, disk_needed
from lpt.commands.fit.estimate import Estimate
from lpt.commands.fit.prepare import describe, warn_of_data
from lpt.commands.inputs import config_file, inputs_of
from lpt.commands.jobs.choice import choose_executor, cluster
from lpt.commands.jobs.executors import Executor
from lpt.commands.report.report import report_at_the_end
from lpt.config.lint import doubled_balance, unused_settings
from lpt.config.schema import RunConfig
from lpt.config.values import Settings
from lpt.data.manifest import Splits
from lpt.errors import ConfigError, LptError, RunError
from lpt.evaluation.comparison import Comparison
from lpt.report.bars import warner
from lpt.report.comparison import print_comparison, write_comparison
from lpt.system.processes import several_started
from lpt.system.readers import refuse_second_start
from lpt.system.text import plural


def compare(
    data: str | Path | Opener | None = None,
    output: str | Path | None = None,
    *,
    methods: Sequence[str] = DEFAULT_METHODS,
    seeds: Sequence[int] = (0,),
    budget: float | None = None,
    holdout: float = HOLDOUT,
    preset: str | None = None,
    config: str | Path | Mapping[str, Any] | None = None,
    settings: Settings = (),
    overwrite: bool = False,
    ray: bool = False,
    console: Console | None = None,
) -> Comparison:
    """Train and measure several methods on the same data, with as many image draws each, and compare them with LPT.

    Args:
        data: the source of the images, as for `lpt.fit`; or a function that opens the splits of a seed.
        output: the folder of the comparison; a comparison that is in it is gone on with. None: `comparison`.
        methods: names of `lpt.config.recipes.METHODS`.
        seeds: each method is trained once for each.
        budget: minutes for the whole comparison. A few real steps of each method are timed, and the steps of all are
            cut so that it fits. None: all steps of the preset.
        holdout: share of each class to test on, where the data has no test images.
        preset, config: as for `lpt.fit`. They describe LPT, and what the other methods share with it.
        settings: `section.field=value` likewise, or `METHOD:section.field=value` for one method alone; or a mapping.
        overwrite: remove the comparison that is in `output`, with all its runs; other files stay.
        ray: train the cells on the machines of the Ray cluster that RAY_ADDRESS names, else on one on this machine.
        console: where to report; None: silent.

    Raises:
        ConfigError, DataError: something must be corrected before anything is trained.
        RunError: the folder holds something else, or a cell failed; then the others are finished and in the table.
    """
    request = ComparisonRequest(
        data=data,
        output=Path(output or "comparison"),
        methods=methods,
        seeds=seeds,
        budget=budget,
        holdout=holdout,
        preset=preset,
        config=config,
        settings=settings,
        overwrite=overwrite,
        ray=ray,
    )
    return run_comparison(request, console or Console(quiet=True))


def run_comparison(request: ComparisonRequest, console: Console) -> Comparison:
    """Do what `compare` does for a request.

    Raises:
        ConfigError, DataError, RunError: as `compare`.
    """
    _check_alone()
    folder = ComparisonFolder(request.output)
    with folder.locked(warner(console)), cluster(request.ray, console):
        return _run_locked(request, folder, console)


def _check_alone() -> None:
    """Raise `ConfigError` if the command was started as one of several processes."""
    if several_started():
        raise ConfigError("lpt compare runs in one process; start it without torchrun or accelerate launch")
    refuse_second_start("lpt.compare")


def _run_locked(request: ComparisonRequest, folder: ComparisonFolder, console: Console) -> Comparison:
    """Train what is missing, write and print the comparison."""
    runs, stored, executor = _begin(request, folder, console)
    failures = train_cells(runs.plan, folder, executor, _work(request, runs, folder, executor), console)
    comparison = collect_cells(folder, runs.plan.cells, failures, runs.reference, stored.method_values, console)
    summary = write_comparison(folder.path, comparison)
    print_comparison(comparison, console, summary=summary)
    console.print(f"Tables, plots and the run of every cell: {folder.path}", markup=False)
    if comparison.cells:
        _draw_report(runs, folder, console)
    if failures:
        lines = "\n".join(f"  {key.method}, seed {key.seed}: {reason}" for key, reason in failures.items())
        raise RunError(f"{plural(len(failures), 'cell')} failed, the others are in {folder.path}:\n{lines}")
    return comparison


def _executor(request: ComparisonRequest, runs: CellRuns, console: Console) -> Executor:
    """Return what trains the cells."""
    threads, device = runs.plan.values.get("runtime", {}).get("threads"), runs.reference.config.runtime.device
    return choose_executor(request.ray, device=str(device), threads=threads, console=console)


def _work(request: ComparisonRequest, runs: CellRuns, folder: ComparisonFolder, executor: Executor) -> CellWork:
    """Return what an executor does for a cell."""
    config = config_file(request.config)
    if not request.ray:
        return partial(train_cell, runs, folder, config)
    return partial(train_elsewhere, Order.of(runs, request.opener, folder, config, executor.cores))


def _draw_report(runs: CellRuns, folder: ComparisonFolder, console: Console) -> None:
    """Draw the report, with pictures of the images of the first seed."""
    splits = runs.reference.splits
    images = [split for split in (splits.test, splits.validation, splits.train) if split is not None]
    report_at_the_end(folder.path, images, console)


def estimate_comparison(request: ComparisonRequest, console: Console) -> list[MethodEstimate]:
    """Check what a request asks for, and tell what the runs take that are not finished. Nothing is written.

    Raises:
        ConfigError, DataError, RunError: what would stop that comparison at its start.
    """
    _check_alone()
    if request.ray:
        raise ConfigError("--dry-run times this machine alone; leave out --ray")
    folder, started = ComparisonFolder(request.output), time.monotonic()
    with folder.locked(warner(console)):
        runs, _ = _checked(request, folder, console)
        estimates, share = try_methods(runs, console), None
        if request.budget is not None:
            share = _share_within(request.budget, runs, estimates, started, slots=1, console=console)
        return print_estimate(estimates, 1.0 if share is None else share, runs, folder, console)


def _begin(
    request: ComparisonRequest, folder: ComparisonFolder, console: Console
) -> tuple[CellRuns, StoredPlan, Executor]:
    """Check everything, and write the plan that later commands go on with."""
    started = time.monotonic()
    runs, stored = _checked(request, folder, console)
    runtime = runs.reference.config.runtime
    executor = _executor(request, runs, console)
    if request.budget is not None:
        estimates = {} if runs.share is not None else try_methods(runs, console)
        share = _share_within(request.budget, runs, estimates, started, slots=executor.slots, console=console)
        runs = runs if share is None else replace(runs, share=share)
    if request.overwrite:
        _clear(folder, request, runs.plan.values, runs.reference.splits, console)
    machine = {"device": str(runtime.device), "precision": str(runtime.precision)}
    stored = replace(stored, machine=machine, share=runs.share)
    folder.write_plan(stored)
    return runs, stored, executor


def _checked(request: ComparisonRequest, folder: ComparisonFolder, console: Console) -> tuple[CellRuns, StoredPlan]:
    """Return the runs that a request asks for and what plan.json is to keep of them, all checked."""
    plan, config = plan_of(request), config_file(request.config)
    if request.overwrite:
        folder.check_removable(lambda: inputs_of(plan.values, config))  # before anything that takes long
    before = None if request.overwrite else folder.stored_plan()
    stored = StoredPlan(plan.values, plan.holdout, request.budget, plan.method_values, machine={}, share=None)
    if before is not None:
        removable = not folder.why_kept(lambda: inputs_of(plan.values, config))
        check_same_request(before, stored, folder=folder.path, removable=removable)
        others = {name: values for name, values in before.method_values.items() if name not in plan.methods}
        stored = replace(stored, method_values={**others, **plan.method_values}, share=before.share)
        plan = continued(plan, before)
    kept = {} if request.overwrite else {key: folder.run(key) for key in folder.begun()}
    runs = CellRuns(plan, SharedImages(plan, request.opener, kept, console), kept, stored.share)
    describe(runs.reference, console)
    warn_of_data(runs.reference, console)
    _check_methods(runs, console)
    _check_kept(runs)
    return runs, stored


def _check_methods(runs: CellRuns, console: Console) -> None:
    """Check the settings of every method, and warn of those that do nothing.

    Raises:
        LptError: something is wrong with a method's settings; the message begins with its name.
    """
    for method in runs.plan.methods:
        try:
            prepared = runs.prepare(CellKey(method, runs.plan.seeds[0]))
            disk_needed(prepared)  # builds the model, without memory
            check_prefix_cache(prepared, Console(quiet=True))
        except LptError as error:
            raise type(error)(f"{method}: {error}") from None
        for line in _warnings(runs, method, prepared.config):
            console.print(f"  {method}: {line}", style="yellow", markup=False)


def _warnings(runs: CellRuns, method: str, config: RunConfig) -> list[str]:
    """Name the settings of a single method that do nothing, or the same thing twice."""
    values = runs.plan.method_values.get(method)
    if values is None:
        return []
    base = runs.config(method, with_method_values=False)
    return [*unused_settings(values, base, config), *doubled_balance(config)]


def _check_kept(runs: CellRuns) -> None:
    """Check that the runs of earlier commands have the weights, settings and images of now.

    Runs of every seed count, also of seeds that this command does not name: a row of the table has one setting.

    Raises:
        RunError: a run differs.
    """
    weights = runs.reference.backbone.record
    for key, run in runs.kept.items():
        check_same_weights(run, weights)
        if key.method in runs.plan.methods:
            check_same_settings(run, runs.wanted(key.method))
    for seed in sorted({key.seed for key in runs.kept} - {runs.plan.seeds[0]}):
        runs.images.splits(seed)  # checks the images of its runs


def _share_within(
    minutes: float,
    runs: CellRuns,
    estimates: Mapping[str, Estimate],
    started: float,
    *,
    slots: int,
    console: Console,
) -> float | None:
    """Return the part of the preset's steps that fits; None where it is that of an earlier command, or nothing steps.

    Args:
        minutes: for the whole comparison.
        runs: of the comparison.
        estimates: of a run of each method.
        started: when the command began, of the monotonic clock.
        slots: how many runs are trained at a time.
        console: where to report.
    """
    if runs.share is not None:
        console.print(
            f"[bold]Budget[/bold]: {100 * runs.share:.0f} % of the preset's steps, as this comparison was begun; "
            "the minutes are not counted anew"
        )
        return None
    return share_of_steps(
        [MethodEstimate.of(method, 1, estimate) for method, estimate in estimates.items()],
        seeds=len(runs.plan.seeds),
        epoch_steps=int(runs.reference.config.train.epoch_steps),
        seconds=60 * minutes,
        spent=time.monotonic() - started,
        slots=slots,
        console=console,
    )


def _clear(
    folder: ComparisonFolder, request: ComparisonRequest, values: dict[str, Any], splits: Splits, console: Console
) -> None:
    """Remove the comparison that is in the folder, unless the images that were opened lie in it.

    Raises:
        RunError: it may not be removed, or cannot.
    """
    folder.check_removable(lambda: inputs_of(values, config_file(request.config), splits))
    if message := folder.clear():
        console.print(message, style="yellow", markup=False)
