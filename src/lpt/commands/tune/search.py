"""The trials of a search, one after the other or several at a time, until the time for them is used up."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from lpt.commands.jobs.executors import Ended, Executor, Failure, Job, Look, unwatched
from lpt.commands.tune.budget import Budget, preset_seconds, relative_steps
from lpt.commands.tune.clock import Clock
from lpt.commands.tune.links import OUT_OF_TIME, let_go_on, read_reports, tell_to_stop
from lpt.commands.tune.setup import Setup
from lpt.commands.tune.study import Candidate, Study
from lpt.commands.tune.trials import TrialEnd, has_phase1
from lpt.commands.tune.works import Works
from lpt.errors import DataError, LptError, RunError
from lpt.evaluation.tuning import FAILED, PRESET, STOPPED, TrialResult
from lpt.report.tune import number_text, short_path
from lpt.system.interrupt import Interrupted
from lpt.system.lock import FolderInUseError
from lpt.system.text import duration

MOST_FAILURES = 3
"""Trials in a row whose failure ends the search."""
MOST_TOO_LONG = 5
"""Trials in a row that end the search because they would take longer than is left: a shorter one may come."""
_OF_ALL = (DataError, FolderInUseError)
"""Errors that every other trial would have too, or that pass when another process ends: no trial is told by them."""


@dataclass(frozen=True)
class Search:
    """All that belongs to a search while its command runs.

    Args:
        setup: what its trials share.
        study: Optuna's part.
        budget: its time.
        clock: time used.
        executor: where the work is done.
        works: the work.
        console: where to report.
    """

    setup: Setup
    study: Study
    budget: Budget
    clock: Clock
    executor: Executor
    works: Works
    console: Console

    def run(
        self, jobs: Iterable[Job], ended: Callable[[Ended], None], look: Look = unwatched, *, stopped_in: str = ""
    ) -> None:
        """Run jobs, and keep the time meanwhile. An error of a call stops them all.

        Args:
            jobs: the jobs.
            ended: called when one has ended.
            look: called while jobs run in other processes.
            stopped_in: says where the user stopped, in place of the title of a job.

        Raises:
            Interrupted: the user stopped; everything is saved.
        """
        try:
            with self.clock.kept(), closing(self.executor.run(jobs, self.console, look)) as each:
                for end in each:
                    ended(end)
        except Interrupted as stopped:
            where = f"stopped in {stopped_in}" if stopped_in else str(stopped)
            raise Interrupted(
                f"{where}; everything is saved in {self.setup.folder.path}\nGo on with the same command."
            ) from None

    def reason(self, number: int, failure: Failure) -> str:
        """Say why a job failed; the traceback of an unexpected error is written under the number of its trial."""
        return failure.reason(partial(self.setup.folder.write_error, number)).replace("\n", " ")


def run_trials(search: Search) -> None:
    """Train trials until the time for them is used up. Those that were interrupted go on first.

    Raises:
        Interrupted: a signal came; everything is saved.
        DataError: an image cannot be read any more.
        RunError: the preset failed, or several trials in a row did.
    """
    for trial in search.study.results():  # a kill came between the end of a trial and this
        search.setup.folder.remove_training(trial.number)
    if search.setup.plan.search == "phase2":
        _train_shared_phase1(search)
    trials = _Trials(search)
    search.run(trials.jobs(), trials.ended, trials.look)


def _train_shared_phase1(search: Search) -> None:
    """Train the phase 1 of each split, which all trials share, unless it is there."""
    setup = search.setup

    def jobs() -> Iterator[Job]:
        for split in range(setup.plan.splits):
            if not has_phase1(setup, split):
                search.console.print(f"Phase 1 of split {split + 1}, which all trials share")
                run = setup.folder.phase1(split).path
                yield Job(f"phase 1 of split {split + 1}", run, search.works.phase1(split))

    def ended(end: Ended) -> None:
        if end.failure is not None:
            raise _ends_search(search, PRESET, end.failure, f"{end.job.title} failed, which every trial starts from")

    search.run(jobs(), ended)


@dataclass
class _Going:
    """A trial that was begun and has not ended.

    Args:
        candidate: the trial.
        folder: its folder.
        seen: reports that the study knows.
        told: whether it was told to stop.
    """

    candidate: Candidate
    folder: Path
    seen: int = 0
    told: bool = False


class _Trials:
    """Asks the study for trials, and tells it their reports and ends."""

    def __init__(self, search: Search) -> None:
        self._search, self._setup = search, search.setup
        self._going = dict[Path, _Going]()
        self._failures = 0
        self._deadline = math.inf

    def jobs(self) -> Iterator[Job]:
        """Yield a job for each trial, until the time is used up; each is asked for when there is room for it."""
        search, study, splits = self._search, self._search.study, self._setup.plan.splits
        too_long = 0
        while True:
            results = study.results()
            if why := self._why_over(results, too_long):
                start = "No further trial begins" if self._going else "The search ends"
                search.console.print(f"{start}: {why}.")
                return
            candidate = study.next()
            self._deadline = search.budget.deadline(results, splits)
            self._announce(candidate)
            if not candidate.resumed and search.clock.seconds + self._expected(candidate, results) > self._deadline:
                left = duration(max(self._deadline - search.clock.seconds, 0))
                self._tell(candidate, TrialEnd(STOPPED, None, None, f"it would take longer than is left ({left})"))
                too_long += 1
                continue
            too_long = 0
            yield self._begun(candidate)

    def _why_over(self, results: Sequence[TrialResult], too_long: int) -> str:
        """Return why no further trial begins; empty if one does, such as one that was interrupted."""
        search = self._search
        if too_long == MOST_TOO_LONG:
            return f"{too_long} trials in a row would take longer than is left"
        if search.study.interrupted:
            return ""
        return search.budget.why_over(results, self._setup.plan.splits, search.clock.seconds, search.study.going)

    def look(self, running: Sequence[Job]) -> None:
        """Pass on what trials on other machines report, and tell those to stop that are not worth their time."""
        for job in running:
            self._listen(self._going[job.folder], act=True)

    def ended(self, end: Ended) -> None:
        """Tell the study the end of a trial.

        Raises:
            DataError, RunError: the search cannot go on.
        """
        going = self._going.pop(end.job.folder)
        self._listen(going, act=False)
        candidate, failure = going.candidate, end.failure
        if failure is None:
            self._failures = 0
            self._tell(candidate, end.result)
        else:
            self._failed(candidate, failure)
        self._deadline = self._search.budget.deadline(self._search.study.results(), self._setup.plan.splits)

    def _failed(self, candidate: Candidate, failure: Failure) -> None:
        if candidate.number == PRESET or _is_of_all(failure):
            what = "the preset failed, which every trial starts from"
            raise _ends_search(self._search, candidate.number, failure, what)
        reason = self._search.reason(candidate.number, failure)
        self._tell(candidate, TrialEnd(FAILED, None, None, reason))
        self._failures += 1
        if self._failures >= MOST_FAILURES:
            raise RunError(
                f"{self._failures} trials failed in a row, the last one: {reason}\nCorrect that, then give the same "
                f"command again: the search in {self._setup.folder.path} goes on."
            )

    def _begun(self, candidate: Candidate) -> Job:
        """Return the job of a trial; what it reported elsewhere, under a command that was killed, is passed on."""
        folder = self._setup.folder.trial(candidate.number)
        going = self._going[folder] = _Going(candidate, folder)
        let_go_on(folder)
        self._listen(going, act=self._search.executor.elsewhere)
        runs = [self._setup.folder.trial_run(candidate.number, split) for split in range(self._setup.plan.splits)]
        work = self._search.works.trial(candidate, self._deadline)
        return Job(f"trial {candidate.number}", folder, work, tuple(run.path for run in runs))

    def _listen(self, going: _Going, *, act: bool) -> None:
        """Pass on the new reports of a trial; with `act`, tell it to stop if it is not worth its time."""
        candidate, why = going.candidate, ""
        new = read_reports(going.folder)[going.seen :]
        going.seen += len(new)
        for report in new:
            candidate.note_host(report.host)
            candidate.keep_seconds(report.seconds)
            candidate.report(report.step, report.accuracy)
            if report.at and candidate.lags():
                why = why or report.lags
        if candidate.number != PRESET and self._search.clock.seconds > self._deadline:
            why = why or OUT_OF_TIME
        if act and why and not going.told:
            going.told = True
            tell_to_stop(going.folder, why)

    def _tell(self, candidate: Candidate, end: TrialEnd) -> None:
        """Tell the end of a trial, then remove what it trained."""
        search, used = self._search, self._search.clock.seconds
        search.clock.keep()
        candidate.end(end.state, end.accuracy, error=end.error, why=end.why, at=round(used, 1))
        self._setup.folder.remove_training(candidate.number)
        start = f"trial {candidate.number}: " if search.executor.elsewhere else "  "
        measured = f"{100 * end.accuracy:.1f}" if end.accuracy is not None else end.state
        around = f" ± {100 * end.error:.1f}" if end.error is not None else ""
        reason = f": {end.why}" if end.why else ""
        style = "red" if end.state == FAILED else None
        search.console.print(f"{start}{measured}{around}{reason} ({duration(used)} used)", style=style, markup=False)

    def _announce(self, candidate: Candidate) -> None:
        values = ", ".join(f"{short_path(path)} {number_text(value)}" for path, value in candidate.values.items())
        again = ", goes on" if candidate.resumed else ""
        preset = " (the preset)" if candidate.number == PRESET else ""
        self._search.console.print(f"Trial {candidate.number}{preset}{again}: {values}", markup=False)

    def _expected(self, candidate: Candidate, results: Sequence[TrialResult]) -> float:
        """Return the seconds that a trial takes if it is not stopped."""
        plan = self._setup.plan
        return preset_seconds(results) * relative_steps(plan.config, candidate.values, plan.search)


def _ends_search(search: Search, number: int, failure: Failure, what: str) -> LptError:
    """Return the error by which a failure ends the whole search.

    Args:
        search: the search.
        number: of the trial that failed.
        failure: its failure.
        what: says what failed, where it is not a failure that all trials would have.
    """
    if _is_of_all(failure):
        return failure.error(failure.message)
    reason = search.reason(number, failure)
    return RunError(f"{what}: {reason}\nCorrect that, then give the same command again.")


def _is_of_all(failure: Failure) -> bool:
    return any(failure.is_a(kind) for kind in _OF_ALL)
