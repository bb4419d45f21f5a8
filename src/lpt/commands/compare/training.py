"""Train the cells of a comparison that are missing, in this process or on the machines of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from lpt.commands.compare.plan import CellKey, Opener, Plan
from lpt.commands.compare.runs import CellRuns, SharedImages
from lpt.commands.compare.store import ComparisonFolder
from lpt.commands.fit.fit import fit_prepared, resume_prepared
from lpt.commands.fit.packaging import stored_metrics
from lpt.commands.fit.prepare import with_absolute_paths
from lpt.commands.jobs.executors import Ended, Executor, Failure, Job, check_shared, not_shared
from lpt.config.recipes import METHODS
from lpt.config.values import merge
from lpt.system.interrupt import Interrupted

CellWork = Callable[[CellKey, Console], Any]
"""Trains a cell, or goes on with it, on a console."""


def train_cells(
    plan: Plan, folder: ComparisonFolder, executor: Executor, work: CellWork, console: Console
) -> dict[CellKey, str]:
    """Train every cell that is not finished, and return those that failed with their reasons.

    Args:
        plan: the comparison.
        folder: where the cells are written.
        executor: where they are trained.
        work: trains one of them there.
        console: where to report.

    Raises:
        Interrupted: the user stopped; everything is saved.
    """
    cells = plan.cells
    keys = {folder.run(key).path: key for key in cells}

    def jobs() -> Iterator[Job]:
        for number, key in enumerate(cells, start=1):
            title, run = f"{number} of {len(cells)}: {METHODS[key.method].title}, seed {key.seed}", folder.run(key)
            if run.finished:
                console.print(f"{title}: done before", style="dim", markup=False)
            else:
                if not executor.elsewhere:
                    console.print(title, style="bold", markup=False)
                yield Job(title, run.path, partial(work, key))

    failures: dict[CellKey, str] = {}
    try:
        for ended in executor.run(jobs(), console):
            key = keys[ended.job.folder]
            reason = _report(ended, folder, key, several=executor.slots > 1, console=console)
            if reason is not None:
                failures[key] = reason
    except Interrupted as stopped:
        raise Interrupted(f"{stopped}; everything is saved in {folder.path}\nGo on with the same command.") from None
    return failures


def train_cell(runs: CellRuns, folder: ComparisonFolder, config: Path | None, key: CellKey, console: Console) -> None:
    """Train a cell, or go on with it.

    Args:
        runs: prepares it.
        folder: where it is written.
        config: the file of the configuration, if there is one.
        key: its method and seed.
        console: where to report.
    """
    prepared, run = runs.prepare(key), folder.run(key)
    if run.begun:
        run.write_config(with_absolute_paths(prepared.config, prepared.splits))  # the machine may have changed
        resume_prepared(prepared, run, console)
    else:
        fit_prepared(prepared, run.path, overwrite=True, console=console, config=config)


@dataclass(frozen=True)
class Order:
    """All that a process on another machine needs to train a cell.

    Args:
        plan: the comparison; places of files are absolute, and device and precision are those of the whole.
        opener: opens the splits of a seed; None: they are opened as the plan's values say.
        share: the part of the preset's steps that is trained; None: all.
        folder: of the comparison, on a disk that all machines share.
        config: the file of the configuration, if there is one.
        cores: CPU cores of a cell.
    """

    plan: Plan
    opener: Opener | None
    share: float | None
    folder: Path
    config: Path | None
    cores: int

    @classmethod
    def of(
        cls, runs: CellRuns, opener: Opener | None, folder: ComparisonFolder, config: Path | None, cores: int
    ) -> Order:
        """Return the order for the cells of a comparison that was checked here."""
        reference = runs.reference
        machine = reference.config.runtime
        there = with_absolute_paths(reference.config, reference.splits).model_dump(mode="json")
        places = {
            section: {name: there[section][name] for name in names if there[section][name] is not None}
            for section, names in (
                ("data", ("source", "test", "validation", "image_root")),
                ("backbone", ("checkpoint",)),
            )
        }
        same = {"runtime": {"device": str(machine.device), "precision": str(machine.precision)}}
        plan = replace(runs.plan, values=merge(merge(runs.plan.values, places), same))
        return cls(plan, opener, runs.share, folder.path.absolute(), config and config.absolute(), cores)


def train_elsewhere(order: Order, key: CellKey, console: Console) -> None:
    """Train a cell on the machine of this process; a new one gets the cores that were asked for it.

    Raises:
        RunError: the folder of the comparison is not there.
    """
    folder = ComparisonFolder(order.folder)
    check_shared(folder.plan)
    run, plan = folder.run(key), order.plan
    kept = {key: run} if run.begun else {}
    if not kept and plan.values.get("runtime", {}).get("threads", "auto") == "auto":
        plan = replace(plan, values=merge(plan.values, {"runtime": {"threads": order.cores}}))
    images = SharedImages(plan, order.opener, kept, console, read_images=False)  # the first machine has read them all
    train_cell(CellRuns(plan, images, kept, order.share), folder, order.config, key, console)


def _report(ended: Ended, folder: ComparisonFolder, key: CellKey, *, several: bool, console: Console) -> str | None:
    """Print how a cell ended; return the reason if it failed."""
    failure, run = ended.failure, folder.run(key)
    start = f"{ended.job.title}: " if several else "  "
    if failure is None and not run.finished:
        failure = Failure.of(not_shared(run.path))
    if failure is not None:
        reason = failure.reason(partial(folder.write_error, key))
        console.print(f"{start}failed: {reason}", style="red", markup=False)
        return reason
    folder.remove_error(key)
    metrics = stored_metrics(run)["test"]
    few = "–" if metrics.few is None else f"{100 * metrics.few:.1f}"
    console.print(f"{start}overall {100 * metrics.overall:.1f}, few-shot {few}", highlight=False, markup=False)
    return None
