"""Where runs are trained: an executor takes jobs and says how each ended. What they trained is in their run folders.

This module knows no engine. A job can be gone on with from what is in its folder: one that is lost on its way is sent
again.
"""

from __future__ import annotations

import socket
import traceback
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from rich.console import Console

from lpt.errors import ConfigError, DataError, LptError, PackError, RunError
from lpt.system.interrupt import Interrupted
from lpt.system.limits import usable_cores

Work = Callable[[Console], Any]


@dataclass(frozen=True)
class Job:
    """Training to do, or to go on with.

    Args:
        title: names the job in messages.
        folder: its work holds the lock of this folder, by which others see where it runs.
        work: trains on a console, and returns what the caller wants to know at once. To be sent to another machine it
            must be picklable: a function of a module, or `functools.partial` of one.
        parts: the run folders that it trains in turn, if that is not `folder` alone.
    """

    title: str
    folder: Path
    work: Work
    parts: tuple[Path, ...] = ()

    @property
    def runs(self) -> tuple[Path, ...]:
        """The run folders that the job trains."""
        return self.parts or (self.folder,)


@dataclass(frozen=True)
class Failure:
    """Why a job failed, in plain values that go from process to process.

    Args:
        kinds: names of the class of the error and of its bases.
        message: of the error, with options of the command line.
        traceback: the whole of it.
        explained: whether the message is for the user as it stands.
        host: the machine where it happened.
    """

    kinds: tuple[str, ...]
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
        elif isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _lacks_memory(error)):
            message, explained = "the memory does not hold it", True
        text = "".join(traceback.format_exception(error))
        return cls(tuple(kind.__name__ for kind in type(error).__mro__), message, text, explained, socket.gethostname())

    def __str__(self) -> str:
        if self.explained:
            return str(LptError(self.message))
        return f"{self.kinds[0]}: {self.message.partition(chr(10))[0]}"

    def reason(self, keep: Callable[[str], Path]) -> str:
        """Say why the job failed.

        Args:
            keep: writes the traceback of an unexpected error, and returns its file.
        """
        return str(self) if self.explained else f"{self} (the whole of it: {keep(self.traceback)})"

    def error(self, reason: str) -> LptError:
        """Return an error of the same kind with a message."""
        kinds = (kind for kind in (ConfigError, DataError, PackError) if self.is_a(kind))
        return next(kinds, RunError)(reason)

    def is_a(self, kind: type[LptError]) -> bool:
        """Return whether the error is of a class."""
        return kind.__name__ in self.kinds


def _lacks_memory(error: RuntimeError) -> bool:
    from lpt.training.loop import lacks_memory  # PyTorch is there where something trained

    return lacks_memory(error)


class Ended(NamedTuple):
    """A job that has ended: what its work returned, or why it failed."""

    job: Job
    result: Any
    failure: Failure | None


Look = Callable[[Sequence[Job]], None]
"""Called several times a second with the jobs that run in other processes."""


def unwatched(jobs: Sequence[Job]) -> None:
    """Do nothing with the jobs that run."""
    del jobs


class Executor(Protocol):
    """Trains jobs, one after the other or several at a time."""

    @property
    def elsewhere(self) -> bool:
        """Whether jobs run in other processes, on machines that share the disk."""
        ...

    @property
    def slots(self) -> int:
        """How many jobs run at a time now, at least 1."""
        ...

    @property
    def cores(self) -> int:
        """How many CPU cores a job has."""
        ...

    def run(self, jobs: Iterable[Job], console: Console, look: Look = unwatched) -> Generator[Ended]:
        """Run jobs, and yield each when it has ended, in any order.

        A job is taken from `jobs` only when there is room for it: it may depend on what was yielded before. Closing the
        generator stops all jobs; their runs are saved.

        Raises:
            Interrupted: the user stopped; every run is saved.
        """
        ...


class InThisProcess:
    """An executor that trains each job in this process, in turn."""

    slots = 1
    elsewhere = False

    @property
    def cores(self) -> int:
        """How many CPU cores a job has: all that this process may use."""
        return usable_cores()

    def run(self, jobs: Iterable[Job], console: Console, look: Look = unwatched) -> Generator[Ended]:
        """Run jobs as `Executor.run` says."""
        del look
        for job in jobs:
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


def check_shared(marker: Path) -> None:
    """Check, in the process of a job, that the folder of all jobs is on the disk of its machine.

    Args:
        marker: a file in it.

    Raises:
        RunError: it is not there.
    """
    if not marker.is_file():
        raise RunError(
            f"{marker} is not there. All machines must find the output folder, the images and the weights under the "
            "same paths, on a disk that they share: choose such a folder with --output"
        )


def not_shared(folder: Path) -> RunError:
    """Return the error for a job that has ended elsewhere without a result here."""
    return RunError(f"it was trained, but {folder} is not shared with the machine that did it")
