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

_PATIENCE = timedelta(hours=6)
"""How long a process waits for another: one may read images or write a pack meanwhile. One that died is noticed."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Processes:
    """This process among those of a run.

    Args:
        index: its number, 0-based; process 0 writes and reports.
        count: how many there are.
    """

    index: int = 0
    count: int = 1

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

    @property
    def writes(self) -> bool:
        """Whether this is the one that writes files and reports."""
        return self.index == 0

    def share(self, size: int) -> range:
        """This process's part of 0..size-1: contiguous, equal to within one, in the order of the processes."""
        return range(self.index * size // self.count, (self.index + 1) * size // self.count)

    def gather(self, items: Sequence[Item]) -> list[Item]:
        """The items of all processes, in the order of the processes."""
        if self.count == 1:
            return list(items)
        with _loss_is_told():
            return list(gather_object(list(items)))

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, the same bits on each."""
        if self.count == 1:
            return tensor
        with _loss_is_told():
            total: Tensor = reduce(tensor, reduction="sum")
        return total

    def once(self, act: Callable[[], Item]) -> Item:
        """What `act` returns on process 0, where alone it runs; its `LptError` is raised on all."""
        if self.count == 1:
            return act()
        outcome: list[object] = [None, None]
        if self.writes:
            try:
                outcome[0] = act()
            except LptError as error:
                outcome[1] = error
        with _loss_is_told():
            broadcast_object_list(outcome)
        if isinstance(outcome[1], LptError):
            raise outcome[1]
        return outcome[0]  # type: ignore[return-value]

    def agreed(self, act: Callable[[], Item]) -> Item:
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
    def apart(self) -> Iterator[None]:
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
