"""Where runs are trained: an executor takes jobs and says how each ended. What they trained is in their run folders.

This module knows no engine. A job is a run folder that can be gone on with: one that is lost on its way is sent again.
"""

from __future__ import annotations

import socket
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from rich.console import Console

from lpt.errors import LptError
from lpt.system.interrupt import Interrupted
from lpt.system.limits import usable_cores
from lpt.training.loop import lacks_memory


@dataclass(frozen=True)
class Job:
    """A run to train, or to go on with.

    Args:
        title: names the job in messages.
        run: its run folder. The work holds its lock, by which others see where it runs.
        work: trains the run on a console, and returns what the caller wants to know at once. To be sent to another
            machine it must be picklable: a function of a module, or `functools.partial` of one.
    """

    title: str
    run: Path
    work: Callable[[Console], Any]


@dataclass(frozen=True)
class Failure:
    """Why a job failed, in plain values that go from process to process.

    Args:
        kind: name of the class of the error.
        message: of the error, with options of the command line.
        traceback: the whole of it.
        explained: whether the message is for the user as it stands.
        host: the machine where it happened.
    """

    kind: str
    message: str
    traceback: str
    explained: bool
    host: str

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Return the failure of an error that was caught here."""
        message, explained = str(error), isinstance(error, LptError)
        if isinstance(error, LptError):
            message = error.message
        elif isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and lacks_memory(error)):
            message, explained = "the memory does not hold it", True
        text = "".join(traceback.format_exception(error))
        return cls(type(error).__name__, message, text, explained, socket.gethostname())

    def __str__(self) -> str:
        if self.explained:
            return str(LptError(self.message))
        return f"{self.kind}: {self.message.partition(chr(10))[0]}"


class Ended(NamedTuple):
    """A job that has ended: what its work returned, or why it failed."""

    job: Job
    result: Any
    failure: Failure | None


class Executor(Protocol):
    """Trains jobs, one after the other or several at a time."""

    @property
    def slots(self) -> int:
        """How many jobs run at a time now, at least 1."""
        ...

    @property
    def cores(self) -> int:
        """How many CPU cores a job has."""
        ...

    def run(self, jobs: Iterable[Job], console: Console) -> Iterator[Ended]:
        """Run jobs, and yield each when it has ended, in any order.

        A job is taken from `jobs` only when there is room for it: it may depend on what was yielded before.

        Raises:
            Interrupted: the user stopped; every run is saved.
        """
        ...


class InThisProcess:
    """An executor that trains each job in this process, in turn."""

    slots = 1

    @property
    def cores(self) -> int:
        """How many CPU cores a job has: all that this process may use."""
        return usable_cores()

    def run(self, jobs: Iterable[Job], console: Console) -> Iterator[Ended]:
        """Run jobs as `Executor.run` says."""
        for job in jobs:
            console.print(job.title, style="bold", markup=False)
            yield attempted(job, console)


def attempted(job: Job, console: Console) -> Ended:
    """Run a job here, and return how it ended; an unexpected error too is a failure of the job alone.

    Raises:
        Interrupted: the user stopped; the run is saved.
    """
    try:
        return Ended(job, job.work(console), None)
    except Interrupted:
        raise Interrupted(f"stopped in {job.title}") from None
    except Exception as error:  # whatever it is, the other jobs are worth their time
        return Ended(job, None, Failure.of(error))
