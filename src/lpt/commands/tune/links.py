"""What ties a trial that trains to its search: it reports accuracies, and is told when it is not worth its time.

A trial in this process asks the study itself. One on another machine writes its reports into its folder, and looks
there for a file that tells it to stop: the study stays with the command, which may die meanwhile.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lpt.commands.tune.clock import Clock
from lpt.commands.tune.store import REPORTS, STOP
from lpt.evaluation.tuning import PRESET
from lpt.system.files import write_json

if TYPE_CHECKING:
    from lpt.commands.tune.study import Candidate  # Optuna is needed where the study is, not where trials train

OUT_OF_TIME = "the time for trials was used up"
LOOK_SECONDS = 0.1
"""How often a trial on another machine looks whether it is told to stop."""


class StoppedError(Exception):
    """A trial is not worth its time; the message says why."""


@dataclass(frozen=True)
class Report:
    """An accuracy of a trial while it trains.

    Args:
        step: the step that it belongs to, which all trials have in common.
        accuracy: mean per-class accuracy of all splits so far.
        at: where the trial is, as text; empty where it is not to be stopped.
        seconds: time of the trial so far.
        host: the machine.
    """

    step: int
    accuracy: float
    at: str
    seconds: float
    host: str

    @property
    def lags(self) -> str:
        """Why a trial is stopped that was worse than the others."""
        return f"after {self.at} it was worse than half of the trials were ({100 * self.accuracy:.1f})"


class Link(Protocol):
    """What a trial knows of itself, and its way to the search."""

    @property
    def number(self) -> int:
        """Its number."""
        ...

    @property
    def values(self) -> Mapping[str, float]:
        """The searched fields, by dotted path."""
        ...

    @property
    def seconds(self) -> float:
        """Seconds of the trial so far, those of earlier commands too."""
        ...

    def keep_seconds(self, seconds: float) -> None:
        """Keep the seconds of the trial so far."""
        ...

    def after_step(self) -> None:
        """Called after each step.

        Raises:
            StoppedError: the trial was told to stop.
        """
        ...

    def check_time(self) -> None:
        """Called after each epoch.

        Raises:
            StoppedError: the budget of the trials is used up.
        """
        ...

    def reported(self, step: int) -> float | None:
        """Return the accuracy that was reported at a step, perhaps under an earlier command; None where none was."""
        ...

    def report(self, step: int, accuracy: float, at: str = "") -> None:
        """Report an accuracy, unless one was reported at this step.

        Args:
            step: which all trials have in common.
            accuracy: of all splits so far.
            at: where the trial is, as text, if it may be stopped there.

        Raises:
            StoppedError: it is.
        """
        ...


class LiveLink:
    """The link of a trial in the process of the search.

    Args:
        candidate: the trial, as the study knows it.
        clock: time used by the search.
        deadline: its second at which the budget of the trials ends; never for the preset.
    """

    def __init__(self, candidate: Candidate, clock: Clock, deadline: float) -> None:
        self._candidate, self._clock, self._deadline = candidate, clock, deadline

    @property
    def number(self) -> int:
        """As `Link.number`."""
        return self._candidate.number

    @property
    def values(self) -> Mapping[str, float]:
        """As `Link.values`."""
        return self._candidate.values

    @property
    def seconds(self) -> float:
        """As `Link.seconds`."""
        return self._candidate.seconds

    def keep_seconds(self, seconds: float) -> None:
        """As `Link.keep_seconds`."""
        self._candidate.keep_seconds(seconds)

    def after_step(self) -> None:
        """Do nothing: the search is asked after each epoch."""

    def check_time(self) -> None:
        """As `Link.check_time`."""
        if self.number != PRESET and self._clock.seconds > self._deadline:
            raise StoppedError(OUT_OF_TIME)

    def reported(self, step: int) -> float | None:
        """As `Link.reported`."""
        return self._candidate.reported(step)

    def report(self, step: int, accuracy: float, at: str = "") -> None:
        """As `Link.report`."""
        if self.reported(step) is None:
            self._candidate.report(step, accuracy)
        if at and self._candidate.lags():
            raise StoppedError(Report(step, accuracy, at, self.seconds, "").lags)


class FileLink:
    """The link of a trial in another process than the search, by files in the folder of the trial.

    Args:
        folder: of the trial; the process holds its lock.
        number, values: as of `Link`.
        seconds: seconds of the trial that the search knows of.
    """

    def __init__(self, folder: Path, number: int, values: Mapping[str, float], seconds: float) -> None:
        self.number, self.values = number, values
        self._folder, self._host = folder, socket.gethostname()
        self._reports = read_reports(folder)
        self.seconds = max([seconds, *(report.seconds for report in self._reports)])
        self._looked = 0.0

    def keep_seconds(self, seconds: float) -> None:
        """Keep the seconds for the next report."""
        self.seconds = round(seconds, 1)

    def after_step(self) -> None:
        """As `Link.after_step`."""
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            if why := _stop_reason(self._folder):
                raise StoppedError(why)

    def check_time(self) -> None:
        """Do nothing: the search watches the time, and tells the trial to stop."""

    def reported(self, step: int) -> float | None:
        """As `Link.reported`."""
        return next((report.accuracy for report in self._reports if report.step == step), None)

    def report(self, step: int, accuracy: float, at: str = "") -> None:
        """Write the report for the search, which decides; as `Link.report`.

        Raises:
            RunError: it cannot be written.
        """
        if self.reported(step) is not None:
            return
        self._reports.append(Report(step, accuracy, at, self.seconds, self._host))
        write_json(self._folder / REPORTS, [asdict(report) for report in self._reports])


def read_reports(folder: Path) -> list[Report]:
    """Return the reports of a trial on another machine so far, in order.

    Args:
        folder: of the trial.
    """
    try:
        return [Report(**item) for item in json.loads((folder / REPORTS).read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return []


def tell_to_stop(folder: Path, why: str) -> None:
    """Tell a trial on another machine to stop.

    Args:
        folder: of the trial.
        why: the reason, which its end will have.

    Raises:
        RunError: the file cannot be written.
    """
    write_json(folder / STOP, {"why": why})


def let_go_on(folder: Path) -> None:
    """Take back what an earlier command told a trial.

    Args:
        folder: of the trial.
    """
    (folder / STOP).unlink(missing_ok=True)


def _stop_reason(folder: Path) -> str:
    """Return why a trial is told to stop; empty if it is not."""
    try:
        return str(json.loads((folder / STOP).read_text(encoding="utf-8"))["why"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
