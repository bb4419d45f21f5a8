"""The folder of a search: its plan, its trials, and the rules for removing it."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from lpt.errors import RunError
from lpt.evaluation.tuning import Answers, Range
from lpt.report.tune import SUMMARY, WRITTEN
from lpt.system.files import remove_leftovers, write_json, write_text
from lpt.system.lock import LOCK, locked_output
from lpt.system.outputs import REPORT
from lpt.system.outputs import TUNE_KIND as KIND
from lpt.system.outputs import TUNE_MARKER as PLAN
from lpt.system.owned import (
    Names,
    check_no_others,
    contents,
    exactly,
    first_inside,
    is_marked,
    marker,
    marker_fields,
    remove_names,
)
from lpt.training.folder import RUN_NAMES, Inputs, RunFolder, clear_runs, no_inputs

CLOCK, JOURNAL = "clock.json", "study.journal"
REPORTS, STOP = "reports.json", "stop.json"
"""What a trial on another machine tells the search, and is told."""
_SPLIT_RUNS: Names = {r"split\d+": RUN_NAMES}
_WHILE_IT_TRAINS = exactly(REPORTS, STOP, LOCK)
NAMES: Names = {
    **exactly(PLAN, LOCK, CLOCK, JOURNAL, REPORT, *WRITTEN),
    rf"{re.escape(JOURNAL)}\.lock.*": None,
    "errors": {r"\d{4,}\.txt": None},
    "trials": {r"\d{4,}": {**_SPLIT_RUNS, r"split\d+\.json": None, **_WHILE_IT_TRAINS}},
    "phase1": _SPLIT_RUNS,
    "run": RUN_NAMES,
    "preset": RUN_NAMES,
}
"""Every name that a search writes into its folder; nothing else in it is ever removed."""


@dataclass(frozen=True)
class StoredPlan:
    """What tune.json keeps of a search, for the commands that go on with it.

    Args:
        request: SHA-256 of the user's settings that do not belong to the machine.
        config: the resolved configuration of the preset, which every trial starts from.
        search: `all` or `phase2`.
        ranges: what is searched.
        splits: number of validation splits.
        data_sha256: of names, labels and sizes of the training images.
        chosen: number of the trial whose settings are trained on all images; None while the search goes on.
    """

    request: str
    config: dict[str, Any]
    search: str
    ranges: list[Range]
    splits: int
    data_sha256: str
    chosen: int | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StoredPlan | None:
        """Read what tune.json holds; None where a value is missing."""
        names = [field.name for field in fields(cls)]
        if not set(names) <= set(values):
            return None
        try:
            ranges = [Range(**item) for item in values["ranges"]]
        except TypeError:
            return None
        return cls(**{**{name: values[name] for name in names}, "ranges": ranges})


class TuneFolder:
    """The folder of a search.

    `tune.json` (the marker), `clock.json` (time used), `study.journal` (Optuna's journal), `trials/NUMBER/` (answers
    for each split; while it trains a run folder, and on other machines its reports), `phase1/` (shared phase 1 of a
    search of phase 2), `run/` and `preset/` (trained on all images), `errors/` (tracebacks), tables and the report.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plan, self.clock, self.journal = path / PLAN, path / CLOCK, path / JOURNAL
        self.summary = path / SUMMARY
        self.run, self.preset = RunFolder(path / "run"), RunFolder(path / "preset")

    @contextlib.contextmanager
    def locked(self, tell: Callable[[str], None]) -> Iterator[None]:
        """Hold the lock of the folder, which is made if it is missing, and removed again if nothing comes into it.

        Raises:
            RunError: another search goes on in it, or it holds something else.
        """
        self.stored_plan()
        with locked_output(self.path, tell):
            yield

    def stored_plan(self) -> StoredPlan | None:
        """Read the plan of an earlier command; None where the folder is missing or empty.

        Raises:
            RunError: the folder holds something else, or a damaged search.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"--output: {self.path} is a file; give a folder")
        if is_marked(self.plan, KIND):
            remove_leftovers(self.path)
            return StoredPlan.from_dict(marker_fields(self.plan))  # None: a kill came while it was being removed
        check_no_others(self.path, PLAN, (LOCK, CLOCK), "search")
        return None

    def write_plan(self, plan: StoredPlan) -> None:
        """Write the plan, which marks the folder.

        Raises:
            RunError: the file cannot be written.
        """
        write_json(self.plan, {**marker(KIND), **asdict(plan)})

    def trial(self, number: int) -> Path:
        """Return the folder of a trial, whose lock is held by the process that trains it."""
        return self.path / "trials" / f"{number:04d}"

    def trial_run(self, number: int, split: int) -> RunFolder:
        """Return where a trial trains on a split; it is there only while it does."""
        return RunFolder(self.trial(number) / f"split{split}")

    def phase1(self, split: int) -> RunFolder:
        """Return the shared phase 1 of a split."""
        return RunFolder(self.path / "phase1" / f"split{split}")

    def write_answers(self, number: int, split: int, answers: Answers) -> None:
        """Keep the predictions of a trial for the held-out images of a split, and remove the run that made them.

        Raises:
            RunError: a file cannot be written or removed.
        """
        values = {"labels": answers.labels.tolist(), "predicted": answers.predicted.tolist()}
        write_text(self._answers(number, split), json.dumps(values) + "\n")
        self.remove_run(number, split)

    def answers(self, number: int, split: int) -> Answers | None:
        """Read the predictions of a trial for a split; None where it is not finished."""
        try:
            values = json.loads(self._answers(number, split).read_text(encoding="utf-8"))
            read = Answers(*(np.array(values[name], dtype=np.int64) for name in Answers._fields))
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            return None
        return read if len(read.labels) and read.labels.shape == read.predicted.shape else None

    def remove_run(self, number: int, split: int) -> None:
        """Remove what a trial has trained on a split.

        Raises:
            RunError: a file cannot be removed.
        """
        _remove(self.trial_run(number, split).path, RUN_NAMES)

    def remove_training(self, number: int) -> None:
        """Remove all of a trial that has ended but its answers.

        Raises:
            RunError: a file cannot be removed.
        """
        _remove(self.trial(number), {**_SPLIT_RUNS, **_WHILE_IT_TRAINS})

    def write_error(self, number: int, traceback: str) -> Path:
        """Write the traceback of a failed trial, and return its file."""
        path = self.path / "errors" / f"{number:04d}.txt"
        path.parent.mkdir(exist_ok=True)
        write_text(path, traceback)
        return path

    def check_removable(self, inputs: Inputs = no_inputs) -> None:
        """Raise `RunError` if the folder holds anything but a search that may be removed."""
        self.stored_plan()
        if not is_marked(self.plan, KIND):
            return
        inside = contents(self.path, NAMES)
        reason = ""
        if inside.blocking:
            reason = f"{inside.blocking[0]} lies where a search would write and is nothing that one wrote"
        for run in (self.run, self.preset):
            if not reason and not run.unused and (kept := run.why_kept()):
                reason = f"in {run.path}, {kept}"
        precious = first_inside(self.path, inputs())
        if not reason and precious is not None:
            reason = f"{precious.what} lies in it ({precious.path})"
        if reason:
            raise RunError(f"{self.path} is not overwritten: {reason}. Choose another folder with --output.")

    def clear(self) -> str:
        """Remove trials, runs and results; return what to tell the user of things that stay.

        The marker stays, without a plan: what a kill leaves is known, and is no search that could go on.

        Raises:
            RunError: a file cannot be removed.
        """
        if not is_marked(self.plan, KIND):
            return ""
        write_json(self.plan, marker(KIND))
        runs = [run for run in (self.run, self.preset) if run.path.is_dir()]
        return clear_runs(self.path, contents(self.path, NAMES), runs, keep=[self.plan, self.path / LOCK])

    def _answers(self, number: int, split: int) -> Path:
        return self.trial(number) / f"split{split}.json"


def _remove(folder: Path, names: Names) -> None:
    """Remove what a search wrote in a folder.

    Raises:
        RunError: a file cannot be removed.
    """
    try:
        remove_names(folder, names)
    except OSError as error:
        raise RunError(
            f"cannot remove {error.filename}: {error.strerror}. Change its permissions, then give the same command "
            "again."
        ) from None
