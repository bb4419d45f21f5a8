"""Train jobs as tasks of a Ray cluster, whose machines share the disk of the run folders.

Ray only finds a free machine and says when a task has ended. A job that is lost with its machine goes on elsewhere from
its last checkpoint, since its folder holds everything.
"""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from lpt.commands.jobs.executors import Ended, Failure, Job, Look, attempted, unwatched
from lpt.commands.jobs.whereabouts import Whereabouts
from lpt.errors import ConfigError, RunError
from lpt.system.cluster import Node, nodes, ray
from lpt.system.interrupt import Interrupted, stop_on_signal
from lpt.system.invocation import started_by, typed_command
from lpt.system.limits import usable_cores
from lpt.system.lock import LOCK, FolderInUseError, locked
from lpt.system.text import plural
from lpt.training.folder import RunFolder
from lpt.training.position import FILE_NAME

MOST_LOSSES = 3
"""How often a run may be lost in a row without a new checkpoint; then it is not sent again."""
PATIENCE_SECONDS = 90.0
"""How long a task waits for the lock of a job whose former process has lost its machine but still goes on."""
_LOOK_SECONDS = 0.25

_Checkpoints = list[tuple[int, int] | None]
"""What changes with each checkpoint of a job: time and size of that of each of its runs; None: it has none."""


@dataclass
class _Sent:
    """A job that was handed to Ray.

    Args:
        job: the job.
        checkpoint: the state of its checkpoints when it was sent.
        losses: how often it was lost since that checkpoint.
    """

    job: Job
    checkpoint: _Checkpoints
    losses: int = 0


class _Answer(NamedTuple):
    """What a task returns: the result or the failure of its work, what it printed, and whether it was told to stop."""

    result: Any
    failure: Failure | None
    text: str
    stopped: bool


