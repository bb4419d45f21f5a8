"""The work of a search as jobs: for this process, or for one on another machine that opens everything itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console

from lpt.commands.fit.fit import fit_prepared, resume_prepared
from lpt.commands.fit.prepare import prepare, with_absolute_paths
from lpt.commands.fit.request import RunRequest
from lpt.commands.jobs.executors import Work, check_shared
from lpt.commands.tune.clock import Clock
from lpt.commands.tune.links import FileLink, LiveLink
from lpt.commands.tune.setup import Setup
from lpt.commands.tune.store import StoredPlan, TuneFolder
from lpt.commands.tune.trials import TrialEnd, train_phase1, train_trial
from lpt.config.values import leaves, merge, nested
from lpt.data.fingerprint import data_fingerprint
from lpt.errors import RunError
from lpt.training.folder import RunFolder

if TYPE_CHECKING:
    from lpt.commands.tune.study import Candidate  # Optuna is needed where the study is, not where trials train

_CHOSEN_THERE = {"runtime.workers": "auto", "prefix_cache.store": "auto"}
"""Settings that no result depends on, and that follow from the memory and the cores which a job has on its machine."""


class Works(Protocol):
    """What the jobs of a search do."""

    def trial(self, candidate: Candidate, deadline: float) -> Work:
        """Return the work of a trial, whose result is a `TrialEnd`.

        Args:
            candidate: the trial.
            deadline: second of the clock at which the budget of the trials ends.
        """
        ...

    def phase1(self, split: int) -> Work:
        """Return the work of training the phase 1 of a split that all trials share."""
        ...

    def final(self, run: RunFolder, values: Mapping[str, Any]) -> Work:
        """Return the work of training settings on all training images.

        Args:
            run: the run folder, in that of the search.
            values: the searched fields, by dotted path.
        """
        ...


@dataclass(frozen=True)
class WorksHere:
    """The work in the process of the search.

    Args:
        setup: of the search.
        clock: time used.
    """

    setup: Setup
    clock: Clock

    def trial(self, candidate: Candidate, deadline: float) -> Work:
        """As `Works.trial`."""
        return partial(train_trial, self.setup, LiveLink(candidate, self.clock, deadline))

    def phase1(self, split: int) -> Work:
        """As `Works.phase1`."""
        return partial(train_phase1, self.setup, split)

    def final(self, run: RunFolder, values: Mapping[str, Any]) -> Work:
        """As `Works.final`."""
        return partial(train_final, self.setup, run, values)


@dataclass(frozen=True)
class WorksElsewhere:
    """The work in processes on machines that share the disk; also all that such a process needs.

    Args:
        folder: of the search.
        plan: the plan; places of files are absolute.
    """

    folder: Path
    plan: StoredPlan

    @classmethod
    def of(cls, setup: Setup, values: Mapping[str, Any]) -> WorksElsewhere:
        """Return the work of a search that was checked here.

        Args:
            setup: of the search.
            values: the user's configuration values; what they leave open, each machine chooses for itself.
        """
        given = {path for path, _ in leaves(values)}
        open_fields = nested({path: value for path, value in _CHOSEN_THERE.items() if path not in given})
        plan = replace(setup.plan, config=merge(setup.plan.config, open_fields))
        return cls(setup.folder.path.absolute(), plan)

    def trial(self, candidate: Candidate, deadline: float) -> Work:
        """As `Works.trial`; the search watches the deadline."""
        del deadline
        return partial(_trial_there, self, candidate.number, candidate.values, candidate.seconds)

    def phase1(self, split: int) -> Work:
        """As `Works.phase1`."""
        return partial(_phase1_there, self, split)

    def final(self, run: RunFolder, values: Mapping[str, Any]) -> Work:
        """As `Works.final`."""
        return partial(_final_there, self, run.path.name, values)

    def setup(self) -> Setup:
        """Open everything on the machine of this process.

        Raises:
            RunError: the folder of the search is not there, or the images are others.
        """
        folder = TuneFolder(self.folder)
        check_shared(folder.plan)
        base = prepare(RunRequest(config=self.plan.config), read_images=False)  # the first machine has read them all
        if data_fingerprint(base.splits.train) != self.plan.data_sha256:
            raise RunError(
                f"the training images on this machine are not those of the search in {folder.path}. All machines must "
                "find the same images under the same paths, on a disk that they share"
            )
        return Setup(folder, self.plan, base)


def train_final(setup: Setup, run: RunFolder, values: Mapping[str, Any], console: Console) -> None:
    """Train settings on all training images and test them once, or go on with it.

    Raises:
        Interrupted: a signal came; everything is saved.
        LptError: the run failed.
    """
    prepared = setup.final(values)
    if run.begun:
        run.write_config(with_absolute_paths(prepared.config, prepared.splits))  # the machine may have changed
        resume_prepared(prepared, run, console)
    else:
        fit_prepared(prepared, run.path, overwrite=True, console=console)


def _trial_there(
    works: WorksElsewhere, number: int, values: Mapping[str, float], seconds: float, console: Console
) -> TrialEnd:
    setup = works.setup()
    return train_trial(setup, FileLink(setup.folder.trial(number), number, values, seconds), console)


def _phase1_there(works: WorksElsewhere, split: int, console: Console) -> None:
    train_phase1(works.setup(), split, console)


def _final_there(works: WorksElsewhere, name: str, values: Mapping[str, Any], console: Console) -> None:
    setup = works.setup()
    train_final(setup, RunFolder(setup.folder.path / name), values, console)
