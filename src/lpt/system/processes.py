"""The processes of one run, started by torchrun or `accelerate launch`; usually there is one.

Each process takes its share of the positions, and the results are put together in the order of the processes. So
nothing is counted twice, padded or left out, whatever their number. PyTorch and Accelerate are imported on first use.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from lpt.errors import LptError, RunError
from lpt.system.hardware import cores_here
from lpt.system.readers import is_lost_reader

if TYPE_CHECKING:
    from torch import Tensor

_PATIENCE = timedelta(hours=6)
"""How long a process waits for another, which may read images or write a pack. It notices at once if the other dies."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Processes:
    """This process among those of a run.

    Args:
        rank: number of this process, from 0; rank 0 writes and reports.
        world_size: number of processes.
    """

    rank: int = 0
    world_size: int = 1

    @classmethod
    def started(cls, *, on_cpu: bool) -> Processes:
        """Connect the processes that a launcher has started, through gloo on CPUs and NCCL on cards."""
        if not several_started():
            return ALONE
        from accelerate import PartialState

        atexit.unregister(_disconnect)  # once, however many runs start in this process
        atexit.register(_disconnect)
        with _lost_process_explained():
            state = PartialState(cpu=on_cpu, timeout=_PATIENCE)
        return cls(state.process_index, state.num_processes)

    @classmethod
    def launched(cls, device: str) -> Processes:
        """Connect the processes of a command that uses a finished pack; `ALONE` without a launcher.

        Each gets its card and its part of the cores. They only exchange results and messages, so gloo connects them on
        cards too: it notices at once when a process dies.
        """
        if not several_started():
            return ALONE
        import torch

        processes = cls.started(on_cpu=True)
        torch.set_num_threads(cores_here())  # torchrun's default is 1
        if device in ("auto", "cuda") and torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        return processes

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def share(self, size: int) -> range:
        """Return this process's part of 0..size-1: contiguous, equal to within one, in the order of the processes."""
        return range(self.rank * size // self.world_size, (self.rank + 1) * size // self.world_size)

    def gather(self, items: Sequence[Item]) -> list[Item]:
        """Return the items of all processes, in the order of the processes."""
        if self.world_size == 1:
            return list(items)
        from accelerate.utils import gather_object

        with _lost_process_explained():
            return list(gather_object(list(items)))

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum over all processes, the same bits on each."""
        if self.world_size == 1:
            return tensor
        from accelerate.utils import reduce

        with _lost_process_explained():
            total: Tensor = reduce(tensor, reduction="sum")
        return total

    def on_main(self, act: Callable[[], Item]) -> Item:
        """Call `act` on rank 0 only and return its result on all; all raise its `LptError`."""
        if self.world_size == 1:
            return act()
        from accelerate.utils import broadcast_object_list

        outcome: list[object] = [None, None]
        if self.is_main:
            try:
                outcome[0] = act()
            except LptError as error:
                outcome[1] = error
        with _lost_process_explained():
            broadcast_object_list(outcome)
        if isinstance(outcome[1], LptError):
            raise outcome[1]
        return outcome[0]  # type: ignore[return-value]

    def on_all(self, act: Callable[[], Item]) -> Item:
        """Call `act` on every process; if it fails on one, all raise its error. It must not exchange anything."""
        results, failure = list[Item](), None
        try:
            results.append(act())
        except LptError as error:
            failure = error
        for error_of_rank in self.gather([failure]):
            if error_of_rank is not None:
                raise error_of_rank
        return results[0]

    @contextmanager
    def held_by_main(self, held: AbstractContextManager[None]) -> Iterator[None]:
        """Enter a context in rank 0 only, such as a lock, for a block that all run; all raise its `LptError`."""
        with ExitStack() as stack:
            self.on_main(lambda: stack.enter_context(held))
            yield

    @contextmanager
    def local(self) -> Iterator[None]:
        """Mark the errors of the block as those of this process alone, which must report them itself."""
        try:
            yield
        except LptError as error:
            error.alone = True
            raise


ALONE = Processes()


def several_started() -> bool:
    """Return whether a launcher started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _disconnect() -> None:
    """Close the connection before the interpreter ends: otherwise gloo's threads at times abort the process."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def _lost_process_explained() -> Iterator[None]:
    """Turn a broken connection into an error that says what to do."""
    import torch

    try:
        yield
    except (RuntimeError, ValueError) as error:
        if isinstance(error, torch.OutOfMemoryError) or is_lost_reader(error):
            raise
        atexit.unregister(_disconnect)  # nobody is left to disconnect from, and NCCL would wait
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        lost = RunError(
            f"another process of this run has ended or cannot be reached ({first}). Its own message says why. What was "
            "saved is intact: start the same command again; a training run goes on with lpt fit --resume RUN_FOLDER, "
            "with any number of processes."
        )
        lost.alone = True  # the first process may be the one that is gone
        raise lost from error
