"""`lpt tune`: search the settings of a method on held-out training images, then train with the best.

Trials, and the choice among them, never see the test images. Everything is kept in one folder: a stopped or killed
search goes on with the same command, the trial that was running too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from lpt.commands.fit.disk import check_prefix_cache
from lpt.commands.fit.estimate import estimate_run
from lpt.commands.fit.prepare import Prepared, describe, prepare, warn_of_data, with_absolute_paths
from lpt.commands.fit.request import Config, Data
from lpt.commands.inputs import config_file, inputs_of
from lpt.commands.jobs.choice import choose_executor, cluster
from lpt.commands.jobs.executors import Executor
from lpt.commands.report.report import report_at_the_end
from lpt.commands.report.tune import read_tuning
from lpt.commands.tune.budget import Budget, epochs_of
from lpt.commands.tune.clock import Clock
from lpt.commands.tune.finish import finish
from lpt.commands.tune.request import BUDGET, TuneRequest
from lpt.commands.tune.search import Search, run_trials
from lpt.commands.tune.setup import Setup, has_validation
from lpt.commands.tune.space import search_space
from lpt.commands.tune.splits import unmeasured, wanted_splits
from lpt.commands.tune.store import StoredPlan, TuneFolder
from lpt.commands.tune.study import Study
from lpt.commands.tune.works import WorksElsewhere, WorksHere
from lpt.config.machine import of_the_machine, settings_sha256
from lpt.config.values import Settings, leaves, merge, nested, section
from lpt.data.fingerprint import data_fingerprint
from lpt.errors import ConfigError, DataError, RunError
from lpt.evaluation.tuning import TuneResult
from lpt.report.bars import warner
from lpt.report.tune import print_tuning, write_tuning
from lpt.system.interrupt import Interrupted
from lpt.system.processes import several_started
from lpt.system.readers import refuse_second_start
from lpt.system.text import duration, plural, shorten


def tune(
    data: Data | None = None,
    output: str | Path | None = None,
    *,
    budget: float = BUDGET,
    method: str | None = None,
    search: str = "all",
    trials: int | None = None,
    splits: int | None = None,
    preset: str | None = None,
    config: Config | None = None,
    settings: Settings = (),
    overwrite: bool = False,
    ray: bool = False,
    console: Console | None = None,
) -> TuneResult:
    """Search the settings of a method on held-out training images, then train with the best on all of them.

    Args:
        data: as for `lpt.fit`.
        output: the folder of the search; one that is there is gone on with. None: `tuned`.
        budget: minutes for everything: trials, and the final training of the chosen settings and of the preset.
        method, preset, config: as for `lpt.fit`.
        search: `all`; or `phase2`: only the second phase of LPT, over one first phase that all trials share.
        trials: most trials. None: as many as fit.
        splits: validation splits of each trial. None: as many as the rare classes need and the budget holds.
        settings: as for `lpt.fit`; fields that are given here are not searched.
        overwrite: remove the search that is in `output`; other files stay.
        ray: train trials and final runs, several at a time, on the machines of the Ray cluster that RAY_ADDRESS names,
            else on one on this machine.
        console: where to report. None: silent.

    Raises:
        ConfigError, DataError: something must be corrected first.
        RunError: the folder holds something else, or the preset failed.
    """
    request = TuneRequest(
        data=data,
        output=Path(output or "tuned"),
        budget=budget,
        search=search,
        trials=trials,
        splits=splits,
        preset=preset,
        method=method,
        config=config,
        settings=settings,
        overwrite=overwrite,
        ray=ray,
    )
    return run_tuning(request, console or Console(quiet=True))


def run_tuning(request: TuneRequest, console: Console) -> TuneResult:
    """Do what `tune` does for a request; errors as there."""
    if several_started():
        raise ConfigError("lpt tune runs in one process; start it without torchrun or accelerate launch")
    refuse_second_start("lpt.tune")
    request.check()
    folder = TuneFolder(request.output)
    with folder.locked(warner(console)):
        return _run_locked(request, folder, console)


def _run_locked(request: TuneRequest, folder: TuneFolder, console: Console) -> TuneResult:
    values = request.values()
    before = None if request.overwrite else folder.stored_plan()
    if before is not None:
        _check_same(before, request, values, folder)
        if before.chosen is not None and folder.summary.is_file() and folder.run.finished:
            finished = read_tuning(folder.path)
            print_tuning(finished, console)
            console.print("This search was finished before. For a longer one choose another folder with --output.")
            return finished
    with cluster(request.ray, console):
        search = _begin(request, values, before, folder, console)
        try:
            if search.setup.plan.chosen is None:
                run_trials(search)
            result = finish(search, request.budget)
        except KeyboardInterrupt:  # between two trainings
            raise Interrupted(f"stopped; everything is saved in {folder.path}\nGo on with the same command.") from None
    write_tuning(folder.path, result)
    print_tuning(result, console)
    base = search.setup.base
    parts = (base.splits.test, base.splits.validation, base.train)
    report_at_the_end(folder.path, [images for images in parts if images is not None], console)
    return result


def _begin(
    request: TuneRequest, values: dict[str, Any], before: StoredPlan | None, folder: TuneFolder, console: Console
) -> Search:
    """Check everything, and write the plan that later commands go on with."""
    config = config_file(request.config)
    if request.overwrite:
        folder.check_removable(lambda: inputs_of(values, config))  # before anything that takes long
    clock = Clock(folder.clock, goes_on=before is not None)
    base = prepare(request.run, console=console)
    describe(base, console)
    warn_of_data(base, console)
    check_prefix_cache(base, console)
    plan = before or _new_plan(request, values, base)
    if before is not None:
        plan = replace(plan, config=merge(plan.config, _machine_values(values, base)))
        if plan.data_sha256 != data_fingerprint(base.splits.train):
            raise RunError(
                f"the training images are not those that the search in {folder.path} was begun on. Put them back as "
                "they were, or begin anew with --overwrite or another --output."
            )
    plan, executor = _placed(request, plan, values if before is None else None, console)
    setup = Setup(folder, plan, base)
    budget = _budget(request, setup, executor)
    if before is None:
        setup = _with_splits(setup, budget, request.splits, clock, console)
        if message := _cleared(folder, request, values, base):
            console.print(message, style="yellow", markup=False)
        folder.write_plan(setup.plan)
        clock.keep()
    study = Study(folder.journal, setup.plan.ranges, setup.seed)
    works = WorksElsewhere.of(setup, values) if executor.elsewhere else WorksHere(setup, clock)
    search = Search(setup, study, budget, clock, executor, works, console)
    _describe_search(search)
    return search


def _placed(
    request: TuneRequest, plan: StoredPlan, new_values: Mapping[str, Any] | None, console: Console
) -> tuple[StoredPlan, Executor]:
    """Return what trains, and the plan with the threads that each run has there.

    Args:
        request: what is asked for.
        plan: the plan.
        new_values: the user's values for a new search; None: the search was begun before, and its threads stay.
        console: where to describe the cluster.
    """
    runtime = plan.config["runtime"]
    threads = runtime["threads"] if new_values is None else section(new_values, "runtime").get("threads")
    executor = choose_executor(request.ray, device=runtime["device"], threads=threads, console=console)
    if not executor.elsewhere:
        return plan, executor
    return replace(plan, config=merge(plan.config, {"runtime": {"threads": executor.cores}})), executor


def _budget(request: TuneRequest, setup: Setup, executor: Executor) -> Budget:
    test, train = setup.base.splits.test, setup.plan.config["train"]
    finals = 2 if test is not None and len(test) else 1
    ratio = epochs_of(train, "all") / epochs_of(train, setup.plan.search)
    return Budget(60 * request.budget, finals, request.trials, ratio, executor.slots)


def _new_plan(request: TuneRequest, values: dict[str, Any], base: Prepared) -> StoredPlan:
    resolved = with_absolute_paths(base.config, base.splits)
    return StoredPlan(
        request=settings_sha256(values),
        config=resolved.model_dump(mode="json"),
        search=request.search,
        ranges=search_space(base.config, request.search, request.fixed),
        splits=1,
        data_sha256=data_fingerprint(base.splits.train),
    )


def _with_splits(setup: Setup, budget: Budget, given: int | None, clock: Clock, console: Console) -> Setup:
    """Choose the number of splits, by timing a few real steps.

    Raises:
        DataError: no class has two images, so nothing can be held out.
        ConfigError: the budget does not hold two trials, or several splits are asked for where none is cut.
    """
    counts = setup.base.train.class_counts
    if has_validation(setup.base):
        if given not in (None, 1):
            raise ConfigError(
                f"--splits {given}: the data has validation images, which are used in place of splits. Leave --splits "
                "out, or the validation images"
            )
        wanted = 1
    elif (counts > 1).any():
        wanted = wanted_splits(counts)
    else:
        raise DataError("every class has a single training image: none can be held out to choose settings by")
    with console.status("trying a few steps"):
        seconds = estimate_run(setup.prepared({}, 0)).seconds
    split_seconds = seconds / budget.final_ratio
    used = clock.seconds + seconds - split_seconds
    splits = budget.splits(given or wanted, used, split_seconds)
    return replace(setup, plan=replace(setup.plan, splits=given or splits))  # fewer trials, where that is asked for


def _cleared(folder: TuneFolder, request: TuneRequest, values: dict[str, Any], base: Prepared) -> str:
    """Remove the search that is in the folder, or what is left of one, unless the images that were opened lie in it.

    Raises:
        RunError: it may not be removed, or cannot.
    """
    folder.check_removable(lambda: inputs_of(values, config_file(request.config), base.splits))
    return folder.clear()


def _check_same(before: StoredPlan, request: TuneRequest, values: dict[str, Any], folder: TuneFolder) -> None:
    """Check that a command goes on with the search that it asks for.

    Raises:
        RunError: its settings differ.
    """
    differ = ["--search"] if before.search != request.search else []
    differ += ["--splits"] if request.splits not in (None, before.splits) else []
    differ += ["data or settings"] if before.request != settings_sha256(values) else []
    if differ:
        raise RunError(
            f"{folder.path} holds a search with other {' and '.join(differ)}. Give the same command again to go on "
            "with it (--budget, --trials and settings of the machine may differ), choose another folder with --output, "
            "or remove it with --overwrite."
        )


def _machine_values(values: dict[str, Any], base: Prepared) -> dict[str, Any]:
    """Return what a command says of the machine, and where the data is now, for a search that was begun before."""
    given = {path for path, _ in leaves(values)}
    now = with_absolute_paths(base.config, base.splits).model_dump(mode="json")
    return nested({
        path: value
        for path, value in leaves(now)
        if of_the_machine(path, value) and (path in given or path.startswith("data."))
    })  # fmt: skip


def _describe_search(search: Search) -> None:
    """Print what is searched, on which splits, and in which time."""
    setup, budget, console = search.setup, search.budget, search.console
    plan = setup.plan
    console.print(f"[bold]Search[/bold]: {plural(len(plan.ranges), 'field')}, the preset first")
    for item in plan.ranges:
        console.print(f"  {item.path}: {item.describe()}", markup=False)
    held = [setup.held_out(split).labels for split in range(plan.splits)]
    source = "the data's validation images" if has_validation(setup.base) else "cut from the training images"
    console.print(
        f"[bold]Validation[/bold]: {plural(plan.splits, 'split')}, {source}: "
        f"{plural(sum(map(len, held)), 'held-out image')}"
    )
    names = unmeasured(held, setup.base.train.class_counts, setup.base.splits.class_names)
    if names:
        console.print(
            f"  {plural(len(names), 'class')} without a held-out image cannot be measured: {shorten(names)}",
            style="yellow",
            markup=False,
        )
    runs = "the chosen settings and the preset" if budget.finals == 2 else "the chosen settings"
    console.print(
        f"[bold]Budget[/bold]: {duration(budget.seconds)}, of which {duration(search.clock.seconds)} are used; "
        f"training {runs} on all images is part of it"
    )
