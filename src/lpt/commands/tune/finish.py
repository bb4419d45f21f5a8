"""After the trials: choose, train on all training images, and compare with the preset."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from lpt.commands.jobs.executors import Ended, Job, not_shared
from lpt.commands.report.kept import read_run
from lpt.commands.tune.search import Search
from lpt.commands.tune.setup import Setup
from lpt.commands.tune.splits import unmeasured
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
from lpt.system.invocation import typed_command
from lpt.training.folder import RunFolder


class _Final(NamedTuple):
    """A run on all training images: its folder, the trial whose settings it has, and what it is."""

    run: RunFolder
    number: int
    what: str


def finish(search: Search, budget_minutes: float) -> TuneResult:
    """Choose the settings, train them on all training images, and compare them with the preset.

    Where there are test images, the preset is trained on all training images too, and both are tested once.

    Raises:
        Interrupted: a signal came; everything is saved.
        LptError: a final run failed.
    """
    setup, trials = search.setup, search.study.results()
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
    finals = [_Final(setup.folder.run, chosen, "the chosen settings" if chosen else "the preset")]
    if chosen != PRESET and tested:
        finals.append(_Final(setup.folder.preset, PRESET, "the preset, to compare with"))
    _train(search, finals, values)
    final = _tested(setup, chosen) if tested else _validated(setup, chosen)
    held = [setup.held_out(split).labels for split in range(setup.plan.splits)]
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
        importance=search.study.importance(),
        final=final,
        splits=setup.plan.splits,
        held_out=sum(map(len, held)),
        unmeasured=unmeasured(held, setup.base.train.class_counts, setup.base.splits.class_names),
        budget_minutes=budget_minutes,
        used_minutes=round(search.clock.seconds / 60, 2),
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


def _train(search: Search, finals: Sequence[_Final], values: Mapping[int, Mapping[str, Any]]) -> None:
    """Train settings on all training images and test them once, or go on with it, unless that is done.

    Args:
        search: the search.
        finals: what to train.
        values: the searched fields of each trial, by number.
    """
    by_run = {final.run.path: final for final in finals}

    def jobs() -> Iterator[Job]:
        for final in finals:
            if not final.run.finished:
                search.console.print(f"[bold]Final run[/bold]: {final.what}, on all training images")
                work = search.works.final(final.run, values[final.number])
                yield Job(f"final run of {final.what}", final.run.path, work)

    def ended(end: Ended) -> None:
        final, failure = by_run[end.job.folder], end.failure
        if failure is not None:
            raise failure.error(failure.message if failure.explained else search.reason(final.number, failure))
        if not final.run.finished:
            raise not_shared(final.run.path)

    search.run(jobs(), ended, stopped_in="a final run")


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
    hosts = Counter(host for trial in trials for host in trial.hosts)
    return {
        "command": typed_command(),
        "data": str(base.config.data.source or "given in Python"),
        "training images": f"{len(base.train):,}",
        "backbone": f"{record.name} at {height}x{width}",
        "preset": base.config.preset,
        "seed": str(setup.seed),
        "steps of an epoch": str(base.config.train.epoch_steps),
        "seconds of all trials": f"{sum(trial.seconds for trial in trials):,.0f}",
        **({"trials by machine of the cluster": _by_host(hosts)} if hosts else {}),
        "machine": f"{machine}, {base.config.runtime.precision}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }


def _by_host(hosts: Counter[str]) -> str:
    return ", ".join(f"{host} {count}" for host, count in sorted(hosts.items()))