class OnRay:
    """An executor of jobs on the cluster that this process is connected to.

    Args:
        card: whether a job takes a card.
        cores: the CPU cores that a job takes. None: all of the smallest machine, or as many as there are for a card.

    Raises:
        ConfigError: no machine of the cluster has that much.
    """

    elsewhere = True

    def __init__(self, *, card: bool, cores: int | None = None) -> None:
        self.card = card
        usable = [node for node in nodes() if node.cores >= 1 and (node.cards or not card)]
        shares = [node.cores // (node.cards if card else 1) for node in usable]
        self.cores = cores or max(1, min(shares, default=1))
        if not any(self._room(node) for node in usable):
            wanted = f"{plural(self.cores, 'core')}{' and a card' if self.card else ''}"
            there = "; ".join(str(node) for node in nodes()) or "none"
            raise ConfigError(
                f"no machine of the Ray cluster has {wanted} for a run. It has: {there}. Next: set fewer with --set "
                "runtime.threads=N, choose --device cpu, or start Ray on larger machines"
            )

    @property
    def slots(self) -> int:
        """How many jobs the cluster holds now, at least 1."""
        return max(1, sum(self._room(node) for node in nodes()))

    def describe(self) -> str:
        """Return one line about the cluster, for the console."""
        there = nodes()
        share = f"{plural(self.cores, 'core')}{' and a card' if self.card else ''}"
        return f"{plural(len(there), 'machine')}; a run takes {share}, {plural(self.slots, 'run')} at a time"

    def run(self, jobs: Iterable[Job], console: Console, look: Look = unwatched) -> Generator[Ended]:
        """Run jobs as `Executor.run` says. The first Ctrl-C stops all after their step, a second one at once."""
        waiting, sent = iter(jobs), dict[Any, _Sent]()
        where = Whereabouts(console)
        with stop_on_signal() as stop, where, _stopped_at_the_end(sent):
            while True:
                while len(sent) < self.slots and (job := next(waiting, None)) is not None:
                    self._send(_Sent(job, _checkpoints(job)), sent)
                if not sent:
                    return
                done, _ = ray.wait(list(sent), timeout=_LOOK_SECONDS)
                running = [each.job for each in sent.values()]
                where.show(running)
                look(running)
                if stop.requested:
                    titles = "; ".join(each.job.title for each in sent.values())
                    console.print("Stopping: each run finishes its step and saves.", style="yellow")
                    _stop(sent)
                    raise Interrupted(f"stopped in {titles}")
                for reference in done:
                    each = sent.pop(reference)
                    ended = self._ended(reference, each, console)
                    if ended is None:
                        self._send(each, sent)
                    else:
                        where.forget(each.job)
                        yield ended

    def _room(self, node: Node) -> int:
        """Return how many jobs a machine holds."""
        by_cores = node.cores // self.cores
        return min(by_cores, node.cards) if self.card else by_cores

    def _send(self, each: _Sent, sent: dict[Any, _Sent]) -> None:
        task = ray.remote(
            num_cpus=self.cores,
            num_gpus=1 if self.card else 0,
            max_retries=0,  # a lost run is sent again here, where it is told and counted
            max_calls=1,  # a process for each run: its memory is measured, and freed
        )(_run_there)
        job = replace(each.job, folder=each.job.folder.absolute())
        sent[task.remote(job, self.cores, typed_command())] = each

    def _ended(self, reference: Any, each: _Sent, console: Console) -> Ended | None:
        """Return how a job ended; None: it was lost and is to be sent again."""
        try:
            answer: _Answer = ray.get(reference)
        except ray.exceptions.RayTaskError as error:  # the task could not even begin
            return Ended(each.job, None, _not_begun(error))
        except ray.exceptions.RayError as error:
            return _lost(each, f"{type(error).__name__}", console)
        if answer.text:
            console.print(each.job.title, style="bold", markup=False)
            console.print(answer.text.rstrip("\n"), markup=False)
        if answer.stopped:  # by the machine, which is being taken away
            return _lost(each, "its machine told it to stop", console)
        return Ended(each.job, answer.result, answer.failure)


def _lost(each: _Sent, reason: str, console: Console) -> Ended | None:
    """Count a loss; return the end of a job that was lost too often, else None: it goes on elsewhere."""
    checkpoint = _checkpoints(each.job)
    each.losses = 1 if checkpoint != each.checkpoint else each.losses + 1
    each.checkpoint = checkpoint
    if each.losses >= MOST_LOSSES:
        message = (
            f"its process was lost {each.losses} times in a row without a new checkpoint ({reason}). Most often memory "
            "runs out: give a run more of a machine with --set runtime.threads=N, or set a smaller train.micro_batch"
        )
        return Ended(each.job, None, Failure.of(RunError(message)))
    console.print(
        f"{each.job.title}: lost ({reason}); it goes on from its last checkpoint", style="yellow", markup=False
    )
    return None


def _not_begun(error: Exception) -> Failure:
    """Return the failure of a task that Ray could not start."""
    first = str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
    return Failure.of(
        RunError(f"a machine of the cluster cannot run it: {first}. LPT must be installed on all, in the same version")
    )


def _checkpoints(job: Job) -> _Checkpoints:
    """Return the state of the checkpoints of a job."""
    return [_state(RunFolder(run).checkpoints / FILE_NAME) for run in job.runs]


def _state(file: Path) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        status = file.stat()
        return status.st_mtime_ns, status.st_size
    return None


@contextlib.contextmanager
def _stopped_at_the_end(sent: dict[Any, _Sent]) -> Iterator[None]:
    """Let no task run on when the block ends, whatever ends it."""
    try:
        yield
    finally:
        _stop(sent)


def _stop(sent: dict[Any, _Sent]) -> None:
    """Ask all tasks to save and end, and wait until they have: a task takes it as Ctrl-C."""
    references = list(sent)
    sent.clear()  # a second Ctrl-C, while this waits, is not to wait again
    for reference in references:
        ray.cancel(reference)
    if references:
        ray.wait(references, num_returns=len(references), timeout=None)


def _run_there(job: Job, cores: int, command: str) -> _Answer:
    """Run a job in a process of the cluster."""
    started_by(command)
    os.environ["LOCAL_WORLD_SIZE"] = str(max(1, usable_cores() // cores))  # others share the memory of the machine
    text = io.StringIO()
    console = Console(file=text, width=110, highlight=False)
    try:
        ended = attempted(replace(job, work=partial(_unlocked, job)), console)
    except Interrupted:
        return _Answer(None, None, text.getvalue(), stopped=True)
    return _Answer(ended.result, ended.failure, text.getvalue(), stopped=False)


def _unlocked(job: Job, console: Console) -> Any:
    """Do the work of a job once nobody else holds its folder."""
    _wait_for_lock(job.folder)
    return job.work(console)


def _wait_for_lock(folder: Path) -> None:
    """Wait for a former process of a job that lost its machine: it may take a while to notice, and still holds it."""
    end = time.monotonic() + PATIENCE_SECONDS
    while (folder / LOCK).exists():
        try:
            with locked(folder):
                return
        except FolderInUseError:
            if time.monotonic() > end:
                raise
            time.sleep(_LOOK_SECONDS)
