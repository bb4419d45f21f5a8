"""The processes that work on one run together, started by torchrun or `accelerate launch`; usually there is one.

Everything is computed from positions: a process takes its share of them and the results are put together again in the
order of the processes. So nothing is counted twice, padded or left out, whatever their number.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, reduce
from torch import Tensor

from lpt.errors import LptError, RunError
from lpt.system.hardware import cores_here

_PATIENCE = timedelta(hours=6)
"""How long a process waits for another: one may read images or write a pack meanwhile. One that died is noticed."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Processes:
    """This process among those of a run.

    Args:
        rank: its number, 0-based; rank 0 writes and reports.
        world_size: number of processes.
    """

    rank: int = 0
    world_size: int = 1

    @classmethod
    def started(cls, *, on_cpu: bool) -> Processes:
        """The processes that a launcher has started, connected to each other (gloo on CPUs, NCCL on cards)."""
        atexit.unregister(_disconnect)  # once, however many runs start in this process
        atexit.register(_disconnect)
        if not several_started():
            return ALONE
        with _loss_is_told():
            state = PartialState(cpu=on_cpu, timeout=_PATIENCE)
        return cls(state.process_index, state.num_processes)

    @classmethod
    def launched(cls, device: str) -> Processes:
        """Connect the processes of a command that uses a finished pack; `ALONE` without a launcher.

        Each gets its card and its part of the cores. They only exchange results and words, so they are connected
        through gloo on cards too: it notices at once when a process dies.
        """
        if not several_started():
            return ALONE
        processes = cls.started(on_cpu=True)
        torch.set_num_threads(cores_here())  # torchrun's default is 1
        if device in ("auto", "cuda") and torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        return processes

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes files and reports."""
        return self.rank == 0

    def share(self, size: int) -> range:
        """This process's part of 0..size-1: contiguous, equal to within one, in the order of the processes."""
        return range(self.rank * size // self.world_size, (self.rank + 1) * size // self.world_size)

    def gather(self, items: Sequence[Item]) -> list[Item]:
        """The items of all processes, in the order of the processes."""
        if self.world_size == 1:
            return list(items)
        with _loss_is_told():
            return list(gather_object(list(items)))

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, the same bits on each."""
        if self.world_size == 1:
            return tensor
        with _loss_is_told():
            total: Tensor = reduce(tensor, reduction="sum")
        return total

    def on_main(self, act: Callable[[], Item]) -> Item:
        """What `act` returns on process 0, where alone it runs; its `LptError` is raised on all."""
        if self.world_size == 1:
            return act()
        outcome: list[object] = [None, None]
        if self.is_main:
            try:
                outcome[0] = act()
            except LptError as error:
                outcome[1] = error
        with _loss_is_told():
            broadcast_object_list(outcome)
        if isinstance(outcome[1], LptError):
            raise outcome[1]
        return outcome[0]  # type: ignore[return-value]

    def on_all(self, act: Callable[[], Item]) -> Item:
        """What `act` gives here; it may not exchange anything. When it fails in some process, all raise its error."""
        given, error = list[Item](), None
        try:
            given.append(act())
        except LptError as fault:
            error = fault
        for fault_of_one in self.gather([error]):
            if fault_of_one is not None:
                raise fault_of_one
        return given[0]

    @contextmanager
    def local(self) -> Iterator[None]:
        """Work of this process alone: an error in it is this one's to say, the others only notice that it is gone."""
        try:
            yield
        except LptError as error:
            error.alone = True
            raise


ALONE = Processes()


def several_started() -> bool:
    """Whether a launcher started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _disconnect() -> None:
    """Close the connection before the interpreter ends: gloo's threads, left to its end, at times abort the process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def _loss_is_told() -> Iterator[None]:
    """Turns a broken connection into an error that says what to do."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        atexit.unregister(_disconnect)  # there is nobody left to part from, and NCCL would wait
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        lost = RunError(
            f"another process of this run has ended or cannot be reached ({first}). Its own message says why. What was "
            "saved is intact: start the same command again; a training run goes on with lpt fit --resume RUN_FOLDER, "
            "with any number of processes."
        )
        lost.alone = True  # the first process may be the one that is gone
        raise lost from error
