"""After the trials: choose, train on all training images, and compare with the preset."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from lpt.commands.fit.fit import fit_prepared, resume_prepared
from lpt.commands.fit.prepare import with_absolute_paths
from lpt.commands.report.kept import read_run
from lpt.commands.tune.setup import Setup
from lpt.commands.tune.splits import unmeasured
from lpt.commands.tune.study import Study
from lpt.errors import RunError
from lpt.evaluation.metrics import Metrics, measure
from lpt.evaluation.tuning import (
    COMPLETE,
    PRESET,
    Answers,
    Final,
    Score,
    TrialResult,
    TuneResult,
    best_of,
    choose,
    gains_of,
)
from lpt.packs.info import Versions
from lpt.system.interrupt import Interrupted
from lpt.system.invocation import typed_command
from lpt.training.folder import RunFolder


def finish(setup: Setup, study: Study, budget_minutes: float) -> TuneResult:
    """Choose the settings, train them on all training images, and compare them with the preset.

    Where there are test images, the preset is trained on all training images too, and both are tested once.

    Raises:
        Interrupted: a signal came; everything is saved.
        LptError: a final run failed.
    """
    trials = study.results()
    complete = {trial.number: float(trial.accuracy or 0.0) for trial in trials if trial.state == COMPLETE}
    if PRESET not in complete:
        raise RunError(
            f"{setup.folder.journal} holds no complete trial of the preset: it was changed or removed. Begin anew with "
            "--overwrite."
        )
    best = best_of(complete)
    lead = None if best == PRESET else _lead(setup, best)
    setup, chosen = _chosen(setup, complete, lead)
    values = {trial.number: trial.values for trial in trials}
    tested = setup.base.splits.test is not None and len(setup.base.splits.test) > 0
    _train(setup, setup.folder.run, values[chosen], "the chosen settings" if chosen else "the preset")
    if chosen != PRESET and tested:
        _train(setup, setup.folder.preset, values[PRESET], "the preset, to compare with")
    final = _tested(setup, chosen) if tested else _validated(setup, chosen)
    held = [setup.held_out(split).labels for split in range(setup.plan.splits)]
    setup.clock.keep()
    return TuneResult(
        folder=setup.folder.path,
        run=setup.folder.run.path,
        method=setup.base.config.method,
        search=setup.plan.search,
        ranges=setup.plan.ranges,
        trials=trials,
        best=best,
        chosen=chosen,
        lead=lead,
        importance=study.importance(),
        final=final,
        splits=setup.plan.splits,
        held_out=sum(map(len, held)),
        unmeasured=unmeasured(held, setup.base.train.class_counts, setup.base.splits.class_names),
        budget_minutes=budget_minutes,
        used_minutes=round(setup.clock.seconds / 60, 2),
        facts=_facts(setup, trials),
    )


def _lead(setup: Setup, best: int) -> Score:
    return setup.lead(_answers(setup, best), _answers(setup, PRESET))


def _chosen(setup: Setup, complete: Mapping[int, float], lead: Score | None) -> tuple[Setup, int]:
    """Return the number of the trial to take, as it was stored, or store it now: no later command changes it."""
    if setup.plan.chosen is None:
        setup = replace(setup, plan=replace(setup.plan, chosen=choose(complete, lead)))
        setup.folder.write_plan(setup.plan)
    assert setup.plan.chosen is not None
    return setup, setup.plan.chosen


def _train(setup: Setup, run: RunFolder, values: Mapping[str, Any], what: str) -> None:
    """Train settings on all training images and test them once, or go on with it, unless that is done."""
    if run.finished:
        return
    setup.console.print(f"[bold]Final run[/bold]: {what}, on all training images")
    prepared = setup.final(values)
    try:
        with setup.clock.kept():
            if run.begun:
                run.write_config(with_absolute_paths(prepared.config, prepared.splits))  # the machine may have changed
                resume_prepared(prepared, run, setup.console)
            else:
                fit_prepared(prepared, run.path, overwrite=True, console=setup.console)
    except Interrupted:
        raise Interrupted(
            f"stopped in a final run; everything is saved in {setup.folder.path}\nGo on with the same command."
        ) from None


def _tested(setup: Setup, chosen: int) -> Final:
    """Compare the final runs on the test images."""
    metrics, answers = _kept(setup.folder.run)
    if chosen == PRESET:
        return Final("test", metrics, None, {})
    preset_metrics, preset_answers = _kept(setup.folder.preset)
    return Final("test", metrics, preset_metrics, _gains(setup, answers, preset_answers))


def _validated(setup: Setup, chosen: int) -> Final:
    """Compare the trials on their held-out images."""
    answers = _answers(setup, chosen)
    if chosen == PRESET:
        return Final("validation", _metrics(setup, answers), None, {})
    preset = _answers(setup, PRESET)
    gains = _gains(setup, answers, preset)
    return Final("validation", _metrics(setup, answers), _metrics(setup, preset), gains)


def _gains(setup: Setup, first: Answers, second: Answers) -> dict[str, Any]:
    return gains_of(first, second, setup.counts, setup.base.groups)


def _metrics(setup: Setup, answers: Answers) -> Metrics:
    return measure(answers.labels, answers.predicted, setup.counts, setup.base.groups)


def _answers(setup: Setup, number: int) -> Answers:
    answers = setup.answers(number)
    if answers is None:
        raise RunError(
            f"the answers of trial {number} are not in {setup.folder.path} any more. Restore the folder `trials`, or "
            "begin anew with --overwrite."
        )
    return answers


def _kept(run: RunFolder) -> tuple[Metrics, Answers]:
    """Return the metrics and predictions of a final run on the test images."""
    kept = read_run(run.path)
    assert kept.metrics is not None
    assert kept.predictions is not None
    labels, predicted = kept.predictions.labels, kept.predictions.predicted
    return kept.metrics, Answers(labels.astype(np.int64), predicted.astype(np.int64))


def _facts(setup: Setup, trials: list[TrialResult]) -> dict[str, str]:
    """Return how the search was made."""
    base, record = setup.base, setup.base.backbone.record
    height, width = base.preprocessing.size
    machine = re.sub(r", [\d.]+ GiB free", "", base.machine.describe())
    versions = Versions.here().model_dump()
    return {
        "command": typed_command(),
        "data": str(base.config.data.source or "given in Python"),
        "training images": f"{len(base.train):,}",
        "backbone": f"{record.name} at {height}x{width}",
        "preset": base.config.preset,
        "seed": str(setup.seed),
        "steps of an epoch": str(base.config.train.epoch_steps),
        "seconds of all trials": f"{sum(trial.seconds for trial in trials):,.0f}",
        "machine": f"{machine}, {base.config.runtime.precision}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
